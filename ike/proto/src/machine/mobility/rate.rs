//! How often a peer may change the addresses of a tunnel.

use std::time::Duration;

/// Changes at once.
const BURST: u32 = 8;
/// One more after so long.
const PAUSE: Duration = Duration::from_millis(500);

/// A bucket of changes. Who has none left is not answered, and asks again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::machine) struct Rate {
    spent: u32,
    since: Duration,
}

impl Rate {
    /// Whether there is one now (monotonic); if so, it is spent.
    pub(in crate::machine) fn admit(&mut self, now: Duration) -> bool {
        let regained = now.saturating_sub(self.since).as_millis() / PAUSE.as_millis();
        if regained > 0 {
            self.spent = self.spent.saturating_sub(u32::try_from(regained).unwrap_or(u32::MAX));
            self.since = now;
        }
        let is_admitted = self.spent < BURST;
        self.spent += u32::from(is_admitted);
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let (mut rate, start) = (Rate::default(), Duration::from_secs(100));
        let at_once = (0..100).filter(|_| rate.admit(start)).count();
        assert_eq!(at_once, BURST as usize);
        let later = (1..=100).filter(|at| rate.admit(start + Duration::from_millis(at * 100))).count();
        assert_eq!(later, 20, "ten seconds");
        assert!(rate.admit(Duration::from_hours(1)));
    }
}
