//! What the SPD says about clear traffic to this host itself: the filter decides about it before the kernel has it.

use baton_sad::Selector;

use super::reader::Source;
use super::sections::Read;
use super::{Config, Exception, Policy, PolicyAction, PolicyDirection, Tunnel};
use crate::spd;
use crate::steering::{LocalRule, may_meet, needed};
use crate::xdp::{FilterPolicies, shared};

/// Rules that the filter has room for.
const MAX_RULES: usize = shared::MAX_RULES as usize;

impl Config {
    /// What the XDP filter has to know of the SPD.
    pub fn filter_policies(&self) -> FilterPolicies {
        self.filter_policies_beside(&[])
    }

    /// As [`Self::filter_policies`], with what `others` of the SPD say about clear traffic to this host itself.
    pub(crate) fn filter_policies_beside(&self, others: &[&Policy]) -> FilterPolicies {
        let entries = ranked(&self.exceptions, &self.tunnels, others);
        let local = entries.into_iter().map(|entry| entry.rule).collect();
        FilterPolicies { protected: self.inner_prefixes(), bypassed: self.bypass_prefixes(), local }
    }
}

/// An entry of the SPD for clear traffic towards us.
struct Entry {
    priority: u32,
    /// Index among the exceptions, if it is one's.
    exception: Option<usize>,
    rule: LocalRule,
}

/// The policies that permit what arrives, and those that refuse some of it before, in the order in which [`spd::Spd`]
/// tries them. All others refuse what is refused anyway.
fn ranked(exceptions: &[Exception], tunnels: &[Tunnel], others: &[&Policy]) -> Vec<Entry> {
    let exceptions: Vec<Policy> = exceptions.iter().map(Exception::policy).collect();
    let candidates = exceptions.iter().chain(others.iter().copied());
    let permits: Vec<(u32, &Selector)> = candidates.flat_map(permitted).collect();
    let Some(last) = permits.iter().map(|(priority, _)| *priority).max() else { return Vec::new() };
    let decides = |priority: u32, selector: &Selector| {
        permits.iter().any(|(behind, permitted)| priority <= *behind && may_meet(permitted, selector))
    };
    let configured = (0..).zip(&exceptions).map(|(index, policy)| (Some(index), policy.clone()));
    let tunnels = tunnels.iter().filter(|tunnel| tunnel.priority <= last);
    let all = configured.chain(tunnels.map(|tunnel| (None, tunnel.policy()))).chain(
        others.iter().filter(|policy| policy.priority <= last).map(|policy| (None, (*policy).clone())),
    );
    let mut entries = Vec::new();
    for (exception, Policy { action, priority, selectors, .. }) in all.filter(|(_, policy)| arrives(policy)) {
        let permits = action == PolicyAction::Bypass;
        let deciding = selectors.into_iter().filter(|selector| permits || decides(priority, selector));
        let entry = |selector| Entry { priority, exception, rule: LocalRule { selector, permits } };
        entries.extend(deciding.map(entry));
    }
    entries.sort_by_key(|entry| (entry.priority, spd::width(&entry.rule.selector.remote)));
    entries
}

/// Whether the policy is about what arrives.
fn arrives(policy: &Policy) -> bool {
    policy.direction != PolicyDirection::Out
}

fn permitted(policy: &Policy) -> impl Iterator<Item = (u32, &Selector)> {
    let permits = policy.action == PolicyAction::Bypass && arrives(policy);
    policy.selectors.iter().filter(move |_| permits).map(|selector| (policy.priority, selector))
}

/// The filter has room for so many rules about our own addresses, and the first policy beyond is told. Those that this
/// host has besides `[outer] addresses` are not known here.
pub(super) fn across_local_rules(source: &Source<'_>, read: &Read) {
    let entries = ranked(&read.exceptions, &read.tunnels, &[]);
    let rules: Vec<LocalRule> = entries.iter().map(|entry| entry.rule.clone()).collect();
    let rules = needed(&rules, &read.outer.addresses);
    let Some(first) = rules.get(MAX_RULES) else { return };
    let beyond = entries.iter().find(|entry| entry.rule == *first).and_then(|entry| entry.exception);
    // A tunnel counts because of a policy behind it; the last one is as good as any.
    let place = &read.exception_places[beyond.unwrap_or(read.exception_places.len() - 1)].name;
    let message = format!(
        "{} pairs of selectors cover clear traffic to this gateway itself; the filter holds {MAX_RULES}",
        rules.len()
    );
    let remedy =
        "join networks or ports, or let local_selectors be without our own addresses and multicast ones";
    place.report(source, message, remedy);
}
