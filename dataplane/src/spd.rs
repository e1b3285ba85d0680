//! The security policy database (RFC 4301 section 4.4.1): immutable, replaced as a whole.
//!
//! Policies are tried by priority, then by how narrow their remote addresses are (so that equal priorities
//! mean longest-prefix match), then in the order given. The remote address line is cut into intervals, each
//! with the policies that cover it in that order: a lookup is one binary search and a walk over a few.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_sad::{AddressRange, Selector};

use crate::packet::transport::Flow;

/// What happens to a packet that a policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes into the tunnel whose SAs carry this number.
    Protect {
        /// Links the policy with its SAs.
        reqid: u32,
    },
    /// It is forwarded in clear.
    Bypass,
    /// It is dropped.
    Discard,
}

/// One entry.
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

/// A selector in the form that the hot path compares: IPv4 only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    local: RangeInclusive<u32>,
    remote: RangeInclusive<u32>,
    protocol: Option<u8>,
    local_ports: RangeInclusive<u16>,
    remote_ports: RangeInclusive<u16>,
}

/// Which way a packet goes, to tell local from remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the protected side into the tunnel: the source is local.
    Outbound,
    /// Out of the tunnel: the destination is local.
    Inbound,
}

impl Matcher {
    /// `None` for selectors of IPv6 addresses, which no IPv4 packet matches.
    pub fn new(selector: &Selector) -> Option<Self> {
        Some(Self {
            local: v4_range(&selector.local)?,
            remote: v4_range(&selector.remote)?,
            protocol: selector.protocol,
            local_ports: selector.local_ports.clone(),
            remote_ports: selector.remote_ports.clone(),
        })
    }

    /// Whether the packet matches (RFC 4301 section 4.4.1.1). Ports that cannot be seen match all ports only.
    #[inline]
    pub fn matches(&self, flow: &Flow, way: Way) -> bool {
        let (source, destination) = (flow.source_bits() as u32, flow.destination_bits() as u32);
        let (local, remote) = match way {
            Way::Outbound => (source, destination),
            Way::Inbound => (destination, source),
        };
        self.local.contains(&local)
            && self.remote.contains(&remote)
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol())
            && self.ports_match(flow, way)
    }

    #[inline]
    fn ports_match(&self, flow: &Flow, way: Way) -> bool {
        if is_any(&self.local_ports) && is_any(&self.remote_ports) {
            return true;
        }
        let (local, remote) = match (flow.ports(), way) {
            (None, _) => return false,
            (Some((source, destination)), Way::Outbound) => (source, destination),
            (Some((source, destination)), Way::Inbound) => (destination, source),
        };
        self.local_ports.contains(&local) && self.remote_ports.contains(&remote)
    }
}

#[inline]
fn is_any(ports: &RangeInclusive<u16>) -> bool {
    *ports.start() == 0 && *ports.end() == u16::MAX
}

fn v4_range(range: &AddressRange) -> Option<RangeInclusive<u32>> {
    match (range.start(), range.end()) {
        (IpAddr::V4(start), IpAddr::V4(end)) => Some(start.to_bits()..=end.to_bits()),
        _ => None,
    }
}

