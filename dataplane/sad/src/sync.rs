//! The atomics that everything in the mapping is made of: the standard library's, or loom's under
//! `--cfg loom`, so that the model checker runs on the very code that runs in production.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Stores a word of the table. All stores of writers go through here: in tests the process can be
/// killed before any of them, which is every state that a `kill -9` can leave in the mapping.
#[inline]
pub(crate) fn store(word: &AtomicU64, value: u64, ordering: Ordering) {
    #[cfg(all(test, not(loom)))]
    crate::fault::step();
    word.store(value, ordering);
}

/// Adds to a word that only one thread writes (the holder of the writer lock, or an SA's worker):
/// no locked instruction is needed, readers see the old value or the new one.
#[inline]
pub(crate) fn add_single_writer(word: &AtomicU64, by: u64) {
    store(word, word.load(Ordering::Relaxed).wrapping_add(by), Ordering::Release);
}

/// Tells the processor that this is a spin.
#[inline]
pub(crate) fn spin() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
