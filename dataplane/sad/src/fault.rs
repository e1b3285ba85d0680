//! Dying at a numbered step, for tests: every store to the table and every step of an epoch grant
//! counts, so that all states that a `kill -9` can leave behind are met.

use std::cell::Cell;
use std::panic;

thread_local! {
    static STEPS_LEFT: Cell<u64> = const { Cell::new(0) };
    static END: Cell<End> = const { Cell::new(End::Unwind) };
}

/// How a death is played.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// For good: SIGKILL.
    Kill,
    /// Quickly: unwinds to [`survive`], with memory left as it is.
    Unwind,
}

/// Lets this thread die before its step `number` (from 1) from now on; 0 disarms.
pub(crate) fn die_at_step(number: u64, end: End) {
    STEPS_LEFT.set(number);
    END.set(end);
}

/// Runs something that may die by [`End::Unwind`]; whether it came to its end.
pub(crate) fn survive(number: u64, run: impl FnOnce()) -> bool {
    die_at_step(number, End::Unwind);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(run));
    die_at_step(0, End::Unwind);
    match result {
        Ok(()) => true,
        Err(cause) if cause.is::<Death>() => false,
        Err(cause) => panic::resume_unwind(cause),
    }
}

struct Death;

/// One step.
pub(crate) fn step() {
    let left = STEPS_LEFT.get();
    if left == 0 {
        return;
    }
    STEPS_LEFT.set(left - 1);
    if left > 1 {
        return;
    }
    match END.get() {
        End::Kill => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort();
        }
        End::Unwind => panic::resume_unwind(Box::new(Death)),
    }
}
