//! The world: what happens when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton_ctx_transfer::cluster::{Cluster, Event, Guards, Lane, Octets, Segments};
use baton_sad::{Name, NodeId};

use crate::judge::Judge;
use crate::network::{Connection, Network, link};
use crate::node::Node;
use crate::random::Random;
use crate::script::Fault;
use crate::setting::Setting;
use crate::table::Table;
use crate::threads::Thread;

/// Something that will happen.
#[derive(Debug, Clone)]
pub enum Coming {
    Datagram {
        from: NodeId,
        to: NodeId,
        lane: Lane,
        octets: Octets,
    },
    Message {
        from: NodeId,
        to: NodeId,
        lane: Lane,
        octets: Octets,
        connection: u64,
    },
    Connect(NodeId, NodeId),
    Noticed {
        who: NodeId,
        whom: NodeId,
        life: u64,
        connection: u64,
    },
    Joined {
        who: NodeId,
        whom: NodeId,
        life: u64,
        connection: u64,
    },
    Wake(NodeId, Duration),
    /// An answer of the data plane or the IKE daemon.
    Answer {
        node: NodeId,
        life: u64,
        event: Event,
    },
    /// A thread of a daemon does the next thing.
    Turn {
        node: NodeId,
        life: u64,
        thread: Thread,
    },
    Drain(NodeId),
    Outbound(Name),
    Inbound {
        tunnel: Name,
        generation: u32,
        number: u64,
    },
    PeerSends(Name),
    Work(Name),
    Rekey(Name, u32),
    Fault(Fault),
    Restart(NodeId, bool),
    Heal(NodeId, NodeId),
}

/// A tunnel as its peer sees it.
#[derive(Debug, Clone)]
pub struct Peer {
    pub segment: u8,
    pub generation: u32,
    /// The last that was not sent before it was replicated.
    pub sure_generation: u32,
    /// Generations that were made, whether the peer has heard of them or not.
    pub made: u32,
    /// A change that is to come to the peer when it is replicated: by whom, its version, and the keys.
    pub coming: Option<(NodeId, u64, u32)>,
    /// The last number that the peer has sent.
    pub sent: u64,
    /// The peer has an SA.
    pub established: bool,
    /// Its set-up did not leave before it was replicated.
    pub sure: bool,
    pub lost: u64,
}

/// What daemons do beside what the core says; without it, something breaks.
pub struct Care {
    /// IVs of a table that is made anew begin with an epoch of their own.
    pub new_epochs: bool,
    /// Counters are moved out of reach where they are not known to be high enough.
    pub advances: bool,
}

pub struct World {
    pub now: Duration,
    pub random: Random,
    pub setting: Setting,
    pub nodes: BTreeMap<NodeId, Node>,
    pub network: Network,
    pub peers: BTreeMap<Name, Peer>,
    pub judge: Judge,
    pub guards: Guards,
    pub care: Care,
    pub counters: BTreeMap<&'static str, u64>,
    pub trace: bool,
    pub quiet: bool,
    pub violation: Option<String>,
    /// Final contexts that wait for their sign-off, by receiver and sender.
    pub staged: BTreeMap<(NodeId, NodeId), (u64, Vec<Octets>)>,
    /// The connection that a daemon knows to another.
    pub joined: BTreeMap<(NodeId, NodeId), u64>,
    /// Hosts whose attention is drained.
    pub drains: BTreeSet<NodeId>,
    coming: BTreeMap<(Duration, u64), Coming>,
    /// What nodes owned when another one that lives fell silent, until it is heard again.
    pub alone: BTreeMap<NodeId, Segments>,
    serial: u64,
}

