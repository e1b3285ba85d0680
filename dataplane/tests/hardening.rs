//! What a hostile peer, inner host or stranger tries against the pipeline beyond malformed packets.

mod common;

use baton_dataplane::crypto::{Backend, Engine, Job};
use baton_dataplane::events::Event;
use baton_dataplane::io::Side;
use baton_dataplane::packet::checksum::checksum;
use baton_dataplane::packet::ip::IpHeader;
use baton_dataplane::worker::Command;
use baton_sad::{Bounds, Direction, Lifetime, Mode, Sa};
use common::{Gateway, HOST, OUTER, Packet, SPI, Setup, UNIX_SECONDS, pair};
use proptest::prelude::*;

const ETH: usize = 14;
const IPIP: u8 = 4;

/// A frame for B with this payload, TFC padding left out, authentic under A's key.
fn authentic(setup: &Setup, sequence: u32, payload: &[u8], next_header: u8) -> Vec<u8> {
    let sa = common::sa(setup, 0, Direction::Outbound, 0);
    let header = [sa.spi.to_be_bytes(), sequence.to_be_bytes()].concat();
    let pad = (payload.len() + 2).next_multiple_of(4) - payload.len() - 2;
    let trailer: Vec<u8> = (1..=pad as u8).chain([pad as u8, next_header]).collect();
    let mut esp = [&header[..], &[0; 8], payload, &trailer, &[0; 16]].concat();
    let mut engine = Engine::new(Backend::RustCrypto).unwrap();
    let key = engine.prepare(sa.suite, sa.extended_sequence, sa.key.expose()).unwrap();
    engine.seal(&mut [Job::to_seal(&key, u64::from(sequence), u64::from(sequence), &mut esp)]);
    outer_frame(&sa, &esp)
}

fn outer_frame(sa: &Sa, esp: &[u8]) -> Vec<u8> {
    let headers = if sa.source.is_ipv6() { 40 } else { 20 };
    let (protocol, udp) = match sa.encapsulation {
        None => (50, vec![]),
        Some(_) => {
            let words = [4500, 4500, 8 + esp.len() as u16, 0];
            (17, words.iter().flat_map(|word| word.to_be_bytes()).collect())
        }
    };
    let length = (headers + udp.len() + esp.len()) as u16;
    let (source, destination) = (sa.source, sa.destination);
    let outer = Packet { source, destination, protocol, ..Packet::from(0, length) };
    [&outer.frame()[..ETH + headers], &udp, esp].concat()
}

/// An IPv4 packet with these options.
fn with_options(packet: &Packet, options: &[u8]) -> Vec<u8> {
    let plain = packet.octets();
    let mut octets = [&plain[..20], options, &plain[20..]].concat();
    octets[0] += (options.len() / 4) as u8;
    let length = octets.len() as u16;
    octets[2..4].copy_from_slice(&length.to_be_bytes());
    octets[10..12].fill(0);
    let sum = checksum(&octets[..20 + options.len()]);
    octets[10..12].copy_from_slice(&sum.to_be_bytes());
    octets
}

/// A pair whose selectors and policies are for any IPv4 packet.
fn open_pair() -> [Gateway; 2] {
    let setup = Setup::default();
    let gateways = pair(&setup);
    let all = baton_sad::AddressRange::new([0; 4].into(), [255; 4].into()).unwrap();
    let selector = baton_sad::Selector::addresses(all, all);
    for gateway in &gateways {
        for direction in [Direction::Inbound, Direction::Outbound] {
            let mut sa = common::sa(&setup, gateway.end, direction, 0);
            sa.selectors = baton_sad::Selectors::new(vec![selector.clone()]).unwrap();
            gateway.table.update(&sa).unwrap();
        }
        let policy = baton_dataplane::spd::Policy {
            name: "all".into(),
            priority: 0,
            selector: selector.clone(),
            action: baton_dataplane::spd::Action::Protect { reqid: common::REQID },
        };
        gateway.spd.store(std::sync::Arc::new(baton_dataplane::spd::Spd::new(vec![policy])));
    }
    gateways
}

