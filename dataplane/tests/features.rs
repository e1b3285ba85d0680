//! What the data plane does beside sealing and opening: policies, path MTUs, ICMP, keep-alives, dummies, padding.

mod common;

use std::sync::Arc;

use baton_dataplane::events::Event;
use baton_dataplane::io::Side;
use baton_dataplane::next_hop::{Mac, NextHops, SideHops, Via};
use baton_dataplane::packet::announcement::{Form, announcement};
use baton_dataplane::packet::checksum;
use baton_dataplane::packet::ip::IpHeader;
use baton_dataplane::packet::udp::UdpHeader;
use baton_dataplane::spd::{Action, Policy, Way, Ways};
use baton_dataplane::worker::{Command, monotonic_ns};
use baton_sad::{Direction, Mode, Selector, TfcPadding};
use common::{Gateway, HOST6, INNER6, OUTER, OUTER6, Packet, REQID, SPI, Setup, pair};

const ETH: usize = 14;
const ESP_HEADER: usize = 8;

/// The gateway's policies, and one that is tried before them.
fn with_policy(gateway: &Gateway, name: &str, selector: Selector, action: Action) {
    let first = Policy { name: name.into(), priority: 0, selector, action };
    let spd = gateway.spd.load();
    // Each before those that were added earlier.
    let order = u64::MAX - spd.generation();
    gateway.spd.store(Arc::new(spd.changed(&[], [(order, first)])));
}

fn any_of(setup: &Setup, end: usize) -> Selector {
    let sa = common::sa(setup, end, Direction::Outbound, 0);
    sa.selectors[0].clone()
}

#[test]
fn bypass_and_discard_hold_for_the_ways_that_they_name() {
    for inner_ipv6 in [false, true] {
        let setup = Setup { inner_ipv6, ..Setup::default() };
        let out = setup.packet(0, 100).frame();
        let into = setup.packet(1, 100).frame();
        let cases = [
            (Action::Bypass(Ways::Both), (1, 1), vec![]),
            (Action::Bypass(Ways::Only(Way::Outbound)), (1, 0), vec![("unprotected", 1)]),
            (Action::Bypass(Ways::Only(Way::Inbound)), (1, 1), vec![]),
            (Action::Discard(Ways::Both), (0, 0), vec![("policy-discard", 2)]),
            (Action::Discard(Ways::Only(Way::Inbound)), (1, 0), vec![("policy-discard", 1)]),
        ];
        for (action, (sent, received), drops) in cases {
            let mut a = Gateway::new(0, &setup);
            with_policy(&a, "first", any_of(&setup, 0), action);
            a.receive(Side::Inner, &out);
            let left = a.sent(Side::Outer);
            a.receive(Side::Outer, &into);
            let arrived = a.sent(Side::Inner);
            assert_eq!((left.len(), arrived.len(), a.drops()), (sent, received, drops), "{action:?}");
            let in_clear = matches!(action, Action::Bypass(ways) if ways.include(Way::Outbound));
            for frame in &left {
                let header = IpHeader::parse(&frame[ETH..]).unwrap();
                assert_eq!(header.destination() == setup.host(1), in_clear, "{action:?}");
                assert_eq!(header.hop_limit, if in_clear { 63 } else { 64 });
            }
        }
    }
}

#[test]
fn i7_what_a_policy_protects_neither_comes_nor_goes_in_clear() {
    for inner_ipv6 in [false, true] {
        let setup = Setup { inner_ipv6, ..Setup::default() };
        let mut a = Gateway::new(0, &setup);
        a.receive(Side::Outer, &setup.packet(1, 100).frame());
        let unknown =
            Packet { destination: INNER6[1].into(), source: HOST6[0].into(), ..setup.packet(0, 100) };
        assert_eq!((a.sent(Side::Inner).len(), a.drops()), (0, vec![("unprotected", 1)]));
        if !inner_ipv6 {
            a.receive(Side::Inner, &unknown.frame());
            assert_eq!(a.drops(), [("unprotected", 1), ("no-policy", 1)]);
        }
        assert_eq!(a.sent(Side::Outer).len(), 0);
    }
}

#[test]
fn inner_hosts_use_addresses_of_their_own_side() {
    let mut a = Gateway::new(0, &Setup::default());
    let hops = a.hops.load();
    let (outer, inner) = (hops.side(Side::Outer).clone(), hops.side(Side::Inner));
    let routes = vec![("10.1.0.0/24".parse().unwrap(), Via::Direct)];
    let narrow = SideHops::new(inner.mac, 1500, routes, std::collections::HashMap::new());
    a.hops.store(Arc::new(NextHops::new(outer, narrow)));
    let spoofed = Packet { source: [10, 1, 0x10, 1].into(), ..Packet::from(0, 60) };
    with_policy(&a, "wide", wide(), Action::Protect { reqid: REQID });
    a.receive(Side::Inner, &spoofed.frame());
    assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("spoofed", 1)]));
    a.seal(&Packet::from(0, 60).frame());
}

