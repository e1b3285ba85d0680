//! Sequence numbers that are skipped under a worker's hands (RFC 6311 section 5.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{INBOUND, OUTBOUND, directory, new_table, reopen, seeded, table_path};
use crate::fault;
use crate::{Counters, PutError, SkipError, Table};

const LIMIT_32: u64 = u32::MAX as u64;

fn table_at(sequence: u64, is_extended: bool) -> (tempfile::TempDir, Table) {
    let directory = directory();
    let table = new_table(&directory, 4);
    let (mut sa, _) = seeded(OUTBOUND, 7, 1);
    sa.extended_sequence = is_extended;
    table.put(&[(sa, Counters { sequence, ..Counters::default() })]).expect("put");
    (directory, table)
}

fn take(table: &Table) -> u64 {
    let slot = table.slot(table.lookup(OUTBOUND, 7).expect("found")).expect("there");
    slot.next_sequence(1, u64::MAX).expect("a number")
}

fn edge(table: &Table) -> u64 {
    table.get(OUTBOUND, 7).expect("got").expect("there").counters.sequence
}

#[test]
fn the_next_number_is_beyond_those_that_are_skipped() {
    let (directory, table) = table_at(41, true);
    assert_eq!(take(&table), 42);
    assert_eq!(table.skip_sequence(7, 1000).expect("skipped"), 1042);
    assert_eq!((edge(&table), take(&table), take(&table)), (1042, 1043, 1044));
    // Twice before a packet is sent, and once after.
    table.skip_sequence(7, 10).expect("skipped");
    assert_eq!(table.skip_sequence(7, 1 << 40).expect("skipped"), (1 << 40) + 1054);
    // Whoever opens the table next sees it as well, and so does a worker.
    let again = reopen(&table_path(&directory));
    assert_eq!((edge(&again), take(&again)), ((1 << 40) + 1054, (1 << 40) + 1055));
}

#[test]
fn an_sa_that_has_too_few_left_is_left_alone() {
    let (_directory, table) = table_at(100, false);
    for by in [LIMIT_32 - 100, LIMIT_32, u64::MAX] {
        let refused = table.skip_sequence(7, by).expect_err("refused");
        assert!(matches!(refused, SkipError::Exhausted { edge: 100, .. }), "{refused}");
    }
    assert_eq!(take(&table), 101);
    assert_eq!(table.skip_sequence(7, LIMIT_32 - 102).expect("one is left"), LIMIT_32 - 1);
    let (_directory, table) = table_at(u64::MAX - 10, true);
    assert!(matches!(table.skip_sequence(7, 10), Err(SkipError::Exhausted { .. })));
    assert_eq!(table.skip_sequence(7, 9).expect("one is left"), u64::MAX - 1);
    assert!(matches!(table.skip_sequence(8, 1), Err(SkipError::NotFound(8))));
}

/// I2: what a freeze exports is final, and what was skipped is part of it.
#[test]
fn a_frozen_sa_skips_nothing_and_a_snapshot_has_what_was_skipped() {
    let (_directory, table) = table_at(5, true);
    table.skip_sequence(7, 100).expect("skipped");
    let frozen = table.freeze(&[(OUTBOUND, 7)], Duration::from_secs(5)).expect("frozen").remove(0);
    assert_eq!(frozen.counters.sequence, 105);
    assert!(matches!(table.skip_sequence(7, 100), Err(SkipError::Frozen(7))));
    // A PUT under the same key may not take it back.
    let stale = Counters { sequence: 104, ..Counters::default() };
    let refused = table.put(&[(frozen.sa.clone(), stale)]).expect_err("refused");
    assert!(matches!(refused, PutError::Older { installed: 105, given: 104, .. }), "{refused}");
    table.put(&[(frozen.sa, frozen.counters)]).expect("put");
    assert_eq!(take(&table), 106);
}

/// A slot that is used again has no floor of the SA before.
#[test]
fn another_sa_in_the_same_place_begins_anew() {
    let (_directory, table) = table_at(5, true);
    table.skip_sequence(7, 1 << 40).expect("skipped");
    for round in 0..8 {
        let (mut sa, _) = seeded(OUTBOUND, 7, 2 * round + 11);
        sa.extended_sequence = false;
        table.put(&[(sa, Counters::default())]).expect("put");
        assert_eq!((edge(&table), take(&table)), (0, 1));
    }
}

/// I2: a writer that dies anywhere in it has skipped all of them or none, and nobody sends one twice.
#[test]
fn a_writer_that_dies_has_skipped_all_or_nothing() {
    for step in 1.. {
        let (directory, table) = table_at(5, true);
        let is_done = fault::survive(step, || drop(table.skip_sequence(7, 100)));
        let table = reopen(&table_path(&directory));
        let before = edge(&table);
        assert!(matches!(before, 5 | 105), "{before}");
        assert_eq!(take(&table), before + 1);
        assert_eq!(table.skip_sequence(7, 100).expect("again"), before + 101);
        if is_done {
            assert!(step > 1, "nothing was interrupted");
            return;
        }
    }
}

/// I2, with a worker that sends all the time: no number comes twice, each one that is taken after a skip is above it,
/// and inbound SAs have nothing to do with it.
#[test]
fn nothing_is_repeated_while_packets_flow() {
    let directory = directory();
    let table = Arc::new(new_table(&directory, 4));
    let (mut sa, _) = seeded(OUTBOUND, 7, 1);
    sa.extended_sequence = true;
    let other = seeded(INBOUND, 0x300, 1);
    table
        .put(&[(sa, Counters::default()), (other.0, Counters { sequence: 9, ..Counters::default() })])
        .expect("put");
    let stop = Arc::new(AtomicBool::new(false));
    let worker = {
        let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
        thread::spawn(move || {
            let (mut last, mut jumps) = (0, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let first = {
                    let slot = table.slot(table.lookup(OUTBOUND, 7).expect("found")).expect("there");
                    slot.next_sequence(3, u64::MAX).expect("far from the limit")
                };
                assert!(first > last, "{first} after {last}");
                jumps += u64::from(first > last + 1);
                last = first + 2;
            }
            (last, jumps)
        })
    };
    let (mut highest, mut skips) = (0, 0_u64);
    while skips < 2000 {
        let before = edge(&table);
        let floor = table.skip_sequence(7, 1 << 20).expect("skipped");
        assert!(floor >= before + (1 << 20) && floor > highest);
        assert!(edge(&table) >= floor);
        (highest, skips) = (floor, skips + 1);
        if skips.is_multiple_of(16) {
            thread::sleep(Duration::from_micros(200));
        }
    }
    // The worker may have sent nothing after the last one yet.
    while edge(&table) <= highest {
        thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    let (last, jumps) = worker.join().expect("joined");
    assert!(last > highest && jumps > 1, "{last} {jumps}");
    assert_eq!(edge(&table), last);
    assert_eq!(table.get(INBOUND, 0x300).expect("got").expect("there").counters.edge(), 9);
}
