//! The table's own books, checked from inside: every slot is in exactly one place.

use std::collections::HashSet;

use super::{INBOUND, OUTBOUND};
use crate::Table;
use crate::layout::{header, slot};
use crate::slot::{is_installed, state};
use crate::sync::Ordering;

/// Asserts that nothing is lost, doubled or left unwiped. Call it when no writer is active.
pub(crate) fn assert_sound(table: &Table) {
    let free = list(table, header::FREE_HEAD);
    let retired = list(table, header::RETIRED_HEAD);
    assert_eq!(free.len() as u64, value(table, header::FREE_COUNT), "free slots");
    assert_eq!(retired.len() as u64, value(table, header::RETIRED_COUNT), "retired slots");
    assert_eq!(retired.last().map_or(0, |n| u64::from(*n) + 1), value(table, header::RETIRED_TAIL));
    assert_eq!(value(table, header::INTENT), 0);
    let indexed = indexed(table);
    let mut seen = HashSet::new();
    for number in free.iter().chain(&retired).chain(&indexed) {
        assert!(seen.insert(*number), "slot {number} is in two places");
    }
    assert_eq!(seen.len() as u64, value(table, header::FRESH), "slots leaked");
    assert_eq!(indexed.len() as u64, value(table, header::INSTALLED));
    for number in free {
        assert_unused(table, number, state::FREE);
    }
    for number in retired {
        assert_unused(table, number, state::DEAD);
    }
    assert!(indexed.iter().all(|number| is_installed(word(table, *number, slot::STATE))));
}

fn assert_unused(table: &Table, number: u32, state: u64) {
    assert_eq!(word(table, number, slot::STATE), state);
    assert_eq!(word(table, number, slot::VERSION) % 2, 0);
    let words = table.shared().slot(number).expect("a slot");
    assert!(
        words[slot::CONFIG..].iter().all(|w| w.load(Ordering::Relaxed) == 0),
        "slot {number} keeps a key"
    );
    assert_eq!(table.shared().tags()[number as usize].load(Ordering::Relaxed), 0);
}

fn value(table: &Table, word: usize) -> u64 {
    table.shared().header_value(word)
}

fn word(table: &Table, number: u32, word: usize) -> u64 {
    table.shared().slot(number).expect("a slot")[word].load(Ordering::Relaxed)
}

fn list(table: &Table, head: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut next = value(table, head);
    while let Some(number) = (next as u32).checked_sub(1) {
        assert!(numbers.len() < table.slots() as usize, "a list that runs in a circle");
        numbers.push(number);
        next = word(table, number, slot::LINK);
    }
    numbers
}

/// The slots that both indexes lead to, each entry checked.
fn indexed(table: &Table) -> Vec<u32> {
    let mut numbers = Vec::new();
    for direction in [INBOUND, OUTBOUND] {
        for (key, number) in table.shared().index(direction).entries() {
            assert_eq!(table.shared().resolve(direction, key), Some(number));
            let key_word = crate::table::key_word(direction, key);
            assert_eq!(word(table, number, slot::KEY), key_word);
            numbers.push(number);
        }
    }
    numbers
}
