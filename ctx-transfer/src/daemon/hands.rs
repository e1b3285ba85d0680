//! The thread of contexts: it reads them for standbys, installs those of other owners, and does what else takes its time.

use std::collections::{HashMap, VecDeque};
use std::io::Cursor;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::config::SnapshotKey;
use baton_dataplane::control::{Client, ClientError, Code, Daemon};
use baton_dataplane::worker::monotonic_ns;
use baton_sad::{Direction, Name, NodeId, PutKind, Sender as SaSender, Snapshot, Table};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{debug, error, info, warn};

use super::error::system;
use super::input::{Input, Inputs};
use super::memory::Memory;
use super::watch::{Reply, version_of_static};
use super::{DaemonError, desk, enforcing};
use crate::cluster::{Content, Event, Octets, Output, Refusal, Reserved, SaKey, Segments};
use crate::collect::{context_of, is_negotiated};
use crate::config::Config;
use crate::restore::{RestoreError, install_as};
use crate::{ClusterKey, Context, ContextReader, ContextWriter, IkePart, Kind, OpenWith, SealWith};

/// How long the IKE daemon, and a freeze, may take.
const PATIENCE: Duration = Duration::from_secs(5);
const FREEZE: Duration = Duration::from_millis(100);
/// Between two tries to read a context.
const AGAIN: Duration = Duration::from_millis(50);

/// What this thread is asked for.
pub(super) enum Work {
    Output(Box<Output>),
    Table(Arc<Table>),
    Reload,
}

/// The asking end.
#[derive(Clone)]
pub(super) struct Hands(Sender<Work>);

impl Hands {
    pub(super) fn work(&self, work: Work) {
        // It ends with the process only.
        let _ = self.0.send(work);
    }

    /// A signal asks for the configuration to be read again.
    pub(super) fn reload(&self) {
        self.work(Work::Reload);
    }
}

pub(super) fn start(
    config: &Config,
    inputs: Inputs,
    memory: Memory,
    replies: Sender<Reply>,
) -> Result<Hands, DaemonError> {
    let (sender, received) = channel();
    let key = match &config.gateway {
        Some(gateway) => {
            let path = gateway.snapshot.key_file.as_deref().ok_or(DaemonError::NoKey)?;
            Some(ClusterKey::new(SnapshotKey::read(path)?.as_octets()))
        }
        None => None,
    };
    let bench = Bench {
        config: config.clone(),
        key,
        inputs,
        memory,
        table: None,
        ike: None,
        staged: HashMap::new(),
        frozen: HashMap::new(),
        replies,
        unread: VecDeque::new(),
    };
    let serve = move || bench.serve(&received);
    thread::Builder::new().name("hands".to_owned()).spawn(serve).map_err(system("start a thread"))?;
    Ok(Hands(sender))
}

/// Why a context was not read.
enum Unread {
    /// There is no such tunnel any more.
    Gone,
    /// It may be there: who would know is away, or is changing it.
    Later(String),
}

impl From<String> for Unread {
    fn from(problem: String) -> Self {
        Self::Later(problem)
    }
}

impl From<ClientError> for Unread {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) if refusal.code == Code::NotFound => Self::Gone,
            error => Self::Later(error.to_string()),
        }
    }
}

struct Bench {
    config: Config,
    key: Option<ClusterKey>,
    inputs: Inputs,
    memory: Memory,
    table: Option<Arc<Table>>,
    ike: Option<Client>,
    /// Final contexts that wait for their segments.
    staged: HashMap<(NodeId, u64), Vec<Context>>,
    /// What was frozen for a move.
    frozen: HashMap<u8, Vec<(Direction, u32)>>,
    replies: Sender<Reply>,
    /// Tunnels whose contexts could not be read yet, and when that is tried again.
    unread: VecDeque<(Instant, Name)>,
}

/// The IKE daemon's answer to `context-get`.
#[derive(Deserialize)]
struct IkeContext {
    context: String,
    #[serde(default)]
    version: u64,
}

/// Its answer to `standby-put`.
#[derive(Deserialize)]
struct StandbyAnswer {
    results: Vec<StandbyResult>,
}

#[derive(Deserialize)]
struct StandbyResult {
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    problem: Option<String>,
}

