//! What goes wrong, what operators do, and what both ends want of IKE.

use std::time::Duration;

use baton_ctx_transfer::cluster::{Cluster, Command as ClusterCommand, Event, Segments};
use baton_ike_proto::Command;
use baton_ike_proto::host::Target;
use baton_ike_proto::machine::{TunnelState, TunnelView};
use baton_sad::NodeId;

use crate::links::link;
use crate::plane::Plane;
use crate::setting::connection_name;
use crate::world::{Coming, World};

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    CrashHost(NodeId),
    CrashDaemon(NodeId),
    /// Between two outputs.
    CrashIke(NodeId),
    PauseHost(NodeId),
    PauseDaemon(NodeId),
    PauseIke(NodeId),
    Cut(NodeId, NodeId),
    Isolate(NodeId),
    Command(NodeId, ClusterCommand),
}

impl World {
    /// Plans faults over a time.
    pub fn plan(&mut self, time: Duration) {
        for _ in 0..self.scene.faults {
            let at = self.micros(400_000, time.as_micros() as u64);
            let fault = self.any_fault();
            self.later(at, Coming::Fault(fault));
        }
    }

    fn any_fault(&mut self) -> Fault {
        let nodes = self.scene.nodes();
        let members: Vec<NodeId> = self.scene.members.iter().map(|member| member.id).collect();
        let node = *self.random.pick(&nodes).expect("there are nodes");
        let member = *self.random.pick(&members).expect("there are members");
        let other = *self.random.pick(&members).expect("there are members");
        let to = *self.random.pick(&nodes).expect("there are nodes");
        let some: Segments = (0..self.random.below(256)).map(|_| self.random.next() as u8).collect();
        match self.random.below(18) {
            0..=2 => Fault::CrashHost(node),
            3 => Fault::CrashHost(member),
            4 => Fault::CrashDaemon(member),
            5..=7 => Fault::CrashIke(node),
            8 => Fault::PauseHost(node),
            9 => Fault::PauseDaemon(node),
            10 => Fault::PauseIke(node),
            11 | 12 => Fault::Cut(member, other),
            13 => Fault::Isolate(member),
            14 | 15 => Fault::Command(node, ClusterCommand::Move { segments: Segments::ALL, to }),
            16 => Fault::Command(node, ClusterCommand::Take(some)),
            _ => Fault::Command(node, ClusterCommand::Drop(some)),
        }
    }

    pub fn fault(&mut self, fault: Fault) {
        self.say(|| format!("fault {fault:?}"));
        let until = self.now + self.micros(5_000, 150_000);
        match fault {
            Fault::CrashHost(id) => self.crash(id, true),
            Fault::CrashDaemon(id) => self.crash(id, false),
            Fault::CrashIke(id) => {
                let outputs = self.random.below(8);
                self.node(id).process.fuse = Some(outputs);
            }
            Fault::PauseHost(id) => {
                let node = self.node(id);
                (node.daemon.paused_until, node.process.paused_until) = (until, until);
                self.judge.count("hosts stopped");
            }
            Fault::PauseDaemon(id) => self.node(id).daemon.paused_until = until,
            Fault::PauseIke(id) => self.node(id).process.paused_until = until,
            Fault::Cut(a, b) => self.cut(a, b),
            Fault::Isolate(id) => {
                let others: Vec<_> = self.nodes.keys().copied().filter(|other| *other != id).collect();
                for other in others {
                    self.cut(id, other);
                }
            }
            Fault::Command(id, command) => {
                if self.paused(id).is_none() {
                    self.with(id, |core, now| core.handle(now, Event::Command(command)));
                }
            }
        }
    }

    fn cut(&mut self, a: NodeId, b: NodeId) {
        if a != b && self.links.cut.insert(link(a, b)) {
            self.judge.count("links cut");
            let until = self.micros(5_000, 300_000);
            self.later(until, Coming::Heal(a, b));
        }
    }

    pub fn heal(&mut self, a: NodeId, b: NodeId) {
        if self.links.cut.remove(&link(a, b)) {
            let after = self.micros(1_000, 20_000);
            self.later(after, Coming::Connect(a, b));
        }
    }

