//! `dpctl restore`: PUT, and `dpctl inspect`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use baton_ctx_transfer::collect::{differences, is_negotiated};
use baton_ctx_transfer::restore::{check_installed, install, prepare};
use baton_ctx_transfer::{Context, ContextReader, Kind, OpenWith};
use baton_dataplane::config::Config;
use baton_sad::{Direction, MAX_BATCH, Name, Sa, Sender, Table};
use serde_json::{Value, json};

use super::cli::{InspectOptions, RestoreOptions};
use super::error::DpctlError;
use super::ike::IkeContexts;
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
    let mut ike = IkeContexts::new(config);
    let mut frozen_here = HashSet::new();
    // Everything is checked before anything is changed.
    for context in &contexts {
        if !names.insert(context.name) {
            return Err(DpctlError::Twice(context.name.to_string()));
        }
        if context.ike.is_none() {
            check_tunnel(config, context)?;
        } else if check_negotiated(config, context, &mut ike)? {
            frozen_here.insert(context.name);
        }
        check_installed(context, table)?;
        prepare(context, us, advance)?;
    }
    // Killed between freezing and installing, this process would leave the tunnel frozen.
    let interruption = Interruption::defer().map_err(DpctlError::Signals)?;
    let mut job = Job { table, us, advance, ike, frozen_here, interruption };
    job.install_all(&contexts)?;
    let took_us = start.elapsed().as_micros();
    let copies = contexts.iter().filter(|context| context.kind == Kind::Copy).count();
    let negotiated = contexts.iter().filter(|context| context.ike.is_some()).count();
    let report = json!({
        "contexts": contexts.len(),
        "negotiated": negotiated,
        "copies": copies,
        "advance": advance,
        "took_us": took_us,
    });
    output.answer(&report, |out| {
        writeln!(out, "{} contexts installed in {took_us} us", contexts.len())?;
        if copies > 0 {
            writeln!(out, "both edges of {copies} of them advanced by {advance} packets")?;
        }
        Ok(())
    })
}

/// What is installed, and how.
struct Job<'a> {
    table: &'a Table,
    us: Sender,
    advance: u64,
    ike: IkeContexts<'a>,
    /// Negotiated tunnels that were taken here, and go on here.
    frozen_here: HashSet<Name>,
    interruption: Interruption,
}

impl Job<'_> {
    /// Installs tunnels whole, as many at one instant as the table can.
    fn install_all(&mut self, contexts: &[Context]) -> Result<(), DpctlError> {
        let mut progress = Progress::new("contexts installed");
        let mut rest = contexts;
        while !rest.is_empty() {
            self.interruption.check()?;
            let (batch, after) = rest.split_at(fitting(rest));
            install(self.table, batch, self.us, self.advance, snapshot::FREEZE_WAIT)?;
            for (index, context) in batch.iter().enumerate() {
                let handed_over = self.hand_over(context);
                if handed_over.is_err() {
                    self.take_back(&batch[index..])?;
                }
                handed_over?;
                progress.step();
            }
            rest = after;
        }
        Ok(())
    }

    /// Gives the IKE part of a context, whose SAs are installed, to the IKE daemon.
    fn hand_over(&mut self, context: &Context) -> Result<(), DpctlError> {
        let advanced = if context.kind == Kind::Copy { self.advance } else { 0 };
        match &context.ike {
            None => Ok(()),
            Some(_) if self.frozen_here.contains(&context.name) => {
                self.ike.thaw(context.name.as_str(), advanced).map(drop)
            }
            Some(part) => self.ike.put(part, advanced),
        }
    }

    /// Removes the SAs of tunnels that the IKE daemon does not have: without it they would be nobody's.
    fn take_back(&self, contexts: &[Context]) -> Result<(), DpctlError> {
        let is_foreign =
            |context: &&Context| context.ike.is_some() && !self.frozen_here.contains(&context.name);
        let sas = contexts.iter().filter(is_foreign).flat_map(|context| &context.sas);
        let keys: Vec<_> = sas.map(|offered| (offered.sa.direction, offered.sa.index_key())).collect();
        self.table.remove(&keys)?;
        Ok(())
    }
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

/// The connection of a negotiated tunnel is looked for by the IKE daemon, which must run; here, that it is a tunnel of
/// its own and steered as its SPIs say.
/// Gives whether it is here already, frozen.
fn check_negotiated(
    config: &Config,
    context: &Context,
    ike: &mut IkeContexts<'_>,
) -> Result<bool, DpctlError> {
    let name = context.name.as_str();
    if !is_negotiated(config, name) {
        let differences = "here it has configured keys, or its name is none of an IKE daemon".to_owned();
        return Err(DpctlError::Differs { name: name.to_owned(), differences });
    }
    let is_steered = |sa: &Sa| sa.direction == Direction::Outbound || sa.spi >> 24 == u32::from(sa.segment);
    if !context.sas.iter().all(|offered| is_steered(&offered.sa)) {
        return Err(DpctlError::Differs { name: name.to_owned(), differences: "segment".to_owned() });
    }
    match ike.state(name)? {
        Some(false) => Err(DpctlError::Stands(name.to_owned())),
        frozen => Ok(frozen.is_some()),
    }
}

/// The tunnel must be the same one here, or traffic would be protected otherwise than the configuration says.
fn check_tunnel(config: &Config, context: &Context) -> Result<(), DpctlError> {
    let name = context.name.as_str();
    let differences =
        differences(config, context).ok_or_else(|| DpctlError::UnknownTunnel(name.to_owned()))?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(DpctlError::Differs { name: name.to_owned(), differences: differences.join(", ") })
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
        "ike_octets": context.ike.as_ref().map(|part| part.octets().len()),
        "sas": sas,
    })
}
