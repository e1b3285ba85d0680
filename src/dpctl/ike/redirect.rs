//! Peers that are sent to another gateway, or hear from one.

use baton_dataplane::config::Config;
use baton_ike::control::{Done, Occurred, Request, TargetText};
use serde_json::json;

use super::change::{progress, watch};
use super::watch::{Watch, is_of};
use super::{connect, target};
use crate::dpctl::cli::RedirectOptions;
use crate::dpctl::error::DpctlError;
use crate::dpctl::output::Output;

pub(in crate::dpctl) fn redirect(
    config: &Config,
    options: &RedirectOptions,
    output: Output,
) -> Result<(), DpctlError> {
    let mut client = connect(config)?;
    let target = options.target.as_deref().map(|name| target(&mut client, name, None)).transpose()?;
    let watch = watch(config, &options.waiting)?;
    let request = Request::Redirect { target: target.clone(), gateway: options.gateway.clone() };
    let done: Done = client.request(&request)?;
    if let Some(watch) = &watch {
        wait(watch, done.concerned, target.as_ref(), options, output)?;
    }
    let left = watch.map(|_| done.concerned);
    let report = json!({ "concerned": done.concerned, "gateway": options.gateway, "left": left });
    output.answer(&report, |out| {
        let words = if left.is_some() { "have left for" } else { "are being sent to" };
        writeln!(out, "{} tunnels {words} {}", done.concerned, options.gateway)
    })
}

/// Until as many tunnels are over as were sent. What cannot be sent does not keep the others.
fn wait(
    watch: &Watch,
    mut left: u64,
    target: Option<&TargetText>,
    options: &RedirectOptions,
    output: Output,
) -> Result<(), DpctlError> {
    let what = format!("{} tunnels were sent to {} and not all are gone", left, options.gateway);
    while left > 0 {
        let occurred = watch.next(&what)?;
        if is_end_of(&occurred, target) {
            left -= 1;
        }
        if matches!(
            occurred,
            Occurred::IkeDown { .. } | Occurred::Redirected { .. } | Occurred::Failed { .. }
        ) {
            progress(&occurred, output);
        }
    }
    Ok(())
}

fn is_end_of(occurred: &Occurred, target: Option<&TargetText>) -> bool {
    let Occurred::IkeDown { tunnel, .. } = occurred else { return false };
    match target {
        Some(TargetText::Connection(wanted)) => is_of(tunnel, wanted),
        Some(TargetText::Tunnel(wanted)) => tunnel == wanted,
        _ => true,
    }
}

pub(in crate::dpctl) fn synchronize(config: &Config, name: &str, output: Output) -> Result<(), DpctlError> {
    let mut client = connect(config)?;
    let target = target(&mut client, name, None)?;
    let done: Done = client.request(&Request::Synchronize { target })?;
    output.answer(&done, |out| writeln!(out, "{} tunnels of {name} are being synchronized", done.concerned))
}
