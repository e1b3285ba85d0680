//! `dpctl snapshot`: GET.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton_ctx_transfer::collect::{context_of, is_negotiated};
use baton_ctx_transfer::private_file::PrivateFile;
use baton_ctx_transfer::{ClusterKey, ContextWriter, IkePart, Kind, SealWith};
use baton_dataplane::config::{Config, SnapshotKey};
use baton_sad::{Direction, Name, Snapshot, Table};
use serde::Serialize;

use super::cli::SnapshotOptions;
use super::error::DpctlError;
use super::ike::{self, IkeContexts};
use super::interruption::Interruption;
use super::output::{Output, Progress};
use super::sa;

/// How long a freeze waits for the workers.
pub(super) const FREEZE_WAIT: Duration = Duration::from_secs(2);

/// What a snapshot did.
#[derive(Debug, Serialize)]
struct Report {
    contexts: u64,
    /// Those with an IKE part.
    negotiated: u64,
    #[serde(rename = "move")]
    moved: bool,
    sealed: bool,
    /// Microseconds from opening the table to the last octet written.
    took_us: u128,
    file: Option<PathBuf>,
}

/// The key that seals contexts, if the configuration names one.
pub(super) fn cluster_key(config: &Config) -> Result<Option<ClusterKey>, DpctlError> {
    let key = config.snapshot.key_file.as_deref().map(SnapshotKey::read).transpose()?;
    Ok(key.map(|key| ClusterKey::new(key.as_octets())))
}

pub(super) fn run(
    config: &Config,
    table: &Table,
    options: &SnapshotOptions,
    output: Output,
) -> Result<(), DpctlError> {
    let start = Instant::now();
    let output_file = options.output.as_deref().filter(|path| *path != Path::new("-"));
    if output_file.is_none() && io::stdout().is_terminal() {
        return Err(DpctlError::Terminal);
    }
    let key = if options.clear_text { None } else { Some(cluster_key(config)?.ok_or(DpctlError::NoKey)?) };
    let tunnels = tunnels(config, table, options)?;
    let mut frozen = Frozen { table, keys: Vec::new(), ike: IkeContexts::new(config) };
    // Killed in the middle of a move, this process could not thaw what it froze.
    let interruption = options.moving.then(Interruption::defer).transpose().map_err(DpctlError::Signals)?;
    let job = Job { config, table, key: key.as_ref(), moving: options.moving, interruption };
    let written = match output_file {
        Some(path) => {
            let mut file = PrivateFile::create(path)?;
            let written = write(&job, &tunnels, &mut frozen, &mut file.file)?;
            file.publish()?;
            frozen.keys.clear();
            frozen.ike.release()?;
            written
        }
        None => write(&job, &tunnels, &mut frozen, io::stdout().lock())?,
    };
    // All is written: whoever restores it goes on from here. What becomes of it at the other end of a pipe, nobody
    // knows, so that a tunnel is not forgotten yet.
    frozen.keys.clear();
    frozen.ike.keep_frozen();
    let took_us = start.elapsed().as_micros();
    let (sealed, file) = (key.is_some(), output_file.map(Path::to_owned));
    let Written { contexts, negotiated } = written;
    let report = Report { contexts, negotiated, moved: options.moving, sealed, took_us, file };
    let text = format!("{contexts} contexts written in {took_us} us");
    if report.file.is_some() {
        return output.answer(&report, |out| writeln!(out, "{text}"));
    }
    output.aside(&report, &text);
    Ok(())
}

/// A tunnel and where its SAs stand: to find them by name again would read the whole table for each.
type Tunnels = BTreeMap<Name, Vec<(Direction, u32)>>;

fn tunnels(config: &Config, table: &Table, options: &SnapshotOptions) -> Result<Tunnels, DpctlError> {
    let mut tunnels = Tunnels::new();
    let mut add = |found: &Snapshot| {
        tunnels.entry(found.sa.name).or_default().push((found.sa.direction, found.sa.index_key()));
    };
    if let Some(sa) = &options.sa {
        match sa::find(table, sa) {
            // A tunnel may have lost its last Child SA.
            Err(DpctlError::NotFound(name)) if is_negotiated(config, &name) => {
                tunnels.entry(tunnel_name(&name)?).or_default();
            }
            found => found?.iter().for_each(&mut add),
        }
    } else {
        table.iter().for_each(|found| add(&found));
        add_negotiated(config, &mut tunnels)?;
    }
    if tunnels.is_empty() { Err(DpctlError::Nothing) } else { Ok(tunnels) }
}

/// Tunnels without Child SAs are the IKE daemon's alone.
fn add_negotiated(config: &Config, tunnels: &mut Tunnels) -> Result<(), DpctlError> {
    if ike::connect_if_running(config)?.is_none() {
        return Ok(());
    }
    for tunnel in ike::tunnels(config, None)?.iter().filter(|tunnel| tunnel.established_seconds.is_some()) {
        tunnels.entry(tunnel_name(&tunnel.name)?).or_default();
    }
    Ok(())
}

