//! How far an SA's worker may use sequence numbers before the standbys are known to have skipped them (I2, I3).
//!
//! The control plane raises RESERVED after every standby has skipped that far, so that a standby which takes over
//! begins above all that was sent or accepted. The worker remembers the limit that [`grant`] gave it and comes back
//! when a number passes it; MARK, below RESERVED, makes it come early enough to ask for more in time.

use crate::sync::{AtomicU64, Ordering, store};

/// The words that a worker looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GrantWords<'a> {
    /// Whether the SA's segment enforces reservations.
    pub(crate) enforced: &'a AtomicU64,
    pub(crate) reserved: &'a AtomicU64,
    pub(crate) mark: &'a AtomicU64,
    pub(crate) wanted: &'a AtomicU64,
    /// The word and the bit that ask for attention.
    pub(crate) attention: (&'a AtomicU64, u64),
}

/// The worker wants to use `number`: gives the highest number that it may use without asking again, which is below
/// `number` if that is not reserved. Asks for attention where the mark or the reservation is passed.
pub(crate) fn grant(words: GrantWords<'_>, number: u64) -> u64 {
    if words.enforced.load(Ordering::Acquire) == 0 {
        return u64::MAX;
    }
    let reserved = words.reserved.load(Ordering::Acquire);
    let mark = words.mark.load(Ordering::Relaxed);
    if number > reserved {
        store(words.wanted, number.max(words.wanted.load(Ordering::Relaxed)), Ordering::Relaxed);
    } else if number < mark {
        return reserved.min(mark - 1);
    }
    ask(words.attention);
    reserved
}

/// Sets a bit of attention. Always, even if it is set: whoever drains it may have read the SA's edge already.
pub(crate) fn ask((word, bit): (&AtomicU64, u64)) {
    word.fetch_or(bit, Ordering::AcqRel);
}

/// Takes the bits of a word; what those who set them did before is seen.
pub(crate) fn drain(word: &AtomicU64) -> u64 {
    if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::AcqRel) }
}
