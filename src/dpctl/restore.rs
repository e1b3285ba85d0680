//! `dpctl restore`: PUT, and `dpctl inspect`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use baton_ctx_transfer::restore::{check_installed, install, prepare};
use baton_ctx_transfer::{Context, ContextReader, Kind, OpenWith};
use baton_dataplane::config::{Config, Tunnel};
use baton_sad::{Direction, MAX_BATCH, Sa, Sender, Table};
use serde_json::{Value, json};

use super::cli::{InspectOptions, RestoreOptions};
use super::error::DpctlError;
use super::interruption::Interruption;
use super::output::{Output, Progress};
use super::{sa, snapshot};

pub(super) fn run(
    config: &Config,
    table: &Table,
    options: &RestoreOptions,
    output: Output,
) -> Result<(), DpctlError> {
    let mut contexts = read(config, &options.file, options.clear_text)?;
    if options.advance.is_some() {
        // Who says how far the tunnel has gone on says that the file is out of date, be it a move.
        for context in &mut contexts {
            context.kind = Kind::Copy;
        }
    }
    let start = Instant::now();
    let us = Sender { cluster: table.cluster(), node: table.node() };
    let advance = options.advance.unwrap_or(config.snapshot.advance);
    let mut names = HashSet::new();
    // Everything is checked before anything is changed.
    for context in &contexts {
        if !names.insert(context.name) {
            return Err(DpctlError::Twice(context.name.to_string()));
        }
        check_tunnel(config, context)?;
        check_installed(context, table)?;
        prepare(context, us, advance)?;
    }
    // Killed between freezing and installing, this process would leave the tunnel frozen.
    let interruption = Interruption::defer().map_err(DpctlError::Signals)?;
    install_all(table, &contexts, us, advance, &interruption)?;
    let took_us = start.elapsed().as_micros();
    let copies = contexts.iter().filter(|context| context.kind == Kind::Copy).count();
    let report =
        json!({ "contexts": contexts.len(), "copies": copies, "advance": advance, "took_us": took_us });
    output.answer(&report, |out| {
        writeln!(out, "{} contexts installed in {took_us} us", contexts.len())?;
        if copies > 0 {
            writeln!(out, "both edges of {copies} of them advanced by {advance} packets")?;
        }
        Ok(())
    })
}

/// Installs tunnels whole, as many at one instant as the table can.
fn install_all(
    table: &Table,
    contexts: &[Context],
    us: Sender,
    advance: u64,
    interruption: &Interruption,
) -> Result<(), DpctlError> {
    let mut progress = Progress::new("contexts installed");
    let mut rest = contexts;
    while !rest.is_empty() {
        interruption.check()?;
        let (batch, after) = rest.split_at(fitting(rest));
        install(table, batch, us, advance, snapshot::FREEZE_WAIT)?;
        for _ in batch {
            progress.step();
        }
        rest = after;
    }
    Ok(())
}

/// How many contexts from the front on fit one PUT; a context always does.
fn fitting(contexts: &[Context]) -> usize {
    let mut sas = 0;
    let fits = |context: &&Context| {
        sas += context.sas.len();
        sas <= MAX_BATCH
    };
    contexts.iter().take_while(fits).count()
}

/// All contexts of a file, which must be whole.
fn read(config: &Config, path: &Path, clear: bool) -> Result<Vec<Context>, DpctlError> {
    let key = snapshot::cluster_key(config)?;
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(DpctlError::file("open", path))?)
    };
    let mut reader = ContextReader::new(BufReader::new(input), OpenWith { key: key.as_ref(), clear })?;
    let mut contexts = Vec::new();
    while let Some(context) = reader.next()? {
        contexts.push(context);
    }
    Ok(contexts)
}

/// The tunnel must be the same one here, or traffic would be protected otherwise than the configuration says.
fn check_tunnel(config: &Config, context: &Context) -> Result<(), DpctlError> {
    let name = context.name.as_str();
    let tunnel = config.tunnel(name).ok_or_else(|| DpctlError::UnknownTunnel(name.to_owned()))?;
    let mut differences: Vec<&str> = Vec::new();
    for offered in &context.sas {
        differences.extend(differing(tunnel, &offered.sa));
    }
    differences.sort_unstable();
    differences.dedup();
    if differences.is_empty() {
        return Ok(());
    }
    Err(DpctlError::Differs { name: name.to_owned(), differences: differences.join(", ") })
}

fn differing(tunnel: &Tunnel, sa: &Sa) -> impl Iterator<Item = &'static str> {
    let (ends, keyed) = match sa.direction {
        Direction::Inbound => ((tunnel.remote, tunnel.local), tunnel.inbound.as_ref()),
        Direction::Outbound => ((tunnel.local, tunnel.remote), tunnel.outbound.as_ref()),
    };
    // The filter takes the segment from our SPI.
    let steered = sa.direction == Direction::Outbound || sa.spi >> 24 == u32::from(tunnel.segment);
    [
        ("name", sa.name.as_str() != tunnel.name),
        ("local or remote address", (sa.source, sa.destination) != ends),
        ("reqid", sa.reqid != tunnel.reqid),
        ("segment", sa.segment != tunnel.segment || !steered),
        // A key that was changed must not come back.
        ("SPI", keyed.is_some_and(|keyed| keyed.spi != sa.spi)),
        ("key", keyed.is_some_and(|keyed| !keyed.key.ct_eq(&sa.key))),
        ("suite", sa.suite != tunnel.suite),
        ("mode", sa.mode != tunnel.mode),
        // Ports may have moved with the peer.
        ("encapsulation", sa.encapsulation.is_some() != tunnel.encapsulation.is_some()),
        ("extended_sequence", sa.extended_sequence != tunnel.extended_sequence),
        ("selectors", *sa.selectors != *tunnel.selectors()),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(what, _)| what)
}

pub(super) fn inspect(config: &Config, options: &InspectOptions, output: Output) -> Result<(), DpctlError> {
    let contexts = read(config, &options.file, options.clear_text)?;
    let values: Vec<Value> = contexts.iter().map(describe).collect();
    output.answer(&json!({ "contexts": values }), |out| {
        for value in &values {
            let mut heading = value.clone();
            let sas = heading["sas"].take();
            heading.as_object_mut().map(|fields| fields.remove("sas"));
            sa::print_fields(out, &heading)?;
            sas.as_array().into_iter().flatten().try_for_each(|value| sa::print_fields(out, value))?;
        }
        Ok(())
    })
}

fn describe(context: &Context) -> Value {
    let sas: Vec<Value> =
        context.sas.iter().map(|offered| sa::describe(&offered.sa, &offered.counters)).collect();
    json!({
        "name": context.name.as_str(),
        "kind": match context.kind { Kind::Move => "move", Kind::Copy => "copy" },
        "origin_cluster": format!("{:014x}", context.origin.cluster.get()),
        "origin_node": context.origin.node.get(),
        "taken_at": context.taken_at,
        "policies": context.policies.len(),
        "sas": sas,
    })
}
