//! The pipeline on memory I/O: what passes, how its headers look, and every bad input with its own counter.

mod common;

use baton_dataplane::crypto::Backend;
use baton_dataplane::events::Event;
use baton_dataplane::io::Side;
use baton_dataplane::packet::ipv4::Ipv4Header;
use baton_sad::{Counters, DfPolicy, Direction, DscpPolicy, ReplayWindow, Suite};
use common::wire::shapes;
use common::{HOST, OUTER, Packet, SPI, Setup, pair};

const ETH: usize = 14;

#[test]
fn packets_pass_with_every_suite_and_back_end_in_every_shape() {
    for (suite, shape) in Suite::ALL.into_iter().flat_map(|suite| shapes().map(move |shape| (suite, shape))) {
        for (crypto, extended) in [(Backend::AwsLc, true), (Backend::RustCrypto, false)] {
            let setup = Setup { suite, extended, crypto, ..shape.clone() };
            let [mut a, mut b] = pair(&setup);
            for length in [60, 61, 64, 65, 66, 67, 512, 1280] {
                let packet = setup.packet(0, length);
                let sealed = a.seal(&packet.frame());
                b.receive(Side::Outer, &sealed);
                let opened = b.sent_one(Side::Inner);
                assert_eq!(opened[ETH..], setup.arrives(&packet).octets(), "{suite} {length} {setup:?}");
            }
            assert_eq!((a.drops(), b.drops()), (vec![], vec![]), "{suite} {setup:?}");
        }
    }
}

#[test]
fn a_batch_of_many_sas_comes_out_whole_and_in_order() {
    for suite in Suite::ALL {
        let setup = Setup { suite, tunnels: 8, batch: 256, ..Setup::default() };
        let [mut a, mut b] = pair(&setup);
        let packet = |tunnel: u8, length| Packet {
            source: [10, 1, tunnel, 10].into(),
            destination: [10, 2, tunnel, 10].into(),
            ..Packet::from(0, length)
        };
        let sent: Vec<_> = (0..200_u16).map(|n| packet((n % 8) as u8, 40 + n)).collect();
        for packet in &sent {
            assert!(a.workers[0].io().inject(Side::Inner, &packet.frame()));
        }
        a.run();
        for frame in a.sent(Side::Outer) {
            assert!(b.workers[0].io().inject(Side::Outer, &frame));
        }
        b.run();
        let arrived: Vec<_> = b.sent(Side::Inner).iter().map(|frame| frame[ETH..].to_vec()).collect();
        let expected: Vec<_> = sent.iter().map(|packet| setup.arrives(packet).octets()).collect();
        assert_eq!(arrived, expected, "{suite}");
    }
}

#[test]
fn i3_a_packet_twice_in_one_batch_is_accepted_once() {
    let [mut a, mut b] = pair(&Setup::default());
    let sealed = a.seal(&Packet::from(0, 60).frame());
    for _ in 0..5 {
        assert!(b.workers[0].io().inject(Side::Outer, &sealed));
    }
    b.run();
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (1, vec![("replayed", 4)]));
}

#[test]
fn outer_headers_are_those_of_a_tunnel() {
    let [mut a, mut b] = pair(&Setup::default());
    let sealed = a.seal(&Packet { traffic_class: 0xba, dont_fragment: true, ..Packet::from(0, 100) }.frame());
    let outer = Ipv4Header::parse(&sealed[ETH..]).unwrap();
    assert_eq!((outer.source, outer.destination, outer.protocol), (OUTER[0], OUTER[1], 50));
    assert_eq!((outer.ttl, outer.traffic_class, outer.dont_fragment()), (64, 0xba, true));
    assert_eq!(sealed.len(), ETH + 20 + 8 + 8 + 104 + 16);
    assert_eq!(sealed[ETH + 20..][..8], [0x2a, 0, 0, 1, 0, 0, 0, 1]);
    b.receive(Side::Outer, &sealed);
    assert_eq!(b.sent(Side::Inner).len(), 1);

    let [mut a, _] = pair(&Setup { dscp: DscpPolicy::Set(46), df: DfPolicy::Clear, ..Setup::default() });
    let sealed = a.seal(&Packet { traffic_class: 0x03, dont_fragment: true, ..Packet::from(0, 100) }.frame());
    let outer = Ipv4Header::parse(&sealed[ETH..]).unwrap();
    assert_eq!((outer.traffic_class, outer.dont_fragment()), (46 << 2 | 3, false));
}

