//! The daemon's process: what is opened, in which order, and when its privileges end.
//!
//! Everything that needs privileges comes first: ports, the SA table, keys. Then the fence is raised
//! ([`crate::fence`]), and only then are threads started and datagrams read. Stopping, or dying, deletes no SA: a
//! successor rebuilds every tunnel from its context.

mod answer;
mod arriving;
mod cluster;
mod desk;
mod error;
mod poll;
mod reconcile;
mod reload;
mod roam;
mod shares;
mod show;
mod signals;
mod table_watch;
mod turn;
mod users;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::config::InnerInterface;
use baton_dataplane::control::{BoundSocket, Listeners};
use baton_ike_proto::crypto::WrapKey;
use baton_ike_proto::machine::Ike;
use baton_sad::{Table, TableError};
use tracing::{error, info, warn};

use crate::alarms::Alarms;
use crate::config::{Config, Daemon};
use crate::control::SOCKET;
use crate::counters::Counted;
use crate::effects::{Effects, Tools};
use crate::fence::{self, Fence, FenceError, Gates, User, UserError};
use crate::host::{Node, Steering};
use crate::log::Log;
use crate::names::Names;
use crate::radius::{Dae, Radius};
use crate::replication::{self, Replication};
use crate::reports::Reports;
use crate::sockets::{Inbox, Listening, Routes, Sockets};
use crate::store::Store;
use crate::wake::Wake;
use crate::{watch, wrap_key};

pub use error::DaemonError;
pub(crate) use error::file;
use error::system;

use desk::Desk;
use reconcile::Reconciliation;
use reload::Loaded;
use roam::Roam;
use signals::{Asked, Signals};
use table_watch::TableWatch;
use turn::Loop;

/// How often an absent table is looked for.
const TABLE_RETRY: Duration = Duration::from_millis(100);
/// It is complained about after so many tries, and again after as many.
const TABLE_PATIENCE: u32 = 100;

