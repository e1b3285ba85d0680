//! Anti-replay (RFC 4303 section 3.4.3) with extended sequence numbers (appendix A2).
//!
//! The window is the ring of RFC 6479: blocks of 64 numbers, one word each, that never move; advancing clears the
//! words of the blocks that are entered. It lives in the SA table as atomic words, written by the SA's one owner
//! only, so that it survives the process and a snapshot can read it at any time. Check before opening, commit
//! after: only what is authentic moves the window.

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

/// The window of one SA: the highest authenticated number, and a ring of `N` words that holds at least one block
/// more than the window has (RFC 6479 section 2).
#[derive(Clone, Copy, Debug)]
pub struct Window<'t, const N: usize> {
    top: &'t AtomicU64,
    ring: &'t [AtomicU64; N],
    size: u64,
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

impl<'t, const N: usize> Window<'t, N> {
    /// The most numbers that a ring of `N` words can tell apart.
    pub const LARGEST: u64 = (N as u64 - 1) * 64;

    /// A window of `size` numbers over `ring`; at most [`LARGEST`](Self::LARGEST) count.
    #[inline]
    pub fn new(top: &'t AtomicU64, ring: &'t [AtomicU64; N], size: u16) -> Self {
        Self { top, ring, size: u64::from(size).clamp(1, Self::LARGEST) }
    }

    /// The full number of a received packet, if it may be new. Changes nothing.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline]
    pub fn check(&self, low: u32, extended: bool) -> Result<u64, Refused> {
        let top = self.top.load(Ordering::Relaxed);
        let sequence = if extended {
            infer(low, top, self.size).ok_or(if top >> 32 == 0 {
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
        if top - sequence >= self.size {
            return Err(Refused::TooOld);
        }
        if self.word(sequence / 64).load(Ordering::Relaxed) & bit(sequence) == 0 {
            Ok(sequence)
        } else {
            Err(Refused::Replayed)
        }
    }

    /// Records an authenticated number that [`check`](Self::check) let pass.
    ///
    /// The edge moves first and the bits follow: whoever dies in between leaves numbers that count as seen, never
    /// seen ones that count as new (I3).
    #[inline]
    pub fn commit(&self, sequence: u64) {
        let top = self.top.load(Ordering::Relaxed);
        if sequence > top {
            self.top.store(sequence, Ordering::Relaxed);
            self.enter_blocks(top / 64, sequence / 64);
        }
        let word = self.word(sequence / 64);
        word.store(word.load(Ordering::Relaxed) | bit(sequence), Ordering::Release);
    }

    /// Clears the words of the blocks after `from` up to `to`.
    #[inline]
    fn enter_blocks(&self, from: u64, to: u64) {
        for block in (from + 1).max((to + 1).saturating_sub(N as u64))..=to {
            self.word(block).store(0, Ordering::Release);
        }
    }

    #[inline]
    fn word(&self, block: u64) -> &AtomicU64 {
        &self.ring[(block % N as u64) as usize]
    }
}

#[inline]
fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
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

    fn accept<const N: usize>(window: &Window<'_, N>, low: u32, extended: bool) -> Result<u64, Refused> {
        let sequence = window.check(low, extended)?;
        window.commit(sequence);
        Ok(sequence)
    }

    fn ring() -> [AtomicU64; 65] {
        std::array::from_fn(|_| AtomicU64::new(0))
    }

    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![4 => 0..4_i64, 2 => -70..70_i64, 1 => -9000..9000_i64];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn equals_the_set_model(blocks in 1_u16..=64, start in 1_u64..5000, steps in steps()) {
            let (top, ring) = (AtomicU64::new(0), ring());
            let window = Window::new(&top, &ring, blocks * 64);
            let mut model = Model::default();
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                prop_assert_eq!(accept(&window, at as u32, false), model.accept(at, window.size));
                prop_assert_eq!(top.load(Ordering::Relaxed), model.top);
            }
        }

        /// The sender's true number is inferred from its lower half across every wrap, as long as it lies less
        /// than 2^31 ahead and within the window behind.
        #[test]
        fn equals_the_set_model_across_wraps(blocks in 1_u16..=64, near in 1_u64..4, off in 0_u64..6000, steps in steps()) {
            let (top, ring) = (AtomicU64::new(0), ring());
            let window = Window::new(&top, &ring, blocks * 64);
            let mut model = Model::default();
            let mut at = (near << 32) - 3000 + off;
            top.store(at, Ordering::Relaxed);
            model.top = at;
            for step in steps {
                let next = at.saturating_add_signed(step);
                // Further behind than the window a number cannot be told from one of the next subspace.
                if model.top >= next && model.top - next >= window.size {
                    continue;
                }
                at = next;
                prop_assert_eq!(accept(&window, at as u32, true), model.accept(at, window.size));
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
        let (top, ring) = (AtomicU64::new(1 << 20), ring());
        let window = Window::new(&top, &ring, 64);
        assert_eq!(accept(&window, 5, false), Err(Refused::TooOld));
        assert_eq!(accept(&window, (1 << 20) + 1, false), Ok((1 << 20) + 1));
    }
}