/// Seals a packet at A, lets `change` spoil the frame, gives it to B and returns B's counted reasons.
fn spoiled(setup: &Setup, change: impl FnOnce(&mut Vec<u8>)) -> Vec<(&'static str, u64)> {
    let [mut a, mut b] = pair(setup);
    let mut frame = a.seal(&Packet::from(0, 100).frame());
    change(&mut frame);
    b.receive(Side::Outer, &frame);
    assert_eq!(b.sent(Side::Inner), Vec::<Vec<u8>>::new());
    b.drops()
}

/// Changes fields of the outer IPv4 header and corrects its checksum.
fn with_ip(frame: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(&mut frame[ETH..]);
    frame[ETH + 10..ETH + 12].fill(0);
    let sum = baton_dataplane::packet::checksum::checksum(&frame[ETH..ETH + 20]);
    frame[ETH + 10..ETH + 12].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn each_spoiled_packet_has_its_reason() {
    type Change = fn(&mut Vec<u8>);
    let setup = Setup::default();
    let cases: [(&str, Change); 19] = [
        ("truncated", |f| f.truncate(13)),
        ("truncated", |f| f.truncate(ETH + 30)),
        ("truncated", |f| with_ip(f, |ip| ip[2..4].copy_from_slice(&9000_u16.to_be_bytes()))),
        ("vlan", |f| drop(f.splice(12..12, [0x81, 0, 0, 1].repeat(3)))),
        ("not-ip", |f| f[12..14].copy_from_slice(&[8, 6])),
        ("ip-header", |f| f[12..14].copy_from_slice(&[0x86, 0xdd])),
        ("ip-header", |f| f[ETH] = 0x44),
        ("ip-header", |f| f[ETH] = 0x65),
        ("ip-header", |f| with_ip(f, |ip| ip[2..4].copy_from_slice(&19_u16.to_be_bytes()))),
        ("ip-options", |f| f[ETH] = 0x46),
        ("ip-checksum", |f| f[ETH + 8] ^= 1),
        ("fragment", |f| with_ip(f, |ip| ip[6] |= 0x20)),
        ("fragment", |f| with_ip(f, |ip| ip[7] = 3)),
        ("no-policy", |f| with_ip(f, |ip| ip[9] = 6)),
        ("unknown-spi", |f| f[ETH + 20] ^= 1),
        ("outer-address", |f| with_ip(f, |ip| ip[15] ^= 1)),
        ("esp-length", |f| {
            with_ip(f, |ip| ip[2..4].copy_from_slice(&(20_u16 + 8 + 8 + 16 + 2).to_be_bytes()));
        }),
        ("bad-icv", |f| *f.last_mut().unwrap() ^= 1),
        ("bad-icv", |f| f[ETH + 40] ^= 1),
    ];
    for (reason, change) in cases {
        assert_eq!(spoiled(&setup, change), [(reason, 1)]);
    }
}

#[test]
fn tags_and_link_padding_are_no_obstacle() {
    let [mut a, mut b] = pair(&Setup::default());
    for tags in 0..=2 {
        let mut frame = a.seal(&Packet::from(0, 40).frame());
        frame.splice(12..12, [0x81, 0, 0, 1].repeat(tags));
        frame.extend([0xff; 7]);
        b.receive(Side::Outer, &frame);
        assert_eq!(b.sent_one(Side::Inner).len(), ETH + 40);
    }
}

#[test]
fn replays_and_late_packets_are_refused() {
    let [mut a, mut b] = pair(&Setup { window: 128, extended: false, ..Setup::default() });
    let frames: Vec<_> = (0..200).map(|_| a.seal(&Packet::from(0, 60).frame())).collect();
    for at in [0, 0, 199, 72, 72, 71, 100] {
        b.receive(Side::Outer, &frames[at]);
    }
    assert_eq!(b.sent(Side::Inner).len(), 4);
    assert_eq!(b.drops(), [("replayed", 2), ("too-old", 1)]);
    let inbound = b.table.get(Direction::Inbound, SPI[1]).unwrap().unwrap().counters;
    assert_eq!((inbound.edge(), inbound.packets, inbound.replay_drops), (200, 4, 3));
}

#[test]
fn a_forged_packet_does_not_move_the_window() {
    let [mut a, mut b] = pair(&Setup::default());
    let first = a.seal(&Packet::from(0, 60).frame());
    let mut forged = first.clone();
    forged[ETH + 24..ETH + 28].copy_from_slice(&5000_u32.to_be_bytes());
    b.receive(Side::Outer, &forged);
    b.receive(Side::Outer, &first);
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (1, vec![("bad-icv", 1)]));
    let inbound = b.table.get(Direction::Inbound, SPI[1]).unwrap().unwrap().counters;
    assert_eq!((inbound.edge(), inbound.integrity_failures), (1, 1));
}

