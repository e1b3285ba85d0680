//! Bounds: of lifetimes, of events, of path MTUs, of answers.

use baton_dataplane::events::Event;
use baton_dataplane::io::Side;
use baton_dataplane::packet::checksum::checksum;
use baton_dataplane::worker::Command;
use baton_sad::{Bounds, Direction, Lifetime};

use crate::common::{self, Gateway, OUTER, Packet, SPI, Setup, UNIX_SECONDS, pair};
use crate::crafted::authentic;
use crate::{ETH, IPIP};

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
