//! TCP and UDP inside a packet: segment sizes, checksums, what port 4500 carries.

use proptest::prelude::*;

use super::linux::{SYN_IPV4, SYN_IPV6, UDP_IPV4_OPTIONS, UDP_IPV6, UDP_IPV6_CHAIN, octets};
use super::{V6, ipv4, ipv6};
use crate::packet::ip::IpHeader;
use crate::packet::ipv4::{TCP, UDP};
use crate::packet::tcp::{clamp_mss, mss_within};
use crate::packet::transport::{bits, repair_checksum};
use crate::packet::udp::{self, NatTraversal, UdpHeader};
use crate::packet::{Malformed, checksum, ipv6};

/// Whether the upper layer's checksum is right.
fn is_right(packet: &[u8]) -> bool {
    let header = IpHeader::parse(packet).unwrap();
    let payload = header.payload(packet);
    let sum = header.pseudo_header(header.protocol, payload.len()) + u64::from(checksum::sum(payload));
    checksum::fold(sum) == 0xffff
}

fn clamp(packet: &mut [u8], maximum: u16) -> bool {
    let header = IpHeader::parse(packet).unwrap();
    clamp_mss(packet, &header, maximum)
}

#[test]
fn segment_sizes_of_linux_are_lowered() {
    for (syn, offered) in [(SYN_IPV4, 1460_u16), (SYN_IPV6, 1440)] {
        let before = octets(syn);
        assert!(is_right(&before));
        let mut after = before.clone();
        assert!(!clamp(&mut after, offered), "nothing to lower");
        assert_eq!(after, before);
        assert!(clamp(&mut after, 1234));
        assert!(is_right(&after));
        let tcp = IpHeader::parse(&before).unwrap().header_length;
        let may_change = [tcp + 16, tcp + 17, tcp + 22, tcp + 23];
        assert!((0..before.len()).all(|at| before[at] == after[at] || may_change.contains(&at)));
        assert_eq!(after[tcp + 22..tcp + 24], 1234_u16.to_be_bytes());
        assert!(!clamp(&mut after, 1234));
    }
}

/// A SYN with these options, with its checksum.
fn syn(is_ipv6: bool, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[12] = (5 + options.len() / 4) as u8 * 16;
    segment[13] = 2;
    segment.extend(options);
    segment.extend(payload);
    let mut packet = if is_ipv6 { ipv6(&[], TCP, &segment) } else { ipv4(TCP, &[], &segment) };
    let header = IpHeader::parse(&packet).unwrap();
    assert!(repair_checksum(&mut packet, &header));
    packet
}

#[test]
fn only_a_well_formed_option_of_a_syn_is_touched() {
    let mss = [2, 4, 5, 180];
    let unchanged: [&[u8]; 9] = [
        &[],
        &[0, 0, 0, 0, 2, 4, 5, 180],
        &[2, 3, 5, 180],
        &[2, 5, 5, 180, 1, 0, 0, 0],
        &[1, 2, 4, 5],
        &[3, 0, 0, 0, 2, 4, 5, 180],
        &[3, 1, 2, 4, 5, 180, 0, 0],
        &[3, 200, 0, 0, 2, 4, 5, 180],
        &[1, 1, 1, 2],
    ];
    for options in unchanged {
        let before = syn(false, options, &mss);
        let mut after = before.clone();
        assert!(!clamp(&mut after, 100), "{options:?}");
        assert_eq!(after, before);
    }
    let mut established = syn(false, &mss, &[]);
    established[20 + 13] = 0x10;
    assert!(!clamp(&mut established, 100), "not a SYN");
    let mut short = syn(false, &mss, &[]);
    short[20 + 12] = 0xf0;
    assert!(!clamp(&mut short, 100), "the header runs out of the packet");
    assert!(!clamp(&mut ipv4(UDP, &[], &syn(false, &mss, &[])[20..]), 100), "not TCP");
}

/// RFC 9293 section 3.7.1: Linux offers what its MTU of 1,500 has room for.
#[test]
fn segments_fit_their_packets() {
    assert_eq!([mss_within(1500, false), mss_within(1500, true)], [1460, 1440]);
    assert_eq!([mss_within(39, false), mss_within(60, true)], [0, 0]);
}

#[test]
fn checksums_of_linux_come_out_again() {
    for packet in [SYN_IPV4, SYN_IPV6, UDP_IPV4_OPTIONS, UDP_IPV6, UDP_IPV6_CHAIN] {
        let before = octets(packet);
        let header = IpHeader::parse(&before).unwrap();
        let at = header.header_length + if header.protocol == TCP { 16 } else { 6 };
        let mut after = before.clone();
        after[at] ^= 0x5a;
        assert!(repair_checksum(&mut after, &header));
        assert_eq!(after, before);
    }
}

