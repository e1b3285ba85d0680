//! Whether the other daemons live, and what the IKE daemon changes.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::control::{Client, Daemon, Kind, MonitorRequest, Notice};
use baton_dataplane::worker::monotonic_ns;
use baton_sad::{Name, Table};
use serde::Deserialize;
use serde_json::json;
use tracing::{debug, warn};

use super::DaemonError;
use super::counters::{self, Counters};
use super::error::system;
use super::hands::{self, Hands};
use super::input::{Input, Inputs};
use crate::cluster::Event;
use crate::collect::is_negotiated;
use crate::config::Config;

/// How often a daemon that is away is looked for.
const AGAIN: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);
/// How often tunnels with configured keys are looked at.
const STATIC: Duration = Duration::from_millis(200);
/// How often the IKE daemon is told that standbys are in good order.
const SYNCED: Duration = Duration::from_secs(1);
/// A line is a name and two numbers.
const MAX_LINE: u64 = 1024;

/// What the IKE daemon is told: changes that are on the standbys, or need not be waited for.
pub(super) enum Reply {
    /// Of a tunnel, up to this version.
    Replicated { tunnel: Name, version: u64 },
}

/// Starts the threads of a node; a witness has nothing to watch.
pub(super) fn start(
    config: &Config,
    inputs: &Inputs,
    counters: &Counters,
    hands: &Hands,
    replies: Receiver<Reply>,
    synced: Arc<AtomicBool>,
) -> Result<(), DaemonError> {
    let Some(gateway) = &config.gateway else { return Ok(()) };
    let data_plane = Arc::new(DataPlane {
        socket: gateway.control_socket(),
        table: gateway.table_path(),
        config: gateway.clone(),
        inputs: inputs.clone(),
        counters: counters.clone(),
        hands: hands.clone(),
    });
    let runtime = gateway.node.runtime_directory.clone();
    let negotiated = inputs.clone();
    spawn("data-plane", move || data_plane.watch())?;
    let ike = Ike { socket: runtime.join("ike-replication.sock"), inputs: negotiated, synced };
    spawn("ike", move || ike.watch(&replies))
}

fn spawn(name: &str, watch: impl FnOnce() + Send + 'static) -> Result<(), DaemonError> {
    thread::Builder::new().name(name.to_owned()).spawn(watch).map_err(system("start a thread"))?;
    Ok(())
}

struct DataPlane {
    socket: PathBuf,
    table: PathBuf,
    config: baton_dataplane::config::Config,
    inputs: Inputs,
    counters: Counters,
    hands: Hands,
}

impl DataPlane {
    /// A monitor hears the end of its daemon at once.
    fn watch(self: &Arc<Self>) {
        loop {
            if let Some(table) = self.open() {
                if !self.ready(&table) {
                    return;
                }
                self.listen(&table);
                if !self.inputs.tell(Input::Table(None)) {
                    return;
                }
            }
            thread::sleep(AGAIN);
        }
    }

    fn open(&self) -> Option<Arc<Table>> {
        UnixStream::connect(&self.socket).ok()?;
        let table = Table::open(&self.table).ok()?;
        if table.node() != self.config.node.id || table.cluster() != self.config.cluster_id() {
            warn!(table = %self.table.display(), "the SA table belongs to another node; remove it, or correct [node]");
            return None;
        }
        Some(Arc::new(table))
    }

    fn ready(&self, table: &Arc<Table>) -> bool {
        self.counters.work(counters::Work::Table(Arc::clone(table)));
        self.hands.work(hands::Work::Table(Arc::clone(table)));
        self.inputs.tell(Input::Table(Some(Arc::clone(table))))
    }

    /// Until the data plane ends.
    fn listen(self: &Arc<Self>, table: &Arc<Table>) {
        let request = MonitorRequest { kinds: vec![Kind::Reload] };
        let listening = Client::connect(&self.socket, PATIENCE).and_then(|client| client.monitor(&request));
        let Ok(listening) = listening else { return };
        let over = Arc::new(AtomicBool::new(false));
        let surveyor = (Arc::clone(self), Arc::clone(table), Arc::clone(&over));
        let survey = move || surveyor.0.survey(&surveyor.1, &surveyor.2);
        let survey = thread::Builder::new().name("survey".to_owned()).spawn(survey);
        for notice in listening {
            let Ok::<Notice, _>(_) = notice else { break };
        }
        over.store(true, Ordering::Release);
        if let Ok(survey) = survey {
            let _ = survey.join();
        }
    }

    /// Nobody tells of tunnels with configured keys: the table does, which counts its changes.
    fn survey(&self, table: &Table, over: &AtomicBool) {
        let (mut seen, mut state) = (HashMap::new(), None);
        while !over.load(Ordering::Acquire) {
            let now = (table.change_count(), table.owned_segments(monotonic_ns()));
            if state.replace(now) != Some(now) && !self.report(table, &now.1, &mut seen) {
                return;
            }
            thread::sleep(STATIC);
        }
    }

    /// Tunnels of segments that have come are new, and those of segments that have gone are not deleted.
    fn report(&self, table: &Table, owned: &[u64; 4], seen: &mut HashMap<Name, Seen>) -> bool {
        let mut found: HashMap<Name, Seen> = HashMap::new();
        for sa in table.iter().filter(|sa| !is_negotiated(&self.config, sa.sa.name.as_str())) {
            let segment = sa.sa.segment;
            let is_owned = owned[usize::from(segment / 64)] >> (segment % 64) & 1 == 1;
            let entry = found.entry(sa.sa.name).or_insert(Seen { segment, is_owned, spis: 0 });
            entry.spis = entry.spis.wrapping_mul(31).wrapping_add(u64::from(sa.sa.spi) + 1);
        }
        let version = version_of_static(table);
        let mut told = true;
        let is_new = |(tunnel, state): &(&Name, &Seen)| state.is_owned && seen.get(*tunnel) != Some(*state);
        for (tunnel, state) in found.iter().filter(is_new) {
            let event = Event::TunnelChanged { tunnel: *tunnel, segment: state.segment, version };
            told &= self.inputs.tell(Input::Core(event));
        }
        let gone: HashSet<Name> = seen
            .iter()
            .filter(|(name, state)| state.is_owned && !found.contains_key(*name))
            .map(|(name, _)| *name)
            .collect();
        for tunnel in gone {
            told &= self.inputs.tell(Input::Core(Event::TunnelDeleted { tunnel }));
        }
        *seen = found;
        told
    }
}