/// Reads and validates configuration, secrets and certificates, and says so.
///
/// # Errors
/// Every problem.
pub fn check(path: &Path) -> Result<(), DaemonError> {
    let Loaded { config, .. } = reload::load(path)?;
    let connections = config.protocol.connections.len();
    println!("{}: {connections} connections, nothing to complain of", path.display());
    Ok(())
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// Why it could not start, or had to stop.
pub fn run(path: &Path, log: &Log) -> Result<(), DaemonError> {
    let hidden = fence::hide_memory()?;
    let loaded = reload::load(path)?;
    let signals = Signals::catch().map_err(system("catch signals"))?;
    let opened = Opened::open(&loaded.config, &signals)?;
    let user = loaded.config.daemon.user.as_deref().map(User::find).transpose().map_err(FenceError::from)?;
    opened.give_to(user.as_ref()).map_err(FenceError::from)?;
    let fence = hidden.raise(&gates(&loaded.config, &opened, user))?;
    for sentence in &fence.missing {
        warn!("{sentence}");
    }
    serve(loaded, opened, fence, &signals, log)
}

/// What is opened while there are privileges.
struct Opened {
    table: Arc<Table>,
    table_watch: TableWatch,
    sockets: Arc<Sockets>,
    routes: Routes,
    roam: Roam,
    store: Store,
    wrap: Arc<WrapKey>,
    control: BoundSocket,
    /// In a cluster.
    replication: Option<UnixListener>,
    dae: Option<Dae>,
}

impl Opened {
    fn open(config: &Config, signals: &Signals) -> Result<Self, DaemonError> {
        let gateway = &config.gateway;
        let table = Arc::new(wait_for_table(config, signals)?);
        let runtime = &gateway.node.runtime_directory;
        let listening = Listening {
            addresses: config.daemon.listen.clone(),
            port: Daemon::PORT,
            nat_port: Daemon::NAT_PORT,
        };
        let store = Store::open(runtime)?;
        Ok(Self {
            table_watch: TableWatch::new(table.path())?,
            table,
            sockets: Arc::new(Sockets::open(&listening)?),
            routes: Routes::open(),
            roam: Roam::open(),
            wrap: Arc::new(wrap_key::load(gateway.snapshot.key_file.as_deref(), store.directory())?),
            store,
            control: BoundSocket::bind(&runtime.join(SOCKET))?,
            replication: config.daemon.replication_wait.map(|_| listen_for_cluster(runtime)).transpose()?,
            dae: Dae::open(&config.radius)?,
        })
    }

    /// What a user other than the present one goes on to use.
    fn give_to(&self, user: Option<&User>) -> Result<(), UserError> {
        let Some(user) = user.filter(|user| !user.is_us()) else { return Ok(()) };
        self.store.give_to(user)
    }
}

/// Where baton-cluster connects to hear of changes.
fn listen_for_cluster(runtime: &Path) -> Result<UnixListener, DaemonError> {
    let listener = BoundSocket::bind(&runtime.join(replication::SOCKET))?.into_listener();
    listener.set_nonblocking(true).map_err(system("make a socket that does not wait"))?;
    Ok(listener)
}

/// The data plane makes the table; it may be starting as we are.
fn wait_for_table(config: &Config, signals: &Signals) -> Result<Table, DaemonError> {
    let (path, mut tries) = (config.gateway.table_path(), 0_u32);
    let table = loop {
        match Table::open(&path) {
            Ok(table) => break table,
            Err(TableError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if tries.is_multiple_of(TABLE_PATIENCE) {
            info!(table = %path.display(), "waiting for the data plane's SA table");
        }
        if signals.take() == Some(Asked::Stop) {
            return Err(DaemonError::Stopped);
        }
        tries += 1;
        thread::sleep(TABLE_RETRY);
    };
    if table.node() != config.gateway.node.id || table.cluster() != config.gateway.cluster_id() {
        return Err(DaemonError::OtherNode { path, found: table.node().get() });
    }
    Ok(table)
}

/// What the running daemon reads and writes: a reload finds files below the directories that are known now.
fn gates(config: &Config, opened: &Opened, user: Option<User>) -> Gates {
    let parent = |path: &Path| match path.parent() {
        // A bare file name is in the present directory; the root has no parent.
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    };
    let mut readable = vec![parent(&config.gateway.path)];
    let paths = config.credentials.paths().into_iter();
    readable.extend(paths.map(|path| if path.is_dir() { path } else { parent(&path) }));
    readable.extend(config.gateway.snapshot.key_file.as_deref().map(parent));
    Gates {
        readable,
        // The table's locks are opened by name, and another table may take this one's place.
        writable: vec![config.gateway.node.runtime_directory.clone()],
        owned: vec![opened.store.directory().to_owned()],
        user,
    }
}

/// Everything from here on is inside the fence.
fn serve(
    loaded: Loaded,
    opened: Opened,
    fence: Fence,
    signals: &Signals,
    log: &Log,
) -> Result<(), DaemonError> {
    let Loaded { config, credentials, radius_secrets } = loaded;
    let listeners = Arc::new(Listeners::default());
    let alarms = Alarms::new(Arc::clone(&listeners));
    let counted = Arc::new(Counted::default());
    let wake = Wake::new().map_err(system("make an event"))?;
    let (reports, received_reports) = Reports::channel(wake.clone());
    let data_plane = config.gateway.control_socket();
    let radius = Radius::new(config.radius.clone(), &radius_secrets, alarms.clone())
        .map_err(system("wait for RADIUS servers"))?;
    let mut dae = opened.dae;
    if let Some(dae) = &mut dae {
        dae.set_policy(&config.radius, &radius_secrets, &radius, &config.daemon.listen);
    }
    let wait = config.daemon.replication_wait.unwrap_or_default();
    let replication = opened
        .replication
        .map(|listener| Replication::new(listener, wait, alarms.clone(), Arc::clone(&counted)));
    let tools = Tools {
        radius,
        replication,
        table: Arc::clone(&opened.table),
        store: opened.store.clone(),
        sockets: Arc::clone(&opened.sockets),
        listeners: Arc::clone(&listeners),
        counted: Arc::clone(&counted),
        alarms: alarms.clone(),
        has_tun: matches!(config.gateway.inner.interface, InnerInterface::Tun(_)),
    };
    let effects =
        Effects::start(tools, data_plane.clone(), reports.clone()).map_err(system("start a thread"))?;
    let steering = Steering {
        mode: config.gateway.segments.hash,
        seed: config.gateway.segments.seed,
        port: Daemon::PORT,
    };
    let (desk, asks) =
        Desk::new(wake.clone(), config.gateway.path.clone(), opened.store.clone(), listeners, log.clone());
    alarms.set("fence", (!fence.missing.is_empty()).then(|| fence.missing.join("; ")));
    let names =
        Names::start(&config, data_plane.clone(), reports.clone()).map_err(system("start a thread"))?;
    let mut turning = Loop {
        ike: Ike::new(names.resolved(&config), Arc::clone(&credentials), opened.wrap),
        node: Node::new(Arc::clone(&opened.table), steering, opened.routes),
        effects,
        sockets: opened.sockets,
        table: Arc::clone(&opened.table),
        config,
        alarms,
        counted,
        fence,
        started: Instant::now(),
        data_plane: false,
        inbox: Inbox::new(),
        asks,
        reports: received_reports,
        wake,
        reconciliation: Reconciliation::begin(),
        table_watch: opened.table_watch,
        roam: opened.roam,
        dae,
        credentials,
        names,
        owned: std::collections::BTreeSet::new(),
        shares: shares::Shares::default(),
        arriving: arriving::Arriving::default(),
    };
    turning.look_at_leases();
    turning.restore_all(&opened.store)?;
    turning.effects.settle_inside();
    turning.look_where_we_are();
    turning.start();
    watch::start(data_plane, opened.table, reports).map_err(system("start a thread"))?;
    let desk = Arc::new(desk);
    let server = opened.control.serve(Arc::clone(&desk))?;
    info!(listening = ?turning.sockets.bound().collect::<Vec<_>>(), fence = ?turning.fence.in_force, "ready");
    let ended = turning.run(signals, || reload_aside(&desk));
    drop(server);
    info!("stopped; SAs and contexts stay for the next start");
    ended
}

/// Reading files takes its time, and the loop has to take the configuration over: not in its thread.
fn reload_aside(desk: &Arc<Desk>) {
    let desk = Arc::clone(desk);
    let reload = move || {
        if let Err(refusal) = desk.reload() {
            error!(%refusal, "the configuration was refused; the running one stays");
        }
    };
    if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(reload) {
        error!(%error, "the configuration cannot be read again");
    }
}
