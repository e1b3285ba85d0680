//! Quiescence: when has every worker stopped using what was just taken away?
//!
//! One counter of grace periods, and one word per worker that repeats the counter's value at each of
//! its quiescent points (between batches), or says that the worker is offline (idle, or not there).
//! Whoever takes something away (an index entry, the `Live` state) starts a grace period after it; a
//! worker whose word is at or above that period, or offline, no longer uses it.

use crate::sync::{AtomicU64, Ordering, fence, store};

/// The word of a worker that uses nothing. Grace periods start at 1.
pub(crate) const OFFLINE: u64 = 0;

/// Starts a grace period after something was taken away; one writer at a time.
pub(crate) fn start_grace_period(counter: &AtomicU64) -> u64 {
    let period = counter.load(Ordering::Relaxed) + 1;
    // Release: a worker that repeats this period also sees what was taken away before it.
    store(counter, period, Ordering::Release);
    // Against `go_online`: either we see the worker online, or it sees what was taken away.
    fence(Ordering::SeqCst);
    period
}

/// Whether the worker with this word has stopped using what was taken away before `period`.
pub(crate) fn has_passed(worker: &AtomicU64, period: u64) -> bool {
    let word = worker.load(Ordering::Acquire);
    word == OFFLINE || word >= period
}

/// A worker's quiescent point: it holds nothing from the table.
#[inline]
pub(crate) fn pass(worker: &AtomicU64, counter: &AtomicU64) {
    let period = counter.load(Ordering::Acquire);
    // Release: all uses before this point happened before whoever sees it.
    worker.store(period, Ordering::Release);
}

/// A worker begins to use the table.
#[inline]
pub(crate) fn go_online(worker: &AtomicU64, counter: &AtomicU64) {
    worker.store(counter.load(Ordering::Acquire), Ordering::Relaxed);
    // Against `start_grace_period`: the reads that follow must not be older than this store.
    fence(Ordering::SeqCst);
}

/// A worker stops using the table until it is online again.
#[inline]
pub(crate) fn go_offline(worker: &AtomicU64) {
    worker.store(OFFLINE, Ordering::Release);
}
