//! Heartbeats: who is alive, and the requests for leases that they carry.

use std::time::Duration;

use baton_sad::NodeId;

use super::configuration::Role;
use super::output::{Lane, Output};
use super::segments::Segments;
use super::session::Session;
use super::status::{Alarm, Notice};
use super::wire::{Beat, Heartbeat, MessageError, Vote};
use super::{Cluster, Octets};

impl Cluster {
    /// Asks every voter for all claims, itself too. A witness only answers.
    pub(crate) fn beat(&mut self) {
        self.next_beat = self.now + self.config.interval;
        if !self.is_node() {
            return;
        }
        self.sequence += 1;
        self.claims.send_term(self.sequence);
        let beat = self.heartbeat();
        self.ownership.sent(self.now, self.sequence);
        let octets = beat.encode();
        let members: Vec<NodeId> = self.peers.keys().copied().collect();
        for to in members {
            self.send(to, Lane::Heartbeat, Octets(octets.clone()));
        }
        self.voter.doubt(self.doubted());
        if let Some(vote) = self.voter.handle(self.now, self.config.me, &beat) {
            self.remember();
            self.count_vote(self.config.me, &vote);
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        let claims = self.ownership.claimed();
        Heartbeat {
            incarnation: self.incarnation,
            sequence: self.sequence,
            term: self.claims.term,
            maintenance: self.maintenance,
            idle: !self.is_steady(),
            settled: self.is_able() && self.now >= self.claims.listens_until() + self.config.settle,
            claims,
            // What is not ready is remembered as nobody's: who dies before it is has moved no counters out of reach (I2).
            fresh: claims - (self.claims.held - self.unprepared()),
            rekeying: self.claims.rekeying(self.now),
            heirs: self.heirs(),
            handed: self.moves.handed(),
        }
    }

    /// Who could take over what, as of now.
    fn heirs(&self) -> Vec<(NodeId, Segments)> {
        let told = |session: &Session| if self.guards.tell_voters { session.ready } else { session.segments };
        let heirs = self.replicas.sessions.iter();
        let heirs = heirs.map(|(id, session)| (*id, told(session) & self.claims.held));
        heirs.filter(|(_, segments)| !segments.is_empty()).collect()
    }

    pub(crate) fn send(&mut self, to: NodeId, lane: Lane, octets: Octets) {
        self.outputs.push_back(Output::Send { to, lane, octets });
    }

    pub(crate) fn handle_beat(&mut self, from: NodeId, octets: &[u8]) -> Result<(), MessageError> {
        match Beat::decode(octets)? {
            Beat::Heartbeat(beat) => self.handle_heartbeat(from, beat),
            Beat::Vote(vote) => {
                self.hear(from);
                if vote.of == self.incarnation {
                    self.count_vote(from, &vote);
                }
            }
        }
        Ok(())
    }

    /// Only nodes send heartbeats; each voter answers each of them.
    fn handle_heartbeat(&mut self, from: NodeId, beat: Heartbeat) {
        let Some(peer) = self.peers.get(&from).filter(|peer| peer.member.role == Role::Node) else { return };
        let known = (peer.beat.incarnation, peer.beat.sequence);
        let Some(vote) = self.voter.handle(self.now, from, &beat) else { return };
        debug_assert!(known != (beat.incarnation, beat.sequence), "the voter refuses what it has seen");
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.beat = beat;
        }
        self.hear(from);
        if self.is_node() {
            self.settle_conflict(from);
            self.believe(from);
        }
        self.remember();
        self.send(from, Lane::Heartbeat, Octets(vote.encode()));
        self.consider_claims();
    }

    fn hear(&mut self, from: NodeId) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.heard = Some(now);
        if peer.alive_since.is_none() {
            peer.alive_since = Some(now);
            self.ownership.silent(from, false);
            self.alarm(Alarm::Silent(from), false);
        }
    }

    fn count_vote(&mut self, voter: NodeId, vote: &Vote) {
        self.ownership.granted(voter, vote.sequence, vote.granted);
        if let Some(place) = self.config.members.iter().position(|member| member.id == voter) {
            self.claims.note_vote(place, vote);
        }
        if let Some(session) = self.replicas.sessions.get_mut(&voter) {
            session.has_heard(vote.sequence, vote.granted);
        }
        self.update_leases();
        self.note_backed();
        self.let_leave();
    }

    /// A member is silent that was not heard for the dead time.
    pub(crate) fn find_silent(&mut self) {
        let silent = |peer: &super::Peer| peer.silent_at(&self.config).is_some_and(|at| at <= self.now);
        let silent: Vec<_> = self.peers.iter().filter(|(_, p)| silent(p)).map(|(id, _)| *id).collect();
        for member in silent {
            if let Some(peer) = self.peers.get_mut(&member) {
                peer.alive_since = None;
            }
            self.ownership.silent(member, true);
            self.drop_moves_of(member);
            self.alarm(Alarm::Silent(member), true);
        }
    }

    /// What was owned is gone, and what the others do is not known: it listens for a dead time before it claims
    /// anything. Members count as silent only when they have been listened to for so long.
    pub(crate) fn recover_from_pause(&mut self, gap: Duration) {
        let all = self.ownership.claimed();
        self.lose(all);
        self.claims.listen_until(self.now + self.config.dead_time());
        for peer in self.peers.values_mut().filter(|peer| peer.is_alive()) {
            peer.heard = Some(self.now);
        }
        self.totals.pauses += 1;
        self.notice(Notice::Paused(gap));
    }

    /// With a rule that prefers availability both may own a segment after a partition: the higher term stays, then the
    /// higher priority, then the lower id; and the other drops at once.
    fn settle_conflict(&mut self, from: NodeId) {
        let Some(peer) = self.peers.get(&from) else { return };
        let held = if self.ownership.is_exclusive() { Segments::NONE } else { self.claims.held };
        let theirs = self.rank_of(peer.beat.term, from) > self.rank_of(self.claims.term, self.config.me);
        let fresh = self.ownership.claimed() - self.claims.held;
        let yielded = if theirs { held & peer.owns() } else { Segments::NONE };
        let withdrawn = fresh & if theirs { peer.claims() } else { peer.owns() };
        if !yielded.is_empty() {
            self.totals.yielded += yielded.len() as u64;
            self.notice(Notice::Yielded(yielded, from));
        }
        self.lose(yielded | withdrawn);
    }

    fn rank_of(&self, term: u64, member: NodeId) -> (u64, u8, u8) {
        let priority = self.config.member(member).map_or(0, |member| member.priority);
        (term, priority, u8::MAX - member.get())
    }
}
