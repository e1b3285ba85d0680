//! Super-packets for the kernel: consecutive TCP segments of one connection become one packet, whose way through the
//! kernel costs about as much as that of any of them.
//!
//! Only what can be divided again into the very segments is joined (the conditions of receive offloads: equal headers
//! but for what counts on, equal payloads but for a shorter last one), and only after their checksums were found
//! right: the kernel takes a super-packet's payload as checked.

use std::ops::Range;

use super::segment::{
    GSO_TCPV4, GSO_TCPV6, HEADER, IPV6_HEADER, NEEDS_CHECKSUM, OffloadHeader, PSH, TCP_CHECKSUM, put, word,
};
use crate::packet::checksum::{checksum, fold, sum};
use crate::packet::ipv4::{HEADER as IPV4_HEADER, TCP};

/// Octets of the longest headers: IPv6 and TCP with all options.
const LONGEST_HEADERS: usize = IPV6_HEADER + 60;

/// What the length fields of IPv4 and IPv6 can say, the latter with room to spare.
const LONGEST: usize = 65535;

const ACK: u8 = 0x10;
/// More fragments, and the fragment offset.
const FRAGMENT: u16 = 0x3fff;
const DONT_FRAGMENT: u16 = 0x4000;

/// A TCP segment that may be joined to others.
#[derive(Clone, Copy, Debug)]
struct Segment<'a> {
    packet: &'a [u8],
    /// Octets of the IP header.
    network: usize,
    /// Octets of IP and TCP header.
    headers: usize,
}

impl<'a> Segment<'a> {
    /// No options, extension headers or fragments, and nothing about the connection but data and acknowledgements.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let network = network_header(packet)?;
        let tcp = packet.get(network..).filter(|tcp| tcp.len() > 20)?;
        let headers = network + usize::from(tcp[12] >> 4) * 4;
        let is_plain = tcp[13] & !PSH == ACK && tcp[12].trailing_zeros() >= 4;
        let is_sound = headers >= network + 20 && headers < packet.len();
        (is_plain && is_sound).then_some(Self { packet, network, headers })
    }

    fn tcp(&self) -> &'a [u8] {
        &self.packet[self.network..]
    }

    fn sequence(&self) -> u32 {
        u32::from(word(self.tcp(), 4)) << 16 | u32::from(word(self.tcp(), 6))
    }

    fn payload(&self) -> usize {
        self.packet.len() - self.headers
    }

    fn pushes(&self) -> bool {
        self.tcp()[13] & PSH != 0
    }

    /// Whether all checksums are right.
    fn is_intact(&self) -> bool {
        let is_header_intact = self.network == IPV6_HEADER || sum(&self.packet[..IPV4_HEADER]) == u16::MAX;
        let pseudo = pseudo_header(self.packet, self.network, self.tcp().len());
        let covered = u64::from(pseudo) + u64::from(sum(self.tcp()));
        is_header_intact && fold(covered) == u16::MAX
    }

    /// Whether the headers are those of the other but for lengths, checksums, identification, sequence and push.
    fn has_headers_of(&self, other: &[u8]) -> bool {
        let same = |range: Range<usize>| self.packet[range.clone()] == other[range];
        let tcp = self.network;
        let network = if self.network == IPV6_HEADER {
            same(0..4) && same(6..40)
        } else {
            same(0..2) && same(6..10) && same(12..20)
        };
        network
            && same(tcp..tcp + 4)
            && same(tcp + 8..tcp + 13)
            && same(tcp + 14..tcp + 16)
            && same(tcp + 18..self.headers)
    }
}

/// Octets of an IP header without options in front of TCP, if it is one and says how long the packet is.
fn network_header(packet: &[u8]) -> Option<usize> {
    let is_ipv4 = |p: &[u8]| {
        p.len() > IPV4_HEADER
            && p[0] == 0x45
            && p[9] == TCP
            && usize::from(word(p, 2)) == p.len()
            && word(p, 6) & FRAGMENT == 0
    };
    let is_ipv6 = |p: &[u8]| {
        p.len() > IPV6_HEADER
            && p[0] >> 4 == 6
            && p[6] == TCP
            && usize::from(word(p, 4)) + IPV6_HEADER == p.len()
    };
    if is_ipv4(packet) { Some(IPV4_HEADER) } else { is_ipv6(packet).then_some(IPV6_HEADER) }
}

