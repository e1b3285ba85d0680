//! The two clocks.

use std::time::Duration;

use baton_ike_proto::Now;
use rustix::time::{ClockId, clock_gettime};

/// What time it is: by the boot clock, which runs while the machine sleeps and in which leases are measured, and since
/// 1970.
pub fn now() -> Now {
    Now { monotonic: read(ClockId::Boottime), unix: read(ClockId::Realtime) }
}

/// A clock before its zero, as the real-time one can be set, stands at it.
fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
