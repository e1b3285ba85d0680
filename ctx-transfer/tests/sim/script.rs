//! What goes wrong, and what operators do.

use std::time::Duration;

use baton_ctx_transfer::cluster::{Cluster, Command, Event, Segments};
use baton_sad::{Name, NodeId};

use crate::network::link;
use crate::table::Table;
use crate::world::{Coming, World};

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    CrashHost(NodeId),
    CrashDaemon(NodeId),
    PauseHost(NodeId),
    PauseDaemon(NodeId),
    Cut(NodeId, NodeId),
    Isolate(NodeId),
    Slow(NodeId),
    Fast(NodeId),
    Full(NodeId),
    Command(NodeId, Command),
    DataplaneDown(NodeId),
    DataplaneUp(NodeId),
}

impl Fault {
    /// Whether it is the end of one.
    pub fn mends(self) -> bool {
        matches!(self, Self::Fast(_) | Self::DataplaneUp(_))
    }
}

impl World {
    /// Plans faults over a time.
    pub fn plan(&mut self, time: Duration) {
        for _ in 0..self.setting.faults {
            let at = self.random.micros(100_000, time.as_micros() as u64);
            let fault = self.any_fault();
            self.later(at, Coming::Fault(fault));
        }
    }

    fn any_fault(&mut self) -> Fault {
        let nodes = self.setting.nodes();
        let members: Vec<NodeId> = self.setting.members.iter().map(|member| member.id).collect();
        let node = self.random.pick(&nodes).expect("there are nodes");
        let member = self.random.pick(&members).expect("there are members");
        let other = self.random.pick(&members).expect("there are members");
        let to = self.random.pick(&nodes).expect("there are nodes");
        let some: Segments = (0..self.random.below(256)).map(|_| self.random.next() as u8).collect();
        match self.random.below(17) {
            0 | 1 => Fault::CrashHost(member),
            2 | 3 => Fault::CrashDaemon(member),
            4 => Fault::PauseHost(member),
            5 => Fault::PauseDaemon(member),
            6 | 7 => Fault::Cut(member, other),
            8 => Fault::Isolate(member),
            9 => Fault::Slow(node),
            10 => Fault::Full(node),
            11 | 12 => Fault::Command(node, Command::Move { segments: Segments::ALL, to }),
            13 => Fault::Command(node, Command::Take(some)),
            14 => Fault::Command(node, Command::Drop(some)),
            15 => Fault::DataplaneDown(node),
            _ => Fault::Command(node, Command::Maintenance(true)),
        }
    }

    pub fn fault(&mut self, fault: Fault) {
        self.say(|| format!("fault {fault:?}"));
        match fault {
            Fault::CrashHost(id) => self.crash(id, true),
            Fault::CrashDaemon(id) => self.crash(id, false),
            Fault::PauseHost(id) => {
                let until = self.now + self.random.micros(5_000, 150_000);
                self.node(id).host_paused_until = until;
            }
            Fault::PauseDaemon(id) => {
                let until = self.now + self.random.micros(5_000, 150_000);
                self.node(id).daemon_paused_until = until;
            }
            Fault::Cut(a, b) => self.cut(a, b),
            Fault::Isolate(id) => {
                let others: Vec<_> = self.nodes.keys().copied().filter(|other| *other != id).collect();
                for other in others {
                    self.cut(id, other);
                }
            }
            Fault::Slow(id) => {
                self.node(id).slow = self.random.micros(5_000, 120_000);
                let until = self.random.micros(20_000, 300_000);
                self.later(until, Coming::Fault(Fault::Fast(id)));
            }
            Fault::Fast(id) => self.node(id).slow = Duration::ZERO,
            Fault::Full(id) => {
                let table = &mut self.node(id).table;
                table.capacity = table.tunnels.len();
            }
            Fault::Command(id, command) => {
                self.with(id, |cluster, now| cluster.handle(now, Event::Command(command)));
            }
            Fault::DataplaneDown(id) => self.dataplane(id, false),
            Fault::DataplaneUp(id) => self.dataplane(id, true),
        }
    }

    /// The data plane's process dies and comes back: its table stays.
    fn dataplane(&mut self, id: NodeId, ready: bool) {
        self.with(id, |cluster, now| cluster.handle(now, Event::Dataplane { ready }));
        if !ready {
            let until = self.random.micros(5_000, 200_000);
            self.later(until, Coming::Fault(Fault::DataplaneUp(id)));
        }
    }

    fn cut(&mut self, a: NodeId, b: NodeId) {
        if a != b
            && self.nodes.contains_key(&a)
            && self.nodes.contains_key(&b)
            && self.network.cut.insert(link(a, b))
        {
            self.count("links cut");
            let until = self.random.micros(5_000, 300_000);
            self.later(until, Coming::Heal(a, b));
        }
    }

