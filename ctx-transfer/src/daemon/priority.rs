//! Real-time priority for the thread of heartbeats (sched(7)): a machine that is busy must not look dead.

#![allow(unsafe_code)]

use std::io;

/// Above everything that is not real-time, below what others have asked more for.
const PRIORITY: i32 = 10;

/// Raises this thread; threads that it starts are ordinary again.
pub(super) fn raise() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the structure is whole and outlives the call, which only reads it; 0 is the calling thread.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
