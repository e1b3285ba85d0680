//! Who may say what (I2, I3, I4, I6). A certificate says who a member is; it does not make true what the member says.
//!
//! Only nodes have contexts, counters and segments to speak of, and of a segment only its owner speaks. Who owns what is
//! in heartbeats, which travel on another connection: what is said of a segment that its sender is not known to own waits
//! for its heartbeats, for a dead time at most, and is then forgotten without an effect, counted and alarmed.

use std::collections::VecDeque;
use std::time::Duration;

use baton_sad::{Name, NodeId};

use super::Cluster;
use super::configuration::Role;
use super::event::Refusal;
use super::segments::Segments;
use super::status::Alarm;
use super::wire::{ContextMessage, ControlMessage};

/// Octets of one member's messages that wait for its heartbeats at most: more than an honest one has under way.
const EARLY_OCTETS: usize = 16 << 20;
/// What a message that waits costs beside its octets.
const OVERHEAD: usize = 256;

/// A message that came before its sender was known to own what it is about.
#[derive(Debug)]
struct Early {
    since: Duration,
    about: Segments,
    octets: usize,
    message: ContextMessage,
}

/// What is to be thought of a member.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// All that it has owned since we know it: what comes late of these is no reason for an alarm.
    once: Segments,
    early: VecDeque<Early>,
    octets: usize,
    /// What it spoke of in a datagram without being known to own it, and since when.
    suspected: Option<(Duration, Segments)>,
}

impl Trust {
    /// Messages about these segments wait already: later ones come after them.
    fn waiting(&self) -> Segments {
        self.early.iter().fold(Segments::NONE, |all, early| all | early.about)
    }

    fn has_room(&self, early: &Early) -> bool {
        self.octets + early.octets <= EARLY_OCTETS
    }

    fn wait(&mut self, early: Early) {
        self.octets += early.octets;
        self.early.push_back(early);
    }

    /// What has come on a connection is of no use to the next one: its sender says it again.
    pub(crate) fn forget_early(&mut self) {
        self.early.clear();
        self.octets = 0;
    }
}

impl Cluster {
    fn is_from_node(&self, from: NodeId) -> bool {
        self.peers.get(&from).is_some_and(|peer| peer.member.role == Role::Node)
    }

    /// What a member owns by its last heartbeat, whether it is silent since or not.
    pub(crate) fn owned_by(&self, member: NodeId) -> Segments {
        self.peers.get(&member).map_or(Segments::NONE, |peer| peer.beat.claims - peer.beat.fresh)
    }

    /// A message about contexts is followed, waits, or is not believed.
    pub(crate) fn weigh(&mut self, from: NodeId, octets: usize, message: ContextMessage) {
        if !self.guards.owners_only {
            return self.follow(from, message);
        }
        if !self.is_from_node(from) {
            return self.disbelieve(from, Segments::ALL);
        }
        if let ContextMessage::Acknowledge { number, result } = message {
            return self.acknowledged(from, number, result);
        }
        let since = self.now;
        self.weigh_early(from, Early { since, about: Segments::NONE, octets: octets + OVERHEAD, message });
    }

    fn weigh_early(&mut self, from: NodeId, mut early: Early) {
        early.about = self.subject(from, &early.message);
        let waiting = self.peers.get(&from).map_or(Segments::NONE, |peer| peer.trust.waiting());
        let believed = self.owned_by(from) - waiting;
        if let ContextMessage::Complete { session, segments } = &mut early.message {
            let now = *segments & believed;
            *segments -= now;
            early.about = *segments;
            let part = ContextMessage::Complete { session: *session, segments: now };
            if !now.is_empty() {
                self.follow(from, part);
            }
            if segments.is_empty() {
                return;
            }
        }
        if (early.about - believed).is_empty() {
            return self.follow(from, early.message);
        }
        let in_time = self.now < early.since + self.config.dead_time();
        match self.peers.get_mut(&from).filter(|peer| in_time && peer.trust.has_room(&early)) {
            Some(peer) => peer.trust.wait(early),
            None => self.refuse_early(from, &early),
        }
    }