#[test]
fn sequence_numbers_never_wrap() {
    for (extended, last) in [(false, u64::from(u32::MAX)), (true, u64::MAX)] {
        let setup = Setup { extended, ..Setup::default() };
        let [mut a, mut b] = pair(&setup);
        let at = |sequence| Counters { sequence, ..Counters::default() };
        a.table.put(&[(common::sa(&setup, 0, Direction::Outbound, 0), at(last - 1))]).unwrap();
        let window = Counters { window: ReplayWindow::closed(last - 1, 64), ..at(last - 1) };
        b.table.put(&[(common::sa(&setup, 1, Direction::Inbound, 0), window)]).unwrap();
        let sealed = a.seal(&Packet::from(0, 60).frame());
        b.receive(Side::Outer, &sealed);
        assert_eq!(b.sent(Side::Inner).len(), 1);
        a.receive(Side::Inner, &Packet::from(0, 60).frame());
        assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("sequence-wrap", 1)]));
        // Whatever comes with a number behind the last one is refused too.
        let mut beyond = sealed.clone();
        beyond[ETH + 24..ETH + 28].copy_from_slice(&7_u32.to_be_bytes());
        b.receive(Side::Outer, &beyond);
        assert_eq!(b.drops(), [(if extended { "sequence-wrap" } else { "too-old" }, 1)]);
    }
}

#[test]
fn extended_numbers_cross_the_32_bit_border() {
    let setup = Setup { extended: true, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    let edge = (1 << 32) - 3;
    let at = |window| Counters { sequence: edge, window, ..Counters::default() };
    a.table.put(&[(common::sa(&setup, 0, Direction::Outbound, 0), at(ReplayWindow::default()))]).unwrap();
    b.table
        .put(&[(common::sa(&setup, 1, Direction::Inbound, 0), at(ReplayWindow::closed(edge, 64)))])
        .unwrap();
    let frames: Vec<_> = (0..6).map(|_| a.seal(&Packet::from(0, 60).frame())).collect();
    for at in [5, 0, 1, 2, 3, 4, 0, 5] {
        b.receive(Side::Outer, &frames[at]);
    }
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (6, vec![("replayed", 2)]));
}

