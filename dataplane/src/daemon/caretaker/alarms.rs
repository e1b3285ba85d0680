//! Rates of drops that want an operator.

use crate::drop_reason::DropReason;

/// A reason, how many of it per second are too many, and what to do then.
struct Watch {
    reason: DropReason,
    per_second: u64,
    remedy: &'static str,
}

const WATCHED: [Watch; 6] = [
    Watch {
        reason: DropReason::BadIcv,
        per_second: 100,
        remedy: "compare both ends' keys and suites (`dpctl sa show`); if they agree, somebody sends forgeries: \
                 `dpctl capture --side encrypted` shows from where",
    },
    Watch {
        reason: DropReason::Replayed,
        per_second: 1000,
        remedy: "somebody repeats the peer's packets, or a link on the way does: `dpctl capture --side encrypted`",
    },
    Watch {
        reason: DropReason::TooOld,
        per_second: 1000,
        remedy: "packets overtake each other farther than replay_window allows: raise it on the tunnel, or the peer \
                 was restarted with old keys: rekey",
    },
    Watch {
        reason: DropReason::Selectors,
        per_second: 10,
        remedy: "the ends disagree about selectors: compare them (`dpctl policy list`); `dpctl monitor --kind \
                 selector-violation` shows the packets",
    },
    Watch {
        reason: DropReason::UnknownSpi,
        per_second: 1000,
        remedy: "a peer uses an SA that is not here: rekey or restore it; `dpctl capture --side encrypted` shows whose",
    },
    Watch {
        reason: DropReason::IvUnavailable,
        per_second: 1,
        remedy: "nothing is sent: see the epoch in `dpctl status` and the state directory's file system",
    },
];

/// Seconds below half of the rate before an alarm is over, so that it does not flicker.
const QUIET: u32 = 10;

/// Watches drop counters, once a second or so.
#[derive(Debug, Default)]
pub(in crate::daemon) struct DropAlarms {
    last: [u64; WATCHED.len()],
    /// For each that is raised: the rate when it was at its worst, and for how many looks it has been quiet.
    raised: [Option<(u64, u32)>; WATCHED.len()],
}

/// An alarm that came, or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Change {
    pub(in crate::daemon) raised: bool,
    pub(in crate::daemon) alarm: String,
}

impl DropAlarms {
    /// Looks at the counters again, `milliseconds` after the last look.
    pub(in crate::daemon) fn look(
        &mut self,
        dropped: impl Fn(DropReason) -> u64,
        milliseconds: u64,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (index, watch) in WATCHED.iter().enumerate() {
            let now = dropped(watch.reason);
            let news = now.saturating_sub(std::mem::replace(&mut self.last[index], now));
            let rate = news.saturating_mul(1000) / milliseconds.max(1);
            let before = self.raised[index];
            let after = judge(before, rate, watch.per_second);
            self.raised[index] = after;
            if before.is_some() != after.is_some() {
                let worst = after.or(before).map_or(rate, |(worst, _)| worst);
                changes.push(Change { raised: after.is_some(), alarm: sentence(watch, worst) });
            }
        }
        changes
    }

    /// Those that are raised now.
    pub(in crate::daemon) fn standing(&self) -> Vec<String> {
        let raised = WATCHED.iter().zip(&self.raised);
        raised.filter_map(|(watch, raised)| raised.map(|(worst, _)| sentence(watch, worst))).collect()
    }
}

fn judge(before: Option<(u64, u32)>, rate: u64, limit: u64) -> Option<(u64, u32)> {
    match before {
        None => (rate >= limit).then_some((rate, 0)),
        Some((worst, _)) if rate * 2 >= limit => Some((worst.max(rate), 0)),
        Some((worst, quiet)) => (quiet + 1 < QUIET).then_some((worst, quiet + 1)),
    }
}

fn sentence(watch: &Watch, rate: u64) -> String {
    let (name, what) = (watch.reason.name(), watch.reason.sentence().trim_end_matches('.'));
    format!("up to {rate} packets per second are dropped as {name} ({what}): {}", watch.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_comes_with_a_rate_and_goes_when_it_was_quiet_for_a_while() {
        let mut alarms = DropAlarms::default();
        let mut total = 0;
        let mut look = |more: u64| {
            total += more;
            let of = |reason| if reason == DropReason::BadIcv { total } else { 0 };
            let changes = alarms.look(of, 1000);
            (changes.iter().map(|change| change.raised).collect::<Vec<_>>(), alarms.standing())
        };
        assert_eq!(look(99), (vec![], vec![]));
        let (changes, standing) = look(5000);
        assert_eq!(changes, [true]);
        assert!(
            standing[0].starts_with("up to 5000 packets per second are dropped as bad-icv"),
            "{standing:?}"
        );
        assert_eq!(look(50).0, Vec::<bool>::new(), "half of the rate keeps it");
        for _ in 1..QUIET {
            assert_eq!(look(0).0, Vec::<bool>::new());
        }
        assert_eq!(look(0), (vec![false], vec![]));
    }

    #[test]
    fn a_rate_is_per_second_however_long_ago_the_last_look_was() {
        let mut alarms = DropAlarms::default();
        let of = |reason| u64::from(reason == DropReason::Selectors) * 50;
        assert_eq!(alarms.look(of, 10_000), []);
        let of = |reason| u64::from(reason == DropReason::Selectors) * 100;
        assert_eq!(alarms.look(of, 100).len(), 1);
    }
}
