//! ICMP errors about our ESP packets.

use std::net::IpAddr;

use super::linux::{TOO_BIG, TOO_BIG_BEHIND_OPTIONS, padded};
use super::{V6, ipv4, ipv6, sum_ipv4};
use crate::packet::esp::EspHeader;
use crate::packet::ip::IpHeader;
use crate::packet::ipv4::{ESP, ICMP, TCP, UDP};
use crate::packet::quoted::{LEAST_IPV4, QuotedError, QuotedEsp};
use crate::packet::{Malformed, checksum, ipv6, transport};

const SENT: EspHeader = EspHeader { spi: 0x2a00_0001, sequence: 77 };

fn parse(packet: &[u8]) -> Result<Option<QuotedEsp>, Malformed> {
    QuotedEsp::parse(packet, &IpHeader::parse(packet).unwrap())
}

#[test]
fn errors_of_linux_are_understood() {
    let ports = [None, Some((4500, 4500))];
    let addresses: [[IpAddr; 2]; 2] = [
        ["192.0.2.9".parse().unwrap(), "198.51.100.9".parse().unwrap()],
        ["2001:db8:1::9".parse().unwrap(), "2001:db8:2::9".parse().unwrap()],
    ];
    for (index, packet) in TOO_BIG.map(padded).into_iter().enumerate() {
        let [source, destination] = addresses[index / 2];
        let expected = QuotedEsp {
            error: QuotedError::TooBig { mtu: 1300 },
            source,
            destination,
            esp: SENT,
            ports: ports[index % 2],
        };
        assert_eq!(parse(&packet), Ok(Some(expected)));
        // Any octet of the message counts.
        let header = IpHeader::parse(&packet).unwrap().header_length;
        for at in header + 1..packet.len() {
            let mut damaged = packet.clone();
            damaged[at] ^= 0x10;
            assert_eq!(parse(&damaged), Err(Malformed::Checksum), "{at}");
        }
    }
    let behind_options = parse(&padded(TOO_BIG_BEHIND_OPTIONS)).unwrap().unwrap();
    assert_eq!((behind_options.esp, behind_options.ports), (SENT, None));
}

/// An error of this type and code, with this in its second word, about these octets.
fn error(kind: u8, code: u8, word: u32, quote: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &word.to_be_bytes(), quote].concat();
    let is_ipv6 = quote.first().is_some_and(|first| first >> 4 == 6);
    let [source, destination] = V6.map(|address| transport::bits(address.into()));
    let pseudo_header =
        if is_ipv6 { checksum::pseudo_header(source, destination, ipv6::ICMP, message.len()) } else { 0 };
    let sum = !checksum::fold(pseudo_header + u64::from(checksum::sum(&message)));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    if is_ipv6 { ipv6(&[], ipv6::ICMP, &message) } else { ipv4(ICMP, &[], &message) }
}

/// The beginning of an IPv4 ESP packet of so many octets.
fn quote_ipv4(length: u16) -> Vec<u8> {
    let mut quote = ipv4(ESP, &[], &[&SENT.emit()[..], &[0; 8]].concat());
    quote[2..4].copy_from_slice(&length.to_be_bytes());
    sum_ipv4(&mut quote[..20]);
    quote
}

fn quote_ipv6(length: u16) -> Vec<u8> {
    let mut quote = ipv6(&[], ESP, &SENT.emit());
    quote[4..6].copy_from_slice(&(length - 40).to_be_bytes());
    quote
}

fn mtu(packet: &[u8]) -> Option<u16> {
    match parse(packet).unwrap()?.error {
        QuotedError::TooBig { mtu } => Some(mtu),
        QuotedError::Undelivered { .. } => panic!("too big is what it says"),
    }
}

#[test]
fn eight_octets_of_esp_suffice() {
    let quote = quote_ipv4(1500);
    assert_eq!(parse(&error(3, 4, 1400, &quote[..28])).unwrap().unwrap().esp, SENT);
    assert_eq!(parse(&error(3, 4, 1400, &quote[..27])), Err(Malformed::Truncated));
    // RFC 1812 section 4.3.2.3 lets a router quote more; one of 1981 quotes too little for ESP in UDP.
    let in_udp = ipv4(UDP, &[], &[&[0x11, 0x94, 0x11, 0x94, 0, 200, 0, 0][..], &SENT.emit()].concat());
    assert_eq!(parse(&error(3, 3, 0, &in_udp)).unwrap().unwrap().ports, Some((4500, 4500)));
    assert_eq!(parse(&error(3, 3, 0, &in_udp[..28])), Err(Malformed::Truncated));
}

