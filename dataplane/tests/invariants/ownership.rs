//! I4: only who owns a segment uses its SAs.

use baton_dataplane::io::Side;
use baton_dataplane::worker::{Command, monotonic_ns};
use baton_sad::{Direction, Mode, NOT_OWNED, OWNED};

use super::common::wire::every_kind;
use super::common::{Gateway, REQID, SPI, Setup, clock, pair};

fn set_lease(gateway: &Gateway, deadline: u64) {
    gateway.table.set_lease((SPI[gateway.end] >> 24) as u8, deadline);
}

#[test]
fn i4_without_the_lease_nothing_is_sent_or_accepted() {
    for setup in every_kind() {
        let [mut a, mut b] = pair(&setup);
        let sealed = a.pass(Side::Inner, &vec![setup.packet(0, 68).frame(); 2]);
        let answers = vec![setup.packet(1, 68).frame(); 2];
        for (over, deadline) in [NOT_OWNED, monotonic_ns() - 1].into_iter().enumerate() {
            set_lease(&b, deadline);
            assert_eq!(b.pass(Side::Outer, &sealed).len(), 0, "I4 broken: {setup:?}");
            assert_eq!(b.pass(Side::Inner, &answers).len(), 0, "I4 broken: {setup:?}");
            assert_eq!(commanded(&mut b, &setup), 0, "I4 broken: {setup:?}");
            let commands = u64::from(setup.mode == Mode::Tunnel) + u64::from(setup.encapsulated);
            assert_eq!(b.drops(), [("not-owned", (4 + commands) * (over as u64 + 1))], "{setup:?}");
        }
        set_lease(&b, monotonic_ns() + 60_000_000_000);
        assert_eq!(b.pass(Side::Outer, &sealed).len(), 2, "{setup:?}");
        assert_eq!(b.pass(Side::Inner, &answers).len(), 2, "{setup:?}");
    }
}

/// What a gateway sends of its own accord; how many frames went out.
fn commanded(gateway: &mut Gateway, setup: &Setup) -> usize {
    let handle = gateway.table.lookup(Direction::Outbound, REQID).unwrap();
    if setup.mode == Mode::Tunnel {
        gateway.rings.command(Command::Dummy(handle));
    }
    if setup.encapsulated {
        gateway.rings.command(Command::KeepAlive(handle));
    }
    gateway.run();
    gateway.sent(Side::Outer).len()
}

/// The lease ends while a batch is on its way: its packets are sealed already, and do not leave.
#[test]
fn i4_a_lease_that_ends_within_a_batch_lets_nothing_out() {
    for setup in every_kind() {
        let setup = Setup { clock: clock::slow, ..setup };
        let mut a = Gateway::new(0, &setup);
        let frame = setup.packet(0, 68).frame();
        set_lease(&a, clock::still() + clock::SECOND * 3 / 2);
        assert_eq!(a.pass(Side::Inner, [&frame]).len(), 0, "I4 broken: {setup:?}");
        assert_eq!(a.drops(), [("not-owned", 1)]);
        let sent = a.table.get(Direction::Outbound, REQID).unwrap().unwrap().counters.edge();
        assert_eq!(sent, 1, "it had its sequence number: the lease was looked at again");
        set_lease(&a, OWNED);
        assert_eq!(a.pass(Side::Inner, [&frame]).len(), 1, "{setup:?}");
    }
}

fn set_hold(gateway: &Gateway, deadline: u64) {
    gateway.table.set_hold((SPI[gateway.end] >> 24) as u8, deadline);
}

fn later() -> u64 {
    monotonic_ns() + 60_000_000_000
}

/// A segment that is on its way here: nothing leaves before its lease is here (I4), and nothing is lost.
#[test]
fn i4_what_comes_for_a_segment_that_is_on_its_way_waits_for_its_lease() {
    for setup in every_kind() {
        let [mut a, mut b] = pair(&setup);
        let sealed = a.pass(Side::Inner, &vec![setup.packet(0, 68).frame(); 3]);
        let answer = setup.packet(1, 68).frame();
        set_lease(&b, NOT_OWNED);
        set_hold(&b, later());
        assert_eq!(b.pass(Side::Outer, &sealed[..2]).len(), 0, "I4 broken: {setup:?}");
        assert_eq!(b.pass(Side::Inner, &vec![answer.clone(); 2]).len(), 0, "I4 broken: {setup:?}");
        assert_eq!((commanded(&mut b, &setup), b.sent(Side::Inner).len()), (0, 0));
        let own = u64::from(setup.mode == Mode::Tunnel) + u64::from(setup.encapsulated);
        let refused = |b: &Gateway| b.drops().iter().map(|(_, packets)| packets).sum::<u64>();
        assert_eq!(refused(&b), own, "only what it would send of its own accord: {:?}", b.drops());
        assert_eq!(b.counters[0].held_for_move.get(), 4);
        set_lease(&b, OWNED);
        // What was handled at the old owner before comes twice, and is accepted once (I3).
        b.receive(Side::Outer, &sealed[1]);
        b.receive(Side::Outer, &sealed[2]);
        assert_eq!((b.sent(Side::Inner).len(), b.sent(Side::Outer).len()), (3, 2), "{setup:?}");
        assert_eq!(refused(&b) - own, 1, "I3: {:?}", b.drops());
    }
}

/// The move failed, or took too long; and a worker has bounds.
#[test]
fn what_waits_for_a_segment_that_does_not_come_is_dropped() {
    let setup = Setup::default();
    let mut b = Gateway::new(1, &setup);
    let frame = setup.packet(1, 68).frame();
    set_lease(&b, NOT_OWNED);
    set_hold(&b, later());
    for _ in 0..518 {
        b.receive(Side::Inner, &frame);
    }
    assert_eq!(b.drops(), [("not-owned", 6)], "the oldest of more than may wait");
    set_hold(&b, monotonic_ns() - 1);
    b.run();
    assert_eq!((b.drops(), b.sent(Side::Outer).len()), (vec![("not-owned", 518)], 0));
    set_lease(&b, OWNED);
    b.receive(Side::Inner, &frame);
    assert_eq!(b.sent(Side::Outer).len(), 1);
}

#[test]
fn what_waited_for_a_lease_leaves_before_what_comes_later() {
    let setup = Setup::default();
    let mut b = Gateway::new(1, &setup);
    set_lease(&b, NOT_OWNED);
    set_hold(&b, later());
    for length in [61, 62, 63] {
        b.receive(Side::Inner, &setup.packet(1, length).frame());
    }
    set_lease(&b, OWNED);
    b.receive(Side::Inner, &setup.packet(1, 64).frame());
    let lengths: Vec<_> = b.sent(Side::Outer).iter().map(Vec::len).collect();
    assert_eq!(lengths.len(), 4);
    assert!(lengths.is_sorted(), "{lengths:?}");
}
