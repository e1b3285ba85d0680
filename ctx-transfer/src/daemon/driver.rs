//! The loop around the core: time, heartbeats and inputs go in, and what the core wants done is done or handed on. It never
//! waits for a disk, another process or bulk traffic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use baton_dataplane::control::Listeners;
use baton_ike::clock;
use baton_ike::fence::Fence;
use baton_sad::{NodeId, Table};
use tokio::sync::mpsc::Receiver;
use tracing::info;

use super::backlog::Backlog;
use super::counters::Counters;
use super::hands::Hands;
use super::input::Input;
use super::memory::Memory;
use super::ownership::Owner;
use super::sharing::Sharer;
use super::{DaemonError, Signals};
use crate::channel::{self, Channel, Credentials, Sender};
use crate::cluster::{Cluster, Command, Event, Lane, Segments};
use crate::config::Config;
use crate::control::{Kind, Occurred};

/// Inputs of one turn; heartbeats and leases come between.
const INPUTS: usize = 32;
/// Heartbeats of one turn.
const HEARTBEATS: usize = 256;
/// The loop looks around at least so often.
const TICK: Duration = Duration::from_millis(10);
/// How long a member that is to stop waits until its segments have gone to others.
const HAND_OVER: Duration = Duration::from_secs(1);

/// What the driver works with.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) credentials: Arc<Credentials>,
    pub(super) channel: Channel,
    pub(super) bulk: Sender,
    pub(super) hands: Hands,
    pub(super) counters: Counters,
    pub(super) owner: Owner,
    /// Whether the standbys are in good order, for who tells the IKE daemon.
    pub(super) synced: Arc<AtomicBool>,
    pub(super) sharer: Sharer,
    pub(super) listeners: Arc<Listeners<Kind>>,
    pub(super) memory: Memory,
    pub(super) fence: Fence,
    pub(super) real_time: bool,
    pub(super) started: Instant,
}

/// The loop's state.
pub(super) struct Driver {
    pub(super) cluster: Cluster,
    pub(super) parts: Parts,
    pub(super) table: Option<Arc<Table>>,
    /// Whether the data plane lives; its table outlives it.
    pub(super) data_plane: bool,
    /// Members with which heartbeats can be exchanged, and the rest.
    pub(super) beating: BTreeSet<NodeId>,
    pub(super) bulky: BTreeSet<NodeId>,
    pub(super) owned: Segments,
    /// What the others have the other threads do.
    pub(super) backlog: Backlog,
}

impl Driver {
    pub(super) fn new(cluster: Cluster, parts: Parts) -> Self {
        let (beating, bulky) = Default::default();
        Self {
            cluster,
            parts,
            table: None,
            data_plane: false,
            beating,
            bulky,
            owned: Segments::NONE,
            backlog: Backlog::default(),
        }
    }

    /// Turns until a signal says to stop.
    pub(super) async fn run(
        mut self,
        mut inputs: Receiver<Input>,
        mut heartbeats: Receiver<channel::Event>,
        signals: &Signals,
    ) -> Result<(), DaemonError> {
        let mut stopping: Option<Instant> = None;
        loop {
            self.wait(&mut inputs, &mut heartbeats).await;
            for _ in 0..HEARTBEATS {
                let Ok(event) = heartbeats.try_recv() else { break };
                self.hear(event);
            }
            for _ in 0..INPUTS {
                let Ok(input) = inputs.try_recv() else { break };
                self.take(input);
            }
            self.turn();
            if signals.reload.swap(false, Ordering::AcqRel) {
                self.parts.hands.reload();
            }
            if signals.stop.load(Ordering::Acquire) {
                let since = *stopping.get_or_insert_with(|| self.begin_to_stop());
                if self.cluster.status().owned.is_empty() || since.elapsed() > HAND_OVER {
                    break;
                }
            }
        }
        self.drop_leases();
        self.parts.sharer.leave();
        self.parts.channel.close().await;
        Ok(())
    }

    /// Everything goes to others first, while they are well.
    fn begin_to_stop(&mut self) -> Instant {
        info!("giving segments to others before stopping");
        self.tell(Event::Command(Command::Maintenance(true)));
        Instant::now()
    }