impl Bench {
    fn serve(mut self, received: &Receiver<Work>) {
        loop {
            match received.recv_timeout(AGAIN) {
                Ok(Work::Table(table)) => self.table = Some(table),
                Ok(Work::Reload) => self.reload(),
                Ok(Work::Output(output)) => self.perform(*output),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.read_again();
        }
    }

    fn read_again(&mut self) {
        while let Some((_, tunnel)) = self.unread.pop_front_if(|(due, _)| *due <= Instant::now()) {
            self.give(tunnel);
        }
    }

    /// What the core has asked for. That nobody can say now what a tunnel is does not mean that it is gone.
    fn give(&mut self, tunnel: Name) {
        match self.read(tunnel) {
            Ok(event) => self.tell(event),
            Err(Unread::Gone) => self.tell(Event::NoContent { tunnel }),
            Err(Unread::Later(problem)) => {
                debug!(%tunnel, problem, "its context cannot be read yet");
                self.unread.push_back((Instant::now() + AGAIN, tunnel));
            }
        }
    }

    fn reload(&self) {
        let (inputs, path) = (self.inputs.clone(), self.config.path.clone());
        // The answer comes from the driver, and reading takes its time.
        let reload = move || match desk::reload(&inputs, &path) {
            Ok(_) => info!("configuration and certificates were read again"),
            Err(refusal) => error!(%refusal, "the configuration was refused; the running one stays"),
        };
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(reload) {
            error!(%error, "the configuration cannot be read again");
        }
    }

    fn tell(&self, event: Event) {
        self.inputs.tell(Input::Core(event));
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Enforce { segments, enforced } => self.enforce(segments, enforced),
            Output::ReadContext { tunnel } => self.give(tunnel),
            Output::Apply { from, number, octets, floors, supersedes, .. } => {
                let result = self.apply(&octets, &floors, supersedes);
                self.tell(Event::Applied { from, number, result });
            }
            Output::Remove { from, number, tunnel } => {
                let result = self.remove(tunnel);
                self.tell(Event::Applied { from, number, result });
            }
            Output::Freeze { number, segments } => {
                let event = match self.freeze(segments) {
                    Ok(parts) => Event::Frozen { number, parts },
                    Err(problem) => {
                        warn!(problem, "segments cannot be frozen for a move");
                        self.thaw(segments);
                        Event::NotFrozen { number }
                    }
                };
                self.tell(event);
            }
            Output::Thaw { segments } => self.thaw(segments),
            Output::Stage { from, number, parts } => {
                let result = self.stage(from, number, &parts);
                self.tell(Event::Staged { from, number, result });
            }
            Output::Commit { from, number } => self.commit(from, number),
            Output::Discard { from, number } => drop(self.staged.remove(&(from, number))),
            Output::Rekey { segments } => self.rekey(segments),
            Output::Replicated { tunnel, version, .. } => {
                let _ = self.replies.send(Reply::Replicated { tunnel, version });
            }
            Output::Remember(remembered) => {
                if let Err(error) = self.memory.store(&remembered) {
                    warn!(%error, "votes are not remembered over a restart");
                }
            }
            // RFC 6311 follows from what the IKE daemon is told with `own`; nothing is forwarded where all gateways
            // hear all packets.
            other => debug!(?other, "nothing to do"),
        }
    }

    /// In the order of what the core wants: see `enforcing`.
    fn enforce(&self, segments: Segments, enforced: bool) {
        let Some(table) = &self.table else { return };
        if enforced {
            enforcing::begin(table, segments, &self.config.cluster.reserving);
        } else {
            enforcing::end(table, segments);
        }
    }

    /// After a refusal the daemon may have hung up: the next question begins anew.
    fn ask<T: DeserializeOwned>(&mut self, request: &Value) -> Result<T, ClientError> {
        let mut client = if let Some(client) = self.ike.take() {
            client
        } else {
            let socket = self.config.node.runtime_directory.join(baton_ike::control::SOCKET);
            Client::connect_to(Daemon::Ike, &socket, PATIENCE)?
        };
        let answer = client.request(request)?;
        self.ike = Some(client);
        Ok(answer)
    }

    fn table(&self) -> Result<Arc<Table>, String> {
        self.table.clone().ok_or_else(|| "there is no SA table".to_owned())
    }

