//! ICMP errors (RFC 792, RFC 1191, RFC 4443) that a gateway sends back to the inner sender.

use std::net::IpAddr;

use super::ip::{Fragment, IpHeader};
use super::ipv4::{self, Ipv4Fields, Ipv4Template};
use super::ipv6::{self, Ipv6Template};
use super::{checksum, transport};

/// Octets of an ICMP error's own header.
pub const ERROR_HEADER: usize = 8;
/// The largest error packets (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 c).
const LARGEST_IPV4: usize = 576;
const LARGEST_IPV6: usize = 1280;
/// RFC 1812 section 4.3.2.5: errors go with precedence 6, internetwork control.
const TRAFFIC_CLASS: u8 = 0xc0;
const HOP_LIMIT: u8 = 64;

/// An error about one packet; which message it is depends on the packet's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// The packet may not be fragmented and is larger than this MTU: Fragmentation Needed (RFC 1191 section 4), Packet
    /// Too Big (RFC 4443 section 3.2).
    TooBig {
        /// The largest packet that would have passed.
        mtu: u16,
    },
    /// TTL or hop limit ran out here.
    TimeExceeded,
    /// A policy discards the packet: communication administratively prohibited (RFC 4301 section 6).
    Prohibited,
}

impl IcmpError {
    /// Type and code.
    const fn kind(self, is_ipv6: bool) -> [u8; 2] {
        match (self, is_ipv6) {
            (Self::TooBig { .. }, false) => [3, 4],
            (Self::TooBig { .. }, true) => [2, 0],
            (Self::TimeExceeded, false) => [11, 0],
            (Self::TimeExceeded, true) => [3, 0],
            (Self::Prohibited, false) => [3, 13],
            (Self::Prohibited, true) => [1, 1],
        }
    }

    /// IPv4 has the MTU in the lower 16 bits of its field and IPv6 in all 32, which is the same.
    fn header(self, is_ipv6: bool) -> [u8; ERROR_HEADER] {
        let [kind, code] = self.kind(is_ipv6);
        let mtu = if let Self::TooBig { mtu } = self { mtu } else { 0 };
        let [high, low] = mtu.to_be_bytes();
        [kind, code, 0, 0, 0, 0, high, low]
    }
}

/// Whether an error may be sent about a packet: not about an ICMP error or what may be one, nor about a packet whose
/// source or destination is not one host (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e).
/// Whether the packet came in a multicast or broadcast frame is the caller's to know.
pub fn may_answer(header: &IpHeader, packet: &[u8], error: IcmpError) -> bool {
    let destination = header.destination();
    // RFC 4443 section 2.4 e.3: path MTU discovery works for multicast in IPv6.
    let is_exception = header.is_ipv6() && matches!(error, IcmpError::TooBig { .. });
    !is_icmp_error(header, packet)
        && (header.is_ipv6() || header.fragment != Fragment::Later)
        && is_one_host(header.source())
        && !header.source().is_loopback()
        && (is_one_host(destination) || is_exception && destination.is_multicast())
}

fn is_one_host(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_multicast() || address.is_unspecified() || is_broadcast)
}

/// Whether a packet is an ICMP error or a redirect, or ICMP whose type is not known to be anything else.
fn is_icmp_error(header: &IpHeader, packet: &[u8]) -> bool {
    let kind = match header.fragment {
        Fragment::Later => None,
        Fragment::Whole | Fragment::First => header.payload(packet).first(),
    };
    match (header.is_ipv6(), header.protocol) {
        (false, ipv4::ICMP) => !kind.is_some_and(|kind| matches!(kind, 0 | 8 | 9 | 10 | 13..=18 | 42 | 43)),
        // RFC 4443 section 2.1: informational messages have the highest bit; 137 is the redirect (RFC 4861).
        (true, ipv6::ICMP) => !kind.is_some_and(|kind| *kind >= 128 && *kind != 137),
        _ => false,
    }
}

/// Turns the packet at `packet` (an offset into `buffer`) into the error about it, in place: the new headers go
/// in front of it, and it is cut to what an error may quote. Returns where the error begins and its length, or
/// `None` when there is no room in front or `own` is of the other family.
pub fn emit_around(
    buffer: &mut [u8],
    packet: usize,
    about: &IpHeader,
    own: IpAddr,
    error: IcmpError,
) -> Option<(usize, usize)> {
    let (ip_header, largest) =
        if about.is_ipv6() { (ipv6::HEADER, LARGEST_IPV6) } else { (ipv4::HEADER, LARGEST_IPV4) };
    let start = packet.checked_sub(ip_header + ERROR_HEADER)?;
    let length = largest.min(ip_header + ERROR_HEADER + about.total_length);
    let (ip, message) = buffer.get_mut(start..start + length)?.split_at_mut(ip_header);
    message[..ERROR_HEADER].copy_from_slice(&error.header(about.is_ipv6()));
    let sum = emit_ip(ip, message, (own, about.source()), TRAFFIC_CLASS)?;
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some((start, length))
}

/// Writes the IP header in front of `message`, from the first address to the second; returns the checksum for it.
pub(super) fn emit_ip(
    ip: &mut [u8],
    message: &[u8],
    ends: (IpAddr, IpAddr),
    traffic_class: u8,
) -> Option<u16> {
    match ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let fields = Ipv4Fields {
                total_length: (ip.len() + message.len()) as u16,
                traffic_class,
                identification: 0,
                dont_fragment: true,
            };
            ip.copy_from_slice(&Ipv4Template::new(from, to, ipv4::ICMP, HOP_LIMIT).emit(fields));
            Some(checksum::checksum(message))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let template = Ipv6Template::new(from, to, ipv6::ICMP, HOP_LIMIT);
            ip.copy_from_slice(&template.emit(message.len() as u16, traffic_class, 0));
            let (from, to) = (transport::bits(from.into()), transport::bits(to.into()));
            let pseudo_header = checksum::pseudo_header(from, to, ipv6::ICMP, message.len());
            Some(!checksum::fold(pseudo_header + u64::from(checksum::sum(message))))
        }
        _ => None,
    }
}
