//! The counter that all IVs come from, and the epoch granted ahead.

use thiserror::Error;

use crate::sync::{AtomicU64, Ordering};

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
                (epoch, counter)
            } else {
                (self.next_epoch(epoch)?, 0)
            };
            let new = join(epoch, first + u64::from(count));
            match self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                // Only an empty block can begin at the epoch's end.
                Ok(_) => return Ok((epoch, first as u32)),
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
