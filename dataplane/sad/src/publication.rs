//! How a PUT of several SAs becomes visible at once.
//!
//! Its new slots carry the number of its transaction and, each, the slot that it replaces. The index is
//! swapped to them first; a reader that meets such a slot compares the number with the header's commit
//! word: not committed means that the predecessor is still the truth. One store of the commit word
//! therefore publishes all of them, and a writer that dies before it has published nothing.

use crate::sync::{AtomicU64, Ordering};

/// The transaction of a slot whose PUT is complete.
pub(crate) const SETTLED: u64 = 0;

/// The slot that is the truth for an index entry that leads to `number`.
#[inline]
pub(crate) fn resolve(
    number: u32,
    transaction: &AtomicU64,
    predecessor: &AtomicU64,
    committed: &AtomicU64,
) -> Option<u32> {
    let pending = transaction.load(Ordering::Acquire);
    // Equality, not order: an undone PUT must not look committed when a later one commits. A reader
    // slow enough to miss both sees the predecessor, which was the truth when it started.
    if pending == SETTLED || committed.load(Ordering::Acquire) == pending {
        return Some(number);
    }
    (predecessor.load(Ordering::Acquire) as u32).checked_sub(1)
}
