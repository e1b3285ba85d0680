//! GET, and what else reads SAs: without a lock, and without stopping anybody.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

use super::Table;
use super::reserve::{Reservation, read_reservation};
use super::slots::split_key_word;
use super::writer::WriteError;
use crate::layout::{CONFIG_WORDS, header, slot};
use crate::sa::{Counters, Direction, ReplayWindow, Sa, decode, name_tag, ring_index};
use crate::seqlock;
use crate::shared::SlotWords;
use crate::slot::{SaHandle, is_installed, state};
use crate::sync::{Ordering, fence, spin};

/// Tries of a GET that spin: a writer is inside an SA for a fraction of a microsecond.
const SPINS: u32 = 1_000;
/// All tries of a GET; those after the first ones sleep, since the writer is dead or was put off its
/// processor in there, and the system may take its time to let it go on.
const TRIES: u32 = SPINS + 20_000;
const PAUSE: Duration = Duration::from_micros(100);
/// Tries of a worker for a configuration: it has packets waiting.
const WORKER_TRIES: u32 = 200;
/// Scans of the whole table without the writer lock.
const SCANS: u32 = 4;
/// Tries for a window that keeps sliding.
const WINDOW_TRIES: u32 = 8;

/// One SA at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its configuration.
    pub sa: Sa,
    /// Its counters; final if it is frozen.
    pub counters: Counters,
    /// How far its sequence numbers may be used, and from where on; its counters have the floor in them already.
    pub reservation: Reservation,
    /// Whether workers leave it alone.
    pub frozen: bool,
    /// Which content of which slot this was.
    pub handle: SaHandle,
}

/// Why a GET failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GetError {
    /// It was changed again and again while it was read.
    #[error("the {direction} SA {key:#x} is being changed all the time; try again")]
    Busy {
        /// Its direction.
        direction: Direction,
        /// Its SPI or reqid.
        key: u32,
    },
    /// The table was changed again and again while it was searched, and its lock was not to be had.
    #[error("the SA table is being changed all the time; try again")]
    Changing,
    /// Its words make no SA.
    #[error("the {direction} SA {key:#x} in the table is damaged; restore it from a snapshot")]
    Damaged {
        /// Its direction.
        direction: Direction,
        /// Its SPI or reqid.
        key: u32,
    },
}

/// Why a worker does not get a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The handle is not that of the slot's content any more: look it up again.
    #[error("the SA was replaced, updated or removed; look it up again")]
    Stale,
    /// A writer is inside: try again with the next packet.
    #[error("the SA is being changed; try again")]
    Busy,
    /// Its words make no SA.
    #[error("the SA in the table is damaged; restore it from a snapshot")]
    Damaged,
}

/// Why one try to read a slot gave nothing.
enum Failure {
    Moving,
    Gone,
    Damaged,
}

impl Table {
    /// Reads an SA: an inbound one by SPI, an outbound one by reqid. Lock-free; no worker notices.
    /// Unless the SA is frozen, its counters move on meanwhile.
    ///
    /// # Errors
    /// If a writer keeps changing it, or the table is damaged.
    pub fn get(&self, direction: Direction, key: u32) -> Result<Option<Snapshot>, GetError> {
        for attempt in 0..TRIES {
            let Some(number) = self.shared().resolve(direction, key) else { return Ok(None) };
            match self.read_slot(number) {
                // Only what has the key, and what the key still leads to: a slot may have been given to another
                // SA meanwhile, and given back.
                Ok((snapshot, _))
                    if (snapshot.sa.direction, snapshot.sa.index_key()) == (direction, key)
                        && self.shared().resolve(direction, key) == Some(number) =>
                {
                    return Ok(Some(snapshot));
                }
                Err(Failure::Damaged) => return Err(GetError::Damaged { direction, key }),
                Ok(_) | Err(Failure::Moving | Failure::Gone) => self.back_off(attempt),
            }
        }
        Err(GetError::Busy { direction, key })
    }

    /// All SAs of the tunnel with this name, as they stand together at one instant: a replacement meanwhile
    /// leaves none out. Looks at one word per slot, then at those that may fit.
    ///
    /// # Errors
    /// If one of them cannot be read, or the table keeps changing: never a part of them.
    pub fn read_by_name(&self, name: &str) -> Result<Vec<Snapshot>, GetError> {
        self.undisturbed(|| self.scan_for_name(name)).map_err(|_| GetError::Changing)?
    }

