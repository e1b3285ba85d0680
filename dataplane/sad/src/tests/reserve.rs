//! Reservations and floors: what a worker may use, and what stays through every change of its SA (I2, I3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{INBOUND, OUTBOUND, directory, new_table, reopen, seeded, table_path};
use crate::{
    Counters, Direction, Edge, Floor, PutError, PutKind, ReplayWindow, Reservation, Reserve, Sa, SaKey,
    Table, fault,
};

const SEGMENT: u8 = 70;
const SEGMENTS: [u64; 4] = [0, 1 << (SEGMENT - 64), 0, 0];
const SPI: u32 = 0x4600_0001;
const KEY: u32 = 7;

fn sa(direction: Direction, seed: u64) -> Sa {
    let key = if direction == INBOUND { SPI } else { KEY };
    let (sa, _) = seeded(direction, key, seed);
    Sa { segment: SEGMENT, spi: SPI, extended_sequence: true, replay_window: 128, ..sa }
}

fn counters(direction: Direction, edge: u64) -> Counters {
    let window = match direction {
        Direction::Inbound => ReplayWindow::closed(edge, 128),
        Direction::Outbound => ReplayWindow::default(),
    };
    Counters { sequence: edge, window, ..Counters::default() }
}

fn name(direction: Direction) -> SaKey {
    SaKey { direction, key: if direction == INBOUND { SPI } else { KEY }, spi: SPI }
}

/// A table with one SA of each direction at `edge`.
fn table_at(edge: u64) -> (tempfile::TempDir, Table) {
    let directory = directory();
    let table = new_table(&directory, 8);
    let both = [INBOUND, OUTBOUND].map(|direction| (sa(direction, 1), counters(direction, edge)));
    table.put(&both).expect("put");
    (directory, table)
}

fn grant(table: &Table, direction: Direction, number: u64) -> u64 {
    let handle = table.lookup(direction, name(direction).key).expect("found");
    table.grant(handle, SEGMENT, number)
}

fn reserve(table: &Table, direction: Direction, reserved: u64, mark: u64) -> usize {
    table.reserve(&[Reserve { sa: name(direction), reserved, mark }]).expect("reserved")
}

fn raise(table: &Table, direction: Direction, floor: u64) -> Vec<SaKey> {
    table.raise_floors(&[Floor { sa: name(direction), floor }]).expect("raised")
}

fn drain(table: &Table) -> Vec<Edge> {
    let mut edges = Vec::new();
    table.drain_attention(&mut edges);
    edges
}

fn reservation(table: &Table, direction: Direction) -> Reservation {
    table.get(direction, name(direction).key).expect("got").expect("there").reservation
}

fn edge(table: &Table, direction: Direction) -> u64 {
    table.get(direction, name(direction).key).expect("got").expect("there").counters.edge()
}

fn take(table: &Table) -> u64 {
    let slot = table.slot(table.lookup(OUTBOUND, KEY).expect("found")).expect("there");
    slot.next_sequence(1, u64::MAX).expect("a number")
}

#[test]
fn what_is_not_enforced_bounds_nothing_and_asks_for_nothing() {
    let (_directory, table) = table_at(10);
    assert!(!table.enforces_reservations(SEGMENT));
    for direction in [INBOUND, OUTBOUND] {
        assert_eq!(grant(&table, direction, 11), u64::MAX);
    }
    let count = table.enforcement_count();
    table.enforce_reservations(&SEGMENTS, true);
    assert!(table.enforces_reservations(SEGMENT) && !table.enforces_reservations(SEGMENT + 1));
    assert_ne!(table.enforcement_count(), count);
    table.enforce_reservations(&SEGMENTS, false);
    assert_eq!(grant(&table, OUTBOUND, 11), u64::MAX);
    assert_eq!(drain(&table), []);
}

