//! `baton-cluster`: what is opened, in which order, and which thread does what.
//!
//! | thread | what | waits for |
//! |---|---|---|
//! | main (`driver`), real-time | heartbeats, leases, the cluster's core | time, messages; never for a disk or another process |
//! | `bulk` | the other connections | the network |
//! | `hands` | contexts: the SA table, the IKE daemon, files | whatever they take |
//! | `ownership` | tells the data plane and the IKE daemon what is owned | them |
//! | `sharing` | tells the data plane who answers for shared addresses, where addresses are shared | it |
//! | `links` | whether interfaces have a link | the kernel |
//! | `data-plane`, `ike` | whether those daemons live, and what the latter changes | them |
//! | `control`, `metrics` | operators | them |
//!
//! What needs privileges comes first, then the fence is raised, then threads are started, as in `baton-ike`.

mod backlog;
mod bulk;
mod counters;
mod desk;
mod driver;
mod enforcing;
mod error;
mod hands;
mod input;
mod judge;
mod links;
mod load;
mod memory;
mod metrics;
mod ownership;
mod perform;
mod priority;
mod sharing;
mod show;
mod watch;
mod words;

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use baton_dataplane::config::ConfigErrors;
use baton_dataplane::control::{BoundSocket, Listeners};
use baton_ike::fence::{self, Fence, Gates, User};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::channel::{Channel, Credentials, Kind, Prepared, Settings};
use crate::cluster::wire::SPOKEN;
use crate::cluster::{Cluster, Configuration, Role};
use crate::config::Config;

pub use error::DaemonError;
use error::system;

use desk::Desk;
use driver::{Driver, Parts};
use input::Inputs;
use links::Links;
use memory::Memory;

/// Messages that wait for the core: a heartbeat every millisecond of eight members, for longer than any pause should be.
const HEARTBEATS: usize = 1024;

/// Reads and validates the configuration and certificates, and says so.
///
/// # Errors
/// Every problem.
pub fn check(path: &Path, witness: bool) -> Result<(), DaemonError> {
    let (config, credentials) = load(path, witness)?;
    let members = config.addresses.len();
    println!("{}: {}, {members} members, nothing to complain of", path.display(), credentials.identity);
    Ok(())
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// Why it could not start, or had to stop.
pub fn run(path: &Path, witness: bool) -> Result<(), DaemonError> {
    let hidden = fence::hide_memory()?;
    let (config, credentials) = load(path, witness)?;
    let signals = Signals::catch().map_err(system("catch signals"))?;
    let links = sharing::own_addresses(&config);
    let config = Config { cluster: Configuration { links, ..config.cluster }, ..config };
    let opened = Opened::open(&config)?;
    let real_time = priority::raise();
    if let Err(error) = &real_time {
        warn!(%error, "heartbeats have no real-time priority: under load this member may look dead; grant CAP_SYS_NICE");
    }
    let user = config.user.as_deref().map(User::find).transpose().map_err(fence::FenceError::from)?;
    opened.give_to(user.as_ref())?;
    let fence = hidden.raise(&gates(&config, &opened, user))?;
    for sentence in &fence.missing {
        warn!("{sentence}");
    }
    serve(config, credentials, opened, fence, &signals, real_time.is_ok())
}

fn load(path: &Path, witness: bool) -> Result<(Config, Arc<Credentials>), DaemonError> {
    let config = Config::load(path)?.ok_or_else(|| DaemonError::NoCluster(path.to_owned()))?;
    if witness != (config.role() == Role::Witness) {
        return Err(if witness { DaemonError::NotAWitness } else { DaemonError::IsAWitness });
    }
    let credentials = load_credentials(&config)?;
    Ok((config, credentials))
}

/// Our certificate, which must be ours.
fn load_credentials(config: &Config) -> Result<Arc<Credentials>, DaemonError> {
    let credentials = Credentials::load(&config.directory)?;
    if credentials.identity != config.identity() {
        let (found, own) = (credentials.identity.to_string(), config.identity().to_string());
        return Err(DaemonError::OtherIdentity { found, own });
    }
    Ok(Arc::new(credentials))
}

/// What signals have asked for.
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        let signals = Self { stop: Arc::default(), reload: Arc::default() };
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&signals.stop))?;
        }
        signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }
}

/// A socket, and the loop that it belongs to: made where the kernel may still be asked what it can do.
struct Listening {
    runtime: Runtime,
    socket: Prepared,
}

/// What is opened while there are privileges.
struct Opened {
    heartbeat: Listening,
    bulk: Listening,
    control: BoundSocket,
    metrics: Option<TcpListener>,
    links: Option<Links>,
    directory: PathBuf,
    stat: Option<std::fs::File>,
}

