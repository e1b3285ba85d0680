//! Headers on the packet's way: what arrived, and what SAs put on and take off.

use std::ops::Range;

use baton_sad::Mode;

use super::sa_cache::PreparedSa;
use super::{DropReason, Flight, Received, Sent};
use crate::esp::payload::{NO_NEXT_HEADER, Payload};
use crate::esp::transport::{insert_transport, remove_transport};
use crate::io::{Frame, Medium};
use crate::packet::esp::EspHeader;
use crate::packet::ethernet::{self, EthernetHeader};
use crate::packet::ip::{Fragment, IpHeader};
use crate::packet::transport::{self, bits};
use crate::packet::udp::{self, NatTraversal, UdpHeader};
use crate::packet::{be16, ipv4, ipv6};

/// A frame as it came in.
pub(super) struct Arrival<'f> {
    pub(super) frame: &'f Frame,
    pub(super) medium: Medium,
}

/// The IP packet in a frame, checked, and where it lies without the link's padding.
#[inline(always)]
pub(super) fn parse_ip(arrival: &Arrival<'_>, buffer: &[u8]) -> Result<(IpHeader, Range<usize>), DropReason> {
    let octets = buffer.get(arrival.frame.range()).ok_or(DropReason::Oversized)?;
    let link = match arrival.medium {
        Medium::Ip => 0,
        Medium::Ethernet => link_header(octets)?,
    };
    let header = IpHeader::parse(&octets[link..])?;
    let start = arrival.frame.start as usize + link;
    Ok((header, start..start + header.total_length))
}

/// Octets of the link header. What it announces must be what follows.
#[inline(always)]
fn link_header(octets: &[u8]) -> Result<usize, DropReason> {
    let link = EthernetHeader::parse(octets)?;
    let version = match link.ethertype {
        ethernet::IPV4 => 4,
        ethernet::IPV6 => 6,
        _ => return Err(DropReason::NotIp),
    };
    match octets.get(link.length) {
        Some(first) if first >> 4 == version => Ok(link.length),
        _ => Err(DropReason::IpHeader),
    }
}

/// Where ESP lies in a packet (offsets from the packet's first octet); source and destination port, if it is in UDP.
type FoundEsp = (Range<usize>, Option<(u16, u16)>);

/// The ESP in a packet from the outer side. `None` for everything else.
#[inline(always)]
pub(super) fn find_esp(outer: &IpHeader, packet: &[u8]) -> Result<Option<FoundEsp>, DropReason> {
    let found = match outer.protocol {
        ipv4::ESP => Some((outer.header_length..outer.total_length, None)),
        ipv4::UDP if outer.fragment != Fragment::Later => find_esp_in_udp(outer, outer.payload(packet))?,
        _ => None,
    };
    // RFC 4303 section 3.4.1: ESP is opened whole only.
    if found.is_some() && outer.is_fragment() { Err(DropReason::Fragment) } else { Ok(found) }
}

/// ESP in UDP (RFC 3948 section 2) and its ports; `None` for another datagram. The UDP checksum is not looked at: ESP's
/// own check covers the packet. What lies behind the datagram in the IP packet is no part of it.
#[inline]
fn find_esp_in_udp(outer: &IpHeader, datagram: &[u8]) -> Result<Option<FoundEsp>, DropReason> {
    let (source, destination) = (be16(datagram, 0)?, be16(datagram, 2)?);
    if source != udp::NAT_TRAVERSAL && destination != udp::NAT_TRAVERSAL {
        return Ok(None);
    }
    // A first fragment ends before its datagram does.
    let payload = match outer.fragment {
        Fragment::Whole => UdpHeader::parse(datagram)?.payload,
        Fragment::First | Fragment::Later => datagram.get(udp::HEADER..).ok_or(DropReason::Truncated)?,
    };
    let start = outer.header_length + udp::HEADER;
    match NatTraversal::parse(payload)? {
        NatTraversal::Esp(esp) => Ok(Some((start..start + esp.len(), Some((source, destination))))),
        NatTraversal::KeepAlive => Err(DropReason::KeepAlive),
        NatTraversal::Ike(_) => Ok(None),
    }
}

/// The inner packet of an opened payload. What follows it is TFC padding (RFC 4303 section 2.7).
#[inline(always)]
pub(super) fn leave_tunnel(payload: &Payload, buffer: &[u8]) -> Result<(IpHeader, Range<usize>), DropReason> {
    let version = match payload.next_header {
        ipv4::IPIP => 4,
        ipv6::IPV6_IN_IP => 6,
        NO_NEXT_HEADER => return Err(DropReason::Dummy),
        _ => return Err(DropReason::NextHeader),
    };
    let octets = &buffer[payload.range.clone()];
    if octets.first().is_none_or(|first| first >> 4 != version) {
        return Err(DropReason::InnerMalformed);
    }
    let inner = IpHeader::parse(octets).map_err(|_| DropReason::InnerMalformed)?;
    let start = payload.range.start;
    Ok((inner, start..start + inner.total_length))
}

