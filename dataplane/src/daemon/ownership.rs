//! Segments: the table's leases decide (I4), and the filter follows them.
//!
//! The order keeps I4 and loses nothing on the way: a taken segment's lease is there before the filter sends the
//! first packet, a dropped one leaves the filter before its lease ends.

use std::time::Duration;

use baton_sad::{NOT_OWNED, OWNED, Table};

use crate::control::{Code, Refusal, Segments};
use crate::worker::monotonic_ns;
use crate::xdp::{Attachment, XdpError};

/// How long a drop waits for the workers to finish their batches.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// Sets the leases of a table that is new.
pub(super) fn set_leases(table: &Table, owned: &[u64; 4]) {
    Segments::members(owned).into_iter().for_each(|segment| table.set_lease(segment, OWNED));
}

/// Takes segments without a limit in time.
pub(super) fn take(table: &Table, filter: &mut Attachment, segments: &[u8]) -> Result<(), Refusal> {
    segments.iter().for_each(|segment| table.set_lease(*segment, OWNED));
    follow(table, filter).map_err(internal)
}

/// Gives segments up; when it returns, no worker sends for them any more.
pub(super) fn give_up(table: &Table, filter: &mut Attachment, segments: &[u8]) -> Result<(), Refusal> {
    let mut owned = table.owned_segments(monotonic_ns());
    for segment in segments {
        owned[usize::from(segment / 64)] &= !(1 << (segment % 64));
    }
    filter.set_owned(owned).map_err(internal)?;
    segments.iter().for_each(|segment| table.set_lease(*segment, NOT_OWNED));
    table.wait_until_quiescent(DROP_WAIT).map_err(internal)
}

/// Makes the filter own what the table's leases say now.
pub(super) fn follow(table: &Table, filter: &mut Attachment) -> Result<(), XdpError> {
    let owned = table.owned_segments(monotonic_ns());
    if filter.owned()? != owned {
        filter.set_owned(owned)?;
    }
    Ok(())
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error, "see the data plane's log, then try again")
}
