//! When a request is sent again (RFC 7296 section 2.1, 2.4).

use std::time::Duration;

use crate::configuration::Retransmission;

/// How long to wait for an answer to a request that was sent `1 + repetitions` times.
///
/// Repetition `n` (from 0) follows `first * base^n` after what was sent before it, at most `limit`; after the last one
/// the wait is as long as one more repetition's would be.
pub fn wait(retransmission: &Retransmission, repetitions: u32) -> Duration {
    let exponent = i32::try_from(repetitions).unwrap_or(i32::MAX);
    let seconds = retransmission.first.as_secs_f64() * retransmission.base.max(1.0).powi(exponent);
    // Infinity and what no Duration holds are beyond the limit as well.
    let wait = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    wait.min(retransmission.limit.max(retransmission.first))
}

/// Whether a request may be sent again that was repeated so often.
pub const fn may_repeat(retransmission: &Retransmission, repetitions: u32) -> bool {
    repetitions < retransmission.tries
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waits(retransmission: &Retransmission) -> Vec<u64> {
        (0..=retransmission.tries).map(|n| wait(retransmission, n).as_millis() as u64).collect()
    }

    #[test]
    fn the_default_gives_a_peer_up_after_165_seconds() {
        let waits = waits(&Retransmission::default());
        assert_eq!(waits, [4000, 7200, 12960, 23328, 41990, 60000]);
        assert!(may_repeat(&Retransmission::default(), 4));
        assert!(!may_repeat(&Retransmission::default(), 5));
    }

    proptest! {
        #[test]
        fn waits_never_shrink_and_never_exceed_the_limit(
            first in 1_u64..100_000, base in any::<f64>(), limit in 1_u64..1_000_000, n in any::<u32>(),
        ) {
            let (first, limit) = (Duration::from_millis(first), Duration::from_millis(limit));
            let retransmission = Retransmission { first, base, tries: 5, limit };
            let (this, next) = (wait(&retransmission, n), wait(&retransmission, n.saturating_add(1)));
            prop_assert!(first.min(limit) <= this && this <= limit.max(first) && this <= next);
        }
    }
}
