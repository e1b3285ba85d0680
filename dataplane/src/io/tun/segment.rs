//! What the kernel leaves to the device: segmentation (GSO) and checksums (virtio 1.2 section 5.1.6.2, as
//! `struct virtio_net_hdr` of linux/virtio_net.h carries them).
//!
//! The kernel hands a TUN device TCP and UDP payload of up to 64 KiB under one header. The pipeline works on packets
//! that a network can carry, so the header is repeated in front of every piece, with what differs from one to the
//! next: lengths, IPv4 identification, TCP sequence number and flags, checksums.

use crate::packet::checksum::{checksum, fold, sum};

/// Octets of the header in front of every packet.
pub(super) const HEADER: usize = 10;

pub(super) const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
pub(super) const GSO_TCPV4: u8 = 1;
pub(super) const GSO_TCPV6: u8 = 4;
const GSO_UDP: u8 = 5;
/// The super-packet carries CWR, which belongs to its first segment alone (RFC 3168 section 6.1.2).
const GSO_ECN: u8 = 0x80;

/// TCP's flags (RFC 9293 section 3.1, RFC 3168 section 6.1).
const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What the kernel says about a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OffloadHeader {
    pub(super) flags: u8,
    pub(super) gso: u8,
    /// Octets of payload in a segment.
    pub(super) segment: u16,
    pub(super) checksum_start: u16,
    pub(super) checksum_offset: u16,
}

impl OffloadHeader {
    /// Reads the header: the kernel's own byte order, unless a process asked for another.
    pub(super) fn parse(octets: [u8; HEADER]) -> Self {
        let [flags, gso, _, _, rest @ ..] = octets;
        let word = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        Self { flags, gso, segment: word(0), checksum_start: word(2), checksum_offset: word(4) }
    }

    /// The opposite; `headers` are the octets in front of a super-packet's payload.
    pub(super) fn emit(self, headers: u16) -> [u8; HEADER] {
        let mut octets = [0; HEADER];
        octets[..2].copy_from_slice(&[self.flags, self.gso]);
        let words = [headers, self.segment, self.checksum_start, self.checksum_offset];
        for (place, word) in octets[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }

    pub(super) fn is_super_packet(self) -> bool {
        self.gso != GSO_NONE
    }
}

/// Writes the checksum that the kernel left to the device. Returns `None` when the packet has no such place.
pub(super) fn complete_checksum(header: OffloadHeader, packet: &mut [u8]) -> Option<()> {
    if header.flags & NEEDS_CHECKSUM == 0 {
        return Some(());
    }
    let covered = packet.get_mut(usize::from(header.checksum_start)..)?;
    // The field holds the sum of the pseudo-header, so that it is covered as it stands.
    let value = checksum(covered);
    let at = usize::from(header.checksum_offset);
    let field = covered.get_mut(at..at + 2)?;
    field.copy_from_slice(&transmitted(value, at == UDP_CHECKSUM).to_be_bytes());
    Some(())
}

/// Offsets of the checksum fields.
const UDP_CHECKSUM: usize = 6;
pub(super) const TCP_CHECKSUM: usize = 16;

/// UDP's zero says that there is no checksum (RFC 768).
fn transmitted(value: u16, is_udp: bool) -> u16 {
    if is_udp && value == 0 { u16::MAX } else { value }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

/// How one super-packet falls into segments, and how far that went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segmentation {
    transport: Transport,
    is_ipv6: bool,
    /// Where the transport header begins.
    transport_start: usize,
    /// Where the payload begins: the octets in front of every segment.
    payload_start: usize,
    segment: usize,
    length: usize,
    /// Where the next segment's payload begins; behind the end when all are made.
    next: usize,
    made: u32,
}

impl Segmentation {
    /// Checks a super-packet whose segments shall have at most `limit` octets each.
    pub(super) fn new(header: OffloadHeader, packet: &[u8], limit: usize) -> Option<Self> {
        let is_ipv6 = is_ipv6(packet)?;
        let transport = match header.gso & !GSO_ECN {
            GSO_TCPV4 if !is_ipv6 => Transport::Tcp,
            GSO_TCPV6 if is_ipv6 => Transport::Tcp,
            GSO_UDP => Transport::Udp,
            _ => return None,
        };
        let transport_start = transport_start(header, packet, is_ipv6)?;
        let field = match transport {
            Transport::Tcp => TCP_CHECKSUM,
            Transport::Udp => UDP_CHECKSUM,
        };
        let payload_start = transport_start + transport_header(transport, &packet[transport_start..])?;
        let segment = usize::from(header.segment);
        let is_sound = header.flags & NEEDS_CHECKSUM != 0
            && usize::from(header.checksum_offset) == field
            && payload_start <= packet.len()
            && segment > 0
            && payload_start + segment.min(packet.len() - payload_start) <= limit;
        is_sound.then_some(Self {
            transport,
            is_ipv6,
            transport_start,
            payload_start,
            segment,
            length: packet.len(),
            next: payload_start,
            made: 0,
        })
    }