    /// What [`Self::read_by_name`] gives; nothing where it fails.
    pub fn find_by_name(&self, name: &str) -> Vec<Snapshot> {
        self.read_by_name(name).unwrap_or_default()
    }

    /// All SAs, each whole; those that come or go meanwhile may be among them or not.
    pub fn iter(&self) -> impl Iterator<Item = Snapshot> + '_ {
        let keys = self.undisturbed(|| self.keys());
        // Whoever holds the lock for so long is not changing anything.
        let mut keys = keys.unwrap_or_else(|_| self.keys());
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|(direction, key)| self.get(direction, key).ok().flatten())
    }

    /// Runs a scan so that no SA moves from a part not yet seen to one that was: again if a change fell
    /// into it, and at last under the writer lock.
    fn undisturbed<T>(&self, scan: impl Fn() -> T) -> Result<T, WriteError> {
        for _ in 0..SCANS {
            if let Some(before) = self.idle_since() {
                let found = scan();
                // What the scan has read is not younger than what is read now.
                fence(Ordering::Acquire);
                if self.idle_since() == Some(before) {
                    return Ok(found);
                }
            }
            spin();
        }
        let _writer = self.write()?;
        Ok(scan())
    }

    /// The last transaction, if it is over.
    fn idle_since(&self) -> Option<u64> {
        let transaction = self.shared().header(header::TRANSACTION).load(Ordering::Acquire);
        let idle = self.shared().header(header::INTENT).load(Ordering::Acquire) == 0;
        idle.then_some(transaction)
    }

    /// One pass over the name tags. Goes by keys, not slots: the slot may be an SA's old or coming one.
    fn scan_for_name(&self, name: &str) -> Result<Vec<Snapshot>, GetError> {
        let tag = name_tag(name);
        let tagged = (0..self.used_slots()).zip(self.shared().tags());
        let tagged = tagged.filter(|(_, word)| word.load(Ordering::Acquire) == tag);
        let words = tagged.filter_map(|(number, _)| self.shared().slot(number));
        let keys: BTreeSet<_> = words.map(|words| words[slot::KEY].load(Ordering::Acquire)).collect();
        let mut found = Vec::new();
        for (direction, key) in keys.into_iter().map(split_key_word) {
            let snapshot = self.get(direction, key)?;
            found.extend(snapshot.filter(|snapshot| snapshot.sa.name.as_str() == name));
        }
        Ok(found)
    }

    /// The keys of all SAs, some twice if a writer died. The index keeps an SA's entry when it is replaced.
    fn keys(&self) -> Vec<(Direction, u32)> {
        let of = |direction| self.shared().index(direction).entries().map(move |(key, _)| (direction, key));
        of(Direction::Inbound).chain(of(Direction::Outbound)).collect()
    }

    /// The slots that were ever used are those below this number, at most [`Table::slots`].
    pub fn used_slots(&self) -> u32 {
        (self.shared().header(header::FRESH).load(Ordering::Acquire) as u32).min(self.slots())
    }

    /// The SA in a slot, for those who walk over all of them a few at a time, from 0 to [`Table::used_slots`]. One that is
    /// replaced meanwhile may be seen twice or, until the next round, not at all.
    pub fn handle_at(&self, number: u32) -> Option<SaHandle> {
        let words = self.shared().slot(number)?;
        let generation = words[slot::GENERATION].load(Ordering::Acquire);
        let is_here = is_installed(words[slot::STATE].load(Ordering::Acquire));
        is_here.then_some(SaHandle { slot: number, generation })
    }

    /// A worker's reading of the configuration, once per (slot, generation).
    ///
    /// # Errors
    /// [`ConfigError::Stale`] if the handle is out of date, [`ConfigError::Busy`] if a writer is inside.
    pub fn read_config(&self, handle: SaHandle) -> Result<Sa, ConfigError> {
        let words = self.shared().slot(handle.slot).ok_or(ConfigError::Stale)?;
        for _ in 0..WORKER_TRIES {
            match read_config(words) {
                Ok((sa, generation, _)) if generation == handle.generation => return Ok(sa),
                Ok(_) | Err(Failure::Gone) => return Err(ConfigError::Stale),
                Err(Failure::Damaged) => return Err(ConfigError::Damaged),
                Err(Failure::Moving) => spin(),
            }
        }
        Err(ConfigError::Busy)
    }

    fn back_off(&self, attempt: u32) {
        if attempt < SPINS {
            spin();
        } else {
            // Where the lock cannot be tried, the last try will tell.
            let _ = self.recover_if_abandoned();
            thread::sleep(PAUSE);
        }
    }

    fn read_slot(&self, number: u32) -> Result<(Snapshot, u64), Failure> {
        let words = self.shared().slot(number).ok_or(Failure::Gone)?;
        let (sa, generation, version) = read_config(words)?;
        let counters = read_counters(words, &sa);
        let reservation = read_reservation(words);
        let frozen = state::of(words[slot::STATE].load(Ordering::Acquire)) == state::FROZEN;
        if !seqlock::end_read(&words[slot::VERSION], version) {
            return Err(Failure::Moving);
        }
        let handle = SaHandle { slot: number, generation };
        Ok((Snapshot { sa, counters, reservation, frozen, handle }, version))
    }
}

