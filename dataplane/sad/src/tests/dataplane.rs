//! Workers: quiescence, freezing, counters, and what remains of a data plane that died.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::inspect::assert_sound;
use super::{INBOUND, OUTBOUND, directory, new_table, reopen, seeded, table_path};
use crate::fault;
use crate::{AttachError, Counters, FreezeError, NOT_OWNED, OWNED, PutError, SlotState, WriteError};

const TIMEOUT: Duration = Duration::from_millis(50);

#[test]
fn one_data_plane_per_table() {
    let directory = directory();
    let table = new_table(&directory, 4);
    let lease = table.attach().expect("attached");
    let refused = reopen(&table_path(&directory)).attach().expect_err("refused");
    let own = u64::from(std::process::id());
    assert!(matches!(refused, AttachError::InUse { pid, .. } if pid == own), "{refused}");
    drop(lease);
    table.attach().expect("attached again");
}

#[test]
fn freezing_waits_for_workers_that_are_online_and_names_the_one_that_hangs() {
    let directory = directory();
    let table = new_table(&directory, 4);
    table.put(&[seeded(OUTBOUND, 7, 1), seeded(INBOUND, 0x300, 1)]).expect("put");
    let lease = table.attach().expect("attached");
    let (idle, busy) = (table.register_worker(0), table.register_worker(3));
    idle.online();
    idle.offline();
    busy.online();
    let keys = [(OUTBOUND, 7), (INBOUND, 0x300)];
    let refused = table.freeze(&keys, TIMEOUT).expect_err("refused");
    assert!(matches!(refused, FreezeError::WorkerBusy { worker: 3, .. }), "{refused}");
    let state = || table.slot(table.lookup(OUTBOUND, 7).expect("found")).expect("there").state();
    assert_eq!(state(), SlotState::Live, "a freeze that failed is undone");
    busy.offline();
    assert_eq!(table.freeze(&keys, TIMEOUT).expect("frozen").len(), 2);
    assert_eq!(state(), SlotState::Frozen);
    busy.online();
    assert!(table.freeze(&[keys[0]], TIMEOUT).is_err());
    assert_eq!(state(), SlotState::Frozen, "it was frozen before");
    let missing = table.freeze(&[keys[0], (OUTBOUND, 8)], TIMEOUT).expect_err("refused");
    assert!(matches!(missing, FreezeError::NotFound { key: 8, .. }));
    // The data plane dies with its worker online.
    drop(lease);
    assert_eq!(table.freeze(&keys, TIMEOUT).expect("frozen").len(), 2);
    assert_eq!(table.thaw(&keys).expect("thawed"), 2);
}

#[test]
fn nobody_waits_for_the_writer_lock_without_end() {
    let directory = directory();
    let (table, path) = (new_table(&directory, 4), table_path(&directory));
    let _stopped = table.write().expect("locked");
    // In another process, which is another open file, and in another thread of the same one.
    for other in [&reopen(&path), &table] {
        let start = Instant::now();
        let refused = other.put(&[seeded(OUTBOUND, 7, 1)]).expect_err("locked");
        assert!(matches!(refused, PutError::Write(WriteError::Busy { .. })), "{refused}");
        assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&start.elapsed()));
        assert!(refused.to_string().contains("sa-table.lock"), "{refused}");
        let start = Instant::now();
        assert!(matches!(other.freeze(&[], TIMEOUT), Err(FreezeError::Write(WriteError::Busy { .. }))));
        assert!(start.elapsed() < Duration::from_secs(1), "a freeze's time counts from its call");
    }
}

/// I2: a freeze that fails thaws only what it froze itself, and another one of the same SA either holds on
/// to it or fails as well.
#[test]
fn a_freeze_that_fails_does_not_thaw_what_another_one_exports() {
    let directory = directory();
    let table = new_table(&directory, 4);
    table.put(&[seeded(OUTBOUND, 7, 1)]).expect("put");
    let _lease = table.attach().expect("attached");
    let worker = table.register_worker(0);
    let state = |key| table.slot(table.lookup(OUTBOUND, key).expect("found")).expect("there").state();
    let long = Duration::from_secs(5);
    for _ in 0..50 {
        table.put(&[seeded(OUTBOUND, 8, 1)]).expect("put");
        worker.online();
        let held = thread::scope(|scope| {
            let failing = scope.spawn(|| table.freeze(&[(OUTBOUND, 7), (OUTBOUND, 8)], long));
            while state(8) == SlotState::Live {
                thread::yield_now();
            }
            table.freeze(&[(OUTBOUND, 7)], Duration::ZERO).expect_err("the worker is busy");
            assert_eq!(state(7), SlotState::Frozen, "another freeze is under way");
            let other = scope.spawn(|| table.freeze(&[(OUTBOUND, 7)], long));
            table.remove(&[(OUTBOUND, 8)]).expect("removed");
            thread::sleep(Duration::from_millis(1));
            worker.offline();
            assert!(failing.join().expect("joined").is_err(), "one was removed");
            other.join().expect("joined").is_ok()
        });
        assert_eq!(state(7) == SlotState::Frozen, held);
        table.thaw(&[(OUTBOUND, 7)]).expect("thawed");
    }
}