    /// Whether all segments were made.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.length && self.made > 0
    }

    /// How many segments are to be made yet.
    pub(super) fn remaining(&self) -> usize {
        let octets = self.length.saturating_sub(self.next);
        if self.made == 0 { octets.div_ceil(self.segment).max(1) } else { octets.div_ceil(self.segment) }
    }

    /// Writes the next segment of `packet`, the one this was made of, to the start of `into`. Returns its octets.
    pub(super) fn write_next(&mut self, packet: &[u8], into: &mut [u8]) -> Option<usize> {
        if self.is_done() {
            return None;
        }
        let payload = packet.get(self.next..self.length.min(self.next + self.segment))?;
        let length = self.payload_start + payload.len();
        let into = into.get_mut(..length)?;
        into[..self.payload_start].copy_from_slice(packet.get(..self.payload_start)?);
        into[self.payload_start..].copy_from_slice(payload);
        let is_last = self.next + payload.len() == self.length;
        self.write_network(into);
        self.write_transport(into, is_last);
        self.next += payload.len();
        self.made = self.made.saturating_add(1);
        Some(length)
    }

    fn write_network(&self, packet: &mut [u8]) {
        let length = packet.len();
        if self.is_ipv6 {
            put(packet, 4, (length - IPV6_HEADER) as u16);
            return;
        }
        put(packet, 2, length as u16);
        put(packet, 4, word(packet, 4).wrapping_add(self.made as u16));
        put(packet, 10, 0);
        let value = checksum(&packet[..self.transport_start]);
        put(packet, 10, value);
    }

    fn write_transport(&self, packet: &mut [u8], is_last: bool) {
        let segment = &mut packet[self.transport_start..];
        let length = segment.len() as u16;
        let field = match self.transport {
            Transport::Tcp => {
                self.write_tcp(segment, is_last);
                TCP_CHECKSUM
            }
            Transport::Udp => {
                put(segment, 4, length);
                UDP_CHECKSUM
            }
        };
        // The field holds the sum of the pseudo-header, with the length of the whole (RFC 1624 equation 3).
        let whole = (self.length - self.transport_start) as u16;
        let pseudo = u64::from(word(segment, field)) + u64::from(!whole) + u64::from(length);
        put(segment, field, 0);
        let value = !fold(pseudo + u64::from(sum(segment)));
        put(segment, field, transmitted(value, self.transport == Transport::Udp));
    }

    fn write_tcp(&self, segment: &mut [u8], is_last: bool) {
        let offset = (self.next - self.payload_start) as u32;
        let sequence = u32::from(word(segment, 4)) << 16 | u32::from(word(segment, 6));
        segment[4..8].copy_from_slice(&sequence.wrapping_add(offset).to_be_bytes());
        if !is_last {
            segment[13] &= !(FIN | PSH);
        }
        if self.made > 0 {
            segment[13] &= !CWR;
        }
    }
}

pub(super) const IPV6_HEADER: usize = 40;

fn is_ipv6(packet: &[u8]) -> Option<bool> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => Some(false),
        6 if packet.len() >= IPV6_HEADER => Some(true),
        _ => None,
    }
}

/// Where the transport header begins. IPv6's extension headers, if any, are part of what is repeated.
fn transport_start(header: OffloadHeader, packet: &[u8], is_ipv6: bool) -> Option<usize> {
    let start = usize::from(header.checksum_start);
    let fits =
        if is_ipv6 { start >= IPV6_HEADER } else { start == usize::from(packet[0] & 15) * 4 && start >= 20 };
    (fits && start < packet.len()).then_some(start)
}

/// Octets of the transport header at the start of `segment`.
fn transport_header(transport: Transport, segment: &[u8]) -> Option<usize> {
    match transport {
        Transport::Udp => (segment.len() >= 8).then_some(8),
        Transport::Tcp => {
            let length = usize::from(segment.get(12)? >> 4) * 4;
            (length >= 20 && length <= segment.len()).then_some(length)
        }
    }
}

pub(super) fn word(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

pub(super) fn put(octets: &mut [u8], at: usize, value: u16) {
    octets[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
pub(super) mod tests;
