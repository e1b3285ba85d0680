//! Contexts on their way to standbys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use baton_sad::{Name, NodeId};

use super::Cluster;
use super::event::{Content, Refusal, SaKey};
use super::output::{Lane, Output, Replication};
use super::segments::Segments;
use super::session::{Flight, Session};
use super::status::{Alarm, Notice};
use super::tunnels::{Held, Tunnel};
use super::wire::ContextMessage;

/// IKE messages that wait at most; more are late at once.
const WAITING: usize = 1 << 16;

/// An IKE message that waits for its context to be on the standbys.
#[derive(Debug)]
struct Waiting {
    until: Duration,
    tunnel: Name,
    version: u64,
}

/// The owner's side of replication.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    pub(crate) sessions: BTreeMap<NodeId, Session>,
    /// Contexts asked for and not yet given.
    reading: BTreeSet<Name>,
    /// Those of them that say less than what is reserved by now: they are read again.
    outdated: BTreeSet<Name>,
    /// Those of them whose tunnels have changed since: what is read may be older.
    changed: BTreeSet<Name>,
    waiting: VecDeque<Waiting>,
    pub(crate) enforced: Segments,
    pub(crate) sessions_made: u64,
    /// When refused contexts are tried again.
    pub(crate) retry_at: Duration,
    /// Whether all standbys were in good order when that was told last.
    pub(crate) synced: bool,
}

impl Replicas {
    /// When the first message has waited long enough.
    pub(crate) fn next_late(&self) -> Option<Duration> {
        self.waiting.front().map(|waiting| waiting.until)
    }

    /// The driver raises reservations by itself where it begins to enforce them, without a word to a standby. A context
    /// that was read before says less, and a standby that believed it would send numbers again (I2).
    pub(crate) fn outdate(&mut self) {
        self.outdated.extend(self.reading.iter().copied());
    }
}

impl Cluster {
    /// A tunnel is new or has changed.
    pub(crate) fn change_tunnel(&mut self, tunnel: Name, segment: u8, version: u64) {
        let room = self.tunnels.has_room(&tunnel);
        self.alarm(Alarm::TooManyTunnels, !room);
        if !room {
            return;
        }
        if !self.claims.held.contains(segment) {
            // What its owner has put here meanwhile is known better.
            self.tunnels.held.entry(tunnel).or_insert(Held { segment, version, source: None });
            return;
        }
        self.moves.note_change(tunnel, segment);
        self.tunnels.held.remove(&tunnel);
        let own = self.tunnels.own.entry(tunnel).or_insert(Tunnel { segment, version, sas: Vec::new() });
        if own.segment == segment {
            own.version = version.max(own.version);
        } else {
            self.forget_tunnel(&tunnel);
            self.tunnels.own.insert(tunnel, Tunnel { segment, version, sas: Vec::new() });
        }
        if self.replicas.reading.contains(&tunnel) {
            self.replicas.changed.insert(tunnel);
        }
        self.enqueue(tunnel, segment);
        self.pump();
    }

    fn enqueue(&mut self, tunnel: Name, segment: u8) {
        let mut behind = Vec::new();
        for (standby, session) in &mut self.replicas.sessions {
            if session.segments.contains(segment) {
                session.enqueue(tunnel, segment, true);
                // Nobody waits for it with this change, so it is not in good order before it has it.
                if !session.required().contains(segment) {
                    session.set_late(&tunnel, true);
                    behind.push(*standby);
                }
            }
        }
        for standby in behind {
            self.judge(standby, &tunnel);
        }
    }

    /// A tunnel is gone.
    pub(crate) fn delete_tunnel(&mut self, tunnel: &Name) {
        self.forget_tunnel(tunnel);
        self.tunnels.held.remove(tunnel);
    }

