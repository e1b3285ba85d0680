//! Segments: the table's leases decide (I4), and the filter follows them.
//!
//! The order keeps I4 and loses nothing on the way: a taken segment's lease is there before the filter sends the
//! first packet, a dropped one leaves the filter before its lease ends.

use std::time::Duration;

use baton_sad::{NOT_OWNED, OWNED, Table};

use super::filter::Filter;
use crate::control::{Code, Refusal, Segments};
use crate::worker::monotonic_ns;
use crate::xdp::XdpError;

/// How long a drop waits for the workers to finish their batches.
const DROP_WAIT: Duration = Duration::from_secs(2);

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

/// Takes segments without a limit in time.
pub(super) fn take(table: &Table, filter: &mut Filter, segments: &[u8]) -> Result<(), Refusal> {
    for segment in segments {
        table.set_lease(*segment, OWNED);
    }
    follow(table, filter).map_err(internal)
}

/// Gives segments up. A worker may still be sending the batch that it has begun ([`wait_for_workers`]).
pub(super) fn give_up(table: &Table, filter: &mut Filter, segments: &[u8]) -> Result<(), Refusal> {
    let mut owned = table.owned_segments(monotonic_ns());
    for segment in segments {
        owned[usize::from(segment / 64)] &= !(1 << (segment % 64));
    }
    filter.set_owned(owned).map_err(internal)?;
    for segment in segments {
        table.set_lease(*segment, NOT_OWNED);
    }
    Ok(())
}

/// Returns when no worker sends any more for what was given up before.
pub(super) fn wait_for_workers(table: &Table) -> Result<(), Refusal> {
    table.wait_until_quiescent(DROP_WAIT).map_err(|error| {
        let message = format!("the segments are given up, but not all workers have confirmed it: {error}");
        Refusal::new(Code::Internal, message, "see the data plane's log")
    })
}

/// Makes the filter own what the table's leases say now.
pub(super) fn follow(table: &Table, filter: &mut Filter) -> Result<(), XdpError> {
    let owned = table.owned_segments(monotonic_ns());
    if filter.owned(owned)? != owned {
        filter.set_owned(owned)?;
    }
    Ok(())
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error, "see the data plane's log, then try again")
}
