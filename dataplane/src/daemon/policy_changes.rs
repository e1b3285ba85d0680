//! Policies come and go while packets flow, in the order that I7 asks for.
//!
//! Adding: first the kernel is kept from sending in clear to networks that become protected, then the change is
//! written where a restart finds it, then the workers know it, and at last the filter, or a route into the TUN device,
//! sends them the packets. Removing goes the other way round. What a change costs depends on what it changes, and hardly
//! on how many policies there are.

use std::fmt;

use super::gateway::Gateway;
use super::policies::{Change, DynamicPolicies};
use crate::config::{Config, PolicySpec};
use crate::control::{Code, Happening, PolicyReport, Refusal};
use crate::prohibit;

/// Installs policies, or replaces those of the same names: all of them, or none.
pub(super) fn add(gateway: &Gateway, specs: &[PolicySpec]) -> Result<PolicyReport, Refusal> {
    gateway.change_policies(|config, dynamic| {
        let change = dynamic.add(specs)?;
        let added = change.added();
        let unchanged = (specs.len() - added.len()) as u64;
        let report = PolicyReport { added, unchanged, ..PolicyReport::default() };
        if change.is_empty() {
            return Ok(report);
        }
        if let Err(error) = prohibit::install(&change.protected()) {
            let remedy = "nothing was changed; remove the cause and try again";
            return Err(take_back(dynamic, change, Refusal::new(Code::Internal, error, remedy)));
        }
        if let Err(error) = dynamic.write(&change) {
            return Err(take_back(dynamic, change, not_written(&error)));
        }
        apply(gateway, config, dynamic, &change)?;
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
        let change = dynamic.remove(names)?;
        if change.is_empty() {
            return Ok(PolicyReport::default());
        }
        if let Err(error) = dynamic.write(&change) {
            dynamic.undo(change);
            return Err(not_written(&error));
        }
        apply(gateway, config, dynamic, &change)?;
        if !keep_prohibited {
            let (_, free) = dynamic.diverted(&change);
            prohibit::release(&free).map_err(half_done)?;
        }
        let report = PolicyReport { removed: change.removed(), ..PolicyReport::default() };
        tell(gateway, &report);
        Ok(report)
    })
}

/// Brings a change about, once nothing leaves in clear because of it.
fn apply(
    gateway: &Gateway,
    config: &Config,
    dynamic: &DynamicPolicies,
    change: &Change,
) -> Result<(), Refusal> {
    let spd = gateway.spd.load().changed(&change.leaving(), change.joining());
    gateway.replace_spd(spd);
    let networks = dynamic.network_changes(change);
    let local = change.is_local().then(|| dynamic.local_rules(config));
    gateway.with_filter(|filter| filter.change_policies(&networks, local)).map_err(half_done)?;
    let (more, gone) = dynamic.diverted(change);
    gateway.change_diverted(&more, &gone).map_err(half_done)
}

/// Undoes what has no effect yet, but for kernel routes that keep more closed than need be: those go too, if they can.
fn take_back(dynamic: &mut DynamicPolicies, change: Change, refusal: Refusal) -> Refusal {
    let networks = change.protected();
    dynamic.undo(change);
    let (_, free) = dynamic.split(networks);
    match prohibit::release(&free) {
        Ok(_) => refusal,
        Err(error) => half_done(error),
    }
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
