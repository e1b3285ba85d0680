//! The threads of a cluster daemon beside its driver's: each does what it was handed in its order, some time later, and
//! tells the core what came of it some time after that. Leases do not wait for them.

use std::time::Duration;

use baton_ctx_transfer::cluster::{
    Cause, Content, Event, Octets, Output, Refusal, Replication, Reserved, SaKey, Segments,
};
use baton_sad::{Name, NodeId};

use crate::table::Tunnel;
use crate::world::{Coming, World};

/// Between what a thread has done and the core's hearing of it.
const TOLD: Duration = Duration::from_micros(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thread {
    /// Contexts, and all that takes its time.
    Hands,
    /// What a planned move waits for.
    Moves,
    Counters,
    /// Tells the IKE daemon what is owned.
    Ownership,
}

impl World {
    /// Work for a thread.
    pub fn hand_over(&mut self, id: NodeId, thread: Thread, output: Output) {
        let queue = self.node(id).queues.entry(thread).or_default();
        queue.push_back(output);
        if queue.len() == 1 {
            let after = self.random.micros(10, self.setting.answer) + self.nodes[&id].slow;
            self.turn_later(id, thread, after);
        }
    }

    fn turn_later(&mut self, node: NodeId, thread: Thread, after: Duration) {
        let life = self.nodes[&node].life;
        self.later(after, Coming::Turn { node, life, thread });
    }

    /// A thread does the next thing.
    pub fn turn(&mut self, id: NodeId, life: u64, thread: Thread) {
        if self.nodes[&id].life != life {
            return;
        }
        let until = self.nodes[&id].runs_until();
        if until > self.now {
            return self.turn_later(id, thread, until.saturating_sub(self.now));
        }
        let queue = self.node(id).queues.entry(thread).or_default();
        let (output, more) = (queue.pop_front(), queue.len());
        if let Some(output) = output {
            self.do_one(id, output);
        }
        if more > 0 {
            let after = self.random.micros(5, 200);
            self.turn_later(id, thread, after);
        }
    }

    fn do_one(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Took { segments, cause: Cause::Stale } => self.rekey_all(id, segments),
            Output::Prepare { segments, advance } => {
                self.advance(id, advance);
                self.answer(id, Event::Prepared { segments, exact: false });
            }
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
                let result = self.remove(id, &tunnel);
                self.answer(id, Event::Applied { from, number, result });
            }
            Output::Replicated { tunnel, version, outcome } => self.replicated(id, tunnel, version, outcome),
            other => self.move_one(id, other),
        }
    }

    fn move_one(&mut self, id: NodeId, output: Output) {
        match output {
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
            Output::Hold { from, number, .. } => self.answer(id, Event::Holding { from, number }),
            Output::Stage { from, number, parts } => {
                self.staged.insert((id, from), (number, parts));
                let result = if self.random.per_mille(50) { Err(Refusal::Full) } else { Ok(()) };
                self.answer(id, Event::Staged { from, number, result });
            }
            Output::Commit { from, number, segments } => {
                let exact = self.commit(id, from, number);
                self.answer(id, Event::Prepared { segments, exact });
            }
            Output::Discard { from, .. } => drop(self.staged.remove(&(id, from))),
            _ => {}
        }
    }

    fn answer(&mut self, node: NodeId, event: Event) {
        let life = self.nodes[&node].life;
        self.later(TOLD, Coming::Answer { node, life, event });
    }

    /// Counters that are not known to be high enough: no SA is used before it is rekeyed.
    fn advance(&mut self, id: NodeId, segments: Segments) {
        if !self.care.advances {
            return;
        }
        for tunnel in self.node(id).table.tunnels.values_mut().filter(|t| segments.contains(t.segment)) {
            tunnel.shut();
        }
    }

    /// The IKE daemon has heard that it knows less of tunnels than their peers.
    fn rekey_all(&mut self, id: NodeId, segments: Segments) {
        self.count("rekeys");
        let tunnels = self.nodes[&id].table.tunnels.iter();
        let tunnels = tunnels.filter(|(_, tunnel)| segments.contains(tunnel.segment));
        let names: Vec<_> = tunnels.map(|(name, tunnel)| (*name, tunnel.generation)).collect();
        for (name, generation) in names {
            let after = self.random.micros(2_000, 20_000);
            self.later(after, Coming::Rekey(name, generation));
        }
    }

    fn remove(&mut self, id: NodeId, tunnel: &Name) -> Result<(), Refusal> {
        let local = self.nodes[&id].local(self.now);
        let table = &mut self.node(id).table;
        if table.tunnels.get(tunnel).is_some_and(|known| table.owns(known.segment, local)) {
            return Err(Refusal::Policy);
        }
        table.tunnels.remove(tunnel);
        Ok(())
    }

    fn raise_floors(&mut self, id: NodeId, floors: &[Reserved], within: Segments) -> (Vec<SaKey>, Segments) {
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
        self.answer(id, event);
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
        let local = self.nodes[&id].local(self.now);
        let table = &mut self.node(id).table;
        if table.owns(segment, local) {
            return Err(Refusal::Policy);
        }
        if table.tunnels.len() >= table.capacity && !table.tunnels.contains_key(&name) {
            return Err(Refusal::Full);
        }
        let known = table.tunnels.entry(name).or_insert_with(|| Tunnel::new(segment, version, generation));
        if known.generation != generation {
            *known = Tunnel::new(segment, version, generation);
        }
        known.version = version;
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

    /// Counters become exactly what the old owner's were.
    fn commit(&mut self, id: NodeId, from: NodeId, number: u64) -> bool {
        let Some((staged, parts)) = self.staged.remove(&(id, from)) else { return false };
        assert_eq!(staged, number, "what is committed was staged last");
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
                tunnel.inbound.seen = numbers[4..].iter().copied().collect();
            }
        }
        true
    }

    /// An IKE message leaves: the peer sees the effect.
    fn replicated(&mut self, id: NodeId, tunnel: Name, version: u64, outcome: Replication) {
        self.count(match outcome {
            Replication::Done => "replicated",
            Replication::Late => "late",
            Replication::Alone => "alone",
        });
        let known = self.nodes[&id].table.tunnels.get(&tunnel).map(|tunnel| tunnel.generation);
        if let Some(peer) = self.peers.get_mut(&tunnel) {
            // A former owner's keys that never reached the peer: another one has gone on without them.
            peer.coming
                .take_if(|(owner, change, made)| *owner == id && *change < version && known != Some(*made));
            // What did not wait long enough was announced as late: nobody promises anything of it.
            peer.sure = (peer.sure && peer.established) || outcome != Replication::Late;
            peer.established = true;
            let is_its = |(owner, change, _): &mut (NodeId, u64, u32)| *owner == id && *change <= version;
            if let Some((.., generation)) = peer.coming.take_if(is_its) {
                peer.generation = generation;
                if outcome != Replication::Late {
                    peer.sure_generation = generation;
                }
                peer.sent = 0;
            }
        }
    }
}
