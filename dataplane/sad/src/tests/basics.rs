//! The simple path.

use std::thread;
use std::time::{Duration, Instant};

use super::{INBOUND, OUTBOUND, directory, new_table, reopen, seeded, table_path};
use crate::{GetError, SlotState, Table};

#[test]
fn what_was_put_is_got_also_by_another_process() {
    let directory = directory();
    let table = new_table(&directory, 16);
    let batch = [seeded(INBOUND, 0x2a00_0001, 1), seeded(OUTBOUND, 7, 2)];
    let receipt = table.put(&batch).expect("put");
    assert_eq!(receipt.replaced, 0);
    let other = reopen(&table_path(&directory));
    for ((direction, key), (sa, counters)) in [(INBOUND, 0x2a00_0001), (OUTBOUND, 7)].into_iter().zip(&batch)
    {
        let snapshot = other.get(direction, key).expect("got").expect("there");
        assert_eq!((&snapshot.sa, &snapshot.counters), (sa, counters));
        let handle = other.lookup(direction, key).expect("found");
        assert_eq!(handle, snapshot.handle);
        assert_eq!(other.read_config(handle).expect("read"), *sa);
        assert_eq!(other.slot(handle).expect("there").state(), SlotState::Live);
    }
    assert_eq!(other.get(INBOUND, 7), Ok(None));
    assert_eq!(other.installed(), 2);
    assert_eq!(other.iter().count(), 2);
    assert_eq!(other.find_by_name("tunnel-7").len(), 1);
}

/// A search that goes through the slots meets an SA that moves between them.
#[test]
fn a_search_misses_no_sa_that_is_replaced_meanwhile() {
    let directory = directory();
    // So many that the pair is replaced while a search is among them.
    let table = new_table(&directory, 21_000);
    let filler: Vec<_> = (0..20_000).map(|n| seeded(INBOUND, 0x1000 + n, 1)).collect();
    for batch in filler.chunks(1000) {
        table.put(batch).expect("put");
    }
    let pair = |seed| [seeded(INBOUND, 0x300, seed), seeded(OUTBOUND, 0x300, seed)];
    table.put(&pair(0)).expect("put");
    // Retired slots all over, for the pair to move to.
    for n in (0..20_000).rev().step_by(9) {
        table.remove(&[(INBOUND, 0x1000 + n)]).expect("removed");
    }
    let end = Instant::now() + Duration::from_millis(300);
    thread::scope(|scope| {
        scope.spawn(|| {
            for seed in (1..).take_while(|_| Instant::now() < end) {
                table.put(&pair(seed)).expect("put");
                table.remove(&[(INBOUND, 0x1000 + (seed as u32 * 7919 % 20_000))]).expect("removed");
                table.put(&[filler[seed as usize * 7919 % 20_000].clone()]).expect("put");
            }
        });
        while Instant::now() < end {
            for _ in 0..100 {
                assert_eq!(table.read_by_name("tunnel-300").expect("read").len(), 2);
            }
            assert_eq!(table.iter().filter(|found| found.sa.name.as_str() == "tunnel-300").count(), 2);
        }
    });
}

#[test]
fn a_get_never_gives_an_sa_of_another_key() {
    let directory = directory();
    let table = new_table(&directory, 4);
    let handles = table.put(&[seeded(INBOUND, 0x300, 1), seeded(INBOUND, 0x301, 1)]).expect("put").handles;
    // As a reader may see it that was put off its processor while the slot went from one SA to another.
    table.shared().index(INBOUND).set(0x300, handles[1].slot());
    assert_eq!(table.get(INBOUND, 0x300), Err(GetError::Busy { direction: INBOUND, key: 0x300 }));
}

#[test]
fn a_replacement_takes_effect_and_the_old_slot_is_wiped_and_used_again() {
    let directory = directory();
    let table = new_table(&directory, 1);
    for seed in 0..1000 {
        let (sa, counters) = seeded(INBOUND, 300, seed);
        table.put(&[(sa.clone(), counters)]).expect("put");
        assert_eq!(table.get(INBOUND, 300).expect("got").expect("there").sa, sa);
    }
    assert_eq!(table.remove(&[(INBOUND, 300), (INBOUND, 301)]).expect("removed"), 1);
    assert_eq!(table.get(INBOUND, 300), Ok(None));
    assert_no_key_remains(&table);
}

fn assert_no_key_remains(table: &Table) {
    use crate::sync::Ordering;
    for number in 0..table.slots() {
        let words = table.shared().slot(number).expect("a slot");
        assert!(words[crate::layout::slot::CONFIG..].iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }
}

#[test]
fn a_frozen_sa_stays_frozen_until_thawed_or_replaced() {
    let directory = directory();
    let table = new_table(&directory, 4);
    table.put(&[seeded(OUTBOUND, 7, 1)]).expect("put");
    let frozen = table.freeze(&[(OUTBOUND, 7)], Duration::from_millis(100)).expect("frozen");
    assert!(frozen[0].frozen);
    let state = |t: &Table| t.slot(t.lookup(OUTBOUND, 7).expect("found")).expect("there").state();
    assert_eq!(state(&table), SlotState::Frozen);
    assert_eq!(table.thaw(&[(OUTBOUND, 7)]).expect("thawed"), 1);
    assert_eq!(state(&table), SlotState::Live);
}

#[test]
fn an_update_keeps_counters_and_slot_but_not_the_generation() {
    let directory = directory();
    let table = new_table(&directory, 4);
    let (mut sa, counters) = seeded(INBOUND, 300, 5);
    let before = table.put(&[(sa.clone(), counters.clone())]).expect("put").handles[0];
    sa.path_mtu = 1234;
    let after = table.update(&sa).expect("updated");
    assert_eq!(after.slot(), before.slot());
    assert_ne!(after.generation(), before.generation());
    assert!(table.slot(before).is_none());
    let snapshot = table.get(INBOUND, 300).expect("got").expect("there");
    assert_eq!((snapshot.sa, snapshot.counters), (sa, counters));
}
