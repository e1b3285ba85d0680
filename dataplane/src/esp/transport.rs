//! Transport mode: ESP between an IP header and its payload (RFC 4303 section 3.1.1), in place.
//!
//! The payload never moves; the headers in front of it do, and give way to ESP (and UDP, RFC 3948 section 3.2) or come
//! back over it.

use std::ops::Range;

use crate::packet::ip::{self, Insertion, IpHeader};
use crate::packet::udp;

/// A packet whose headers made room for ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Where the packet lies now, from its IP header to the end of the ICV.
    pub packet: Range<usize>,
    /// What ESP carries: its next header.
    pub next_header: u8,
}

/// Makes room for ESP in the packet at `packet` (a range of `buffer`; a whole IP packet, as transport mode takes no
/// fragments: RFC 4303 section 3.3.4): `front` octets before the
/// payload for SPI, sequence number and IV, and the UDP header if there is one; `behind` octets after it for padding,
/// trailer and ICV. Moves the headers, and changes their length, their next header to `protocol` (ESP, or UDP), and
/// IPv4's checksum. The payload, which stays, is what stood from `packet.start + insertion.offset` on. `None`, with
/// nothing changed, if there is no room or the packet gets too long.
#[inline]
pub fn insert_transport(
    buffer: &mut [u8],
    packet: Range<usize>,
    insertion: Insertion,
    protocol: u8,
    (front, behind): (usize, usize),
) -> Option<Inserted> {
    let headers = packet.start..packet.start.checked_add(insertion.offset)?;
    if headers.end > packet.end || insertion.next_header_at >= insertion.offset {
        return None;
    }
    let moved = packet.start.checked_sub(front)?..packet.end.checked_add(behind)?;
    buffer.get(moved.clone())?;
    let octets = &mut buffer[headers.clone()];
    let next_header = ip::set_length_and_protocol(octets, moved.len(), insertion.next_header_at, protocol)?;
    buffer.copy_within(headers, moved.start);
    Some(Inserted { packet: moved, next_header })
}

/// Takes ESP out of the packet that starts at `start` (an offset into `buffer`) and was parsed as `header`: its IP header
/// with options or extension headers comes to stand in front of the opened `payload` (a range of `buffer`), which is a
/// `next_header`. Returns where the packet lies then; it must be parsed anew, since ESP may have hidden extension
/// headers. `None`, with nothing changed, if `payload` does not lie behind the header or reaches out of `buffer`.
#[inline]
pub fn remove_transport(
    buffer: &mut [u8],
    start: usize,
    header: &IpHeader,
    payload: Range<usize>,
    next_header: u8,
) -> Option<Range<usize>> {
    let headers = start..start.checked_add(header.header_length)?;
    if headers.end > payload.start || payload.start > payload.end || payload.end > buffer.len() {
        return None;
    }
    let total_length = header.header_length + payload.len();
    let octets = &mut buffer[headers.clone()];
    ip::set_length_and_protocol(octets, total_length, header.protocol_at, next_header)?;
    let moved = payload.start - header.header_length;
    buffer.copy_within(headers, moved);
    Some(moved..payload.end)
}

/// Writes the UDP header in front of the sealed ESP packet in the packet at `packet` (a range of `buffer`), which has room
/// for it behind its first `offset` octets; `header` is from before ESP was put in. `None` if there is no such room.
#[inline]
pub fn emit_udp(
    buffer: &mut [u8],
    packet: Range<usize>,
    offset: usize,
    ports: (u16, u16),
    header: &IpHeader,
) -> Option<()> {
    let datagram = buffer.get_mut(packet.start.checked_add(offset)?..packet.end)?;
    udp::emit(datagram, ports, header.is_ipv6().then(|| header.address_bits()))
}