/// From anywhere in 10.1 to anywhere in 10.2.
fn wide() -> Selector {
    let net = |n| baton_sad::AddressRange::new([10, n, 0, 0].into(), [10, n, 255, 255].into()).unwrap();
    Selector::addresses(net(1), net(2))
}

#[test]
fn a_packet_too_big_for_the_tunnel_is_answered_in_its_own_family() {
    for (inner_ipv6, outer_ipv6) in [(false, false), (false, true), (true, false), (true, true)] {
        let setup = Setup { outer_ipv6, inner_ipv6, path_mtu: 1400, ..Setup::default() };
        let mut a = Gateway::new(0, &setup);
        let big = Packet { dont_fragment: true, ..setup.packet(0, 1400) };
        a.receive(Side::Inner, &big.frame());
        let answer = a.sent_one(Side::Inner);
        let header = IpHeader::parse(&answer[ETH..]).unwrap();
        assert_eq!((header.destination(), header.protocol), (setup.host(0), if inner_ipv6 { 58 } else { 1 }));
        let message = header.payload(&answer[ETH..]);
        let mtu = u16::from_be_bytes([message[6], message[7]]);
        assert_eq!(message[..2], if inner_ipv6 { [2, 0] } else { [3, 4] });
        let pseudo = if inner_ipv6 { header.pseudo_header(58, message.len()) } else { 0 };
        assert_eq!(checksum::fold(pseudo + u64::from(checksum::sum(message))), 0xffff);
        // What the answer says fits, and an octet more does not.
        let fits = a.seal(&Packet { dont_fragment: true, ..setup.packet(0, mtu) }.frame());
        assert!(fits.len() - ETH <= 1400 && fits.len() - ETH > 1400 - 4);
        a.receive(Side::Inner, &Packet { dont_fragment: true, ..setup.packet(0, mtu + 1) }.frame());
        assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("too-big", 2)]));
    }
}

#[test]
fn hop_limits_that_run_out_are_answered_in_both_families() {
    for inner_ipv6 in [false, true] {
        let setup = Setup { inner_ipv6, ..Setup::default() };
        let mut a = Gateway::new(0, &setup);
        a.receive(Side::Inner, &Packet { ttl: 1, ..setup.packet(0, 100) }.frame());
        let answer = a.sent_one(Side::Inner);
        let header = IpHeader::parse(&answer[ETH..]).unwrap();
        let expected = if inner_ipv6 { [3, 0] } else { [11, 0] };
        assert_eq!(header.payload(&answer[ETH..])[..2], expected);
        assert_eq!(a.drops(), [("ttl-expired", 1)]);
    }
}

#[test]
fn a_learned_path_mtu_counts_until_it_ends() {
    let setup = Setup::default();
    let mut a = Gateway::new(0, &setup);
    let packet = Packet { dont_fragment: true, ..setup.packet(0, 1300) }.frame();
    a.seal(&packet);
    let handle = a.table.lookup(Direction::Outbound, REQID).unwrap();
    let learn = |until| a.table.slot(handle).unwrap().learn_path_mtu(1280, until);
    learn(monotonic_ns() + 60_000_000_000);
    a.receive(Side::Inner, &packet);
    assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("too-big", 1)]));
    a.table.slot(handle).unwrap().learn_path_mtu(1280, monotonic_ns());
    a.seal(&packet);
}

/// An ICMP or ICMPv6 error from a router about the ESP packet in `frame`.
fn too_big(frame: &[u8], mtu: u16) -> Vec<u8> {
    let quoted = &frame[ETH..];
    let about = IpHeader::parse(quoted).unwrap();
    let (kind, protocol) = if about.is_ipv6() { ([2, 0], 58) } else { ([3, 4], 1) };
    let [high, low] = mtu.to_be_bytes();
    let mut message = [&kind[..], &[0, 0, 0, 0, high, low], &quoted[..quoted.len().min(100)]].concat();
    let (header, router) = if about.is_ipv6() { (40, OUTER6[1].into()) } else { (20, OUTER[1].into()) };
    let length = header + message.len() as u16;
    let packet =
        Packet { source: router, destination: about.source(), protocol, length, ..Packet::from(1, 60) };
    let outer = IpHeader::parse(&packet.octets()).unwrap();
    let pseudo = if about.is_ipv6() { outer.pseudo_header(58, message.len()) } else { 0 };
    let sum = !checksum::fold(pseudo + u64::from(checksum::sum(&message)));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    common::ethernet(&[&packet.octets()[..header.into()], &message].concat())
}