    /// The cluster daemon dies, or everything.
    fn crash(&mut self, id: NodeId, host: bool) {
        if !self.nodes[&id].up {
            return;
        }
        let node = self.node(id);
        node.up = !host;
        node.bury_core();
        node.daemon.life += 1;
        node.daemon.owned.clear();
        node.daemon.staged.clear();
        node.daemon.synced = false;
        node.daemon.busy = [Duration::ZERO; 4];
        self.judge.count(if host { "hosts dead" } else { "cluster daemons dead" });
        if host && !self.nodes[&id].witness {
            self.kill_ike(id);
        } else if !host {
            self.unlink(id);
        }
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.disconnect(id, other);
        }
        let after = self.micros(2_000, 250_000);
        self.later(after, Coming::Restart(id, host));
    }

    /// A cluster daemon starts; with its host, nothing is left of before.
    pub fn restart(&mut self, id: NodeId, host: bool) {
        if self.nodes[&id].daemon.core.is_some() || !host && !self.nodes[&id].up {
            return;
        }
        if host {
            self.boot(id);
        }
        let (config, incarnation) = (self.scene.configuration(id), self.random.next());
        let (now, guards) = (self.now, self.guards);
        let node = self.node(id);
        let local = node.local(now);
        let mut core =
            Cluster::new(config, local, incarnation, &node.daemon.remembered).expect("it is valid");
        core.set_guards(guards);
        if !node.witness {
            core.handle(local, Event::Dataplane { ready: true });
        }
        node.daemon.core = Some(core);
        let life = node.daemon.life;
        self.carry_out(id);
        if !self.nodes[&id].witness {
            // The IKE daemon hears at once that this life of the other daemon owns nothing yet.
            self.own_again(id, life);
            self.later(Duration::from_millis(1), Coming::Link(id));
        }
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            let after = self.micros(500, 20_000);
            self.later(after, Coming::Connect(id, other));
        }
    }

    fn boot(&mut self, id: NodeId) {
        let (host, offset) = (self.fresh_host(), self.micros(1, 1_000_000_000));
        let node = self.node(id);
        (node.host, node.plane, node.up) = (host, Plane::new(), true);
        node.clock.offset = offset;
        node.daemon.remembered.clear();
        node.process.versions.clear();
        self.start_ike(id);
    }

    /// All is well from now on.
    pub fn repair(&mut self) {
        self.say(|| "all is well from now on".to_owned());
        self.quiet = true;
        self.outer.heal();
        for (a, b) in self.links.cut.clone() {
            self.heal(a, b);
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let node = self.node(id);
            node.daemon.paused_until = Duration::ZERO;
            (node.process.paused_until, node.process.fuse) = (Duration::ZERO, None);
            if !self.nodes[&id].up || self.nodes[&id].daemon.core.is_none() {
                self.restart(id, !self.nodes[&id].up);
            }
            if !self.nodes[&id].witness {
                self.start_ike(id);
                self.with(id, |core, now| core.handle(now, Event::Command(ClusterCommand::Resync)));
            }
        }
    }

    /// Somebody wants something of IKE: a peer, or the owner of a tunnel, or both at once.
    pub fn wish(&mut self) {
        let pause =
            if self.random.per_mille(250) { self.micros(100, 5_000) } else { self.micros(5_000, 120_000) };
        if self.quiet {
            return;
        }
        self.later(pause, Coming::Wish);
        let at = self.random.below(self.peers.len() as u64) as usize;
        let tunnels = self.peers[at].tunnels(self.now);
        let Some(view) = self.random.pick(&tunnels).cloned() else {
            self.setups[at] += 1;
            let (connection, child) = (connection_name(0), None);
            return self.tell_peer(at, Command::Initiate { connection, child });
        };
        if view.state != TunnelState::Established {
            return;
        }
        let side = self.random.below(4);
        if side > 0
            && let Some(command) = self.any_wish(at, &view)
        {
            self.tell_peer(at, command);
        }
        let owner = (side < 2).then(|| self.other_end(&view)).flatten();
        if let Some((id, view)) = owner
            && let Some(command) = self.any_wish(at, &view)
        {
            self.command(id, command);
        }
    }

    fn any_wish(&mut self, at: usize, view: &TunnelView) -> Option<Command> {
        let tunnel = Target::Tunnel(view.name.as_str().to_owned());
        let child = self.random.pick(&view.children).cloned();
        match (self.random.below(100), child) {
            (0..30, _) => {
                self.rekeys += 1;
                Some(Command::RekeyIke(tunnel))
            }
            (30..75, Some(child)) => {
                self.rekeys += 1;
                Some(Command::RekeyChild(Target::Spi(child.inbound_spi)))
            }
            (75..80, Some(child)) => Some(Command::Terminate(Target::Spi(child.inbound_spi))),
            (80..83, _) => Some(Command::Terminate(tunnel)),
            (83..93, _) => {
                // The tunnel may be over by then.
                self.setups[at] += 1;
                let child = self.random.below(self.scene.setting.children as u64) as usize;
                let child = Some(crate::setting::child_name(child));
                Some(Command::Initiate { connection: view.connection.clone(), child })
            }
            _ => None,
        }
    }

    /// The node that has the other end of a peer's tunnel, and acts for it.
    pub fn other_end(&self, view: &TunnelView) -> Option<(NodeId, TunnelView)> {
        self.nodes.values().filter(|node| node.process.paused_until <= self.now).find_map(|node| {
            let ike = node.process.ike.as_ref()?;
            let is_it = |other: &TunnelView| {
                other.spis == view.spis
                    && other.state != TunnelState::Standby
                    && node.owns(other.segment, self.now)
            };
            ike.tunnels(node.now(self.now)).find(is_it).map(|view| (node.id, view))
        })
    }
}
