//! The driver of a core: does what it wants with the table and the network.

use std::time::Duration;

use baton_ctx_transfer::cluster::{
    Cause, Cluster, Content, Event, Lane, Octets, Output, Refusal, Replication, Reserved, Segments,
};
use baton_sad::{Name, NodeId};

use crate::table::Tunnel;
use crate::world::{Coming, Commit, World};

impl World {
    /// Does everything that a core wants.
    pub fn perform(&mut self, id: NodeId) {
        let mut rekeyed = Segments::NONE;
        loop {
            let node = self.nodes.get_mut(&id).expect("a member");
            let Some(output) = node.cluster.as_mut().and_then(Cluster::poll) else { break };
            if let Output::Rekey { segments } = &output {
                rekeyed |= *segments;
            }
            self.perform_one(id, output, rekeyed);
        }
        self.set_timer(id);
    }

    fn perform_one(&mut self, id: NodeId, output: Output, rekeyed: Segments) {
        if self.trace && !matches!(output, Output::Send { .. } | Output::Reserve(_) | Output::SetLease { .. })
        {
            self.say(|| format!("{id} {output:?}"));
        }
        // One thread does all of this, in order.
        if matches!(output, Output::Apply { .. } | Output::Remove { .. } | Output::Freeze { .. }) {
            self.commit_up_to(id, u64::MAX);
        }
        match output {
            Output::Send { to, lane, octets } => self.send(id, to, lane, octets),
            Output::SetLease { segments, until } => self.set_lease(id, segments, until),
            Output::Took { segments, cause } => {
                let promised = if cause == Cause::First { Segments::NONE } else { segments - rekeyed };
                self.took(id, segments, promised);
            }
            Output::Rekey { segments } => self.block(id, segments),
            Output::Enforce { segments, enforced } => self.node(id).table.enforce(segments, enforced),
            Output::Reserve(items) => {
                for item in items {
                    if let Some((_, sa)) = self.node(id).table.find(item.key) {
                        sa.reserved = sa.reserved.max(item.reserved);
                        sa.mark = item.mark;
                    }
                }
            }
            Output::RaiseFloors { from, number, floors, within } => {
                let (missing, foreign) = self.raise_floors(id, &floors, within);
                self.answer(id, Event::FloorsRaised { from, number, missing, foreign });
            }
            Output::ReadContext { tunnel } => self.read(id, tunnel),
            Output::Apply { from, number, tunnel, segment, version, octets, floors, .. } => {
                let result = self.apply(id, tunnel, (segment, version), &octets, &floors);
                self.answer(id, Event::Applied { from, number, result });
            }
            Output::Remove { from, number, tunnel } => {
                self.node(id).table.tunnels.remove(&tunnel);
                self.answer(id, Event::Applied { from, number, result: Ok(()) });
            }
            Output::Silence { number, segments } => {
                let tunnels = &self.nodes[&id].table.tunnels;
                let tunnels = tunnels.iter().filter(|(_, tunnel)| segments.contains(tunnel.segment));
                let tunnels = tunnels.map(|(name, tunnel)| (*name, tunnel.version)).collect();
                self.answer(id, Event::Silent { number, tunnels });
            }
            Output::Freeze { number, segments } => {
                let parts = self.finals(id, segments);
                let event = if self.random.per_mille(30) {
                    Event::NotFrozen { number }
                } else {
                    Event::Frozen { number, parts }
                };
                self.answer(id, event);
            }
            Output::Stage { from, number, parts } => {
                self.staged.insert((id, from), (number, parts));
                let result = if self.random.per_mille(50) { Err(Refusal::Full) } else { Ok(()) };
                self.answer(id, Event::Staged { from, number, result });
            }
            Output::Commit { from, number, segments } => self.begin_commit(id, from, number, segments),
            Output::Discard { from, .. } => drop(self.staged.remove(&(id, from))),
            Output::Replicated { tunnel, version, outcome } => self.replicated(tunnel, version, outcome),
            Output::Remember(remembered) => self.node(id).remembered = remembered,
            _ => {}
        }
    }

    pub fn node(&mut self, id: NodeId) -> &mut crate::node::Node {
        self.nodes.get_mut(&id).expect("a member")
    }