    fn forget_tunnel(&mut self, tunnel: &Name) {
        let Some(own) = self.tunnels.own.remove(tunnel) else { return };
        self.moves.note_end(tunnel);
        for key in own.sas {
            self.reservations.remove(key);
        }
        for (standby, session) in &mut self.replicas.sessions {
            if session.delete(tunnel) {
                self.moves.note_deletion(*standby, *tunnel, own.segment);
            }
        }
        self.pump();
        self.freeze_followed();
        self.finish_waiting(tunnel);
    }

    /// Asks for contexts as far as windows and budgets allow. Each is read when there is room for it, so that many
    /// changes of a tunnel become one, and memory is bounded by the number of tunnels.
    pub(crate) fn pump(&mut self) {
        let (window, now) = (self.config.replicating.window, self.now);
        let connected = |id: &NodeId| self.peers.get(id).is_some_and(|peer| peer.connected);
        let sessions = self.replicas.sessions.iter_mut().filter(|(id, _)| connected(id));
        let (mut wanted, mut deleted) = (Vec::new(), Vec::new());
        for (standby, session) in sessions {
            let deletions = std::iter::from_fn(|| session.next_deletion(window, now));
            deleted.extend(deletions.map(|deletion| (*standby, deletion)));
            wanted.extend(std::iter::from_fn(|| session.next_read(window)));
        }
        for (to, (number, tunnel)) in deleted {
            let message = ContextMessage::Delete { number, tunnel };
            self.send(to, Lane::Contexts, message.encode().into());
        }
        for tunnel in wanted {
            if self.replicas.reading.insert(tunnel) {
                self.outputs.push_back(Output::ReadContext { tunnel });
            }
        }
    }

    /// A context was read: it goes to every standby that wants it.
    pub(crate) fn send_content(&mut self, content: &Content) {
        if self.replicas.outdated.remove(&content.tunnel) {
            self.outputs.push_back(Output::ReadContext { tunnel: content.tunnel });
            return;
        }
        self.replicas.reading.remove(&content.tunnel);
        let sessions = self.replicas.sessions.iter_mut();
        let wanting: Vec<NodeId> =
            sessions.filter_map(|(id, s)| s.has_read(&content.tunnel).then_some(*id)).collect();
        let Some(own) = self.tunnels.own.get_mut(&content.tunnel) else { return };
        let sas: Vec<SaKey> = content.reserved.iter().map(|reserved| reserved.key).collect();
        for key in own.sas.iter().filter(|key| !sas.contains(key)) {
            self.reservations.remove(*key);
        }
        own.sas = sas;
        // Versions are counted where the tunnel is: those of a former owner of it may be higher.
        if !self.replicas.changed.contains(&content.tunnel) {
            own.version = own.version.min(content.version);
        }
        self.reservations.note(content);
        for to in wanting {
            self.put(to, content.clone());
        }
        if self.replicas.changed.remove(&content.tunnel) {
            self.enqueue(content.tunnel, content.segment);
        }
        self.pump();
    }

    fn put(&mut self, to: NodeId, content: Content) {
        let Some(session) = self.replicas.sessions.get_mut(&to) else { return };
        let number = session.put(&content, self.now);
        let message = ContextMessage::Put { number, session: session.number_of(content.segment), content };
        self.totals.contexts += 1;
        self.send(to, Lane::Contexts, message.encode().into());
    }

    /// There was nothing to read.
    pub(crate) fn no_content(&mut self, tunnel: &Name) {
        self.replicas.outdated.remove(tunnel);
        self.replicas.changed.remove(tunnel);
        self.replicas.reading.remove(tunnel);
        for session in self.replicas.sessions.values_mut() {
            session.has_read(tunnel);
        }
        self.delete_tunnel(tunnel);
        self.pump();
    }

