//! Planned moves, which lose nothing: freeze, final counters, sign-off, claim (RFC 4067, section 2: context that changes
//! by packet is transferred only after forwarding has stopped).
//!
//! The old owner keeps its lease while it is frozen, so nobody else takes the segments, and goes on if anything fails
//! before the sign-off. After the sign-off it never goes on: voters promise the segments to whom it named at once, and to
//! anybody when the promise has lapsed. What the new owner has staged it installs only if it gets the segments by that
//! sign-off; otherwise it starts above the reservations, as in a takeover.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_sad::NodeId;

use super::Cluster;
use super::event::{Octets, Refusal};
use super::output::{Lane, Output};
use super::segments::Segments;
use super::status::Notice;
use super::wire::ControlMessage;

/// Parts of one move at most.
const PARTS: usize = 4_096;
/// Octets of all parts of one move at most.
const STAGE_OCTETS: usize = 64 << 20;

/// A move of ours that is frozen.
#[derive(Debug)]
struct Move {
    number: u64,
    to: NodeId,
    segments: Segments,
    until: Duration,
}

/// What we have signed off.
#[derive(Debug)]
struct Handed {
    to: NodeId,
    segments: Segments,
    until: Duration,
}

/// A move to us.
#[derive(Debug)]
struct Incoming {
    number: u64,
    segments: Segments,
    pinned: bool,
    parts: Vec<Octets>,
    staged: bool,
}

/// Planned moves from here and to here.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// What is to be moved, by command or to balance.
    plan: BTreeMap<NodeId, Segments>,
    /// What an operator put where it is: it is not balanced.
    pub(crate) pinned: Segments,
    running: Option<Move>,
    handed: Vec<Handed>,
    incoming: BTreeMap<NodeId, Incoming>,
    number: u64,
    /// Moves pause after a failure.
    not_before: Duration,
    /// A balance was commanded.
    pub(crate) once: bool,
}

impl Moves {
    /// What is to be moved where.
    pub(crate) fn wanted(&self) -> Vec<(NodeId, Segments)> {
        self.plan.iter().map(|(to, segments)| (*to, *segments)).collect()
    }

    pub(crate) fn plan(&mut self, to: NodeId, segments: Segments) {
        self.plan.values_mut().for_each(|planned| *planned -= segments);
        *self.plan.entry(to).or_default() |= segments;
    }

    pub(crate) fn frozen(&self) -> Segments {
        self.running.as_ref().map_or(Segments::NONE, |running| running.segments)
    }

    /// What was signed off, for the heartbeat.
    pub(crate) fn handed(&self) -> Vec<(NodeId, Segments)> {
        let mut shares = BTreeMap::<NodeId, Segments>::new();
        for handed in &self.handed {
            *shares.entry(handed.to).or_default() |= handed.segments;
        }
        shares.into_iter().filter(|(_, segments)| !segments.is_empty()).collect()
    }

    /// What was signed off to others: not for us to claim yet.
    pub(crate) fn signed_off(&self) -> Segments {
        self.handed.iter().fold(Segments::NONE, |all, handed| all | handed.segments)
    }

    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.running.as_ref().map(|running| running.until)
    }
}

impl Cluster {
    /// Begins the next move if none is under way, once its receiver has everything (the copy before the freeze).
    pub(crate) fn tend_moves(&mut self) {
        let (now, peers) = (self.now, &self.peers);
        self.moves.handed.retain_mut(|handed| {
            handed.segments -= peers.get(&handed.to).map_or(Segments::NONE, super::peer::Peer::claims);
            handed.until > now && !handed.segments.is_empty()
        });
        let held = self.claims.held;
        self.moves.plan.retain(|_, segments| {
            *segments &= held;
            !segments.is_empty()
        });
        match &self.moves.running {
            Some(running) if running.until <= now => self.thaw(),
            None if now >= self.moves.not_before => self.begin_move(),
            _ => {}
        }
    }

    fn begin_move(&mut self) {
        let next = self.moves.plan.iter().find_map(|(to, segments)| {
            let receiver = self.peers.get(to).filter(|peer| peer.connected && peer.is_alive());
            let ready = self.replicas.sessions.get(to).filter(|_| receiver.is_some())?.ready;
            let batch = (*segments & ready).first(self.config.move_batch);
            (!batch.is_empty()).then_some((*to, batch))
        });
        let Some((to, segments)) = next else { return };
        self.moves.number += 1;
        let number = self.moves.number;
        let until = self.now + self.config.move_wait;
        self.moves.running = Some(Move { number, to, segments, until });
        if self.guards.freeze_first {
            self.outputs.push_back(Output::SetLease { segments, until: Duration::ZERO });
        }
        self.outputs.push_back(Output::Freeze { number, segments });
    }

    /// No worker takes another number: what the counters say now is final.
    pub(crate) fn frozen(&mut self, number: u64, parts: Vec<Octets>) {
        let Some(running) = self.moves.running.as_ref().filter(|running| running.number == number) else {
            return;
        };
        let (to, segments) = (running.to, running.segments);
        let pinned = !(segments & self.moves.pinned).is_empty();
        let parts = if parts.is_empty() { vec![Octets::from(Vec::new())] } else { parts };
        let last = parts.len() - 1;
        for (at, octets) in parts.into_iter().enumerate() {
            let message = ControlMessage::Final { number, segments, last: at == last, pinned, octets };
            self.send(to, Lane::Control, message.encode().into());
        }
    }

