//! The world: what happens when.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use baton_ctx_transfer::cluster::{Cluster, Event, Guards, Lane, Octets, Output, Role, Segments};
use baton_ike_proto::Path;
use baton_sad::{Name, NodeId};

use crate::exchanges::Exchanges;
use crate::gateway::{Clock, Daemon, Gateway, Process};
use crate::hands::Copied;
use crate::host::SimulatedHost;
use crate::invariants::Invariants;
use crate::links;
use crate::network::{Datagram, Network};
use crate::node::Node;
use crate::plane::Plane;
use crate::random::Random;
use crate::scene::Scene;
use crate::script::Fault;
use crate::setting::{Setting, seen};
use crate::standby::Parts;
use crate::traffic::Packet;

/// Something that happens so often at one moment will never end.
const MOST_AT_ONCE: u32 = 5000;

/// Something that will happen.
pub enum Coming {
    /// Between members; on a connection if it is reliable.
    Message {
        from: NodeId,
        to: NodeId,
        lane: Lane,
        octets: Octets,
        connection: Option<u64>,
    },
    Connect(NodeId, NodeId),
    Joined {
        who: NodeId,
        whom: NodeId,
        life: u64,
        connection: u64,
    },
    Parted {
        who: NodeId,
        whom: NodeId,
        life: u64,
        connection: u64,
    },
    /// A core is told something.
    Event {
        node: NodeId,
        life: u64,
        event: Event,
    },
    /// A thread of a cluster daemon does something.
    Work {
        node: NodeId,
        life: u64,
        output: Box<Output>,
    },
    /// The IKE daemon hears what is owned.
    Own {
        node: NodeId,
        life: u64,
    },
    OwnAgain {
        node: NodeId,
        life: u64,
    },
    /// baton-cluster looks for the IKE daemon.
    Link(NodeId),
    /// It answers the IKE daemon.
    Reply {
        node: NodeId,
        life: u64,
        what: Option<(Name, u64)>,
    },
    StartIke {
        node: NodeId,
        life: u64,
    },
    Drain(NodeId),
    Traffic,
    Packet(Packet),
    /// Somebody wants something of IKE.
    Wish,
    Fault(Fault),
    Restart(NodeId, bool),
    Heal(NodeId, NodeId),
}

pub struct World {
    pub now: Duration,
    pub random: Random,
    pub scene: Scene,
    pub parts: Parts,
    pub nodes: BTreeMap<NodeId, Gateway>,
    pub peers: Vec<Node>,
    /// Between members.
    pub links: links::Network,
    /// Between gateways and peers.
    pub outer: Network,
    pub exchanges: Exchanges,
    /// How often each segment has come to somebody.
    pub taken: Vec<u64>,
    pub judge: Invariants,
    pub guards: Guards,
    pub trace: bool,
    /// All is well.
    pub quiet: bool,
    /// The connection that a daemon knows to another.
    pub joined: BTreeMap<(NodeId, NodeId), u64>,
    /// What contexts on their way say of SAs, and how long their IKE parts are.
    pub copied: Vec<(Vec<Copied>, usize)>,
    /// Packets that were sent lately, and SAs whose packets have arrived.
    pub crossing: VecDeque<Packet>,
    pub crossed: HashMap<Vec<u8>, Duration>,
    /// Tunnels that each peer may have set up, and rekeyings that there may be.
    pub setups: Vec<u64>,
    pub rekeys: u64,
    /// What nodes owned when another one that lives fell silent, until it is heard again.
    pub alone: BTreeMap<NodeId, Segments>,
    machines: u8,
    violation: Option<String>,
    coming: BTreeMap<(Duration, u64), Coming>,
    serial: u64,
}

