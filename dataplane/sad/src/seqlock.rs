//! A sequence lock over plain atomic words (invariant I5: nobody sees half of a write).
//!
//! The version is odd while a writer is inside. All words are atomics, so a racing read is defined;
//! it is thrown away when the version moved. There is one writer at a time (the table's writer lock).
//! See H.-J. Boehm, "Can seqlocks get along with programming language memory models?", 2012.

use crate::sync::{AtomicU64, Ordering, fence, store};

/// Opens a write. Tolerates a version left odd by a writer that died.
pub(crate) fn begin_write(version: &AtomicU64) -> u64 {
    let odd = version.load(Ordering::Relaxed) | 1;
    store(version, odd, Ordering::Relaxed);
    // The words written after this must not become visible before the odd version.
    fence(Ordering::Release);
    odd
}

/// Closes the write that [`begin_write`] opened.
pub(crate) fn end_write(version: &AtomicU64, odd: u64) {
    store(version, odd.wrapping_add(1), Ordering::Release);
}

/// Starts a read; `None` while a writer is inside.
#[inline]
pub(crate) fn begin_read(version: &AtomicU64) -> Option<u64> {
    let seen = version.load(Ordering::Acquire);
    (seen & 1 == 0).then_some(seen)
}

/// Whether all that was read since [`begin_read`] belongs together.
#[inline]
pub(crate) fn end_read(version: &AtomicU64, seen: u64) -> bool {
    // The loads before this must not be satisfied after the version is read again.
    fence(Ordering::Acquire);
    version.load(Ordering::Relaxed) == seen
}

/// Copies words out; the caller brackets it with [`begin_read`] and [`end_read`].
#[inline]
pub(crate) fn copy_out(words: &[AtomicU64], into: &mut [u64]) {
    for (value, word) in into.iter_mut().zip(words) {
        *value = word.load(Ordering::Relaxed);
    }
}

/// Copies words in; the caller brackets it with [`begin_write`] and [`end_write`].
pub(crate) fn copy_in(words: &[AtomicU64], from: &[u64]) {
    for (word, value) in words.iter().zip(from) {
        store(word, *value, Ordering::Relaxed);
    }
}

/// Overwrites words with zeros; the caller brackets it like [`copy_in`].
pub(crate) fn clear(words: &[AtomicU64]) {
    for word in words {
        store(word, 0, Ordering::Relaxed);
    }
}