    fn is_negotiated(&self, tunnel: Name) -> bool {
        self.config.gateway.as_ref().is_some_and(|gateway| is_negotiated(gateway, tunnel.as_str()))
    }

    /// The IKE part and the SAs of one moment: the part did not change while the SAs were read.
    fn read(&mut self, tunnel: Name) -> Result<Event, Unread> {
        let table = self.table()?;
        let (sas, ike, version) = if self.is_negotiated(tunnel) {
            self.read_negotiated(&table, tunnel)?
        } else {
            let sas = table.read_by_name(tunnel.as_str()).map_err(|error| error.to_string())?;
            if sas.is_empty() {
                return Err(Unread::Gone);
            }
            (sas, None, version_of_static(&table))
        };
        let segment = segment_of(tunnel, &sas).ok_or_else(|| "it has no segment".to_owned())?;
        let reserved = sas.iter().map(reserved).collect();
        let octets = self.seal(&[context_of(&table, tunnel, sas, ike, Kind::Copy)])?;
        Ok(Event::Content(Content { tunnel, segment, version, octets, reserved }))
    }

    #[allow(clippy::type_complexity)]
    fn read_negotiated(
        &mut self,
        table: &Table,
        tunnel: Name,
    ) -> Result<(Vec<Snapshot>, Option<IkePart>, u64), Unread> {
        const TRIES: usize = 4;
        let request = json!({ "request": "context-get", "name": tunnel.as_str() });
        let mut before: IkeContext = self.ask(&request)?;
        for _ in 0..TRIES {
            let sas = table.read_by_name(tunnel.as_str()).map_err(|error| error.to_string())?;
            let after: IkeContext = self.ask(&request)?;
            if before.context == after.context {
                let part = hex::decode(&after.context).ok().and_then(IkePart::new);
                let part = part.ok_or_else(|| "its IKE part is damaged".to_owned())?;
                return Ok((sas, Some(part), after.version));
            }
            before = after;
        }
        Err("it changes faster than it is read".to_owned().into())
    }

    /// In flight as at rest: sealed under the cluster key, whatever the channel does.
    fn seal(&self, contexts: &[Context]) -> Result<Octets, String> {
        let key = self.key.as_ref().ok_or("there is no cluster key")?;
        let sealed = || -> Result<Vec<u8>, crate::SealError> {
            let mut writer = ContextWriter::new(Vec::new(), SealWith::Key(key))?;
            contexts.iter().try_for_each(|context| writer.write(context))?;
            writer.finish()
        };
        sealed().map(Octets::from).map_err(|error| error.to_string())
    }

    fn open(&self, octets: &Octets) -> Result<Vec<Context>, Refusal> {
        let with = OpenWith { key: self.key.as_ref(), clear: false };
        let read = || -> Result<Vec<Context>, crate::OpenError> {
            let mut reader = ContextReader::new(Cursor::new(octets.0.as_slice()), with)?;
            std::iter::from_fn(|| reader.next().transpose()).collect()
        };
        read().map_err(|error| {
            warn!(%error, "a context of another node cannot be read");
            Refusal::Malformed
        })
    }

    /// Installs a copy of what another node owns. The IKE daemon, which knows the versions, is asked before the table is
    /// touched.
    fn apply(&mut self, octets: &Octets, floors: &[Reserved], supersedes: bool) -> Result<(), Refusal> {
        let contexts = self.open(octets)?;
        let table = self.table().map_err(|_| Refusal::Unavailable)?;
        for context in &contexts {
            self.check(&table, context)?;
            if let Some(part) = &context.ike {
                self.hand_over(context.name, part, supersedes)?;
            }
            remove_others(&table, context)?;
            let us = SaSender { cluster: table.cluster(), node: table.node() };
            install_as(PutKind::Standby, &table, context, us).map_err(|error| refusal(&error))?;
        }
        let floors: Vec<_> = floors
            .iter()
            .map(|floor| baton_sad::Floor { sa: floor.key.in_table(), floor: floor.number })
            .collect();
        table.raise_floors(&floors).map_err(|_| Refusal::Unavailable)?;
        Ok(())
    }

