//! The security policy database (RFC 4301 section 4.4.1): immutable, replaced as a whole.
//!
//! The RFC's three parts are one ordered list here. Policies are tried by priority, then by how narrow their
//! remote addresses are (so that equal priorities mean longest-prefix match), then in the order given.
//! [`Spd::outbound`] is the lookup in SPD-S and SPD-O; [`Spd::inbound`] is the one in SPD-I for packets that arrive
//! in clear, where [`Action::Protect`] says that they should not have.

mod bounds;
#[cfg(test)]
mod tests;
mod tree;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_sad::{AddressRange, Selector};

use crate::packet::transport::Flow;
use bounds::{Address, Bounds};
use tree::Tree;

/// Which way a packet goes, to tell local from remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the protected side to the other: the source is local.
    Outbound,
    /// Towards the protected side: the destination is local.
    Inbound,
}

/// The ways that a policy is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ways {
    /// Packets of either way: an entry of SPD-O and of SPD-I.
    #[default]
    Both,
    /// Packets of one way.
    Only(Way),
}

impl Ways {
    /// Whether this is one of them.
    pub fn include(self, way: Way) -> bool {
        self == Self::Both || self == Self::Only(way)
    }
}

/// What happens to a packet that a policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes into the tunnel whose SAs carry this number. Always of both ways (an entry of SPD-S): a packet that
    /// arrives in clear and matches is to be dropped (RFC 4301 section 5.2).
    Protect {
        /// Links the policy with its SAs.
        reqid: u32,
    },
    /// It is forwarded in clear.
    Bypass(Ways),
    /// It is dropped.
    Discard(Ways),
}

impl Action {
    /// The packets that the action is for.
    pub fn ways(self) -> Ways {
        match self {
            Self::Protect { .. } => Ways::Both,
            Self::Bypass(ways) | Self::Discard(ways) => ways,
        }
    }
}

/// One entry. RFC 4301's entry with several selector sets is several of these with one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The operator's name for it.
    pub name: String,
    /// The lowest is tried first.
    pub priority: u32,
    /// Which packets; local and remote as this gateway sees them.
    pub selector: Selector,
    /// What to do with them.
    pub action: Action,
}

/// A selector in the form that the hot path compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matcher(Family);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4(Bounds<u32>),
    V6(Bounds<u128>),
}

impl Matcher {
    /// `None` for selectors that no packet matches: with addresses of both families, or with ports whose end lies
    /// before their start, other than [`Selector::OPAQUE`].
    pub fn new(selector: &Selector) -> Option<Self> {
        let v4 = Bounds::of_selector(selector).map(Family::V4);
        v4.or_else(|| Bounds::of_selector(selector).map(Family::V6)).map(Self)
    }

    /// Whether the packet matches (RFC 4301 section 4.4.1.1).
    ///
    /// Ports that cannot be seen match ANY and OPAQUE on both sides and no range; ports that can be seen match ANY
    /// and ranges, not OPAQUE. Of ICMP's type and code and of the Mobility Header's type, the selector on the
    /// sender's side decides, whatever the other says: it is for packets of the other way (section 4.4.1.3).
    #[inline]
    pub fn matches(&self, flow: &Flow, way: Way) -> bool {
        match &self.0 {
            Family::V4(bounds) => !flow.is_ipv6() && bounds.meets(&Bounds::of_flow(flow, way)),
            Family::V6(bounds) => flow.is_ipv6() && bounds.meets(&Bounds::of_flow(flow, way)),
        }
    }
}

/// The database.
#[derive(Clone, Debug)]
pub struct Spd {
    policies: Vec<Policy>,
    outbound: Arc<Trees>,
    inbound: Arc<Trees>,
    /// Those of `outbound` that protect certain ports only.
    of_ports: Arc<Trees>,
    generation: u64,
}

/// The policies for one way. Ranks are indices into [`Spd::policies`].
#[derive(Debug)]
struct Trees {
    v4: Tree<u32>,
    v6: Tree<u128>,
}

