//! The loop: timers, questions, reports and datagrams, each in its turn, so that no flood of one starves the others.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use baton_ike_proto::auth::Credentials;
use baton_ike_proto::machine::Ike;
use baton_ike_proto::{Command, CommandError};
use baton_sad::Table;
use tracing::debug;

use super::DaemonError;
use super::desk::Ask;
use super::error::system;
use super::poll::Poll;
use super::reconcile::Reconciliation;
use super::roam::Roam;
use super::signals::{Asked, Signals};
use super::table_watch::TableWatch;
use crate::alarms::Alarms;
use crate::clock;
use crate::config::Config;
use crate::counters::Counted;
use crate::effects::Effects;
use crate::fence::Fence;
use crate::host::Node;
use crate::names::Names;
use crate::radius::Dae;
use crate::replication::Replication;
use crate::reports::Report;
use crate::sockets::{Inbox, Sockets};
use crate::wake::Wake;

/// Datagrams that one socket gets in a turn.
const DATAGRAMS: usize = 32;
/// Questions, and reports, of a turn.
const QUESTIONS: usize = 16;
const REPORTS: usize = 256;
/// The loop looks around at least so often.
const TICK: Duration = Duration::from_secs(1);

/// What is waited for, beside the sockets, which have the numbers from 0.
const WAKE: u64 = 1 << 32;
const SIGNAL: u64 = WAKE + 1;
const ROAM: u64 = WAKE + 2;
const RADIUS: u64 = WAKE + 3;
const DAE: u64 = WAKE + 4;
const CLUSTER: u64 = WAKE + 5;
const CLUSTER_CLIENT: u64 = WAKE + 6;

/// All that the loop's thread has.
pub(super) struct Loop {
    pub(super) ike: Ike,
    pub(super) node: Node,
    pub(super) effects: Effects,
    pub(super) sockets: Arc<Sockets>,
    pub(super) table: Arc<Table>,
    pub(super) config: Config,
    pub(super) alarms: Alarms,
    pub(super) counted: Arc<Counted>,
    pub(super) fence: Fence,
    pub(super) started: Instant,
    pub(super) data_plane: bool,
    pub(super) inbox: Inbox,
    pub(super) asks: Receiver<Ask>,
    pub(super) reports: Receiver<Report>,
    pub(super) wake: Wake,
    pub(super) reconciliation: Reconciliation,
    pub(super) table_watch: TableWatch,
    pub(super) roam: Roam,
    pub(super) dae: Option<Dae>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) names: Names,
    /// In a cluster, the segments that this node acts for.
    pub(super) owned: std::collections::BTreeSet<u8>,
    pub(super) shares: super::shares::Shares,
    pub(super) arriving: super::arriving::Arriving,
}

impl Loop {
    /// Sets up what the configuration wants set up.
    pub(super) fn start(&mut self) {
        self.ike.start(clock::now(), &mut self.node);
        self.carry_out();
    }

    /// Turns until a signal says to stop. `reload` is what a hang-up does; it must not wait for this thread.
    pub(super) fn run(&mut self, signals: &Signals, reload: impl Fn()) -> Result<(), DaemonError> {
        let mut poll = self.poll(signals).map_err(system("wait for events"))?;
        loop {
            let ready = poll.wait(self.patience()).map_err(system("wait for events"))?;
            match signals.take() {
                Some(Asked::Stop) => {
                    self.effects.let_all_go();
                    return Ok(());
                }
                Some(Asked::Reload) => reload(),
                None => {}
            }
            if ready.contains(&ROAM) {
                self.roam.note(clock::now().monotonic);
            }
            self.look_around()?;
            self.look_for_users(ready.contains(&RADIUS));
            if ready.contains(&DAE) {
                self.obey_servers();
            }
            if ready.contains(&CLUSTER) {
                self.let_cluster_in(&poll).map_err(system("wait for baton-cluster"))?;
            }
            self.wake.clear();
            let asks = (0..QUESTIONS).map_while(|_| self.asks.try_recv().ok()).collect::<Vec<_>>();
            let reports = (0..REPORTS).map_while(|_| self.reports.try_recv().ok()).collect::<Vec<_>>();
            // There may be more of them, for which nobody wakes us again.
            if asks.len() == QUESTIONS || reports.len() == REPORTS {
                self.wake.wake();
            }
            for ask in asks {
                self.reply(ask);
            }
            for report in reports {
                self.hear(report);
            }
            for number in ready.into_iter().filter(|number| *number < WAKE) {
                self.receive(number as usize);
            }
        }
    }

    /// Whoever connects to hear of changes.
    fn let_cluster_in(&mut self, poll: &Poll) -> std::io::Result<()> {
        let client = self.effects.replication().and_then(Replication::accept);
        client.map_or(Ok(()), |client| poll.watch(client, CLUSTER_CLIENT))
    }