/// RFC 1812 section 5.3.7: a router passes on neither what is loopback's nor what is one link's, whatever the selectors
/// of a tunnel allow: neither into it nor out of it.
#[test]
fn a_tunnel_carries_nothing_that_no_router_forwards() {
    let near: [[u8; 4]; 5] = [[127, 0, 0, 1], [169, 254, 0, 1], [0, 0, 0, 0], [255; 4], [224, 0, 0, 5]];
    for address in near {
        let [mut a, mut b] = open_pair();
        let to = Packet { destination: address.into(), ..Packet::from(0, 60) };
        let from = Packet { source: address.into(), ..Packet::from(0, 60) };
        for (sequence, packet) in (1..).zip([&to, &from]) {
            a.receive(Side::Inner, &packet.frame());
            b.receive(Side::Outer, &authentic(&Setup::default(), sequence, &packet.octets(), IPIP));
        }
        assert!(a.sent(Side::Outer).is_empty() && b.sent(Side::Inner).is_empty(), "{address:?}");
        assert_eq!((a.drops(), b.drops()), (vec![("not-forwardable", 2)], vec![("not-forwardable", 2)]));
    }
    let [mut a, _] = open_pair();
    a.seal(&Packet { destination: [239, 1, 2, 3].into(), ..Packet::from(0, 60) }.frame());
}

/// A source route leads elsewhere than the selectors saw.
#[test]
fn source_routes_are_refused_on_both_sides() {
    for kind in [131, 137] {
        let [mut a, mut b] = pair(&Setup::default());
        let route = [kind, 7, 4, 192, 0, 2, 99, 0];
        let packet = with_options(&Packet::from(0, 60), &route);
        a.receive(Side::Inner, &common::ethernet(&packet));
        b.receive(Side::Outer, &authentic(&Setup::default(), 1, &packet, IPIP));
        assert!(a.sent(Side::Outer).is_empty() && b.sent(Side::Inner).is_empty());
        assert_eq!((a.drops(), b.drops()), (vec![("ip-options", 1)], vec![("inner-malformed", 1)]));
    }
    let [mut a, _] = pair(&Setup::default());
    let record_route = [7, 7, 4, 0, 0, 0, 0, 0];
    a.seal(&common::ethernet(&with_options(&Packet::from(0, 60), &record_route)));
}

fn with_hard_packets(packets: u64) -> Setup {
    let hard = Bounds { packets, ..Bounds::default() };
    Setup { lifetime: Lifetime { hard, ..Lifetime::default() }, ..Setup::default() }
}

#[test]
fn a_hard_bound_holds_within_a_batch_in_both_directions() {
    let setup = with_hard_packets(3);
    let [mut a, _] = pair(&setup);
    let mut b = Gateway::new(1, &setup);
    for sequence in 1..=10 {
        assert!(a.workers[0].io().inject(Side::Inner, &Packet::from(0, 60).frame()));
        let frame = authentic(&setup, sequence, &Packet::from(0, 60).octets(), IPIP);
        assert!(b.workers[0].io().inject(Side::Outer, &frame));
    }
    a.run();
    b.run();
    assert_eq!((a.sent(Side::Outer).len(), a.drops()), (3, vec![("lifetime-over", 7)]));
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (3, vec![("lifetime-over", 7)]));
    assert!(matches!(b.events.next(), Some(Event::HardLimit(name)) if name.spi == SPI[1]));
    assert_eq!(b.events.next(), None, "told once");
}

#[test]
fn dummy_packets_end_with_their_sa() {
    let over = Bounds { expires_at: UNIX_SECONDS, ..Bounds::default() };
    for (lifetime, passes) in [
        (Lifetime::default(), 6),
        (Lifetime { hard: over, ..Lifetime::default() }, 0),
        (with_hard_packets(2).lifetime, 2),
    ] {
        let mut a = Gateway::new(0, &Setup { lifetime, ..Setup::default() });
        let handle = a.table.lookup(Direction::Outbound, common::REQID).unwrap();
        for _ in 0..6 {
            assert!(a.rings.command(Command::Dummy(handle)));
        }
        a.run();
        assert_eq!(a.sent(Side::Outer).len(), passes, "{lifetime:?}: {:?}", a.drops());
    }
}

