//! Planned moves, which lose nothing: IKE falls silent and its last changes reach the receiver, which begins to hold
//! packets, they stop here, final counters, sign-off, claim (RFC 4067, section 2: context that changes by packet is
//! transferred only after forwarding has stopped).
//!
//! The old owner keeps its lease while it is frozen, so nobody else takes the segments, and goes on if anything fails
//! before the sign-off. After the sign-off it never goes on: voters promise the segments to whom it named at once, and to
//! anybody when the promise has lapsed. What the new owner has staged it installs only if it gets the segments by that
//! sign-off; otherwise it starts above the reservations, as in a takeover.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton_sad::{Name, NodeId};

use super::Cluster;
use super::claims::next_term;
use super::configuration::Role;
use super::event::Octets;
use super::output::{Lane, Output};
use super::segments::Segments;
use super::status::Notice;
use super::transfer::{self, Arrival, Departure};
use super::wire::{ControlMessage, MessageError};
use crate::cxtp::{Message, Request};

/// How far a move of ours has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The IKE daemon is asked to change nothing more.
    Silencing,
    /// It has; the receiver gets what it does not have yet.
    Following,
    /// It has all; it is asked to hold packets that come from now on.
    Announced,
    /// No lease is in the table.
    Frozen,
}

/// A move of ours.
#[derive(Debug)]
struct Move {
    number: u64,
    to: NodeId,
    segments: Segments,
    stage: Stage,
    /// Tunnels whose last changes the receiver has not acknowledged.
    behind: BTreeSet<Name>,
    /// The receiver has asked for it.
    is_asked: bool,
    began: Duration,
    until: Duration,
}

