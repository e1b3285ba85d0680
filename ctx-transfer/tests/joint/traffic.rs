//! Packets of ESP between the cluster and its peers.

use std::time::Duration;

use baton_sad::NodeId;

use crate::plane::{inbound, outbound, segment};
use crate::setting::seen;
use crate::world::{Coming, World};

/// A packet on its way.
#[derive(Debug, Clone)]
pub struct Packet {
    pub spi: u32,
    pub key: Vec<u8>,
    pub sequence: u64,
    /// To the cluster, or to a peer.
    pub to_cluster: bool,
}

/// Older packets come again; so many are remembered.
const REMEMBERED: usize = 200;

impl World {
    /// Somebody has something to send.
    pub fn traffic(&mut self) {
        let pause = self.micros(100, 900);
        self.later(pause, Coming::Traffic);
        let peers = self.peers.len() as u64;
        let peer = self.random.below(peers) as usize;
        if self.random.per_mille(500) { self.peer_sends(peer) } else { self.cluster_sends(peer) }
    }

    fn peer_sends(&mut self, peer: usize) {
        let table = &mut self.peers[peer].host.table;
        let reqids: Vec<u32> = table.outbound.keys().copied().collect();
        let Some(reqid) = self.random.pick(&reqids) else { return };
        let sa = table.outbound.get_mut(reqid).expect("picked from there");
        sa.sequence += 1;
        let (spi, key, sequence) = (sa.spi, sa.key.clone(), sa.sequence);
        let sent = self.judge.history.send(&key, sequence);
        self.violate(sent);
        self.cross(Packet { spi, key, sequence, to_cluster: true });
    }

    /// Each node has what it protects, and only the owner sends.
    fn cluster_sends(&mut self, peer: usize) {
        let to = seen(peer + 1);
        for id in self.scene.nodes() {
            let (now, node) = (self.now, self.nodes.get_mut(&id).expect("a member"));
            let local = node.local(now);
            let sas = node.host.table.outbound.values().filter(|sa| sa.ends.remote.ip() == to);
            let reqids: Vec<u32> = sas.map(|sa| sa.reqid).collect();
            let Some(reqid) = self.random.pick(&reqids) else { continue };
            let sa = &node.host.table.outbound[reqid];
            let (spi, segment) = (sa.spi, segment(&sa.tunnel));
            if !node.up || node.is_stopped(now) || !node.plane.owns(segment, local) {
                continue;
            }
            let enforced = node.plane.enforced.contains(segment);
            let counter = node.plane.counters.get_mut(&outbound(*reqid, spi)).expect("each SA has one");
            let Some(sequence) = counter.take(enforced) else {
                self.judge.count("outbound misses");
                continue;
            };
            let (key, tunnel) = (sa.key.clone(), sa.tunnel.clone());
            let sent = self.judge.sent(id, &tunnel, &key, sequence);
            self.violate(sent);
            self.cross(Packet { spi, key, sequence, to_cluster: false });
        }
    }

    /// On its way, and now and then an older one with it.
    fn cross(&mut self, packet: Packet) {
        let again = (self.random.per_mille(200) && !self.crossing.is_empty()).then(|| {
            let at = self.random.below(self.crossing.len() as u64) as usize;
            self.crossing[at].clone()
        });
        if self.crossing.len() == REMEMBERED {
            self.crossing.pop_front();
        }
        self.crossing.push_back(packet.clone());
        for packet in std::iter::once(packet).chain(again) {
            let delay = self.micros(50, 3_000);
            self.later(delay, Coming::Packet(packet));
        }
    }

    pub fn packet(&mut self, packet: &Packet) {
        if packet.to_cluster {
            return self.scene.nodes().into_iter().for_each(|id| self.packet_to_node(id, packet));
        }
        let receiver = self.peers.iter_mut().find_map(|peer| peer.host.table.inbound.get_mut(&packet.spi));
        if let Some(sa) = receiver.filter(|sa| sa.key == packet.key && sa.sequence < packet.sequence) {
            sa.sequence = packet.sequence;
            let taken = self.judge.history.take(&packet.key, packet.sequence);
            self.crossed.insert(packet.key.clone(), self.now);
            self.violate(taken);
        }
    }

    fn packet_to_node(&mut self, id: NodeId, packet: &Packet) {
        let (now, node) = (self.now, self.nodes.get_mut(&id).expect("a member"));
        let local = node.local(now);
        if !node.up || node.is_stopped(now) {
            return;
        }
        let Some(sa) = node.host.table.inbound.get(&packet.spi).filter(|sa| sa.key == packet.key) else {
            return;
        };
        let tunnel = sa.tunnel.clone();
        let enforced = node.plane.enforced.contains(segment(&tunnel));
        let is_ours = node.plane.owns(segment(&tunnel), local);
        let counter = node.plane.counters.get_mut(&inbound(packet.spi)).expect("each SA has one");
        if is_ours && counter.accept(packet.sequence, enforced) {
            let accepted = self.judge.accepted(id, &tunnel, &packet.key, packet.sequence);
            self.crossed.insert(packet.key.clone(), now);
            self.violate(accepted);
        }
    }

    /// Whether an SA's packets get through these days.
    pub fn crosses(&self, key: &[u8]) -> bool {
        self.crossed.get(key).is_some_and(|at| *at + Duration::from_millis(900) > self.now)
    }
}
