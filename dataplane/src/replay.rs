//! Anti-replay (RFC 4303 section 3.4.3) with extended sequence numbers (appendix A2).
//!
//! The window is the ring of RFC 6479. It lives in the SA's slot of the table, written by the SA's one owner only,
//! so that it survives the process and a snapshot can read it at any time. Check before opening, commit after:
//! only what is authentic moves the window.
//!
//! A node that took the SA over without the window begins at a floor: everything up to it counts as received (I3).

use baton_sad::SlotView;

/// Why a sequence number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Seen already, or zero, which no sender uses (RFC 4303 section 3.3.3).
    Replayed,
    /// Left of the window.
    TooOld,
    /// It would be above the largest number that exists.
    Wrapped,
    /// At or below the floor of a takeover: the owner before may have accepted it.
    BelowFloor,
}

/// How far back from a floor above the window a number is looked for: half of what 32 bits can tell, as a peer that is
/// behind it is at most what was reserved behind it.
const BELOW_FLOOR: u64 = 1 << 31;

/// The window of one inbound SA: the last `size` numbers up to the highest authenticated one.
#[derive(Clone, Copy, Debug)]
pub struct Window<'t> {
    slot: SlotView<'t>,
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

impl<'t> Window<'t> {
    /// A window of `size` numbers (64..=4096) in a slot.
    #[inline]
    pub fn new(slot: SlotView<'t>, size: u16) -> Self {
        Self { slot, size: u64::from(size) }
    }

    /// The full number of a received packet, if it may be new. Changes nothing.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline]
    pub fn check(&self, low: u32, extended: bool) -> Result<u64, Refused> {
        let sequence = self.full(low, extended)?;
        self.is_new(sequence).map(|()| sequence)
    }

    /// The full number of a packet which [`check`](Self::check) says is at or below the floor, while nothing above the
    /// floor was received. [`commit`](Self::commit) refuses it for ever; but it may be looked at.
    pub fn beneath_floor(&self, low: u32, extended: bool) -> Option<u64> {
        let sequence = self.full(low, extended).ok()?;
        let is_beneath = self.slot.replay_top() < self.slot.floor() && sequence <= self.slot.floor();
        is_beneath.then_some(sequence)
    }

    #[inline]
    fn full(&self, low: u32, extended: bool) -> Result<u64, Refused> {
        let (top, floor) = (self.slot.replay_top(), self.slot.floor());
        let (edge, size) = if floor > top { (floor, BELOW_FLOOR) } else { (top, self.size) };
        if !extended {
            return Ok(u64::from(low));
        }
        infer(low, edge, size).ok_or(if edge >> 32 == 0 { Refused::TooOld } else { Refused::Wrapped })
    }

    #[inline]
    fn is_new(&self, sequence: u64) -> Result<(), Refused> {
        let top = self.slot.replay_top();
        if sequence == 0 {
            return Err(Refused::Replayed);
        }
        if sequence <= top && top - sequence >= self.size {
            return Err(Refused::TooOld);
        }
        if sequence <= self.slot.floor() {
            return Err(Refused::BelowFloor);
        }
        if sequence > top || self.slot.replay_block(sequence / 64) >> (sequence % 64) & 1 == 0 {
            Ok(())
        } else {
            Err(Refused::Replayed)
        }
    }

    /// Records an authenticated number that [`check`](Self::check) let pass, if that still holds: packets of one
    /// batch are checked before any of them is recorded, and two of them may be the same (I3). Says whether the
    /// packet is the newest so far.
    ///
    /// # Errors
    /// [`Refused`]; nothing is recorded then.
    #[inline]
    pub fn commit(&self, sequence: u64) -> Result<bool, Refused> {
        self.is_new(sequence)?;
        let is_newest = sequence > self.slot.replay_top();
        if is_newest {
            self.slot.slide_to(sequence);
        } else {
            self.slot.mark_received(sequence);
        }
        Ok(is_newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
