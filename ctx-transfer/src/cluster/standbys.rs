//! Who stands by for what, and when it can take over without a loss.

use baton_sad::NodeId;

use super::Cluster;
use super::configuration::Role;
use super::output::{Lane, Output};
use super::segments::Segments;
use super::session::Session;
use super::status::{Alarm, Notice, StandbyState};
use super::wire::ContextMessage;

impl Cluster {
    /// Looks at the standbys once an interval.
    pub(crate) fn tend_standbys(&mut self) {
        if !self.is_node() {
            return;
        }
        self.tunnels.take_gained();
        self.assign();
        self.refill_budgets();
        if self.now >= self.replicas.retry_at {
            self.replicas.retry_at = self.now + self.config.settle;
            self.retry_refused();
            self.sweep_again();
            self.begin_anew();
        }
        let standbys: Vec<NodeId> = self.replicas.sessions.keys().copied().collect();
        for standby in standbys {
            self.advance(standby);
        }
        self.tell_synced();
        self.enforce();
        self.pump();
        let protected = self.replicas.sessions.values().fold(Segments::NONE, |all, s| all | s.ready);
        let protected = protected - self.claims.rekeying(self.now);
        let alone = self.config.nodes().len() == 1 || self.claims.held.is_empty();
        self.alarm(Alarm::Unprotected, !alone && !(self.claims.held - protected).is_empty());
    }

    /// A standby can be reached, in this life or a new one.
    pub(crate) fn open_session(&mut self, standby: NodeId, new_life: bool) {
        let node = self.peers.get(&standby).is_some_and(|peer| peer.member.role == Role::Node);
        let kept = self.replicas.sessions.get(&standby).is_some_and(|session| !session.anew);
        if !node || kept && !new_life {
            return;
        }
        self.replicas.sessions_made += 1;
        let number = self.incarnation.wrapping_add(self.replicas.sessions_made);
        let mut session = Session::new(number);
        // Voters still know the old one as an heir.
        if let Some(old) = self.replicas.sessions.remove(&standby) {
            session.inherit(old, self.sequence + 1, new_life);
        }
        self.replicas.sessions.insert(standby, session);
        self.alarm(Alarm::Stale(standby), false);
        for refusal in super::event::REFUSALS {
            self.alarm(Alarm::Refused(standby, refusal), false);
        }
    }