/// The sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo_header(header: &[u8], network: usize, length: usize) -> u16 {
    let addresses = if network == IPV6_HEADER { &header[8..40] } else { &header[12..20] };
    fold(u64::from(sum(addresses)) + u64::from(TCP) + length as u64)
}

/// Consecutive segments, as far as they go together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The first packet's headers.
    header: [u8; LONGEST_HEADERS],
    network: usize,
    headers: usize,
    /// Octets of payload in every segment but the last.
    segment: usize,
    payload: usize,
    packets: u16,
    is_first_intact: bool,
    /// No segment goes behind the last.
    is_complete: bool,
}

impl Run {
    /// A run that begins, and may end, with this packet.
    pub(super) fn start(packet: &[u8]) -> Option<Self> {
        let first = Segment::parse(packet)?;
        let mut header = [0; LONGEST_HEADERS];
        header[..first.headers].copy_from_slice(&packet[..first.headers]);
        Some(Self {
            header,
            network: first.network,
            headers: first.headers,
            segment: first.payload(),
            payload: first.payload(),
            packets: 1,
            is_first_intact: false,
            is_complete: first.pushes(),
        })
    }

    /// Joins `packet` to the run that began with `first`, if it goes behind it.
    pub(super) fn join(&mut self, first: &[u8], packet: &[u8]) -> bool {
        let Some(next) = Segment::parse(packet) else { return false };
        let joins = self.continues_with(&next) && self.is_first_intact(first) && next.is_intact();
        if joins {
            self.payload += next.payload();
            self.packets += 1;
            self.header[self.network + 13] |= next.tcp()[13] & PSH;
            self.is_complete = next.pushes() || next.payload() < self.segment;
        }
        joins
    }

    fn continues_with(&self, next: &Segment<'_>) -> bool {
        let tcp = &self.header[self.network..];
        let sequence = u32::from(word(tcp, 4)) << 16 | u32::from(word(tcp, 6));
        !self.is_complete
            && (next.network, next.headers) == (self.network, self.headers)
            && next.payload() <= self.segment
            && self.headers + self.payload + next.payload() <= LONGEST
            && next.sequence() == sequence.wrapping_add(self.payload as u32)
            && next.has_headers_of(&self.header)
            && self.counts_on(next)
    }

    /// What must not be fragmented needs no identification (RFC 6864 section 4.1).
    fn counts_on(&self, next: &Segment<'_>) -> bool {
        let is_atomic = word(&self.header, 6) & DONT_FRAGMENT != 0;
        let expected = word(&self.header, 4).wrapping_add(self.packets);
        self.network == IPV6_HEADER || is_atomic || word(next.packet, 4) == expected
    }

    fn is_first_intact(&mut self, first: &[u8]) -> bool {
        self.is_first_intact |= Segment::parse(first).is_some_and(|first| first.is_intact());
        self.is_first_intact
    }

    /// How many packets were joined.
    pub(super) fn packets(&self) -> usize {
        usize::from(self.packets)
    }

    /// What stands in front of the payloads: the kernel's header and the packets'. Called once, at the end.
    pub(super) fn headers(&mut self) -> ([u8; HEADER], &[u8]) {
        let length = self.headers + self.payload;
        let is_ipv6 = self.network == IPV6_HEADER;
        if is_ipv6 {
            put(&mut self.header, 4, (length - IPV6_HEADER) as u16);
        } else {
            put(&mut self.header, 2, length as u16);
            put(&mut self.header, 10, 0);
            let value = checksum(&self.header[..IPV4_HEADER]);
            put(&mut self.header, 10, value);
        }
        let pseudo = pseudo_header(&self.header, self.network, length - self.network);
        put(&mut self.header, self.network + TCP_CHECKSUM, pseudo);
        let offload = OffloadHeader {
            flags: NEEDS_CHECKSUM,
            gso: if is_ipv6 { GSO_TCPV6 } else { GSO_TCPV4 },
            segment: self.segment as u16,
            checksum_start: self.network as u16,
            checksum_offset: TCP_CHECKSUM as u16,
        };
        (offload.emit(self.headers as u16), &self.header[..self.headers])
    }

    /// Where the payload lies in each of the packets.
    pub(super) fn payload_start(&self) -> usize {
        self.headers
    }
}

#[cfg(test)]
mod tests;
