//! I2 and I3 between nodes: what was reserved bounds what an owner uses, and a standby begins above it.

use baton_dataplane::io::Side;
use baton_sad::{Counters, Direction, Edge, Floor, PutKind, ReplayWindow, Reserve, SaKey};

use super::common::wire::every_kind;
use super::common::{self, Gateway, Setup, pair};
use super::step;

const SEGMENTS: [u64; 4] = [u64::MAX; 4];
const BOTH: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

fn name(gateway: &Gateway, direction: Direction) -> SaKey {
    let (direction, key) = step::key(gateway.end, direction);
    SaKey { direction, key, spi: step::get(gateway, direction).sa.spi }
}

fn reserve(gateway: &Gateway, direction: Direction, reserved: u64) {
    let item = Reserve { sa: name(gateway, direction), reserved, mark: reserved };
    assert_eq!(gateway.table.reserve(&[item]).unwrap(), 1);
}

fn attention(gateway: &Gateway) -> Vec<Edge> {
    let mut edges = Vec::new();
    gateway.table.drain_attention(&mut edges);
    edges
}

/// Packets from the inside of `a`, sealed.
fn seal(a: &mut Gateway, setup: &Setup, packets: usize) -> Vec<Vec<u8>> {
    a.pass(Side::Inner, &vec![setup.packet(0, 68).frame(); packets])
}

/// Near the border of the lower half, where extended numbers are.
fn start_at(setup: &Setup) -> u64 {
    if setup.extended { (1 << 32) - 4 } else { 1000 }
}

/// Puts both SAs of a gateway to `edge`, as a standby gets them or as an owner has them.
fn put_at(gateway: &Gateway, setup: &Setup, edge: u64) {
    let batch = BOTH.map(|direction| {
        let window = match direction {
            Direction::Inbound => ReplayWindow::closed(edge, setup.window),
            Direction::Outbound => ReplayWindow::default(),
        };
        let counters = Counters { sequence: edge, window, ..Counters::default() };
        (common::sa(setup, gateway.end, direction, 0), counters)
    });
    gateway.table.put_as(PutKind::Standby, &batch).unwrap();
}

#[test]
fn i2_nothing_is_sent_beyond_the_reservation() {
    for setup in every_kind() {
        let [mut a, mut b] = pair(&setup);
        let start = start_at(&setup);
        put_at(&a, &setup, start);
        put_at(&b, &setup, start);
        // Nobody enforces it: it is ignored.
        assert_eq!(seal(&mut a, &setup, 2).len(), 2);
        a.table.enforce_reservations(&SEGMENTS, true);
        assert_eq!(seal(&mut a, &setup, 3).len(), 0, "{setup:?}");
        assert_eq!(a.drops(), [("reservation-outbound", 3)]);
        let asking = attention(&a);
        assert_eq!((asking.len(), asking[0].edge, asking[0].wanted()), (1, start + 2, Some(start + 3)));
        reserve(&a, Direction::Outbound, start + 7);
        let sealed = seal(&mut a, &setup, 8);
        let seen: Vec<u32> = sealed.iter().map(|frame| setup.on_wire(frame).sequence).collect();
        let expected: Vec<u32> = (start + 3..=start + 7).map(|sequence| sequence as u32).collect();
        assert_eq!(seen, expected, "{setup:?}");
        assert_eq!(a.drops(), [("reservation-outbound", 6)]);
        assert_eq!(b.pass(Side::Outer, &sealed).len(), 5, "{setup:?} {:?}", b.drops());
        a.restart(&setup);
        assert_eq!(seal(&mut a, &setup, 1).len(), 0, "another worker holds to it as well");
        a.table.enforce_reservations(&SEGMENTS, false);
        assert_eq!(seal(&mut a, &setup, 1).len(), 1);
    }
}

/// A packet beyond the reservation is not accepted, and may come again when it is.
#[test]
fn i3_nothing_is_accepted_beyond_the_reservation() {
    for setup in every_kind() {
        let [mut a, mut b] = pair(&setup);
        let start = start_at(&setup);
        put_at(&a, &setup, start);
        put_at(&b, &setup, start);
        let sealed = seal(&mut a, &setup, 10);
        b.table.enforce_reservations(&SEGMENTS, true);
        reserve(&b, Direction::Inbound, start + 4);
        assert_eq!(b.pass(Side::Outer, &sealed).len(), 4, "{setup:?} {:?}", b.drops());
        assert_eq!(b.drops(), [("reservation-inbound", 6)]);
        assert_eq!(step::get(&b, Direction::Inbound).counters.edge(), start + 4);
        let asking = attention(&b);
        assert_eq!((asking.len(), asking[0].wanted()), (1, Some(start + 10)));
        // What is forged asks for nothing.
        let mut forged = sealed[9].clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(b.pass(Side::Outer, [&forged]).len(), 0);
        assert_eq!(attention(&b), []);
        reserve(&b, Direction::Inbound, start + 10);
        assert_eq!(b.pass(Side::Outer, &sealed).len(), 6, "{setup:?} {:?}", b.drops());
        assert_eq!((b.dropped("replayed"), b.dropped("reservation-inbound")), (4, 6));
    }
}

