//! IPv6 (RFC 8200): checked parse of the header and its extension headers, and the changes that a router makes in
//! place.

use std::net::Ipv6Addr;

use super::ip::{Fragment, Insertion};
use super::{Malformed, be16, be32, octets};
use crate::xdp::shared::{MAX_EXTENSION_HEADERS, MAX_EXTENSION_OCTETS};

/// Octets of the base header.
pub const HEADER: usize = 40;
/// Protocol number of IPv6 in IP, and ESP's next header for it.
pub const IPV6_IN_IP: u8 = 41;
/// Protocol number of ICMPv6.
pub const ICMP: u8 = 58;
/// Offset of the base header's next header.
pub const NEXT_HEADER_AT: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A checked base header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Octets behind the base header; at most the octets that were there.
    pub payload_length: usize,
    /// What follows the base header.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
}

impl Ipv6Header {
    /// Checks version and length of the packet at the start of `bytes`. A jumbogram (RFC 2675) counts as having no
    /// payload.
    ///
    /// # Errors
    /// [`Malformed::Version`] and [`Malformed::Truncated`].
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse_quoted(bytes)?;
        if bytes.len() < HEADER + header.payload_length {
            return Err(Malformed::Truncated);
        }
        Ok(header)
    }

    /// As [`parse`](Self::parse), for a packet of which only the beginning is there.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but the payload may be missing.
    #[inline(always)]
    pub fn parse_quoted(bytes: &[u8]) -> Result<Self, Malformed> {
        let fixed: [u8; HEADER] = octets(bytes, 0)?;
        let first = be32(&fixed, 0)?;
        if first >> 28 != 6 {
            return Err(Malformed::Version);
        }
        Ok(Self {
            traffic_class: (first >> 20) as u8,
            payload_length: usize::from(be16(&fixed, 4)?),
            next_header: fixed[NEXT_HEADER_AT],
            hop_limit: fixed[7],
            source: octets::<16>(&fixed, 8)?.into(),
            destination: octets::<16>(&fixed, 24)?.into(),
        })
    }
}

/// What a walk over extension headers found; offsets count from the packet's first octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// What follows the extension headers.
    pub protocol: u8,
    /// Which octet says so.
    pub protocol_at: usize,
    /// Where it begins.
    pub end: usize,
    /// Which part of a packet it is.
    pub fragment: Fragment,
    /// Where ESP goes in transport mode.
    pub insertion: Insertion,
    has_fragment_header: bool,
}

