//! IKE SAs whose peer is not authenticated yet: how many there may be, and how fast (RFC 7296 section 2.6,
//! RFC 8019 section 4).
//!
//! A source is what one host can be anywhere in: an IPv4 address, an IPv6 /64. Requests with a cookie (*proven*) and
//! without one are counted and remembered apart, so that nobody who writes another's address on its requests can use up
//! what that other one may have: too many without a cookie are asked for one, and only too many with one are refused.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::configuration::Limits;

/// Sources of one kind that are remembered: all that have a half-open IKE SA, and those that sent in the last second.
const MAX_SOURCES: usize = 65_536;
/// Sources are looked through for forgettable ones at most so often.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// What becomes of an IKE_SA_INIT request that would make an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is worked on; [`HalfOpen::opened`] follows if it makes an IKE SA.
    Accept,
    /// It is answered with a cookie and forgotten.
    AskForCookie,
    /// It is dropped.
    Drop,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(u64, bool);

impl Source {
    /// The source that an address is part of.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_bits().into(), false),
            IpAddr::V6(v6) => Self(upper_half(v6), true),
        }
    }
}

const fn upper_half(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// The half-open IKE SAs.
#[derive(Debug, Default)]
pub struct HalfOpen {
    /// Of requests without and with a cookie.
    kinds: [Kind; 2],
}

/// Those of one kind.
#[derive(Debug, Default)]
struct Kind {
    sources: HashMap<Source, Share>,
    open: usize,
    swept: Duration,
}

/// What one source has, of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    open: usize,
    bucket: Bucket,
}

impl HalfOpen {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.kinds[0].open + self.kinds[1].open
    }

    /// How many there are of initiators that have shown where they are.
    pub const fn proven(&self) -> usize {
        self.kinds[1].open
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What becomes of a request from this source, which is proven if it bears a cookie of ours.
    pub fn admit(&mut self, now: Duration, limits: &Limits, source: Source, proven: bool) -> Verdict {
        let refused = if proven { Verdict::Drop } else { Verdict::AskForCookie };
        let is_full = self.len() >= limits.half_open;
        let kind = &mut self.kinds[usize::from(proven)];
        let wants_cookies = !proven && kind.open >= limits.cookie_threshold.min(limits.half_open);
        if is_full || wants_cookies || !kind.make_room(now, source) {
            return refused;
        }
        let share = kind.sources.entry(source).or_default();
        let takes =
            share.open < limits.half_open_per_source && share.bucket.take(now, limits.init_per_source);
        if takes { Verdict::Accept } else { refused }
    }

    /// An IKE SA became half-open.
    pub fn opened(&mut self, source: Source, proven: bool) {
        let kind = &mut self.kinds[usize::from(proven)];
        kind.open += 1;
        kind.sources.entry(source).or_default().open += 1;
    }

    /// An IKE SA that was half-open is established, or gone.
    pub fn closed(&mut self, source: Source, proven: bool) {
        let kind = &mut self.kinds[usize::from(proven)];
        kind.open = kind.open.saturating_sub(1);
        if let Some(share) = kind.sources.get_mut(&source) {
            share.open = share.open.saturating_sub(1);
        }
    }
}

impl Kind {
    /// Whether the source is remembered, or can be.
    fn make_room(&mut self, now: Duration, source: Source) -> bool {
        if self.sources.len() < MAX_SOURCES || self.sources.contains_key(&source) {
            return true;
        }
        if now.saturating_sub(self.swept) >= SWEEP_INTERVAL {
            self.swept = now;
            self.sources.retain(|_, share| !share.is_forgettable(now));
        }
        self.sources.len() < MAX_SOURCES
    }
}

impl Share {
    /// A bucket that is full again is like one that never was.
    fn is_forgettable(&self, now: Duration) -> bool {
        self.open == 0 && now.saturating_sub(self.bucket.last) >= Duration::from_secs(1)
    }
}

/// Lets `rate` through in each second, and as many at once after a second of silence.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Nanoseconds' worth of rate that were used and have not come back.
    used: Duration,
    last: Duration,
}

impl Bucket {
    fn take(&mut self, now: Duration, rate: u32) -> bool {
        let Some(cost) = Duration::from_secs(1).checked_div(rate) else { return true };
        let used = self.used.saturating_sub(now.saturating_sub(self.last));
        (self.used, self.last) = (used, now);
        let fits = used + cost <= Duration::from_secs(1);
        if fits {
            self.used += cost;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            half_open: 100,
            half_open_per_source: 5,
            cookie_threshold: 20,
            init_per_source: 10,
            ..Limits::default()
        }
    }

    fn source(n: u32) -> Source {
        Source::of(IpAddr::V4(n.into()))
    }

