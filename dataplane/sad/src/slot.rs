//! What workers see of a slot: the counters that they keep.

use crate::layout::{REPLAY_WORDS, slot};
use crate::sa::ring_index;
use crate::sequence;
use crate::shared::SlotWords;
use crate::sync::{AtomicU64, Ordering, add_single_writer, fence, store};

/// Names one content of one slot: after an update or another SA's move into the slot the generation is
/// another one. Workers key what they prepared from it by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SaHandle {
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

impl SaHandle {
    /// The slot's number, below [`crate::Table::slots`]. The SA's worker is this modulo the workers.
    #[inline]
    pub fn slot(self) -> u32 {
        self.slot
    }

    /// The content's number, never 0 and never the same again for this slot.
    #[inline]
    pub fn generation(self) -> u64 {
        self.generation
    }
}

/// Where the MTU stands in the word of the learned path MTU; below it, when that ends, in ms.
const LEARNED_SHIFT: u32 = 48;

/// What a worker may do with an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// Use it.
    Live,
    /// Leave it alone: it is being moved to another node, and its counters must not change.
    Frozen,
    /// It was removed or replaced: look the key up again.
    Dead,
}

/// Numbers of the states in a slot.
pub(crate) mod state {
    pub(crate) const FREE: u64 = 0;
    /// Being filled, or holding what an update undoes.
    pub(crate) const FILLING: u64 = 1;
    pub(crate) const LIVE: u64 = 2;
    /// With the number of the freeze above it: see [`frozen_by`].
    pub(crate) const FROZEN: u64 = 3;
    pub(crate) const DEAD: u64 = 4;
    const BITS: u32 = 8;

    /// The state in a slot's state word.
    #[inline]
    pub(crate) fn of(word: u64) -> u64 {
        word & ((1 << BITS) - 1)
    }

    /// The state word of an SA that one freeze froze, so that a freeze that fails undoes no other's.
    pub(crate) fn frozen_by(number: u64) -> u64 {
        number << BITS | FROZEN
    }
}

/// Whether a slot with this state word holds an installed SA.
pub(crate) fn is_installed(word: u64) -> bool {
    matches!(state::of(word), state::LIVE | state::FROZEN)
}

/// The counters of an SA as its one worker uses them: no lock, no allocation, no system call.
///
/// Only the SA's worker calls what changes them (single writer); everybody may read.
#[derive(Debug, Clone, Copy)]
pub struct SlotView<'a> {
    words: &'a SlotWords,
}

impl<'a> SlotView<'a> {
    #[inline]
    pub(crate) fn new(words: &'a SlotWords) -> Self {
        Self { words }
    }

    /// Whether the SA may be used. A worker asks once per batch, after its quiescent point.
    #[inline]
    pub fn state(&self) -> SlotState {
        match state::of(self.words[slot::STATE].load(Ordering::Acquire)) {
            state::LIVE => SlotState::Live,
            state::FROZEN => SlotState::Frozen,
            _ => SlotState::Dead,
        }
    }