    /// Not what this node owns itself, and not what its configuration has otherwise.
    fn check(&self, table: &Table, context: &Context) -> Result<(), Refusal> {
        let now = monotonic_ns();
        if context.sas.iter().any(|offered| table.lease(offered.sa.segment) > now) {
            return Err(Refusal::Policy);
        }
        let gateway = self.config.gateway.as_ref().ok_or(Refusal::Policy)?;
        let name = context.name.as_str();
        let fits = match &context.ike {
            Some(_) => is_negotiated(gateway, name),
            None => crate::collect::differences(gateway, context).is_some_and(|found| found.is_empty()),
        };
        if fits { Ok(()) } else { Err(Refusal::Policy) }
    }

    /// What a new owner has takes the place of what the former one had, though it may be of an earlier change.
    fn hand_over(&mut self, tunnel: Name, part: &IkePart, supersedes: bool) -> Result<(), Refusal> {
        let mut refusal = self.put_in_ike(part)?;
        if supersedes && refusal.as_ref().is_some_and(|result| result.version.is_some()) {
            let request = json!({ "request": "standby-remove", "names": [tunnel.as_str()] });
            self.ask::<Value>(&request).map_err(|_| Refusal::Unavailable)?;
            refusal = self.put_in_ike(part)?;
        }
        let Some(problem) = refusal.and_then(|result| result.problem) else { return Ok(()) };
        warn!(problem, "the IKE daemon refuses a context");
        Err(Refusal::Policy)
    }

    /// Why the IKE daemon does not take a context; with a version if it has one of a later change.
    fn put_in_ike(&mut self, part: &IkePart) -> Result<Option<StandbyResult>, Refusal> {
        let request = json!({ "request": "standby-put", "contexts": [hex::encode(part.octets())] });
        let answer: StandbyAnswer = self.ask(&request).map_err(|problem| {
            warn!(%problem, "the IKE daemon takes no context");
            Refusal::Unavailable
        })?;
        Ok(answer.results.into_iter().find(|result| result.problem.is_some()))
    }

    fn remove(&mut self, tunnel: Name) -> Result<(), Refusal> {
        let table = self.table().map_err(|_| Refusal::Unavailable)?;
        let installed = table.read_by_name(tunnel.as_str()).map_err(|_| Refusal::Unavailable)?;
        let now = monotonic_ns();
        if installed.iter().any(|found| table.lease(found.sa.segment) > now) {
            return Err(Refusal::Policy);
        }
        let keys: Vec<_> = installed.iter().map(|found| (found.sa.direction, found.sa.index_key())).collect();
        table.remove(&keys).map_err(|_| Refusal::Unavailable)?;
        if self.is_negotiated(tunnel) {
            let request = json!({ "request": "standby-remove", "names": [tunnel.as_str()] });
            self.ask::<Value>(&request).map_err(|_| Refusal::Unavailable)?;
        }
        Ok(())
    }

    /// The leases are dropped already: no worker uses these SAs after its batch. Their counters are final then.
    fn freeze(&mut self, segments: Segments) -> Result<Vec<Octets>, String> {
        let table = self.table()?;
        table.wait_until_quiescent(FREEZE).map_err(|error| error.to_string())?;
        let mut tunnels: HashMap<Name, Vec<(Direction, u32)>> = HashMap::new();
        for edge in table.edges(&segments.words()) {
            let found = table.get(edge.sa.direction, edge.sa.key).map_err(|error| error.to_string())?;
            if let Some(found) = found.filter(|found| !found.frozen) {
                tunnels.entry(found.sa.name).or_default().push((edge.sa.direction, edge.sa.key));
            }
        }
        let mut parts = Vec::new();
        for (tunnel, keys) in tunnels {
            let sas = table.freeze(&keys, FREEZE).map_err(|error| error.to_string())?;
            if let Some(segment) = segment_of(tunnel, &sas) {
                self.frozen.entry(segment).or_default().extend(keys);
            }
            parts.push(self.seal(&[context_of(&table, tunnel, sas, None, Kind::Move)])?);
        }
        Ok(parts)
    }

    fn thaw(&mut self, segments: Segments) {
        let Some(table) = self.table.clone() else { return };
        for segment in segments.iter() {
            let keys = self.frozen.remove(&segment).unwrap_or_default();
            if let Err(error) = table.thaw(&keys) {
                warn!(%error, "SAs that were frozen for a move stay so");
            }
        }
    }