#[test]
fn ecn_follows_rfc_6040() {
    let [mut a, mut b] = pair(&Setup::default());
    // Rows: inner Not-ECT, ECT(1), ECT(0), CE; columns: outer the same. 9 is a drop.
    let table = [[0, 0, 0, 9], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]];
    for (inner, row) in (0_u8..).zip(table) {
        for (outer, expected) in (0_u8..).zip(row) {
            let class = 0x28 | inner;
            let mut frame = a.seal(&Packet { traffic_class: class, ..Packet::from(0, 60) }.frame());
            with_ip(&mut frame, |ip| ip[1] = outer);
            b.receive(Side::Outer, &frame);
            match b.sent(Side::Inner).as_slice() {
                [] => assert_eq!(expected, 9),
                [opened] => {
                    assert_eq!(Ipv4Header::parse(&opened[ETH..]).unwrap().traffic_class, 0x28 | expected);
                }
                _ => panic!("one packet in, several out"),
            }
        }
    }
    assert_eq!(b.drops(), [("ecn-drop", 1)]);
    assert_eq!(b.counters[0].ecn_unexpected.get(), 3);
}

#[test]
fn selectors_hold_in_both_directions() {
    let [mut a, mut b] = pair(&Setup::default());
    a.receive(Side::Inner, &Packet { destination: [192, 0, 2, 1].into(), ..Packet::from(0, 60) }.frame());
    assert_eq!(a.drops(), [("no-policy", 1)]);
    // A's SA and policy allow more than B's: B refuses what it did not agree to.
    let setup = Setup::default();
    let mut wide = common::sa(&setup, 0, Direction::Outbound, 0);
    let all = baton_sad::AddressRange::new([0; 4].into(), [255; 4].into()).unwrap();
    wide.selectors = baton_sad::Selectors::new(vec![baton_sad::Selector::addresses(all, all)]).unwrap();
    a.table.put(&[(wide, Counters::default())]).unwrap();
    let policy = baton_dataplane::spd::Policy {
        name: "wide".into(),
        priority: 0,
        selector: baton_sad::Selector::addresses(all, all),
        action: baton_dataplane::spd::Action::Protect { reqid: common::REQID },
    };
    a.spd.store(std::sync::Arc::new(baton_dataplane::spd::Spd::new(vec![policy])));
    let sealed = a.seal(&Packet { source: [192, 0, 2, 1].into(), ..Packet::from(0, 60) }.frame());
    b.receive(Side::Outer, &sealed);
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (0, vec![("selectors", 1)]));
}

#[test]
fn too_big_packets_are_answered_only_with_df() {
    let [mut a, mut b] = pair(&Setup { path_mtu: 1400, ..Setup::default() });
    let big = |length, dont_fragment| Packet { dont_fragment, ..Packet::from(0, length) }.frame();
    // 1400 - 20 - 8 - 8 - 16 = 1348, a multiple of 4, less the trailer of 2.
    b.receive(Side::Outer, &a.seal(&big(1346, true)));
    assert_eq!(b.sent(Side::Inner).len(), 1);
    a.receive(Side::Inner, &big(1347, true));
    let answer = a.sent_one(Side::Inner);
    let header = Ipv4Header::parse(&answer[ETH..]).unwrap();
    assert_eq!((header.source, header.destination), (common::INNER[0], HOST[0]));
    assert_eq!(
        (&answer[ETH + 20..ETH + 22], &answer[ETH + 26..ETH + 28]),
        (&[3, 4][..], &1346_u16.to_be_bytes()[..])
    );
    assert_eq!(answer[ETH + 28..][..20], big(1347, true)[ETH..][..20], "it quotes the packet as it came");
    assert_eq!((&answer[..6], &answer[6..12]), (&big(1347, true)[6..12], &big(1347, true)[..6]));
    a.receive(Side::Inner, &big(1347, false));
    assert_eq!((a.sent(Side::Inner).len(), a.sent(Side::Outer).len()), (0, 0));
    assert_eq!(a.drops(), [("too-big", 2)]);
    assert_eq!(a.counters[0].icmp_sent.get(), 1);
}

#[test]
fn ttl_runs_out_on_either_side() {
    let [mut a, mut b] = pair(&Setup::default());
    a.receive(Side::Inner, &Packet { ttl: 1, ..Packet::from(0, 60) }.frame());
    assert_eq!(a.sent_one(Side::Inner)[ETH + 20], 11, "time exceeded");
    b.receive(Side::Outer, &a.seal(&Packet { ttl: 2, ..Packet::from(0, 60) }.frame()));
    assert_eq!(
        (b.sent(Side::Inner).len(), a.drops(), b.drops()),
        (0, vec![("ttl-expired", 1)], vec![("ttl-expired", 1)])
    );
}

