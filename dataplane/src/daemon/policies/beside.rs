//! What dynamic policies and the configuration have in common: names, networks, and what may come in clear.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::Installed;
use super::networks::{Holder, Networks};
use crate::config::{Config, Permitted};
use crate::prefix::Prefix;
use crate::steering::{LocalRule, Network};
use crate::xdp::FilterPolicies;

/// An index of both. It changes with the dynamic policies; another configuration makes another one.
#[derive(Debug)]
pub(in crate::daemon) struct Beside {
    /// Names that the configuration uses.
    names: HashSet<String>,
    networks: Networks,
    /// The configuration's, and the dynamic ones' by age.
    configured: Vec<Permitted>,
    permitted: Vec<(u64, Permitted)>,
}

impl Beside {
    /// That of the configuration alone.
    pub(super) fn new(config: &Config) -> Self {
        let tunnels = config.tunnels.iter().map(|tunnel| tunnel.name.clone());
        let names = tunnels.chain(config.exceptions.iter().map(|policy| policy.name.clone())).collect();
        let mut networks = Networks::default();
        let protected = config.inner_prefixes().into_iter().map(|network| (network, true));
        let bypassed = config.bypass_prefixes().into_iter().map(|network| (network, false));
        for ((prefix, segment), protects) in protected.chain(bypassed) {
            let holder = Holder { name: "the configuration".into(), age: 0, segment, protects };
            networks.add(prefix, &holder, &mut BTreeSet::new());
        }
        Self { names, networks, configured: config.permitted(), permitted: Vec::new() }
    }

    /// Why a policy cannot be beside what is here. `is_kin` says which ones it hides.
    pub(super) fn conflict(&self, new: &Installed, is_kin: impl Fn(&str) -> bool) -> Option<String> {
        let name = new.name();
        if self.names.contains(name) {
            return Some(format!("the name {name} is the configuration's and a dynamic policy's"));
        }
        let holder = new.holder(&name.into());
        let mut networks = new.policy.forwarded();
        networks.find_map(|(network, _)| self.networks.conflict(network, &holder, &is_kin))
    }

    /// Adds a policy; whether it says anything about clear traffic towards this host.
    pub(super) fn add(&mut self, new: &Installed, name: &Arc<str>, touched: &mut BTreeSet<Prefix>) -> bool {
        let holder = new.holder(name);
        for (network, _) in new.policy.forwarded() {
            self.networks.add(network, &holder, touched);
        }
        let is_local = self.is_local(new);
        self.permitted.extend(new.policy.policy.permitted().into_iter().map(|one| (new.age, one)));
        is_local
    }

    /// As [`Self::add`], the other way.
    pub(super) fn remove(
        &mut self,
        old: &Installed,
        name: &Arc<str>,
        touched: &mut BTreeSet<Prefix>,
    ) -> bool {
        let holder = old.holder(name);
        for (network, _) in old.policy.forwarded() {
            self.networks.remove(network, &holder, touched);
        }
        let is_local = self.is_local(old);
        if !old.policy.policy.permitted().is_empty() {
            self.permitted.retain(|(age, _)| *age != old.age);
        }
        is_local
    }

    fn is_local(&self, installed: &Installed) -> bool {
        let policy = &installed.policy.policy;
        let permitted = self.configured.iter().chain(self.permitted.iter().map(|(_, one)| one));
        !policy.permitted().is_empty() || policy.refuses(permitted)
    }

    pub(super) fn protected(&self) -> Vec<Prefix> {
        self.networks.protected().map(|(prefix, _)| prefix).collect()
    }

    pub(super) fn is_protected(&self, network: Prefix) -> bool {
        self.networks.is_protected(network)
    }

    pub(super) fn network(&self, network: Prefix) -> Option<Network> {
        self.networks.get(network)
    }

    /// All that the filter is to know.
    pub(in crate::daemon) fn filter_policies(&self, local: Vec<LocalRule>) -> FilterPolicies {
        let (protected, bypassed) = (self.networks.protected().collect(), self.networks.bypassed().collect());
        FilterPolicies { protected, bypassed, local }
    }
}