/// RFC 4301 section 4.4.1.1 names these as the headers to skip on the way to the upper layer; AH and ESP are upper
/// layers to it, and so is whatever is not known.
#[inline]
const fn is_extension_header(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// Walks over the extension headers of `packet` (cut at its end), the first of which is `next_header`.
///
/// At most [`MAX_EXTENSION_HEADERS`] of them and [`MAX_EXTENSION_OCTETS`] octets: RFC 8200 section 4.1 recommends
/// at most six in one packet, RFC 8504 section 5.3 lets a node limit both, and without limits one packet could keep
/// a worker busy for as many steps as fit 65,535 octets. The XDP filter has the same limits.
///
/// # Errors
/// [`Malformed::Truncated`]; [`Malformed::ExtensionHeaders`] for a chain beyond the limits, or in an order that
/// hides things from those who look less far.
#[inline(always)]
pub fn walk(packet: &[u8], next_header: u8) -> Result<Chain, Malformed> {
    let chain = Chain {
        protocol: next_header,
        protocol_at: NEXT_HEADER_AT,
        end: HEADER,
        fragment: Fragment::Whole,
        insertion: Insertion { offset: HEADER, next_header_at: NEXT_HEADER_AT },
        has_fragment_header: false,
    };
    if is_extension_header(next_header) { chain.walk(packet) } else { Ok(chain) }
}

impl Chain {
    // Apart, so that packets without extension headers do not carry it.
    #[inline(never)]
    fn walk(mut self, packet: &[u8]) -> Result<Self, Malformed> {
        for _ in 0..MAX_EXTENSION_HEADERS {
            self.step(packet)?;
            if self.fragment == Fragment::Later || !is_extension_header(self.protocol) {
                return Ok(self);
            }
        }
        Err(Malformed::ExtensionHeaders)
    }

    /// Over one header, of which all are at least eight octets long.
    fn step(&mut self, packet: &[u8]) -> Result<(), Malformed> {
        let header: [u8; 8] = octets(packet, self.end)?;
        self.check_place(header)?;
        let length = if self.protocol == FRAGMENT { 8 } else { (usize::from(header[1]) + 1) * 8 };
        let end = self.end + length;
        if end > packet.len() {
            return Err(Malformed::Truncated);
        }
        if end - HEADER > MAX_EXTENSION_OCTETS as usize {
            return Err(Malformed::ExtensionHeaders);
        }
        if self.protocol == FRAGMENT {
            self.has_fragment_header = true;
            self.fragment = fragment(u16::from_be_bytes([header[2], header[3]]));
        }
        self.pass(header[0], end);
        Ok(())
    }

    /// What a receiver would take, in any order (RFC 8200 section 4.1), less what is only good for hiding:
    /// hop-by-hop options anywhere but first, which that section forbids; fragments of fragments; and a routing
    /// header of type 0 with hops left, which sends a packet elsewhere than the selectors saw (RFC 5095).
    fn check_place(&self, header: [u8; 8]) -> Result<(), Malformed> {
        let refused = match self.protocol {
            HOP_BY_HOP => self.end != HEADER,
            ROUTING => header[2] == 0 && header[3] != 0,
            FRAGMENT => self.has_fragment_header,
            _ => false,
        };
        if refused { Err(Malformed::ExtensionHeaders) } else { Ok(()) }
    }

    /// Behind the header that ends at `end`, `next` follows.
    fn pass(&mut self, next: u8, end: usize) {
        if self.protocol != DESTINATION_OPTIONS {
            self.insertion = Insertion { offset: end, next_header_at: self.end };
        }
        self.protocol_at = self.end;
        self.protocol = next;
        self.end = end;
    }
}

/// What the offset and flags of a fragment header say (RFC 8200 section 4.5). The first and last part at once is a
/// whole packet (RFC 6946).
const fn fragment(field: u16) -> Fragment {
    match (field & 0xfff8, field & 1) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// See [`IpHeader::is_forwardable`](super::ip::IpHeader::is_forwardable).
pub(super) fn is_forwardable(source: u128, destination: u128) -> bool {
    let (source, destination) = (Ipv6Addr::from_bits(source), Ipv6Addr::from_bits(destination));
    let one_link = |a: &Ipv6Addr| a.is_unspecified() || a.is_loopback() || a.is_unicast_link_local();
    // Interface-local and link-local groups (RFC 4291 section 2.7).
    let near_group = destination.is_multicast() && destination.octets()[1] & 0x0f <= 2;
    !one_link(&source) && !source.is_multicast() && !one_link(&destination) && !near_group
}

/// Decrements the hop limit in place; the caller knows that it is above 1.
#[inline]
pub fn decrement_hop_limit(packet: &mut [u8]) {
    if let Some(hop_limit) = packet.get_mut(7) {
        *hop_limit = hop_limit.wrapping_sub(1);
    }
}

/// Replaces the traffic class in place.
#[inline]
pub fn set_traffic_class(packet: &mut [u8], class: u8) {
    if let [first, second, ..] = packet {
        *first = *first & 0xf0 | class >> 4;
        *second = *second & 0x0f | class << 4;
    }
}

/// See [`ip::set_length_and_protocol`](super::ip::set_length_and_protocol).
pub(super) fn set_length_and_next_header(
    packet: &mut [u8],
    total_length: usize,
    next_header_at: usize,
    next_header: u8,
) -> Option<u8> {
    let payload_length = u16::try_from(total_length.checked_sub(HEADER)?).ok()?;
    let old = std::mem::replace(packet.get_mut(next_header_at)?, next_header);
    packet.get_mut(4..6)?.copy_from_slice(&payload_length.to_be_bytes());
    Some(old)
}

/// The parts of an emitted header that stay the same for all packets of one SA (or of one ICMP sender).
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Template {
    octets: [u8; HEADER],
}

impl Ipv6Template {
    /// A header without extension headers.
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, hop_limit: u8) -> Self {
        let mut octets = [0; HEADER];
        octets[NEXT_HEADER_AT] = next_header;
        octets[7] = hop_limit;
        octets[8..24].copy_from_slice(&source.octets());
        octets[24..].copy_from_slice(&destination.octets());
        Self { octets }
    }

    /// The finished header; of the flow label, the lower 20 bits count.
    #[inline(always)]
    pub fn emit(&self, payload_length: u16, traffic_class: u8, flow_label: u32) -> [u8; HEADER] {
        let first = 6 << 28 | u32::from(traffic_class) << 20 | flow_label & 0x000f_ffff;
        let mut octets = self.octets;
        octets[..4].copy_from_slice(&first.to_be_bytes());
        octets[4..6].copy_from_slice(&payload_length.to_be_bytes());
        octets
    }
}