impl Default for Spd {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Spd {
    /// A database of these policies; its generation is unique in this process.
    pub fn new(mut policies: Vec<Policy>) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        // The sort is stable: the order given decides between equals.
        policies.sort_by_key(|policy| (policy.priority, width(&policy.selector.remote)));
        let outbound = Arc::new(Trees::new(&policies, Way::Outbound));
        let alike = policies.iter().all(|policy| policy.action.ways() == Ways::Both);
        let inbound =
            if alike { Arc::clone(&outbound) } else { Arc::new(Trees::new(&policies, Way::Inbound)) };
        let of_ports = Arc::new(Trees::of_ports(&policies));
        Self { policies, outbound, inbound, of_ports, generation: GENERATION.fetch_add(1, Ordering::Relaxed) }
    }

    /// The first policy that matches a packet from the protected side (SPD-S and SPD-O).
    #[inline]
    pub fn outbound(&self, flow: &Flow) -> Option<&Policy> {
        self.lookup(flow, Way::Outbound)
    }

    /// The first policy that matches a packet that arrived in clear for the protected side (SPD-I). It may pass
    /// only if that says [`Action::Bypass`].
    #[inline]
    pub fn inbound(&self, flow: &Flow) -> Option<&Policy> {
        self.lookup(flow, Way::Inbound)
    }

    /// [`Self::outbound`] or [`Self::inbound`].
    #[inline]
    pub fn lookup(&self, flow: &Flow, way: Way) -> Option<&Policy> {
        self.rank(flow, way).and_then(|rank| self.policies.get(rank as usize))
    }

    #[inline]
    fn rank(&self, flow: &Flow, way: Way) -> Option<u32> {
        let trees = match way {
            Way::Outbound => &self.outbound,
            Way::Inbound => &self.inbound,
        };
        if flow.is_ipv6() {
            trees.v6.first(&Bounds::of_flow(flow, way))
        } else {
            trees.v4.first(&Bounds::of_flow(flow, way))
        }
    }

    /// Whether a packet from the protected side that shows no ports, as a later fragment, may belong to traffic that
    /// a policy for certain ports protects, and only for want of them matches a later policy or none.
    pub fn may_hide_protected(&self, flow: &Flow) -> bool {
        let protecting = if flow.is_ipv6() {
            Bounds::of_hidden(flow).and_then(|hidden| self.of_ports.v6.first(&hidden))
        } else {
            Bounds::of_hidden(flow).and_then(|hidden| self.of_ports.v4.first(&hidden))
        };
        protecting.is_some_and(|rank| self.rank(flow, Way::Outbound).is_none_or(|first| rank < first))
    }

    /// All policies, in the order in which they are tried.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Differs between any two databases.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl Trees {
    fn new(policies: &[Policy], way: Way) -> Self {
        Self { v4: Tree::new(ranked(policies, way)), v6: Tree::new(ranked(policies, way)) }
    }

    fn of_ports(policies: &[Policy]) -> Self {
        Self { v4: Tree::new(protecting_ports(policies)), v6: Tree::new(protecting_ports(policies)) }
    }
}

/// The policies of one way and family.
fn ranked<A: Address>(policies: &[Policy], way: Way) -> Vec<(Bounds<A>, u32)> {
    let of_way = (0_u32..).zip(policies).filter(|(_, policy)| policy.action.ways().include(way));
    of_way.filter_map(|(rank, policy)| Some((Bounds::of_selector(&policy.selector)?, rank))).collect()
}

/// The policies of one family that protect certain ports only.
fn protecting_ports<A: Address>(policies: &[Policy]) -> Vec<(Bounds<A>, u32)> {
    let mut ranked = ranked(policies, Way::Outbound);
    ranked.retain(|(bounds, rank)| {
        let action = policies.get(*rank as usize).map(|policy| policy.action);
        matches!(action, Some(Action::Protect { .. })) && bounds.wants_ports()
    });
    ranked
}

/// How many addresses a range has, less one.
pub(crate) fn width(range: &AddressRange) -> u128 {
    match (range.start(), range.end()) {
        (IpAddr::V4(start), IpAddr::V4(end)) => u128::from(end.to_bits().saturating_sub(start.to_bits())),
        (IpAddr::V6(start), IpAddr::V6(end)) => end.to_bits().saturating_sub(start.to_bits()),
        _ => u128::MAX,
    }
}