#[test]
fn a_new_sa_waits_for_its_first_reservation_and_asks_again_at_its_mark() {
    let (_directory, table) = table_at(10);
    table.enforce_reservations(&SEGMENTS, true);
    for direction in [INBOUND, OUTBOUND] {
        assert_eq!(grant(&table, direction, 11), 10, "nothing is reserved");
        let edges = drain(&table);
        assert_eq!(edges.len(), 1);
        assert_eq!((edges[0].sa, edges[0].segment, edges[0].edge), (name(direction), SEGMENT, 10));
        assert_eq!(edges[0].wanted(), Some(11));
        assert_eq!(drain(&table), [], "told once");

        assert_eq!(reserve(&table, direction, 100, 60), 1);
        assert_eq!(grant(&table, direction, 11), 59, "up to the mark");
        assert_eq!(drain(&table), []);
        assert_eq!(grant(&table, direction, 60), 100, "from the mark on, up to the reservation");
        let edges = drain(&table);
        assert_eq!((edges.len(), edges[0].wanted()), (1, None), "what was wanted is reserved");
        assert_eq!(grant(&table, direction, 101), 100);
        assert_eq!(drain(&table)[0].wanted(), Some(101));
        // Neither goes down, and a mark above the reservation is one at it.
        assert_eq!(reserve(&table, direction, 50, 20), 1);
        assert_eq!(reserve(&table, direction, 110, 500), 1);
        let wanted = Reservation { reserved: 110, mark: 110, floor: 0, wanted: 101 };
        assert_eq!(reservation(&table, direction), wanted);
    }
}

/// Both are asked for by the reqid, but what was reserved for an old SA is nothing for its successor.
#[test]
fn a_rekeyed_sa_has_nothing_of_what_its_predecessor_was_promised() {
    let (_directory, table) = table_at(10);
    reserve(&table, OUTBOUND, 1000, 500);
    raise(&table, OUTBOUND, 900);
    let next = Sa { spi: SPI + 1, ..sa(OUTBOUND, 2) };
    table.put(&[(next, counters(OUTBOUND, 0))]).expect("put");
    assert_eq!(reservation(&table, OUTBOUND), Reservation::default());
    assert_eq!(reserve(&table, OUTBOUND, 5000, 5000), 0);
    assert_eq!(raise(&table, OUTBOUND, 5000), [name(OUTBOUND)]);
    assert_eq!((reservation(&table, OUTBOUND), take(&table)), (Reservation::default(), 1));
    let edges = table.edges(&SEGMENTS);
    assert_eq!(edges.iter().map(|edge| edge.sa.spi).collect::<Vec<_>>(), [SPI, SPI + 1]);
    assert_eq!(table.edges(&[u64::MAX, 0, u64::MAX, u64::MAX]), []);
}

#[test]
fn a_floor_counts_as_used_and_never_falls() {
    let (directory, table) = table_at(10);
    for direction in [INBOUND, OUTBOUND] {
        assert_eq!(raise(&table, direction, 300), []);
        assert_eq!(raise(&table, direction, 200), []);
        assert_eq!((edge(&table, direction), reservation(&table, direction).floor), (300, 300));
    }
    let window = table.get(INBOUND, SPI).expect("got").expect("there").counters.window;
    assert_eq!(window, ReplayWindow::closed(300, 128));
    assert_eq!(take(&reopen(&table_path(&directory))), 301);
    let missing = SaKey { key: 8, ..name(OUTBOUND) };
    assert_eq!(table.raise_floors(&[Floor { sa: missing, floor: 1 }]).expect("raised"), [missing]);
}

/// A floor within the window closes what is at or below it, and no more.
#[test]
fn a_floor_within_the_window_is_in_the_snapshot() {
    let (_directory, table) = table_at(0);
    let slot = table.slot(table.lookup(INBOUND, SPI).expect("found")).expect("there");
    slot.slide_to(200);
    raise(&table, INBOUND, 150);
    let window = table.get(INBOUND, SPI).expect("got").expect("there").counters.window;
    for sequence in 1..=200 {
        assert_eq!(window.has(sequence, 128), sequence <= 150 || sequence == 200, "{sequence}");
    }
}

