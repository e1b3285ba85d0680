//! The security policy database (RFC 4301 section 4.4.1): immutable; a change makes another one, which shares with it
//! all that did not change.
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
use tree::{Entry, Rank, Tree};

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

/// A policy and its place among those of equal priority and width: the lowest comes first. No two have the same.
pub type Placed = (u64, Policy);

/// The database.
#[derive(Clone, Debug)]
pub struct Spd {
    v4: Trees<u32>,
    v6: Trees<u128>,
    generation: u64,
}

/// The policies of one family.
#[derive(Clone, Debug)]
struct Trees<A> {
    /// Those for both ways, and those for one only, which are few.
    both: Tree<A>,
    outbound: Tree<A>,
    inbound: Tree<A>,
    /// Those that protect certain ports only.
    of_ports: Tree<A>,
}

impl Default for Spd {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Spd {
    /// A database of these policies; its generation is unique in this process.
    pub fn new(policies: Vec<Policy>) -> Self {
        Self::placed((0..).zip(policies))
    }

    /// As [`Self::new`], in an order that leaves room for others.
    pub fn placed(policies: impl IntoIterator<Item = Placed>) -> Self {
        let (mut v4, mut v6) = (Lists::default(), Lists::default());
        for (order, policy) in policies {
            let policy = Arc::new(policy);
            v4.add(order, &policy);
            v6.add(order, &policy);
        }
        Self { v4: v4.into_trees(), v6: v6.into_trees(), generation: next_generation() }
    }

    /// A database without some of these policies and with others. The time that it takes grows with their number, and
    /// with the logarithm of all.
    #[must_use]
    pub fn changed<'p>(
        &self,
        gone: impl IntoIterator<Item = &'p Placed>,
        new: impl IntoIterator<Item = Placed>,
    ) -> Self {
        let mut changed = Self { generation: next_generation(), ..self.clone() };
        for (order, policy) in gone {
            changed.v4.remove(*order, policy);
            changed.v6.remove(*order, policy);
        }
        for (order, policy) in new {
            let policy = Arc::new(policy);
            changed.v4.insert(order, &policy);
            changed.v6.insert(order, &policy);
        }
        changed
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
        if flow.is_ipv6() {
            self.v6.first(flow, way).map(|entry| &*entry.policy)
        } else {
            self.v4.first(flow, way).map(|entry| &*entry.policy)
        }
    }

    /// Whether a packet from the protected side that shows no ports, as a later fragment, may belong to traffic that
    /// a policy for certain ports protects, and only for want of them matches a later policy or none.
    pub fn may_hide_protected(&self, flow: &Flow) -> bool {
        if flow.is_ipv6() { self.v6.may_hide_protected(flow) } else { self.v4.may_hide_protected(flow) }
    }

    /// Differs between any two databases.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

fn next_generation() -> u64 {
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    GENERATION.fetch_add(1, Ordering::Relaxed)
}

impl<A: Address> Trees<A> {
    #[inline]
    fn first(&self, flow: &Flow, way: Way) -> Option<&Entry<A>> {
        let bounds = Bounds::of_flow(flow, way);
        let only = match way {
            Way::Outbound => &self.outbound,
            Way::Inbound => &self.inbound,
        };
        match (self.both.first(&bounds), only.first(&bounds)) {
            (Some(both), Some(only)) => Some(if both.rank < only.rank { both } else { only }),
            (both, only) => both.or(only),
        }
    }

    fn may_hide_protected(&self, flow: &Flow) -> bool {
        let protecting = Bounds::of_hidden(flow).and_then(|hidden| self.of_ports.first(&hidden));
        protecting.is_some_and(|protecting| {
            self.first(flow, Way::Outbound).is_none_or(|first| protecting.rank < first.rank)
        })
    }

    fn insert(&mut self, order: u64, policy: &Arc<Policy>) {
        let Some(entry) = entry(order, policy) else { return };
        if protects_ports(&entry) {
            self.of_ports.insert(entry.clone());
        }
        self.of_ways(policy.action.ways()).insert(entry);
    }

    fn remove(&mut self, order: u64, policy: &Policy) {
        let Some(bounds) = Bounds::of_selector(&policy.selector) else { return };
        let rank = rank(order, policy);
        self.of_ports.remove(&bounds, rank);
        self.of_ways(policy.action.ways()).remove(&bounds, rank);
    }

    fn of_ways(&mut self, ways: Ways) -> &mut Tree<A> {
        match ways {
            Ways::Both => &mut self.both,
            Ways::Only(Way::Outbound) => &mut self.outbound,
            Ways::Only(Way::Inbound) => &mut self.inbound,
        }
    }
}

/// What trees are made of at once.
struct Lists<A> {
    both: Vec<Entry<A>>,
    outbound: Vec<Entry<A>>,
    inbound: Vec<Entry<A>>,
    of_ports: Vec<Entry<A>>,
}

impl<A> Default for Lists<A> {
    fn default() -> Self {
        Self { both: Vec::new(), outbound: Vec::new(), inbound: Vec::new(), of_ports: Vec::new() }
    }
}

impl<A: Address> Lists<A> {
    fn add(&mut self, order: u64, policy: &Arc<Policy>) {
        let Some(entry) = entry(order, policy) else { return };
        if protects_ports(&entry) {
            self.of_ports.push(entry.clone());
        }
        match policy.action.ways() {
            Ways::Both => self.both.push(entry),
            Ways::Only(Way::Outbound) => self.outbound.push(entry),
            Ways::Only(Way::Inbound) => self.inbound.push(entry),
        }
    }

    fn into_trees(self) -> Trees<A> {
        Trees {
            both: Tree::new(self.both),
            outbound: Tree::new(self.outbound),
            inbound: Tree::new(self.inbound),
            of_ports: Tree::new(self.of_ports),
        }
    }
}

/// `None` for a policy of the other family.
fn entry<A: Address>(order: u64, policy: &Arc<Policy>) -> Option<Entry<A>> {
    let bounds = Bounds::of_selector(&policy.selector)?;
    Some(Entry { bounds, rank: rank(order, policy), policy: Arc::clone(policy) })
}

fn rank<A: Address>(order: u64, policy: &Policy) -> Rank<A> {
    Rank { priority: policy.priority, width: A::of(width(&policy.selector.remote)), order }
}

fn protects_ports<A: Address>(entry: &Entry<A>) -> bool {
    matches!(entry.policy.action, Action::Protect { .. }) && entry.bounds.wants_ports()
}

/// How many addresses a range has, less one.
pub(crate) fn width(range: &AddressRange) -> u128 {
    match (range.start(), range.end()) {
        (IpAddr::V4(start), IpAddr::V4(end)) => u128::from(end.to_bits().saturating_sub(start.to_bits())),
        (IpAddr::V6(start), IpAddr::V6(end)) => end.to_bits().saturating_sub(start.to_bits()),
        _ => u128::MAX,
    }
}
