//! What may happen to an SA, and to the process that uses it, between two packets.

use std::time::Duration;

use baton_sad::{Direction, DscpPolicy, PutError, Sa, Snapshot};

use super::common::{Gateway, REQID, SPI, Setup};

/// By how much a restore of a stale snapshot moves an SA ahead.
pub const ADVANCE: u64 = 100;

/// Each leaves the SA usable; what came before it must stay behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another configuration in place.
    Update,
    /// Frozen and put back by the same snapshot, as by a move to oneself.
    Replace,
    /// Frozen, removed, put back.
    Remove,
    /// Restored from a snapshot that may be stale.
    Advance,
    /// Somebody tries to put an old snapshot back.
    Old,
    /// The workers start anew.
    Restart,
    /// The process starts anew.
    Reopen,
}

impl Step {
    const ALL: [Self; 7] =
        [Self::Update, Self::Replace, Self::Remove, Self::Advance, Self::Old, Self::Restart, Self::Reopen];

    /// All of them, in an order of which there are as many as steps.
    pub fn in_order(number: usize) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().cycle().skip(number % Self::ALL.len()).take(Self::ALL.len())
    }

    /// Happens to the SA of `direction` at a gateway.
    pub fn happen(self, gateway: &mut Gateway, setup: &Setup, direction: Direction) {
        match self {
            Self::Update => update(gateway, direction),
            Self::Replace => {
                let snapshot = freeze(gateway, direction);
                put(gateway, snapshot);
            }
            Self::Remove => {
                let snapshot = freeze(gateway, direction);
                assert_eq!(gateway.table.remove(&[key(gateway.end, direction)]).unwrap(), 1);
                // The SA is gone for the workers too.
                gateway.run();
                put(gateway, snapshot);
            }
            Self::Advance => {
                let mut snapshot = get(gateway, direction);
                snapshot.counters.advance(&snapshot.sa, ADVANCE);
                put(gateway, snapshot);
            }
            Self::Old => put_old(gateway, direction),
            Self::Restart => gateway.restart(setup),
            Self::Reopen => gateway.reopen(setup),
        }
    }
}

/// How the table calls a gateway's first SA.
pub fn key(end: usize, direction: Direction) -> (Direction, u32) {
    (direction, if direction == Direction::Inbound { SPI[end] } else { REQID })
}

pub fn get(gateway: &Gateway, direction: Direction) -> Snapshot {
    let (direction, key) = key(gateway.end, direction);
    gateway.table.get(direction, key).unwrap().unwrap()
}

/// The final state of an SA. The workers turn meanwhile.
pub fn freeze(gateway: &mut Gateway, direction: Direction) -> Snapshot {
    let (table, keys) = (std::sync::Arc::clone(&gateway.table), [key(gateway.end, direction)]);
    let freezer = std::thread::spawn(move || table.freeze(&keys, Duration::from_secs(10)).unwrap());
    while !freezer.is_finished() {
        gateway.run();
    }
    freezer.join().unwrap().remove(0)
}

fn put(gateway: &Gateway, snapshot: Snapshot) {
    gateway.table.put(&[(snapshot.sa, snapshot.counters)]).unwrap();
}

fn update(gateway: &Gateway, direction: Direction) {
    let snapshot = get(gateway, direction);
    let changed = Sa { dscp: DscpPolicy::Set(10), ..snapshot.sa };
    gateway.table.update(&changed).unwrap();
    assert_eq!(get(gateway, direction).counters, snapshot.counters);
}

fn put_old(gateway: &Gateway, direction: Direction) {
    let Snapshot { sa, counters, .. } = get(gateway, direction);
    assert!(counters.edge() > 0, "there is something to go back to");
    let refused = gateway.table.put(&[(sa, baton_sad::Counters::default())]);
    assert!(matches!(refused, Err(PutError::Older { .. })), "{refused:?}");
}
