//! Segments: the table's leases decide (I4), and the filter follows them.
//!
//! The order keeps I4 and loses nothing on the way: a taken segment's lease is there before the filter sends the
//! first packet, a dropped one leaves the filter before its lease ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_sad::{NOT_OWNED, OWNED, Table};
use tracing::error;

use crate::config;
use crate::control::{Code, Refusal, Segments};
use crate::worker::monotonic_ns;
use crate::xdp::{Ownership, XdpError};

/// How long a drop waits for the workers to finish their batches.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// Between two looks at the leases at most: whoever changes one in the table need not say so.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
/// At least: a lease that is renewed late again and again must not take a core.
const SHORTEST_SLEEP: Duration = Duration::from_micros(200);

/// Gives a table that is new, or whose creator died before this point, its first leases. Later the table knows
/// better than the configuration.
pub(super) fn initialise(table: &Table, owned: &[u64; 4]) {
    let untouched = (0..=255).all(|segment| table.lease(segment) == NOT_OWNED);
    if untouched && table.installed() == 0 && table.epoch_state().current.is_none() {
        set_leases(table, owned);
    }
}

/// Owns these segments without a limit in time.
pub(super) fn set_leases(table: &Table, owned: &[u64; 4]) {
    for segment in Segments::members(owned) {
        table.set_lease(segment, OWNED);
    }
}

/// In a cluster whoever takes segments without a vote may be the second owner (I4).
pub(super) fn may_take(segments: &config::Segments) -> Result<(), Refusal> {
    if !segments.by_leases {
        return Ok(());
    }
    let message = "this gateway is a member of a cluster and owns segments by leases";
    Err(Refusal::new(Code::Refused, message, "start baton-cluster, which takes what is free"))
}

/// The filter's ownership, kept in line with the leases. It has a lock of its own, which nobody holds for longer than
/// two changes of a map: a takeover does not wait for a reload.
#[derive(Debug)]
pub(super) struct LeaseFilter {
    table: Arc<Table>,
    /// `None` where no side has a filter.
    filter: Option<Ownership>,
}

impl LeaseFilter {
    /// From now on the filter owns what the table's leases say.
    pub(super) fn new(table: Arc<Table>, filter: Option<Ownership>) -> Result<Self, XdpError> {
        let mut filter = Self { table, filter };
        filter.follow()?;
        Ok(filter)
    }

    /// Takes segments without a limit in time.
    pub(super) fn take(&mut self, segments: &[u8]) -> Result<(), Refusal> {
        for segment in segments {
            self.table.set_lease(*segment, OWNED);
        }
        self.follow().map_err(internal)
    }

    /// Gives segments up. A worker may still be sending the batch that it has begun ([`wait_for_workers`]).
    pub(super) fn give_up(&mut self, segments: &[u8]) -> Result<(), Refusal> {
        let mut owned = self.table.owned_segments(monotonic_ns());
        for segment in segments {
            owned[usize::from(segment / 64)] &= !(1 << (segment % 64));
        }
        self.set(owned).map_err(internal)?;
        for segment in segments {
            self.table.set_lease(*segment, NOT_OWNED);
        }
        Ok(())
    }

    /// Makes the filter own what the leases say now, all segments at once, and what is about to be ours.
    pub(super) fn follow(&mut self) -> Result<(), XdpError> {
        self.set(self.table.wanted_segments(monotonic_ns()))
    }

    fn set(&mut self, owned: [u64; 4]) -> Result<(), XdpError> {
        let Some(filter) = &mut self.filter else { return Ok(()) };
        if filter.get()? != owned {
            filter.set(owned)?;
        }
        Ok(())
    }
}

/// Follows the leases until it is to stop: whoever changes one may ask for it to be followed at once
/// ([`crate::control::Request::SegmentFollow`]), but nobody tells when one ends. Then its packets are dropped before
/// they are copied; that none is sent is the workers' to see to, batch by batch (I4).
pub(super) fn follow_leases(table: &Table, filter: &Mutex<LeaseFilter>, stop: &AtomicBool) {
    let mut is_failing = false;
    while !stop.load(Ordering::Acquire) {
        let result = filter.lock().unwrap_or_else(PoisonError::into_inner).follow();
        if let Err(error) = &result
            && !is_failing
        {
            error!(%error, "the filter cannot follow the leases");
        }
        is_failing = result.is_err();
        std::thread::park_timeout(until_next_end(table, monotonic_ns()));
    }
}

/// How long the leases stay as they are, if nobody changes them; never longer than a look takes to be due.
fn until_next_end(table: &Table, now: u64) -> Duration {
    let next = table.next_lease_end(now).map_or(Duration::MAX, |end| Duration::from_nanos(end - now));
    next.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
}

/// Returns when no worker sends any more for what was given up before.
pub(super) fn wait_for_workers(table: &Table) -> Result<(), Refusal> {
    table.wait_until_quiescent(DROP_WAIT).map_err(|error| {
        let message = format!("the segments are given up, but not all workers have confirmed it: {error}");
        Refusal::new(Code::Internal, message, "see the data plane's log")
    })
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error, "see the data plane's log, then try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_sad::{ClusterId, NodeId, TableOptions};

    #[test]
    fn i4_in_a_cluster_nothing_is_taken_without_a_vote() {
        let segments = |by_leases| config::Segments {
            hash: config::HashMode::SourceIp,
            seed: 0,
            owned: [0; 4],
            by_leases,
        };
        let refused = may_take(&segments(true)).expect_err("refused");
        assert!(refused.to_string().contains("start baton-cluster"), "{refused}");
        assert!(may_take(&segments(false)).is_ok());
    }

    #[test]
    fn the_next_look_is_when_a_lease_ends_and_never_late() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let node = NodeId::new(1).expect("not 0");
        let options = TableOptions { capacity: 4, node, cluster: ClusterId::new(1) };
        let table = Table::create(&directory.path().join("sa-table"), &options).expect("created");
        let now = 1_000_000_000;
        assert_eq!(until_next_end(&table, now), LONGEST_SLEEP);
        table.set_lease(1, OWNED);
        table.set_lease(2, now);
        assert_eq!(until_next_end(&table, now), LONGEST_SLEEP, "neither ends any more");
        table.set_lease(3, now + 30_000_000);
        table.set_lease(4, now + 7_000_000);
        assert_eq!(until_next_end(&table, now), Duration::from_millis(7));
        table.set_lease(5, now + 1);
        assert_eq!(until_next_end(&table, now), SHORTEST_SLEEP);
    }
}