    /// Standbys of which too much is not known get everything anew.
    fn begin_anew(&mut self) {
        let connected = |id: &NodeId| self.peers.get(id).is_some_and(|peer| peer.connected);
        let sessions = self.replicas.sessions.iter().filter(|(id, session)| session.anew && connected(id));
        for standby in sessions.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.open_session(standby, false);
        }
    }

    pub(crate) fn close_session(&mut self, standby: NodeId) {
        let next = self.sequence + 1;
        if let Some(session) = self.replicas.sessions.get_mut(&standby) {
            session.disconnect(next);
            self.next_beat = self.now;
        }
        self.check_reservations();
    }

    /// Gives each of our segments its standbys: the next nodes in its ring, and whom it is to be moved to.
    fn assign(&mut self) {
        let mut wanted = std::collections::BTreeMap::<NodeId, Segments>::new();
        let ours = self.claims.held - self.unprepared();
        for (share, ring) in self.shares() {
            let next = ring.iter().filter(|node| **node != self.config.me);
            for node in next.take(usize::from(self.config.standbys)) {
                *wanted.entry(*node).or_default() |= share & ours;
            }
        }
        for (node, segments) in self.moves.wanted() {
            *wanted.entry(node).or_default() |= segments & ours;
        }
        let standbys: Vec<NodeId> = self.replicas.sessions.keys().copied().collect();
        for standby in standbys {
            let segments = wanted.get(&standby).copied().unwrap_or_default();
            self.assign_to(standby, segments);
        }
    }

    fn assign_to(&mut self, standby: NodeId, segments: Segments) {
        let next = self.sequence + 1;
        let Some(session) = self.replicas.sessions.get_mut(&standby) else { return };
        // One that is only silent keeps what it has: it may be back at once.
        if !self.peers.get(&standby).is_some_and(super::peer::Peer::is_alive) {
            return;
        }
        let (added, removed) = (segments - session.segments, session.segments - segments);
        if !removed.is_empty() {
            session.unready(removed, next);
            session.forget(removed);
        }
        session.segments |= added;
        for (name, own) in self.tunnels.own.iter().filter(|(_, own)| added.contains(own.segment)) {
            session.enqueue(*name, own.segment, false);
        }
        session.filled &= added.is_empty();
    }

    fn refill_budgets(&mut self) {
        let octets = self.config.replicating.fill_rate as f64 * self.config.interval.as_secs_f64();
        let most = i64::try_from(self.config.replicating.window).unwrap_or(i64::MAX);
        for session in self.replicas.sessions.values_mut() {
            session.budget = (session.budget.saturating_add(octets.ceil() as i64)).min(most);
        }
    }

    fn advance(&mut self, standby: NodeId) {
        if !self.peers.get(&standby).is_some_and(|peer| peer.connected && peer.is_alive()) {
            return;
        }
        let Some(session) = self.replicas.sessions.get_mut(&standby) else { return };
        let (_, complete) = session.advance(self.guards.complete_first);
        let mut sessions = std::collections::BTreeMap::<u64, Segments>::new();
        for segment in complete.iter() {
            sessions.entry(session.number_of(segment)).or_default().insert(segment);
        }
        let synced = session.ready == session.segments && !session.segments.is_empty();
        let filled = synced && !session.filled;
        session.filled |= synced;
        if synced {
            session.stale_since = None;
            self.alarm(Alarm::Stale(standby), false);
        }
        for (session, segments) in sessions {
            let message = ContextMessage::Complete { session, segments };
            self.send(standby, Lane::Contexts, message.encode().into());
        }
        if filled {
            self.totals.fills += 1;
            self.notice(Notice::Filled(standby));
        }
    }

    /// Whoever waits for standbys has to know when that is worth it again.
    fn tell_synced(&mut self) {
        let states: Vec<_> = self.replicas.sessions.keys().map(|id| self.standby_state(*id)).collect();
        let behind =
            |state: &StandbyState| matches!(state, StandbyState::Filling { .. } | StandbyState::Stale { .. });
        let synced = states.contains(&StandbyState::Synced) && !states.iter().any(behind);
        if std::mem::replace(&mut self.replicas.synced, synced) != synced {
            self.outputs.push_back(Output::Synced(synced));
        }
    }

    /// Reservations are kept where somebody stands by, or may be thought to by a voter.
    fn enforce(&mut self) {
        let sessions = self.replicas.sessions.values();
        let guarded = sessions.fold(Segments::NONE, |all, s| all | s.segments | s.required());
        let wanted = guarded & self.claims.held;
        let (begun, ended) = (wanted - self.replicas.enforced, self.replicas.enforced - wanted);
        if !begun.is_empty() {
            self.outputs.push_back(Output::Enforce { segments: begun, enforced: true });
            self.replicas.outdate();
        }
        if !ended.is_empty() {
            self.outputs.push_back(Output::Enforce { segments: ended, enforced: false });
        }
        self.replicas.enforced = wanted;
    }

    /// Segments that are lost begin without reservations if they come back: what a context that is being read says of
    /// them does not hold then.
    pub(crate) fn stop_enforcing(&mut self, segments: Segments) {
        let enforced = self.replicas.enforced & segments;
        if !enforced.is_empty() {
            self.outputs.push_back(Output::Enforce { segments: enforced, enforced: false });
        }
        self.replicas.enforced -= enforced;
        self.replicas.outdate();
    }

    /// Votes have come: what the voters know by now no longer waits.
    pub(crate) fn let_leave(&mut self) {
        let (ownership, told) = (&self.ownership, self.guards.tell_voters);
        let known = |segment: u8, sequence: u64| {
            !told || ownership.backed(segment).is_some_and(|backed| backed >= sequence)
        };
        let mut any = false;
        for session in self.replicas.sessions.values_mut() {
            any |= session.let_leave(known);
        }
        if any {
            self.check_reservations();
            self.finish_all_waiting();
        }
    }

    /// Without a witness: what a standby may go on with as soon as it does not hear us, since it has not heard that it must
    /// not. If that happens while we do not own it, we cannot go on with it ourselves. A standby that is silent for long
    /// and alive has done so long ago: then both own it, and a pair that was parted promises nothing.
    pub(crate) fn doubted(&self) -> Segments {
        if self.ownership.is_exclusive() {
            return Segments::NONE;
        }
        let patience = self.config.settle * 10;
        let heard = |id: &NodeId| self.peers.get(id).and_then(|peer| peer.heard);
        let sessions = self.replicas.sessions.iter();
        let believing = sessions.filter(|(id, _)| heard(id).is_some_and(|at| self.now < at + patience));
        believing.fold(Segments::NONE, |all, (_, session)| all | session.believing())
    }

    /// How a member stands by for us.
    pub(crate) fn standby_state(&self, member: NodeId) -> StandbyState {
        let connected = self.peers.get(&member).is_some_and(|peer| peer.connected);
        match self.replicas.sessions.get(&member).filter(|s| connected && !s.segments.is_empty()) {
            None => StandbyState::Absent,
            Some(session) => match session.stale_since {
                Some(since) => StandbyState::Stale { since },
                None if session.ready == session.segments => StandbyState::Synced,
                None => {
                    let (done, total) = session.progress();
                    StandbyState::Filling { done, total }
                }
            },
        }
    }
}
