//! What changes while an SA carries packets.

use super::{Direction, Sa};
use crate::layout::REPLAY_WORDS;

/// The counters of one SA.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Outbound: the last sequence number sent. Inbound: the highest authenticated.
    pub sequence: u64,
    /// Inbound: which packets were received; if its top is below `sequence`, everything up to
    /// `sequence` counts as received. Outbound: empty.
    pub window: ReplayWindow,
    /// Packets protected or accepted.
    pub packets: u64,
    /// Octets of inner packets in them.
    pub octets: u64,
    /// Packets dropped as replayed or too old.
    pub replay_drops: u64,
    /// Packets dropped for a wrong integrity check value.
    pub integrity_failures: u64,
}

impl Counters {
    /// Moves the SA's edge up by `by`, for restoring a snapshot whose SA went on sending or receiving
    /// after it was taken (I2, I3): the next outbound sequence number lies above the new edge, and
    /// inbound packets at or below it are refused.
    pub fn advance(&mut self, sa: &Sa, by: u64) {
        let limit = if sa.extended_sequence { u64::MAX } else { u64::from(u32::MAX) };
        self.sequence = self.edge().saturating_add(by).min(limit);
        if sa.direction == Direction::Inbound {
            self.window = ReplayWindow::closed(self.sequence, sa.replay_window);
        }
    }

    /// The highest sequence number that has been used.
    pub fn edge(&self) -> u64 {
        self.sequence.max(self.window.top)
    }
}

/// A replay window (RFC 4303 section 3.4.3), independent of where the ring of RFC 6479 turned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayWindow {
    /// The highest sequence number received.
    pub top: u64,
    /// Received packets, 64 in a word, newest first: word `i` is block `top / 64 - i`, its bit `j` is
    /// sequence number `64 * block + j`. A window of W has W / 64 + 1 words; words that are missing
    /// count as received.
    pub words: Vec<u64>,
}

impl ReplayWindow {
    /// A window in which everything up to `top` has been received.
    pub fn closed(top: u64, size: u16) -> Self {
        let mut words = vec![u64::MAX; usize::from(size) / 64 + 1];
        words[0] = bits_up_to(top);
        Self { top, words }
    }

    /// Counts everything up to `floor` as received.
    pub(crate) fn close_up_to(&mut self, floor: u64, size: u16) {
        if floor == 0 {
            return;
        }
        if floor >= self.top {
            *self = Self::closed(floor, size);
            return;
        }
        let newest = self.top / 64;
        for (word, block) in self.words.iter_mut().zip((0..=newest).rev()) {
            if block < floor / 64 {
                *word = u64::MAX;
            } else if block == floor / 64 {
                *word |= bits_up_to(floor);
            }
        }
    }

    /// Whether this sequence number counts as received in a window of `size`: it was, or is too old.
    pub fn has(&self, sequence: u64, size: u16) -> bool {
        if sequence > self.top {
            return false;
        }
        if self.top - sequence >= u64::from(size) {
            return true;
        }
        self.block(sequence / 64) >> (sequence % 64) & 1 == 1
    }

    /// The bits of a block at or below the top's.
    pub(crate) fn block(&self, block: u64) -> u64 {
        let newest = self.top / 64;
        match self.words.get((newest - block) as usize) {
            Some(word) if block == newest => word & bits_up_to(self.top),
            Some(word) => *word,
            None if block == newest => bits_up_to(self.top),
            None => u64::MAX,
        }
    }

    /// The ring that the table holds.
    pub(crate) fn to_ring(&self) -> [u64; REPLAY_WORDS] {
        let mut ring = [0; REPLAY_WORDS];
        let newest = self.top / 64;
        for block in newest.saturating_sub(REPLAY_WORDS as u64 - 1)..=newest {
            ring[ring_index(block)] = self.block(block);
        }
        ring
    }
}

/// Bits 0 to `sequence % 64`.
fn bits_up_to(sequence: u64) -> u64 {
    u64::MAX >> (63 - sequence % 64)
}

/// Where a block of 64 sequence numbers stands in the ring (RFC 6479 section 2).
#[inline]
pub(crate) fn ring_index(block: u64) -> usize {
    (block % REPLAY_WORDS as u64) as usize
}