#[test]
fn an_mtu_is_believed_within_bounds() {
    let v4 = |says: u32, length| mtu(&error(3, 4, says, &quote_ipv4(length)));
    assert_eq!([v4(1400, 1500), v4(577, 1500), v4(576, 1500)], [Some(1400), Some(577), Some(576)]);
    assert_eq!(
        [v4(575, 1500), v4(68, 1500), v4(1, 1500)],
        [Some(LEAST_IPV4); 3],
        "forged, or not of this century"
    );
    assert_eq!(
        [v4(1500, 1500), v4(9000, 1500), v4(300, 576)],
        [None; 3],
        "the packet was not too big for that"
    );
    let v6 = |says, length| mtu(&error(2, 0, says, &quote_ipv6(length)));
    assert_eq!([v6(1400, 1500), v6(1280, 1500)], [Some(1400), Some(1280)]);
    assert_eq!([v6(1279, 1500), v6(0, 1500), v6(1500, 1500), v6(65_536 + 1300, 1500)], [None; 4]);
}

/// RFC 1191 section 5 and the table of its section 7.1.
#[test]
fn old_routers_get_the_next_plateau() {
    let table = [
        (65535, 32000),
        (32000, 17914),
        (17914, 8166),
        (9000, 8166),
        (8166, 4352),
        (4352, 2002),
        (2002, 1492),
        (1500, 1492),
        (1492, 1006),
        (1006, 576),
        (600, 576),
    ];
    for (length, plateau) in table {
        assert_eq!(mtu(&error(3, 4, 0, &quote_ipv4(length))), Some(plateau), "{length}");
    }
    assert_eq!(mtu(&error(3, 4, 0, &quote_ipv4(576))), None);
}

#[test]
fn other_errors_say_so_and_other_packets_are_not_ours() {
    for (kind, code) in [(3, 1), (3, 13), (11, 0), (12, 0)] {
        let found = parse(&error(kind, code, 0, &quote_ipv4(1500))).unwrap().unwrap();
        assert_eq!(found.error, QuotedError::Undelivered { kind, code });
    }
    for (kind, code) in [(1, 1), (3, 0), (4, 1)] {
        let found = parse(&error(kind, code, 0, &quote_ipv6(1500))).unwrap().unwrap();
        assert_eq!(found.error, QuotedError::Undelivered { kind, code });
    }
    let ike = [&[0x11, 0x94, 0x11, 0x94, 0, 200, 0, 0][..], &[0; 12]].concat();
    let mut later = quote_ipv4(1500);
    later[7] = 1;
    let not_ours = [
        error(8, 0, 0, &quote_ipv4(1500)),
        error(5, 1, 0, &quote_ipv4(1500)),
        error(3, 4, 1400, &ipv4(TCP, &[], &[0; 20])),
        error(3, 4, 1400, &ipv4(UDP, &[], &ike)),
        error(3, 4, 1400, &later),
        error(128, 0, 0, &quote_ipv6(1500)),
        ipv4(UDP, &[], &[3; 60]),
        ipv4(ICMP, &[], &[]),
    ];
    for packet in not_ours {
        assert_eq!(parse(&packet), Ok(None));
    }
    let message = &error(3, 4, 1400, &quote_ipv4(1500))[20..];
    let mut fragment = ipv4(ICMP, &[], message);
    fragment[6] = 0x20;
    sum_ipv4(&mut fragment[..20]);
    assert_eq!(parse(&fragment), Ok(None), "its checksum cannot be checked");
}

#[test]
fn a_quote_is_of_the_familys_own_kind() {
    // ICMP about an IPv6 packet.
    let mut v4 = error(3, 4, 1400, &quote_ipv4(1500));
    let mut message = v4.split_off(20);
    message.truncate(8);
    message.extend(quote_ipv6(1500));
    message[2..4].fill(0);
    let sum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(parse(&ipv4(ICMP, &[], &message)), Err(Malformed::Version));
}
