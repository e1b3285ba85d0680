//! What the cluster wants done.

use std::time::Duration;

use baton_sad::{Name, NodeId};

use super::configuration::MAX_MEMBERS;
use super::event::{Octets, Reserved, SaKey};
use super::segments::Segments;
use super::status::{Alarm, Notice};

/// A way to another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Datagrams on a connection of their own, so that no bulk delays them.
    Heartbeat,
    /// A reliable ordered stream.
    Contexts,
    /// Datagrams.
    Counters,
    /// A reliable ordered stream for all else.
    Control,
}

impl Lane {
    /// Octets of one message at most; longer ones are not ours and are not read.
    pub const fn most_octets(self) -> usize {
        match self {
            Self::Heartbeat | Self::Counters => 1_150,
            Self::Contexts | Self::Control => (1 << 20) + 4_096,
        }
    }
}

/// How far an SA may go from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The SA.
    pub key: SaKey,
    /// The highest number that may be taken, or accepted.
    pub reserved: u64,
    /// At this number the worker raises attention.
    pub mark: u64,
}

/// What a voter remembers over a restart of its process: who owned what last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Which segments.
    pub segments: Segments,
    /// Their owner.
    pub owner: NodeId,
    /// Its term.
    pub term: u64,
    /// Whether it had all that there was of them: a claim that came to nothing says nothing of its claimant's contexts.
    pub intact: bool,
    /// Whether nobody else could have taken them over without a loss. If neither this nor `intact` is true, the owner is
    /// only known by what it says itself: this voter has promised it nothing.
    pub alone: bool,
    /// Who could have gone on with them, the owner too if they are intact, in no order.
    pub ready: [Option<NodeId>; MAX_MEMBERS],
}

/// How a change came to the standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// Every standby that was in good order has it.
    Done,
    /// The time was over before; the standby is stale for this tunnel.
    Late,
    /// There is no standby in good order.
    Alone,
}

/// How a segment came to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody owned it before.
    First,
    /// Its owner is silent, or gave it up.
    Takeover,
    /// The same, and its owner may have gone further than this node knows: its SAs are to be rekeyed, and its IKE SAs'
    /// Message IDs synchronised with peers that know how (RFC 6311).
    Stale,
    /// Its owner handed it over.
    Planned,
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// On which lane.
        lane: Lane,
        /// At most [`Lane::most_octets`].
        octets: Octets,
    },
    /// Set the leases of segments in the table, on the clock of all times here (zero: dropped at once).
    SetLease {
        /// Which.
        segments: Segments,
        /// Until when.
        until: Duration,
    },
    /// These segments are ours now, and may be used: `SetLease` follows. Announce them and fill the ownership map. Their
    /// tunnels are those that were applied here; tunnels that came otherwise are reported by `Event::TunnelChanged`.
    Took {
        /// Which.
        segments: Segments,
        /// How.
        cause: Cause,
    },
    /// These segments are not ours any more; their leases are dropped.
    Lost {
        /// Which.
        segments: Segments,
    },
    /// Segments are ours that may not be used yet: finish what was wanted before, then answer with `Event::Prepared`, upon
    /// which `Took` and `SetLease` follow.
    Prepare {
        /// Which.
        segments: Segments,
        /// Those of them whose counters are not known to be above all that was used: outbound SAs go on far beyond,
        /// inbound ones accept nothing before they are rekeyed (I2, I3).
        advance: Segments,
    },
    /// Whether workers keep to the reservations of these segments. Before they do, each SA gets one above its edge, which
    /// the core has not asked a standby for: contexts that are wanted after this are to be read when that is done, and
    /// no worker uses more than is reserved.
    Enforce {
        /// Which.
        segments: Segments,
        /// Whether they do.
        enforced: bool,
    },
    /// SAs may go on up to there.
    Reserve(Vec<Reservation>),
    /// Raise the floors of SAs that another node owns; the answer is `Event::FloorsRaised`.
    RaiseFloors {
        /// The owner.
        from: NodeId,
        /// Its number of this.
        number: u64,
        /// Up to where.
        floors: Vec<Reserved>,
        /// Only of SAs of these segments: the others are not its.
        within: Segments,
    },
    /// Read the context of a tunnel; the answer is `Event::Content` or `Event::NoContent`.
    ReadContext {
        /// Which.
        tunnel: Name,
    },
    /// Install a context of another owner as standby, floors included; the answer is `Event::Applied`.
    Apply {
        /// The owner.
        from: NodeId,
        /// Its number of this.
        number: u64,
        /// The tunnel.
        tunnel: Name,
        /// Its segment.
        segment: u8,
        /// Of the last change that is in it.
        version: u64,
        /// The encoded context.
        octets: Octets,
        /// The floors.
        floors: Vec<Reserved>,
        /// It takes the place of what another owner has put, even if that was of a later change: nobody has heard of it.
        supersedes: bool,
    },
    /// Remove the context of a tunnel of another owner; the answer is `Event::Applied`.
    Remove {
        /// The owner, or this node itself.
        from: NodeId,
        /// Its number of this.
        number: u64,
        /// The tunnel.
        tunnel: Name,
    },
    /// Let IKE change nothing more in these segments; packets go on. The answer is `Event::Silent` or `Event::NotFrozen`.
    Silence {
        /// The move.
        number: u64,
        /// Which.
        segments: Segments,
    },
    /// Freeze segments for a planned move; the answer is `Event::Frozen` or `Event::NotFrozen`.
    Freeze {
        /// The move.
        number: u64,
        /// Which.
        segments: Segments,
    },
    /// Go on with frozen or silenced segments. `SetLease` follows.
    Thaw {
        /// Which.
        segments: Segments,
    },
    /// Keep final contexts of a planned move ready, without installing them; the answer is `Event::Staged`.
    Stage {
        /// The old owner.
        from: NodeId,
        /// The move.
        number: u64,
        /// The final contexts.
        parts: Vec<Octets>,
    },
    /// Install what was staged: counters exactly as they stand there. The answer is `Event::Prepared`; no lease of these
    /// segments is set before, so that no worker uses what is being changed.
    Commit {
        /// The old owner.
        from: NodeId,
        /// The move.
        number: u64,
        /// All that it moves.
        segments: Segments,
    },
    /// Forget what was staged.
    Discard {
        /// The old owner.
        from: NodeId,
        /// The move.
        number: u64,
    },
    /// Have packets of segments wait that are about to be ours, instead of dropping them: their old owner stops them before
    /// it lets them go here. The answer is `Event::Holding`.
    Hold {
        /// The old owner.
        from: NodeId,
        /// The move.
        number: u64,
        /// Which.
        segments: Segments,
        /// Until when.
        until: Duration,
    },
    /// Packets of these segments wait no longer.
    EndHold {
        /// Which.
        segments: Segments,
    },
    /// The answer to `Event::Await`.
    Replicated {
        /// Which tunnel.
        tunnel: Name,
        /// Which change.
        version: u64,
        /// How.
        outcome: Replication,
    },
    /// Whether all standbys that can be reached are in good order, and there is one: the IKE daemon waits for them.
    Synced(bool),
    /// All of this is to be given to [`Cluster::new`](super::Cluster::new) after a restart of the process. It is stored
    /// before whatever comes after it is done: that includes the vote.
    Remember(Vec<Remembered>),
    /// A state that an operator should know of begins or ends.
    Alarm {
        /// What.
        alarm: Alarm,
        /// Whether it begins.
        raised: bool,
    },
    /// Something happened.
    Notice(Notice),
}