/// I2: what a freeze exports is final.
#[test]
fn a_frozen_sequence_is_above_all_that_was_ever_reserved() {
    let directory = directory();
    let table = Arc::new(new_table(&directory, 4));
    let (sa, _) = seeded(OUTBOUND, 7, 1);
    table.put(&[(sa, Counters::default())]).expect("put");
    let _lease = table.attach().expect("attached");
    let stop = Arc::new(AtomicBool::new(false));
    let worker = {
        let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
        thread::spawn(move || {
            let me = table.register_worker(0);
            let mut sent = HashSet::new();
            while !stop.load(Ordering::Relaxed) {
                me.online();
                for _ in 0..50 {
                    let handle = table.lookup(OUTBOUND, 7).expect("always there");
                    let slot = table.slot(handle).expect("current");
                    if slot.state() == SlotState::Live {
                        let first = slot.next_sequence(3, u64::MAX).expect("far from the limit");
                        assert!((first..first + 3).all(|n| sent.insert(n)), "sent twice");
                    }
                    me.quiescent();
                }
                me.offline();
            }
            sent.into_iter().max().unwrap_or(0)
        })
    };
    let mut last = 0;
    for _ in 0..200 {
        let edge =
            table.freeze(&[(OUTBOUND, 7)], Duration::from_secs(5)).expect("frozen")[0].counters.sequence;
        assert!(edge >= last);
        thread::sleep(Duration::from_micros(50));
        let later = table.get(OUTBOUND, 7).expect("got").expect("there").counters.sequence;
        assert_eq!(edge, later, "it moved while it was frozen");
        last = later;
        table.thaw(&[(OUTBOUND, 7)]).expect("thawed");
    }
    stop.store(true, Ordering::Relaxed);
    let highest = worker.join().expect("joined");
    let handle = table.lookup(OUTBOUND, 7).expect("found");
    assert_eq!(table.slot(handle).expect("there").sequence(), highest);
}

#[test]
fn slots_are_not_reused_under_a_worker_and_not_leaked_by_a_dead_one() {
    let directory = directory();
    let table = new_table(&directory, 1);
    let lease = table.attach().expect("attached");
    let worker = table.register_worker(0);
    table.put(&[seeded(INBOUND, 0x300, 0)]).expect("put");
    worker.online();
    let held = table.lookup(INBOUND, 0x300).expect("found");
    let mut seed = 1;
    let refused = loop {
        match table.put(&[seeded(INBOUND, 0x300, seed)]) {
            Ok(receipt) => assert_ne!(receipt.handles[0].slot(), held.slot(), "reused under the worker"),
            Err(refused) => break refused,
        }
        seed += 1;
    };
    assert!(matches!(refused, PutError::WorkerBusy(0)), "{refused}");
    assert_eq!(seed, u64::from(table.slots()), "all slots were used before");
    assert_eq!(table.slot(held).expect("still its own").state(), SlotState::Dead);
    assert!(table.read_config(held).is_err());
    worker.quiescent();
    table.put(&[seeded(INBOUND, 0x300, seed)]).expect("put");
    drop(lease);
    for seed in 0..1000 {
        table.put(&[seeded(INBOUND, 0x300, seed)]).expect("a dead data plane holds nothing up");
    }
    assert_sound(&table);
}

/// I3, and the ring of RFC 6479 against a set of numbers.
#[test]
fn the_replay_ring_equals_a_set_of_numbers() {
    let directory = directory();
    let table = new_table(&directory, 1);
    let (mut sa, _) = seeded(INBOUND, 0x300, 1);
    let mut random = 1_u64;
    for size in [64_u16, 1024, 4096] {
        sa.replay_window = size;
        table.remove(&[(INBOUND, 0x300)]).expect("removed");
        table.put(&[(sa.clone(), Counters::default())]).expect("put");
        let slot = table.slot(table.lookup(INBOUND, 0x300).expect("found")).expect("there");
        let mut received = HashSet::from([0]);
        for _ in 0..5000 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(99);
            let top = slot.replay_top();
            let sequence = match random >> 60 {
                0 => top + (random >> 40) % 9000 + 1,
                1..=8 => top + 1,
                _ => top.saturating_sub((random >> 40) % u64::from(size)),
            };
            if sequence > top {
                slot.slide_to(sequence);
            } else {
                let known = slot.replay_block(sequence / 64) >> (sequence % 64) & 1 == 1;
                assert_eq!(known, received.contains(&sequence), "{sequence} below {top}, window {size}");
                slot.mark_received(sequence);
            }
            received.insert(sequence);
        }
        let window = table.get(INBOUND, 0x300).expect("got").expect("there").counters.window;
        let top = window.top;
        for sequence in top - u64::from(size) + 1..=top {
            assert_eq!(window.has(sequence, size), received.contains(&sequence));
        }
        assert!(window.has(top - u64::from(size), size) && !window.has(top + 1, size));
        restore_elsewhere(&sa, &window, &received);
    }
}

