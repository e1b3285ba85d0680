//! What an operator sees.

use std::collections::BTreeSet;
use std::time::Duration;

use baton_sad::{Name, NodeId};

use super::attachment::Side;
use super::configuration::Role;
use super::event::Refusal;
use super::output::Cause;
use super::segments::Segments;

/// A state that needs an operator's eye.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Alarm {
    /// A member is silent.
    Silent(NodeId),
    /// Segments have no standby in good order.
    Unprotected,
    /// A standby did not follow in time.
    Stale(NodeId),
    /// A standby refuses contexts.
    Refused(NodeId, Refusal),
    /// This node has no majority: it owns nothing.
    NoMajority,
    /// A member runs a release that cannot be talked with.
    Version(NodeId, u16),
    /// A member spoke of segments that it does not own.
    NotTheOwner(NodeId),
    /// Sections of a member's configuration differ from ours.
    Differs(NodeId, Vec<String>),
    /// More tunnels than are replicated.
    TooManyTunnels,
    /// An interface of this node has no link: it serves nobody.
    NoLink(Side),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// This node was stopped for longer than its leases: it gave everything up.
    Paused(Duration),
    /// Segments were gained.
    Took(Segments, Cause),
    /// Segments were lost.
    Lost(Segments),
    /// A partition is over, and these segments went to the other.
    Yielded(Segments, NodeId),
    /// A planned move is done, or was given up before anything had changed hands.
    Moved(Segments, NodeId, bool),
    /// A standby has everything.
    Filled(NodeId),
    /// An IKE message did not wait for its standby any longer.
    Late(Name),
    /// A peer sent what cannot be read.
    Malformed(NodeId),
}

/// How a standby stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyState {
    /// Not connected.
    Absent,
    /// On its way.
    Filling {
        /// Tunnels that are there.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Has everything.
    Synced,
    /// Did not follow in time: it may take over only by rekeying.
    Stale {
        /// Since when.
        since: Duration,
    },
}

/// Another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Whether it is heard.
    pub alive: bool,
    /// When it was heard last.
    pub heard: Option<Duration>,
    /// Its release, once it has said so.
    pub release: Option<String>,
    /// What it owns.
    pub owns: Segments,
    /// Whether it is in maintenance.
    pub maintenance: bool,
    /// Whether it serves nobody for now: its data plane is away, or a link of it was a moment ago.
    pub idle: bool,
    /// As our standby.
    pub standby: StandbyState,
    /// Segments that it could take over from us without a loss.
    pub ready: Segments,
    /// Contexts that it has not acknowledged.
    pub lag: u64,
    /// Packets of our SAs that wait for its word.
    pub lag_packets: u64,
    /// Since when something is on its way to it.
    pub waits_since: Option<Duration>,
    /// Tunnels that it refuses, some of them.
    pub refused: Vec<(Name, Refusal)>,
}

/// Numbers since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Segments taken over unplanned.
    pub takeovers: u64,
    /// Segments moved away as planned.
    pub moves: u64,
    /// Planned moves given up.
    pub moves_failed: u64,
    /// Segments yielded after a partition.
    pub yielded: u64,
    /// Times that this node found itself paused.
    pub pauses: u64,
    /// Times that a lease ended without a majority.
    pub lapses: u64,
    /// Contexts sent.
    pub contexts: u64,
    /// Fills completed.
    pub fills: u64,
    /// Contexts that a standby refused.
    pub refusals: u64,
    /// IKE messages that waited for the bound.
    pub late: u64,
    /// Reservations sent.
    pub reservations: u64,
    /// Reservations sent again.
    pub repeated_reservations: u64,
    /// Standbys declared stale.
    pub stale: u64,
    /// Segments taken over that had to be rekeyed.
    pub rekeyed: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages of members that may not say what they said.
    pub disbelieved: u64,
}

/// The cluster as this member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub me: NodeId,
    /// What we own.
    pub owned: Segments,
    /// The term of our claims.
    pub term: u64,
    /// The first of our leases that ends, without a renewal.
    pub leased_until: Option<Duration>,
    /// Whether at most one owner is sure (I4), or availability comes first.
    pub majority: bool,
    /// Whether we are in maintenance.
    pub maintenance: bool,
    /// Our interfaces without a link.
    pub down: BTreeSet<Side>,
    /// What is being moved.
    pub moving: Segments,
    /// The others.
    pub members: Vec<MemberStatus>,
    /// Alarms that stand.
    pub alarms: Vec<Alarm>,
    /// When and how a segment came last.
    pub last_took: Option<(Duration, Segments, Cause)>,
    /// Since the start.
    pub totals: Totals,
}
