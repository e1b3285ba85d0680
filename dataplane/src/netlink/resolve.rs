//! Which neighbours the kernel is asked to look for, and how often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::io::Side;

/// Requests per second, and as many at once: what a scan through a tunnel can make us send.
const RATE: f64 = 256.0;
/// The kernel itself asks three times, a second apart.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often a neighbour that the kernel has not heard of lately is confirmed.
const CONFIRM_AGAIN: Duration = Duration::from_secs(30);
/// Addresses remembered at most.
const REMEMBERED: usize = 4096;

/// Bounds the requests: a token bucket over all, and a pause for each neighbour.
#[derive(Debug)]
pub(super) struct Resolver {
    asked: HashMap<(Side, IpAddr), Instant>,
    tokens: f64,
    filled: Instant,
}

impl Resolver {
    pub(super) fn new(now: Instant) -> Self {
        Self { asked: HashMap::new(), tokens: RATE, filled: now }
    }

    /// Whether the kernel may now be asked for a neighbour that a packet waits for.
    pub(super) fn may_resolve(&mut self, neighbour: (Side, IpAddr), now: Instant) -> bool {
        self.may_ask(neighbour, ASK_AGAIN, now)
    }

    /// Whether the kernel may now be asked to confirm a stale neighbour.
    pub(super) fn may_confirm(&mut self, neighbour: (Side, IpAddr), now: Instant) -> bool {
        // Half of the rate stays for packets that wait.
        self.refill(now);
        self.tokens > RATE / 2.0 && self.may_ask(neighbour, CONFIRM_AGAIN, now)
    }

    fn may_ask(&mut self, neighbour: (Side, IpAddr), pause: Duration, now: Instant) -> bool {
        self.refill(now);
        let early = self.asked.get(&neighbour).is_some_and(|asked| now.duration_since(*asked) < pause);
        if early || self.tokens < 1.0 {
            return false;
        }
        self.forget(now);
        self.tokens -= 1.0;
        self.asked.insert(neighbour, now);
        true
    }

    fn refill(&mut self, now: Instant) {
        self.tokens = (self.tokens + now.duration_since(self.filled).as_secs_f64() * RATE).min(RATE);
        self.filled = now;
    }

    fn forget(&mut self, now: Instant) {
        if self.asked.len() >= REMEMBERED {
            self.asked.retain(|_, asked| now.duration_since(*asked) < ASK_AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(number: u32) -> (Side, IpAddr) {
        (Side::Inner, IpAddr::V4((0x0a00_0000 + number).into()))
    }

    #[test]
    fn one_neighbour_is_asked_for_once_a_second() {
        let start = Instant::now();
        let mut resolver = Resolver::new(start);
        assert!(resolver.may_resolve(neighbour(1), start));
        assert!(!resolver.may_resolve(neighbour(1), start + Duration::from_millis(900)));
        assert!(resolver.may_resolve(neighbour(2), start + Duration::from_millis(900)));
        assert!(resolver.may_resolve(neighbour(1), start + Duration::from_secs(1)));
    }

    #[test]
    fn a_scan_is_bounded_in_rate_and_memory() {
        let start = Instant::now();
        let mut resolver = Resolver::new(start);
        let asked = (0..1_000_000).filter(|n| {
            resolver.may_resolve(neighbour(*n), start + Duration::from_micros(u64::from(*n) * 100))
        });
        let asked = asked.count();
        assert!((25_000..27_000).contains(&asked), "{asked} in 100 s");
        assert!(resolver.asked.len() <= REMEMBERED);
    }

    #[test]
    fn confirmations_leave_room_for_packets_that_wait() {
        let start = Instant::now();
        let mut resolver = Resolver::new(start);
        assert_eq!((0..1000).filter(|n| resolver.may_confirm(neighbour(*n), start)).count(), 128);
        assert!(resolver.may_resolve(neighbour(5000), start));
    }
}