impl World {
    pub fn new(seed: u64, guards: Guards) -> Self {
        let mut random = Random::new(seed);
        let scene = Scene::random(&mut random);
        let trace = std::env::var("BATON_SEED").is_ok();
        let peers: Vec<Node> =
            (1..scene.setting.nodes).map(|number| Node::new(number, &scene.setting, &mut random)).collect();
        let parts = Parts {
            configuration: Arc::new(scene.setting.configuration(0)),
            credentials: Arc::new(Setting::credentials()),
        };
        let mut world = Self {
            now: Duration::from_millis(1),
            outer: Network::new(random.fork(), scene.outer),
            exchanges: Exchanges::default(),
            taken: vec![0; 256],
            random,
            parts,
            nodes: BTreeMap::new(),
            links: links::Network::default(),
            judge: Invariants::new(trace),
            guards,
            trace,
            quiet: false,
            joined: BTreeMap::new(),
            copied: Vec::new(),
            crossing: VecDeque::new(),
            crossed: HashMap::new(),
            setups: vec![0; peers.len()],
            rekeys: 0,
            alone: BTreeMap::new(),
            machines: 0,
            violation: None,
            coming: BTreeMap::new(),
            serial: 0,
            peers,
            scene,
        };
        world.peers.iter_mut().for_each(|peer| peer.trace = trace);
        world.populate();
        world
    }

    fn populate(&mut self) {
        for member in self.scene.members.clone() {
            let node = Gateway {
                id: member.id,
                witness: member.role == Role::Witness,
                clock: Clock {
                    offset: self.micros(1, 1_000_000_000),
                    drift: self.random.below(800).cast_signed() - 400,
                },
                up: false,
                daemon: Daemon::default(),
                process: Process::new(self.scene.replication_wait()),
                host: self.fresh_host(),
                plane: Plane::new(),
                counted: BTreeMap::new(),
            };
            self.nodes.insert(member.id, node);
            let jitter = self.micros(0, 30_000);
            self.later(jitter, Coming::Restart(member.id, true));
            if member.role == Role::Node {
                self.later(jitter, Coming::Drain(member.id));
            }
        }
        self.later(Duration::from_millis(150), Coming::Wish);
        self.later(Duration::from_millis(150), Coming::Traffic);
    }

    /// A machine that was never there before: its IVs are its own.
    pub fn fresh_host(&mut self) -> SimulatedHost {
        self.machines += 1;
        SimulatedHost::new(self.random.fork(), 100 + self.machines, seen(0))
    }

    /// From `least` to below `most` microseconds.
    pub fn micros(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(least + self.random.below(most - least))
    }

    pub fn later(&mut self, after: Duration, coming: Coming) {
        self.at(self.now + after, coming);
    }

