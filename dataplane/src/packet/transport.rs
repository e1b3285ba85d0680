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

/// What policies and selectors compare, packed into two words: flows are compared and hashed for every packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source in the upper half, destination in the lower.
    addresses: u64,
    /// Source port, destination port, protocol, and whether there are ports: 16, 16, 8 and 1 bit from the top.
    rest: u64,
}

/// The bit that says that there are ports.
const HAS_PORTS: u64 = 1 << 23;

impl Flow {
    /// A flow of these.
    #[inline]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, ports: Option<(u16, u16)>) -> Self {
        let addresses = u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits());
        let ports = ports.map_or(0, |(a, b)| u64::from(a) << 48 | u64::from(b) << 32 | HAS_PORTS);
        Self { addresses, rest: ports | u64::from(protocol) << 24 }
    }

    /// Looks behind the header, which was parsed from `packet`.
    #[inline(always)]
    pub fn of(header: &Ipv4Header, packet: &[u8]) -> Self {
        let ports = if header.is_later_fragment() {
            None
        } else {
            let payload = packet.get(header.header_length..header.total_length).unwrap_or_default();
            ports(header.protocol, payload)
        };
        Self::new(header.source, header.destination, header.protocol, ports)
    }

    /// From whom.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits((self.addresses >> 32) as u32)
    }

    /// To whom.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.addresses as u32)
    }

    /// What is carried.
    #[inline]
    pub fn protocol(&self) -> u8 {
        (self.rest >> 24) as u8
    }

    /// Source and destination port; for ICMP type and code in both (RFC 4301 section 4.4.1.1: type in the upper
    /// octet). `None` where the packet has none to see, as in a later fragment: the RFC's OPAQUE, which only
    /// selectors for all ports match.
    #[inline]
    pub fn ports(&self) -> Option<(u16, u16)> {
        (self.rest & HAS_PORTS != 0).then_some(((self.rest >> 48) as u16, (self.rest >> 32) as u16))
    }

    /// Spreads flows over `1 << bits` places. Not a secret: who makes flows collide only makes them slower.
    #[inline]
    pub(crate) fn place(&self, bits: u32) -> usize {
        let mixed = (self.addresses ^ self.rest.rotate_left(21)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - bits)) as usize
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {} protocol {}", self.source(), self.destination(), self.protocol())?;
        self.ports().map_or(Ok(()), |(a, b)| write!(f, " ports {a} -> {b}"))
    }
}

#[inline(always)]
fn ports(protocol: u8, payload: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        TCP | UDP | DCCP | SCTP | UDP_LITE => Some((be16(payload, 0).ok()?, be16(payload, 2).ok()?)),
        ICMP | IPV6_ICMP => be16(payload, 0).ok().map(|kind| (kind, kind)),
        MOBILITY => payload.get(2).map(|kind| (u16::from(*kind) << 8, u16::from(*kind) << 8)),
        _ => None,
    }
}
