//! Counters reserved ahead (I2, I3): what an SA may use is on its standbys before it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton_sad::{Name, NodeId};

use super::Cluster;
use super::event::{Content, Edge, Key, Reserved, SaKey};
use super::output::{Lane, Output, Reservation};
use super::segments::Segments;
use super::tunnels::Tunnel;
use super::wire::{CounterMessage, MAX_RESERVED};

/// An SA of ours.
#[derive(Debug)]
struct Sa {
    tunnel: Name,
    segment: u8,
    /// It may be used up to here.
    reserved: u64,
    /// As far as it had come when more was asked for.
    edge: u64,
    /// What the standbys are asked for, and since when.
    wanted: Option<(u64, Duration)>,
}

/// All SAs whose counters are reserved.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    sas: BTreeMap<SaKey, Sa>,
    /// Those that wait for a standby.
    pending: BTreeSet<SaKey>,
    next_number: u64,
    again_at: Option<Duration>,
}

impl Reservations {
    pub(crate) fn remove(&mut self, key: SaKey) {
        self.sas.remove(&key);
        self.pending.remove(&key);
    }

    /// What a context says that its SAs may use already.
    pub(crate) fn note(&mut self, content: &Content) {
        for reserved in &content.reserved {
            let (tunnel, segment) = (content.tunnel, content.segment);
            let fresh = Sa { tunnel, segment, reserved: 0, edge: 0, wanted: None };
            let sa = self.sas.entry(reserved.key).or_insert(fresh);
            sa.reserved = sa.reserved.max(reserved.number);
        }
    }

    /// What the SAs of a tunnel may use, as far as a standby has to know.
    pub(crate) fn of(&self, tunnel: Option<&Tunnel>, continuity: bool) -> BTreeMap<SaKey, u64> {
        let keys = tunnel.map(|tunnel| tunnel.sas.as_slice()).unwrap_or_default().iter();
        let keys = keys.filter(|key| !(continuity && key.direction == Key::Inbound));
        keys.filter_map(|key| self.sas.get(key).map(|sa| (*key, sa.reserved))).collect()
    }

    pub(crate) fn yield_up(&mut self, segments: Segments) {
        self.sas.retain(|_, sa| !segments.contains(sa.segment));
        let sas = &self.sas;
        self.pending.retain(|key| sas.contains_key(key));
    }

    /// When something is to be sent again or given up.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.again_at.filter(|_| !self.pending.is_empty())
    }
}

impl Cluster {
    /// SAs want to go on.
    pub(crate) fn reserve(&mut self, edges: &[Edge]) {
        for edge in edges {
            let segment = self.tunnels.own.get(&edge.tunnel).map(|own| own.segment);
            if let Some(segment) = segment.filter(|segment| self.claims.held.contains(*segment)) {
                self.want(edge, segment);
            }
        }
        self.check_reservations();
        self.flush_reservations();
    }

    fn want(&mut self, edge: &Edge, segment: u8) {
        let limits = self.config.reserving;
        let ahead = limits.ahead(edge.packets_per_second);
        let target = edge.edge.saturating_add(ahead);
        let fresh = Sa { tunnel: edge.tunnel, segment, reserved: 0, edge: 0, wanted: None };
        let sa = self.reservations.sas.entry(edge.key).or_insert(fresh);
        if let Some(own) = self.tunnels.own.get_mut(&edge.tunnel).filter(|own| !own.sas.contains(&edge.key)) {
            own.sas.push(edge.key);
        }
        if target <= sa.reserved {
            // Still far enough; its mark is set again.
            self.raise(edge.key);
            return;
        }
        // The standby is not asked for another number until it has answered, so that the bound of the wait holds.
        if sa.wanted.is_none() {
            sa.edge = edge.edge;
            sa.wanted = Some((target, self.now));
            self.reservations.pending.insert(edge.key);
            self.announce(edge.key);
        }
    }

    /// Notes for every standby of an SA what it is to be told.
    fn announce(&mut self, key: SaKey) {
        let Some(sa) = self.reservations.sas.get(&key).filter(|_| self.guards.wait_for_standbys) else {
            return;
        };
        let target = sa.wanted.map_or(sa.reserved, |(target, _)| target);
        let reported = self.config.reserving.continuity && key.direction == Key::Inbound;
        let number = if reported { sa.edge } else { target };
        for (standby, session) in &mut self.replicas.sessions {
            let connected = self.peers.get(standby).is_some_and(|peer| peer.connected);
            if connected && session.segments.contains(sa.segment) {
                session.unsent.insert(key, number);
            }
        }
    }

    /// A context has been installed at a standby with what was reserved when it was read: it is told what has been added.
    pub(crate) fn renew_reservations(&mut self, standby: NodeId, tunnel: &Name) {
        let reserved = self.reservations.of(self.tunnels.own.get(tunnel), self.config.reserving.continuity);
        let Some(session) = self.replicas.sessions.get_mut(&standby) else { return };
        for (key, number) in reserved {
            if session.covered(tunnel, key) < number {
                session.unsent.insert(key, number);
            }
        }
        self.flush_reservations();
    }