/// The packet of transport mode: the IP header that came, in front of what ESP carried (RFC 4303 section 3.1.1).
#[inline(always)]
pub(super) fn leave_transport(
    about: &Received,
    payload: &Payload,
    buffer: &mut [u8],
) -> Result<(IpHeader, Range<usize>), DropReason> {
    if payload.next_header == NO_NEXT_HEADER {
        return Err(DropReason::Dummy);
    }
    let payload_range = payload.range.clone();
    let packet = remove_transport(buffer, about.start, &about.outer, payload_range, payload.next_header)
        .ok_or(DropReason::InnerMalformed)?;
    // Anew: ESP may have covered extension headers.
    let inner = IpHeader::parse(&buffer[packet.clone()]).map_err(|_| DropReason::InnerMalformed)?;
    // RFC 4303 section 3.1.1: transport mode is for whole packets.
    if inner.is_fragment() {
        return Err(DropReason::InnerMalformed);
    }
    if about.ports.is_some() {
        // A NAT changed the addresses that the checksum covers (RFC 3948 section 3.1.2).
        transport::repair_checksum(&mut buffer[packet.clone()], &inner);
    }
    Ok((inner, packet))
}

/// Frames a packet for an SA's tunnel. Returns where ESP lies, from SPI to ICV.
#[inline(always)]
pub(super) fn enter_tunnel(
    sa: &PreparedSa,
    header: EspHeader,
    inner: &IpHeader,
    (packet, room): (Range<usize>, usize),
    buffer: &mut [u8],
) -> Result<Range<usize>, DropReason> {
    let tfc_padding = sa.tfc_padding(packet.len(), room);
    sa.layout.wrap(buffer, packet, tfc_padding, header, inner.tunnelled_as())
}

/// Frames what stands behind a packet's IP header, which moves forward to make room and names ESP or UDP from now on.
/// Returns where ESP lies, from SPI to ICV.
#[inline(always)]
pub(super) fn enter_transport(
    sa: &PreparedSa,
    header: EspHeader,
    inner: &IpHeader,
    packet: Range<usize>,
    buffer: &mut [u8],
) -> Result<Range<usize>, DropReason> {
    let payload = packet.start + inner.insertion.offset..packet.end;
    let (udp_length, protocol) =
        if sa.encapsulation.is_some() { (udp::HEADER, ipv4::UDP) } else { (0, ipv4::ESP) };
    let behind = sa.layout.sealed_length(payload.len()) - sa.layout.front() - payload.len();
    let around = (sa.layout.front() + udp_length, behind);
    let inserted = insert_transport(buffer, packet, inner.insertion, protocol, around);
    let next_header = inserted.ok_or(DropReason::Oversized)?.next_header;
    sa.layout.wrap(buffer, payload, 0, header, next_header)
}

/// Puts the headers in front of a sealed ESP packet that only then can be written: those of a tunnel, and UDP, whose
/// checksum in IPv6 covers what was sealed. Returns where the whole packet lies.
#[inline(always)]
pub(super) fn finish_outer(
    sa: &PreparedSa,
    flight: &Flight<Sent>,
    buffer: &mut [u8],
) -> Result<Range<usize>, DropReason> {
    let (inner, esp) = (&flight.about.inner, &flight.esp);
    let start = match sa.mode {
        // The IV's lower half is as unique as 16 bits can be among all packets of this node (RFC 6864).
        Mode::Tunnel => sa.outer.emit_before(buffer, esp.start, esp.len(), inner, flight.iv as u16)?,
        Mode::Transport => {
            let udp_length = if sa.encapsulation.is_some() { udp::HEADER } else { 0 };
            emit_udp(sa, inner, &mut buffer[esp.start - udp_length..esp.end])?;
            esp.start - udp_length - inner.insertion.offset
        }
    };
    Ok(start..esp.end)
}

/// Transport mode's UDP header, if there is one, at the start of `datagram`.
#[inline(always)]
fn emit_udp(sa: &PreparedSa, inner: &IpHeader, datagram: &mut [u8]) -> Result<(), DropReason> {
    let Some(udp) = sa.encapsulation else { return Ok(()) };
    let ports = (udp.source_port, udp.destination_port);
    let addresses = inner.is_ipv6().then(|| (bits(inner.source()), bits(inner.destination())));
    udp::emit(datagram, ports, addresses).ok_or(DropReason::Oversized)
}
