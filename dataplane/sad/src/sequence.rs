//! Sequence numbers, which one worker takes or accepts while somebody else skips some: the worker's word is the last one
//! used, and the other's a floor, below which none is used any more. Each word has one writer at a time and only
//! rises, so that no number comes twice, whoever dies when (I2).

use crate::sync::{AtomicU64, Ordering, store};

/// The last number taken or skipped.
#[inline]
pub(crate) fn edge(last: &AtomicU64, floor: &AtomicU64) -> u64 {
    last.load(Ordering::Acquire).max(floor.load(Ordering::Acquire))
}

/// The worker takes `count` numbers and gets the first; `None`, and none taken, if the last would be above `limit`.
#[inline]
pub(crate) fn take(last: &AtomicU64, floor: &AtomicU64, count: u32, limit: u64) -> Option<u64> {
    let before = last.load(Ordering::Relaxed).max(floor.load(Ordering::Acquire));
    let after = before.checked_add(u64::from(count)).filter(|after| *after <= limit)?;
    store(last, after, Ordering::Release);
    Some(before + 1)
}

/// Skips `by` numbers from the present one on, and gives the last of them; `None`, and none skipped, if none would be
/// left up to `limit`. One thread at a time.
pub(crate) fn skip(last: &AtomicU64, floor: &AtomicU64, by: u64, limit: u64) -> Option<u64> {
    let raised = edge(last, floor).checked_add(by).filter(|raised| *raised < limit)?;
    store(floor, raised, Ordering::Release);
    Some(raised)
}

/// Raises a word that only rises, if `to` is above it. One thread at a time.
pub(crate) fn raise(word: &AtomicU64, to: u64) {
    if to > word.load(Ordering::Relaxed) {
        store(word, to, Ordering::Release);
    }
}