#[test]
fn a_restore_and_an_update_keep_what_was_reserved() {
    for direction in [INBOUND, OUTBOUND] {
        let (_directory, table) = table_at(10);
        reserve(&table, direction, 100, 60);
        raise(&table, direction, 20);
        let before = reservation(&table, direction);
        table.update(&Sa { path_mtu: 1234, ..sa(direction, 1) }).expect("updated");
        assert_eq!((reservation(&table, direction), edge(&table, direction)), (before, 20));
        let below = table.put(&[(sa(direction, 1), counters(direction, 19))]).expect_err("goes back");
        assert!(matches!(below, PutError::Older { installed: 20, given: 19, .. }), "{below}");
        table.put(&[(sa(direction, 1), counters(direction, 500))]).expect("put");
        assert_eq!((reservation(&table, direction), edge(&table, direction)), (before, 500));
        table.enforce_reservations(&SEGMENTS, true);
        assert_eq!(grant(&table, direction, 501), 100, "a jump is reserved like everything else");
    }
}

#[test]
fn a_copy_on_a_standby_never_goes_back_and_keeps_its_floor() {
    for direction in [INBOUND, OUTBOUND] {
        let (_directory, table) = table_at(10);
        raise(&table, direction, 300);
        // Older than what is there: the configuration is taken, the counters are not.
        for (given, kept) in [(5, 10), (50, 50), (20, 50)] {
            let copy = Sa { path_mtu: given as u16, ..sa(direction, 1) };
            table.put_as(PutKind::Standby, &[(copy, counters(direction, given))]).expect("put");
            let snapshot = table.get(direction, name(direction).key).expect("got").expect("there");
            assert_eq!((snapshot.sa.path_mtu, snapshot.counters.edge()), (given as u16, 300));
            let slot = table.slot(snapshot.handle).expect("there");
            assert_eq!((slot.replay_top(), slot.floor()), (kept, 300));
        }
    }
}

/// A planned move loses no number to the reservation, and does not go below what this node has used itself.
#[test]
fn a_move_sets_exact_counters_in_place_of_a_floor() {
    for direction in [INBOUND, OUTBOUND] {
        let (_directory, table) = table_at(10);
        raise(&table, direction, 300);
        let below = table.put_as(PutKind::Move, &[(sa(direction, 1), counters(direction, 9))]);
        assert!(matches!(below, Err(PutError::Older { installed: 10, given: 9, .. })), "{below:?}");
        table.put_as(PutKind::Move, &[(sa(direction, 1), counters(direction, 42))]).expect("put");
        assert_eq!(edge(&table, direction), 42);
        let expected = Reservation { reserved: 42, mark: 42, floor: 0, wanted: 0 };
        assert_eq!(reservation(&table, direction), expected);
    }
}

/// The next owner begins at the frozen counters, not at the reservation, so that this one may not come back to it.
#[test]
fn a_freeze_takes_back_what_was_reserved() {
    for direction in [INBOUND, OUTBOUND] {
        let (_directory, table) = table_at(10);
        reserve(&table, direction, 100, 60);
        let keys = [(direction, name(direction).key)];
        let frozen = table.freeze(&keys, Duration::from_secs(5)).expect("frozen").remove(0);
        assert_eq!(frozen.counters.edge(), 10);
        assert_eq!(reserve(&table, direction, 100, 60), 0, "nothing is reserved for what may be elsewhere");
        table.thaw(&keys).expect("thawed");
        assert_eq!((reservation(&table, direction).reserved, reservation(&table, direction).mark), (10, 10));
        assert_eq!(reserve(&table, direction, 100, 60), 1);
    }
}

