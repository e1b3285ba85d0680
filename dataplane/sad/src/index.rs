//! The index from a 32-bit key to a slot: open addressing with linear probing over atomic entries.
//!
//! An entry is `key << 32 | slot + 1`; 0 is empty. One writer at a time changes it (the table's writer
//! lock), any number of readers probe it without a lock. Inserting and replacing are one store each.
//! Deleting shifts later entries back, so that there are no tombstones and probes stay short. A shift
//! first stores the copy, then counts up the index's version, then overwrites the original: every
//! state in between holds every key, so a writer that stops or dies in the middle hides nothing, and
//! a reader that ran past a moving entry notices that the version moved and probes again.

use crate::sync::{AtomicU64, Ordering, add_single_writer, store};

/// How often a miss is verified again while entries keep moving. One deletion moves the version a few
/// times and takes longer than a probe, so even two in a row are rare.
const MISS_RETRIES: usize = 1024;

/// One index: its entries (a power of two of them) and the version that counts moved entries.
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    entries: &'a [AtomicU64],
    version: &'a AtomicU64,
}

impl<'a> Index<'a> {
    #[inline]
    pub(crate) fn new(entries: &'a [AtomicU64], version: &'a AtomicU64) -> Self {
        debug_assert!(entries.len().is_power_of_two());
        Self { entries, version }
    }

    /// The slot of `key`. Lock-free; a miss is verified against entries that moved meanwhile.
    #[inline]
    pub(crate) fn find(&self, key: u32) -> Option<u32> {
        // Hits are the common case and need no verification: an entry seen is an entry that was there.
        if let Some((_, slot)) = self.probe(key) {
            return Some(slot);
        }
        self.find_verified(key)
    }

    #[cold]
    pub(crate) fn find_verified(&self, key: u32) -> Option<u32> {
        for _ in 0..MISS_RETRIES {
            let before = self.version.load(Ordering::Acquire);
            if let Some((_, slot)) = self.probe(key) {
                return Some(slot);
            }
            if self.version.load(Ordering::Relaxed) == before {
                return None;
            }
        }
        None
    }

    /// Stores `key -> slot`, replacing what the key had. The caller keeps the load at or below half.
    pub(crate) fn set(&self, key: u32, slot: u32) {
        let entry = encode(key, slot);
        let mut at = self.home(key);
        for _ in 0..self.entries.len() {
            let seen = self.entries[at].load(Ordering::Relaxed);
            if seen == 0 || (seen >> 32) as u32 == key {
                store(&self.entries[at], entry, Ordering::Release);
                return;
            }
            at = self.next(at);
        }
        unreachable!("an index is at most half full");
    }

    /// Removes `key`; whether it was there.
    pub(crate) fn remove(&self, key: u32) -> bool {
        let Some((at, _)) = self.probe(key) else { return false };
        self.remove_at(at);
        true
    }

    /// Backward-shift deletion of the entry at `hole`.
    fn remove_at(&self, mut hole: usize) {
        let mut at = hole;
        loop {
            at = self.next(at);
            let entry = self.entries[at].load(Ordering::Relaxed);
            if entry == 0 {
                break;
            }
            if self.may_move(entry, at, hole) {
                store(&self.entries[hole], entry, Ordering::Release);
                self.count_move();
                hole = at;
            }
        }
        store(&self.entries[hole], 0, Ordering::Release);
    }

    /// Counts a move between the store of the copy and the overwriting of the original. All three are
    /// release stores, and readers load with acquire: whoever sees the original overwritten sees the
    /// version moved, and whoever starts from that version sees the copy.
    fn count_move(&self) {
        add_single_writer(self.version, 1);
    }

    /// An entry may fill the hole unless its home lies cyclically after the hole, up to the entry.
    fn may_move(&self, entry: u64, at: usize, hole: usize) -> bool {
        let distance = |from: usize| at.wrapping_sub(from) & (self.entries.len() - 1);
        distance(self.home((entry >> 32) as u32)) >= distance(hole)
    }

    /// Completes a deletion that a dead writer left half done, and drops entries that `keep` rejects.
    pub(crate) fn repair(&self, keep: impl Fn(u32, u32) -> bool) {
        let mut at = 0;
        while at < self.entries.len() {
            let entry = self.entries[at].load(Ordering::Relaxed);
            let (key, slot) = decode(entry);
            let first = self.probe(key).map(|(position, _)| position);
            if entry != 0 && (first != Some(at) || !keep(key, slot)) {
                // What moves into this place has to be looked at again.
                self.remove_at(at);
            } else {
                at += 1;
            }
        }
    }

    /// All entries: keys and slots.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let entries = self.entries.iter().map(|entry| entry.load(Ordering::Acquire));
        entries.filter(|entry| *entry != 0).map(decode)
    }

    #[inline]
    fn probe(&self, key: u32) -> Option<(usize, u32)> {
        let mut at = self.home(key);
        // Bounded: even a damaged index without an empty entry cannot hold a worker.
        for _ in 0..self.entries.len() {
            let entry = self.entries[at].load(Ordering::Acquire);
            if entry == 0 {
                return None;
            }
            let (found, slot) = decode(entry);
            if found == key {
                return Some((at, slot));
            }
            at = self.next(at);
        }
        None
    }

    #[inline]
    fn home(&self, key: u32) -> usize {
        home(key, self.entries.len())
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
    }
}

#[inline]
fn encode(key: u32, slot: u32) -> u64 {
    u64::from(key) << 32 | (u64::from(slot) + 1)
}

#[inline]
fn decode(entry: u64) -> (u32, u32) {
    ((entry >> 32) as u32, (entry as u32).wrapping_sub(1))
}

/// Where the probe for a key begins, in an index of so many entries (a power of two).
#[inline]
pub(crate) fn home(key: u32, entries: usize) -> usize {
    mix(key) as usize & (entries - 1)
}

/// The 64-bit finaliser of MurmurHash3: SPIs of one segment share their top octet and often count up.
#[inline]
fn mix(key: u32) -> u64 {
    let mut h = u64::from(key);
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}
