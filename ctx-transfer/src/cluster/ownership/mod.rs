//! Who owns what: the claimant's side of the leases.
//!
//! The cluster says what it claims; a rule says until when it holds what. The embedded rules count the votes that answer
//! heartbeats; an external engine with leases of its own is one voter whose word is enough.

mod ballot;

pub use ballot::{Majority, PairWithoutWitness};

use std::time::Duration;

use baton_sad::NodeId;

use super::segments::Segments;

/// A rule of ownership. It takes time, claims and votes, and gives deadlines.
pub trait Ownership: std::fmt::Debug + Send {
    /// Claims segments too.
    fn claim(&mut self, segments: Segments);

    /// Claims segments no longer, and holds none of them.
    fn release(&mut self, segments: Segments);

    /// All that is claimed.
    fn claimed(&self) -> Segments;

    /// A request for all that is claimed leaves.
    fn sent(&mut self, now: Duration, sequence: u64);

    /// A voter promised segments in answer to a request.
    fn granted(&mut self, voter: NodeId, sequence: u64, segments: Segments);

    /// Whether a voter is silent.
    fn silent(&mut self, voter: NodeId, silent: bool);

    /// Until when a segment is held; `held` says whether it is already. `None` if the votes do not suffice.
    fn deadline(&self, segment: u8, held: bool) -> Option<Duration>;

    /// The latest request for a segment that enough voters have granted: what it said of the segment's heirs is known
    /// to whoever decides later.
    fn backed(&self, segment: u8) -> Option<u64>;

    /// Whether this rule keeps a second owner out whatever the network does.
    fn is_exclusive(&self) -> bool;
}