    /// A standby has installed a context, or refused it.
    pub(crate) fn acknowledged(&mut self, from: NodeId, number: u64, result: Result<(), Refusal>) {
        let session = self.replicas.sessions.get_mut(&from);
        let Some((session, flight)) = session.and_then(|s| s.acknowledge(number, result).map(|f| (s, f)))
        else {
            return;
        };
        let version = self.tunnels.own.get(&flight.tunnel).map_or(0, |own| own.version);
        if session.copy(&flight.tunnel).is_some_and(|copy| copy.acked >= Some(version)) {
            session.set_late(&flight.tunnel, false);
        }
        self.renew_reservations(from, &flight.tunnel);
        self.judge(from, &flight.tunnel);
        if let Err(refusal) = result {
            self.totals.refusals += 1;
            self.alarm(Alarm::Refused(from, refusal), true);
            self.refused_there(from, &flight);
        }
        self.followed(from, &flight.tunnel, flight.deleted.is_some() && result.is_ok());
        self.finish_waiting(&flight.tunnel);
        self.pump();
    }

    /// A standby without one of the tunnels of a segment cannot go on with it as if it had all, nor one that keeps a tunnel
    /// that is over: it would find it alive.
    fn refused_there(&mut self, standby: NodeId, flight: &Flight) {
        let own = self.tunnels.own.get(&flight.tunnel).map(|own| own.segment);
        let refused = self.replicas.sessions.get(&standby).is_some_and(|s| s.has_refused(&flight.tunnel));
        if let Some(segment) = flight.deleted.or(own.filter(|_| refused)) {
            self.declare_stale(standby, Segments::one(segment));
        }
    }

    /// Tries again what was refused. What no standby refuses any more is no alarm any more.
    pub(crate) fn retry_refused(&mut self) {
        let mut refused = BTreeSet::new();
        for (standby, session) in &mut self.replicas.sessions {
            session.retry_refused();
            refused.extend(session.refused().map(|(_, refusal)| (*standby, refusal)));
        }
        let over = |alarm: &&Alarm| matches!(alarm, Alarm::Refused(standby, refusal) if !refused.contains(&(*standby, *refusal)));
        let over: Vec<Alarm> = self.alarms.iter().filter(over).cloned().collect();
        for alarm in over {
            self.alarm(alarm, false);
        }
    }

    /// Counts a tunnel anew at one standby.
    pub(crate) fn judge(&mut self, standby: NodeId, tunnel: &Name) {
        let reserved = self.reservations.of(self.tunnels.own.get(tunnel), self.config.reserving.continuity);
        if let Some(session) = self.replicas.sessions.get_mut(&standby) {
            session.judge(tunnel, &reserved);
        }
    }

    /// The IKE daemon waits for a change to be on every standby in good order.
    pub(crate) fn await_replication(&mut self, tunnel: Name, version: u64) {
        match self.replicated(&tunnel, version) {
            Some(outcome) => self.outputs.push_back(Output::Replicated { tunnel, version, outcome }),
            None if self.replicas.waiting.len() >= WAITING => self.late(tunnel, version),
            None => {
                let until = self.now + self.config.replicating.wait;
                self.replicas.waiting.push_back(Waiting { until, tunnel, version });
            }
        }
    }

    /// How a change stands; `None` while a standby in good order does not have it.
    fn replicated(&self, tunnel: &Name, version: u64) -> Option<Replication> {
        let Some(own) = self.tunnels.own.get(tunnel) else { return self.forgotten(tunnel) };
        let mut standbys =
            self.replicas.sessions.values().filter(|s| s.required().contains(own.segment)).peekable();
        if standbys.peek().is_none() {
            return Some(Replication::Alone);
        }
        // One that was late already counts until the voters know that it cannot take over without a rekey.
        let has = |session: &Session| session.copy(tunnel).is_some_and(|copy| copy.acked >= Some(version));
        standbys.all(has).then_some(Replication::Done)
    }

    /// How the end of a tunnel stands. A process that has just been started does not know yet whose the segment is.
    fn forgotten(&self, tunnel: &Name) -> Option<Replication> {
        let is_under_way = self.replicas.sessions.values().any(|session| session.is_deleting(tunnel));
        let is_over = !is_under_way && !self.tunnels.held.contains_key(tunnel);
        is_over.then_some(Replication::Done)
    }