#[test]
fn a_router_s_word_about_our_esp_reaches_the_control_plane() {
    for (outer_ipv6, encapsulated) in [(false, false), (false, true), (true, false), (true, true)] {
        let setup = Setup { outer_ipv6, encapsulated, ..Setup::default() };
        let mut a = Gateway::new(0, &setup);
        let sealed = a.seal(&setup.packet(0, 1400).frame());
        a.receive(Side::Outer, &too_big(&sealed, 1380));
        let expected = Event::TooBig { spi: SPI[1], sequence: 1, destination: setup.outer(1), mtu: 1380 };
        assert_eq!(a.events.next(), Some(expected));
        assert_eq!((a.sent(Side::Inner).len(), a.drops()), (0, vec![("icmp-heeded", 1)]));
    }
}

#[test]
fn the_peer_behind_a_nat_moves_by_an_authentic_newest_packet_only() {
    let setup = Setup { encapsulated: true, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    let [first, second, third] = [0, 1, 2].map(|_| a.seal(&setup.packet(0, 60).frame()));
    // As a NAT leaves it: another address and port, all checksums right.
    let moved = |frame: &[u8]| {
        let mut frame = frame.to_vec();
        frame[ETH + 12..ETH + 16].copy_from_slice(&[198, 51, 100, 7]);
        frame[ETH + 10..ETH + 12].fill(0);
        let sum = checksum::checksum(&frame[ETH..ETH + 20]);
        frame[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
        frame[ETH + 20..ETH + 22].copy_from_slice(&1024_u16.to_be_bytes());
        frame
    };
    let mut forged = moved(&first);
    *forged.last_mut().unwrap() ^= 1;
    b.receive(Side::Outer, &forged);
    assert_eq!((b.events.next(), b.drops()), (None, vec![("bad-icv", 1)]));
    b.receive(Side::Outer, &moved(&second));
    let event = Event::PeerMoved { spi: SPI[1], address: [198, 51, 100, 7].into(), port: 1024 };
    assert_eq!((b.sent(Side::Inner).len(), b.events.next()), (1, Some(event)));
    // Older than what was seen: accepted, but it may have been held back by somebody.
    b.receive(Side::Outer, &moved(&first));
    assert_eq!((b.sent(Side::Inner).len(), b.events.next()), (1, None));
    b.receive(Side::Outer, &third);
    assert_eq!((b.sent(Side::Inner).len(), b.events.next()), (1, None));
}

/// RFC 7296 section 2.23: either encapsulation at any time. From the SA's own peer: what comes from elsewhere is
/// followed in UDP alone, where a NAT may be.
#[test]
fn a_packet_may_be_encapsulated_otherwise_than_its_sa_says() {
    for (encapsulated, outer_ipv6, mode) in [
        (false, false, Mode::Tunnel),
        (true, false, Mode::Tunnel),
        (false, true, Mode::Tunnel),
        (true, true, Mode::Tunnel),
        (false, false, Mode::Transport),
        (true, false, Mode::Transport),
    ] {
        let right = Setup { mode, outer_ipv6, encapsulated, ..Setup::default() };
        let wrong = Setup { encapsulated: !encapsulated, ..right.clone() };
        let mut a = Gateway::new(0, &wrong);
        let mut b = Gateway::new(1, &right);
        let [first, second] = [0, 1].map(|_| a.seal(&right.packet(0, 60).frame()));
        b.receive(Side::Outer, &first);
        assert_eq!((b.sent(Side::Inner).len(), b.events.next()), (1, None), "{right:?}: {:?}", b.drops());
        // What B sends is as its SA says, all the same.
        let sent = b.seal(&right.packet(1, 60).frame());
        let protocol = if outer_ipv6 { sent[ETH + 6] } else { sent[ETH + 9] };
        assert_eq!(protocol, if encapsulated { 17 } else { 50 });
        let mut forged = second.clone();
        *forged.last_mut().unwrap() ^= 1;
        b.receive(Side::Outer, &forged);
        let mut strange = second;
        let source = if outer_ipv6 { ETH + 8 } else { ETH + 12 };
        strange[source + 1] ^= 1;
        if !outer_ipv6 {
            strange[ETH + 10..ETH + 12].fill(0);
            let sum = checksum::checksum(&strange[ETH..ETH + 20]);
            strange[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
        }
        b.receive(Side::Outer, &strange);
        let expected = vec![("outer-address", 1), ("bad-icv", 1)];
        let mut drops = b.drops();
        drops.sort_by_key(|(name, _)| *name == "bad-icv");
        assert_eq!((b.sent(Side::Inner).len(), b.events.next(), drops), (0, None, expected));
    }
}

#[test]
fn keep_alives_go_out_on_request_and_end_at_the_peer() {
    for outer_ipv6 in [false, true] {
        let setup = Setup { outer_ipv6, encapsulated: true, ..Setup::default() };
        let [mut a, mut b] = pair(&setup);
        let handle = a.table.lookup(Direction::Outbound, REQID).unwrap();
        assert!(a.rings.command(Command::KeepAlive(handle)));
        a.run();
        let frame = a.sent_one(Side::Outer);
        let header = IpHeader::parse(&frame[ETH..]).unwrap();
        let datagram = UdpHeader::parse(header.payload(&frame[ETH..])).unwrap();
        assert_eq!((datagram.source, datagram.destination, datagram.payload), (4500, 4500, &[0xff][..]));
        b.receive(Side::Outer, &frame);
        assert_eq!((b.sent(Side::Inner).len(), b.drops()), (0, vec![("keep-alive", 1)]));
        // Not without the segment's lease (I4), and not for an SA that is not encapsulated.
        a.table.set_lease((SPI[0] >> 24) as u8, baton_sad::NOT_OWNED);
        a.rings.command(Command::KeepAlive(handle));
        a.run();
        assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("not-owned", 1)]));
    }
    let mut plain = Gateway::new(0, &Setup::default());
    let handle = plain.table.lookup(Direction::Outbound, REQID).unwrap();
    plain.rings.command(Command::KeepAlive(handle));
    plain.run();
    assert_eq!((plain.sent(Side::Outer).len(), plain.drops()), (0, vec![("sa-unusable", 1)]));
}