    fn stage(&mut self, from: NodeId, number: u64, parts: &[Octets]) -> Result<(), Refusal> {
        let mut contexts = Vec::new();
        // Segments without a tunnel have one part with nothing in it.
        for part in parts.iter().filter(|part| !part.0.is_empty()) {
            contexts.extend(self.open(part)?);
        }
        let table = self.table().map_err(|_| Refusal::Unavailable)?;
        contexts.iter().try_for_each(|context| check_staged(&table, context))?;
        self.staged.insert((from, number), contexts);
        Ok(())
    }

    /// Counters exactly as the old owner has left them.
    fn commit(&mut self, from: NodeId, number: u64) {
        let contexts = self.staged.remove(&(from, number)).unwrap_or_default();
        let Some(table) = self.table.clone() else { return };
        let us = SaSender { cluster: table.cluster(), node: table.node() };
        for context in contexts {
            if let Err(error) = install_as(PutKind::Move, &table, &context, us) {
                warn!(%error, tunnel = %context.name, "its counters jump ahead instead of going on exactly");
            }
        }
    }

    fn rekey(&mut self, segments: Segments) {
        let Some(table) = self.table.clone() else { return };
        let mut names: Vec<Name> = table
            .iter()
            .filter(|found| segments.contains(found.sa.segment))
            .map(|found| found.sa.name)
            .filter(|name| self.is_negotiated(*name))
            .collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return;
        }
        let names: Vec<&str> = names.iter().map(Name::as_str).collect();
        if let Err(problem) = self.ask::<Value>(&json!({ "request": "rekey-tunnels", "names": names })) {
            warn!(%problem, "tunnels that should be rekeyed are not");
        }
    }
}

/// SAs that the owner does not have any more.
fn remove_others(table: &Table, context: &Context) -> Result<(), Refusal> {
    let installed = table.read_by_name(context.name.as_str()).map_err(|_| Refusal::Unavailable)?;
    let is_offered = |found: &&Snapshot| {
        context.sas.iter().any(|offered| {
            (offered.sa.direction, offered.sa.index_key()) == (found.sa.direction, found.sa.index_key())
        })
    };
    let others: Vec<_> = installed
        .iter()
        .filter(|found| !is_offered(found))
        .map(|found| (found.sa.direction, found.sa.index_key()))
        .collect();
    if !others.is_empty() {
        table.remove(&others).map_err(|_| Refusal::Unavailable)?;
    }
    Ok(())
}

/// The tunnel is a standby of ours already, so that only its counters change.
fn check_staged(table: &Table, context: &Context) -> Result<(), Refusal> {
    for offered in &context.sas {
        let found =
            table.get(offered.sa.direction, offered.sa.index_key()).map_err(|_| Refusal::Unavailable)?;
        if found.is_none_or(|found| !found.sa.key.ct_eq(&offered.sa.key)) {
            return Err(Refusal::Unavailable);
        }
    }
    Ok(())
}

/// Of its SAs; of one that has none its name says it.
fn segment_of(tunnel: Name, sas: &[Snapshot]) -> Option<u8> {
    let named = || {
        let (_, number) = baton_ike_proto::host::TunnelName::parse(tunnel.as_str())?;
        Some(number.to_be_bytes()[0])
    };
    sas.first().map(|found| found.sa.segment).or_else(named)
}

fn reserved(found: &Snapshot) -> Reserved {
    let key = SaKey::of(baton_sad::SaKey {
        direction: found.sa.direction,
        key: found.sa.index_key(),
        spi: found.sa.spi,
    });
    Reserved { key, number: found.reservation.reserved.max(found.counters.edge()) }
}

fn refusal(error: &RestoreError) -> Refusal {
    warn!(%error, "a context of another node is not installed");
    match error {
        RestoreError::Put(baton_sad::PutError::Full(_)) => Refusal::Full,
        RestoreError::Get(_) | RestoreError::Freeze(_) | RestoreError::Write(_) | RestoreError::Put(_) => {
            Refusal::Unavailable
        }
        RestoreError::Later { .. } => Refusal::Malformed,
        _ => Refusal::Policy,
    }
}
