//! What routers and transport mode change in a packet, and that nothing in a packet makes anything here panic.

use proptest::prelude::*;

use super::any_packet;
use super::linux::{SYN_IPV4, SYN_IPV6, TOO_BIG, UDP_IPV4_OPTIONS, UDP_IPV6_CHAIN, octets, padded};
use crate::esp::transport::{emit_udp, insert_transport, remove_transport};
use crate::packet::icmp::{self, IcmpError};
use crate::packet::ip::{self, IpHeader};
use crate::packet::ipv4::{ESP, UDP};
use crate::packet::quoted::QuotedEsp;
use crate::packet::udp::{NatTraversal, UdpHeader};
use crate::packet::{tcp, transport};

/// Octets in front of the packet in its buffer, and behind it.
const AROUND: usize = 64;

fn in_buffer(packet: &[u8]) -> Vec<u8> {
    [&[0xee; AROUND][..], packet, &[0xee; AROUND]].concat()
}

proptest! {
    #[test]
    fn hop_limit_and_class_change_and_nothing_else((packet, payload) in any_packet(), class: u8) {
        let mut expected = IpHeader::parse(&packet).unwrap();
        (expected.hop_limit, expected.traffic_class) = (63, class);
        let mut changed = packet.clone();
        ip::decrement_hop_limit(&mut changed);
        ip::set_traffic_class(&mut changed, class);
        let after = IpHeader::parse(&changed).unwrap();
        prop_assert_eq!(after, expected);
        prop_assert_eq!(after.payload(&changed), &payload[..]);
    }

    #[test]
    fn transport_mode_comes_back_to_the_same_packet(
        (packet, _) in any_packet(),
        front in 8_usize..=AROUND,
        behind in 2_usize..=AROUND,
        in_udp: bool,
    ) {
        let protocol = if in_udp { UDP } else { ESP };
        let mut buffer = in_buffer(&packet);
        let header = IpHeader::parse(&packet).unwrap();
        let range = AROUND..AROUND + packet.len();
        let inserted = insert_transport(&mut buffer, range.clone(), header.insertion, protocol, (front, behind)).unwrap();
        prop_assert_eq!(inserted.packet.clone(), range.start - front..range.end + behind);

        let sent = IpHeader::parse(&buffer[inserted.packet.clone()]).unwrap();
        prop_assert_eq!((sent.protocol, sent.header_length), (protocol, header.insertion.offset));
        prop_assert_eq!(sent.total_length, inserted.packet.len());
        prop_assert_eq!((sent.source(), sent.destination()), (header.source(), header.destination()));

        let payload = range.start + header.insertion.offset..range.end;
        prop_assert_eq!(&buffer[payload.clone()], &packet[header.insertion.offset..], "the payload stays");
        let start = inserted.packet.start;
        let removed = remove_transport(&mut buffer, start, &sent, payload, inserted.next_header).unwrap();
        prop_assert_eq!(removed.clone(), range);
        prop_assert_eq!(&buffer[removed], &packet[..]);
    }

    #[test]
    fn transport_mode_in_udp_is_a_right_datagram((packet, _) in any_packet(), behind in 2_usize..=AROUND) {
        let mut buffer = in_buffer(&packet);
        let header = IpHeader::parse(&packet).unwrap();
        let (range, front) = (AROUND..AROUND + packet.len(), 8 + 16);
        let inserted = insert_transport(&mut buffer, range, header.insertion, UDP, (front, behind)).unwrap();
        let sent = inserted.packet;
        emit_udp(&mut buffer, sent.clone(), header.insertion.offset, (4500, 5000), &header).unwrap();
        let sent_header = IpHeader::parse(&buffer[sent.clone()]).unwrap();
        let datagram = UdpHeader::parse(sent_header.payload(&buffer[sent.clone()])).unwrap();
        prop_assert_eq!((datagram.source, datagram.destination), (4500, 5000));
        prop_assert_eq!(datagram.payload.len(), sent.len() - header.insertion.offset - 8);
        let mut repaired = buffer[sent.clone()].to_vec();
        prop_assert_eq!(transport::repair_checksum(&mut repaired, &sent_header), header.is_ipv6());
        prop_assert_eq!(&repaired, &buffer[sent]);
    }

    #[test]
    fn what_does_not_fit_changes_nothing((packet, _) in any_packet()) {
        let mut buffer = in_buffer(&packet);
        let header = IpHeader::parse(&packet).unwrap();
        let range = AROUND..AROUND + packet.len();
        let cases = [(AROUND + 1, 2), (8, AROUND + 1), (8, 65_536), (8, usize::MAX), (usize::MAX, 2)];
        for room in cases {
            let insertion = header.insertion;
            prop_assert_eq!(insert_transport(&mut buffer, range.clone(), insertion, ESP, room), None);
        }
        let end = buffer.len();
        for payload in [range.start..range.end, range.end..end + 1] {
            prop_assert_eq!(remove_transport(&mut buffer, range.start, &header, payload, UDP), None);
        }
        prop_assert_eq!(buffer, in_buffer(&packet));
    }

    #[test]
    fn nothing_panics_on_arbitrary_octets(octets in proptest::collection::vec(any::<u8>(), 0..400), version in 0_u8..3) {
        let mut octets = octets;
        if let Some(first) = octets.first_mut() {
            *first = [*first, 0x45, 0x60][usize::from(version)];
        }
        try_everything(&octets);
    }

    #[test]
    fn nothing_panics_on_damaged_packets(
        which in 0_usize..8,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let known = [SYN_IPV4, SYN_IPV6, UDP_IPV4_OPTIONS, UDP_IPV6_CHAIN].map(octets);
        let mut packet = known.into_iter().chain(TOO_BIG.map(padded)).nth(which).unwrap();
        for (at, value) in damage {
            let at = at.index(packet.len().min(120));
            packet[at] = value;
        }
        // Behind a wrong header checksum nothing else would be reached.
        if packet[0] >> 4 == 4 {
            let header = packet.len().min(usize::from(packet[0] & 15) * 4);
            if header >= 20 {
                super::sum_ipv4(&mut packet[..header]);
            }
        }
        try_everything(&packet);
        try_everything(&packet[..cut.index(packet.len())]);
    }
}