/// An ICMP error, which nobody signs, about an ESP packet with this SPI.
fn forged_too_big(spi: u32) -> Vec<u8> {
    let sent = Packet {
        source: OUTER[1].into(),
        destination: OUTER[0].into(),
        protocol: 50,
        ..Packet::from(1, 1500)
    };
    let quote = [&sent.octets()[..20], &spi.to_be_bytes(), &[0, 0, 0, 1]].concat();
    let mut message = [&[3, 4, 0, 0, 0, 0, 4, 0][..], &quote].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let router = Packet {
        source: [192, 0, 2, 77].into(),
        destination: OUTER[1].into(),
        protocol: 1,
        ..Packet::from(0, 20 + message.len() as u16)
    };
    [&router.frame()[..ETH + 20], &message].concat()
}

/// Neither strangers who forge ICMP errors nor a peer that ignores its selectors keep the news about another tunnel from
/// the control plane.
#[test]
fn a_flood_of_one_kind_of_event_does_not_silence_another() {
    let soft = Bounds { packets: 1, ..Bounds::default() };
    let setup = Setup { lifetime: Lifetime { soft, ..Lifetime::default() }, tunnels: 2, ..Setup::default() };
    let mut b = Gateway::new(1, &setup);
    let outside = Packet { source: [192, 0, 2, 1].into(), ..Packet::from(0, 60) };
    for sequence in 1..=2000 {
        b.receive(Side::Outer, &forged_too_big(sequence));
        b.receive(Side::Outer, &authentic(&setup, sequence, &outside.octets(), IPIP));
    }
    let in_other_tunnel =
        Packet { source: [10, 2, 1, 10].into(), destination: [10, 1, 1, 10].into(), ..Packet::from(1, 60) };
    for _ in 0..3 {
        b.receive(Side::Inner, &in_other_tunnel.frame());
    }
    let told: Vec<_> = std::iter::from_fn(|| b.events.next()).collect();
    let limits =
        told.iter().filter(|event| matches!(event, Event::SoftLimit(name) if name.reqid == 8)).count();
    assert_eq!(limits, 1);
    assert!(told.iter().any(|event| matches!(event, Event::TooBig { .. })));
    assert!(told.iter().any(|event| matches!(event, Event::SelectorViolation { .. })));
    assert!(told.len() < 500, "{}", told.len());
}

/// RFC 4303 section 3.1.1: transport mode is for whole packets; here ESP hides a fragment header.
#[test]
fn transport_mode_brings_no_fragments() {
    let setup = Setup { mode: Mode::Transport, outer_ipv6: true, inner_ipv6: true, ..Setup::default() };
    for (offset_and_flag, passes) in [([0, 0], true), ([0, 1], false), ([0, 8], false)] {
        let mut b = Gateway::new(1, &setup);
        let fragment = [&[17, 0][..], &offset_and_flag, &[0, 0, 0, 9], &[0, 9, 0, 9, 0, 8, 0, 0]].concat();
        b.receive(Side::Outer, &authentic(&setup, 1, &fragment, 44));
        let expected = if passes { vec![] } else { vec![("inner-malformed", 1)] };
        assert_eq!((b.sent(Side::Inner).len(), b.drops()), (usize::from(passes), expected));
    }
}

