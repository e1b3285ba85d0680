//! A context in memory.

use std::fmt;

use baton_sad::{ClusterId, Counters, Direction, Name, NodeId, Sa, Selectors};

use zeroize::Zeroizing;

use crate::cbor::Unknown;

/// SAs, and policies, of one context at most: as many as a tunnel with 16 Child SAs has while they are rekeyed.
pub const MAX_PARTS: usize = 64;

/// All that is needed to continue one tunnel elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Whether its counters are final.
    pub kind: Kind,
    /// The tunnel.
    pub name: Name,
    /// The node that took it.
    pub origin: Origin,
    /// When it was taken, in milliseconds since 1970 by the origin's clock.
    pub taken_at: u64,
    /// Its SAs, both directions, at most [`MAX_PARTS`]; there is one at least unless there is an IKE part.
    pub sas: Vec<ContextSa>,
    /// Its SPD entries, at most [`MAX_PARTS`].
    pub policies: Vec<Policy>,
    /// Its IKE SA, if it was negotiated.
    pub ike: Option<IkePart>,
    /// Entries of later releases: the PAD entry, NAT state.
    pub unknown: Unknown,
}

/// The IKE part: octets that only the IKE daemon looks into. They begin with a version of their own, and their keys are
/// sealed once more.
#[derive(Clone, PartialEq, Eq)]
pub struct IkePart(Zeroizing<Vec<u8>>);

impl IkePart {
    /// Its octets at most: what the IKE daemon takes in one request.
    pub const MAX_OCTETS: usize = 480 << 10;

    /// `None` if there are no octets, or too many.
    pub fn new(octets: Vec<u8>) -> Option<Self> {
        (1..=Self::MAX_OCTETS).contains(&octets.len()).then(|| Self(Zeroizing::new(octets)))
    }

    /// All of it.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for IkePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}

/// What the counters of a context are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The SAs went on after the counters were read.
    Copy,
    /// The SAs were frozen first: the counters are final.
    Move,
}

/// Where a context comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node's cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// One SA with its counters. The name in `sa` is the context's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextSa {
    /// Configuration and key.
    pub sa: Sa,
    /// As they were when the context was taken.
    pub counters: Counters,
    /// Entries of later releases: mode, lifetimes.
    pub unknown: Unknown,
    /// Counters of later releases.
    pub unknown_counters: Unknown,
}

impl ContextSa {
    /// An SA without entries of later releases.
    pub fn new(sa: Sa, counters: Counters) -> Self {
        Self { sa, counters, unknown: Unknown::default(), unknown_counters: Unknown::default() }
    }
}

/// An SPD entry (RFC 4301, section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What happens to a packet.
    pub action: PolicyAction,
    /// The outbound SA.
    pub reqid: u32,
    /// Whose owner forwards.
    pub segment: u8,
    /// What it covers.
    pub selectors: Selectors,
    /// Entries of later releases.
    pub unknown: Unknown,
}

/// What happens to a packet that a policy covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// ESP.
    Protect,
    /// Forwarded in clear.
    Bypass,
    /// Dropped.
    Discard,
}

impl Context {
    /// The SAs of one direction.
    pub fn of(&self, direction: Direction) -> impl Iterator<Item = &ContextSa> {
        self.sas.iter().filter(move |sa| sa.sa.direction == direction)
    }
}
