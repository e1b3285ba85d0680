//! What the cluster is told.

use std::fmt;

use baton_sad::{Direction, Name, NodeId};
use zeroize::Zeroizing;

use super::attachment::Side;
use super::configuration::Configuration;
use super::load::Load;
use super::segments::Segments;

/// An SA, for good: a rekey puts another one in the place of an outbound one, and what was reserved for the old one must
/// not be taken for the new one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaKey {
    /// Inbound or outbound.
    pub direction: Key,
    /// What the SA table finds it by (an inbound one's SPI, an outbound one's reqid) in the upper half, the SPI in its
    /// packets in the lower one.
    pub number: u64,
}

impl SaKey {
    /// As the SA table names it.
    pub fn of(sa: baton_sad::SaKey) -> Self {
        Self { direction: sa.direction.into(), number: u64::from(sa.key) << 32 | u64::from(sa.spi) }
    }

    /// For the SA table.
    pub const fn in_table(self) -> baton_sad::SaKey {
        let direction = match self.direction {
            Key::Inbound => Direction::Inbound,
            Key::Outbound => Direction::Outbound,
        };
        baton_sad::SaKey { direction, key: (self.number >> 32) as u32, spi: self.number as u32 }
    }
}

/// The direction of an SA, with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Found by its SPI.
    Inbound,
    /// Found by its reqid.
    Outbound,
}

impl From<Direction> for Key {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::Inbound,
            Direction::Outbound => Self::Outbound,
        }
    }
}

impl From<Key> for Direction {
    fn from(key: Key) -> Self {
        match key {
            Key::Inbound => Self::Inbound,
            Key::Outbound => Self::Outbound,
        }
    }
}

/// The highest number of an SA that may be used: what its standbys know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reserved {
    /// The SA.
    pub key: SaKey,
    /// The number.
    pub number: u64,
}

/// How far an SA has come, reported when it passes its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The SA.
    pub key: SaKey,
    /// Its tunnel.
    pub tunnel: Name,
    /// The highest number used so far, or wanted (an inbound packet beyond the reservation).
    pub edge: u64,
    /// Its present rate.
    pub packets_per_second: u64,
}

/// Contexts, and all that holds keys: wiped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Octets(pub Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for Octets {
    fn from(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }
}

impl From<Zeroizing<Vec<u8>>> for Octets {
    fn from(octets: Zeroizing<Vec<u8>>) -> Self {
        Self(octets)
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}

/// A context as it was read for a standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The tunnel.
    pub tunnel: Name,
    /// Its segment.
    pub segment: u8,
    /// Of the last change that is in it.
    pub version: u64,
    /// The encoded context.
    pub octets: Octets,
    /// What its SAs had reserved when it was read, [`MAX_PARTS`](crate::MAX_PARTS) at most: a standby goes on above it.
    pub reserved: Vec<Reserved>,
}

/// Why a standby did not take a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Refusal {
    /// Its table is full.
    Full,
    /// It does not understand the context.
    Malformed,
    /// Its configuration forbids it.
    Policy,
    /// Its data plane or IKE daemon is away.
    Unavailable,
}

/// All of them.
pub(crate) const REFUSALS: [Refusal; 4] =
    [Refusal::Full, Refusal::Malformed, Refusal::Policy, Refusal::Unavailable];

/// A command of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take segments from their owners, by planned moves.
    Take(Segments),
    /// Give segments to their standbys, by planned moves.
    Drop(Segments),
    /// Move segments of this node to a certain one.
    Move {
        /// Which.
        segments: Segments,
        /// To whom.
        to: NodeId,
    },
    /// Every segment to its node, by planned moves. Each node balances its own: say it to all.
    Balance,
    /// Give everything away and take nothing, or come back.
    Maintenance(bool),
    /// Fill the standbys again from nothing.
    Resync,
}

/// What the driver tells the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A member can be reached on all lanes.
    Connected {
        /// Who.
        member: NodeId,
    },
    /// It cannot; what was under way on reliable lanes is lost.
    Disconnected {
        /// Who.
        member: NodeId,
    },
    /// A tunnel is new, or its context has changed. At the start, before anything else: all that this node has, of
    /// whatever segment.
    TunnelChanged {
        /// Which.
        tunnel: Name,
        /// Its segment.
        segment: u8,
        /// Rises with each change of it; whoever owns its segment goes on from the highest.
        version: u64,
    },
    /// A tunnel is gone.
    TunnelDeleted {
        /// Which.
        tunnel: Name,
    },
    /// The IKE daemon asks to be told when a change is on the standbys: `Output::Replicated` is the answer.
    Await {
        /// Which tunnel.
        tunnel: Name,
        /// Which change of it.
        version: u64,
    },
    /// The answer to `Output::ReadContext`.
    Content(Content),
    /// The answer to `Output::ReadContext` if there is no such tunnel any more.
    NoContent {
        /// Which.
        tunnel: Name,
    },
    /// The answer to `Output::Apply` and `Output::Remove`.
    Applied {
        /// Whose.
        from: NodeId,
        /// Which.
        number: u64,
        /// Whether it is installed.
        result: Result<(), Refusal>,
    },
    /// The answer to `Output::RaiseFloors`.
    FloorsRaised {
        /// Whose.
        from: NodeId,
        /// Which.
        number: u64,
        /// SAs that are not here, or not its.
        missing: Vec<SaKey>,
        /// Segments of SAs that are not its.
        foreign: Segments,
    },
    /// SAs have passed their marks.
    Edges(Vec<Edge>),
    /// The answer to `Output::Freeze`: no worker takes another number of these segments.
    Frozen {
        /// Which move.
        number: u64,
        /// The final contexts, or what of them changes by packet; each part is at most as long as a context.
        parts: Vec<Octets>,
    },
    /// The answer to `Output::Silence`: no context of these segments changes any more but by packets.
    Silent {
        /// Which move.
        number: u64,
        /// Negotiated tunnels of the segments, and the last changes of their contexts.
        tunnels: Vec<(Name, u64)>,
    },
    /// The other answer to `Output::Silence` and `Output::Freeze`.
    NotFrozen {
        /// Which move.
        number: u64,
    },
    /// The answer to `Output::Hold`: packets that come from now on wait.
    Holding {
        /// Whose.
        from: NodeId,
        /// Which move.
        number: u64,
    },
    /// The answer to `Output::Stage`.
    Staged {
        /// Whose.
        from: NodeId,
        /// Which move.
        number: u64,
        /// Whether all of it can be installed.
        result: Result<(), Refusal>,
    },
    /// The answer to `Output::Commit` and `Output::Prepare`.
    Prepared {
        /// Which.
        segments: Segments,
        /// Of a planned move: whether all counters are as the old owner has left them; otherwise some go on above their
        /// reservations.
        exact: bool,
    },
    /// Whether this node can handle packets: a node whose data plane is away owns nothing.
    Dataplane {
        /// Whether it is there.
        ready: bool,
    },
    /// What this node has to do; about once a second.
    Load(Load),
    /// Whether an interface has a link. All have, until somebody says otherwise.
    Link {
        /// Which.
        side: Side,
        /// Whether frames can be sent and received there.
        up: bool,
    },
    /// The operator's.
    Command(Command),
    /// The configuration was read again: what of it can change is as there from now on.
    Tuned(Box<Configuration>),
}