/// A window keeps its meaning in another table.
fn restore_elsewhere(sa: &crate::Sa, window: &crate::ReplayWindow, received: &HashSet<u64>) {
    let directory = directory();
    let table = new_table(&directory, 1);
    let counters = Counters { sequence: window.top, window: window.clone(), ..Counters::default() };
    table.put(&[(sa.clone(), counters.clone())]).expect("put");
    assert_eq!(table.get(INBOUND, 0x300).expect("got").expect("there").counters, counters);
    let slot = table.slot(table.lookup(INBOUND, 0x300).expect("found")).expect("there");
    for sequence in window.top - u64::from(sa.replay_window) + 1..=window.top {
        let known = slot.replay_block(sequence / 64) >> (sequence % 64) & 1 == 1;
        assert_eq!(known, received.contains(&sequence));
    }
}

#[test]
fn sequences_end_at_their_limit() {
    let directory = directory();
    let table = new_table(&directory, 1);
    let (sa, _) = seeded(OUTBOUND, 7, 1);
    let limit = u64::from(u32::MAX);
    table.put(&[(sa, Counters { sequence: limit - 2, ..Counters::default() })]).expect("put");
    let slot = table.slot(table.lookup(OUTBOUND, 7).expect("found")).expect("there");
    assert_eq!(slot.next_sequence(3, limit), None);
    assert_eq!(slot.next_sequence(2, limit), Some(limit - 1));
    assert_eq!(slot.next_sequence(1, limit), None);
    assert_eq!(slot.next_sequence(1, u64::MAX), Some(limit + 1));
}

#[test]
fn leases_are_kept_and_compared_with_the_time() {
    let directory = directory();
    let table = new_table(&directory, 1);
    assert_eq!(table.owned_segments(0), [0; 4]);
    for (segment, deadline) in [(0, OWNED), (63, 10), (64, 11), (255, 12), (7, NOT_OWNED)] {
        table.set_lease(segment, deadline);
    }
    let table = reopen(&table_path(&directory));
    assert_eq!(table.lease(255), 12);
    assert_eq!(table.owned_segments(10), [1, 1, 0, 1 << 63]);
    assert_eq!(table.owned_segments(12), [1, 0, 0, 0]);
    table.set_hold(65, 20);
    assert_eq!((table.hold(65), table.next_lease_end(12)), (20, Some(20)));
    assert_eq!(table.wanted_segments(12), [1, 2, 0, 0]);
    assert_eq!((table.owned_segments(12), table.wanted_segments(20)), ([1, 0, 0, 0], [1, 0, 0, 0]));
}

/// I3: a worker stores the new top first, and marks it a moment later.
#[test]
fn a_get_between_a_new_top_and_its_mark_takes_it_as_received() {
    let directory = directory();
    let table = new_table(&directory, 1);
    let (mut sa, _) = seeded(INBOUND, 0x300, 1);
    sa.replay_window = 64;
    table.put(&[(sa, Counters::default())]).expect("put");
    let slot = table.slot(table.lookup(INBOUND, 0x300).expect("found")).expect("there");
    // The stores of a slide to 70: the top, the cleared block, the mark.
    for step in 2..=3 {
        assert!(!fault::survive(step, || slot.slide_to(70 * step)));
        let window = table.get(INBOUND, 0x300).expect("got").expect("there").counters.window;
        assert_eq!(window.top, 70 * step);
        assert!(window.has(window.top, 64));
    }
}

#[test]
fn a_get_while_the_window_slides_never_takes_a_received_packet_as_new() {
    let directory = directory();
    let table = Arc::new(new_table(&directory, 1));
    let (mut sa, _) = seeded(INBOUND, 0x300, 1);
    sa.replay_window = 4096;
    table.put(&[(sa, Counters::default())]).expect("put");
    let stop = Arc::new(AtomicBool::new(false));
    let worker = {
        let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
        thread::spawn(move || {
            let slot = table.slot(table.lookup(INBOUND, 0x300).expect("found")).expect("there");
            // Every number is received, in order and with jumps that are filled in.
            let mut top = 0;
            while !stop.load(Ordering::Relaxed) {
                slot.slide_to(top + 70);
                (top..top + 70).for_each(|sequence| slot.mark_received(sequence));
                top += 70;
            }
        })
    };
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        let window = table.get(INBOUND, 0x300).expect("got").expect("there").counters.window;
        // Those of the last slide may be missing, all older ones must be there.
        for sequence in window.top.saturating_sub(4095)..window.top.saturating_sub(140) {
            assert!(window.has(sequence, 4096), "{sequence} below {}", window.top);
        }
    }
    stop.store(true, Ordering::Relaxed);
    worker.join().expect("joined");
}
