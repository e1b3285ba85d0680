//! Blocks of IVs.

use super::{EpochState, IvError, IvSource};
use crate::layout::header;
use crate::table::Table;

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
