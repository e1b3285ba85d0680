//! Frame conservation: in debug builds every frame's holder is written down and every change of hands checked,
//! so that a frame that is lost, released twice or given to the kernel twice stops the test that did it.

use std::sync::atomic::{AtomicU8, Ordering};

/// Who holds a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Holder {
    /// A free list.
    Free,
    /// The kernel, by a fill ring.
    Fill,
    /// The pipeline.
    User,
    /// The kernel, by a transmit ring, until it comes back by the completion ring.
    Transmit,
}

/// How many frames are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// In a free list.
    pub free: usize,
    /// Given to the kernel to receive into.
    pub fill: usize,
    /// Held by workers.
    pub user: usize,
    /// Given to the kernel to send, and not completed.
    pub transmit: usize,
}

/// The holder of every frame; empty in release builds.
#[derive(Debug)]
pub(super) struct Ledger(Vec<AtomicU8>);

impl Ledger {
    pub(super) fn new(frames: usize) -> Self {
        let accounts = if cfg!(debug_assertions) { frames } else { 0 };
        Self((0..accounts).map(|_| AtomicU8::new(Holder::Free as u8)).collect())
    }

    /// Notes that `frame` changes hands.
    #[inline]
    pub(super) fn pass(&self, frame: u32, from: Holder, to: Holder) {
        if cfg!(debug_assertions) {
            let held = self.0[frame as usize].swap(to as u8, Ordering::AcqRel);
            assert_eq!(
                held, from as u8,
                "frame {frame} passes from {from:?} to {to:?}, but another holds it"
            );
        }
    }

    pub(super) fn census(&self) -> Option<Census> {
        let count = |holder: Holder| {
            self.0.iter().filter(|held| held.load(Ordering::Acquire) == holder as u8).count()
        };
        cfg!(debug_assertions).then(|| Census {
            free: count(Holder::Free),
            fill: count(Holder::Fill),
            user: count(Holder::User),
            transmit: count(Holder::Transmit),
        })
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_counted_once() {
        let ledger = Ledger::new(4);
        ledger.pass(0, Holder::Free, Holder::Fill);
        ledger.pass(1, Holder::Free, Holder::User);
        ledger.pass(1, Holder::User, Holder::Transmit);
        assert_eq!(ledger.census(), Some(Census { free: 2, fill: 1, user: 0, transmit: 1 }));
    }

    #[test]
    #[should_panic(expected = "passes from User to Free")]
    fn a_frame_released_twice_is_found() {
        let ledger = Ledger::new(1);
        ledger.pass(0, Holder::Free, Holder::User);
        ledger.pass(0, Holder::User, Holder::Free);
        ledger.pass(0, Holder::User, Holder::Free);
    }
}
