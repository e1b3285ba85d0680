//! Anti-replay (RFC 4303 section 3.4.3) with extended sequence numbers (appendix A2).
//!
//! The window is a ring of bits, as in RFC 6479: the bit of a sequence number never moves, and advancing clears
//! what it passes. It lives in the SA table as atomic words, written by the SA's one owner only, so that it
//! survives the process and a snapshot can read it at any time. Check before opening, commit after: only what is
//! authentic moves the window.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a sequence number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Seen already, or zero, which no sender uses (RFC 4303 section 3.3.3).
    Replayed,
    /// Left of the window.
    TooOld,
    /// It would be above the largest number that exists.
    Wrapped,
}

/// The window of one SA: the highest authenticated number and one bit for each of the last `64 * words.len()`.
#[derive(Clone, Copy, Debug)]
pub struct Window<'t> {
    top: &'t AtomicU64,
    words: &'t [AtomicU64],
}

/// The full sequence number of a packet whose lower half is `low`, with the window's upper edge at `top`
/// (RFC 4303 appendix A2.2). `None` if it would lie before the first or after the last number.
#[inline]
pub fn infer(low: u32, top: u64, window: u64) -> Option<u64> {
    let (top_high, top_low) = (top >> 32, top as u32);
    let bottom = top_low.wrapping_sub(window as u32).wrapping_add(1);
    let high = if u64::from(top_low) >= window - 1 {
        // Case A: the window lies within one subspace.
        if low >= bottom { Some(top_high) } else { top_high.checked_add(1).filter(|h| *h <= 0xffff_ffff) }
    } else if low >= bottom {
        // Case B: it spans two, and the packet belongs to the lower one.
        top_high.checked_sub(1)
    } else {
        Some(top_high)
    };
    high.map(|high| high << 32 | u64::from(low))
}

impl<'t> Window<'t> {
    /// A window over `words`, of which there is at least one.
    #[inline]
    pub fn new(top: &'t AtomicU64, words: &'t [AtomicU64]) -> Self {
        Self { top, words }
    }

    /// How many numbers it covers.
    #[inline]
    pub fn size(&self) -> u64 {
        self.words.len() as u64 * 64
    }

    /// The full number of a received packet, if it may be new. Changes nothing.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline]
    pub fn check(&self, low: u32, extended: bool) -> Result<u64, Refused> {
        let top = self.top.load(Ordering::Relaxed);
        let sequence = if extended {
            infer(low, top, self.size()).ok_or(if top >> 32 == 0 {
                Refused::TooOld
            } else {
                Refused::Wrapped
            })?
        } else {
            u64::from(low)
        };
        if sequence == 0 {
            return Err(Refused::Replayed);
        }
        if sequence > top {
            return Ok(sequence);
        }
        if top - sequence >= self.size() {
            return Err(Refused::TooOld);
        }
        let (word, bit) = self.place(sequence);
        if self.words[word].load(Ordering::Relaxed) & bit == 0 {
            Ok(sequence)
        } else {
            Err(Refused::Replayed)
        }
    }

    /// Records an authenticated number that [`check`](Self::check) let pass.
    ///
    /// The edge moves first and the bits follow, each in one store: whoever dies in between leaves numbers that
    /// count as seen, never seen ones that count as new (I3).
    #[inline]
    pub fn commit(&self, sequence: u64) {
        let top = self.top.load(Ordering::Relaxed);
        if sequence > top {
            self.top.store(sequence, Ordering::Relaxed);
            self.clear_between(top, sequence);
        }
        let (word, bit) = self.place(sequence);
        let word = &self.words[word];
        word.store(word.load(Ordering::Relaxed) | bit, Ordering::Release);
    }

    /// Clears the bits of the numbers after `top` and before `sequence`.
    #[inline]
    fn clear_between(&self, top: u64, sequence: u64) {
        if sequence - top > self.size() {
            return self.words.iter().for_each(|word| word.store(0, Ordering::Release));
        }
        // At most a window: whole words in the middle, single bits at the ends.
        let mut next = top + 1;
        while next < sequence {
            let (word, bit) = self.place(next);
            let word = &self.words[word];
            if next.is_multiple_of(64) && sequence - next >= 64 {
                word.store(0, Ordering::Release);
                next += 64;
            } else {
                word.store(word.load(Ordering::Relaxed) & !bit, Ordering::Release);
                next += 1;
            }
        }
    }

