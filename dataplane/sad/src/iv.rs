//! IVs that are unique in the world (invariant I1): `node id (8) | epoch (24) | counter (32)`.
//!
//! The counter is node-wide and lives in the table; workers draw blocks from it. A crash wastes the
//! rest of a block. When the counter is used up, the epoch that was granted ahead takes over; no spare
//! epoch means that sending stops.

use thiserror::Error;

use crate::layout::header;
use crate::sync::{AtomicU64, Ordering};
use crate::table::Table;

/// Counter values in an epoch.
const PER_EPOCH: u64 = 1 << 32;
/// The IV word is `epoch << 40 | next counter`: the counter's end, 2^32, must not run into the epoch.
const EPOCH_SHIFT: u32 = 40;
const COUNTER_MASK: u64 = (1 << EPOCH_SHIFT) - 1;
/// The highest epoch, 24 bits.
pub(crate) const MAX_EPOCH: u32 = (1 << 24) - 1;

/// Why there is no IV. Nothing may be sent then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IvError {
    /// No epoch was granted to this table yet.
    #[error("no epoch was granted yet, so that nothing can be encrypted; see the epoch keeper's reason")]
    NoEpoch,
    /// The epoch is used up and there is no spare one.
    #[error(
        "epoch {0} is used up and no spare epoch is there; see the epoch keeper's reason, and its disk and clock"
    )]
    NoSpare(u32),
}

/// A block of IVs that nobody else has or gets.
#[derive(Debug, PartialEq, Eq)]
pub struct IvBlock {
    next: u64,
    left: u32,
}

impl IvBlock {
    /// A block without IVs.
    pub const fn empty() -> Self {
        Self { next: 0, left: 0 }
    }

    /// How many IVs are left.
    #[inline]
    pub fn remaining(&self) -> u32 {
        self.left
    }
}

impl Iterator for IvBlock {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let iv = self.next;
        // The last block of the last epoch may end at the top of the number space.
        self.next = iv.wrapping_add(1);
        Some(iv)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for IvBlock {}

/// The epochs of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochState {
    /// The epoch in use; `None` before the first grant.
    pub current: Option<u32>,
    /// The epoch granted ahead.
    pub spare: Option<u32>,
    /// IVs left in the current epoch.
    pub remaining: u64,
}

/// The two words that IVs come from.
#[derive(Clone, Copy)]
pub(crate) struct IvSource<'a> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) spare: &'a AtomicU64,
}

impl IvSource<'_> {
    /// Takes `count` counter values: the epoch and the first of them. A spare epoch at or below the
    /// current one is none: it was taken.
    #[inline]
    pub(crate) fn take(&self, count: u32) -> Result<(u32, u32), IvError> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let (epoch, counter) = split(word);
            if epoch == 0 {
                return Err(IvError::NoEpoch);
            }
            let (epoch, first) = if counter + u64::from(count) <= PER_EPOCH {
                (epoch, counter as u32)
            } else {
                (self.next_epoch(epoch)?, 0)
            };
            let new = join(epoch, u64::from(first) + u64::from(count));
            match self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok((epoch, first)),
                Err(now) => word = now,
            }
        }
    }

    #[cold]
    fn next_epoch(&self, current: u32) -> Result<u32, IvError> {
        let spare = self.spare.load(Ordering::Acquire) as u32;
        if spare > current { Ok(spare) } else { Err(IvError::NoSpare(current)) }
    }

    pub(crate) fn state(&self) -> EpochState {
        let (current, counter) = split(self.word.load(Ordering::Acquire));
        let spare = self.spare.load(Ordering::Acquire) as u32;
        EpochState {
            current: (current != 0).then_some(current),
            spare: (spare > current).then_some(spare),
            remaining: if current == 0 { 0 } else { PER_EPOCH.saturating_sub(counter) },
        }
    }

    /// Gives a granted epoch to the table: as its first one, or else as its spare.
    pub(crate) fn install(&self, epoch: u32) {
        #[cfg(all(test, not(loom)))]
        crate::fault::step();
        let first = self.word.compare_exchange(0, join(epoch, 0), Ordering::AcqRel, Ordering::Acquire);
        if first.is_err() {
            self.spare.fetch_max(u64::from(epoch), Ordering::AcqRel);
        }
    }
}

#[inline]
fn split(word: u64) -> (u32, u64) {
    ((word >> EPOCH_SHIFT) as u32, word & COUNTER_MASK)
}

#[inline]
fn join(epoch: u32, counter: u64) -> u64 {
    u64::from(epoch) << EPOCH_SHIFT | counter
}

impl Table {
    pub(crate) fn iv_source(&self) -> IvSource<'_> {
        let shared = self.shared();
        IvSource { word: shared.header(header::IV), spare: shared.header(header::SPARE_EPOCH) }
    }

    /// Draws exactly `count` IVs; no other caller in the world gets one of them.
    ///
    /// # Errors
    /// [`IvError`]: there is no epoch to draw from. Nothing may be sent until there is.
    #[inline]
    pub fn iv_block(&self, count: u32) -> Result<IvBlock, IvError> {
        let (epoch, counter) = self.iv_source().take(count)?;
        let prefix = u64::from(self.node().get()) << 56 | u64::from(epoch) << 32;
        Ok(IvBlock { next: prefix | u64::from(counter), left: count })
    }

    /// The epochs, for status and alarms.
    pub fn epoch_state(&self) -> EpochState {
        self.iv_source().state()
    }
}