/// Configuration, its generation, and the version of the slot that it was read at.
fn read_config(words: &SlotWords) -> Result<(Sa, u64, u64), Failure> {
    let version = seqlock::begin_read(&words[slot::VERSION]).ok_or(Failure::Moving)?;
    let generation = words[slot::GENERATION].load(Ordering::Acquire);
    if !is_installed(words[slot::STATE].load(Ordering::Acquire)) {
        return Err(Failure::Gone);
    }
    let mut config = Zeroizing::new([0; CONFIG_WORDS]);
    seqlock::copy_out(&words[slot::CONFIG..], &mut *config);
    if !seqlock::end_read(&words[slot::VERSION], version) {
        return Err(Failure::Moving);
    }
    let sa = decode(&config).ok_or(Failure::Damaged)?;
    Ok((sa, generation, version))
}

/// Counters with the floor in them: an outbound SA has used the numbers up to it, an inbound one has received them.
fn read_counters(words: &SlotWords, sa: &Sa) -> Counters {
    let mut counters = read_own_counters(words, sa);
    let floor = words[slot::FLOOR].load(Ordering::Acquire);
    counters.sequence = counters.sequence.max(floor);
    if sa.direction == Direction::Inbound {
        counters.window.close_up_to(floor, sa.replay_window);
    }
    counters
}

/// Counters as the SA's own packets have left them.
pub(super) fn read_own_counters(words: &SlotWords, sa: &Sa) -> Counters {
    let word = |i: usize| words[i].load(Ordering::Relaxed);
    let window = match sa.direction {
        Direction::Inbound => read_window(words, sa.replay_window),
        Direction::Outbound => ReplayWindow::default(),
    };
    Counters {
        sequence: match sa.direction {
            Direction::Inbound => window.top,
            Direction::Outbound => words[slot::SEQUENCE].load(Ordering::Acquire),
        },
        window,
        packets: word(slot::PACKETS),
        octets: word(slot::OCTETS),
        replay_drops: word(slot::REPLAY_DROPS),
        integrity_failures: word(slot::INTEGRITY_FAILURES),
    }
}

/// Reads the window while its worker may be sliding it; see [`crate::SlotView::slide_to`].
fn read_window(words: &SlotWords, size: u16) -> ReplayWindow {
    let blocks = u64::from(size.min(4096)) / 64 + 1;
    for _ in 0..WINDOW_TRIES {
        let before = words[slot::SEQUENCE].load(Ordering::Acquire);
        let newest = before / 64;
        let oldest = newest.saturating_sub(blocks - 1);
        let ring = &words[slot::REPLAY..];
        let block = |block: u64| ring[ring_index(block)].load(Ordering::Relaxed);
        let mut read: Vec<u64> = (oldest..=newest).rev().map(block).collect();
        fence(Ordering::Acquire);
        let top = words[slot::SEQUENCE].load(Ordering::Relaxed);
        if top / 64 == newest {
            // The top was received, though its worker may not have come to marking it yet.
            read[0] |= 1 << (top % 64);
            return ReplayWindow { top, words: read };
        }
    }
    // It slides faster than we read: nothing at or below the top may be accepted again.
    ReplayWindow::closed(words[slot::SEQUENCE].load(Ordering::Relaxed), size)
}