/// RFC 6311's jump beyond the reservation waits for one, and says so at once.
#[test]
fn a_skip_beyond_the_reservation_asks_for_more() {
    let (_directory, table) = table_at(10);
    table.enforce_reservations(&SEGMENTS, true);
    reserve(&table, OUTBOUND, 100, 60);
    assert_eq!(table.skip_sequence(KEY, 20).expect("skipped"), 30);
    assert_eq!(drain(&table), []);
    assert_eq!(table.skip_sequence(KEY, 1000).expect("skipped"), 1030);
    let edges = drain(&table);
    assert_eq!((edges.len(), edges[0].edge, edges[0].reservation.reserved), (1, 1030, 100));
    assert_eq!(grant(&table, OUTBOUND, 1031), 100, "nothing is sent before");
    reserve(&table, OUTBOUND, 2000, 1500);
    assert_eq!((grant(&table, OUTBOUND, 1031), take(&table)), (1499, 1031));
}

/// I2, I3: a writer that dies in it leaves each word as it was or as it was to be.
#[test]
fn a_writer_that_dies_leaves_old_or_new_words() {
    for step in 1.. {
        let (directory, table) = table_at(10);
        let is_done = fault::survive(step, || {
            reserve(&table, OUTBOUND, 100, 60);
            raise(&table, INBOUND, 50);
            drop(table.put_as(PutKind::Standby, &[(sa(INBOUND, 1), counters(INBOUND, 40))]));
        });
        let table = reopen(&table_path(&directory));
        let kept = reservation(&table, OUTBOUND);
        assert!(matches!((kept.reserved, kept.mark), (10, 10 | 60) | (100, 60)), "{kept:?}");
        assert!(matches!(edge(&table, INBOUND), 10 | 50), "{}", edge(&table, INBOUND));
        // Whoever comes next can do it again.
        assert_eq!((reserve(&table, OUTBOUND, 100, 60), raise(&table, INBOUND, 50)), (1, vec![]));
        assert_eq!((reservation(&table, OUTBOUND).reserved, edge(&table, INBOUND)), (100, 50));
        if is_done {
            assert!(step > 4, "hardly anything was interrupted");
            return;
        }
    }
}

