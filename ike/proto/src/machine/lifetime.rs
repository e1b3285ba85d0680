//! When things end, by both clocks.

use std::time::Duration;

use super::core::Cx;
use crate::host::Now;

/// After `time` less a random part of `spread`, on the monotonic clock, so that not all tunnels of a gateway are
/// rekeyed at once (RFC 7296 section 2.8); zero is never.
pub(super) fn randomized(cx: &mut Cx, time: Duration, spread: Duration) -> Option<Duration> {
    if time.is_zero() {
        return None;
    }
    let less = cx.random_below(spread.min(time).as_millis() as u64 + 1);
    Some(cx.now.monotonic.saturating_add(time.saturating_sub(Duration::from_millis(less))))
}

/// After `time`, on the monotonic clock; zero is never.
pub(super) fn after(cx: &Cx, time: Duration) -> Option<Duration> {
    (!time.is_zero()).then(|| cx.now.monotonic.saturating_add(time))
}

/// A monotonic time in unix time.
pub(super) fn to_unix(now: Now, at: Duration) -> Duration {
    now.unix.saturating_add(at).saturating_sub(now.monotonic)
}

/// A unix time on the monotonic clock; what has passed is now.
pub(super) fn from_unix(now: Now, at: Duration) -> Duration {
    now.monotonic.saturating_add(at.saturating_sub(now.unix))
}