    /// How many of `n` requests at that time are accepted and become half-open.
    fn open(half_open: &mut HalfOpen, limits: &Limits, from: Source, proven: bool, n: usize) -> usize {
        let mut accept = || {
            let accepted = half_open.admit(Duration::ZERO, limits, from, proven) == Verdict::Accept;
            if accepted {
                half_open.opened(from, proven);
            }
            accepted
        };
        (0..n).filter(|_| accept()).count()
    }

    #[test]
    fn strangers_without_cookies_get_the_threshold_and_others_the_rest() {
        let (mut half_open, limits) = (HalfOpen::default(), limits());
        let flood: usize = (0..1000).map(|n| open(&mut half_open, &limits, source(n), false, 1)).sum();
        assert_eq!(flood, 20);
        assert_eq!(half_open.admit(Duration::ZERO, &limits, source(7), false), Verdict::AskForCookie);
        let proven: usize = (0..1000).map(|n| open(&mut half_open, &limits, source(n), true, 1)).sum();
        assert_eq!((proven, half_open.len()), (80, 100));
        assert_eq!(half_open.admit(Duration::ZERO, &limits, source(2000), true), Verdict::Drop);
    }

    #[test]
    fn a_forged_source_does_not_use_up_its_owners_share() {
        let (mut half_open, limits) = (HalfOpen::default(), limits());
        assert_eq!(open(&mut half_open, &limits, source(1), false, 1000), 5);
        assert_eq!(half_open.admit(Duration::ZERO, &limits, source(1), false), Verdict::AskForCookie);
        assert_eq!(open(&mut half_open, &limits, source(1), true, 1000), 5);
        assert_eq!(half_open.admit(Duration::ZERO, &limits, source(1), true), Verdict::Drop);
        assert_eq!(half_open.admit(Duration::ZERO, &limits, source(2), true), Verdict::Accept);
    }

    #[test]
    fn a_slot_that_is_closed_can_be_taken_again() {
        let (mut half_open, limits) = (HalfOpen::default(), limits());
        assert_eq!(open(&mut half_open, &limits, source(1), true, 9), 5);
        half_open.closed(source(1), true);
        assert_eq!(open(&mut half_open, &limits, source(1), true, 9), 1);
        (0..5).for_each(|_| half_open.closed(source(1), true));
        assert!(half_open.is_empty());
    }

    #[test]
    fn a_source_is_worked_for_at_its_rate() {
        let (mut half_open, limits) = (HalfOpen::default(), limits());
        let mut accepted = |millis| {
            let admit = |_: &usize| {
                half_open.admit(Duration::from_millis(millis), &limits, source(1), true) == Verdict::Accept
            };
            (0..100).filter(admit).count()
        };
        assert_eq!(
            [accepted(5000), accepted(5050), accepted(5100), accepted(5400), accepted(9000)],
            [10, 0, 1, 3, 10]
        );
    }

    #[test]
    fn zero_asks_everyone_and_bounds_no_rate() {
        let strict = Limits { cookie_threshold: 0, init_per_source: 0, ..limits() };
        let mut half_open = HalfOpen::default();
        assert_eq!(half_open.admit(Duration::ZERO, &strict, source(1), false), Verdict::AskForCookie);
        let accept = |_: &usize| half_open.admit(Duration::ZERO, &strict, source(1), true) == Verdict::Accept;
        assert_eq!((0..1000).filter(accept).count(), 1000);
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_is_ipv4() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("::192.0.2.1"), of("0.0.0.0"));
    }

    #[test]
    fn memory_stays_flat_however_many_sources_there_are() {
        let (mut half_open, limits) = (HalfOpen::default(), limits());
        let mut at =
            |n: u32, seconds| half_open.admit(Duration::from_secs(seconds), &limits, source(n), true);
        for n in 0..MAX_SOURCES as u32 {
            assert_eq!(at(n, 10), Verdict::Accept);
        }
        assert_eq!(at(1 << 20, 10), Verdict::Drop);
        assert_eq!(at(7, 10), Verdict::Accept);
        assert_eq!(at(1 << 20, 12), Verdict::Accept);
        assert!(half_open.kinds[1].sources.len() < 10);
    }

    #[test]
    fn forged_sources_do_not_push_out_proven_ones() {
        let (mut half_open, limits) = (HalfOpen::default(), limits());
        let mut at = |n: u32, proven| half_open.admit(Duration::ZERO, &limits, source(n), proven);
        for n in 0..MAX_SOURCES as u32 {
            assert_eq!(at(n, false), Verdict::Accept);
        }
        assert_eq!(at(1 << 20, false), Verdict::AskForCookie);
        assert_eq!(at(1 << 20, true), Verdict::Accept);
    }
}