/// A standby that has confirmed a reservation takes over: nothing comes twice, in either direction.
#[test]
fn i2_i3_a_standby_begins_above_all_that_was_reserved() {
    for setup in every_kind() {
        let [mut a, mut b] = pair(&setup);
        let mut standby = Gateway::new(0, &setup);
        let start = start_at(&setup);
        for gateway in [&a, &b, &standby] {
            put_at(gateway, &setup, start);
        }
        a.table.enforce_reservations(&SEGMENTS, true);
        let reserved = start + 20;
        for direction in BOTH {
            let floor = Floor { sa: name(&standby, direction), floor: reserved };
            assert_eq!(standby.table.raise_floors(&[floor]).unwrap(), []);
            reserve(&a, direction, reserved);
        }
        let sent = seal(&mut a, &setup, 15);
        let from_peer = b.pass(Side::Inner, &vec![setup.packet(1, 68).frame(); 25]);
        assert_eq!(a.pass(Side::Outer, &from_peer[..12]).len(), 12, "{setup:?} {:?}", a.drops());
        assert_eq!(b.pass(Side::Outer, &sent).len(), 15);

        // The owner dies.
        let after = seal(&mut standby, &setup, 3);
        let seen: Vec<u32> = after.iter().map(|frame| setup.on_wire(frame).sequence).collect();
        let expected: Vec<u32> = (1..=3).map(|n| (reserved + n) as u32).collect();
        assert_eq!(seen, expected, "{setup:?}");
        assert_eq!(b.pass(Side::Outer, &after).len(), 3, "{setup:?} {:?}", b.drops());
        // What the owner accepted, what it might have accepted, and what nobody can have.
        assert_eq!(standby.pass(Side::Outer, &from_peer[..20]).len(), 0, "I3 broken: {setup:?}");
        assert_eq!(standby.drops(), [("reservation-floor", 20)], "{setup:?}");
        assert_eq!(standby.pass(Side::Outer, &from_peer[20..]).len(), 5, "{setup:?} {:?}", standby.drops());
        assert_eq!(standby.pass(Side::Outer, &from_peer).len(), 0, "I3 broken: {setup:?}");
        assert_eq!(step::get(&standby, Direction::Inbound).counters.edge(), start + 25);
    }
}

/// Nor does a floor wait for a batch: it holds for packets that were checked before it was raised.
#[test]
fn i3_a_floor_holds_at_the_commit() {
    use baton_dataplane::replay::{Refused, Window};
    let setup = Setup::default();
    let b = Gateway::new(1, &setup);
    let handle = b.table.lookup(Direction::Inbound, common::SPI[1]).unwrap();
    let window = Window::new(b.table.slot(handle).unwrap(), setup.window);
    assert_eq!(window.check(5, false), Ok(5));
    let floor = Floor { sa: name(&b, Direction::Inbound), floor: 5 };
    assert_eq!(b.table.raise_floors(&[floor]).unwrap(), []);
    assert_eq!(window.commit(5), Err(Refused::BelowFloor));
    assert_eq!(window.check(5, false), Err(Refused::BelowFloor));
    assert_eq!((window.check(6, false), window.commit(6)), (Ok(6), Ok(true)));
}

/// Far behind the floor an extended number is still told from one ahead of it, so that it counts as what it is.
#[test]
fn i3_extended_numbers_are_understood_from_a_floor_far_ahead() {
    use baton_dataplane::replay::{Refused, Window};
    let setup = Setup { extended: true, ..Setup::default() };
    let b = Gateway::new(1, &setup);
    let handle = b.table.lookup(Direction::Inbound, common::SPI[1]).unwrap();
    let window = Window::new(b.table.slot(handle).unwrap(), setup.window);
    // The context is from long ago; 5 * 2^32 packets later the owner dies.
    let floor = (5 << 32) + 10_000;
    let floor = Floor { sa: name(&b, Direction::Inbound), floor };
    assert_eq!(b.table.raise_floors(&[floor]).unwrap(), []);
    for (low, expected) in [
        (10_001, Ok((5 << 32) + 10_001)),
        (1_000_000_000, Ok((5 << 32) + 1_000_000_000)),
        (10_000, Err(Refused::BelowFloor)),
        (1, Err(Refused::BelowFloor)),
        (u32::MAX, Err(Refused::BelowFloor)),
    ] {
        assert_eq!(window.check(low, true), expected, "{low}");
    }
    assert_eq!(window.commit((5 << 32) + 10_002), Ok(true));
    assert_eq!(
        (window.check(10_001, true), window.check(10_000, true)),
        (Ok((5 << 32) + 10_001), Err(Refused::BelowFloor))
    );
}