/// What we have signed off.
#[derive(Debug)]
struct Handed {
    to: NodeId,
    segments: Segments,
    until: Duration,
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
    pub(crate) incoming: BTreeMap<NodeId, Arrival>,
    /// What others have asked for, and the life and the number of the last request of each.
    asked: BTreeMap<NodeId, Segments>,
    requests: BTreeMap<NodeId, (u64, u32)>,
    number: u64,
    /// Of our own requests.
    sequence: u32,
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
        let frozen = self.running.as_ref().filter(|running| running.stage == Stage::Frozen);
        frozen.map_or(Segments::NONE, |running| running.segments)
    }

    /// A tunnel has changed, and the receiver of a move has to know before it gets the segment.
    pub(crate) fn note_change(&mut self, tunnel: Name, segment: u8) {
        if let Some(running) = self.running.as_mut().filter(|running| running.segments.contains(segment)) {
            running.behind.insert(tunnel);
        }
    }

    /// A standby is being told that a tunnel is gone.
    pub(crate) fn note_deletion(&mut self, standby: NodeId, tunnel: Name, segment: u8) {
        if self.running.as_ref().is_some_and(|running| running.to == standby) {
            self.note_change(tunnel, segment);
        }
    }

    /// A tunnel is gone: what was changed before is nobody's concern.
    pub(crate) fn note_end(&mut self, tunnel: &Name) {
        if let Some(running) = &mut self.running {
            running.behind.remove(tunnel);
        }
    }

    /// Forgets what nobody has ordered.
    pub(crate) fn forget_balance(&mut self) {
        let pinned = self.pinned;
        self.plan.values_mut().for_each(|planned| *planned &= pinned);
    }

    /// Whether anything is being moved, or is to be.
    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some() || self.plan.values().any(|segments| !segments.is_empty())
    }

    /// What this node handles no more, and who is to: it is frozen, or signed off and not claimed yet.
    pub(crate) fn leaving(&self) -> Vec<(NodeId, Segments)> {
        let frozen = self.running.iter().filter(|running| running.stage == Stage::Frozen);
        let frozen = frozen.map(|running| (running.to, running.segments));
        self.handed.iter().map(|handed| (handed.to, handed.segments)).chain(frozen).collect()
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
        let kept = self.unprepared() | self.claims.rekeying(self.now);
        let next = self.moves.plan.iter().find_map(|(to, segments)| {
            let receiver = self.peers.get(to).filter(|peer| peer.connected && peer.is_alive());
            let ready = self.replicas.sessions.get(to).filter(|_| receiver.is_some())?.ready;
            let batch = ((*segments & ready) - kept).first(self.config.move_batch);
            (!batch.is_empty()).then_some((*to, batch))
        });
        let Some((to, segments)) = next else { return };
        self.moves.number += 1;
        let number = self.moves.number;
        let until = self.now + self.config.move_wait;
        let asked = self.moves.asked.entry(to).or_default();
        let (is_asked, began) = (!(*asked & segments).is_empty(), self.now);
        *asked -= segments;
        let (stage, behind) = (Stage::Silencing, BTreeSet::new());
        self.moves.running = Some(Move { number, to, segments, stage, behind, is_asked, began, until });
        self.outputs.push_back(Output::Silence { number, segments });
    }

    /// IKE changes nothing more: what it changed last goes to the receiver as any change does. Packets flow meanwhile.
    pub(crate) fn silent(&mut self, number: u64, tunnels: &[(Name, u64)]) {
        let is_it = |running: &&mut Move| (running.number, running.stage) == (number, Stage::Silencing);
        let Some(running) = self.moves.running.as_mut().filter(is_it) else { return };
        running.stage = Stage::Following;
        let (to, segments) = (running.to, running.segments);
        for (tunnel, version) in tunnels {
            let known = self.tunnels.own.get(tunnel);
            let segment = known.map(|own| own.segment).or_else(|| segment_of(tunnel));
            if let Some(segment) = segment.filter(|_| known.is_none_or(|own| own.version < *version)) {
                self.change_tunnel(*tunnel, segment, *version);
            }
        }
        let behind = self.unfollowed(to, segments);
        if let Some(running) = &mut self.moves.running {
            running.behind.extend(behind);
        }
        self.freeze_followed();
    }

    /// Tunnels of which the receiver has not acknowledged everything.
    fn unfollowed(&self, to: NodeId, segments: Segments) -> Vec<Name> {
        let Some(session) = self.replicas.sessions.get(&to) else { return Vec::new() };
        let own = self.tunnels.own.iter().filter(|(_, own)| segments.contains(own.segment));
        let behind = own.filter(|(name, own)| !session.has_all_of(name, own.version));
        behind.map(|(name, _)| *name).chain(session.deletions(segments)).collect()
    }

    /// The receiver has acknowledged something.
    pub(crate) fn followed(&mut self, from: NodeId, tunnel: &Name, deleted: bool) {
        let version = self.tunnels.own.get(tunnel).map(|own| own.version);
        let session = self.replicas.sessions.get(&from);
        let has_all =
            session.zip(version).is_some_and(|(session, version)| session.has_all_of(tunnel, version));
        if let Some(running) = self.moves.running.as_mut().filter(|running| running.to == from)
            && (has_all || deleted)
        {
            running.behind.remove(tunnel);
            self.freeze_followed();
        }
    }

    /// Announces the move, once there is nothing else to transfer.
    pub(crate) fn freeze_followed(&mut self) {
        let now = self.now;
        let is_due = |running: &&mut Move| running.stage == Stage::Following && running.behind.is_empty();
        let Some(running) = self.moves.running.as_mut().filter(is_due) else { return };
        running.stage = Stage::Announced;
        running.until = now + self.config.move_wait;
        let to = running.to;
        if let Some(departure) = self.departure() {
            self.transfer(to, departure.announcement());
        }
    }

    /// What is said of the move that is under way.
    fn departure(&self) -> Option<Departure> {
        let running = self.moves.running.as_ref()?;
        Some(Departure {
            number: running.number,
            segments: running.segments,
            pinned: !(running.segments & self.moves.pinned).is_empty(),
            predictive: (!running.is_asked).then_some(self.incarnation),
            elapsed: self.now.saturating_sub(running.began),
        })
    }

    /// Stops packets: the receiver holds what comes from now on. Until then they have gone on, so that none is lost
    /// between the two.
    fn freeze(&mut self) {
        let now = self.now;
        let Some(running) = self.moves.running.as_mut() else { return };
        running.stage = Stage::Frozen;
        running.until = now + self.config.move_wait;
        let (number, segments) = (running.number, running.segments);
        if self.guards.freeze_first {
            self.outputs.push_back(Output::SetLease { segments, until: Duration::ZERO });
        }
        self.outputs.push_back(Output::Freeze { number, segments });
    }

    /// No worker takes another number: what the counters say now is final.
    pub(crate) fn frozen(&mut self, number: u64, parts: &[Octets]) {
        let is_it = |running: &&Move| (running.number, running.stage) == (number, Stage::Frozen);
        let Some(running) = self.moves.running.as_ref().filter(is_it) else { return };
        let to = running.to;
        let Some(departure) = self.departure() else { return };
        match departure.messages(parts) {
            Ok(messages) => messages.into_iter().for_each(|message| self.transfer(to, message)),
            // No driver gives such parts.
            Err(_) => self.thaw(),
        }
    }

    pub(crate) fn transfer(&mut self, to: NodeId, message: Message) {
        self.send(to, Lane::Control, ControlMessage::Transfer(message).encode().into());
    }

    /// Gives a move up before the sign-off: the segments go on here.
    pub(crate) fn thaw(&mut self) {
        let Some(running) = self.moves.running.take() else { return };
        let segments = running.segments & self.claims.held;
        self.moves.not_before = self.now + self.config.settle;
        self.totals.moves_failed += running.segments.len() as u64;
        self.transfer(running.to, Message::Cancel { peer: transfer::address(running.number) });
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

    /// The receiver has answered: it holds what comes from now on, or it has all of it ready.
    pub(crate) fn replied(&mut self, from: NodeId, number: u64, success: bool) {
        let is_it = |running: &&Move| (running.to, running.number) == (from, number);
        let Some(running) = self.moves.running.as_ref().filter(is_it) else { return };
        // What has changed since it had all would have to follow while nobody handles packets.
        let is_current = running.behind.is_empty();
        match running.stage {
            Stage::Announced if success && is_current => self.freeze(),
            Stage::Announced => self.thaw(),
            Stage::Frozen => self.sign_off(from, number, success),
            Stage::Silencing | Stage::Following => {}
        }
    }

    fn sign_off(&mut self, from: NodeId, number: u64, success: bool) {
        let is_it =
            |running: &Move| (running.to, running.number, running.stage) == (from, number, Stage::Frozen);
        let Some(running) = self.moves.running.as_ref().filter(|running| is_it(running)) else { return };
        // What has changed since is not there.
        if !success || !running.behind.is_empty() {
            return self.thaw();
        }
        let ours = |running: &mut Move| is_it(running);
        let Some(running) = self.moves.running.take_if(ours) else { return };
        let until = self.now + self.config.dead_time() * 4;
        let segments = running.segments & self.claims.held;
        self.lose(segments);
        // Whatever we may own of them later has a higher term than what we have signed off.
        self.claims.term = next_term(self.claims.term);
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

    /// Another node asks for segments of ours (reactive).
    pub(crate) fn requested(&mut self, from: NodeId, request: &Request) -> Result<(), MessageError> {
        let peer = self.peers.get(&from).filter(|peer| peer.member.role == Role::Node);
        let Some(life) = peer.and_then(|peer| peer.life) else { return Ok(()) };
        let segments = transfer::requested(request, self.incarnation)? & self.claims.held;
        let last = self.moves.requests.insert(from, (life, request.sequence));
        if last.is_some_and(|(known, last)| known == life && last >= request.sequence) {
            self.moves.requests.extend(last.map(|last| (from, last)));
            return Err(MessageError::Value("the sequence number of a request"));
        }
        *self.moves.asked.entry(from).or_default() |= segments;
        self.plan_pinned(from, segments);
        Ok(())
    }

    /// Asks the owners of segments for them.
    pub(crate) fn ask_for(&mut self, segments: Segments) {
        let owners =
            self.peers.iter().filter_map(|(id, peer)| Some((*id, peer.life?, peer.owns() & segments)));
        let owners: Vec<_> = owners.filter(|(.., theirs)| !theirs.is_empty()).collect();
        for (to, life, segments) in owners {
            self.moves.number += 1;
            self.moves.sequence += 1;
            let request = transfer::request(self.moves.number, self.moves.sequence, life, segments);
            if let Some(request) = request {
                self.transfer(to, request);
            }
        }
    }
}

/// The name of a negotiated tunnel says it.
fn segment_of(tunnel: &Name) -> Option<u8> {
    let (_, number) = baton_ike_proto::host::TunnelName::parse(tunnel.as_str())?;
    Some(number.to_be_bytes()[0])
}