/// Transport mode is between the SA's own ends, even if its selectors say more.
#[test]
fn transport_mode_seals_for_its_ends_only() {
    let setup = Setup { mode: Mode::Transport, ..Setup::default() };
    let mut a = Gateway::new(0, &setup);
    let wide = baton_sad::AddressRange::new([0; 4].into(), [255; 4].into()).unwrap();
    let selector = baton_sad::Selector::addresses(wide, wide);
    let mut sa = common::sa(&setup, 0, Direction::Outbound, 0);
    sa.selectors = baton_sad::Selectors::new(vec![selector.clone()]).unwrap();
    a.table.update(&sa).unwrap();
    let action = baton_dataplane::spd::Action::Protect { reqid: common::REQID };
    let policy = baton_dataplane::spd::Policy { name: "wide".into(), priority: 0, selector, action };
    a.spd.store(std::sync::Arc::new(baton_dataplane::spd::Spd::new(vec![policy])));
    a.seal(&setup.packet(0, 60).frame());
    a.receive(Side::Inner, &Packet { destination: HOST[1].into(), ..setup.packet(0, 60) }.frame());
    a.receive(Side::Inner, &Packet { source: HOST[0].into(), ..setup.packet(0, 60) }.frame());
    assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("selectors", 2)]));
}

