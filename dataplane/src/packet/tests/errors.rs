//! ICMP errors that we send.

use super::linux::{TOO_BIG, UDP_IPV6_CHAIN, octets, padded};
use super::{V4, V6, ipv4, ipv6};
use crate::packet::checksum;
use crate::packet::icmp::{IcmpError, emit_around, may_answer};
use crate::packet::ip::IpHeader;
use crate::packet::ipv4::{ICMP, UDP};
use crate::packet::ipv6;

const TOO_BIG_1300: IcmpError = IcmpError::TooBig { mtu: 1300 };

/// The error about `packet`, checked to be whole.
fn error_about(packet: &[u8], error: IcmpError) -> Vec<u8> {
    let about = IpHeader::parse(packet).unwrap();
    let own = if about.is_ipv6() { V6[0].into() } else { V4[0].into() };
    let mut buffer = [&[0; 64][..], packet].concat();
    let (start, length) = emit_around(&mut buffer, 64, &about, own, error).unwrap();
    let sent = buffer[start..start + length].to_vec();
    let header = IpHeader::parse(&sent).unwrap();
    assert_eq!((header.total_length, header.hop_limit), (length, 64));
    assert_eq!((header.source(), header.destination()), (own, about.source()));
    let pseudo_header = if about.is_ipv6() { header.pseudo_header(ipv6::ICMP, length - 40) } else { 0 };
    assert_eq!(checksum::fold(pseudo_header + u64::from(checksum::sum(header.payload(&sent)))), 0xffff);
    assert!(!may_answer(&header, &sent, error), "no error about an error");
    sent
}

#[test]
fn errors_quote_as_much_as_they_may() {
    let sent = error_about(&ipv4(UDP, &[], &[7; 1480]), TOO_BIG_1300);
    assert_eq!((sent.len(), &sent[20..22], &sent[26..28]), (576, &[3, 4][..], &1300_u16.to_be_bytes()[..]));
    assert_eq!(IpHeader::parse_quoted(&sent[28..]).unwrap().total_length, 1500);
    let sent = error_about(&ipv6(&[], UDP, &[7; 1460]), TOO_BIG_1300);
    assert_eq!((sent.len(), &sent[40..42], &sent[44..48]), (1280, &[2, 0][..], &1300_u32.to_be_bytes()[..]));
    assert_eq!(IpHeader::parse_quoted(&sent[48..]).unwrap().total_length, 1500);
    let short = octets(UDP_IPV6_CHAIN);
    assert_eq!(error_about(&short, IcmpError::TimeExceeded)[48..], short);
}

#[test]
fn types_and_codes_are_those_of_the_family() {
    let (v4, v6) = (ipv4(UDP, &[], &[0; 8]), ipv6(&[], UDP, &[0; 8]));
    for (error, in_v4, in_v6) in [
        (TOO_BIG_1300, [3, 4], [2, 0]),
        (IcmpError::TimeExceeded, [11, 0], [3, 0]),
        (IcmpError::Prohibited, [3, 13], [1, 1]),
    ] {
        assert_eq!(error_about(&v4, error)[20..22], in_v4);
        assert_eq!(error_about(&v6, error)[40..42], in_v6);
    }
}

#[test]
fn there_must_be_room_and_one_family() {
    let packet = ipv6(&[], UDP, &[0; 8]);
    let about = IpHeader::parse(&packet).unwrap();
    let emit = |front: usize, own| {
        let mut buffer = [&vec![0; front], &packet[..]].concat();
        emit_around(&mut buffer, front, &about, own, IcmpError::Prohibited)
    };
    assert!(emit(48, V6[0].into()).is_some());
    assert!(emit(47, V6[0].into()).is_none());
    assert!(emit(64, V4[0].into()).is_none());
}

/// RFC 4443 section 2.4 e, RFC 1122 section 3.2.2.
#[test]
fn only_packets_between_hosts_are_answered() {
    let answered = |packet: &[u8], error| may_answer(&IpHeader::parse(packet).unwrap(), packet, error);
    let time = IcmpError::TimeExceeded;
    for (kind, expected) in [(1, false), (4, false), (127, false), (128, true), (135, true), (137, false)] {
        assert_eq!(answered(&ipv6(&[], ipv6::ICMP, &[kind; 8]), time), expected, "ICMPv6 {kind}");
    }
    for (kind, expected) in
        [(0, true), (3, false), (5, false), (8, true), (11, false), (12, false), (99, false)]
    {
        assert_eq!(answered(&ipv4(ICMP, &[], &[kind; 8]), time), expected, "ICMP {kind}");
    }
    // Too short to say what it is, or a later fragment of it.
    assert!(!answered(&ipv4(ICMP, &[], &[]), time) && !answered(&ipv6(&[], ipv6::ICMP, &[]), time));
    let later = ipv6(&[(super::FRAGMENT, super::fragment(8))], ipv6::ICMP, &[128; 8]);
    assert!(!answered(&later, time));
    for known in TOO_BIG {
        assert!(!answered(&padded(known), time));
    }

    let mut group = ipv6(&[], UDP, &[0; 8]);
    group[24..26].copy_from_slice(&[0xff, 0x0e]);
    assert!(!answered(&group, time) && answered(&group, TOO_BIG_1300), "RFC 4443 section 2.4 e.3");
    let mut nobody = ipv6(&[], UDP, &[0; 8]);
    nobody[8..24].fill(0);
    assert!(!answered(&nobody, TOO_BIG_1300));
    for address in [[0; 4], [127, 0, 0, 1], [224, 0, 0, 5], [255; 4]] {
        let mut packet = ipv4(UDP, &[], &[0; 8]);
        packet[12..16].copy_from_slice(&address);
        super::sum_ipv4(&mut packet[..20]);
        assert!(!answered(&packet, time), "{address:?}");
    }
}