#[test]
fn no_checksum_stays_none_and_bounds_hold() {
    let unchanged = [
        ipv4(UDP, &[], &[0, 1, 0, 2, 0, 12, 0, 0, 1, 2, 3, 4]),
        ipv4(UDP, &[], &[0, 1, 0, 2, 0, 13, 9, 9, 1, 2, 3, 4]),
        ipv4(UDP, &[], &[0, 1, 0, 2, 0, 7, 9, 9, 1, 2, 3, 4]),
        ipv4(UDP, &[], &[0, 1, 0, 2, 0, 8]),
        ipv4(TCP, &[], &[1; 19]),
        ipv4(47, &[], &[1; 40]),
        ipv4(ipv6::ICMP, &[], &[1; 40]),
        ipv6(&[(super::FRAGMENT, super::fragment(1))], UDP, &[1; 40]),
        ipv6(&[(super::FRAGMENT, super::fragment(8))], UDP, &[1; 40]),
    ];
    for before in unchanged {
        let mut after = before.clone();
        let header = IpHeader::parse(&before).unwrap();
        assert!(!repair_checksum(&mut after, &header));
        assert_eq!(after, before);
    }
    // What follows the UDP datagram in its packet is not part of it (RFC 768).
    let mut long = ipv4(UDP, &[], &[0, 1, 0, 2, 0, 10, 9, 9, 1, 2, 3, 4]);
    let header = IpHeader::parse(&long).unwrap();
    assert!(repair_checksum(&mut long, &header));
    let sum = header.pseudo_header(UDP, 10) + u64::from(checksum::sum(&long[20..30]));
    assert_eq!(checksum::fold(sum), 0xffff);
}

#[test]
fn a_udp_checksum_of_zero_goes_as_ones() {
    // The last word makes the sum what it must be for that.
    let mut datagram = [0, 1, 0, 2, 0, 10, 0, 1, 0, 0];
    let packet = ipv4(UDP, &[], &datagram);
    let header = IpHeader::parse(&packet).unwrap();
    datagram[6..8].fill(0);
    let rest = !checksum::fold(header.pseudo_header(UDP, 10) + u64::from(checksum::sum(&datagram)));
    datagram[6..].copy_from_slice(&[&[0, 1][..], &rest.to_be_bytes()].concat());
    let mut packet = ipv4(UDP, &[], &datagram);
    assert!(repair_checksum(&mut packet, &header));
    assert_eq!(packet[26..28], [0xff, 0xff]);
    assert!(is_right(&packet));
}

#[test]
fn udp_is_emitted_as_linux_does() {
    let linux = octets(UDP_IPV6);
    let mut datagram = [&[0; 8][..], b"hello, world"].concat();
    let addresses = (bits(V6[0].into()), bits("2001:db8:1::9".parse().unwrap()));
    udp::emit(&mut datagram, (4500, 4500), Some(addresses)).unwrap();
    assert_eq!(datagram, linux[40..]);
    udp::emit(&mut datagram, (1, 2), None).unwrap();
    assert_eq!(datagram[..8], [0, 1, 0, 2, 0, 20, 0, 0]);
    let header = UdpHeader::parse(&datagram).unwrap();
    assert_eq!((header.source, header.destination, header.payload), (1, 2, &b"hello, world"[..]));
    assert_eq!(udp::emit(&mut [0; 7], (1, 2), None), None);
    assert_eq!(udp::emit(&mut vec![0; 65_536], (1, 2), None), None);
}

/// RFC 3948 sections 2.1 to 2.3.
#[test]
fn port_4500_carries_three_things() {
    assert_eq!(NatTraversal::parse(&[0xff]), Ok(NatTraversal::KeepAlive));
    assert_eq!(NatTraversal::parse(&[0, 0, 0, 0, 9, 9]), Ok(NatTraversal::Ike(&[9, 9])));
    let esp = [0, 0, 1, 0, 0, 0, 0, 1, 5];
    assert_eq!(NatTraversal::parse(&esp), Ok(NatTraversal::Esp(&esp)));
    for short in [&[][..], &[0xfe], &[0xff, 0xff], &[0, 0, 0], &esp[..7]] {
        assert_eq!(NatTraversal::parse(short), Err(Malformed::Truncated), "{short:?}");
    }
}

proptest! {
    #[test]
    fn an_option_anywhere_is_lowered_and_summed(
        before in proptest::collection::vec(prop_oneof![Just(vec![1]), Just(vec![4, 2]), Just(vec![3, 3, 7])], 0..6),
        offered: u16,
        maximum: u16,
        is_ipv6: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        let mut options = before.concat();
        let at = options.len() + 2;
        options.extend([2, 4]);
        options.extend(offered.to_be_bytes());
        options.resize(options.len().next_multiple_of(4), 0);
        let mut packet = syn(is_ipv6, &options, &payload);
        prop_assert!(is_right(&packet));
        prop_assert_eq!(clamp(&mut packet, maximum), offered > maximum);
        let at = IpHeader::parse(&packet).unwrap().header_length + 20 + at;
        prop_assert_eq!(&packet[at..at + 2], &offered.min(maximum).to_be_bytes()[..]);
        prop_assert!(is_right(&packet));
    }

    #[test]
    fn another_address_is_repaired(payload in proptest::collection::vec(any::<u8>(), 20..90), protocol_is_tcp: bool) {
        let mut datagram = payload;
        let length = datagram.len() as u16;
        datagram[4..6].copy_from_slice(&length.to_be_bytes());
        datagram[7] |= 1;
        let mut packet = ipv6(&[], if protocol_is_tcp { TCP } else { UDP }, &datagram);
        packet[20] ^= 0xff;
        let header = IpHeader::parse(&packet).unwrap();
        prop_assert!(repair_checksum(&mut packet, &header));
        prop_assert!(is_right(&packet));
    }
}
