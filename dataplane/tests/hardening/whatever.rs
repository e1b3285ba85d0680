//! Whatever somebody puts into a packet, and whenever the control plane changes an SA.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use baton_dataplane::io::Side;
use baton_dataplane::packet::ip::IpHeader;
use baton_dataplane::worker::Command;
use baton_sad::{Direction, Mode};
use proptest::prelude::*;

use crate::ETH;
use crate::common::{self, Gateway, Packet, Setup, pair};
use crate::crafted::{authentic, correct};

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
        correct(&mut octets);
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

/// Padding shows nothing of the packets that were in the buffer before. With NULL encryption one can look.
#[test]
fn padding_holds_no_octets_of_other_packets() {
    let suite = baton_sad::Suite::from_name("null-sha256").unwrap();
    let tfc_padding = baton_sad::TfcPadding::To(1000);
    let mut a = Gateway::new(0, &Setup { tfc_padding, suite, ..Setup::default() });
    // The pool has 1,024 buffers, and these are refused when they have been filled.
    let secret = common::ethernet(&[&Packet::from(0, 20).octets()[..], &[0xaa; 1400]].concat());
    for _ in 0..2 {
        for _ in 0..1024 {
            a.workers[0].io().inject(Side::Outer, &secret);
        }
        a.run();
    }
    let handle = a.table.lookup(Direction::Outbound, common::REQID).unwrap();
    assert!(a.rings.command(Command::Dummy(handle)));
    a.run();
    let dummy = a.sent_one(Side::Outer);
    let packet = a.seal(&Packet::from(0, 60).frame());
    for (frame, payload) in [(dummy, 0), (packet, 60)] {
        let text = &frame[ETH + 20 + 8..frame.len() - 16];
        assert!(text.len() >= 1000 && text[payload..1000].iter().all(|octet| *octet == 0), "{text:02x?}");
        assert!(!text.windows(2).any(|two| two == [0xaa, 0xaa]), "{text:02x?}");
    }
}

/// The control plane updates SAs at any time, also while packets are between their first and their last step: such
/// packets may be lost, but none is sent under a number or IV of another (I1, I2), none is accepted twice (I3), and
/// none goes on that was not opened.
#[test]
fn updates_between_the_steps_repeat_nothing() {
    let setup = Setup { batch: 256, window: 4096, tunnels: 3, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    let is_over = Arc::new(AtomicBool::new(false));
    let updaters: Vec<_> = [(&a, Direction::Outbound), (&b, Direction::Inbound)]
        .map(|(gateway, direction)| {
            let (table, end) = (Arc::clone(&gateway.table), gateway.end);
            let (is_over, setup) = (Arc::clone(&is_over), setup.clone());
            std::thread::spawn(move || {
                let mut updates = 0_u16;
                while !is_over.load(Ordering::Relaxed) {
                    let mut sa = common::sa(&setup, end, direction, u32::from(updates % 3));
                    sa.path_mtu = 1400 + updates % 2;
                    table.update(&sa).unwrap();
                    updates = updates.wrapping_add(1);
                }
                updates
            })
        })
        .into();
    let mut seen = HashSet::new();
    let (mut sent, mut arrived) = (0_usize, HashSet::new());
    for round in 0..60_u16 {
        for number in 0..200_u16 {
            let tunnel = (number % 3) as u8;
            let packet = Packet {
                source: [10, 1, tunnel, 10].into(),
                destination: [10, 2, tunnel, 10].into(),
                ..Packet::from(0, 60)
            };
            let mut frame = packet.frame();
            frame[ETH + 30..ETH + 34].copy_from_slice(&[round.to_be_bytes(), number.to_be_bytes()].concat());
            assert!(a.workers[0].io().inject(Side::Inner, &frame));
        }
        a.run();
        for frame in a.sent(Side::Outer) {
            sent += 1;
            assert!(seen.insert(frame[ETH + 20..ETH + 28].to_vec()), "I2");
            assert!(seen.insert(frame[ETH + 28..ETH + 36].to_vec()), "I1");
            for _ in 0..2 {
                assert!(b.workers[0].io().inject(Side::Outer, &frame));
            }
        }
        b.run();
        for frame in b.sent(Side::Inner) {
            assert!(arrived.insert(frame[ETH + 30..ETH + 34].to_vec()), "I3");
            assert_eq!(frame[ETH + 34..], Packet::from(0, 60).frame()[ETH + 34..]);
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for updater in updaters {
        assert!(updater.join().unwrap() > 0);
    }
    assert!(sent > 0 && !arrived.is_empty(), "{sent} {:?} {:?}", a.drops(), b.drops());
    let expected = |(reason, _): &(&str, u64)| ["sa-unusable", "replayed"].contains(reason);
    assert!([a.drops(), b.drops()].concat().iter().all(expected));
}
