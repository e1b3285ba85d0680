//! The threads of a cluster daemon: contexts, counters, what else takes its time.

use std::time::Duration;

use baton_ctx_transfer::cluster::{
    Content, Event, Key, Octets, Output, Refusal, Reservation, Reserved, SaKey, Segments,
};
use baton_ike_proto::host::TunnelName;
use baton_ike_proto::machine::{StandbyError, heading};
use baton_sad::{Name, NodeId};

use crate::plane::{self, Counter, sas, segment};
use crate::table::Sa;
use crate::world::{Coming, World};

/// Between two tries to read a context.
const AGAIN: Duration = Duration::from_millis(50);

/// What a context says of one SA: the same octets as at its owner.
#[derive(Clone)]
pub struct Copied {
    key: SaKey,
    sa: Sa,
    counter: Counter,
}

impl World {
    pub fn work(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Enforce { segments, enforced } => {
                let node = self.node(id);
                node.plane.enforce(&node.host.table, segments, enforced);
            }
            Output::Reserve(items) => self.reserve(id, &items),
            Output::RaiseFloors { from, number, floors, within } => {
                let (missing, foreign) = self.raise_floors(id, &floors, within);
                self.answer(id, Event::FloorsRaised { from, number, missing, foreign });
            }
            Output::ReadContext { tunnel } => self.read(id, tunnel),
            Output::Apply { from, number, tunnel, octets, floors, supersedes, .. } => {
                let result = self.apply(id, tunnel, &octets, &floors, supersedes);
                self.answer(id, Event::Applied { from, number, result });
            }
            Output::Remove { from, number, tunnel } => {
                let result = self.remove(id, tunnel);
                self.answer(id, Event::Applied { from, number, result });
            }
            // What IKE changes after this the move waits for, or is given up for.
            Output::Silence { number, .. } => {
                self.answer(id, Event::Silent { number, tunnels: Vec::new() });
            }
            Output::Freeze { number, segments } => {
                let event = if self.random.per_mille(30) {
                    Event::NotFrozen { number }
                } else {
                    Event::Frozen { number, parts: self.finals(id, segments) }
                };
                self.answer(id, event);
            }
            Output::Thaw { segments } => self.thaw(id, segments),
            Output::Hold { from, number, .. } => self.answer(id, Event::Holding { from, number }),
            Output::Stage { from, number, parts } => {
                let result = self.stage(id, (from, number), &parts);
                self.answer(id, Event::Staged { from, number, result });
            }
            Output::Commit { from, number, segments } => {
                self.commit(id, from, number);
                self.answer(id, Event::Prepared { segments, exact: true });
            }
            Output::Discard { from, number } => drop(self.node(id).daemon.staged.remove(&(from, number))),
            Output::Prepare { segments, advance } => {
                let node = self.node(id);
                node.plane.advance(&node.host.table, advance);
                self.answer(id, Event::Prepared { segments, exact: false });
            }
            Output::Replicated { tunnel, version, outcome } => {
                self.is_on_standbys(id, tunnel, version, outcome);
            }
            Output::Remember(remembered) => self.node(id).daemon.remembered = remembered,
            _ => {}
        }
    }

    fn reserve(&mut self, id: NodeId, items: &[Reservation]) {
        let counters = &mut self.node(id).plane.counters;
        for item in items {
            if let Some(counter) = counters.get_mut(&item.key).filter(|counter| !counter.frozen) {
                counter.reserved = counter.reserved.max(item.reserved);
                counter.mark = counter.mark.max(item.mark.min(item.reserved));
            }
        }
    }

    /// Of SAs of these segments; gives those that are not here, or are ours or somebody else's, and whose segments the
    /// latter are.
    fn raise_floors(&mut self, id: NodeId, floors: &[Reserved], within: Segments) -> (Vec<SaKey>, Segments) {
        let (now, node) = (self.now, self.node(id));
        let local = node.local(now);
        let (mut missing, mut foreign) = (Vec::new(), Segments::NONE);
        for floor in floors {
            let owner =
                sas(&node.host.table).find(|(key, _)| *key == floor.key).map(|(_, sa)| segment(&sa.tunnel));
            foreign |=
                owner.filter(|segment| !within.contains(*segment)).map(Segments::one).unwrap_or_default();
            let is_its =
                owner.is_none_or(|segment| within.contains(segment) && !node.plane.owns(segment, local));
            match node.plane.counters.get_mut(&floor.key).filter(|_| is_its) {
                Some(counter) => counter.floor = counter.floor.max(floor.number),
                None => missing.push(floor.key),
            }
        }
        (missing, foreign)
    }

    /// The IKE part and the SAs of one moment.
    fn read(&mut self, id: NodeId, tunnel: Name) {
        let node = &self.nodes[&id];
        if node.process.ike.is_none() || node.process.paused_until > self.now {
            self.judge.count("contexts read later");
            let life = self.nodes[&id].daemon.life;
            let output = Box::new(Output::ReadContext { tunnel });
            return self.later(AGAIN, Coming::Work { node: id, life, output });
        }
        let found = node.host.table.contexts.iter().find(|(found, _)| found.as_str() == tunnel.as_str());
        let Some((full, context)) = found else { return self.answer(id, Event::NoContent { tunnel }) };
        let version = heading(context).expect("its own context").version;
        let copies = self.copies(id, full);
        let reserved = copies.iter().map(|copy| node.plane.reserved(copy.key)).collect();
        // What a real context says of its SAs in octets is kept beside it.
        let mut octets = (self.copied.len() as u64).to_be_bytes().to_vec();
        octets.extend_from_slice(context);
        octets.resize(octets.len() + 200 * copies.len(), 0);
        let read = Content { tunnel, segment: segment(full), version, octets: octets.into(), reserved };
        let length = context.len();
        self.copied.push((copies, length));
        self.answer(id, Event::Content(read));
    }

    fn copies(&self, id: NodeId, tunnel: &TunnelName) -> Vec<Copied> {
        let node = &self.nodes[&id];
        let of_it = sas(&node.host.table).filter(|(_, sa)| sa.tunnel == *tunnel);
        of_it
            .map(|(key, sa)| Copied { key, sa: sa.clone(), counter: node.plane.counters[&key].clone() })
            .collect()
    }

    /// A copy of what another node owns. The IKE daemon, which knows the versions, is asked before the table is touched.
    fn apply(
        &mut self,
        id: NodeId,
        tunnel: Name,
        octets: &Octets,
        floors: &[Reserved],
        supersedes: bool,
    ) -> Result<(), Refusal> {
        let place = u64::from_be_bytes(*octets.0.first_chunk().expect("a place")) as usize;
        let (copies, length) = self.copied[place].clone();
        let context = octets.0[8..8 + length].to_vec();
        let full = tunnel;
        let tunnel = heading(&context).map_err(|_| Refusal::Malformed)?.tunnel;
        let (now, node) = (self.now, self.node(id));
        let local = node.local(now);
        if copies.iter().any(|copy| node.plane.owns(segment(&copy.sa.tunnel), local)) {
            return Err(Refusal::Policy);
        }
        let result = self.hand_over(id, full, &context, supersedes);
        if let Err(refusal) = result {
            self.judge.count("contexts refused");
            self.say(|| format!("{id} refuses {tunnel}: {refusal:?}"));
            return result;
        }
        let node = self.node(id);
        let table = &mut node.host.table;
        let is_offered = |key: SaKey| copies.iter().any(|copy| copy.key == key);
        table.inbound.retain(|spi, sa| sa.tunnel != tunnel || is_offered(plane::inbound(*spi)));
        table.outbound.retain(|reqid, sa| sa.tunnel != tunnel || is_offered(plane::outbound(*reqid, sa.spi)));
        for copy in &copies {
            match copy.key.direction {
                Key::Inbound => drop(table.inbound.insert(copy.sa.spi, copy.sa.clone())),
                Key::Outbound => drop(table.outbound.insert(copy.sa.reqid, copy.sa.clone())),
            }
            let given = copy.counter.as_copy();
            match node.plane.counters.get_mut(&copy.key) {
                Some(known) if known.used() > given.edge => known.frozen = false,
                Some(known) => {
                    let floor = known.floor.max(given.floor);
                    *known = Counter { floor, reserved: known.reserved, mark: known.mark, ..given };
                }
                None => drop(node.plane.counters.insert(copy.key, given)),
            }
        }
        node.plane.follow(&node.host.table);
        for floor in floors {
            if let Some(counter) = node.plane.counters.get_mut(&floor.key) {
                counter.floor = counter.floor.max(floor.number);
            }
        }
        Ok(())
    }

    /// The IKE part goes to the IKE daemon. What a new owner has takes the place of what the former one had.
    fn hand_over(
        &mut self,
        id: NodeId,
        tunnel: Name,
        context: &[u8],
        supersedes: bool,
    ) -> Result<(), Refusal> {
        let mut refusal = self.put_in_ike(id, context)?;
        if supersedes && matches!(refusal, Some(StandbyError::Outdated { .. })) {
            self.judge.count("contexts superseded");
            self.remove_from_ike(id, tunnel)?;
            refusal = self.put_in_ike(id, context)?;
        }
        let Some(problem) = refusal else { return Ok(()) };
        self.say(|| format!("{id} ike refuses: {problem}"));
        Err(Refusal::Policy)
    }

    fn put_in_ike(&mut self, id: NodeId, context: &[u8]) -> Result<Option<StandbyError>, Refusal> {
        let process = &self.nodes[&id].process;
        if process.ike.is_none() || process.paused_until > self.now {
            return Err(Refusal::Unavailable);
        }
        let mut problem = None;
        self.act(id, |ike, now, host| problem = ike.put_standby(now, context, host).err());
        let is_there = self.nodes[&id].process.ike.is_some();
        if is_there { Ok(problem) } else { Err(Refusal::Unavailable) }
    }

    fn remove(&mut self, id: NodeId, tunnel: Name) -> Result<(), Refusal> {
        let (now, node) = (self.now, self.node(id));
        let local = node.local(now);
        let Some((connection, number)) = TunnelName::parse(tunnel.as_str()) else { return Ok(()) };
        let full = TunnelName::new(connection, number);
        let has_any = sas(&node.host.table).any(|(_, sa)| sa.tunnel == full);
        if has_any && node.plane.owns(segment(&full), local) {
            return Err(Refusal::Policy);
        }
        node.host.table.inbound.retain(|_, sa| sa.tunnel != full);
        node.host.table.outbound.retain(|_, sa| sa.tunnel != full);
        node.plane.follow(&node.host.table);
        self.remove_from_ike(id, tunnel)
    }

    /// It refuses what it has not given up itself.
    fn remove_from_ike(&mut self, id: NodeId, tunnel: Name) -> Result<(), Refusal> {
        let process = &self.nodes[&id].process;
        if process.ike.is_none() || process.paused_until > self.now {
            return Err(Refusal::Unavailable);
        }
        let mut problem = None;
        self.act(id, |ike, now, host| problem = ike.remove_standby(now, tunnel.as_str(), host).err());
        if let Some(problem) = &problem {
            self.judge.count("removals refused");
            self.say(|| format!("{id} ike refuses: {problem}"));
        }
        let is_there = self.nodes[&id].process.ike.is_some();
        if is_there && problem.is_none() { Ok(()) } else { Err(Refusal::Unavailable) }
    }

    /// Everything that changes by packet, once no worker takes another number.
    fn finals(&mut self, id: NodeId, segments: Segments) -> Vec<Octets> {
        self.judge.count("freezes");
        let node = self.node(id);
        let mut tunnels: Vec<TunnelName> = Vec::new();
        for (key, sa) in sas(&node.host.table).filter(|(_, sa)| segments.contains(segment(&sa.tunnel))) {
            let counter = node.plane.counters.get_mut(&key).expect("each SA has one");
            if !counter.frozen {
                (counter.frozen, counter.reserved) = (true, counter.used());
                tunnels.push(sa.tunnel.clone());
            }
        }
        tunnels.dedup();
        let mut parts = Vec::new();
        for tunnel in tunnels {
            let copies = self.copies(id, &tunnel);
            parts.push((self.copied.len() as u64).to_be_bytes().to_vec().into());
            self.copied.push((copies, 0));
        }
        parts
    }

    fn thaw(&mut self, id: NodeId, segments: Segments) {
        let node = self.node(id);
        for (key, _) in sas(&node.host.table).filter(|(_, sa)| segments.contains(segment(&sa.tunnel))) {
            node.plane.counters.entry(key).or_default().frozen = false;
        }
    }

    fn stage(&mut self, id: NodeId, from: (NodeId, u64), parts: &[Octets]) -> Result<(), Refusal> {
        let places = parts.iter().filter_map(|part| part.0.first_chunk().copied().map(u64::from_be_bytes));
        let copies: Vec<Copied> = places.flat_map(|place| self.copied[place as usize].0.clone()).collect();
        let table = &self.nodes[&id].host.table;
        let is_there = |copy: &Copied| sas(table).any(|(key, sa)| key == copy.key && sa.key == copy.sa.key);
        if !copies.iter().all(is_there) {
            return Err(Refusal::Unavailable);
        }
        self.node(id).daemon.staged.insert(from, copies);
        Ok(())
    }

    /// Counters become exactly what the old owner's were.
    fn commit(&mut self, id: NodeId, from: NodeId, number: u64) {
        let node = self.node(id);
        for copy in node.daemon.staged.remove(&(from, number)).unwrap_or_default() {
            let is_there = sas(&node.host.table).any(|(key, sa)| key == copy.key && sa.key == copy.sa.key);
            let counter = node.plane.counters.entry(copy.key).or_default();
            if is_there && counter.edge <= copy.counter.used() {
                let edge = copy.counter.used();
                *counter = Counter { frozen: false, reserved: edge, mark: edge, ..copy.counter };
            }
        }
        node.plane.follow(&node.host.table);
        self.judge.count("commits");
    }

    /// Workers have raised attention.
    pub fn drain(&mut self, id: NodeId) {
        self.later(Duration::from_millis(2), Coming::Drain(id));
        if !self.nodes[&id].up || self.nodes[&id].daemon.core.is_none() || self.paused(id).is_some() {
            return;
        }
        let node = self.node(id);
        let edges = node.plane.edges(&node.host.table);
        if !edges.is_empty() {
            self.with(id, |core, now| core.handle(now, Event::Edges(edges)));
        }
    }
}
