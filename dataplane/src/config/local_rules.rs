//! What the SPD says about clear traffic to this host itself: the filter decides about it before the kernel has it.

use baton_sad::Selector;

use super::reader::Source;
use super::sections::Read;
use super::{Config, Exception, ExceptionAction, PolicyDirection, Tunnel};
use crate::spd;
use crate::steering::{LocalRule, may_meet, needed};
use crate::xdp::{FilterPolicies, shared};

/// Rules that the filter has room for.
const MAX_RULES: usize = shared::MAX_RULES as usize;

impl Config {
    /// What the XDP filter has to know of the SPD.
    pub fn filter_policies(&self) -> FilterPolicies {
        let local = ranked(&self.exceptions, &self.tunnels).into_iter().map(|entry| entry.rule).collect();
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

/// The exceptions for what arrives, and tunnels that one of those that permit would come after, in the order in which
/// [`spd::Spd`] tries them. All other tunnels refuse what is refused anyway.
fn ranked(exceptions: &[Exception], tunnels: &[Tunnel]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = exceptions.iter().enumerate().flat_map(of_exception).collect();
    let permits: Vec<_> = entries.iter().filter(|entry| entry.rule.permits).collect();
    let precedes = |priority, selector: &Selector| {
        permits.iter().any(|p| priority <= p.priority && may_meet(&p.rule.selector, selector))
    };
    let last = permits.iter().map(|entry| entry.priority).max();
    let before = tunnels.iter().filter(|tunnel| last.is_some_and(|last| tunnel.priority <= last));
    let refusing: Vec<_> = before
        .flat_map(|tunnel| tunnel.selectors().into_iter().map(|selector| (tunnel.priority, selector)))
        .filter(|(priority, selector)| precedes(*priority, selector))
        .map(|(priority, selector)| Entry {
            priority,
            exception: None,
            rule: LocalRule { selector, permits: false },
        })
        .collect();
    entries.extend(refusing);
    entries.sort_by_key(|entry| (entry.priority, spd::width(&entry.rule.selector.remote)));
    entries
}

fn of_exception((index, exception): (usize, &Exception)) -> Vec<Entry> {
    if exception.direction == PolicyDirection::Out {
        return Vec::new();
    }
    let permits = matches!(exception.action, ExceptionAction::Bypass { .. });
    let entry = |selector| Entry {
        priority: exception.priority,
        exception: Some(index),
        rule: LocalRule { selector, permits },
    };
    exception.policy().selectors.into_iter().map(entry).collect()
}

/// The filter has room for so many rules about our own addresses, and the first policy beyond is told. Those that this
/// host has besides `[outer] addresses` are not known here.
pub(super) fn across_local_rules(source: &Source<'_>, read: &Read) {
    let entries = ranked(&read.exceptions, &read.tunnels);
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