    /// Gives a move up before the sign-off: the segments go on here.
    pub(crate) fn thaw(&mut self) {
        let Some(running) = self.moves.running.take() else { return };
        let segments = running.segments & self.claims.held;
        self.moves.not_before = self.now + self.config.settle;
        self.totals.moves_failed += running.segments.len() as u64;
        let abandon = ControlMessage::Abandon { number: running.number };
        self.send(running.to, Lane::Control, abandon.encode().into());
        if !segments.is_empty() {
            self.outputs.push_back(Output::Thaw { segments });
            self.repeat_leases(segments);
        }
        self.notice(Notice::Moved(running.segments, running.to, false));
    }

    pub(crate) fn not_frozen(&mut self, number: u64) {
        if self.moves.running.as_ref().is_some_and(|running| running.number == number) {
            self.thaw();
        }
    }

    /// The receiver has all of it ready: sign off.
    pub(crate) fn staged_there(&mut self, from: NodeId, number: u64, result: Result<(), Refusal>) {
        let ours = |running: &mut Move| (running.to, running.number) == (from, number);
        if result.is_err() {
            return self.not_frozen(number);
        }
        let Some(running) = self.moves.running.take_if(ours) else { return };
        let until = self.now + self.config.dead_time() * 4;
        let segments = running.segments & self.claims.held;
        self.outputs.push_back(Output::Forward { segments, to: from, until });
        self.lose(segments);
        // Whatever we may own of them later has a higher term than what we have signed off.
        self.claims.term += 1;
        self.moves.handed.push(Handed { to: from, segments, until });
        self.moves.pinned -= segments;
        self.totals.moves += segments.len() as u64;
        self.notice(Notice::Moved(segments, from, true));
        self.beat();
    }

    /// A member is gone, or silent: a move to it is given up, and what it had sent is forgotten.
    pub(crate) fn drop_moves_of(&mut self, member: NodeId) {
        if self.moves.running.as_ref().is_some_and(|running| running.to == member) {
            self.thaw();
        }
        self.discard(member);
    }

    fn discard(&mut self, from: NodeId) {
        if let Some(incoming) = self.moves.incoming.remove(&from)
            && incoming.staged
        {
            self.outputs.push_back(Output::Discard { from, number: incoming.number });
        }
    }

    /// A part of a move to us.
    pub(crate) fn receive_final(&mut self, from: NodeId, message: ControlMessage) {
        let ControlMessage::Final { number, segments, last, pinned, octets } = message else { return };
        if self.moves.incoming.get(&from).is_none_or(|incoming| incoming.number != number) {
            self.discard(from);
            let incoming = Incoming { number, segments, pinned, parts: Vec::new(), staged: false };
            self.moves.incoming.insert(from, incoming);
        }
        let refuses = self.maintenance || !self.is_able();
        let Some(incoming) = self.moves.incoming.get_mut(&from).filter(|incoming| !incoming.staged) else {
            return;
        };
        let size: usize = incoming.parts.iter().map(|part| part.0.len()).sum();
        let full = incoming.parts.len() >= PARTS || size + octets.0.len() > STAGE_OCTETS;
        if full || refuses {
            self.moves.incoming.remove(&from);
            let refusal = if full { Refusal::Full } else { Refusal::Unavailable };
            return self.answer_move(from, number, Err(refusal));
        }
        incoming.parts.push(octets);
        if last {
            incoming.staged = true;
            let parts = std::mem::take(&mut incoming.parts);
            self.outputs.push_back(Output::Stage { from, number, parts });
        }
    }

    /// The driver has looked at what was staged.
    pub(crate) fn staged_here(&mut self, from: NodeId, number: u64, result: Result<(), Refusal>) {
        if self.moves.incoming.get(&from).is_some_and(|incoming| incoming.number == number) {
            if result.is_err() {
                self.moves.incoming.remove(&from);
            }
            self.answer_move(from, number, result);
        }
    }

    fn answer_move(&mut self, to: NodeId, number: u64, result: Result<(), Refusal>) {
        let message = ControlMessage::Staged { number, result };
        self.send(to, Lane::Control, message.encode().into());
    }

    pub(crate) fn abandoned(&mut self, from: NodeId, number: u64) {
        if self.moves.incoming.get(&from).is_some_and(|incoming| incoming.number == number) {
            self.discard(from);
        }
    }

    /// Of segments that we have gained: those that were signed off to us, with all that was staged for them. They are
    /// installed before their leases are set; what was staged otherwise is forgotten.
    pub(crate) fn commit(&mut self, gained: Segments) -> (Segments, Vec<Output>) {
        let (mut planned, mut commits) = (Segments::NONE, Vec::new());
        let staged: Vec<_> = self
            .moves
            .incoming
            .iter()
            .filter(|(_, incoming)| incoming.staged && !(incoming.segments & gained).is_empty())
            .map(|(from, incoming)| (*from, incoming.number, incoming.segments, incoming.pinned))
            .collect();
        for (from, number, segments, pinned) in staged {
            let whole =
                (segments - gained).is_empty() && segments.iter().all(|s| self.is_signed_off(s, from));
            if whole {
                self.moves.incoming.remove(&from);
                commits.push(Output::Commit { from, number });
                self.moves.pinned |= if pinned { segments } else { Segments::NONE };
                planned |= segments;
            } else {
                self.discard(from);
            }
        }
        (planned, commits)
    }

    /// What a member has signed off to us in its last heartbeat.
    pub(crate) fn handed_to_us(&self, from: NodeId) -> Segments {
        let handed = self.peers.get(&from).map(|peer| peer.beat.handed.as_slice()).unwrap_or_default();
        let ours = handed.iter().filter(|(to, _)| *to == self.config.me);
        ours.fold(Segments::NONE, |all, (_, segments)| all | *segments)
    }
}
