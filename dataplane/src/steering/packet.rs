//! From octets to headers, as `ebpf/parse.h` does it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::transport::{Flow, ports};
use crate::xdp::shared::{MAX_EXTENSION_HEADERS, MAX_EXTENSION_OCTETS, MAX_VLAN_TAGS};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Whole,
    First,
    Later,
}

/// An IP packet, cut at its own length, so that Ethernet padding is gone.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub fragment: Fragment,
    /// Of `payload`.
    pub protocol: u8,
    pub hop_limit: u8,
    pub payload: &'a [u8],
}

/// What a frame turned out to be.
#[derive(Debug)]
pub(super) enum Parsed<'a> {
    Ip(Packet<'a>),
    NotIp,
    MalformedEthernet,
    MalformedIp,
    TooManyHeaders,
}

impl<'a> From<Option<Packet<'a>>> for Parsed<'a> {
    fn from(packet: Option<Packet<'a>>) -> Self {
        packet.map_or(Self::MalformedIp, Self::Ip)
    }
}

/// The 16-bit field at `offset`, which lies within `octets`.
pub(super) fn be16(octets: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([octets[offset], octets[offset + 1]])
}

/// The 32-bit field at `offset`, which lies within `octets`.
pub(super) fn be32(octets: &[u8], offset: usize) -> u32 {
    u32::from(be16(octets, offset)) << 16 | u32::from(be16(octets, offset + 2))
}

/// Ethernet, up to two VLAN tags, the IP header proper.
pub(super) fn parse(frame: &[u8]) -> Parsed<'_> {
    match ethernet(frame) {
        None => Parsed::MalformedEthernet,
        Some((0x0800, rest)) => ipv4(rest).into(),
        Some((0x86dd, rest)) => ipv6(rest).into(),
        Some(_) => Parsed::NotIp,
    }
}

/// Who asks for whose MAC address (RFC 826), if that is what a frame is about.
pub(super) fn arp_request(frame: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (0x0806, message) = ethernet(frame)? else { return None };
    let message = message.first_chunk::<28>()?;
    let is_request = message[..8] == [0, 1, 8, 0, 6, 4, 0, 1];
    let address = |at| Ipv4Addr::from_bits(be32(message, at));
    is_request.then(|| (address(14), address(24)))
}

fn ethernet(frame: &[u8]) -> Option<(u16, &[u8])> {
    let (header, mut rest) = frame.split_first_chunk::<14>()?;
    let mut protocol = be16(header, 12);
    for _ in 0..MAX_VLAN_TAGS {
        if is_vlan(protocol) {
            let (tag, behind) = rest.split_first_chunk::<4>()?;
            protocol = be16(tag, 2);
            rest = behind;
        }
    }
    (!is_vlan(protocol)).then_some((protocol, rest))
}

fn is_vlan(protocol: u16) -> bool {
    matches!(protocol, 0x8100 | 0x88a8)
}

fn ipv4(octets: &[u8]) -> Option<Packet<'_>> {
    let header = octets.first_chunk::<20>()?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_length < 20 {
        return None;
    }
    let payload = octets.get(..usize::from(be16(header, 2)))?.get(header_length..)?;
    let fragment = match (be16(header, 6) & 0x1fff, be16(header, 6) & 0x2000) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    Some(Packet {
        source: Ipv4Addr::from_bits(be32(header, 12)).into(),
        destination: Ipv4Addr::from_bits(be32(header, 16)).into(),
        fragment,
        protocol: header[9],
        hop_limit: header[8],
        payload,
    })
}

fn ipv6(octets: &[u8]) -> Option<Packet<'_>> {
    let mut packet = quoted_ipv6(octets)?;
    packet.payload = packet.payload.get(..usize::from(be16(octets, 4)))?;
    Some(packet)
}

/// An IPv6 packet of which an ICMPv6 error may quote the beginning only.
pub(super) fn quoted_ipv6(octets: &[u8]) -> Option<Packet<'_>> {
    let (header, payload) = octets.split_first_chunk::<40>()?;
    (header[0] >> 4 == 6).then(|| Packet {
        source: ipv6_address(&header[8..24]),
        destination: ipv6_address(&header[24..40]),
        fragment: Fragment::Whole,
        protocol: header[6],
        hop_limit: header[7],
        payload,
    })
}

fn ipv6_address(octets: &[u8]) -> IpAddr {
    let bits = octets.iter().fold(0_u128, |bits, octet| bits << 8 | u128::from(*octet));
    Ipv6Addr::from_bits(bits).into()
}

impl<'a> Packet<'a> {
    /// Whose MAC address it asks for (RFC 4861 section 4.3), if that is what it is about.
    pub(super) fn solicited(&self) -> Option<Ipv6Addr> {
        let header = self.payload.first_chunk::<24>()?;
        let is_solicitation = self.destination.is_ipv6()
            && self.protocol == ICMPV6
            && self.hop_limit == 255
            && header[..2] == [SOLICITATION, 0];
        let target = header.last_chunk::<16>()?;
        is_solicitation.then(|| Ipv6Addr::from(*target))
    }

    /// What selectors compare; extension headers are behind it.
    pub(super) fn flow(&self) -> Flow {
        let ports = if self.fragment == Fragment::Later { None } else { ports(self.protocol, self.payload) };
        Flow::new(self.source, self.destination, self.protocol, ports)
    }

    /// The packet behind its IPv6 extension headers, or up to a later fragment's own.
    pub(super) fn without_extension_headers(mut self) -> Parsed<'a> {
        let mut octets = 0;
        for _ in 0..MAX_EXTENSION_HEADERS {
            if !self.has_extension_header() {
                return Parsed::Ip(self);
            }
            let Some(header) = self.payload.first_chunk::<8>() else { return Parsed::MalformedIp };
            let length = if self.protocol == FRAGMENT { 8 } else { (usize::from(header[1]) + 1) * 8 };
            let Some(payload) = self.payload.get(length..) else { return Parsed::MalformedIp };
            if self.protocol == FRAGMENT {
                self.note_fragment(be16(header, 2));
            }
            self.protocol = header[0];
            self.payload = payload;
            octets += length;
            if octets > MAX_EXTENSION_OCTETS as usize {
                return Parsed::TooManyHeaders;
            }
        }
        if self.has_extension_header() { Parsed::TooManyHeaders } else { Parsed::Ip(self) }
    }

    /// RFC 8200 section 4.5.
    fn note_fragment(&mut self, field: u16) {
        if field & 0xfff8 != 0 {
            self.fragment = Fragment::Later;
        } else if field & 1 != 0 {
            self.fragment = Fragment::First;
        }
    }

    fn has_extension_header(&self) -> bool {
        self.destination.is_ipv6()
            && self.fragment != Fragment::Later
            && matches!(self.protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
    }
}
