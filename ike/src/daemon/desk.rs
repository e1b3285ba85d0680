//! The control socket's side of the daemon: what needs the protocol is handed to the loop and answered from there; what
//! does not, such as logs, is answered here.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use baton_dataplane::control::{
    Code, Conversation, Counters, Daemon, Listeners, MAX_LISTENERS, Next, Refusal, Service,
};
use baton_ike_proto::machine::heading;
use serde::Serialize;

use super::reload::{self, Loaded};
use crate::control::{
    Connections, ContextAnswer, ContextList, Done, IkeEntry, IkeList, Kind, LogRequest, MAX_REQUEST_OCTETS,
    Reloaded, Request, RestoreAnswer, StandbyAnswer, Status,
};
use crate::log::{KEPT_LINES, Log};
use crate::store::Store;
use crate::wake::Wake;

/// Requests that may wait for the loop.
const ROOM: usize = 64;
/// How long the loop may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the loop is asked.
#[derive(Debug)]
pub(super) enum Question {
    /// A request of a client.
    Request(Request),
    /// A configuration that was read again.
    Reconfigure(Box<Loaded>),
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) question: Question,
    pub(super) answer: SyncSender<Result<Answer, Refusal>>,
}

/// What the loop answers.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Status(Status),
    Counters(Counters),
    Connections(Connections),
    Tunnels(IkeList),
    Tunnel(Box<IkeEntry>),
    Done(Done),
    Reloaded(Reloaded),
    Restored(RestoreAnswer),
    Standby(StandbyAnswer),
    Contexts(ContextList),
}

/// The service.
#[derive(Debug)]
pub(super) struct Desk {
    asks: SyncSender<Ask>,
    wake: Wake,
    configuration: PathBuf,
    store: Store,
    listeners: Arc<Listeners<Kind>>,
    log: Log,
}

impl Desk {
    /// A desk, and the loop's end of it.
    pub(super) fn new(
        wake: Wake,
        configuration: PathBuf,
        store: Store,
        listeners: Arc<Listeners<Kind>>,
        log: Log,
    ) -> (Self, Receiver<Ask>) {
        let (asks, received) = sync_channel(ROOM);
        (Self { asks, wake, configuration, store, listeners, log }, received)
    }

    /// Reads the configuration, and lets the loop take it over.
    pub(super) fn reload(&self) -> Result<Answer, Refusal> {
        let loaded = reload::load(&self.configuration).map_err(|error| {
            Refusal::new(
                Code::Refused,
                error,
                "the running configuration stays; correct the file and reload again",
            )
        })?;
        self.ask(Question::Reconfigure(Box::new(loaded)))
    }

    fn ask(&self, question: Question) -> Result<Answer, Refusal> {
        let (answer, answered) = sync_channel(1);
        self.asks.try_send(Ask { question, answer }).map_err(|error| match error {
            TrySendError::Full(_) => busy("too many requests wait already"),
            TrySendError::Disconnected(_) => busy("the daemon ends"),
        })?;
        self.wake.wake();
        match answered.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(busy("the daemon has too much to do; it may do this yet")),
            Err(RecvTimeoutError::Disconnected) => Err(busy("the daemon ends")),
        }
    }

    fn context(&self, name: &str) -> Result<ContextAnswer, Refusal> {
        let found =
            self.store.get(name).map_err(|error| Refusal::new(Code::Internal, error, "see the log"))?;
        let context = found.ok_or_else(|| no_tunnel(name))?;
        let heading =
            heading(&context).map_err(|error| Refusal::new(Code::Internal, error, "see the log"))?;
        let (segment, version) = (heading.segment, heading.version);
        Ok(ContextAnswer { name: name.to_owned(), context: hex::encode(context), segment, version })
    }

    fn log(&self, request: &LogRequest, client: &Conversation<'_>) -> io::Result<Next> {
        let lines = request.lines.min(KEPT_LINES);
        let (last, following) = if request.follow {
            match self.log.follow(lines) {
                Some((last, listening)) => (last, Some(listening)),
                None => return client.refuse(crowded("logs")),
            }
        } else {
            (self.log.last(lines), None)
        };
        client.begin_stream()?;
        for line in last {
            let mut line = serde_json::to_vec(&line)?;
            line.push(b'\n');
            client.out().write_all(&line)?;
        }
        following.map_or(Ok(Next::End), |listening| client.continue_lines(&listening))
    }
}

fn busy(message: &str) -> Refusal {
    Refusal::new(Code::Busy, message, "try again")
}

fn crowded(what: &str) -> Refusal {
    Refusal::new(
        Code::Busy,
        format!("{MAX_LISTENERS} {what} are followed already"),
        "try again when one has left",
    )
}

pub(super) fn no_tunnel(name: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no tunnel {name}"), "`dpctl ike list` shows the tunnels")
}

impl Service for Desk {
    type Request = Request;
    const DAEMON: Daemon = Daemon::Ike;
    const MAX_REQUEST_OCTETS: usize = MAX_REQUEST_OCTETS;

    fn answer(&self, request: Request, client: &Conversation<'_>) -> io::Result<Next> {
        match request {
            Request::Monitor(request) => match self.listeners.listen(&request.kinds) {
                Some(listening) => client.stream_lines(&listening),
                None => client.refuse(crowded("monitors")),
            },
            Request::Log(request) => self.log(&request, client),
            Request::ContextGet { name } => client.reply(self.context(&name)),
            Request::Reload => client.reply(self.reload()),
            other => client.reply(self.ask(Question::Request(other))),
        }
    }
}