    /// Word and bit of a number.
    #[inline]
    fn place(&self, sequence: u64) -> (usize, u64) {
        let block = (sequence / 64) as usize;
        let count = self.words.len();
        // Almost all windows are powers of two; a division costs as much as the rest of the check.
        let word = if count.is_power_of_two() { block & (count - 1) } else { block % count };
        (word, 1 << (sequence % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    /// The definition: a set of what was accepted, and the highest of it.
    #[derive(Default)]
    struct Model {
        seen: BTreeSet<u64>,
        top: u64,
    }

    impl Model {
        fn accept(&mut self, sequence: u64, size: u64) -> Result<u64, Refused> {
            if sequence == 0 || self.seen.contains(&sequence) && self.top - sequence < size {
                return Err(Refused::Replayed);
            }
            if sequence <= self.top && self.top - sequence >= size {
                return Err(Refused::TooOld);
            }
            self.seen.insert(sequence);
            self.top = self.top.max(sequence);
            Ok(sequence)
        }
    }

    fn accept(window: &Window<'_>, low: u32, extended: bool) -> Result<u64, Refused> {
        let sequence = window.check(low, extended)?;
        window.commit(sequence);
        Ok(sequence)
    }

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![4 => 0..4_i64, 2 => -70..70_i64, 1 => -9000..9000_i64];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn equals_the_set_model(count in 1_usize..=64, start in 1_u64..5000, steps in steps()) {
            let (top, words) = (AtomicU64::new(0), words(count));
            let window = Window::new(&top, &words);
            let mut model = Model::default();
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                prop_assert_eq!(accept(&window, at as u32, false), model.accept(at, window.size()));
                prop_assert_eq!(top.load(Ordering::Relaxed), model.top);
            }
        }

        /// The sender's true number is inferred from its lower half across every wrap, as long as it lies less
        /// than 2^31 ahead and within the window behind.
        #[test]
        fn equals_the_set_model_across_wraps(count in 1_usize..=64, near in 1_u64..4, off in 0_u64..6000, steps in steps()) {
            let (top, words) = (AtomicU64::new(0), words(count));
            let window = Window::new(&top, &words);
            let mut model = Model::default();
            let mut at = (near << 32) - 3000 + off;
            top.store(at, Ordering::Relaxed);
            model.top = at;
            for step in steps {
                let next = at.saturating_add_signed(step);
                // Further behind than the window a number cannot be told from one of the next subspace.
                if model.top >= next && model.top - next >= window.size() {
                    continue;
                }
                at = next;
                prop_assert_eq!(accept(&window, at as u32, true), model.accept(at, window.size()));
            }
        }
    }

    #[test]
    fn inference_at_the_edges() {
        let window = 64;
        let last = u64::from(u32::MAX) << 32;
        for (low, top, full) in [
            (5, 10, Some(5)),
            (u32::MAX, 10, None),
            (u32::MAX, 1 << 32, Some(u64::from(u32::MAX))),
            (0, (1 << 32) - 1, Some(1 << 32)),
            (63, 63, Some(63)),
            (0, 63, Some(0)),
            (0, 64, Some(1 << 32)),
            (0, last + 100, None),
            (99, last + 100, Some(last + 99)),
        ] {
            assert_eq!(infer(low, top, window), full, "low {low} top {top}");
        }
    }

    #[test]
    fn a_window_restored_above_its_packets_refuses_them() {
        let (top, words) = (AtomicU64::new(1 << 20), words(1));
        let window = Window::new(&top, &words);
        assert_eq!(accept(&window, 5, false), Err(Refused::TooOld));
        assert_eq!(accept(&window, (1 << 20) + 1, false), Ok((1 << 20) + 1));
    }
}
