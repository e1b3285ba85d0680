//! A policy in force, and a change of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::networks::Holder;
use crate::config::DynamicPolicy;
use crate::prefix::Prefix;
use crate::spd::Placed;

/// A policy in force.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    pub(super) policy: DynamicPolicy,
    /// Higher than that of all that came before, by as many as it has selectors.
    pub(super) age: u64,
}

impl Installed {
    pub(super) fn name(&self) -> &str {
        &self.policy.policy.name
    }

    /// Its entries in the SPD: behind all of the configuration's of the same priority, the newest first.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placed> {
        let entries = self.policy.policy.clone().into_entries();
        entries.zip(u64::MAX - self.age..).map(|(entry, order)| (order, entry))
    }

    /// Whose its networks are; nobody's where it drops.
    pub(super) fn holder(&self, name: &Arc<str>) -> Holder {
        Holder {
            name: Arc::clone(name),
            age: self.age,
            segment: self.policy.spec.segment.unwrap_or(0),
            protects: !self.policy.protected().is_empty(),
        }
    }

    /// Whether both protect the same, so that the newer one hides the other.
    pub(super) fn is_kin(&self, other: &Self) -> bool {
        let (a, b) = (&self.policy.policy, &other.policy.policy);
        let protect = [&self.policy, &other.policy].into_iter().all(|policy| !policy.protected().is_empty());
        protect && a.priority == b.priority && a.selectors == b.selectors
    }
}

/// A change that is made here, and that others are to follow.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Change {
    pub(super) gone: Vec<Installed>,
    pub(super) new: Vec<Installed>,
    /// Networks whose entry in the filter may be another one.
    pub(super) touched: BTreeSet<Prefix>,
    /// What is said about clear traffic towards this host may be something else.
    pub(super) is_local: bool,
}

impl Change {
    /// Entries that leave the SPD.
    pub(in crate::daemon) fn leaving(&self) -> Vec<Placed> {
        self.gone.iter().flat_map(Installed::placed).collect()
    }

    /// Entries that join it.
    pub(in crate::daemon) fn joining(&self) -> impl Iterator<Item = Placed> + '_ {
        self.new.iter().flat_map(Installed::placed)
    }

    /// Names of what came.
    pub(in crate::daemon) fn added(&self) -> Vec<String> {
        self.new.iter().map(|new| new.name().to_owned()).collect()
    }

    /// Names of what went.
    pub(in crate::daemon) fn removed(&self) -> Vec<String> {
        self.gone.iter().map(|gone| gone.name().to_owned()).collect()
    }

    /// Networks to which nothing may leave in clear because of what came (I7).
    pub(in crate::daemon) fn protected(&self) -> Vec<Prefix> {
        self.new.iter().flat_map(|new| new.policy.protected()).copied().collect()
    }

    /// Whether nothing changes.
    pub(in crate::daemon) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty()
    }

    pub(in crate::daemon) fn is_local(&self) -> bool {
        self.is_local
    }
}