/// Every parser and every change, whatever the packet.
fn try_everything(octets: &[u8]) {
    let _ = IpHeader::parse_quoted(octets);
    let _ = NatTraversal::parse(octets);
    let _ = UdpHeader::parse(octets);
    let Ok(header) = IpHeader::parse(octets) else { return };
    assert!(header.header_length <= header.total_length && header.total_length <= octets.len());
    let packet = &octets[..header.total_length];
    let _ = (header.flow(packet), header.is_forwardable());
    let _ = QuotedEsp::parse(packet, &header);
    for error in [IcmpError::TooBig { mtu: 1280 }, IcmpError::TimeExceeded, IcmpError::Prohibited] {
        let _ = icmp::may_answer(&header, packet, error);
        let mut buffer = in_buffer(packet);
        let (start, length) =
            icmp::emit_around(&mut buffer, AROUND, &header, header.destination(), error).unwrap();
        IpHeader::parse(&buffer[start..start + length]).expect("our own errors are well-formed");
    }
    let mut changed = packet.to_vec();
    tcp::clamp_mss(&mut changed, &header, 1000);
    transport::repair_checksum(&mut changed, &header);
    assert_eq!(IpHeader::parse(&changed), Ok(header), "nothing of the IP header changes");
    let mut buffer = in_buffer(packet);
    let range = AROUND..AROUND + packet.len();
    if insert_transport(&mut buffer, range, header.insertion, ESP, (16, 2)).is_some() {
        IpHeader::parse(&buffer[AROUND - 16..]).expect("only length and protocol change");
    }
}