    /// The generation now; another one than the handle's says that the configuration was updated.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.words[slot::GENERATION].load(Ordering::Acquire)
    }

    /// Outbound: the last sequence number sent or skipped. Inbound: the top of the replay window, or the floor above it.
    #[inline]
    pub fn sequence(&self) -> u64 {
        sequence::edge(&self.words[slot::SEQUENCE], &self.words[slot::FLOOR])
    }

    /// Outbound: reserves `count` sequence numbers and gives the first; `None`, and nothing reserved,
    /// if the last would lie above `limit` (2^32 - 1, or 2^64 - 1 with extended numbers: RFC 4303
    /// section 3.3.3), which [`crate::Table::grant`] may lower. They are in the table before a packet carries them, so that a crash skips
    /// numbers but never repeats one (I2). They are above all that [`crate::Table::skip_sequence`] skips.
    #[inline]
    pub fn next_sequence(&self, count: u32, limit: u64) -> Option<u64> {
        sequence::take(&self.words[slot::SEQUENCE], &self.words[slot::FLOOR], count, limit)
    }

    /// Up to this number nothing is sent any more, or everything counts as received: see [`crate::Reservation`].
    #[inline]
    pub fn floor(&self) -> u64 {
        self.words[slot::FLOOR].load(Ordering::Acquire)
    }

    /// Inbound: the highest sequence number authenticated.
    #[inline]
    pub fn replay_top(&self) -> u64 {
        self.words[slot::SEQUENCE].load(Ordering::Acquire)
    }

    /// The bits of a block of 64 sequence numbers (`sequence / 64`), which must be the top's or one of
    /// the 64 before it.
    #[inline]
    pub fn replay_block(&self, block: u64) -> u64 {
        self.ring()[ring_index(block)].load(Ordering::Relaxed)
    }

    /// Marks a sequence number at or below the top, within the window, as received.
    #[inline]
    pub fn mark_received(&self, sequence: u64) {
        let word = &self.ring()[ring_index(sequence / 64)];
        store(word, word.load(Ordering::Relaxed) | 1 << (sequence % 64), Ordering::Relaxed);
    }

    /// Slides the window so that `top`, which must be above the present top, is its top and received.
    #[inline]
    pub fn slide_to(&self, top: u64) {
        let old = self.replay_top() / 64;
        // The top goes first: a GET that catches the ring half cleared then sees the new top, takes
        // packets as received that were not, and never the other way round (I3).
        store(&self.words[slot::SEQUENCE], top, Ordering::Release);
        let new = top / 64;
        if new != old {
            fence(Ordering::Release);
            let first = (old + 1).max((new + 1).saturating_sub(REPLAY_WORDS as u64));
            for block in first..=new {
                store(&self.ring()[ring_index(block)], 0, Ordering::Relaxed);
            }
        }
        self.mark_received(top);
    }

    /// Counts packets that were protected or accepted, and the octets of the inner packets.
    #[inline]
    pub fn add_packets(&self, packets: u64, octets: u64) {
        add_single_writer(&self.words[slot::PACKETS], packets);
        add_single_writer(&self.words[slot::OCTETS], octets);
    }

    /// Counts packets dropped as replayed or too old.
    #[inline]
    pub fn add_replay_drops(&self, packets: u64) {
        add_single_writer(&self.words[slot::REPLAY_DROPS], packets);
    }

    /// Counts packets dropped for a wrong integrity check value.
    #[inline]
    pub fn add_integrity_failures(&self, packets: u64) {
        add_single_writer(&self.words[slot::INTEGRITY_FAILURES], packets);
    }

    /// Notes when the SA was used last: now, in ns of the machine's boot clock.
    #[inline]
    pub fn touch(&self, now: u64) {
        store(&self.words[slot::LAST_USED], now, Ordering::Relaxed);
    }

    /// When the SA was used last, in ns of the machine's boot clock; 0 is never since it was installed here.
    #[inline]
    pub fn last_used(&self) -> u64 {
        self.words[slot::LAST_USED].load(Ordering::Relaxed)
    }

    /// The path MTU that was learned, in octets, while it holds at `now` (ns of the boot clock).
    #[inline]
    pub fn learned_path_mtu(&self, now: u64) -> Option<u16> {
        let word = self.words[slot::PATH_MTU].load(Ordering::Relaxed);
        let ends_in_ms = word & ((1 << LEARNED_SHIFT) - 1);
        (word != 0 && now / 1_000_000 < ends_in_ms).then_some((word >> LEARNED_SHIFT) as u16)
    }

    /// Learns a path MTU until `until` (ns of the boot clock). The one thing of this view that the control plane writes,
    /// one thread of it.
    pub fn learn_path_mtu(&self, octets: u16, until: u64) {
        let ends_in_ms = (until / 1_000_000).min((1 << LEARNED_SHIFT) - 1);
        store(
            &self.words[slot::PATH_MTU],
            u64::from(octets) << LEARNED_SHIFT | ends_in_ms,
            Ordering::Relaxed,
        );
    }

    /// Packets counted so far.
    #[inline]
    pub fn packets(&self) -> u64 {
        self.words[slot::PACKETS].load(Ordering::Relaxed)
    }

    /// Octets counted so far.
    #[inline]
    pub fn octets(&self) -> u64 {
        self.words[slot::OCTETS].load(Ordering::Relaxed)
    }

    #[inline]
    fn ring(self) -> &'a [AtomicU64] {
        &self.words[slot::REPLAY..slot::REPLAY + REPLAY_WORDS]
    }
}
