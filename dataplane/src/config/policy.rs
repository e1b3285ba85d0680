//! What the configuration means to the SPD, to the filter and to the prohibit routes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use baton_sad::Selector;

use super::cover::{cover, enclosing};
use super::selectors::pairs;
use super::{Config, Exception, ExceptionAction, PolicyDirection, TrafficSelector, Tunnel};
use crate::prefix::Prefix;
use crate::spd::{self, Action, Spd, Way, Ways};

/// An entry of the SPD (RFC 4301 section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The tunnel's or the exception's name.
    pub name: String,
    /// What happens to a packet.
    pub action: PolicyAction,
    /// The packets that it is about.
    pub direction: PolicyDirection,
    /// The lowest is tried first.
    pub priority: u32,
    /// Any of these covers the packet.
    pub selectors: Vec<Selector>,
}

/// What happens to a packet that a policy covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// Out: ESP. In: it came through that tunnel, or is dropped.
    Protect {
        /// Key of the outbound SA.
        reqid: u32,
        /// Segment whose owner forwards this traffic.
        segment: u8,
    },
    /// It is forwarded in clear.
    Bypass,
    /// It is dropped.
    Discard,
}

impl Tunnel {
    /// Every pair of a local and a remote selector that goes together: at most [`baton_sad::Selectors::MAX`].
    pub fn selectors(&self) -> Vec<Selector> {
        pairs(&self.local_selectors, &self.remote_selectors)
    }

    /// The tunnel's SPD entry.
    pub fn policy(&self) -> Policy {
        Policy {
            name: self.name.clone(),
            action: PolicyAction::Protect { reqid: self.reqid, segment: self.segment },
            direction: PolicyDirection::Both,
            priority: self.priority,
            selectors: self.selectors(),
        }
    }
}

impl Exception {
    /// The exception's SPD entry.
    pub fn policy(&self) -> Policy {
        let action = match self.action {
            ExceptionAction::Bypass { .. } => PolicyAction::Bypass,
            ExceptionAction::Discard => PolicyAction::Discard,
        };
        Policy {
            name: self.name.clone(),
            action,
            direction: self.direction,
            priority: self.priority,
            selectors: pairs(&self.local_selectors, &self.remote_selectors),
        }
    }
}

impl Policy {
    /// What the pipeline searches: an entry for each pair of selectors.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = spd::Policy> {
        let ways = match self.direction {
            PolicyDirection::Both => Ways::Both,
            PolicyDirection::Out => Ways::Only(Way::Outbound),
            PolicyDirection::In => Ways::Only(Way::Inbound),
        };
        let action = match self.action {
            PolicyAction::Protect { reqid, .. } => Action::Protect { reqid },
            PolicyAction::Bypass => Action::Bypass(ways),
            PolicyAction::Discard => Action::Discard(ways),
        };
        let (name, priority) = (self.name, self.priority);
        let entry = move |selector| spd::Policy { name: name.clone(), priority, selector, action };
        self.selectors.into_iter().map(entry)
    }
}

impl Config {
    /// The SPD of these policies, in the order of the file where the priority is the same, and of others.
    pub fn spd(&self, others: impl Iterator<Item = spd::Placed>) -> Spd {
        let own = self.policies().into_iter().flat_map(Policy::into_entries);
        Spd::placed((0..).zip(own).chain(others))
    }

    /// The whole SPD by priority; equal ones in the order of the file, exceptions before tunnels.
    pub fn policies(&self) -> Vec<Policy> {
        let exceptions = self.exceptions.iter().map(Exception::policy);
        let mut policies: Vec<_> = exceptions.chain(self.tunnels.iter().map(Tunnel::policy)).collect();
        policies.sort_by_key(|policy| policy.priority);
        policies
    }

    /// Every remote network of the tunnels, once: nothing to these may leave in clear (I7), but for what the data
    /// plane itself lets through by a `bypass` policy. A protocol or port in a selector does not narrow this.
    pub fn protected_prefixes(&self) -> Vec<Prefix> {
        let prefixes = self.tunnels.iter().flat_map(|t| covers(&t.remote_selectors));
        prefixes.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Every remote network of the tunnels, once, with the segment whose owner forwards to it.
    pub fn inner_prefixes(&self) -> Vec<(Prefix, u8)> {
        let of = |t: &Tunnel| covers(&t.remote_selectors).map(|p| (p, t.segment)).collect::<Vec<_>>();
        self.tunnels.iter().flat_map(of).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Every remote network of `bypass` policies, once, with the segment whose owner forwards to and from it: that
    /// of the tunnel's network that covers it, or else the policy's own. These are not protected by themselves.
    pub fn bypass_prefixes(&self) -> Vec<(Prefix, u8)> {
        let protected: HashMap<_, _> = self.inner_prefixes().into_iter().collect();
        let mut found = BTreeMap::new();
        for (exception, own) in self.exceptions.iter().filter_map(|e| Some((e, e.bypass_segment()?))) {
            for prefix in covers(&exception.remote_selectors) {
                let covering = enclosing(prefix).find_map(|outer| protected.get(&outer));
                found.entry(prefix).or_insert(covering.copied().unwrap_or(own));
            }
        }
        found.into_iter().collect()
    }
}

impl Exception {
    /// The segment that a `bypass` policy names.
    pub(super) fn bypass_segment(&self) -> Option<u8> {
        match self.action {
            ExceptionAction::Bypass { segment } => Some(segment),
            ExceptionAction::Discard => None,
        }
    }
}

/// The prefixes of these addresses.
pub(super) fn covers(selectors: &[TrafficSelector]) -> impl Iterator<Item = Prefix> + '_ {
    selectors.iter().flat_map(|selector| cover(&selector.addresses))
}
