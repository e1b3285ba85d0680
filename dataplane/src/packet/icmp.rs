//! ICMP errors (RFC 792, RFC 1191) that a gateway sends back to the inner sender.

use std::net::Ipv4Addr;

use super::checksum;
use super::ipv4::{HEADER, ICMP, Ipv4Fields, Ipv4Header, Ipv4Template};

/// Octets of an ICMP error's own header.
pub const ERROR_HEADER: usize = 8;
/// The largest error packet (RFC 1812 section 4.3.2.3).
const LARGEST: usize = 576;

/// An error about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// The packet has DF and is larger than this MTU (RFC 1191 section 4).
    FragmentationNeeded {
        /// The largest packet that would have passed.
        mtu: u16,
    },
    /// The TTL ran out here.
    TimeExceeded,
}

impl IcmpError {
    fn header(self) -> [u8; ERROR_HEADER] {
        match self {
            Self::FragmentationNeeded { mtu } => {
                let [high, low] = mtu.to_be_bytes();
                [3, 4, 0, 0, 0, 0, high, low]
            }
            Self::TimeExceeded => [11, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// Whether an error may be sent about a packet: not about an ICMP error, a later fragment, or a packet whose
/// source or destination is not one host (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7).
pub fn may_answer(header: &Ipv4Header, packet: &[u8]) -> bool {
    let one_host = |a: Ipv4Addr| !(a.is_multicast() || a.is_broadcast() || a.is_unspecified());
    let is_query = |kind: u8| matches!(kind, 0 | 8 | 9 | 10 | 13..=18 | 42 | 43);
    let is_error =
        header.protocol == ICMP && !packet.get(header.header_length).is_some_and(|kind| is_query(*kind));
    !is_error
        && !header.is_later_fragment()
        && one_host(header.source)
        && !header.source.is_loopback()
        && one_host(header.destination)
}

/// Turns the packet at `packet` (an offset into `buffer`) into the error about it, in place: the new headers go
/// in front of it, and it is cut to what an error may quote. Returns where the error begins and its length, or
/// `None` when there is no room in front.
pub fn emit_around(
    buffer: &mut [u8],
    packet: usize,
    about: &Ipv4Header,
    own: Ipv4Addr,
    error: IcmpError,
) -> Option<(usize, usize)> {
    let start = packet.checked_sub(HEADER + ERROR_HEADER)?;
    let quoted = about.total_length.min(LARGEST - HEADER - ERROR_HEADER);
    let length = HEADER + ERROR_HEADER + quoted;
    let octets = buffer.get_mut(start..start + length)?;
    // RFC 1812 section 4.3.2.5: errors go with precedence 6, internetwork control.
    let fields = Ipv4Fields {
        total_length: u16::try_from(length).ok()?,
        traffic_class: 0xc0,
        identification: 0,
        dont_fragment: true,
    };
    let (ip, message) = octets.split_at_mut(HEADER);
    ip.copy_from_slice(&Ipv4Template::new(own, about.source, ICMP, 64).emit(fields));
    message[..ERROR_HEADER].copy_from_slice(&error.header());
    let sum = checksum::checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ipv4;

    #[test]
    fn an_error_quotes_and_sums() {
        let template = Ipv4Template::new([10, 1, 0, 1].into(), [10, 2, 0, 1].into(), ipv4::UDP, 9);
        let fields = Ipv4Fields { total_length: 1500, dont_fragment: true, ..Default::default() };
        let mut buffer = vec![0; 64];
        buffer.extend(template.emit(fields));
        buffer.resize(64 + 1500, 7);
        let about = Ipv4Header::parse(&buffer[64..]).unwrap();
        let error = IcmpError::FragmentationNeeded { mtu: 1300 };
        let (start, length) = emit_around(&mut buffer, 64, &about, [10, 1, 0, 254].into(), error).unwrap();
        let sent = &buffer[start..start + length];
        let header = Ipv4Header::parse(sent).unwrap();
        assert_eq!((header.total_length, header.protocol), (576, ICMP));
        assert_eq!((header.source, header.destination), ([10, 1, 0, 254].into(), about.source));
        assert_eq!(sent[20..22], [3, 4]);
        assert_eq!(sent[26..28], 1300_u16.to_be_bytes());
        assert_eq!(checksum::sum(&sent[20..]), 0xffff);
        assert_eq!(Ipv4Header::parse(&[&sent[28..], &[0; 1500]].concat()).unwrap(), about);
        assert!(!may_answer(&header, sent), "no error about an error");
    }
}
