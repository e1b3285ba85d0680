//! The control socket's side: what concerns the core is handed to the driver and answered from there.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use baton_dataplane::control::{
    Code, Conversation, Daemon, Listeners, MAX_LISTENERS, Next, Refusal, Service,
};
use serde::Serialize;

use super::input::{Ask, Input, Inputs};
use super::{DaemonError, load_credentials};
use crate::channel::Credentials;
use crate::config::Config;
use crate::control::{Done, Kind, MAX_REQUEST_OCTETS, Metrics, Reloaded, Request, Status};

/// How long the loop may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the driver answers.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Status(Box<Status>),
    Metrics(Metrics),
    Done(Done),
    Reloaded(Reloaded),
}

/// What was read again.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) credentials: Arc<Credentials>,
}

/// Reads configuration and certificates again.
pub(super) fn load(path: &std::path::Path) -> Result<Loaded, DaemonError> {
    let config = Config::load(path)?.ok_or_else(|| DaemonError::NoCluster(path.to_owned()))?;
    let credentials = load_credentials(&config)?;
    Ok(Loaded { config, credentials })
}

/// The service.
#[derive(Debug)]
pub(super) struct Desk {
    inputs: Inputs,
    configuration: PathBuf,
    listeners: Arc<Listeners<Kind>>,
}

impl Desk {
    pub(super) fn new(inputs: Inputs, configuration: PathBuf, listeners: Arc<Listeners<Kind>>) -> Self {
        Self { inputs, configuration, listeners }
    }

    fn reload(&self) -> Result<Answer, Refusal> {
        reload(&self.inputs, &self.configuration)
    }
}

/// Asks the driver.
pub(super) fn ask(inputs: &Inputs, request: Request) -> Result<Answer, Refusal> {
    let (answer, answered) = sync_channel(1);
    if !inputs.tell(Input::Ask(Ask { request, answer })) {
        return Err(busy("the daemon ends"));
    }
    wait(&answered)
}

/// Reads the configuration, and lets the driver take it over.
pub(super) fn reload(inputs: &Inputs, configuration: &std::path::Path) -> Result<Answer, Refusal> {
    let loaded = load(configuration).map_err(|error| {
        let remedy = "the running configuration stays; correct the file and reload again";
        Refusal::new(Code::Refused, error, remedy)
    })?;
    let (answer, answered) = sync_channel(1);
    if !inputs.tell(Input::Reload(Box::new(loaded), answer)) {
        return Err(busy("the daemon ends"));
    }
    wait(&answered)
}

fn wait(answered: &std::sync::mpsc::Receiver<Result<Answer, Refusal>>) -> Result<Answer, Refusal> {
    match answered.recv_timeout(PATIENCE) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => Err(busy("the daemon has too much to do; it may do this yet")),
        Err(RecvTimeoutError::Disconnected) => Err(busy("the daemon ends")),
    }
}

fn busy(message: &str) -> Refusal {
    Refusal::new(Code::Busy, message, "try again")
}

impl Service for Desk {
    type Request = Request;
    const DAEMON: Daemon = Daemon::Cluster;
    const MAX_REQUEST_OCTETS: usize = MAX_REQUEST_OCTETS;

    fn answer(&self, request: Request, client: &Conversation<'_>) -> io::Result<Next> {
        match request {
            Request::Monitor(request) => match self.listeners.listen(&request.kinds) {
                Some(listening) => client.stream_lines(&listening),
                None => client.refuse(Refusal::new(
                    Code::Busy,
                    format!("{MAX_LISTENERS} monitors are followed already"),
                    "try again when one has left",
                )),
            },
            Request::Reload => client.reply(self.reload()),
            other => client.reply(ask(&self.inputs, other)),
        }
    }
}