    /// The data plane answers after a while.
    fn answer(&mut self, id: NodeId, event: Event) {
        let after = self.random.micros(10, self.setting.answer) + self.nodes[&id].slow;
        let life = self.nodes[&id].life;
        self.later(after, Coming::Answer { node: id, life, event });
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
            let owners: Vec<NodeId> =
                self.nodes.values().filter(|node| node.owns(segment, self.now)).map(|node| node.id).collect();
            if owners.len() < 2 || !owners.contains(&id) {
                continue;
            }
            if self.setting.is_exclusive() {
                self.violate(Err(format!("I4: {owners:?} own segment {segment}")));
            } else {
                self.count("pairs parted");
                self.split(segment);
            }
        }
    }

    /// A pair without a witness promises nothing of a segment that both own, until its tunnels are rekeyed.
    fn split(&mut self, segment: u8) {
        for node in self.nodes.values() {
            for (name, tunnel) in node.table.tunnels.iter().filter(|(_, t)| t.segment == segment) {
                self.judge.split(*name, tunnel.generation);
            }
        }
    }

    /// I6: whoever takes a segment over in good order has its tunnels, no older than their peers know them.
    fn took(&mut self, id: NodeId, segments: Segments, promised: Segments) {
        self.count("taken");
        let peers: Vec<_> = self.peers.iter().map(|(name, peer)| (*name, peer.clone())).collect();
        for (name, peer) in peers.into_iter().filter(|(_, p)| p.established && segments.contains(p.segment)) {
            let known = self.nodes[&id].table.tunnels.get(&name).map(|tunnel| tunnel.generation);
            if known.is_some_and(|generation| generation >= peer.sure_generation) {
                continue;
            }
            if promised.contains(peer.segment) && peer.sure && self.setting.is_exclusive() {
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

    /// Counters are not known to be high enough: no SA is used before it is rekeyed.
    fn block(&mut self, id: NodeId, segments: Segments) {
        self.count("rekeys");
        let tunnels = self.node(id).table.tunnels.iter_mut();
        let mut names = Vec::new();
        for (name, tunnel) in tunnels.filter(|(_, tunnel)| segments.contains(tunnel.segment)) {
            tunnel.blocked = true;
            names.push((*name, tunnel.generation));
        }
        for (name, generation) in names {
            let after = self.random.micros(2_000, 20_000);
            self.later(after, Coming::Rekey(name, generation));
        }
    }

    fn raise_floors(
        &mut self,
        id: NodeId,
        floors: &[Reserved],
        within: Segments,
    ) -> (Vec<baton_ctx_transfer::cluster::SaKey>, Segments) {
        let (local, mut missing, mut foreign) = (self.nodes[&id].local(self.now), Vec::new(), Segments::NONE);
        let table = &mut self.node(id).table;
        for floor in floors {
            let segment = table.find(floor.key).map(|(segment, _)| segment);
            let its = segment.filter(|segment| within.contains(*segment));
            foreign =
                segment.into_iter().filter(|_| its.is_none()).fold(foreign, |all, s| all | Segments::one(s));
            let owned = its.is_none_or(|segment| table.owns(segment, local));
            match table.find(floor.key) {
                Some((_, sa)) if !owned => sa.floor = sa.floor.max(floor.number),
                _ => missing.push(floor.key),
            }
        }
        (missing, foreign)
    }

    fn read(&mut self, id: NodeId, name: Name) {
        let event = match self.nodes[&id].table.tunnels.get(&name) {
            None => Event::NoContent { tunnel: name },
            Some(tunnel) => Event::Content(Content {
                tunnel: name,
                segment: tunnel.segment,
                version: tunnel.version,
                octets: Octets::from(tunnel.generation.to_be_bytes().repeat(100)),
                reserved: tunnel.reserved(&name),
            }),
        };
        let after = self.random.micros(10, self.setting.answer);
        let life = self.nodes[&id].life;
        self.later(after, Coming::Answer { node: id, life, event });
    }

    fn apply(
        &mut self,
        id: NodeId,
        name: Name,
        (segment, version): (u8, u64),
        octets: &Octets,
        floors: &[Reserved],
    ) -> Result<(), Refusal> {
        let generation = u32::from_be_bytes(*octets.0.first_chunk().expect("a generation"));
        let table = &mut self.node(id).table;
        if table.tunnels.len() >= table.capacity && !table.tunnels.contains_key(&name) {
            return Err(Refusal::Full);
        }
        let known = table.tunnels.entry(name).or_insert_with(|| Tunnel::new(segment, version, generation));
        if known.generation != generation {
            *known = Tunnel::new(segment, version, generation);
        }
        known.version = version;
        known.blocked = false;
        for floor in floors {
            let sa = known.sa(floor.key.direction);
            sa.floor = sa.floor.max(floor.number);
        }
        Ok(())
    }

    /// Everything that changes by packet, once no worker takes another number.
    fn finals(&mut self, id: NodeId, segments: Segments) -> Vec<Octets> {
        self.count("freezes");
        let mut parts = Vec::new();
        for (name, tunnel) in &self.nodes[&id].table.tunnels {
            if !segments.contains(tunnel.segment) {
                continue;
            }
            let mut part = Vec::new();
            let numbers = [u64::from(tunnel.generation), tunnel.outbound.edge.max(tunnel.outbound.floor)];
            let inbound = [tunnel.inbound.edge, tunnel.inbound.floor];
            let seen = tunnel.inbound.seen.iter().copied();
            for number in numbers.into_iter().chain(inbound).chain(seen) {
                part.extend(number.to_be_bytes());
            }
            part.extend(name.as_str().bytes());
            part.push(name.as_str().len() as u8);
            parts.push(Octets::from(part));
        }
        parts
    }

    /// It takes a while.
    fn begin_commit(&mut self, id: NodeId, from: NodeId, number: u64, segments: Segments) {
        let Some((staged, parts)) = self.staged.remove(&(id, from)) else { return };
        assert_eq!(staged, number, "what is committed was staged last");
        let life = self.nodes[&id].life;
        self.committing.push(Commit { node: id, life, number, segments, parts });
        let after = self.random.micros(10, self.setting.answer);
        self.later(after, Coming::Commit { node: id, life, number });
    }

    /// Does what is to be committed up to a move, and says so.
    pub fn commit_up_to(&mut self, id: NodeId, number: u64) {
        let of_node = |commit: &mut Commit| commit.node == id && commit.number <= number;
        let commits: Vec<_> = self.committing.extract_if(.., of_node).collect();
        let life = self.nodes[&id].life;
        for Commit { segments, parts, .. } in commits.into_iter().filter(|commit| commit.life == life) {
            self.commit(id, &parts);
            self.answer(id, Event::Prepared { segments, exact: true });
        }
    }

    /// Counters become exactly what the old owner's were.
    fn commit(&mut self, id: NodeId, parts: &[Octets]) {
        self.count("commits");
        for part in parts.iter().filter(|part| !part.0.is_empty()) {
            let (rest, length) = part.0.split_at(part.0.len() - 1);
            let (numbers, name) = rest.split_at(rest.len() - usize::from(length[0]));
            let name = Name::new(std::str::from_utf8(name).expect("a name")).expect("a name");
            let numbers: Vec<u64> =
                numbers.as_chunks().0.iter().map(|octets| u64::from_be_bytes(*octets)).collect();
            let table = &mut self.node(id).table;
            let Some(tunnel) = table.tunnels.get_mut(&name) else { continue };
            if u64::from(tunnel.generation) == numbers[0] {
                (tunnel.outbound.edge, tunnel.outbound.floor) = (numbers[1], 0);
                (tunnel.inbound.edge, tunnel.inbound.floor) = (numbers[2], numbers[3]);
                tunnel.blocked = false;
                tunnel.inbound.seen = numbers[4..].iter().copied().collect();
            }
        }
    }

    /// An IKE message leaves: the peer sees the effect.
    fn replicated(&mut self, tunnel: Name, version: u64, outcome: Replication) {
        self.count(match outcome {
            Replication::Done => "replicated",
            Replication::Late => "late",
            Replication::Alone => "alone",
        });
        if let Some(peer) = self.peers.get_mut(&tunnel) {
            // What did not wait long enough was announced as late: nobody promises anything of it.
            peer.sure = (peer.sure && peer.established) || outcome != Replication::Late;
            peer.established = true;
            if let Some((_, generation)) = peer.coming.take_if(|(change, _)| *change <= version) {
                peer.generation = generation;
                if outcome != Replication::Late {
                    peer.sure_generation = generation;
                }
                peer.sent = 0;
            }
        }
    }

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
                self.violate(verdict);
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
        let fits = known.is_some_and(|known| known.generation == peer.generation && !known.blocked);
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
        peer.coming = Some((known + 1, generation));
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
        if old.is_some_and(|old| old.blocked && old.generation == generation) {
            self.new_keys(owner, tunnel);
        }
    }
}
