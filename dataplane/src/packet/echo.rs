//! ICMP echo requests of the gateway's own (RFC 792, RFC 4443 section 4), and how the replies to them are known.

use std::net::IpAddr;
use std::ops::Range;

use super::icmp::emit_ip;
use super::ip::IpHeader;
use super::{ipv4, ipv6};

/// What a request carries and its reply brings back.
pub type Token = [u8; 16];

const HEADER: usize = 8;
/// No precedence: it is answered like any other traffic of the two hosts.
const TRAFFIC_CLASS: u8 = 0;

/// Writes a request at `at` of the buffer, as if `from` had sent it to `to`. Returns where it lies; `None` if it does
/// not fit, or the addresses are of two families.
pub fn emit_request(
    buffer: &mut [u8],
    at: usize,
    (from, to): (IpAddr, IpAddr),
    number: u16,
    token: &Token,
) -> Option<Range<usize>> {
    let (ip_header, kind) = if to.is_ipv6() { (ipv6::HEADER, 128) } else { (ipv4::HEADER, 8) };
    let end = at + ip_header + HEADER + token.len();
    let (ip, message) = buffer.get_mut(at..end)?.split_at_mut(ip_header);
    let ([high, low], [first, second, ..]) = (number.to_be_bytes(), *token);
    message[..HEADER].copy_from_slice(&[kind, 0, 0, 0, first, second, high, low]);
    message[HEADER..].copy_from_slice(token);
    let sum = emit_ip(ip, message, (from, to), TRAFFIC_CLASS)?;
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(at..end)
}

/// Whether a packet is the reply to a request with this token.
pub fn is_reply(header: &IpHeader, packet: &[u8], token: &Token) -> bool {
    let kind = match (header.is_ipv6(), header.protocol) {
        (false, ipv4::ICMP) => 0,
        (true, ipv6::ICMP) => 129,
        _ => return false,
    };
    let message = header.payload(packet);
    !header.is_fragment() && message.starts_with(&[kind, 0]) && message.get(HEADER..) == Some(&token[..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum;
    use crate::packet::transport::bits;

    const TOKEN: Token = *b"sixteen octets..";

    fn request(from: &str, to: &str) -> Vec<u8> {
        let mut buffer = vec![0xee; 200];
        let ends = (from.parse().unwrap(), to.parse().unwrap());
        let range = emit_request(&mut buffer, 50, ends, 7, &TOKEN).unwrap();
        buffer[range].to_vec()
    }

    #[test]
    fn requests_are_whole_and_their_checksums_right() {
        let packet = request("192.0.2.1", "198.51.100.2");
        let header = IpHeader::parse(&packet).unwrap();
        assert_eq!((packet.len(), header.total_length), (44, 44));
        assert_eq!(checksum::checksum(header.payload(&packet)), 0);
        let packet = request("2001:db8::1", "2001:db8::2");
        let header = IpHeader::parse(&packet).unwrap();
        let (from, to) = (bits(header.source()), bits(header.destination()));
        let pseudo = checksum::pseudo_header(from, to, ipv6::ICMP, 24);
        assert_eq!(checksum::fold(pseudo + u64::from(checksum::sum(header.payload(&packet)))), 0xffff);
        let mixed = ("192.0.2.1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        assert_eq!(emit_request(&mut [0; 200], 0, mixed, 7, &TOKEN), None);
        let ends = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!(emit_request(&mut [0; 40], 0, ends, 7, &TOKEN), None, "no room");
    }

    #[test]
    fn a_reply_is_known_by_its_token() {
        for (from, to, kind) in [("192.0.2.1", "192.0.2.2", 0), ("2001:db8::1", "2001:db8::2", 129)] {
            let mut packet = request(from, to);
            let header = IpHeader::parse(&packet).unwrap();
            assert!(!is_reply(&header, &packet, &TOKEN), "a request is none");
            packet[header.header_length] = kind;
            assert!(is_reply(&header, &packet, &TOKEN));
            assert!(!is_reply(&header, &packet, b"another token..."));
            assert!(!is_reply(&header, &packet[..header.header_length + 3], &TOKEN));
        }
    }
}
