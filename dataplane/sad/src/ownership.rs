//! Ownership leases of the 256 segments (I4): the table keeps them, so that they outlive every daemon.

use crate::sync::{Ordering, store};
use crate::table::Table;

/// A lease without limit.
pub const OWNED: u64 = u64::MAX;
/// No lease.
pub const NOT_OWNED: u64 = 0;

impl Table {
    /// The lease of a segment: a deadline in nanoseconds of `CLOCK_BOOTTIME`; [`OWNED`] is without
    /// limit, [`NOT_OWNED`] is none.
    #[inline]
    pub fn lease(&self, segment: u8) -> u64 {
        self.shared().leases()[usize::from(segment)].load(Ordering::Acquire)
    }

    /// Sets the lease of a segment.
    pub fn set_lease(&self, segment: u8, deadline: u64) {
        store(&self.shared().leases()[usize::from(segment)], deadline, Ordering::Release);
    }

    /// Until when packets of a segment wait here that is about to become this node's: a deadline as of a lease. A planned
    /// move stops them at the old owner before it lets them go here.
    #[inline]
    pub fn hold(&self, segment: u8) -> u64 {
        self.shared().holds()[usize::from(segment)].load(Ordering::Acquire)
    }

    /// Has packets of a segment wait until then; [`NOT_OWNED`] ends it.
    pub fn set_hold(&self, segment: u8, deadline: u64) {
        store(&self.shared().holds()[usize::from(segment)], deadline, Ordering::Release);
    }

    /// When the next lease or hold of those that last at `now` ends, in nanoseconds of `CLOCK_BOOTTIME`; `None` if none
    /// does.
    pub fn next_lease_end(&self, now: u64) -> Option<u64> {
        let words = self.shared().leases().iter().chain(self.shared().holds());
        let ends = words.map(|word| word.load(Ordering::Acquire));
        ends.filter(|end| *end > now && *end != OWNED).min()
    }

    /// The segments whose packets come to this node at `now`: those that it owns, and those whose packets wait; bits as in
    /// [`owned_segments`](Self::owned_segments).
    pub fn wanted_segments(&self, now: u64) -> [u64; 4] {
        let mut wanted = self.owned_segments(now);
        for (segment, hold) in self.shared().holds().iter().enumerate() {
            wanted[segment / 64] |= u64::from(hold.load(Ordering::Acquire) > now) << (segment % 64);
        }
        wanted
    }

    /// The segments owned at `now` (nanoseconds of `CLOCK_BOOTTIME`): segment `s` is bit `s % 64` of
    /// word `s / 64`.
    #[inline]
    pub fn owned_segments(&self, now: u64) -> [u64; 4] {
        let mut owned = [0; 4];
        for (segment, lease) in self.shared().leases().iter().enumerate() {
            owned[segment / 64] |= u64::from(lease.load(Ordering::Acquire) > now) << (segment % 64);
        }
        owned
    }
}