    pub fn heal(&mut self, a: NodeId, b: NodeId) {
        if self.network.cut.remove(&link(a, b)) {
            self.count("links healed");
            let after = self.random.micros(1_000, 20_000);
            self.later(after, Coming::Connect(a, b));
        }
    }

    fn crash(&mut self, id: NodeId, host: bool) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.up) else { return };
        node.bury();
        node.up = !host;
        self.count(if host { "hosts crashed" } else { "daemons crashed" });
        self.staged.retain(|(to, _), _| *to != id);
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.break_connection(id, other);
        }
        let after = self.random.micros(2_000, 250_000);
        self.later(after, Coming::Restart(id, host));
    }

    /// A daemon starts; with its host, nothing is left of before.
    pub fn restart(&mut self, id: NodeId, host: bool) {
        if self.nodes[&id].cluster.is_some() || !host && !self.nodes[&id].up {
            return;
        }
        if host {
            self.boot(id);
        }
        let config = self.setting.configuration(id);
        let incarnation = self.random.next();
        let (now, guards) = (self.now, self.guards);
        let node = self.node(id);
        let local = node.local(now);
        let mut cluster = Cluster::new(config, local, incarnation, &node.remembered).expect("it is valid");
        cluster.set_guards(guards);
        for (tunnel, known) in &node.table.tunnels {
            let event =
                Event::TunnelChanged { tunnel: *tunnel, segment: known.segment, version: known.version };
            cluster.handle(local, event);
        }
        if !node.witness {
            cluster.handle(local, Event::Dataplane { ready: true });
        }
        node.cluster = Some(cluster);
        self.perform(id);
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            let after = self.random.micros(500, 20_000);
            self.later(after, Coming::Connect(id, other));
        }
    }

    fn boot(&mut self, id: NodeId) {
        let (offset, fresh) = (self.random.micros(0, 1_000_000_000), self.care.new_epochs);
        let first = !self.drains.insert(id);
        let node = self.node(id);
        node.epochs += u32::from(fresh);
        node.table = Table::new(node.epochs);
        node.remembered = Vec::new();
        node.offset = offset;
        node.up = true;
        node.slow = Duration::ZERO;
        if !first {
            self.later(Duration::from_millis(1), Coming::Drain(id));
        }
    }

    /// All is well from now on.
    pub fn repair(&mut self) {
        self.say(|| "all is well from now on".to_owned());
        self.quiet = true;
        for (a, b) in self.network.cut.clone() {
            self.heal(a, b);
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let node = self.node(id);
            node.slow = Duration::ZERO;
            node.table.capacity = 1_000;
            node.host_paused_until = Duration::ZERO;
            node.daemon_paused_until = Duration::ZERO;
            if !self.nodes[&id].up || self.nodes[&id].cluster.is_none() {
                self.restart(id, !self.nodes[&id].up);
            }
            if !self.nodes[&id].witness {
                self.fault(Fault::DataplaneUp(id));
                self.fault(Fault::Command(id, Command::Maintenance(false)));
                self.fault(Fault::Command(id, Command::Resync));
            }
        }
    }

    /// Every segment has one owner, with all its tunnels, and a standby in good order.
    pub fn agree(&self) -> Result<(), String> {
        let nodes: Vec<_> = self.nodes.values().filter(|node| !node.witness).collect();
        let status: Vec<_> = nodes.iter().filter_map(|node| Some(node.cluster.as_ref()?.status())).collect();
        let mut owned = Segments::NONE;
        for status in &status {
            if !(owned & status.owned).is_empty() {
                return Err(format!("two own {}", owned & status.owned));
            }
            owned |= status.owned;
            let ready = status.members.iter().fold(Segments::NONE, |all, member| all | member.ready);
            if !(status.owned - ready).is_empty() {
                let missing = status.owned - ready;
                return Err(format!("{}: nobody stands by for {missing}: {:?}", status.me, status.members));
            }
        }
        if owned != Segments::ALL {
            return Err(format!("nobody owns {}", Segments::ALL - owned));
        }
        self.peers.keys().try_for_each(|name| self.crosses(name))
    }

    fn crosses(&self, name: &Name) -> Result<(), String> {
        let peer = &self.peers[name];
        let owner = self.nodes.values().find(|node| node.owns(peer.segment, self.now));
        let tunnel = owner.and_then(|owner| owner.table.tunnels.get(name));
        match tunnel {
            Some(tunnel) if tunnel.generation == peer.generation && !tunnel.is_shut() => Ok(()),
            other => Err(format!("{name} stands still: {other:?}, its peer {peer:?}")),
        }
    }
}
