//! The driver of a core: what takes no time it does at once, all else it hands to its threads (`threads`).

use std::time::Duration;

use baton_ctx_transfer::cluster::{Alarm, Cause, Cluster, Lane, Octets, Output, Segments};
use baton_sad::NodeId;

use crate::threads::Thread;
use crate::world::{Coming, World};

impl World {
    /// Does everything that a core wants.
    pub fn perform(&mut self, id: NodeId) {
        loop {
            let node = self.nodes.get_mut(&id).expect("a member");
            let Some(output) = node.cluster.as_mut().and_then(Cluster::poll) else { break };
            self.perform_one(id, output);
        }
        self.set_timer(id);
    }

    fn perform_one(&mut self, id: NodeId, output: Output) {
        if self.trace && !matches!(output, Output::Send { .. } | Output::Reserve(_) | Output::SetLease { .. })
        {
            self.say(|| format!("{id} {output:?}"));
        }
        match output {
            Output::Send { to, lane, octets } => self.send(id, to, lane, octets),
            Output::SetLease { segments, until } => self.set_lease(id, segments, until),
            Output::Took { segments, cause } => {
                let in_good_order = matches!(cause, Cause::Takeover | Cause::Planned);
                self.took(id, segments, in_good_order);
                self.hand_over(id, Thread::Ownership, Output::Took { segments, cause });
            }
            Output::Prepare { segments, advance } => {
                self.part(|world, segment| {
                    segments.contains(segment) && world.is_owned_by_another(id, segment)
                });
                self.hand_over(id, Thread::Hands, Output::Prepare { segments, advance });
            }
            // They follow each other again.
            Output::Synced(synced) => self.alone.retain(|_, _| !synced),
            Output::Alarm { alarm: Alarm::Silent(other), raised } => self.note_silence(id, other, raised),
            Output::Remember(remembered) => self.node(id).remembered = remembered,
            Output::Reserve(_) | Output::RaiseFloors { .. } => self.hand_over(id, Thread::Counters, output),
            Output::Lost { .. }
            | Output::Alarm { .. }
            | Output::Notice(_)
            // Packets that nobody may handle are lost here: links lose some anyway.
            | Output::EndHold { .. } => {}
            Output::Silence { .. }
            | Output::Freeze { .. }
            | Output::Thaw { .. }
            | Output::Hold { .. }
            | Output::Stage { .. }
            | Output::Commit { .. }
            | Output::Discard { .. } => self.hand_over(id, Thread::Moves, output),
            work => self.hand_over(id, Thread::Hands, work),
        }
    }

    pub fn node(&mut self, id: NodeId) -> &mut crate::node::Node {
        self.nodes.get_mut(&id).expect("a member")
    }

    fn send(&mut self, from: NodeId, to: NodeId, lane: Lane, octets: Octets) {
        assert!(octets.0.len() <= lane.most_octets(), "{} octets on {lane:?}", octets.0.len());
        if matches!(lane, Lane::Contexts | Lane::Control) {
            return self.send_reliably(from, to, lane, octets);
        }
        if self.network.is_cut(from, to) || self.random.per_mille(self.lost()) {
            return;
        }
        let copies = if self.random.per_mille(self.setting.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.random.micros(50, 51 + self.setting.delay);
            self.later(delay, Coming::Datagram { from, to, lane, octets: octets.clone() });
        }
    }

    fn lost(&self) -> u64 {
        if self.quiet { 0 } else { self.setting.lost }
    }

    fn send_reliably(&mut self, from: NodeId, to: NodeId, lane: Lane, octets: Octets) {
        let Some(connection) = self.network.connection(from, to).filter(|c| !c.broken) else { return };
        if self.network.is_cut(from, to) {
            return self.break_connection(from, to);
        }
        let at = self.now + self.random.micros(50, 51 + self.setting.delay);
        let at = self.network.in_order(from, to, at);
        self.at(at, Coming::Message { from, to, lane, octets, connection: connection.number });
    }

    /// I4 is checked whenever a lease is written: that is where it could begin to be broken.
    fn set_lease(&mut self, id: NodeId, segments: Segments, until: Duration) {
        for segment in segments.iter() {
            self.node(id).table.leases[usize::from(segment)] = until;
            if !self.nodes[&id].owns(segment, self.now) {
                continue;
            }
            if !self.setting.is_exclusive() && self.went_on_without(id, segment) {
                self.split(segment);
            }
            if !self.is_owned_by_another(id, segment) {
                continue;
            }
            if self.setting.is_exclusive() {
                self.violate(Err(format!("I4: {id} and another one own segment {segment}")));
            } else {
                self.count("pairs parted");
                self.split(segment);
            }
        }
    }

    fn is_owned_by_another(&self, id: NodeId, segment: u8) -> bool {
        self.nodes.values().any(|node| node.id != id && node.owns(segment, self.now))
    }

    /// Who lives and does not hear goes by what it heard last, while the other one goes on.
    fn note_silence(&mut self, id: NodeId, other: NodeId, raised: bool) {
        let lives = self.nodes.get(&other).is_some_and(|node| node.cluster.is_some());
        if raised && lives {
            let owned = (0..=u8::MAX).filter(|segment| self.nodes[&id].owns(*segment, self.now));
            let owned: Segments = owned.collect();
            *self.alone.entry(id).or_default() |= owned;
        } else if !raised {
            self.alone.remove(&id);
        }
    }

    /// Whether the other one of a pair has owned a segment since the two have not heard each other.
    fn went_on_without(&self, id: NodeId, segment: u8) -> bool {
        self.alone.iter().any(|(owner, segments)| *owner != id && segments.contains(segment))
    }

    /// The nodes of a pair without a witness may go on with segments without each other.
    fn part(&mut self, is_meant: impl Fn(&Self, u8) -> bool) {
        if self.setting.is_exclusive() {
            return;
        }
        for segment in 0..=u8::MAX {
            if is_meant(self, segment) {
                self.split(segment);
            }
        }
    }

    /// A pair without a witness promises nothing of a segment with which one node goes on without the other, until its
    /// tunnels are rekeyed.
    fn split(&mut self, segment: u8) {
        for node in self.nodes.values() {
            for (name, tunnel) in node.table.tunnels.iter().filter(|(_, t)| t.segment == segment) {
                self.judge.split(*name, tunnel.generation);
            }
        }
    }

    /// I6: whoever takes a segment over in good order has its tunnels, no older than their peers know them.
    fn took(&mut self, id: NodeId, segments: Segments, in_good_order: bool) {
        self.count("taken");
        let peers: Vec<_> = self.peers.iter().map(|(name, peer)| (*name, peer.clone())).collect();
        for (name, peer) in peers.into_iter().filter(|(_, p)| p.established && segments.contains(p.segment)) {
            let known = self.nodes[&id].table.tunnels.get(&name).map(|tunnel| tunnel.generation);
            if known.is_some_and(|generation| generation >= peer.sure_generation) {
                continue;
            }
            if in_good_order && peer.sure && self.setting.is_exclusive() {
                self.violate(Err(format!(
                    "I6: {id} took segment {} in good order with {name} of {known:?}, not {}",
                    peer.segment, peer.sure_generation
                )));
            }
            if known.is_some() {
                continue;
            }
            self.count("tunnels lost");
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.established = false;
                peer.lost += 1;
            }
        }
    }
}
