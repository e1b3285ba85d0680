//! Policies, brought into force through the data plane's control socket by a thread of their own: the protocol never
//! waits for it. The data plane keeps them over its restarts; what changes while it is away is made good when it is
//! back.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use baton_dataplane::config::{ActionWord, PolicyDirection, PolicySpec};
use baton_dataplane::control::{
    Client, ClientError, Code, InsideEntry, Policies as Installed, PolicyEntry, PolicyOrigin, PolicyReport,
    Request,
};
use baton_ike_proto::Command;
use baton_ike_proto::host::PolicyInstall;
use tracing::{info, warn};

use super::inside::{self, Insides};
use crate::reports::{Report, Reports};

/// Policies of one request: its line has room for more, but others want to ask too.
const AT_ONCE: usize = 256;
/// How long the data plane may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an absent data plane is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Changes that are remembered one by one while the data plane is away; with more, all policies are compared.
const MAX_WAITING: usize = 10_000;

/// Marks reqids that the protocol has chosen: below the segment's octet the top bit.
const CHOSEN: u32 = 0x80_0000;

/// A change of the policies in force.
pub(super) enum Change {
    /// This one from now on.
    Add(Wanted),
    /// These no more.
    Remove {
        /// Their names.
        names: Vec<String>,
        /// Whether what they protected stays closed (I7).
        keep_prohibited: bool,
    },
    /// A tunnel has this inside from now on.
    Inside(InsideEntry),
    /// All tunnels that there were are known: others have nothing inside.
    SettleInside,
    /// All tunnels that there were are known: policies of others are removed.
    Settle,
}

/// A policy that is to be in force.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The policy.
    pub(super) policy: PolicySpec,
    /// Our SPI of the Child SA that is dead without it, if there is one already.
    pub(super) spi: Option<u32>,
}

/// Where changes go.
#[derive(Clone, Debug)]
pub(super) struct Policies {
    changes: Sender<Change>,
    progress: Arc<Progress>,
}

/// How far the thread has come.
#[derive(Debug, Default)]
struct Progress {
    /// Changes that were asked for.
    asked: AtomicU64,
    /// Those of them that are in force, from the first one on.
    in_force: AtomicU64,
    /// The data plane does not answer.
    is_away: AtomicBool,
}

impl Policies {
    /// Begins to work. The loop is woken when changes have come into force.
    pub(super) fn start(control_socket: PathBuf, reports: Reports) -> std::io::Result<Self> {
        let (changes, received) = channel();
        let progress = Arc::new(Progress::default());
        let clerk = Clerk::new(control_socket, reports, Arc::clone(&progress));
        thread::Builder::new().name("policies".to_owned()).spawn(move || clerk.run(&received))?;
        Ok(Self { changes, progress })
    }

    /// In the order of the calls.
    pub(super) fn change(&self, change: Change) {
        self.progress.asked.fetch_add(1, Ordering::AcqRel);
        // The thread ends only with the process.
        let _ = self.changes.send(change);
    }

    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.progress.asked.load(Ordering::Acquire)
    }

    /// Whether the change of that number, and all before it, need not be waited for: they are in force, or the data
    /// plane is away.
    pub(super) fn is_in_force(&self, change: u64) -> bool {
        self.progress.is_away.load(Ordering::Acquire)
            || self.progress.in_force.load(Ordering::Acquire) >= change
    }

    /// Changes that are not in force yet.
    pub(super) fn waiting(&self) -> u64 {
        self.last().saturating_sub(self.progress.in_force.load(Ordering::Acquire))
    }
}

/// The policy of the data plane's configuration that a negotiated one is.
pub(super) fn spec(policy: &PolicyInstall) -> PolicySpec {
    PolicySpec {
        name: policy.name.clone(),
        action: ActionWord::Protect,
        direction: PolicyDirection::Both,
        priority: policy.priority,
        local_selectors: policy.local.iter().map(ToString::to_string).collect(),
        remote_selectors: policy.remote.iter().map(ToString::to_string).collect(),
        reqid: Some(policy.reqid),
        segment: Some(policy.segment),
    }
}

/// The thread's own.
struct Clerk {
    control_socket: PathBuf,
    client: Option<Client>,
    reports: Reports,
    /// All that are to be in force.
    wanted: BTreeMap<String, Wanted>,
    /// Removals that the data plane has not confirmed, and whether what they protected stays closed.
    leaving: BTreeMap<String, bool>,
    insides: Insides,
    queue: VecDeque<Change>,
    /// Changes so far.
    noted: u64,
    progress: Arc<Progress>,
    /// What is in force has to be compared with what is wanted.
    is_out_of_step: bool,
    /// Policies of tunnels that are not known may be removed.
    is_settled: bool,
}