    /// What is still owned is free at once, not when its lease has ended.
    fn drop_leases(&self) {
        let Some(table) = &self.table else { return };
        for segment in self.owned.iter() {
            table.set_lease(segment, baton_sad::NOT_OWNED);
        }
    }

    /// Until something has come, or is due.
    async fn wait(&mut self, inputs: &mut Receiver<Input>, heartbeats: &mut Receiver<channel::Event>) {
        let due = self.cluster.next_timeout().map_or(TICK, |due| due.saturating_sub(clock::now().monotonic));
        tokio::select! {
            biased;
            Some(event) = heartbeats.recv() => self.hear(event),
            () = tokio::time::sleep(due.min(TICK)) => {}
            Some(input) = inputs.recv() => self.take(input),
        }
    }

    fn turn(&mut self) {
        let now = clock::now().monotonic;
        if self.cluster.next_timeout().is_some_and(|due| due <= now) {
            self.cluster.handle_timeout(now);
        }
        self.perform();
        self.parts.sharer.see(|| self.cluster.neighbours());
    }

    /// Tells the core, and does what it wants.
    pub(super) fn tell(&mut self, event: Event) {
        self.cluster.handle(clock::now().monotonic, event);
        self.perform();
    }

    /// An event of the connections of heartbeats.
    fn hear(&mut self, event: channel::Event) {
        match event {
            channel::Event::Message { from, lane, octets } => self.read(from, lane, &octets),
            channel::Event::Connected(member) => {
                self.beating.insert(member);
                self.connected(member);
            }
            channel::Event::Disconnected(member, problem) => {
                self.beating.remove(&member);
                self.disconnected(member, &problem, self.bulky.contains(&member));
            }
        }
    }

    fn read(&mut self, from: NodeId, lane: Lane, octets: &[u8]) {
        self.cluster.handle_message(clock::now().monotonic, from, lane, octets);
        self.perform();
    }

    fn hear_bulk(&mut self, event: channel::Event) {
        match event {
            channel::Event::Message { from, lane, octets } => self.read(from, lane, &octets),
            channel::Event::Connected(member) => {
                self.bulky.insert(member);
                self.connected(member);
            }
            channel::Event::Disconnected(member, problem) => {
                self.bulky.remove(&member);
                self.disconnected(member, &problem, self.beating.contains(&member));
            }
        }
    }

    /// A member is connected when it is on all lanes.
    fn connected(&mut self, member: NodeId) {
        if self.beating.contains(&member) && self.bulky.contains(&member) {
            info!(member = member.get(), "connected");
            self.parts.listeners.tell(Occurred::Connected { member: member.get() });
            self.tell(Event::Connected { member });
        }
    }

    fn disconnected(&mut self, member: NodeId, problem: &channel::LinkProblem, was_connected: bool) {
        if was_connected {
            info!(member = member.get(), %problem, "disconnected");
            let problem = problem.to_string();
            self.parts.listeners.tell(Occurred::Disconnected { member: member.get(), problem });
            self.tell(Event::Disconnected { member });
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Bulk(event) => self.hear_bulk(event),
            Input::Core(event) => self.tell(event),
            Input::Table(table) => self.set_table(table),
            Input::Ask(ask) => {
                let answer = self.answer(ask.request);
                let _ = ask.answer.try_send(answer);
            }
            Input::Reload(loaded, answer) => {
                let reloaded = self.reload(*loaded);
                let _ = answer.try_send(Ok(reloaded));
            }
        }
    }

    fn set_table(&mut self, table: Option<Arc<Table>>) {
        let ready = table.is_some();
        info!(ready, "data plane");
        self.data_plane = ready;
        if let Some(table) = table {
            // Whatever an earlier life has left there: leases are this one's from now on.
            for segment in 0..=u8::MAX {
                if !self.owned.contains(segment) {
                    table.set_lease(segment, baton_sad::NOT_OWNED);
                    table.set_hold(segment, baton_sad::NOT_OWNED);
                }
            }
            self.table = Some(table);
        }
        self.tell(Event::Dataplane { ready });
    }
}
