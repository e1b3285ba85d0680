//! Every parser of foreign headers: no panic, and lengths that lie within what was given.
#![no_main]

use baton_dataplane::packet::esp::EspHeader;
use baton_dataplane::packet::ethernet::EthernetHeader;
use baton_dataplane::packet::icmp;
use baton_dataplane::packet::ipv4::{self, Ipv4Header};
use baton_dataplane::packet::ipv6::Ipv6Header;
use baton_dataplane::packet::transport::Flow;
use baton_dataplane::packet::udp::UdpHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let link = EthernetHeader::parse(input);
    let packet = link.map_or(input, |link| {
        assert!(link.length <= input.len());
        &input[link.length..]
    });
    let _ = Ipv6Header::parse(packet);
    let Ok(header) = Ipv4Header::parse(packet) else { return };
    assert!(header.header_length <= header.total_length && header.total_length <= packet.len());
    let _ = Flow::of(&header, packet);
    let _ = icmp::may_answer(&header, packet);
    let payload = &packet[header.header_length..header.total_length];
    let _ = EspHeader::parse(payload);
    if let Ok(udp) = UdpHeader::parse(payload) {
        assert!(udp.payload.len() + 8 <= payload.len());
    }

    // What a router changes keeps the header right.
    let mut changed = packet.to_vec();
    ipv4::set_traffic_class(&mut changed, header.traffic_class ^ 3);
    if header.ttl > 1 {
        ipv4::decrement_ttl(&mut changed);
    }
    let after = Ipv4Header::parse(&changed).expect("only ECN and TTL changed");
    assert_eq!(after.traffic_class, header.traffic_class ^ 3);
});
