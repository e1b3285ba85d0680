//! A time that only tests move: each thread has its own, and a gateway's workers run in the thread of their test.

use std::cell::Cell;

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000 * SECOND) };
}

/// For [`Setup::clock`](super::Setup): it stands still.
pub fn still() -> u64 {
    NOW.get()
}

/// For [`Setup::clock`](super::Setup): a second passes whenever somebody looks.
pub fn slow() -> u64 {
    pass(SECOND);
    NOW.get()
}

/// For [`Setup::unix_clock`](super::Setup): the same time in seconds.
pub fn unix() -> u64 {
    super::UNIX_SECONDS + NOW.get() / SECOND
}

/// Lets so many ns pass.
pub fn pass(nanoseconds: u64) {
    NOW.set(NOW.get() + nanoseconds);
}
