//! The clocks that epochs go by.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// What time it is; tests have clocks of their own.
pub trait EpochClock: Debug + Send + Sync {
    /// Seconds since 1970 (UTC) by the machine's clock, which may be wrong.
    fn unix_seconds(&self) -> i64;
    /// Seconds since the machine started, sleep included.
    fn seconds_since_boot(&self) -> i64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl EpochClock for SystemClock {
    fn unix_seconds(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_secs().cast_signed(),
            Err(before) => -before.duration().as_secs().cast_signed(),
        }
    }

    fn seconds_since_boot(&self) -> i64 {
        clock_gettime(ClockId::Boottime).tv_sec
    }
}
