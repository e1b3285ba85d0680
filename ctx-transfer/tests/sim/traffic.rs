//! What the peers and the protected network send, and what the IKE daemons do by themselves.

use std::time::Duration;

use baton_ctx_transfer::cluster::Event;
use baton_sad::{Name, NodeId};

use crate::table::Tunnel;
use crate::world::{Coming, World};

impl World {
    /// Workers have raised attention.
    pub fn drain(&mut self, id: NodeId) {
        self.later(Duration::from_millis(2), Coming::Drain(id));
        if self.nodes[&id].host_runs(self.now) && self.nodes[&id].runs_until() <= self.now {
            let edges = self.node(id).table.edges();
            if !edges.is_empty() {
                self.with(id, |cluster, now| cluster.handle(now, Event::Edges(edges)));
            }
        }
    }

    /// A peer's packets come to every node; its owner takes them.
    pub fn inbound(&mut self, tunnel: Name, generation: u32, number: u64) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let (now, node) = (self.now, self.node(id));
            let local = node.local(now);
            if node.host_runs(now) && node.table.receive(&tunnel, generation, number, local) {
                let verdict = self.judge.accepted(id, tunnel, generation, number);
                if verdict.is_err() && self.setting.continuity {
                    self.count("received again");
                } else {
                    self.violate(verdict);
                }
            }
        }
    }

    /// The protected network has something to send.
    pub fn outbound(&mut self, tunnel: Name) {
        let pause = self.random.micros(200, 4_000);
        self.later(pause, Coming::Outbound(tunnel));
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let (now, node) = (self.now, self.node(id));
            let local = node.local(now);
            if !node.host_runs(now) {
                continue;
            }
            if let Some(sent) = node.table.send(&tunnel, local) {
                let iv = (node.table.epoch, node.table.ivs);
                let verdict = self.judge.sent(id, tunnel, sent, iv);
                self.violate(verdict);
            }
        }
    }

    /// The peer has something to send; the network repeats some of it.
    pub fn peer_sends(&mut self, tunnel: Name) {
        let pause = self.random.micros(200, 4_000);
        self.later(pause, Coming::PeerSends(tunnel));
        let Some(peer) = self.peers.get_mut(&tunnel).filter(|peer| peer.established) else { return };
        peer.sent += 1;
        let (generation, number) = (peer.generation, peer.sent);
        let delay = self.random.micros(10, 2_000);
        self.later(delay, Coming::Inbound { tunnel, generation, number });
        // An attacker repeats what it has seen.
        let older = number.saturating_sub(self.random.below(40));
        let delay = self.random.micros(10, 150_000);
        self.later(delay, Coming::Inbound { tunnel, generation, number: older });
    }

    /// The one node that owns a tunnel's segment and can work on it.
    fn owner(&self, segment: u8) -> Option<NodeId> {
        let runs = |node: &&crate::node::Node| node.cluster.is_some() && node.runs_until() <= self.now;
        let mut owners = self.nodes.values().filter(|node| node.owns(segment, self.now)).filter(runs);
        owners.next().filter(|_| owners.next().is_none()).map(|node| node.id)
    }

    /// Something changes a tunnel: it is set up, has a message, is rekeyed.
    pub fn work(&mut self, tunnel: Name) {
        let pause = self.random.micros(10_000, 120_000);
        self.later(pause, Coming::Work(tunnel));
        let Some(peer) = self.peers.get(&tunnel).cloned() else { return };
        let Some(owner) = self.owner(peer.segment) else { return };
        let known = self.nodes[&owner].table.tunnels.get(&tunnel);
        let fits = known.is_some_and(|known| known.generation == peer.generation && !known.is_shut());
        let waits = peer.coming.is_some() && self.random.per_mille(700);
        if known.is_none() || !fits && !waits || self.random.per_mille(150) {
            return self.new_keys(owner, tunnel);
        }
        let node = self.node(owner);
        let known = node.table.tunnels.get_mut(&tunnel).expect("looked at above");
        known.version += 1;
        let version = known.version;
        self.changed(owner, tunnel, peer.segment, version);
    }

    /// The owner and the peer have new keys, and begin at 1.
    fn new_keys(&mut self, owner: NodeId, name: Name) {
        let Some(peer) = self.peers.get_mut(&name) else { return };
        peer.made += 1;
        let (segment, generation) = (peer.segment, peer.made);
        let known = self.nodes[&owner].table.tunnels.get(&name).map_or(0, |tunnel| tunnel.version);
        peer.coming = Some((owner, known + 1, generation));
        let tunnel = Tunnel::new(segment, known + 1, generation);
        self.node(owner).table.tunnels.insert(name, tunnel);
        self.say(|| format!("{owner} {name} has generation {generation}"));
        self.changed(owner, name, segment, known + 1);
    }

    fn changed(&mut self, owner: NodeId, tunnel: Name, segment: u8, version: u64) {
        self.with(owner, |cluster, now| {
            cluster.handle(now, Event::TunnelChanged { tunnel, segment, version });
            cluster.handle(now, Event::Await { tunnel, version });
        });
    }

    /// A tunnel that may not be used as it is gets new keys, by whoever owns it by then.
    pub fn rekey(&mut self, tunnel: Name, generation: u32) {
        let Some(peer) = self.peers.get(&tunnel) else { return };
        let segment = peer.segment;
        let Some(owner) = self.owner(segment) else {
            return self.later(Duration::from_millis(20), Coming::Rekey(tunnel, generation));
        };
        let old = self.nodes[&owner].table.tunnels.get(&tunnel);
        if old.is_some_and(|old| old.is_shut() && old.generation == generation) {
            self.new_keys(owner, tunnel);
        }
    }
}