fn tunnel_name(name: &str) -> Result<Name, DpctlError> {
    Name::new(name).map_err(|_| DpctlError::NotFound(name.to_owned()))
}

/// What this command froze: in use again unless its context is out.
struct Frozen<'a> {
    table: &'a Table,
    keys: Vec<(Direction, u32)>,
    /// Thawed after the SAs.
    ike: IkeContexts<'a>,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let _ = self.table.thaw(&self.keys);
        }
    }
}

/// What is written, and how.
struct Job<'a> {
    config: &'a Config,
    table: &'a Table,
    key: Option<&'a ClusterKey>,
    moving: bool,
    interruption: Option<Interruption>,
}

impl Job<'_> {
    fn check_interruption(&self) -> Result<(), DpctlError> {
        self.interruption.as_ref().map_or(Ok(()), Interruption::check)
    }
}

/// How many contexts were written.
#[derive(Default)]
struct Written {
    contexts: u64,
    negotiated: u64,
}

fn write(
    job: &Job<'_>,
    tunnels: &Tunnels,
    frozen: &mut Frozen<'_>,
    out: impl Write,
) -> Result<Written, DpctlError> {
    let mut progress = Progress::new("contexts written");
    let how = job.key.map_or(SealWith::Clear, SealWith::Key);
    let mut writer = ContextWriter::new(io::BufWriter::new(out), how)?;
    let mut written = Written::default();
    for (name, keys) in tunnels {
        job.check_interruption()?;
        let (sas, ike) = if is_negotiated(job.config, name.as_str()) {
            let (sas, part) = read_negotiated(job, name.as_str(), keys, frozen)?;
            (sas, Some(part))
        } else {
            (read_keyed(job, keys, frozen)?, None)
        };
        // Removed since they were looked for.
        if sas.is_empty() && ike.is_none() {
            continue;
        }
        written.negotiated += u64::from(ike.is_some());
        let kind = if job.moving { Kind::Move } else { Kind::Copy };
        writer.write(&context_of(job.table, *name, sas, ike, kind))?;
        written.contexts += 1;
        progress.step();
    }
    if written.contexts == 0 {
        return Err(DpctlError::Nothing);
    }
    // The last chance: without the stream's end no reader takes any of it.
    job.check_interruption()?;
    writer.finish()?;
    Ok(written)
}

fn read_keyed(
    job: &Job<'_>,
    keys: &[(Direction, u32)],
    frozen: &mut Frozen<'_>,
) -> Result<Vec<Snapshot>, DpctlError> {
    let sas = get_all(job.table, keys)?;
    if job.moving && !sas.is_empty() { freeze(job.table, &sas, frozen) } else { Ok(sas) }
}

/// The IKE SA stands still before its Child SAs are looked for: no rekey changes them any more.
fn read_negotiated(
    job: &Job<'_>,
    name: &str,
    keys: &[(Direction, u32)],
    frozen: &mut Frozen<'_>,
) -> Result<(Vec<Snapshot>, IkePart), DpctlError> {
    if !job.moving {
        return copy_negotiated(job.table, name, keys, &mut frozen.ike);
    }
    frozen.ike.freeze(name)?;
    let mut sas = job.table.read_by_name(name)?;
    if !sas.is_empty() {
        sas = freeze(job.table, &sas, frozen)?;
    }
    Ok((sas, frozen.ike.get(name)?))
}

/// The IKE part and the SAs of one moment: the same SAs were there before the part was read and after.
fn copy_negotiated(
    table: &Table,
    name: &str,
    keys: &[(Direction, u32)],
    ike: &mut IkeContexts<'_>,
) -> Result<(Vec<Snapshot>, IkePart), DpctlError> {
    const TRIES: usize = 10;
    let mut before = keys.to_vec();
    for _ in 0..TRIES {
        let part = ike.get(name)?;
        let sas = table.read_by_name(name)?;
        let mut after: Vec<_> = sas.iter().map(|found| (found.sa.direction, found.sa.index_key())).collect();
        before.sort_unstable();
        after.sort_unstable();
        if before == after {
            return Ok((sas, part));
        }
        before = after;
    }
    Err(DpctlError::Restless(name.to_owned()))
}

fn get_all(table: &Table, keys: &[(Direction, u32)]) -> Result<Vec<Snapshot>, DpctlError> {
    let mut sas = Vec::with_capacity(keys.len());
    for (direction, key) in keys {
        sas.extend(table.get(*direction, *key)?);
    }
    Ok(sas)
}

fn freeze(table: &Table, sas: &[Snapshot], frozen: &mut Frozen<'_>) -> Result<Vec<Snapshot>, DpctlError> {
    let keys: Vec<_> = sas.iter().map(|found| (found.sa.direction, found.sa.index_key())).collect();
    let before = sas.iter().zip(&keys).filter(|(found, _)| !found.frozen).map(|(_, key)| *key);
    // A freeze that fails has undone itself, and what another command has frozen meanwhile is not ours to thaw.
    let stopped = table.freeze(&keys, FREEZE_WAIT)?;
    frozen.keys.extend(before);
    Ok(stopped)
}