/// The database.
#[derive(Clone, Debug)]
pub struct Spd {
    policies: Vec<Policy>,
    matchers: Vec<Option<Matcher>>,
    /// Interval `i` of the remote address line begins at `starts[i]`; `covering[bounds[i]..bounds[i + 1]]` are
    /// the policies on it, in order.
    starts: Vec<u32>,
    bounds: Vec<u32>,
    covering: Vec<u32>,
    generation: u64,
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
        let matchers: Vec<_> = policies.iter().map(|policy| Matcher::new(&policy.selector)).collect();
        let mut spd = Self {
            policies,
            matchers,
            starts: Vec::new(),
            bounds: vec![0],
            covering: Vec::new(),
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        };
        spd.sweep();
        spd
    }

    /// Walks the remote address line and notes at each change which policies cover what follows.
    fn sweep(&mut self) {
        let mut edges: Vec<(u32, bool, u32)> = Vec::new();
        for (index, matcher) in (0_u32..).zip(&self.matchers) {
            let Some(remote) = matcher.as_ref().map(|m| &m.remote) else { continue };
            edges.push((*remote.start(), true, index));
            if let Some(after) = remote.end().checked_add(1) {
                edges.push((after, false, index));
            }
        }
        edges.sort_unstable();
        let mut open = BTreeSet::new();
        for group in edges.chunk_by(|a, b| a.0 == b.0) {
            for &(_, opens, index) in group {
                if opens {
                    open.insert(index);
                } else {
                    open.remove(&index);
                }
            }
            self.starts.push(group[0].0);
            self.covering.extend(&open);
            self.bounds.push(self.covering.len() as u32);
        }
    }

    /// The first policy that matches an outbound packet.
    pub fn lookup(&self, flow: &Flow) -> Option<&Policy> {
        let interval = self.starts.partition_point(|start| u128::from(*start) <= flow.destination_bits());
        let from = *self.bounds.get(interval.checked_sub(1)?)?;
        let to = *self.bounds.get(interval)?;
        let candidates = self.covering.get(from as usize..to as usize)?;
        let matches = |index: &&u32| {
            self.matchers[**index as usize].as_ref().is_some_and(|m| m.matches(flow, Way::Outbound))
        };
        candidates.iter().find(matches).map(|index| &self.policies[*index as usize])
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

/// How many addresses a range has, less one.
fn width(range: &AddressRange) -> u128 {
    match (range.start(), range.end()) {
        (IpAddr::V4(start), IpAddr::V4(end)) => u128::from(end.to_bits().saturating_sub(start.to_bits())),
        (IpAddr::V6(start), IpAddr::V6(end)) => end.to_bits().saturating_sub(start.to_bits()),
        _ => u128::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use proptest::prelude::*;

    fn range() -> impl Strategy<Value = AddressRange> {
        // A small world, so that ranges nest, meet and overlap, with both ends of the address line in it.
        (0_u32..12, 0_u32..12, any::<bool>()).prop_map(|(a, b, high)| {
            let lift = |x: u32| Ipv4Addr::from_bits(if high { u32::MAX - 11 + x } else { x }).into();
            AddressRange::new(lift(a.min(b)), lift(a.max(b))).unwrap()
        })
    }

    fn ports() -> impl Strategy<Value = RangeInclusive<u16>> {
        prop_oneof![Just(0..=u16::MAX), (0_u16..4, 0_u16..4).prop_map(|(a, b)| a.min(b)..=a.max(b))]
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let protocol = prop_oneof![Just(None), Just(Some(6)), Just(Some(17))];
        (range(), range(), protocol, ports(), ports(), 0_u32..3, 0_u32..100).prop_map(
            |(local, remote, protocol, local_ports, remote_ports, priority, reqid)| Policy {
                name: String::new(),
                priority,
                selector: Selector { local, remote, protocol, local_ports, remote_ports },
                action: Action::Protect { reqid },
            },
        )
    }

    fn flow() -> impl Strategy<Value = Flow> {
        let address = (0_u32..12, any::<bool>())
            .prop_map(|(x, high)| Ipv4Addr::from_bits(if high { u32::MAX - 11 + x } else { x }));
        let protocol = prop_oneof![Just(1), Just(6), Just(17)];
        (address.clone(), address, protocol, proptest::option::of((0_u16..4, 0_u16..4))).prop_map(
            |(source, destination, protocol, ports)| {
                Flow::new(source.into(), destination.into(), protocol, ports)
            },
        )
    }

    /// The definition, on the public form of the selectors.
    fn naive<'p>(policies: &'p [Policy], flow: &Flow) -> Option<&'p Policy> {
        let holds = |range: &AddressRange, a: IpAddr| range.contains(a);
        let port = |range: &RangeInclusive<u16>, port: Option<u16>| {
            *range == (0..=u16::MAX) || port.is_some_and(|port| range.contains(&port))
        };
        policies
            .iter()
            .enumerate()
            .filter(|(_, Policy { selector: s, .. })| {
                holds(&s.local, flow.source())
                    && holds(&s.remote, flow.destination())
                    && s.protocol.is_none_or(|p| p == flow.protocol())
                    && port(&s.local_ports, flow.ports().map(|p| p.0))
                    && port(&s.remote_ports, flow.ports().map(|p| p.1))
            })
            .min_by_key(|(index, policy)| (policy.priority, width(&policy.selector.remote), *index))
            .map(|(_, policy)| policy)
    }

    proptest! {
        #[test]
        fn lookup_equals_the_ordered_list(
            policies in proptest::collection::vec(policy(), 0..30),
            flows in proptest::collection::vec(flow(), 1..40),
        ) {
            let spd = Spd::new(policies.clone());
            for flow in flows {
                prop_assert_eq!(spd.lookup(&flow), naive(&policies, &flow));
            }
        }
    }
}