#[test]
fn addresses_are_announced_on_their_side_by_the_first_worker() {
    let mut a = Gateway::new(0, &Setup { workers: 2, ..Setup::default() });
    // It needs no segment: which node attracts an address is not told by leases.
    a.table.set_lease((SPI[0] >> 24) as u8, baton_sad::NOT_OWNED);
    for (side, mac) in [(Side::Outer, Mac([2, 0, 0, 0, 0, 1])), (Side::Inner, Mac([2, 0, 0, 0, 0, 2]))] {
        for (address, form) in
            [("192.0.2.7", Form::Request), ("192.0.2.7", Form::Reply), ("2001:db8::7", Form::Request)]
        {
            let address = address.parse().unwrap();
            assert!(a.rings.command(Command::Announce { side, address, form }));
            a.run();
            assert_eq!(Some(a.sent_one(side)), announcement(address, mac, form));
        }
    }
    assert_eq!(a.drops(), []);
}

#[test]
fn dummies_are_packets_like_others_on_the_wire_and_end_at_the_peer() {
    for tfc_padding in [TfcPadding::Off, TfcPadding::To(700), TfcPadding::PathMtu] {
        let setup = Setup { tfc_padding, ..Setup::default() };
        let [mut a, mut b] = pair(&setup);
        let real = a.seal(&setup.packet(0, 64).frame());
        let handle = a.table.lookup(Direction::Outbound, REQID).unwrap();
        assert!(a.rings.command(Command::Dummy(handle)));
        a.run();
        let dummy = a.sent_one(Side::Outer);
        assert_eq!(dummy.len(), real.len(), "{tfc_padding:?}");
        assert_eq!(dummy[ETH + 24..ETH + 28], [0, 0, 0, 2], "the next sequence number");
        b.receive(Side::Outer, &dummy);
        assert_eq!((b.sent(Side::Inner).len(), b.drops()), (0, vec![("dummy", 1)]));
        b.receive(Side::Outer, &real);
        assert_eq!(b.sent_one(Side::Inner).len(), ETH + 64);
    }
}

#[test]
fn payloads_are_padded_as_asked_and_never_beyond_the_path() {
    for (inner_ipv6, outer_ipv6) in [(false, false), (true, true)] {
        for (tfc_padding, length, sealed) in [
            (TfcPadding::To(512), 100, 512),
            (TfcPadding::To(512), 600, 600),
            (TfcPadding::To(9000), 100, usize::MAX),
            (TfcPadding::PathMtu, 100, usize::MAX),
            (TfcPadding::PathMtu, 1200, usize::MAX),
        ] {
            let setup = Setup { outer_ipv6, inner_ipv6, tfc_padding, ..Setup::default() };
            let [mut a, mut b] = pair(&setup);
            let packet = setup.packet(0, length);
            let frame = a.seal(&packet.frame());
            let ip = if outer_ipv6 { 40 } else { 20 };
            let esp = |payload: usize| ESP_HEADER + 8 + (payload + 2).next_multiple_of(4) + 16;
            if sealed == usize::MAX {
                assert!((1497..=1500).contains(&(frame.len() - ETH)), "{}", frame.len());
            } else {
                assert_eq!(frame.len() - ETH, ip + esp(sealed));
            }
            b.receive(Side::Outer, &frame);
            assert_eq!(b.sent_one(Side::Inner)[ETH..], setup.arrives(&packet).octets());
        }
    }
}