#[test]
fn frozen_removed_and_foreign_sas_carry_nothing() {
    let [mut a, mut b] = pair(&Setup::default());
    let keys = [(Direction::Outbound, common::REQID)];
    let frame = Packet::from(0, 60).frame();
    let sealed = a.seal(&frame);
    // The worker turns until the freezer has seen it between two batches.
    let table = std::sync::Arc::clone(&a.table);
    let freezer =
        std::thread::spawn(move || table.freeze(&keys, std::time::Duration::from_secs(10)).unwrap());
    while !freezer.is_finished() {
        a.run();
    }
    assert_eq!(freezer.join().unwrap()[0].counters.edge(), 1);
    a.receive(Side::Inner, &frame);
    a.table.thaw(&keys).unwrap();
    a.seal(&frame);
    a.table.remove(&keys).unwrap();
    a.receive(Side::Inner, &frame);
    assert_eq!(a.drops(), [("sa-frozen", 1)]);
    // The first packets wait for the SA that is asked for.
    assert!(matches!(a.events.next(), Some(Event::Acquire { reqid: common::REQID, .. })));
    assert_eq!((a.sent(Side::Outer).len(), a.events.next()), (0, None));
    let counters = Counters { sequence: 7, ..Counters::default() };
    a.table.put(&[(common::sa(&Setup::default(), 0, Direction::Outbound, 0), counters)]).unwrap();
    a.run();
    assert_eq!(a.sent_one(Side::Outer)[ETH + 24..ETH + 28], [0, 0, 0, 8], "I2");
    // I4: without the segment's lease nothing is accepted or sent.
    b.table.set_lease((SPI[1] >> 24) as u8, baton_sad::NOT_OWNED);
    b.receive(Side::Outer, &sealed);
    b.receive(Side::Inner, &Packet::from(1, 60).frame());
    assert_eq!(b.drops(), [("not-owned", 2)]);
    assert!(b.sent(Side::Inner).is_empty() && b.sent(Side::Outer).is_empty());
}

#[test]
fn packets_wait_for_a_neighbour_within_bounds() {
    let setup = Setup { neighbours: false, ..Setup::default() };
    let mut a = common::Gateway::new(0, &setup);
    for _ in 0..132 {
        a.receive(Side::Inner, &Packet::from(0, 60).frame());
    }
    assert_eq!(a.resolve.next(), Some((Side::Outer, [192, 0, 2, 254].into())));
    assert_eq!(a.resolve.next(), None, "one request, not one per packet");
    assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("held-too-many", 4)]));
    a.hops.store(std::sync::Arc::new(common::hops(0, &Setup::default())));
    a.run();
    let sent = a.sent(Side::Outer);
    assert_eq!(sent.len(), 128);
    let sequences: Vec<_> = sent.iter().map(|frame| frame[ETH + 27]).collect();
    assert_eq!(sequences, (5..=132).collect::<Vec<_>>(), "in order, the latest ones");
}

#[test]
fn what_waited_for_a_neighbour_leaves_before_what_comes_later() {
    let mut a = common::Gateway::new(0, &Setup { neighbours: false, ..Setup::default() });
    for _ in 0..3 {
        a.receive(Side::Inner, &Packet::from(0, 60).frame());
    }
    a.hops.store(std::sync::Arc::new(common::hops(0, &Setup::default())));
    a.receive(Side::Inner, &Packet::from(0, 60).frame());
    let sequences: Vec<_> = a.sent(Side::Outer).iter().map(|frame| frame[ETH + 27]).collect();
    assert_eq!(sequences, [1, 2, 3, 4]);
}

