//! The security policies: those of the configuration, and those that are installed while the data plane runs.

use baton_dataplane::config::{ActionWord, Config, PolicyDirection, PolicySpec};
use baton_dataplane::control::{
    ClientError, Policies, PolicyEntry, PolicyOrigin, PolicyReport, Request, SelectorText,
};
use serde_json::json;

use super::cli::{PolicyAddOptions, PolicyRemoveOptions};
use super::error::DpctlError;
use super::live::connect;
use super::output::Output;

/// What the data plane has in force, or will have of the configuration when it starts.
pub(super) fn list(config: &Config, output: Output) -> Result<(), DpctlError> {
    let running = connect(config).and_then(|mut client| Ok(client.request::<Policies>(&Request::Policies)?));
    let policies = match running {
        Err(DpctlError::Client(ClientError::NotReachable { .. })) => configured(config),
        answer => answer?.policies,
    };
    output.answer(&json!({ "policies": policies }), |out| {
        let heading =
            ["POLICY", "ACTION", "DIRECTION", "PRIORITY", "LOCAL", "REMOTE", "REQID", "SEGMENT", "FROM"];
        let rows: Vec<_> = policies.iter().flat_map(rows).collect();
        output.table(out, &heading, &rows)
    })
}

fn configured(config: &Config) -> Vec<PolicyEntry> {
    let policies = config.policies();
    policies.iter().map(|policy| PolicyEntry::new(policy, PolicyOrigin::Configured)).collect()
}

/// One row per pair of selectors.
fn rows(policy: &PolicyEntry) -> impl Iterator<Item = Vec<String>> + '_ {
    let direction = match policy.direction {
        PolicyDirection::Both => "both",
        PolicyDirection::Out => "out",
        PolicyDirection::In => "in",
    };
    let (action, origin) = match (policy.action, policy.origin) {
        (ActionWord::Protect, origin) => ("protect", origin),
        (ActionWord::Bypass, origin) => ("bypass", origin),
        (ActionWord::Discard, origin) => ("discard", origin),
    };
    let origin = if origin == PolicyOrigin::Dynamic { "socket" } else { "configuration" };
    policy.selectors.iter().map(move |selector| {
        let (local, remote) = sides(selector);
        let (reqid, segment) = if policy.action == ActionWord::Protect {
            (policy.reqid.to_string(), policy.segment.to_string())
        } else {
            ("-".to_owned(), "-".to_owned())
        };
        let words = [policy.name.as_str(), action, direction].map(str::to_owned);
        let mut row = words.to_vec();
        row.extend([policy.priority.to_string(), local, remote, reqid, segment, origin.to_owned()]);
        row
    })
}

/// Both sides of a selector, with the protocol's number and the ports where they are limited.
pub(super) fn sides(selector: &SelectorText) -> (String, String) {
    let side = |addresses: &str, ports: &Option<String>| match (selector.protocol, ports) {
        (None, None) => addresses.to_owned(),
        (Some(protocol), None) => format!("{addresses}[{protocol}]"),
        (Some(protocol), Some(ports)) => format!("{addresses}[{protocol}/{ports}]"),
        (None, Some(ports)) => format!("{addresses}[/{ports}]"),
    };
    (side(&selector.local, &selector.local_ports), side(&selector.remote, &selector.remote_ports))
}

pub(super) fn add(config: &Config, options: &PolicyAddOptions, output: Output) -> Result<(), DpctlError> {
    let policy = PolicySpec {
        name: options.name.clone(),
        action: options.action.into(),
        direction: options.direction.into(),
        priority: options.priority,
        local_selectors: options.local.clone(),
        remote_selectors: options.remote.clone(),
        reqid: options.reqid,
        segment: options.segment,
    };
    report(config, &Request::PolicyAdd { policies: vec![policy] }, output)
}

pub(super) fn remove(
    config: &Config,
    options: &PolicyRemoveOptions,
    output: Output,
) -> Result<(), DpctlError> {
    let (names, keep_prohibited) = (options.names.clone(), !options.release_prohibited);
    report(config, &Request::PolicyRemove { names, keep_prohibited }, output)
}

fn report(config: &Config, request: &Request, output: Output) -> Result<(), DpctlError> {
    let report: PolicyReport = connect(config)?.request(request)?;
    output.answer(&report, |out| {
        for (what, names) in [("in force", &report.added), ("removed", &report.removed)] {
            if !names.is_empty() {
                writeln!(out, "{what}: {}", names.join(", "))?;
            }
        }
        if report.unchanged > 0 {
            writeln!(out, "in force already, as it was asked for")?;
        }
        Ok(())
    })
}