impl Opened {
    fn open(config: &Config) -> Result<Self, DaemonError> {
        let runtime = &config.node.runtime_directory;
        let directory = runtime.join(memory::DIRECTORY);
        for made in [runtime, &directory] {
            make_directory(made)?;
        }
        Ok(Self {
            heartbeat: bind(config, Kind::Heartbeat)?,
            bulk: bind(config, Kind::Bulk)?,
            control: BoundSocket::bind(&config.control_socket())?,
            metrics: config.metrics.map(metrics::bind).transpose()?,
            stat: load::open(config)?,
            links: config.gateway.as_ref().map(Links::open).transpose()?,
            directory,
        })
    }

    fn give_to(&self, user: Option<&User>) -> Result<(), DaemonError> {
        let Some(user) = user.filter(|user| !user.is_us()) else { return Ok(()) };
        user.give(&self.directory).map_err(fence::FenceError::from)?;
        Ok(())
    }
}

fn make_directory(directory: &Path) -> Result<(), DaemonError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| DaemonError::Directory { path: directory.to_owned(), source })
}

/// Where this member listens, which is also where it calls from.
fn bind(config: &Config, kind: Kind) -> Result<Listening, DaemonError> {
    let own = config.members(kind).first().map(|member| member.address);
    let address = own.ok_or_else(|| DaemonError::NoCluster(config.path.clone()))?;
    let socket = UdpSocket::bind(address).map_err(|source| DaemonError::Listen { address, source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("start a loop"))?;
    let within = runtime.enter();
    let socket = Prepared::new(socket).map_err(|source| DaemonError::Listen { address, source })?;
    drop(within);
    Ok(Listening { runtime, socket })
}

/// What the running daemon reads and writes.
fn gates(config: &Config, opened: &Opened, user: Option<User>) -> Gates {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    };
    let mut readable = vec![parent(&config.path), config.directory.clone()];
    let key = config.gateway.as_ref().and_then(|gateway| gateway.snapshot.key_file.as_deref());
    readable.extend(key.map(parent));
    // The table says in which life of the machine it was made.
    readable.push(PathBuf::from("/proc/sys/kernel/random"));
    Gates {
        readable,
        // The table is opened by name when the data plane has made it, and again when another one is in its place.
        writable: vec![config.node.runtime_directory.clone()],
        owned: vec![opened.directory.clone()],
        user,
    }
}

/// Everything from here on is inside the fence.
fn serve(
    config: Config,
    credentials: Arc<Credentials>,
    opened: Opened,
    fence: Fence,
    signals: &Signals,
    real_time: bool,
) -> Result<(), DaemonError> {
    let started = Instant::now();
    let (inputs, received) = Inputs::new();
    let listeners = Arc::new(Listeners::default());
    let memory = Memory::new(&opened.directory);
    let bulk = bulk::start(opened.bulk, &config, &credentials, inputs.clone())?;
    let (replies, answers) = std::sync::mpsc::channel();
    let hands = hands::start(&config, &inputs, &replies)?;
    let owner = ownership::start(&config)?;
    let sharer = sharing::start(&config)?;
    let counters = counters::start(&inputs, config.cluster.reserving.time)?;
    opened.links.map(|links| links.start(&inputs)).transpose()?;
    let synced = Arc::new(AtomicBool::new(false));
    watch::start(&config, &inputs, &counters, &hands, answers, Arc::clone(&synced))?;
    load::start(&config, opened.stat, inputs.clone())?;
    let cluster = Cluster::new(
        config.cluster.clone(),
        baton_ike::clock::now().monotonic,
        incarnation()?,
        &memory.recall(),
    )?;
    let Listening { runtime, socket } = opened.heartbeat;
    let ended = runtime.block_on(async {
        let (events, heartbeats) = mpsc::channel(HEARTBEATS);
        let members = config.members(Kind::Heartbeat).into_iter().skip(1).collect();
        let settings = Settings {
            credentials: Arc::clone(&credentials),
            kind: Kind::Heartbeat,
            members,
            versions: SPOKEN,
        };
        let channel = Channel::open(socket, settings, events)?;
        let desk = Desk::new(inputs.clone(), config.path.clone(), Arc::clone(&listeners));
        let server = opened.control.serve(Arc::new(desk))?;
        if let Some(listener) = opened.metrics {
            metrics::start(listener, inputs.clone())?;
        }
        info!(identity = %credentials.identity, fence = ?fence.in_force, "ready");
        let parts = Parts {
            config,
            credentials,
            channel,
            bulk,
            hands,
            counters,
            owner,
            synced,
            sharer,
            listeners,
            memory,
            fence,
            real_time,
            started,
        };
        let ended = Driver::new(cluster, parts).run(received, heartbeats, signals).await;
        drop(server);
        ended
    });
    info!("stopped");
    ended
}

/// Another number at each start.
fn incarnation() -> Result<u64, DaemonError> {
    let mut octets = [0; 8];
    getrandom::fill(&mut octets).map_err(|error| DaemonError::System {
        action: "get a random number",
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(u64::from_be_bytes(octets))
}

impl From<ConfigErrors> for DaemonError {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}