#[test]
fn workers_hand_over_what_others_own() {
    let setup = Setup { workers: 3, tunnels: 8, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    for tunnel in 0..8 {
        let in_tunnel = |end: usize| {
            let mut octets = HOST[end].octets();
            octets[2] = tunnel;
            std::net::Ipv4Addr::from(octets)
        };
        let packet =
            Packet { source: in_tunnel(0).into(), destination: in_tunnel(1).into(), ..Packet::from(0, 100) };
        let sealed = a.seal(&packet.frame());
        b.receive(Side::Outer, &sealed);
        assert_eq!(b.sent_one(Side::Inner)[ETH..], Packet { ttl: 62, ..packet }.octets());
    }
    let handed =
        |gateway: &common::Gateway| gateway.counters.iter().map(|c| c.handed_over.get()).sum::<u64>();
    assert!(handed(&a) > 0 && handed(&b) > 0);
    assert_eq!((a.drops(), b.drops()), (vec![], vec![]));
}

#[test]
fn no_iv_is_used_twice() {
    let mut a = common::Gateway::new(0, &Setup { workers: 2, tunnels: 4, ..Setup::default() });
    let mut seen = std::collections::HashSet::new();
    for i in 0..2000_u32 {
        let tunnel = (i % 4) as u8;
        let packet = Packet {
            source: [10, 1, tunnel, 10].into(),
            destination: [10, 2, tunnel, 10].into(),
            ..Packet::from(0, 60)
        };
        let sealed = a.seal(&packet.frame());
        assert!(seen.insert(sealed[ETH + 28..ETH + 36].to_vec()), "I1");
    }
}

#[test]
fn captures_see_both_sides() {
    let mut a = common::Gateway::new(0, &Setup::default());
    a.tap.start(baton_dataplane::capture::Filter::default());
    let sealed = a.seal(&Packet::from(0, 60).frame());
    let seen: Vec<_> = std::iter::from_fn(|| a.tap.next()).map(|c| (c.side, c.octets.into_vec())).collect();
    assert_eq!(seen, [(Side::Inner, Packet::from(0, 60).frame()), (Side::Outer, sealed)]);
}

#[test]
fn authentic_packets_with_wrong_insides_have_their_reasons() {
    let inner = Packet::from(0, 40).octets();
    let malformed = {
        let mut octets = inner.clone();
        octets[10] ^= 1;
        octets
    };
    let expired = Packet { ttl: 1, ..Packet::from(0, 40) }.octets();
    let cases: [(&str, Vec<u8>); 10] = [
        ("", [&inner[..], &[1, 2, 2, 4]].concat()),
        ("", [&inner[..], &[0xcc; 40], &[1, 2, 2, 4]].concat()), // traffic flow confidentiality padding
        ("bad-padding", [&inner[..], &[1, 3, 2, 4]].concat()),
        ("bad-padding", [&inner[..], &[1, 2, 200, 4]].concat()),
        ("dummy", [&[0; 50][..], &[0, 59]].concat()),
        ("inner-malformed", [&inner[..], &[1, 2, 2, 41]].concat()),
        ("next-header", [&inner[..], &[1, 2, 2, 6]].concat()),
        ("inner-malformed", [&malformed[..], &[1, 2, 2, 4]].concat()),
        ("inner-malformed", [&inner[..38], &[0, 4]].concat()),
        ("ttl-expired", [&expired[..], &[1, 2, 2, 4]].concat()),
    ];
    for (reason, text) in cases {
        let mut b = common::Gateway::new(1, &Setup::default());
        b.receive(Side::Outer, &Setup::default().crafted(1, &text));
        let expected: Vec<_> = if reason.is_empty() { vec![] } else { vec![(reason, 1)] };
        assert_eq!((b.sent(Side::Inner).len(), b.drops()), (usize::from(reason.is_empty()), expected));
    }
}

#[test]
fn oversized_packets_do_not_leave() {
    let [mut a, _] = pair(&Setup { mtu: 3500, ..Setup::default() });
    let mut b = common::Gateway::new(1, &Setup { mtu: 1000, ..Setup::default() });
    b.receive(Side::Outer, &a.seal(&Packet::from(0, 3000).frame()));
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (0, vec![("oversized", 1)]));
}
