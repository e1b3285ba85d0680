//! The atomics that everything in the mapping is made of: the standard library's, or loom's under
//! `--cfg loom`, so that the model checker runs on the very code that runs in production.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{Ordering, fence};
#[cfg(loom)]
pub(crate) use modelled::AtomicU64;
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

#[cfg(loom)]
mod modelled {
    use std::sync::atomic::Ordering;

    use loom::sync::atomic;

    /// Loom's atomic with a point of decision before each access. Loom remembers only the last access to
    /// an object, so that a thread that loads a word before it stores it hides the loads of others, and
    /// orders are left out. Relaxed read-modify-writes conflict with each other, so that all orders of
    /// these are tried, and they order nothing else.
    #[derive(Debug)]
    pub(crate) struct AtomicU64 {
        decision: atomic::AtomicU64,
        value: atomic::AtomicU64,
    }

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self { decision: atomic::AtomicU64::new(0), value: atomic::AtomicU64::new(value) }
        }

        fn decide(&self) -> &atomic::AtomicU64 {
            self.decision.fetch_add(1, Ordering::Relaxed);
            &self.value
        }

        pub(crate) fn load(&self, ordering: Ordering) -> u64 {
            self.decide().load(ordering)
        }

        pub(crate) fn store(&self, value: u64, ordering: Ordering) {
            self.decide().store(value, ordering);
        }

        pub(crate) fn fetch_max(&self, value: u64, ordering: Ordering) -> u64 {
            self.decide().fetch_max(value, ordering)
        }

        pub(crate) fn fetch_or(&self, value: u64, ordering: Ordering) -> u64 {
            self.decide().fetch_or(value, ordering)
        }

        pub(crate) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
            self.decide().fetch_add(value, ordering)
        }

        pub(crate) fn swap(&self, value: u64, ordering: Ordering) -> u64 {
            self.decide().swap(value, ordering)
        }

        pub(crate) fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.decide().compare_exchange(current, new, success, failure)
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.decide().compare_exchange_weak(current, new, success, failure)
        }
    }
}
