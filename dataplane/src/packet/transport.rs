//! The selectors' view of an IPv4 packet: addresses, protocol and ports (RFC 4301 section 4.4.1.1).

use std::net::Ipv4Addr;

use super::be16;
use super::ipv4::{ICMP, Ipv4Header, TCP, UDP};

/// The protocols whose first four octets are two ports.
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const IPV6_ICMP: u8 = 58;
const MOBILITY: u8 = 135;

/// What policies and selectors compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// What is carried.
    pub protocol: u8,
    /// Source and destination port; for ICMP type and code in both (RFC 4301 section 4.4.1.1: type in the upper
    /// octet). `None` where the packet has none to see, as in a later fragment: the RFC's OPAQUE, which only
    /// selectors for all ports match.
    pub ports: Option<(u16, u16)>,
}

impl Flow {
    /// Looks behind the header, which was parsed from `packet`.
    #[inline]
    pub fn of(header: &Ipv4Header, packet: &[u8]) -> Self {
        let ports = if header.is_later_fragment() {
            None
        } else {
            let payload = packet.get(header.header_length..header.total_length).unwrap_or_default();
            ports(header.protocol, payload)
        };
        Self { source: header.source, destination: header.destination, protocol: header.protocol, ports }
    }
}

#[inline]
fn ports(protocol: u8, payload: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        TCP | UDP | DCCP | SCTP | UDP_LITE => Some((be16(payload, 0).ok()?, be16(payload, 2).ok()?)),
        ICMP | IPV6_ICMP => be16(payload, 0).ok().map(|kind| (kind, kind)),
        MOBILITY => payload.get(2).map(|kind| (u16::from(*kind) << 8, u16::from(*kind) << 8)),
        _ => None,
    }
}
