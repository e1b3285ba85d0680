//! Every parser of foreign headers: no panic, lengths that lie within what was given, and changes that keep a packet a
//! packet.
#![no_main]

use baton_dataplane::esp::transport::{insert_transport, remove_transport};
use baton_dataplane::packet::esp::EspHeader;
use baton_dataplane::packet::ethernet::EthernetHeader;
use baton_dataplane::packet::icmp::{self, IcmpError};
use baton_dataplane::packet::ip::{self, IpHeader};
use baton_dataplane::packet::quoted::QuotedEsp;
use baton_dataplane::packet::udp::{NatTraversal, UdpHeader};
use baton_dataplane::packet::{ipv4, tcp, transport};
use libfuzzer_sys::fuzz_target;

/// Octets in front of the packet where headers are put there, and behind it.
const AROUND: usize = 64;

fuzz_target!(|input: &[u8]| {
    let link = EthernetHeader::parse(input);
    let packet = link.map_or(input, |link| {
        assert!(link.length <= input.len());
        &input[link.length..]
    });
    let _ = IpHeader::parse_quoted(packet);
    let Ok(header) = IpHeader::parse(packet) else { return };
    assert!(header.header_length <= header.total_length && header.total_length <= packet.len());
    let packet = &packet[..header.total_length];
    let _ = (header.flow(packet), header.is_forwardable());
    let _ = QuotedEsp::parse(packet, &header);
    look_inside(header.payload(packet));
    change(packet, &header);
    answer(packet, &header);
    to_transport_mode_and_back(packet, &header);
});

fn look_inside(payload: &[u8]) {
    let _ = EspHeader::parse(payload);
    if let Ok(udp) = UdpHeader::parse(payload) {
        assert!(udp.payload.len() + 8 <= payload.len());
        let _ = NatTraversal::parse(udp.payload);
    }
}

/// What a router changes keeps the header right.
fn change(packet: &[u8], header: &IpHeader) {
    let mut changed = packet.to_vec();
    ip::set_traffic_class(&mut changed, header.traffic_class ^ 3);
    if header.hop_limit > 1 {
        ip::decrement_hop_limit(&mut changed);
    }
    tcp::clamp_mss(&mut changed, header, 1000);
    transport::repair_checksum(&mut changed, header);
    let after = IpHeader::parse(&changed).expect("only ECN, hop limit and the upper layer changed");
    assert_eq!(after.traffic_class, header.traffic_class ^ 3);
    assert_eq!(changed.len(), packet.len());
}

fn answer(packet: &[u8], header: &IpHeader) {
    for error in [IcmpError::TooBig { mtu: 1280 }, IcmpError::TimeExceeded, IcmpError::Prohibited] {
        let _ = icmp::may_answer(header, packet, error);
        let mut buffer = [&[0; AROUND][..], packet].concat();
        let (start, length) = icmp::emit_around(&mut buffer, AROUND, header, header.destination(), error)
            .expect("there is room in front");
        let sent = &buffer[start..start + length];
        let sent_header = IpHeader::parse(sent).expect("our own errors are well-formed");
        assert!(!icmp::may_answer(&sent_header, sent, error));
    }
}

fn to_transport_mode_and_back(packet: &[u8], header: &IpHeader) {
    let mut buffer = [&[0; AROUND][..], packet, &[0; AROUND]].concat();
    let range = AROUND..AROUND + packet.len();
    let insertion = header.insertion;
    let inserted = insert_transport(&mut buffer, range.clone(), insertion, ipv4::ESP, (16, 18));
    let Some(inserted) = inserted else { return };
    let sent = IpHeader::parse(&buffer[inserted.packet.clone()]).expect("only length and protocol changed");
    let payload = range.start + insertion.offset..range.end;
    let removed = remove_transport(&mut buffer, inserted.packet.start, &sent, payload, inserted.next_header);
    assert_eq!(removed, Some(range.clone()));
    // A checksum of 0xffff may have become the 0 that it is in one's complement.
    let same = &buffer[range];
    assert_eq!((IpHeader::parse(same), &same[12..]), (Ok(*header), &packet[12..]));
}
