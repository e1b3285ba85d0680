//! A worker's share of the node's IVs (I1).

use baton_sad::{IvBlock, Table};

use crate::drop_reason::DropReason;

/// IVs taken from the table at a time: one atomic addition for so many packets, so many wasted by a crash.
const BLOCK: u32 = 256;

/// The rest of the block that this worker took last. Each IV is handed out once, by value.
#[derive(Debug)]
pub(super) struct IvSupply(IvBlock);

impl Default for IvSupply {
    fn default() -> Self {
        Self(IvBlock::empty())
    }
}

impl IvSupply {
    #[inline]
    pub(super) fn next(&mut self, table: &Table) -> Result<u64, DropReason> {
        if let Some(iv) = self.0.next() {
            return Ok(iv);
        }
        self.0 = table.iv_block(BLOCK).map_err(|_| DropReason::IvUnavailable)?;
        self.0.next().ok_or(DropReason::IvUnavailable)
    }
}