impl Clerk {
    fn new(control_socket: PathBuf, reports: Reports, progress: Arc<Progress>) -> Self {
        Self {
            control_socket,
            client: None,
            reports,
            wanted: BTreeMap::new(),
            leaving: BTreeMap::new(),
            insides: Insides::default(),
            queue: VecDeque::new(),
            noted: 0,
            progress,
            is_out_of_step: true,
            is_settled: false,
        }
    }

    fn run(mut self, changes: &Receiver<Change>) {
        loop {
            let is_idle = self.queue.is_empty() && !self.is_out_of_step;
            let patience = if is_idle { Duration::MAX } else { RETRY };
            match changes.recv_timeout(patience) {
                Ok(change) => self.note(change),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(change) = changes.try_recv() {
                self.note(change);
            }
            if let Err(error) = self.catch_up() {
                self.lose(&error);
            }
        }
    }

    fn note(&mut self, change: Change) {
        match &change {
            Change::Add(wanted) => {
                self.leaving.remove(&wanted.policy.name);
                self.wanted.insert(wanted.policy.name.clone(), wanted.clone());
            }
            Change::Remove { names, keep_prohibited } => {
                for name in names {
                    self.wanted.remove(name);
                }
                // Those that are compared before their turn comes are removed then.
                self.leaving.extend(names.iter().map(|name| (name.clone(), *keep_prohibited)));
            }
            Change::Inside(entry) => self.insides.note(entry),
            Change::SettleInside => (self.insides.is_settled, self.is_out_of_step) = (true, true),
            Change::Settle => (self.is_settled, self.is_out_of_step) = (true, true),
        }
        self.noted += 1;
        self.queue.push_back(change);
        if self.queue.len() > MAX_WAITING {
            self.queue.clear();
            self.leaving.clear();
            self.is_out_of_step = true;
        }
    }

    /// Tells the loop what is in force.
    fn tell_progress(&self) {
        if !self.is_out_of_step {
            self.progress.is_away.store(false, Ordering::Release);
            self.progress.in_force.store(self.noted - self.queue.len() as u64, Ordering::Release);
            self.reports.wake();
        }
    }

    /// The data plane is away, or it was not ours that answered: when it is back, all is compared, because nobody
    /// knows which of the last changes it has seen.
    fn lose(&mut self, error: &ClientError) {
        if self.client.take().is_some() || !self.is_out_of_step {
            warn!(%error, "policies wait for the data plane");
        }
        self.is_out_of_step = true;
        self.progress.is_away.store(true, Ordering::Release);
        self.reports.wake();
        thread::sleep(RETRY);
    }

    fn catch_up(&mut self) -> Result<(), ClientError> {
        if self.is_out_of_step {
            self.compare()?;
        }
        self.tell_progress();
        while let Some(change) = self.queue.pop_front() {
            match change {
                Change::Add(first) => {
                    let batch = self.more_to_add(first);
                    self.add(&batch)?;
                }
                Change::Remove { names, keep_prohibited } => {
                    self.leaving.extend(names.iter().map(|name| (name.clone(), keep_prohibited)));
                    self.remove(&names, keep_prohibited)?;
                    for name in &names {
                        self.leaving.remove(name);
                    }
                }
                Change::Inside(entry) => self.ask_inside(&inside::request(entry))?,
                Change::Settle | Change::SettleInside => {}
            }
            self.tell_progress();
        }
        Ok(())
    }

    /// This one and those that follow it, each name once: a request has no order.
    fn more_to_add(&mut self, first: Wanted) -> Vec<Wanted> {
        let mut batch = vec![first];
        while batch.len() < AT_ONCE {
            match self.queue.pop_front() {
                Some(Change::Add(wanted)) if batch.iter().all(|b| b.policy.name != wanted.policy.name) => {
                    batch.push(wanted);
                }
                Some(other) => {
                    self.queue.push_front(other);
                    break;
                }
                None => break,
            }
        }
        batch
    }

    /// Brings all in line: nobody's go, all that are wanted come. Those that are there are left as they are.
    fn compare(&mut self) -> Result<(), ClientError> {
        self.compare_inside()?;
        while let Some((name, keep_prohibited)) = self.leaving.first_key_value() {
            let (name, keep_prohibited) = (name.clone(), *keep_prohibited);
            self.remove(std::slice::from_ref(&name), keep_prohibited)?;
            self.leaving.remove(&name);
        }
        let installed: Installed = self.ask(&Request::Policies)?;
        if self.is_settled {
            let nobodys = installed.policies.iter().filter(|entry| is_negotiated(entry));
            let nobodys = nobodys.filter(|entry| !self.wanted.contains_key(&entry.name));
            let names: Vec<String> = nobodys.map(|entry| entry.name.clone()).collect();
            for names in names.chunks(AT_ONCE) {
                info!(policies = names.len(), "removing policies of tunnels that are no more");
                self.remove(names, true)?;
            }
        }
        let wanted: Vec<Wanted> = self.wanted.values().cloned().collect();
        for batch in wanted.chunks(AT_ONCE) {
            self.add(batch)?;
        }
        self.queue.clear();
        self.is_out_of_step = false;
        Ok(())
    }

    /// The same for what tunnels have inside.
    fn compare_inside(&mut self) -> Result<(), ClientError> {
        if self.insides.is_unused() {
            return Ok(());
        }
        let answer = self.ask(&Request::Inside);
        let there = inside::heed(answer)?;
        self.insides.differences(&there).iter().try_for_each(|request| self.ask_inside(request))
    }

    fn ask_inside(&mut self, request: &Request) -> Result<(), ClientError> {
        let answer = self.ask(request);
        inside::heed(answer).map(drop)
    }

    /// Puts policies into force; if the data plane refuses some, the others all the same.
    fn add(&mut self, batch: &[Wanted]) -> Result<(), ClientError> {
        let policies = batch.iter().map(|wanted| wanted.policy.clone()).collect();
        match self.ask::<PolicyReport>(&Request::PolicyAdd { policies }) {
            Ok(_) => Ok(()),
            Err(ClientError::Refused(refusal)) if refusal.code != Code::Busy => {
                if let [wanted] = batch {
                    self.refused(wanted, &refusal.to_string());
                    return Ok(());
                }
                let (first, second) = batch.split_at(batch.len() / 2);
                self.add(first)?;
                self.add(second)
            }
            Err(error) => Err(error),
        }
    }

    fn refused(&mut self, wanted: &Wanted, problem: &str) {
        let PolicySpec { name, reqid, .. } = &wanted.policy;
        warn!(policy = name, problem, "the data plane refuses a policy");
        self.wanted.remove(name);
        let failed = wanted.spi.zip(*reqid).map(|(spi, reqid)| Command::InstallFailed { reqid, spi });
        let problem = format!("the policy of tunnel {name} is refused: {problem}");
        self.reports.send(Report::PolicyRefused { problem, failed });
    }

    fn remove(&mut self, names: &[String], keep_prohibited: bool) -> Result<(), ClientError> {
        let request = |names: &[String]| Request::PolicyRemove { names: names.to_vec(), keep_prohibited };
        match self.ask::<PolicyReport>(&request(names)) {
            Ok(_) => Ok(()),
            // One that is not there keeps the others in place.
            Err(ClientError::Refused(_)) if names.len() > 1 => {
                names.chunks(1).try_for_each(|name| self.remove(name, keep_prohibited))
            }
            Err(ClientError::Refused(refusal)) => {
                if refusal.code != Code::NotFound {
                    warn!(policies = ?names, %refusal, "policies cannot be removed");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn ask<T: serde::de::DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        if self.client.is_none() {
            self.client = Some(Client::connect(&self.control_socket, PATIENCE)?);
        }
        match self.client.as_mut() {
            Some(client) => client.request(request).inspect_err(|error| {
                if !matches!(error, ClientError::Refused(_)) {
                    self.client = None;
                }
            }),
            None => Err(not_reachable(&self.control_socket)),
        }
    }
}

fn not_reachable(path: &Path) -> ClientError {
    let source = std::io::ErrorKind::NotConnected.into();
    ClientError::NotReachable {
        daemon: baton_dataplane::control::Daemon::DataPlane,
        path: path.to_owned(),
        source,
    }
}

/// Whether a policy is one that the protocol has put into force, by its reqid.
fn is_negotiated(entry: &PolicyEntry) -> bool {
    entry.origin == PolicyOrigin::Dynamic
        && entry.action == ActionWord::Protect
        && is_chosen(entry.reqid, entry.segment)
}

/// Whether the protocol has chosen a reqid, for this segment.
pub(crate) fn is_chosen(reqid: u32, segment: u8) -> bool {
    reqid & CHOSEN != 0 && reqid >> 24 == u32::from(segment)
}