/// A worker that obeys, and a control plane that reserves what is asked for: nothing above the reservation is ever
/// taken, nothing twice, and the worker never waits for ever.
#[test]
fn reservations_are_kept_while_packets_flow() {
    let (_directory, table) = table_at(0);
    let table = Arc::new(table);
    table.enforce_reservations(&SEGMENTS, true);
    let stop = Arc::new(AtomicBool::new(false));
    let worker = {
        let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
        thread::spawn(move || {
            let (mut limit, mut last, mut waits) = (0, 0, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let handle = table.lookup(OUTBOUND, KEY).expect("found");
                let slot = table.slot(handle).expect("there");
                if let Some(number) = slot.next_sequence(1, limit) {
                    assert!(number > last && number <= limit);
                    assert!(number <= reservation(&table, OUTBOUND).reserved, "not reserved: {number}");
                    last = number;
                } else {
                    limit = table.grant(handle, SEGMENT, slot.sequence() + 1);
                    waits += u64::from(limit <= last);
                }
            }
            (last, waits)
        })
    };
    let mut granted = 0_u64;
    let mut edges = Vec::new();
    while granted < 2000 {
        table.drain_attention(&mut edges);
        for edge in edges.drain(..) {
            let reserved = edge.edge + 16;
            table.reserve(&[Reserve { sa: edge.sa, reserved, mark: reserved - 8 }]).expect("reserved");
            granted += 1;
        }
        if granted.is_multiple_of(64) {
            table.skip_sequence(KEY, 40).expect("skipped");
            granted += 1;
        }
        thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    let (last, waits) = worker.join().expect("joined");
    assert!(last > 2000 && waits > 0, "{last} {waits}");
}

/// What [`Table::wait_until_quiescent`] promises where enforcement begins under a worker's hands.
#[test]
fn enforcement_holds_from_the_next_quiescent_point_on() {
    let (_directory, table) = table_at(0);
    let table = Arc::new(table);
    let _lease = table.attach().expect("attached");
    let stop = Arc::new(AtomicBool::new(false));
    let worker = {
        let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
        thread::spawn(move || {
            let me = table.register_worker(0);
            me.online();
            let (mut limit, mut count) = (0, u64::MAX);
            while !stop.load(Ordering::Relaxed) {
                me.quiescent();
                let handle = table.lookup(OUTBOUND, KEY).expect("found");
                let slot = table.slot(handle).expect("there");
                if count != table.enforcement_count() {
                    (limit, count) = (0, table.enforcement_count());
                }
                for _ in 0..8 {
                    if slot.next_sequence(1, limit).is_none() {
                        limit = table.grant(handle, SEGMENT, slot.sequence() + 1);
                    }
                }
            }
        })
    };
    for _ in 0..200 {
        while reservation(&table, OUTBOUND).reserved >= edge(&table, OUTBOUND) {
            thread::yield_now();
        }
        table.enforce_reservations(&SEGMENTS, true);
        table.wait_until_quiescent(Duration::from_secs(10)).expect("the worker runs");
        let stopped_at = edge(&table, OUTBOUND);
        thread::yield_now();
        assert_eq!(edge(&table, OUTBOUND), stopped_at, "it went on above its reservation");
        reserve(&table, OUTBOUND, stopped_at + 3, stopped_at + 3);
        while edge(&table, OUTBOUND) < stopped_at + 3 {
            thread::yield_now();
        }
        table.enforce_reservations(&SEGMENTS, false);
    }
    stop.store(true, Ordering::Relaxed);
    worker.join().expect("joined");
}

/// What a fill of a standby and a takeover of many segments rest on: all SAs in one pass, some hundred ns each.
#[test]
fn many_sas_are_read_and_reserved_in_one_pass() {
    const SAS: u32 = 20_000;
    let directory = directory();
    let table = new_table(&directory, SAS);
    let keys: Vec<u32> = (0..SAS).map(|n| 0x4600_0100 + n).collect();
    for some in keys.chunks(512) {
        let batch: Vec<_> = some
            .iter()
            .map(|key| {
                let (sa, counters) = seeded(INBOUND, *key, 1);
                (Sa { segment: SEGMENT, ..sa }, counters)
            })
            .collect();
        table.put(&batch).expect("put");
    }
    table.enforce_reservations(&SEGMENTS, true);
    let start = Instant::now();
    let edges = table.edges(&SEGMENTS);
    let read = start.elapsed();
    assert_eq!(edges.len(), SAS as usize);
    let ahead = |edge: &Edge| Reserve { sa: edge.sa, reserved: edge.edge + 100, mark: edge.edge + 50 };
    let items: Vec<Reserve> = edges.iter().map(ahead).collect();
    let start = Instant::now();
    assert_eq!(table.reserve(&items).expect("reserved"), items.len());
    let reserved = start.elapsed();
    let floors: Vec<Floor> = items.iter().map(|item| Floor { sa: item.sa, floor: item.reserved }).collect();
    let start = Instant::now();
    assert_eq!(table.raise_floors(&floors).expect("raised"), []);
    let raised = start.elapsed();
    assert!(table.edges(&SEGMENTS).iter().all(|edge| edge.edge == edge.reservation.reserved));
    for item in &items {
        let handle = table.lookup(INBOUND, item.sa.key).expect("found");
        assert_eq!(table.grant(handle, SEGMENT, item.reserved + 1), item.reserved);
    }
    let start = Instant::now();
    assert_eq!(drain(&table).len(), SAS as usize);
    let drained = start.elapsed();
    println!(
        "per SA: read {:?}, reserve {:?}, floor {:?}, drain {:?}",
        read / SAS,
        reserved / SAS,
        raised / SAS,
        drained / SAS
    );
    assert!(read.max(reserved).max(raised).max(drained) < Duration::from_micros(20) * SAS);
}