/// A TCP SYN of 60 octets of IPv4, or 80 of IPv6, that offers segments of 1,460 octets.
fn syn(setup: &Setup, end: usize) -> Vec<u8> {
    let ip = if setup.inner_ipv6 { 40 } else { 20 };
    let packet = Packet { protocol: 6, length: ip + 24, ..setup.packet(end, 60) };
    let mut octets = packet.octets();
    let segment = [0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 180];
    octets[ip.into()..].copy_from_slice(&segment);
    let sum = tcp_sum(&octets);
    octets[usize::from(ip) + 16..][..2].copy_from_slice(&(!sum).to_be_bytes());
    common::ethernet(&octets)
}

fn tcp_sum(packet: &[u8]) -> u16 {
    let header = IpHeader::parse(packet).unwrap();
    let segment = header.payload(packet);
    checksum::fold(header.pseudo_header(6, segment.len()) + u64::from(checksum::sum(segment)))
}

fn offered(packet: &[u8]) -> u16 {
    let header = IpHeader::parse(packet).unwrap();
    assert_eq!(tcp_sum(packet), 0xffff, "the checksum stays right");
    u16::from_be_bytes(header.payload(packet)[22..24].try_into().unwrap())
}

#[test]
fn segments_are_made_to_fit_both_ways() {
    for (inner_ipv6, outer_ipv6) in [(false, false), (false, true), (true, false), (true, true)] {
        let setup = Setup { outer_ipv6, inner_ipv6, ..Setup::default() };
        // From a peer that does not clamp, so that the receiving gateway has to.
        let [mut a, mut b] = pair(&setup);
        let mut sa = common::sa(&setup, 0, Direction::Outbound, 0);
        sa.clamp_mss = false;
        a.table.update(&sa).unwrap();
        b.receive(Side::Outer, &a.seal(&syn(&setup, 0)));
        let received = offered(&b.sent_one(Side::Inner)[ETH..]);
        let mut a = Gateway::new(0, &setup);
        b.receive(Side::Inner, &syn(&setup, 1));
        a.receive(Side::Outer, &b.sent_one(Side::Outer));
        let sent = offered(&a.sent_one(Side::Inner)[ETH..]);
        assert_eq!(received, sent);
        // A segment of just that size passes, headers included.
        let ip = if inner_ipv6 { 40 } else { 20 };
        let packet = Packet { protocol: 6, dont_fragment: true, ..setup.packet(0, ip + 20 + sent) };
        assert!((1497..=1500).contains(&(a.seal(&packet.frame()).len() - ETH)));
    }
}

#[test]
fn transport_mode_is_for_whole_packets_and_no_hop() {
    let setup = Setup { mode: Mode::Transport, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    let mut fragment = setup.packet(0, 100).frame();
    fragment[ETH + 6] |= 0x20;
    fragment[ETH + 10..ETH + 12].fill(0);
    let sum = checksum::checksum(&fragment[ETH..ETH + 20]);
    fragment[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
    a.receive(Side::Inner, &fragment);
    assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("fragment", 1)]));
    let last_hop = Packet { ttl: 1, ..setup.packet(0, 100) };
    b.receive(Side::Outer, &a.seal(&last_hop.frame()));
    assert_eq!(b.sent_one(Side::Inner)[ETH..], last_hop.octets());
    let options = {
        let mut octets = setup.packet(0, 100).octets();
        octets[0] = 0x46;
        octets[20..24].copy_from_slice(&[1, 1, 1, 0]);
        octets[10..12].fill(0);
        let sum = checksum::checksum(&octets[..24]);
        octets[10..12].copy_from_slice(&sum.to_be_bytes());
        octets
    };
    let sealed = a.seal(&common::ethernet(&options));
    assert_eq!((sealed[ETH], sealed[ETH + 9]), (0x46, 50), "options stay in front of ESP");
    b.receive(Side::Outer, &sealed);
    assert_eq!(b.sent_one(Side::Inner)[ETH..], options);
}
