//! Traffic selectors as they are written (RFC 7296 section 3.13).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ParseError;
use super::reader::Reader;

const TS_IPV4_ADDR_RANGE: u8 = 7;
const TS_IPV6_ADDR_RANGE: u8 = 8;
/// Type, protocol and length.
const HEAD_LENGTH: usize = 4;
/// Their number is one octet.
const MAX_SELECTORS: usize = 255;

/// One range of addresses, with a protocol and a range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// IP protocol; 0 is any.
    pub protocol: u8,
    /// The lowest port, or an ICMP type and code; above `end_port` it means OPAQUE (RFC 7296 section 3.13.1).
    pub start_port: u16,
    /// The highest port.
    pub end_port: u16,
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address, of the same family.
    pub last: IpAddr,
}

/// Selectors of types that this release does not know are left out: traffic that only they describe is not ours, and
/// narrowing to the others is what RFC 7296 section 2.9 asks for.
pub(super) fn parse(body: &[u8]) -> Result<Vec<TrafficSelector>, ParseError> {
    let mut reader = Reader::new("Traffic Selector payload", body);
    let count = reader.u8()?;
    reader.take(3)?;
    let mut selectors = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        selectors.extend(parse_one(&mut reader)?);
    }
    reader.end()?;
    Ok(selectors)
}

fn parse_one(reader: &mut Reader) -> Result<Option<TrafficSelector>, ParseError> {
    let (kind, protocol, length) = (reader.u8()?, reader.u8()?, reader.u16()?);
    let Some(length) = usize::from(length).checked_sub(HEAD_LENGTH) else { return reader.error() };
    let mut body = Reader::new("Traffic Selector", reader.take(length)?);
    if !matches!(kind, TS_IPV4_ADDR_RANGE | TS_IPV6_ADDR_RANGE) {
        return Ok(None);
    }
    let (start_port, end_port) = (body.u16()?, body.u16()?);
    let (first, last) = (parse_address(kind, &mut body)?, parse_address(kind, &mut body)?);
    body.end()?;
    Ok(Some(TrafficSelector { protocol, start_port, end_port, first, last }))
}

fn parse_address(kind: u8, reader: &mut Reader) -> Result<IpAddr, ParseError> {
    Ok(match kind {
        TS_IPV4_ADDR_RANGE => Ipv4Addr::from(reader.array::<4>()?).into(),
        _ => Ipv6Addr::from(reader.array::<16>()?).into(),
    })
}

pub(super) fn emit(selectors: &[TrafficSelector], out: &mut Vec<u8>) {
    let selectors = &selectors[..selectors.len().min(MAX_SELECTORS)];
    out.extend_from_slice(&[selectors.len() as u8, 0, 0, 0]);
    for selector in selectors {
        emit_one(selector, out);
    }
}

fn emit_one(selector: &TrafficSelector, out: &mut Vec<u8>) {
    let (kind, length) = match selector.first {
        IpAddr::V4(_) => (TS_IPV4_ADDR_RANGE, 16_u16),
        IpAddr::V6(_) => (TS_IPV6_ADDR_RANGE, 40),
    };
    out.extend_from_slice(&[kind, selector.protocol]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&selector.start_port.to_be_bytes());
    out.extend_from_slice(&selector.end_port.to_be_bytes());
    emit_address(selector.first, out);
    emit_address(selector.last, out);
}

fn emit_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}
