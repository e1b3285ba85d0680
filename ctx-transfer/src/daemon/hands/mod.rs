//! The thread of contexts: it reads them for standbys, installs those of other owners, and does what else takes its time.

mod advance;
mod content;
mod moves;
mod standby;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::config::SnapshotKey;
use baton_dataplane::control::{Client, ClientError, Daemon};
use baton_sad::{Direction, Name, NodeId, Table};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::{debug, error, info, warn};

use super::backlog::Share;
use super::error::system;
use super::input::{Input, Inputs};
use super::watch::Reply;
use super::{DaemonError, desk, enforcing};
use crate::cluster::{Event, Output, Segments};
use crate::collect::is_negotiated;
use crate::config::Config;
use crate::{ClusterKey, Context};

/// How long the IKE daemon, and a freeze, may take.
const PATIENCE: Duration = Duration::from_secs(5);
const FREEZE: Duration = Duration::from_millis(100);
/// Between two tries to read a context.
const AGAIN: Duration = Duration::from_millis(50);

/// What this thread is asked for.
pub(super) enum Work {
    Output(Box<Output>, Option<Share>),
    Table(Arc<Table>),
    Reload,
}

/// The asking end.
#[derive(Clone)]
pub(super) struct Hands {
    contexts: Sender<Work>,
    /// While a segment is frozen nobody handles its packets: no context is read in between.
    moves: Sender<Work>,
}

impl Hands {
    pub(super) fn work(&self, work: Work) {
        // They end with the process only.
        let _ = match work {
            Work::Table(table) => {
                let _ = self.moves.send(Work::Table(Arc::clone(&table)));
                self.contexts.send(Work::Table(table))
            }
            Work::Output(output, share) if is_of_move(&output) => {
                self.moves.send(Work::Output(output, share))
            }
            other => self.contexts.send(other),
        };
    }

    /// A signal asks for the configuration to be read again.
    pub(super) fn reload(&self) {
        self.work(Work::Reload);
    }
}

pub(super) fn start(config: &Config, inputs: &Inputs, replies: &Sender<Reply>) -> Result<Hands, DaemonError> {
    let (contexts, moves) = (channel(), channel());
    for (name, received) in [("hands", contexts.1), ("moves", moves.1)] {
        let bench = Bench::new(config, inputs.clone(), replies.clone())?;
        let serve = move || bench.serve(&received);
        thread::Builder::new().name(name.to_owned()).spawn(serve).map_err(system("start a thread"))?;
    }
    Ok(Hands { contexts: contexts.0, moves: moves.0 })
}

/// What a planned move waits for. Nothing of it depends on contexts that are still to be installed: the core waits for
/// them before.
const fn is_of_move(output: &Output) -> bool {
    matches!(
        output,
        Output::Silence { .. }
            | Output::Freeze { .. }
            | Output::Thaw { .. }
            | Output::Hold { .. }
            | Output::EndHold { .. }
            | Output::Stage { .. }
            | Output::Commit { .. }
            | Output::Discard { .. }
    )
}

struct Bench {
    config: Config,
    key: Option<ClusterKey>,
    inputs: Inputs,
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

impl Bench {
    fn new(config: &Config, inputs: Inputs, replies: Sender<Reply>) -> Result<Self, DaemonError> {
        let key = match &config.gateway {
            Some(gateway) => {
                let path = gateway.snapshot.key_file.as_deref().ok_or(DaemonError::NoKey)?;
                Some(ClusterKey::new(SnapshotKey::read(path)?.as_octets()))
            }
            None => None,
        };
        Ok(Self {
            config: config.clone(),
            key,
            inputs,
            table: None,
            ike: None,
            staged: HashMap::new(),
            frozen: HashMap::new(),
            replies,
            unread: VecDeque::new(),
        })
    }

    fn serve(mut self, received: &Receiver<Work>) {
        loop {
            match received.recv_timeout(AGAIN) {
                Ok(Work::Table(table)) => self.table = Some(table),
                Ok(Work::Reload) => self.reload(),
                Ok(Work::Output(output, _share)) => self.perform(*output),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.read_again();
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
            Output::Apply { from, number, octets, floors, tunnel, segment, supersedes, .. } => {
                let result = self.apply((tunnel, segment), &octets, &floors, supersedes);
                self.tell(Event::Applied { from, number, result });
            }
            Output::Remove { from, number, tunnel } => {
                let result = self.remove(tunnel);
                self.tell(Event::Applied { from, number, result });
            }
            Output::Silence { number, segments } => {
                let event = match self.silence(segments) {
                    Ok(tunnels) => Event::Silent { number, tunnels },
                    Err(problem) => {
                        warn!(problem, "the IKE daemon does not stop for a move");
                        Event::NotFrozen { number }
                    }
                };
                self.tell(event);
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
            Output::Hold { from, number, segments, until } => {
                self.hold(segments, until);
                self.tell(Event::Holding { from, number });
            }
            Output::EndHold { segments } => self.set_holds(segments, Duration::ZERO),
            Output::Stage { from, number, parts } => {
                let result = self.stage(from, number, &parts);
                self.tell(Event::Staged { from, number, result });
            }
            Output::Commit { from, number, segments } => {
                let exact = self.commit(from, number);
                self.tell(Event::Prepared { segments, exact });
            }
            Output::Discard { from, number } => drop(self.staged.remove(&(from, number))),
            Output::Prepare { segments, advance } => {
                // Without an answer these segments are given up.
                if self.advance(advance) {
                    self.tell(Event::Prepared { segments, exact: false });
                }
            }
            Output::Replicated { tunnel, version, .. } => {
                let _ = self.replies.send(Reply::Replicated { tunnel, version });
            }
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
}