    fn finish_waiting(&mut self, tunnel: &Name) {
        self.finish_waiting_for(|entry| entry.tunnel == *tunnel);
    }

    /// Voters know now whom nobody needs to wait for.
    pub(crate) fn finish_all_waiting(&mut self) {
        self.finish_waiting_for(|_| true);
    }

    fn finish_waiting_for(&mut self, is_meant: impl Fn(&Waiting) -> bool) {
        let waiting = std::mem::take(&mut self.replicas.waiting);
        for entry in waiting {
            let outcome = is_meant(&entry).then(|| self.replicated(&entry.tunnel, entry.version)).flatten();
            match outcome {
                Some(outcome) => {
                    let (tunnel, version) = (entry.tunnel, entry.version);
                    self.outputs.push_back(Output::Replicated { tunnel, version, outcome });
                }
                None => self.replicas.waiting.push_back(entry),
            }
        }
    }

    /// Whoever owns these segments from now on knows nothing of what waits, and may have removed it: it never leaves. The
    /// IKE daemon forgets it when it hears whose they are.
    pub(crate) fn stop_waiting(&mut self, segments: Segments) {
        let own = &self.tunnels.own;
        let is_lost =
            |entry: &Waiting| own.get(&entry.tunnel).is_some_and(|own| segments.contains(own.segment));
        self.replicas.waiting.retain(|entry| !is_lost(entry));
    }

    pub(crate) fn stop_waiting_of(&mut self, tunnel: &Name) {
        self.replicas.waiting.retain(|entry| entry.tunnel != *tunnel);
    }

    /// Lets go what has waited for the bound: a slow standby delays IKE and never stops it.
    pub(crate) fn release_late(&mut self) {
        while let Some(entry) = self.replicas.waiting.pop_front_if(|entry| entry.until <= self.now) {
            match self.replicated(&entry.tunnel, entry.version) {
                Some(outcome) => {
                    let (tunnel, version) = (entry.tunnel, entry.version);
                    self.outputs.push_back(Output::Replicated { tunnel, version, outcome });
                }
                None => self.late(entry.tunnel, entry.version),
            }
        }
    }

    fn late(&mut self, tunnel: Name, version: u64) {
        self.totals.late += 1;
        let outcome = Replication::Late;
        self.outputs.push_back(Output::Replicated { tunnel, version, outcome });
        self.notice(Notice::Late(tunnel));
        let Some(segment) = self.tunnels.own.get(&tunnel).map(|own| own.segment) else { return };
        let behind = |(id, session): (&NodeId, &Session)| {
            let has = session.copy(&tunnel).is_some_and(|copy| copy.acked >= Some(version));
            (session.required().contains(segment) && !has).then_some(*id)
        };
        let behind: Vec<NodeId> = self.replicas.sessions.iter().filter_map(behind).collect();
        for standby in behind {
            if let Some(session) = self.replicas.sessions.get_mut(&standby) {
                session.set_late(&tunnel, true);
            }
            self.judge(standby, &tunnel);
            self.declare_stale(standby, Segments::one(segment));
        }
    }

    /// A standby cannot take segments over without a loss any more: the voters are told with the next heartbeat.
    pub(crate) fn declare_stale(&mut self, standby: NodeId, segments: Segments) {
        let (now, next) = (self.now, self.sequence + 1);
        let Some(session) = self.replicas.sessions.get_mut(&standby) else { return };
        let was_ready = !(session.ready & segments).is_empty();
        session.unready(segments, next);
        if !was_ready {
            return;
        }
        session.stale_since.get_or_insert(now);
        self.totals.stale += 1;
        self.alarm(Alarm::Stale(standby), true);
        self.next_beat = self.now;
    }
}