    fn flush_reservations(&mut self) {
        let mut messages = Vec::new();
        for (standby, session) in &mut self.replicas.sessions {
            let unsent = std::mem::take(&mut session.unsent);
            let items: Vec<_> = unsent.into_iter().map(|(key, number)| Reserved { key, number }).collect();
            for items in items.chunks(MAX_RESERVED) {
                self.reservations.next_number += 1;
                let number = self.reservations.next_number;
                session.note_batch(number, items.to_vec());
                let session = session.number;
                messages.push((*standby, CounterMessage::Reserve { number, session, items: items.to_vec() }));
            }
        }
        self.totals.reservations += messages.len() as u64;
        for (to, message) in messages {
            self.send(to, Lane::Counters, message.encode().into());
        }
        let again = self.now + self.config.reserving.again;
        self.reservations.again_at.get_or_insert(again);
    }

    /// A standby starts SAs above these numbers.
    pub(crate) fn reservations_acknowledged(&mut self, from: NodeId, number: u64, missing: &[SaKey]) {
        let Some(session) = self.replicas.sessions.get_mut(&from) else { return };
        let mut touched = BTreeSet::new();
        for reserved in session.acknowledge_batch(number, missing) {
            if let Some(sa) = self.reservations.sas.get(&reserved.key) {
                session.cover(&sa.tunnel, reserved);
                touched.insert(sa.tunnel);
            }
        }
        for tunnel in touched {
            self.judge(from, &tunnel);
        }
        self.check_reservations();
    }

    /// Raises what every standby in good order knows.
    pub(crate) fn check_reservations(&mut self) {
        let pending: Vec<SaKey> = self.reservations.pending.iter().copied().collect();
        let (done, _): (Vec<_>, Vec<_>) = pending.into_iter().partition(|key| self.behind(*key).is_empty());
        for key in &done {
            self.reservations.pending.remove(key);
            if let Some(sa) = self.reservations.sas.get_mut(key) {
                let wanted = sa.wanted.take().map_or(0, |(number, _)| number);
                sa.reserved = sa.reserved.max(wanted);
            }
            self.raise(*key);
        }
        for key in done {
            self.judge_everywhere(key);
        }
    }

    fn judge_everywhere(&mut self, key: SaKey) {
        let Some(tunnel) = self.reservations.sas.get(&key).map(|sa| sa.tunnel) else { return };
        let standbys: Vec<NodeId> = self.replicas.sessions.keys().copied().collect();
        for standby in standbys {
            self.judge(standby, &tunnel);
        }
    }

    /// Standbys in good order that do not know what an SA wants.
    fn behind(&self, key: SaKey) -> Vec<NodeId> {
        let Some(sa) = self.reservations.sas.get(&key) else { return Vec::new() };
        let Some((wanted, _)) = sa.wanted else { return Vec::new() };
        let reported = self.config.reserving.continuity && key.direction == Key::Inbound;
        if reported || !self.guards.wait_for_standbys {
            return Vec::new();
        }
        let sessions = self.replicas.sessions.iter();
        let required = sessions.filter(|(_, session)| session.required().contains(sa.segment));
        required.filter(|(_, s)| s.covered(&sa.tunnel, key) < wanted).map(|(id, _)| *id).collect()
    }

    /// Packets that wait for a standby's word, and since when.
    pub(crate) fn lag_of(&self, standby: NodeId) -> (u64, Option<Duration>) {
        let Some(session) = self.replicas.sessions.get(&standby) else { return (0, None) };
        let behind = |key: &SaKey| {
            let sa = self.reservations.sas.get(key)?;
            let (wanted, since) = sa.wanted?;
            let covered = session.covered(&sa.tunnel, *key);
            let counts = session.segments.contains(sa.segment) && covered < wanted;
            counts.then(|| (wanted - covered.max(sa.reserved).min(wanted), since))
        };
        let pending = self.reservations.pending.iter().filter_map(behind);
        pending.fold((0, None), |(packets, first), (more, since)| {
            (packets.saturating_add(more), Some(first.map_or(since, |first: Duration| first.min(since))))
        })
    }

    fn raise(&mut self, key: SaKey) {
        let Some(sa) = self.reservations.sas.get(&key) else { return };
        let mark = sa.reserved - sa.reserved.saturating_sub(sa.edge) / 2;
        let item = Reservation { key, reserved: sa.reserved, mark };
        match self.outputs.back_mut() {
            Some(Output::Reserve(items)) => items.push(item),
            _ => self.outputs.push_back(Output::Reserve(vec![item])),
        }
    }

    /// Sends again what was not answered, and no longer waits for whom it has waited long enough.
    pub(crate) fn press_reservations(&mut self) {
        if self.reservations.next_due().is_none_or(|due| due > self.now) {
            return;
        }
        self.reservations.again_at = Some(self.now + self.config.reserving.again);
        let mut stale = BTreeMap::<NodeId, Segments>::new();
        let pending: Vec<SaKey> = self.reservations.pending.iter().copied().collect();
        for key in pending {
            let Some(sa) = self.reservations.sas.get(&key) else { continue };
            let overdue = sa.wanted.is_some_and(|(_, since)| since + self.config.reserving.wait <= self.now);
            let segment = sa.segment;
            for standby in self.behind(key).into_iter().filter(|_| overdue) {
                stale.entry(standby).or_default().insert(segment);
            }
            self.totals.repeated_reservations += 1;
            self.announce(key);
        }
        for (standby, segments) in stale {
            self.declare_stale(standby, segments);
        }
        self.let_leave();
        self.check_reservations();
        self.flush_reservations();
    }
}
