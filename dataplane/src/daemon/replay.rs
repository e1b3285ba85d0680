//! `--replay`: the packets of a capture through the very pipeline, without interfaces or privileges.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use baton_sad::{EpochKeeper, Table, TableOptions};

use super::assemble::{acquire, backend};
use super::endpoints::Endpoints;
use super::error::{DaemonError, io_error};
use super::{ownership, static_sas};
use crate::capture::Tap;
use crate::config::Config;
use crate::counters::WorkerCounters;
use crate::drop_reason::DropReason;
use crate::events::Events;
use crate::io::Side;
use crate::io::pcap::PcapIo;
use crate::next_hop::{Mac, NextHops, ResolveRequests, SideHops, Via};
use crate::prefix::Prefix;
use crate::worker::{Rings, Worker, WorkerOptions, monotonic_ns, unix_seconds};

/// Reads frames from `input`, handles them as the configured gateway would, and writes to `output` what left.
/// It uses a table of its own in memory: a running gateway is not touched.
///
/// # Errors
/// A refused configuration, or files that cannot be read or written.
pub fn replay(config: &Path, input: &Path, output: &Path) -> Result<(), DaemonError> {
    let config = Config::load(config)?;
    let scratch = Scratch::new()?;
    let options =
        TableOptions { capacity: config.table.capacity, node: config.node.id, cluster: config.cluster_id() };
    let table = Arc::new(Table::create(&scratch.0.join("sa-table"), &options)?);
    let _lease = table.attach()?;
    ownership::set_leases(&table, &[u64::MAX; 4]);
    // Epochs are the node's own, from where they are durable: what is sealed here repeats no IV (I1).
    super::make_directories(&config)?;
    let keeper =
        EpochKeeper::new(&config.node.state_directory, &config.node.runtime_directory, config.node.id);
    table.epoch_maintain(&keeper)?;
    let problems = static_sas::install(&table, &config, &Endpoints::default());
    if !problems.is_empty() {
        return Err(DaemonError::StaticSas(problems.join("\n")));
    }

    let counters = Arc::new(WorkerCounters::default());
    let options = WorkerOptions {
        index: 0,
        workers: 1,
        table,
        spd: Arc::new(ArcSwap::from_pointee(config.spd(std::iter::empty()))),
        next_hops: Arc::new(ArcSwap::from_pointee(everywhere())),
        resolve: Arc::new(ResolveRequests::default()),
        counters: Arc::clone(&counters),
        rings: Rings::new(1),
        tap: Arc::new(Tap::default()),
        crypto: backend(&config),
        batch: config.workers.batch,
        clock: monotonic_ns,
        unix_clock: unix_seconds,
        // Every network is everywhere in a file.
        anti_spoofing: false,
        errors_per_second: config.icmp.errors_per_second,
        acquire: acquire(&config),
        events: Arc::new(Events::default()),
    };
    let reader = File::open(input).map(BufReader::new).map_err(io_error("open", input))?;
    let writer = private_file(output).map(BufWriter::new).map_err(io_error("create", output))?;
    let mut worker = Worker::new(&options, PcapIo::new(reader, writer, config.outer.addresses.clone())?)?;
    while !worker.io().ended() {
        worker.turn();
    }
    let (summary, mut writer) = worker.into_io().finish()?;
    writer.flush().map_err(io_error("write", output))?;
    println!(
        "{} packets read, {} too long and left out, {} written",
        summary.read, summary.oversized, summary.written
    );
    report(&counters);
    Ok(())
}

/// It will hold plaintext.
fn private_file(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn report(counters: &WorkerCounters) {
    for side in Side::ALL {
        let (received, sent) = (counters.side(side).received.get(), counters.side(side).sent.get());
        println!("{}: {received} received, {sent} sent", side.name());
    }
    for reason in DropReason::ALL {
        let dropped = counters.dropped(*reason);
        if dropped > 0 {
            println!("dropped {dropped}: {} ({})", reason.name(), reason.sentence());
        }
    }
}

/// Next hops for a gateway without interfaces: everything leaves towards one neighbour per side.
fn everywhere() -> NextHops {
    let side = |last: u8| {
        let routers =
            [IpAddr::from([192, 0, 2, last]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()])];
        let all = [IpAddr::from([0, 0, 0, 0]), IpAddr::from([0_u16; 8])];
        let everywhere = all
            .into_iter()
            .zip(routers)
            .filter_map(|(any, router)| Prefix::new(any, 0).ok().map(|all| (all, Via::Router(router))));
        let neighbours = routers.map(|router| (router, Mac([2, 0, 0, 0, 0, last]))).into();
        SideHops::new(Mac([2, 0, 0, 0, 1, last]), 1500, everywhere.collect(), neighbours)
    };
    NextHops::new(side(1), side(2))
}

/// A directory that goes when the run ends.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self, DaemonError> {
        // In memory, as it holds keys.
        let path = Path::new("/dev/shm").join(format!("baton-replay-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(io_error("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
