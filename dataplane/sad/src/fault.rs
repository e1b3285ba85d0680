//! Dying at a numbered step, for tests: every store to the table and every step of an epoch grant
//! counts, so that all states that a `kill -9` can leave behind are met.

use std::sync::atomic::{AtomicI64, Ordering};

static STEPS_LEFT: AtomicI64 = AtomicI64::new(-1);

/// Lets this process kill itself before its step `number` (from 1) from now on; 0 disarms.
pub(crate) fn die_at_step(number: i64) {
    STEPS_LEFT.store(number, Ordering::SeqCst);
}

/// One step.
pub(crate) fn step() {
    if STEPS_LEFT.load(Ordering::Relaxed) > 0 && STEPS_LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("killed");
    }
}
