//! Policies come and go while packets flow, in the order that I7 asks for.
//!
//! Adding: first the kernel is kept from sending in clear to networks that become protected, then the change is
//! written where a restart finds it, then the workers know it, and at last the filter, or a route into the TUN device,
//! sends them the packets. Removing goes the other way round.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::gateway::Gateway;
use super::policies::{DynamicPolicies, filter_policies, protected_prefixes};
use crate::config::{Config, DynamicPolicy, PolicySpec};
use crate::control::{Code, Happening, PolicyReport, Refusal};
use crate::prefix::Prefix;
use crate::prohibit;

/// Installs policies, or replaces those of the same names: all of them, or none.
pub(super) fn add(gateway: &Gateway, specs: &[PolicySpec]) -> Result<PolicyReport, Refusal> {
    gateway.change_policies(|config, dynamic| {
        let news = dynamic.admit(config, specs)?;
        let mut report =
            PolicyReport { unchanged: (specs.len() - news.len()) as u64, ..PolicyReport::default() };
        if news.is_empty() {
            return Ok(report);
        }
        report.added = news.iter().map(|policy| policy.policy.name.clone()).collect();
        protect(config, dynamic, &news)?;
        if let Err(error) = dynamic.add(news.clone()) {
            release(config, dynamic, &news)?;
            return Err(not_written(&error));
        }
        gateway.spd.store(Arc::new(config.spd(dynamic.policies())));
        let policies = filter_policies(config, dynamic);
        gateway.with_filter(|filter| filter.reconfigure(config, &policies)).map_err(half_done)?;
        gateway.divert(&protected_prefixes(config, dynamic)).map_err(half_done)?;
        tell(gateway, &report);
        Ok(report)
    })
}

/// Removes policies: all of these, or none.
pub(super) fn remove(
    gateway: &Gateway,
    names: &[String],
    keep_prohibited: bool,
) -> Result<PolicyReport, Refusal> {
    gateway.change_policies(|config, dynamic| {
        if let Some(unknown) = names.iter().find(|name| !dynamic.has(name)) {
            let message = format!("there is no dynamic policy {unknown}");
            let remedy = "`dpctl policy list` shows them; those of the configuration are removed there";
            return Err(Refusal::new(Code::NotFound, message, remedy));
        }
        let removed = dynamic.remove(names).map_err(|error| not_written(&error))?;
        gateway.spd.store(Arc::new(config.spd(dynamic.policies())));
        let policies = filter_policies(config, dynamic);
        gateway.with_filter(|filter| filter.reconfigure(config, &policies)).map_err(half_done)?;
        gateway.divert(&protected_prefixes(config, dynamic)).map_err(half_done)?;
        if !keep_prohibited {
            release(config, dynamic, &removed)?;
        }
        let removed = removed.into_iter().map(|policy| policy.policy.name).collect();
        let report = PolicyReport { removed, ..PolicyReport::default() };
        tell(gateway, &report);
        Ok(report)
    })
}

/// Keeps the kernel from sending in clear to what these policies protect.
fn protect(config: &Config, dynamic: &DynamicPolicies, news: &[DynamicPolicy]) -> Result<(), Refusal> {
    let prefixes: Vec<Prefix> = news.iter().flat_map(DynamicPolicy::protected).copied().collect();
    prohibit::install(&prefixes).map(|_| ()).map_err(|error| match release(config, dynamic, news) {
        Ok(()) => Refusal::new(Code::Internal, error, "nothing was changed; remove the cause and try again"),
        Err(refusal) => refusal,
    })
}

/// Lets the kernel decide again about networks of these policies that no other one protects.
fn release(config: &Config, dynamic: &DynamicPolicies, of: &[DynamicPolicy]) -> Result<(), Refusal> {
    let kept: BTreeSet<Prefix> = protected_prefixes(config, dynamic).into_iter().collect();
    let free = of.iter().flat_map(DynamicPolicy::protected).filter(|prefix| !kept.contains(prefix));
    let free: BTreeSet<Prefix> = free.copied().collect();
    if free.is_empty() {
        return Ok(());
    }
    prohibit::release(&free).map(|_| ()).map_err(half_done)
}

fn tell(gateway: &Gateway, report: &PolicyReport) {
    let (added, removed) = (report.added.clone(), report.removed.clone());
    gateway.listeners.tell(Happening::PoliciesChanged { added, removed });
}

fn not_written(error: &std::io::Error) -> Refusal {
    let message = format!("the policies cannot be written where a restart would find them: {error}");
    Refusal::new(
        Code::Internal,
        message,
        "nothing was changed; make room in the runtime directory and try again",
    )
}

fn half_done(error: impl fmt::Display) -> Refusal {
    Refusal::new(
        Code::Internal,
        error,
        "a part of the change is in force; `dpctl reload` brings about the rest",
    )
}