/// What follows a datagram in its IP packet is not the datagram's (RFC 768), so not ESP's either.
#[test]
fn octets_behind_a_datagram_are_no_part_of_its_esp() {
    let setup = Setup { encapsulated: true, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    let mut frame = a.seal(&Packet::from(0, 60).frame());
    frame.extend([0; 3]);
    let length = (frame.len() - ETH) as u16;
    frame[ETH + 2..ETH + 4].copy_from_slice(&length.to_be_bytes());
    frame[ETH + 10..ETH + 12].fill(0);
    let sum = checksum(&frame[ETH..ETH + 20]);
    frame[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
    b.receive(Side::Outer, &frame);
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (1, vec![]));
}

/// The first fragment of a datagram is shorter than its UDP header says; a policy that lets it in sees both alike.
#[test]
fn fragments_of_clear_datagrams_are_the_policys() {
    let mut b = Gateway::new(1, &Setup::default());
    let datagram = |more: u8, offset: u8| {
        let clear =
            Packet { source: [192, 0, 2, 5].into(), destination: HOST[1].into(), ..Packet::from(0, 60) };
        let mut octets = clear.octets();
        (octets[6], octets[7]) = (more, offset);
        octets[20..28].copy_from_slice(&[0, 53, 0x30, 0x39, 5, 0, 0, 0]);
        octets[10..12].fill(0);
        let sum = checksum(&octets[..20]);
        octets[10..12].copy_from_slice(&sum.to_be_bytes());
        common::ethernet(&octets)
    };
    b.receive(Side::Outer, &datagram(0x20, 0));
    b.receive(Side::Outer, &datagram(0, 5));
    assert_eq!(b.drops(), [("no-policy", 2)]);
}

/// I7: a policy protects one port and a later one lets the rest out in clear. Fragments that show no ports may be
/// parts of what is protected.
#[test]
fn i7_fragments_of_what_is_protected_do_not_leave_in_clear() {
    let setup = Setup::default();
    let all = baton_sad::AddressRange::new([0; 4].into(), [255; 4].into()).unwrap();
    let any = baton_sad::Selector::addresses(all, all);
    let https = baton_sad::Selector { protocol: Some(6), remote_ports: 443..=443, ..any.clone() };
    let policy = |name: &str, priority, selector, action| baton_dataplane::spd::Policy {
        name: name.into(),
        priority,
        selector,
        action,
    };
    let protect = baton_dataplane::spd::Action::Protect { reqid: common::REQID };
    let bypass = baton_dataplane::spd::Action::Bypass(baton_dataplane::spd::Ways::Both);
    let mut a = Gateway::new(0, &setup);
    let policies = vec![policy("https", 1, https, protect), policy("rest", 2, any, bypass)];
    a.spd.store(std::sync::Arc::new(baton_dataplane::spd::Spd::new(policies)));
    // Of TCP: port 80, port 443, a later fragment, a first fragment too short for its ports; of UDP and ESP: later ones.
    for (protocol, fragment, ports, length, is_clear) in [
        (6, [0, 0], [0x30, 0x39, 0, 80], 60, true),
        (6, [0, 0], [0x30, 0x39, 1, 0xbb], 60, false),
        (6, [0x20, 0], [0x30, 0x39, 0, 80], 22, false),
        (6, [0, 9], [0x30, 0x39, 0, 80], 60, false),
        (17, [0, 9], [0; 4], 60, true),
        (50, [0, 9], [0; 4], 60, true),
    ] {
        let mut octets = Packet { protocol, ..Packet::from(0, length) }.octets();
        octets[6..8].copy_from_slice(&fragment);
        octets[10..12].fill(0);
        let sum = checksum(&octets[..20]);
        octets[10..12].copy_from_slice(&sum.to_be_bytes());
        let shown = octets.len().min(24) - 20;
        octets[20..20 + shown].copy_from_slice(&ports[..shown]);
        a.receive(Side::Inner, &common::ethernet(&octets));
        let clear = a.sent(Side::Outer).iter().filter(|frame| frame.ends_with(&octets[20..])).count();
        assert_eq!(clear, usize::from(is_clear), "{protocol} {fragment:?} {length}");
    }
    assert_eq!(a.drops(), [("hidden-ports", 2)]);
}

/// Replaces the outer source of an IPv4 frame.
fn from_elsewhere(frame: &[u8], source: [u8; 4], port: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[ETH + 12..ETH + 16].copy_from_slice(&source);
    frame[ETH + 20..ETH + 22].copy_from_slice(&port.to_be_bytes());
    frame[ETH + 10..ETH + 12].fill(0);
    let sum = checksum(&frame[ETH..ETH + 20]);
    frame[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Who can hold a packet back on its way can send it on from any source; ours then go there.
#[test]
fn a_peer_does_not_move_to_where_no_host_is() {
    let [mut a, mut b] = pair(&Setup { encapsulated: true, ..Setup::default() });
    let sealed = a.seal(&Packet::from(0, 60).frame());
    for (source, port) in [
        ([127, 0, 0, 1], 4500),
        ([255; 4], 4500),
        ([224, 0, 0, 1], 4500),
        ([239, 1, 1, 1], 4500),
        ([192, 0, 2, 7], 0),
    ] {
        b.receive(Side::Outer, &from_elsewhere(&sealed, source, port));
    }
    assert_eq!(
        (b.sent(Side::Inner).len(), b.drops(), b.events.next()),
        (0, vec![("outer-address", 5)], None)
    );
    b.receive(Side::Outer, &from_elsewhere(&sealed, [192, 0, 2, 7], 4501));
    assert_eq!(b.sent(Side::Inner).len(), 1);
    let moved = Event::PeerMoved { spi: SPI[1], address: [192, 0, 2, 7].into(), port: 4501 };
    assert_eq!(b.events.next(), Some(moved));
}

/// Whatever says that the path's MTU is next to nothing, packets of the least size pass.
#[test]
fn a_tiny_path_mtu_is_not_believed() {
    for (outer_ipv6, least) in [(false, 576), (true, 1280)] {
        let setup = Setup { outer_ipv6, path_mtu: 1, ..Setup::default() };
        let mut a = Gateway::new(0, &setup);
        let handle = a.table.lookup(Direction::Outbound, common::REQID).unwrap();
        a.table.slot(handle).unwrap().learn_path_mtu(0, u64::MAX);
        let sealed = a.seal(&Packet { dont_fragment: true, ..Packet::from(0, 500) }.frame());
        assert!(sealed.len() <= ETH + least);
        a.receive(Side::Inner, &Packet { dont_fragment: true, ..Packet::from(0, least as u16) }.frame());
        let told = a.sent_one(Side::Inner);
        let mtu = usize::from(u16::from_be_bytes([told[ETH + 26], told[ETH + 27]]));
        assert!((least - 80..least).contains(&mtu), "{mtu}");
    }
}

/// An answer to a group's address would be everybody's.
#[test]
fn no_answer_goes_to_a_group() {
    let mut a = Gateway::new(0, &Setup::default());
    let mut frame = Packet { ttl: 1, ..Packet::from(0, 60) }.frame();
    a.receive(Side::Inner, &frame);
    frame[6..12].fill(0xff);
    a.receive(Side::Inner, &frame);
    assert_eq!((a.sent(Side::Inner).len(), a.drops()), (1, vec![("ttl-expired", 2)]));
}

fn shapes() -> impl Strategy<Value = Setup> {
    let shape = |(transport, outer_ipv6, inner_ipv6, encapsulated)| Setup {
        mode: if transport { Mode::Transport } else { Mode::Tunnel },
        outer_ipv6,
        inner_ipv6: if transport { outer_ipv6 } else { inner_ipv6 },
        encapsulated,
        ..Setup::default()
    };
    any::<(bool, bool, bool, bool)>().prop_map(shape)
}

/// Octets to be put anywhere into a packet.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)
}

fn changed(mut octets: Vec<u8>, changes: &[(prop::sample::Index, u8)], length: usize) -> Vec<u8> {
    octets.truncate(length);
    for (index, octet) in changes.iter().filter(|_| length > 0) {
        let at = index.index(octets.len());
        octets[at] = *octet;
    }
    if octets.len() >= 20 && octets[0] >> 4 == 4 {
        let header = (usize::from(octets[0] & 15) * 4).clamp(20, octets.len());
        octets[10..12].fill(0);
        let sum = checksum(&octets[..header]);
        octets[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    octets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A peer has the key, so it can put anything behind it: what comes out of the tunnel is a whole packet that its
    /// selectors allow, or nothing.
    #[test]
    fn what_an_authentic_peer_sends_is_within_its_selectors_or_dropped(
        setup in shapes(),
        next_header in prop::sample::select(vec![0_u8, 1, 4, 6, 17, 41, 43, 44, 50, 58, 59, 60, 255]),
        changes in changes(),
        length in 0_usize..120,
        upper_layer: bool,
    ) {
        let packet = setup.packet(0, 100).octets();
        let skipped = if upper_layer { packet.len() - 60 } else { 0 };
        let payload = changed(packet[skipped..].to_vec(), &changes, length.min(packet.len() - skipped));
        let mut b = Gateway::new(1, &setup);
        b.receive(Side::Outer, &authentic(&setup, 1, &payload, next_header));
        let sent = b.sent(Side::Inner);
        prop_assert!(b.sent(Side::Outer).is_empty());
        prop_assert_eq!(sent.len() as u64 + b.drops().iter().map(|(_, count)| count).sum::<u64>(), 1);
        for frame in sent {
            let header = IpHeader::parse(&frame[ETH..]).unwrap();
            prop_assert_eq!(header.total_length, frame.len() - ETH);
            let sa = common::sa(&setup, 1, Direction::Inbound, 0);
            let is_selected = |selector: &baton_sad::Selector| {
                selector.remote.contains(header.source()) && selector.local.contains(header.destination())
            };
            prop_assert!(sa.selectors.iter().any(is_selected));
        }
    }

    /// What an inner host sends leaves sealed, from our address to the peer's, or not at all; answers go back to it.
    #[test]
    fn what_an_inner_host_sends_leaves_sealed_or_not_at_all(
        setup in shapes(),
        changes in changes(),
        length in 0_usize..200,
    ) {
        let packet = changed(setup.packet(0, 200).octets(), &changes, length);
        let mut a = Gateway::new(0, &setup);
        let first = packet.first().map_or(0, |first| first >> 4);
        let ethertype = if first == 6 { [0x86, 0xdd] } else { [8, 0] };
        a.receive(Side::Inner, &[&[2, 0, 0, 0, 9, 1, 2, 0, 0, 0, 9, 2], &ethertype[..], &packet].concat());
        for frame in a.sent(Side::Outer) {
            let header = IpHeader::parse(&frame[ETH..]).unwrap();
            prop_assert!(header.is_between(setup.outer(0), setup.outer(1)));
            prop_assert_eq!(header.protocol, if setup.encapsulated { 17 } else { 50 });
            let mut b = Gateway::new(1, &setup);
            b.receive(Side::Outer, &frame);
            prop_assert_eq!(b.drops().iter().filter(|(reason, _)| *reason == "bad-icv").count(), 0);
        }
    }
}