    pub fn at(&mut self, at: Duration, coming: Coming) {
        self.serial += 1;
        self.coming.insert((at.max(self.now), self.serial), coming);
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

    pub fn node(&mut self, id: NodeId) -> &mut Gateway {
        self.nodes.get_mut(&id).expect("a member")
    }

    /// Until when a cluster daemon is stopped, if it is.
    pub fn paused(&self, id: NodeId) -> Option<Duration> {
        Some(self.nodes[&id].daemon.paused_until).filter(|until| *until > self.now)
    }

    pub fn run_until(&mut self, end: Duration) -> Result<(), String> {
        let mut at_once = 0;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            at_once = if next > self.now { 0 } else { at_once + 1 };
            if at_once > MOST_AT_ONCE {
                return Err(format!("at {:?}: it never ends", self.now));
            }
            self.now = self.now.max(next);
            self.step();
            let complaint = self.judge.complaint();
            self.violate(complaint);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.now = end;
        Ok(())
    }

    fn next(&self) -> Option<Duration> {
        let coming = self.coming.keys().next().map(|(at, _)| *at);
        let daemons = self.nodes.values().filter_map(Gateway::daemon_due);
        let processes = self.nodes.values().filter_map(Gateway::process_due);
        let peers = self.peers.iter().filter_map(Node::next_timeout);
        let all = coming.into_iter().chain(self.outer.next_arrival()).chain(daemons).chain(processes);
        all.chain(peers).min()
    }

    /// All that is due now.
    fn step(&mut self) {
        while let Some(first) = self.coming.first_entry().filter(|first| first.key().0 <= self.now) {
            let coming = first.remove();
            self.happen(coming);
        }
        while let Some(datagram) = self.outer.arrival(self.now) {
            self.deliver(&datagram);
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.nodes[&id].daemon_due().is_some_and(|due| due <= self.now) {
                self.with(id, Cluster::handle_timeout);
            }
            if self.nodes[&id].process_due().is_some_and(|due| due <= self.now) {
                self.tend_ike(id);
            }
        }
        for at in 0..self.peers.len() {
            if self.peers[at].next_timeout().is_some_and(|due| due <= self.now) {
                let sent = self.peers[at].on_timeout(self.now, &mut self.judge.history);
                self.peer_sent(at, sent);
            }
        }
    }

    fn happen(&mut self, coming: Coming) {
        match coming {
            Coming::Message { from, to, lane, octets, connection } => {
                self.arrive(from, to, lane, octets, connection);
            }
            Coming::Connect(a, b) => self.connect(a, b),
            Coming::Joined { who, whom, life, connection } => self.join(who, whom, life, connection),
            Coming::Parted { who, whom, life, connection } => self.part(who, whom, life, connection),
            Coming::Event { node, life, event } => self.tell(node, life, event),
            Coming::Work { node, life, output } => self.work_now(node, life, output),
            Coming::Own { node, life } => {
                if self.nodes[&node].daemon.life == life {
                    self.own(node);
                }
            }
            Coming::OwnAgain { node, life } => self.own_again(node, life),
            Coming::Link(node) => self.link(node),
            Coming::Reply { node, life, what } => self.hear_reply(node, life, what),
            Coming::StartIke { node, life } => {
                if self.nodes[&node].process.life == life {
                    self.start_ike(node);
                }
            }
            Coming::Drain(node) => self.drain(node),
            Coming::Traffic => self.traffic(),
            Coming::Packet(packet) => self.packet(&packet),
            Coming::Wish => self.wish(),
            Coming::Fault(fault) => self.fault(fault),
            Coming::Restart(node, host) => self.restart(node, host),
            Coming::Heal(a, b) => self.heal(a, b),
        }
    }

    fn work_now(&mut self, id: NodeId, life: u64, output: Box<Output>) {
        if self.nodes[&id].daemon.life != life {
            return;
        }
        match self.paused(id) {
            Some(until) => self.at(until, Coming::Work { node: id, life, output }),
            None => self.work(id, *output),
        }
    }

    /// To the other side.
    pub fn transmit(&mut self, datagram: Datagram) {
        self.exchanges.leaves(&datagram);
        self.outer.send(self.now, datagram);
    }

    fn deliver(&mut self, datagram: &Datagram) {
        self.exchanges.arrives(datagram);
        if datagram.to.ip() == seen(0) {
            return self.receive(datagram);
        }
        let Some(at) = self.peers.iter().position(|peer| peer.host.address == datagram.to.ip()) else {
            return;
        };
        let path = Path { local: datagram.to, remote: datagram.from, marked: datagram.marked };
        let octets = &datagram.octets;
        let history = &mut self.judge.history;
        let sent = self.peers[at].act(self.now, history, |ike, now, host| {
            ike.handle_datagram(now, path, octets, host);
        });
        self.peer_sent(at, sent);
    }

    /// What a peer is told by its operator.
    pub fn tell_peer(&mut self, at: usize, command: baton_ike_proto::Command) {
        self.say(|| format!("peer {} is told {command:?}", at + 1));
        let sent = self.peers[at].act(self.now, &mut self.judge.history, |ike, now, host| {
            let _ = ike.command(now, command, host);
        });
        self.peer_sent(at, sent);
    }

    fn peer_sent(&mut self, at: usize, sent: Result<Vec<Datagram>, String>) {
        match sent {
            Ok(datagrams) => datagrams.into_iter().for_each(|datagram| self.transmit(datagram)),
            Err(why) => self.violate(Err(format!("peer {}: {why}", at + 1))),
        }
    }

    /// Who is meant by the address of a peer.
    pub fn peer_at(&self, address: SocketAddr) -> Option<usize> {
        self.peers.iter().position(|peer| peer.host.address == address.ip())
    }
}
