//! Between the votes for a segment and its first packet: what has to be done first is done by others, and the lease is in
//! the table only when they say that it is (I2, I3).

use std::time::Duration;

use super::Cluster;
use super::output::{Cause, Output};
use super::segments::Segments;

/// How long the counters of a whole table may take.
const ADVANCE: Duration = Duration::from_secs(5);

/// Segments that are being made ready.
#[derive(Debug, Default)]
pub(crate) struct Preparing {
    pub(crate) segments: Segments,
    /// Those of them whose counters are not known to be high enough.
    stale: Segments,
    /// What takes longer is given up.
    until: Duration,
}

impl Cluster {
    /// What we hold and may not use yet.
    pub(crate) fn unprepared(&self) -> Segments {
        if self.guards.prepare_first {
            self.claims.preparing.segments & self.claims.held
        } else {
            Segments::NONE
        }
    }

    /// Whether something is still being made ready that others may own by now: what it does to SAs may come after what
    /// the new owner wants to be done.
    pub(crate) fn prepares_late(&self) -> bool {
        !(self.claims.preparing.segments - self.claims.held).is_empty()
    }

    /// Contexts of a planned move are being installed.
    pub(crate) fn prepare(&mut self, segments: Segments) {
        if !segments.is_empty() {
            self.claims.preparing.segments |= segments;
            self.prepare_until(self.config.move_wait);
        }
    }

    fn prepare_until(&mut self, patience: Duration) {
        let until = &mut self.claims.preparing.until;
        *until = (*until).max(self.now + patience);
    }

    /// Segments are taken over. Where this node may know less than their owner did, the counters of their SAs are moved
    /// out of reach first. What their owner has sent before it died, and what is being installed, comes before the first
    /// packet too: an SA that is changed under its worker would use numbers again. All else is used at once. Gives what
    /// has to wait.
    pub(crate) fn prepare_takeover(&mut self, taken: Segments, stale: Segments) -> Segments {
        let wait = taken & (stale | self.tunnels.changing_segments());
        if wait.is_empty() {
            return Segments::NONE;
        }
        self.prepare(wait);
        self.claims.preparing.stale |= stale;
        if !stale.is_empty() {
            self.prepare_until(ADVANCE);
        }
        self.outputs.push_back(Output::Prepare { segments: wait, advance: stale });
        wait
    }

    /// The driver has done its part. What could not be done exactly starts above its reservations.
    pub(crate) fn prepared(&mut self, segments: Segments, exact: bool) {
        let ready = segments & self.claims.preparing.segments & self.claims.held;
        let stale = ready & self.claims.preparing.stale;
        self.claims.preparing.segments -= segments;
        self.claims.preparing.stale -= segments;
        self.took(stale, Cause::Stale);
        self.took(ready - stale, if exact { Cause::Planned } else { Cause::Takeover });
        self.repeat_leases(ready - self.moves.frozen());
        self.outputs.push_back(Output::EndHold { segments });
    }

    pub(crate) fn next_unprepared(&self) -> Option<Duration> {
        (!self.unprepared().is_empty()).then_some(self.claims.preparing.until)
    }

    /// Somebody else may be faster.
    pub(crate) fn give_up_unprepared(&mut self) {
        let late = self.unprepared();
        if !late.is_empty() && self.claims.preparing.until <= self.now {
            self.totals.moves_failed += late.len() as u64;
            self.lose(late);
        }
    }
}