    fn poll(&mut self, signals: &Signals) -> std::io::Result<Poll> {
        let poll = Poll::new()?;
        for (number, socket) in self.sockets.descriptors().enumerate() {
            poll.watch(socket, number as u64)?;
        }
        for descriptor in signals.descriptors() {
            poll.watch(descriptor, SIGNAL)?;
        }
        poll.watch(std::os::fd::AsFd::as_fd(&self.wake), WAKE)?;
        poll.watch(self.effects.radius_status().descriptor(), RADIUS)?;
        if let Some(dae) = &self.dae {
            poll.watch(std::os::fd::AsFd::as_fd(dae), DAE)?;
        }
        if let Some(changes) = self.roam.descriptor() {
            poll.watch(changes, ROAM)?;
        }
        if let Some(replication) = self.effects.replication() {
            poll.watch(replication.listener(), CLUSTER)?;
        }
        Ok(poll)
    }

    fn patience(&self) -> Duration {
        let now = clock::now().monotonic;
        let due =
            [self.ike.next_timeout(), self.effects.next_due(), self.roam.due(), self.effects.stuck_due(now)];
        let due = due.into_iter().flatten().min();
        due.map_or(TICK, |at| at.saturating_sub(now).min(TICK))
    }

    /// Timers, and what else time brings.
    fn look_around(&mut self) -> Result<(), DaemonError> {
        let now = clock::now();
        if let Some(replication) = self.effects.replication() {
            replication.look();
        }
        self.effects.let_go();
        if self.ike.next_timeout().is_some_and(|at| at <= now.monotonic) {
            self.ike.handle_timeout(now, &mut self.node);
            self.carry_out();
        }
        self.look_where_we_are();
        self.reconcile(now);
        let no_ivs =
            "there are no IVs (I1), so that nothing encrypted can be sent; is baton-dataplane running?";
        self.alarms.set("ivs", self.node.is_without_ivs().then(|| no_ivs.to_owned()));
        self.table_watch.check()
    }

    /// Datagrams of one socket. Each is done with before the next: its answer is on its way, its SAs are in the table.
    /// What came for segments before they did.
    pub(super) fn receive_held(&mut self) {
        let Self { ike, node, effects, owned, arriving, .. } = self;
        let mut failed = Vec::new();
        for (path, datagram) in arriving.take(clock::now().monotonic, owned) {
            ike.handle_datagram(clock::now(), path, &datagram, node);
            failed.extend(carry_out(ike, effects));
        }
        self.follow_up(failed);
    }

    fn receive(&mut self, number: usize) {
        let Self { ike, node, effects, inbox, sockets, table, owned, arriving, .. } = self;
        let is_clustered = effects.is_clustered();
        let mut failed = Vec::new();
        let round = sockets.receive(number, inbox, DATAGRAMS, |path, datagram| {
            if is_clustered && arriving.keep((table, owned), clock::now().monotonic, path, datagram) {
                return;
            }
            ike.handle_datagram(clock::now(), path, datagram, node);
            failed.extend(carry_out(ike, effects));
        });
        self.counted.received.add(round.messages as u64);
        self.counted.ignored.add(round.ignored as u64);
        self.follow_up(failed);
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Heard(command) => self.heard(command),
            Report::DataPlane { is_there } => {
                self.data_plane = is_there;
                let alarm =
                    "the data plane does not answer; policies wait, SAs are in its table all the same";
                self.alarms.set("data-plane", (!is_there).then(|| alarm.to_owned()));
            }
            Report::Found { name, addresses } => {
                if self.names.note(name, addresses) {
                    let (protocol, credentials) =
                        (self.names.resolved(&self.config), Arc::clone(&self.credentials));
                    self.ike.reconfigure(clock::now(), protocol, credentials, &mut self.node);
                    self.carry_out();
                }
            }
            Report::PolicyRefused { problem, failed } => {
                self.counted.policies_refused.add(1);
                self.alarms.set("policy", Some(problem));
                if let Some(command) = failed {
                    // The peer is to know of the Child SA before it is told that it is gone.
                    self.effects.let_all_go();
                    self.heard(command);
                }
            }
        }
    }

    /// What comes from the data plane may be about SAs that are not the protocol's, or not any more.
    pub(super) fn heard(&mut self, command: Command) {
        if let Err(error) = self.command(command) {
            debug!(%error, "an event of the data plane concerns nobody");
        }
    }

    /// Lets the protocol do something, and does what it wants done.
    pub(super) fn command(&mut self, command: Command) -> Result<usize, CommandError> {
        let result = self.ike.command(clock::now(), command, &mut self.node);
        self.carry_out();
        result
    }

    /// Does what the protocol wants done.
    pub(super) fn carry_out(&mut self) {
        let failed = carry_out(&mut self.ike, &mut self.effects);
        self.follow_up(failed);
    }

    /// Tells the protocol of what could not be done. It gives up what it cannot have, so that this ends.
    fn follow_up(&mut self, mut failed: Vec<Command>) {
        while let Some(command) = failed.pop() {
            if let Err(error) = self.ike.command(clock::now(), command, &mut self.node) {
                debug!(%error, "nobody wants to know of a failure");
            }
            failed.extend(carry_out(&mut self.ike, &mut self.effects));
        }
    }
}

fn carry_out(ike: &mut Ike, effects: &mut Effects) -> Vec<Command> {
    effects.perform(std::iter::from_fn(|| ike.poll()))
}