/// A tunnel with configured keys.
#[derive(PartialEq, Eq)]
struct Seen {
    segment: u8,
    is_owned: bool,
    /// Another number when it has other SAs.
    spis: u64,
}

/// Configured keys change when the configuration does: the table's own count orders that.
pub(super) fn version_of_static(table: &Table) -> u64 {
    table.change_count()
}

/// What the IKE daemon tells.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    Changed(Change),
    Deleted(Change),
}

#[derive(Deserialize)]
struct Change {
    name: String,
    segment: u8,
    version: u64,
}

struct Ike {
    socket: PathBuf,
    inputs: Inputs,
    synced: Arc<AtomicBool>,
}

/// Tells the IKE daemon when standbys are in good order: it is worth waiting for them. It may have given them up by its
/// own clock, of which nobody hears here, so it is told again and again.
#[derive(Default)]
struct CaughtUp(Option<Instant>);

impl CaughtUp {
    fn tell(&mut self, stream: &UnixStream, synced: bool) -> std::io::Result<()> {
        if !synced {
            self.0 = None;
        } else if self.0.is_none_or(|told| told.elapsed() >= SYNCED) {
            self.0 = Some(Instant::now());
            write_line(stream, &json!("caught-up"))?;
        }
        Ok(())
    }
}

impl Ike {
    fn watch(&self, replies: &Receiver<Reply>) {
        loop {
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                match self.serve(&stream, replies) {
                    Ok(()) => return,
                    Err(error) => debug!(%error, "the IKE daemon is gone"),
                }
            }
            while replies.try_recv().is_ok() {}
            thread::sleep(AGAIN);
        }
    }

    /// Until the IKE daemon ends; `Ok` when this process does.
    fn serve(&self, stream: &UnixStream, replies: &Receiver<Reply>) -> std::io::Result<()> {
        self.list();
        let reading = stream.try_clone()?;
        let (inputs, over) = (self.inputs.clone(), Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&over);
        let read = move || {
            read(&reading, &inputs);
            ended.store(true, Ordering::Release);
        };
        thread::Builder::new().name("ike-changes".to_owned()).spawn(read)?;
        let mut caught_up = CaughtUp::default();
        loop {
            caught_up.tell(stream, self.synced.load(Ordering::Acquire))?;
            match replies.recv_timeout(AGAIN) {
                Ok(Reply::Replicated { tunnel, version }) => {
                    let reply = json!({ "replicated": { "name": tunnel.as_str(), "version": version } });
                    write_line(stream, &reply)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if over.load(Ordering::Acquire) {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// All tunnels that are there already, those of other nodes too: their owners say which of them are over.
    fn list(&self) {
        let Some(socket) = self.socket.parent().map(|parent| parent.join(baton_ike::control::SOCKET)) else {
            return;
        };
        let mut after: Option<String> = None;
        while let Ok(mut client) = Client::connect_to(Daemon::Ike, &socket, PATIENCE) {
            let request = match &after {
                Some(after) => json!({ "request": "context-list", "after": after }),
                None => json!({ "request": "context-list" }),
            };
            let Ok(list) = client.request::<List>(&request) else { return };
            for entry in &list.contexts {
                changed(&self.inputs, &entry.name, entry.segment, entry.version, false);
            }
            after = list.contexts.last().map(|entry| entry.name.clone());
            if !list.more || after.is_none() {
                return;
            }
        }
    }
}

#[derive(Deserialize)]
struct List {
    contexts: Vec<Listed>,
    more: bool,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    segment: u8,
    version: u64,
}

fn read(stream: &UnixStream, inputs: &Inputs) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(1..) if line.last() == Some(&b'\n') => {}
            _ => return,
        }
        match serde_json::from_slice(&line) {
            Ok(Told::Changed(it)) => {
                if !changed(inputs, &it.name, it.segment, it.version, true) {
                    return;
                }
            }
            Ok(Told::Deleted(it)) => {
                if !deleted(inputs, &it) {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "the IKE daemon says what is not understood; use daemons of one release");
            }
        }
    }
}

/// Tells the core of a change, and that somebody waits for it.
fn changed(inputs: &Inputs, name: &str, segment: u8, version: u64, awaited: bool) -> bool {
    let Ok(tunnel) = Name::new(name) else { return true };
    let told = inputs.tell(Input::Core(Event::TunnelChanged { tunnel, segment, version }));
    told && (!awaited || inputs.tell(Input::Core(Event::Await { tunnel, version })))
}

/// Tells the core of the end of a tunnel: the answer to its peer waits for that too.
fn deleted(inputs: &Inputs, change: &Change) -> bool {
    let Ok(tunnel) = Name::new(&change.name) else { return true };
    let told = inputs.tell(Input::Core(Event::TunnelDeleted { tunnel }));
    told && inputs.tell(Input::Core(Event::Await { tunnel, version: change.version }))
}

fn write_line(mut stream: &UnixStream, value: &serde_json::Value) -> std::io::Result<()> {
    stream.write_all(format!("{value}\n").as_bytes())
}
