//! The selectors' view of an IP packet: addresses, protocol and ports (RFC 4301 section 4.4.1.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ip::{Fragment, IpHeader};
use super::ipv4::{ICMP, TCP, UDP};
use super::{be16, checksum, ipv6, tcp, udp};

/// The protocols whose first four octets are two ports.
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const MOBILITY: u8 = 135;

/// What policies and selectors compare, packed into words: flows are compared and hashed for every packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// An IPv4 address stands in the lowest 32 bits.
    source: u128,
    destination: u128,
    /// Source port, destination port, protocol, whether there are ports, whether it is IPv6: 16, 16, 8, 1 and 1 bit
    /// from the top.
    rest: u64,
}

/// The bit that says that there are ports.
const HAS_PORTS: u64 = 1 << 23;
/// The bit that says that the addresses are IPv6's.
const IS_IPV6: u64 = 1 << 22;

impl Flow {
    /// A flow of these. The addresses are of one family.
    #[inline]
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, ports: Option<(u16, u16)>) -> Self {
        Self::from_bits(destination.is_ipv6(), bits(source), bits(destination), protocol, ports)
    }

    /// As [`new`](Self::new), with addresses as numbers, IPv4's in the lowest 32 bits.
    #[inline(always)]
    pub(super) fn from_bits(
        is_ipv6: bool,
        source: u128,
        destination: u128,
        protocol: u8,
        ports: Option<(u16, u16)>,
    ) -> Self {
        let ports = ports.map_or(0, |(a, b)| u64::from(a) << 48 | u64::from(b) << 32 | HAS_PORTS);
        let family = if is_ipv6 { IS_IPV6 } else { 0 };
        Self { source, destination, rest: ports | u64::from(protocol) << 24 | family }
    }

    /// From whom.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.address(self.source)
    }

    /// To whom.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.address(self.destination)
    }

    #[inline]
    fn address(&self, bits: u128) -> IpAddr {
        if self.is_ipv6() {
            Ipv6Addr::from_bits(bits).into()
        } else {
            Ipv4Addr::from_bits(bits as u32).into()
        }
    }

    /// From whom, as a number; IPv4 in the lowest 32 bits.
    #[inline]
    pub fn source_bits(&self) -> u128 {
        self.source
    }

    /// To whom, as a number; IPv4 in the lowest 32 bits.
    #[inline]
    pub fn destination_bits(&self) -> u128 {
        self.destination
    }

    /// Whether the addresses are IPv6's.
    #[inline]
    pub fn is_ipv6(&self) -> bool {
        self.rest & IS_IPV6 != 0
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
        let fold = |address: u128| (address >> 64) as u64 ^ address as u64;
        let addresses = fold(self.source).rotate_left(32) ^ fold(self.destination);
        let mixed = (addresses ^ self.rest.rotate_left(21)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - bits)) as usize
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {} protocol {}", self.source(), self.destination(), self.protocol())?;
        self.ports().map_or(Ok(()), |(a, b)| write!(f, " ports {a} -> {b}"))
    }
}

/// An address as a number; IPv4 in the lowest 32 bits.
#[inline]
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// See [`Flow::ports`]; of the upper-layer header and what follows it.
#[inline(always)]
pub(crate) fn ports(protocol: u8, payload: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        TCP | UDP | DCCP | SCTP | UDP_LITE => Some((be16(payload, 0).ok()?, be16(payload, 2).ok()?)),
        ICMP | ipv6::ICMP => be16(payload, 0).ok().map(|kind| (kind, kind)),
        MOBILITY => payload.get(2).map(|kind| (u16::from(*kind) << 8, u16::from(*kind) << 8)),
        _ => None,
    }
}

/// Computes the checksum of the upper layer anew for the addresses that the packet has now, in place: a NAT in front of the
/// peer changed them without seeing the checksum inside ESP (RFC 3948 section 3.1.2). Integrity was ESP's to check, so
/// nothing is lost. Returns whether there was one to compute: not in a fragment, in UDP without a checksum, or in a
/// protocol whose checksum does not cover addresses.
pub fn repair_checksum(packet: &mut [u8], header: &IpHeader) -> bool {
    header.fragment == Fragment::Whole && repair(header, header.payload_mut(packet)).is_some()
}

fn repair(header: &IpHeader, payload: &mut [u8]) -> Option<()> {
    // Octets of the header, where its checksum stands, octets that it covers.
    let (least, at, length) = match header.protocol {
        TCP => (tcp::HEADER, tcp::CHECKSUM_AT, payload.len()),
        UDP => (udp::HEADER, 6, udp_length(payload)?),
        ipv6::ICMP if header.is_ipv6() => (4, 2, payload.len()),
        _ => return None,
    };
    let covered = payload.get_mut(..length).filter(|covered| covered.len() >= least)?;
    covered.get_mut(at..at + 2)?.fill(0);
    let sum = header.pseudo_header(header.protocol, length) + u64::from(checksum::sum(covered));
    let sum = !checksum::fold(sum);
    let sum = if header.protocol == UDP { udp::transmitted(sum) } else { sum };
    covered.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// The octets that a UDP checksum covers, unless it is zero: none was computed (RFC 768), and none is now.
fn udp_length(payload: &[u8]) -> Option<usize> {
    let (length, sum) = (be16(payload, 4).ok()?, be16(payload, 6).ok()?);
    (sum != 0).then_some(usize::from(length))
}