    /// The segments of which a message says something: of a tunnel that is here already its own, too.
    fn subject(&self, from: NodeId, message: &ContextMessage) -> Segments {
        match message {
            ContextMessage::Put { content, .. } => {
                self.segments_of(&content.tunnel) | Segments::one(content.segment)
            }
            ContextMessage::Delete { tunnel, .. } => self.segments_of(tunnel) | self.put_early(from, tunnel),
            ContextMessage::Complete { segments, .. } => *segments,
            ContextMessage::Acknowledge { .. } => Segments::NONE,
        }
    }

    fn segments_of(&self, tunnel: &Name) -> Segments {
        let held = self.tunnels.held.get(tunnel).map(|held| Segments::one(held.segment));
        held.unwrap_or_default() | self.tunnels.changing(tunnel)
    }

    /// Where a member has put a tunnel by a message that waits.
    fn put_early(&self, from: NodeId, tunnel: &Name) -> Segments {
        let early = self.peers.get(&from).into_iter().flat_map(|peer| &peer.trust.early);
        let puts = early.filter(
            |early| matches!(&early.message, ContextMessage::Put { content, .. } if content.tunnel == *tunnel),
        );
        puts.fold(Segments::NONE, |all, early| all | early.about)
    }

    fn refuse_early(&mut self, from: NodeId, early: &Early) {
        self.disbelieve(from, early.about);
        let (ContextMessage::Put { number, .. } | ContextMessage::Delete { number, .. }) = &early.message
        else {
            return;
        };
        // Who is the owner after all says it again.
        self.acknowledge(from, *number, Err(Refusal::Unavailable));
    }

    /// A member's heartbeat was heard: what has waited for it is weighed again.
    pub(crate) fn believe(&mut self, from: NodeId) {
        let (now, patience, owned) = (self.now, self.config.dead_time(), self.owned_by(from));
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.trust.once |= owned;
        let early = std::mem::take(&mut peer.trust.early);
        peer.trust.octets = 0;
        let suspected = peer.trust.suspected.take_if(|(since, _)| *since + patience <= now);
        for early in early {
            self.weigh_early(from, early);
        }
        if let Some((_, segments)) = suspected {
            self.accuse(from, segments);
        }
    }

    /// Reservations of SAs whose segments their sender does not own had no effect.
    pub(crate) fn suspect(&mut self, from: NodeId, segments: Segments) {
        let now = self.now;
        if segments.is_empty() {
            return;
        }
        self.totals.disbelieved += 1;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.trust.suspected.get_or_insert((now, Segments::NONE)).1 |= segments;
        }
    }

    /// Whether a member may say this on the lane of counters.
    pub(crate) fn may_count(&mut self, from: NodeId) -> bool {
        let may = self.is_from_node(from);
        if !may {
            self.disbelieve(from, Segments::ALL);
        }
        may
    }

    /// Whether a member may say this on the lane of control. What a move brings is weighed where its segments are known.
    pub(crate) fn may_control(&mut self, from: NodeId, message: &ControlMessage) -> bool {
        let may = matches!(message, ControlMessage::Hello { .. }) || self.is_from_node(from);
        if !may {
            self.disbelieve(from, Segments::ALL);
        }
        may
    }

    /// Whether a member may move segments. It keeps its leases until all is said.
    pub(crate) fn may_move(&mut self, from: NodeId, segments: Segments) -> bool {
        let may = (segments - self.owned_by(from)).is_empty();
        if !may {
            self.disbelieve(from, segments);
        }
        may
    }

    fn disbelieve(&mut self, from: NodeId, about: Segments) {
        self.totals.disbelieved += 1;
        self.accuse(from, about);
    }

    /// What it owned once it may have said while it did.
    fn accuse(&mut self, from: NodeId, about: Segments) {
        let once = self.peers.get(&from).map_or(Segments::NONE, |peer| peer.trust.once);
        if !(about - once).is_empty() {
            self.alarm(Alarm::NotTheOwner(from), true);
        }
    }
}

#[cfg(test)]
mod tests;