impl World {
    pub fn new(seed: u64, guards: Guards) -> Self {
        let mut random = Random::new(seed);
        let setting = Setting::random(&mut random);
        let mut world = Self {
            now: Duration::from_millis(1),
            random,
            nodes: BTreeMap::new(),
            network: Network::default(),
            peers: BTreeMap::new(),
            judge: Judge::default(),
            guards,
            care: Care { new_epochs: true, advances: true },
            counters: BTreeMap::new(),
            trace: std::env::var("BATON_SEED").is_ok(),
            quiet: false,
            violation: None,
            staged: BTreeMap::new(),
            joined: BTreeMap::new(),
            drains: BTreeSet::new(),
            coming: BTreeMap::new(),
            alone: BTreeMap::new(),
            serial: 0,
            setting,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for member in self.setting.members.clone() {
            let node = self.new_node(member.id, member.role == baton_ctx_transfer::cluster::Role::Witness);
            self.nodes.insert(member.id, node);
            let jitter = self.random.micros(0, 30_000);
            self.later(jitter, Coming::Restart(member.id, true));
        }
        for index in 0..self.setting.tunnels {
            let name = Name::new(&format!("t{index}")).expect("a short name");
            let segment = self.random.next() as u8;
            let peer = Peer {
                segment,
                generation: 0,
                sure_generation: 0,
                made: 0,
                coming: None,
                sent: 0,
                established: false,
                sure: false,
                lost: 0,
            };
            self.peers.insert(name, peer);
            for coming in [Coming::Outbound(name), Coming::PeerSends(name), Coming::Work(name)] {
                let start = self.random.micros(60_000, 150_000);
                self.later(start, coming);
            }
        }
    }

    fn new_node(&mut self, id: NodeId, witness: bool) -> Node {
        Node {
            id,
            witness,
            cluster: None,
            table: Table::new(1),
            up: false,
            daemon_paused_until: Duration::ZERO,
            host_paused_until: Duration::ZERO,
            offset: self.random.micros(0, 1_000_000_000),
            drift: self.random.below(9) as i32 - 4,
            remembered: Vec::new(),
            wake: None,
            life: 0,
            queues: BTreeMap::new(),
            slow: Duration::ZERO,
            epochs: 1,
            totals: baton_ctx_transfer::cluster::Totals::default(),
        }
    }

    pub fn later(&mut self, after: Duration, coming: Coming) {
        self.at(self.now + after, coming);
    }

    pub fn at(&mut self, at: Duration, coming: Coming) {
        self.serial += 1;
        self.coming.insert((at, self.serial), coming);
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10.3?} {}", self.now, what());
        }
    }

    pub fn violate(&mut self, what: Result<(), String>) {
        if let (Err(what), None) = (what, &self.violation) {
            self.violation = Some(format!("at {:?}: {what}", self.now));
        }
    }

    pub fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while let Some(((at, _), coming)) = self.coming.pop_first() {
            if at > end {
                self.serial += 1;
                self.coming.insert((at, self.serial), coming);
                break;
            }
            self.now = at;
            self.happen(coming);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, coming: Coming) {
        match coming {
            Coming::Datagram { from, to, lane, octets } => self.arrive(from, to, lane, &octets, None),
            Coming::Message { from, to, lane, octets, connection } => {
                self.arrive(from, to, lane, &octets, Some(connection));
            }
            Coming::Connect(a, b) => self.connect(a, b),
            Coming::Noticed { who, whom, life, connection } => self.notice(who, whom, life, connection),
            Coming::Joined { who, whom, life, connection } => self.join(who, whom, life, connection),
            Coming::Wake(id, at) => self.wake(id, at),
            Coming::Answer { node, life, event } => self.tell_in(node, life, event),
            Coming::Turn { node, life, thread } => self.turn(node, life, thread),
            Coming::Drain(id) => self.drain(id),
            Coming::Outbound(tunnel) => self.outbound(tunnel),
            Coming::Inbound { tunnel, generation, number } => self.inbound(tunnel, generation, number),
            Coming::PeerSends(tunnel) => self.peer_sends(tunnel),
            Coming::Work(tunnel) => self.work(tunnel),
            Coming::Rekey(tunnel, generation) => self.rekey(tunnel, generation),
            // Whatever is still to come mends something, or comes too late.
            Coming::Fault(fault) if self.quiet && !fault.mends() => {}
            Coming::Fault(fault) => self.fault(fault),
            Coming::Restart(id, host) => self.restart(id, host),
            Coming::Heal(a, b) => self.heal(a, b),
        }
    }

    /// Does something with a daemon that runs, or later if it is paused.
    pub fn with(&mut self, id: NodeId, act: impl FnOnce(&mut Cluster, Duration)) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let local = node.local(self.now);
        let Some(cluster) = node.cluster.as_mut() else { return false };
        act(cluster, local);
        self.perform(id);
        true
    }

    /// When a paused daemon will see something, if it is paused.
    fn deferred(&mut self, id: NodeId) -> Option<Duration> {
        let until = self.nodes.get(&id)?.runs_until();
        (until > self.now).then(|| until + self.random.micros(1, 300))
    }

    fn arrive(&mut self, from: NodeId, to: NodeId, lane: Lane, octets: &Octets, connection: Option<u64>) {
        if let Some(number) = connection {
            let alive = self.network.connection(from, to);
            if alive.is_none_or(|alive| alive.number != number || alive.broken) {
                return;
            }
        }
        // A driver tells of a connection before it gives what came on it.
        let waits = connection.filter(|number| self.joined.get(&(to, from)) != Some(number));
        let later = self.now + Duration::from_micros(300);
        if let Some(at) = self.deferred(to).or(waits.map(|_| later)) {
            let octets = octets.clone();
            let coming = match connection {
                Some(connection) => {
                    let at = self.network.in_order(from, to, at);
                    return self.at(at, Coming::Message { from, to, lane, octets, connection });
                }
                None => Coming::Datagram { from, to, lane, octets },
            };
            return self.at(at, coming);
        }
        self.with(to, |cluster, now| cluster.handle_message(now, from, lane, &octets.0));
    }

    fn tell_in(&mut self, id: NodeId, life: u64, event: Event) {
        if self.nodes.get(&id).is_none_or(|node| node.life != life) {
            return;
        }
        let until = self.nodes[&id].runs_until();
        if until > self.now {
            // In their order.
            return self.at(until, Coming::Answer { node: id, life, event });
        }
        self.with(id, |cluster, now| cluster.handle(now, event));
    }

    fn wake(&mut self, id: NodeId, at: Duration) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.wake == Some(at)) else { return };
        node.wake = None;
        if let Some(later) = self.deferred(id) {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.wake = Some(later);
            }
            return self.at(later, Coming::Wake(id, later));
        }
        self.with(id, Cluster::handle_timeout);
    }

    /// Sets the timer of a daemon.
    pub fn set_timer(&mut self, id: NodeId) {
        let now = self.now;
        let jitter = self.random.micros(0, 200);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(due) = node.cluster.as_ref().and_then(Cluster::next_timeout) else { return };
        let at = node.global(due).max(now) + jitter;
        if node.wake.is_none_or(|wake| wake > at || wake < now) {
            node.wake = Some(at);
            self.at(at, Coming::Wake(id, at));
        }
    }

    pub fn connect(&mut self, a: NodeId, b: NodeId) {
        let runs = |id| self.nodes.get(&id).is_some_and(|node| node.up && node.cluster.is_some());
        if self.network.is_cut(a, b) || !runs(a) || !runs(b) {
            return;
        }
        if self.network.connection(a, b).is_some_and(|connection| !connection.broken) {
            return;
        }
        self.network.made += 1;
        let number = self.network.made;
        self.network.connections.insert(link(a, b), Connection { number, broken: false });
        for (who, whom) in [(a, b), (b, a)] {
            let life = self.nodes[&who].life;
            self.join(who, whom, life, number);
        }
    }

    /// An end notices that its connection is gone, unless it has another one by now.
    fn notice(&mut self, who: NodeId, whom: NodeId, life: u64, connection: u64) {
        if self.joined.get(&(who, whom)) != Some(&connection) {
            return;
        }
        match self.deferred(who) {
            Some(at) => self.at(at, Coming::Noticed { who, whom, life, connection }),
            None => self.tell_in(who, life, Event::Disconnected { member: whom }),
        }
    }

    /// A new connection takes the place of an old one.
    fn join(&mut self, who: NodeId, whom: NodeId, life: u64, connection: u64) {
        if self.nodes[&who].life != life
            || self.network.connection(who, whom).is_none_or(|now| now.number != connection)
        {
            return;
        }
        if let Some(at) = self.deferred(who) {
            return self.at(at, Coming::Joined { who, whom, life, connection });
        }
        self.joined.insert((who, whom), connection);
        self.with(who, |cluster, now| {
            cluster.handle(now, Event::Disconnected { member: whom });
            cluster.handle(now, Event::Connected { member: whom });
        });
    }

    /// A connection delivers nothing any more; its ends notice after a while.
    pub fn break_connection(&mut self, a: NodeId, b: NodeId) {
        let Some(connection) = self.network.connections.get_mut(&link(a, b)) else { return };
        if std::mem::replace(&mut connection.broken, true) {
            return;
        }
        let connection = connection.number;
        for (who, whom) in [(a, b), (b, a)] {
            let after = self.random.micros(1_000, 80_000);
            let life = self.nodes[&who].life;
            self.later(after, Coming::Noticed { who, whom, life, connection });
        }
        let again = self.random.micros(80_000, 120_000);
        self.later(again, Coming::Connect(a, b));
    }
}
