//! The data plane's process: what is started, in which order, and what happens to it while it runs.
//!
//! Starting follows I7: the prohibit routes come first, then the filter, which drops what it would redirect to a
//! socket that is not there yet, then everything that makes packets flow. Stopping, or dying, takes none of that
//! away; only [`uninstall`] does.

mod assemble;
mod caretaker;
mod cluster;
mod control;
mod endpoints;
mod error;
mod filter;
mod gateway;
mod inside;
mod journal;
mod media;
mod ownership;
mod policies;
mod policy_changes;
mod private_file;
mod replay;
mod reverse_path;
mod static_sas;
mod threads;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::control::{DataPlane, Server};
use crate::prohibit;
use crate::xdp::Attachment;
use baton_sad::{Table, TableError};

use caretaker::Caretaker;
pub use error::DaemonError;
use error::io_error;
use gateway::Gateway;
use policies::DynamicPolicies;
pub use policies::PoliciesError;
pub use replay::replay;

/// How often the main thread looks after leases, epochs and workers.
const TICK: Duration = Duration::from_millis(20);

/// Reads and validates the configuration, and says so.
///
/// # Errors
/// [`DaemonError::Config`] with every problem of the file.
pub fn check(config: &Path) -> Result<(), DaemonError> {
    let config = Config::load(config)?;
    println!("{}: {} tunnels, nothing to complain of", config.path.display(), config.tunnels.len());
    Ok(())
}

/// Runs the data plane until a signal ends it.
///
/// # Errors
/// Why it could not start, or had to stop. Nothing is half-attached then; prohibit routes stay.
pub fn run(path: &Path) -> Result<(), DaemonError> {
    let config = Config::load(path)?;
    // Before anything that can fail: from here on the kernel lets nothing out in clear.
    prohibit::install(&config.protected_prefixes())?;
    forbid_core_dumps();
    make_directories(&config)?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(io_error("catch signals for", path))?;
    let dynamic = DynamicPolicies::load(&policies_path(&config), &config)?;
    let (gateway, workers, mut caretaker) = gateway::start(config, dynamic)?;
    let gateway = Arc::new(gateway);
    let _leases = threads::LeaseFollower::start(&gateway)?;
    let handler = Arc::new(control::Control::new(Arc::clone(&gateway)));
    let server = Server::bind(&gateway.config().control_socket(), Arc::new(DataPlane(handler)))?;
    let pid_file = gateway.config().node.runtime_directory.join("dataplane.pid");
    fs::write(&pid_file, format!("{}\n", std::process::id())).map_err(io_error("write", &pid_file))?;
    info!(node = gateway.config().node.id.get(), sas = gateway.table.installed(), "ready");

    let ended = supervise(&gateway, &workers, &mut caretaker, &mut signals);
    drop(server);
    workers.stop();
    let _ = fs::remove_file(&pid_file);
    info!("stopped; the filter and the prohibit routes go on protecting (--uninstall removes them)");
    ended
}

fn supervise(
    gateway: &Gateway,
    workers: &threads::Workers,
    caretaker: &mut Caretaker,
    signals: &mut Signals,
) -> Result<(), DaemonError> {
    loop {
        std::thread::sleep(TICK);
        for signal in signals.pending() {
            match signal {
                SIGHUP => match gateway.reload() {
                    Ok(report) => info!(?report, "the configuration was read again"),
                    Err(refusal) => error!(%refusal, "the configuration was refused; the running one stays"),
                },
                _ => return Ok(()),
            }
        }
        if let Some(worker) = workers.first_dead() {
            return Err(DaemonError::WorkerDied(worker));
        }
        if gateway.is_blind() {
            return Err(DaemonError::Blind);
        }
        if let Some(side) = gateway.lost_side() {
            return Err(DaemonError::InterfaceGone(side.name()));
        }
        gateway.tick();
        gateway.tend(caretaker);
    }
}

/// Where policies of the control socket survive a restart.
fn policies_path(config: &Config) -> PathBuf {
    config.node.runtime_directory.join("policies")
}

/// Removes the filter, the prohibit routes, the SA table and dynamic policies: everything that outlives the daemon,
/// but for the epoch file, which must not be lost (I1).
///
/// # Errors
/// What could not be removed, or that a data plane still runs.
pub fn uninstall(path: &Path) -> Result<(), DaemonError> {
    let config = Config::load(path)?;
    match Table::open(&config.table_path()) {
        Ok(table) => {
            // Held until all is removed, so that none starts meanwhile.
            let _lease = table.attach()?;
            remove_everything(&config)?;
            remove_table(&table)?;
        }
        Err(TableError::NotFound(_)) => remove_everything(&config)?,
        Err(error) => return Err(error.into()),
    }
    let inside = inside::path(&config.node.runtime_directory);
    for file in [policies_path(&config), gateway::endpoints_path(&config), inside] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("remove", &file)(error));
            }
            _ => {}
        }
    }
    println!(
        "removed: filter, prohibit routes, SA table, policies. Nothing protects the prefixes of {} now.",
        path.display()
    );
    Ok(())
}

fn remove_table(table: &Table) -> Result<(), DaemonError> {
    let places: Vec<_> = table.iter().map(|found| (found.sa.direction, found.sa.index_key())).collect();
    for places in places.chunks(1024) {
        // Removal overwrites the keys.
        table.remove(places)?;
    }
    fs::remove_file(table.path()).map_err(io_error("remove", table.path()))
}

fn remove_everything(config: &Config) -> Result<(), DaemonError> {
    Attachment::uninstall(&config.node.pin_directory)?;
    inside::uninstall(&config.node.runtime_directory, config.inner.resolv_conf.as_deref())?;
    media::remove(config)?;
    prohibit::remove()?;
    Ok(())
}

/// Keys must not reach a core file (and no debugger of another user this process).
fn forbid_core_dumps() {
    let limited = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = limited.and(hidden) {
        warn!(%error, "core dumps could not be switched off; they would hold keys");
    }
}

fn make_directories(config: &Config) -> Result<(), DaemonError> {
    for directory in [&config.node.state_directory, &config.node.runtime_directory] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io_error("create", directory))?;
        let metadata = fs::metadata(directory).map_err(io_error("examine", directory))?;
        // Others could replace the table, the epoch file or their locks.
        if metadata.mode() & 0o022 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(DaemonError::OpenDirectory(directory.clone()));
        }
    }
    Ok(())
}
