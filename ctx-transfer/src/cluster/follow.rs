//! The standby's side: contexts and floors of other owners.

use baton_sad::{Name, NodeId};

use super::Cluster;
use super::event::{Content, Refusal, SaKey};
use super::output::{Lane, Output};
use super::segments::Segments;
use super::tunnels::{Change, Held, Swept};
use super::wire::{ContextMessage, CounterMessage, MessageError};

impl Cluster {
    pub(crate) fn handle_contexts(&mut self, from: NodeId, octets: &[u8]) -> Result<(), MessageError> {
        self.weigh(from, octets.len(), ContextMessage::decode(octets)?);
        Ok(())
    }

    /// Does what the owner of its segments says.
    pub(crate) fn follow(&mut self, from: NodeId, message: ContextMessage) {
        match message {
            ContextMessage::Put { number, session, content } => self.apply(from, number, session, content),
            ContextMessage::Delete { number, tunnel } => self.remove_held(from, number, tunnel),
            ContextMessage::Complete { session, segments } => self.sweep(from, session, segments),
            ContextMessage::Acknowledge { number, result } => self.acknowledged(from, number, result),
        }
    }

    /// A context of a segment that we claim ourselves is not the other's to put.
    fn apply(&mut self, from: NodeId, number: u64, session: u64, content: Content) {
        let Content { tunnel, segment, version, octets, reserved: floors } = content;
        let ours = self.ownership.claimed().contains(segment) || self.tunnels.own.contains_key(&tunnel);
        let result = match () {
            () if ours => Err(Refusal::Policy),
            () if self.has_later_owner(&tunnel, from) => Err(Refusal::Unavailable),
            () if !self.tunnels.has_room(&tunnel) => Err(Refusal::Full),
            () if !self.dataplane => Err(Refusal::Unavailable),
            () => Ok(()),
        };
        if result.is_err() {
            return self.acknowledge(from, number, result);
        }
        let supersedes = self.tunnels.put_by(&tunnel).is_none_or(|(_, owner)| owner != from);
        let held = Held { segment, version, source: Some((from, session)) };
        self.tunnels.begin_change(from, number, Change { tunnel, held: Some(held) });
        let apply = Output::Apply { from, number, tunnel, segment, version, octets, floors, supersedes };
        self.outputs.push_back(apply);
    }

    /// Whether another node that owns the segment since has put a tunnel here: what its former owner had under way comes
    /// too late.
    fn has_later_owner(&self, tunnel: &Name, from: NodeId) -> bool {
        let Some((segment, owner)) = self.tunnels.put_by(tunnel).filter(|(_, owner)| *owner != from) else {
            return false;
        };
        let term = |id: NodeId| {
            let peer = self.peers.get(&id).filter(|peer| peer.owns().contains(segment));
            peer.map(|peer| peer.beat.term)
        };
        term(owner).is_some_and(|owner| owner > term(from).unwrap_or(0))
    }

    /// Also what is not held: of a context that could not be installed a part may be here.
    fn remove_held(&mut self, from: NodeId, number: u64, tunnel: Name) {
        let theirs = |held: &Held| held.source.is_none_or(|(owner, _)| owner == from);
        let is_theirs = self.tunnels.held.get(&tunnel).is_none_or(theirs);
        let is_changing = !self.tunnels.changing(&tunnel).is_empty();
        if is_changing || is_theirs && !self.tunnels.own.contains_key(&tunnel) {
            self.tunnels.begin_change(from, number, Change { tunnel, held: None });
            self.outputs.push_back(Output::Remove { from, number, tunnel });
        } else {
            self.acknowledge(from, number, Ok(()));
        }
    }

    fn sweep(&mut self, from: NodeId, session: u64, segments: Segments) {
        self.claims.sound |= segments;
        for swept in self.tunnels.sweep(from, session, segments - self.ownership.claimed()) {
            self.stop_waiting_of(&swept.tunnel);
            self.remove_swept(swept);
        }
    }

    /// By our own wish: its owner may know nothing of it.
    fn remove_swept(&mut self, swept: Swept) {
        let number = self.tunnels.begin_sweep(swept);
        let (from, tunnel) = (self.config.me, swept.tunnel);
        self.outputs.push_back(Output::Remove { from, number, tunnel });
    }

    /// Tries again to remove what could not be removed: the IKE daemon may have been away, and would go on with it after a
    /// takeover.
    pub(crate) fn sweep_again(&mut self) {
        for swept in self.tunnels.take_unswept(self.ownership.claimed()) {
            self.remove_swept(swept);
        }
    }

    /// The driver has done what another owner wanted, or could not: then what was here before still is.
    pub(crate) fn applied(&mut self, from: NodeId, number: u64, result: Result<(), Refusal>) {
        if from == self.config.me {
            return self.tunnels.end_sweep(number, result.is_ok());
        }
        if let Some(Change { tunnel, held }) = self.tunnels.end_change(from, number, result.is_ok()) {
            match held {
                // It came while its segment became ours.
                Some(Held { segment, version, .. }) if self.claims.held.contains(segment) => {
                    self.change_tunnel(tunnel, segment, version);
                }
                Some(held) => drop(self.tunnels.held.insert(tunnel, held)),
                None => {
                    // Its owner knows nothing of what waits here.
                    self.stop_waiting_of(&tunnel);
                    self.delete_tunnel(&tunnel);
                }
            }
        }
        self.acknowledge(from, number, result);
    }

    /// Number 0 was nobody's wish.
    pub(crate) fn acknowledge(&mut self, to: NodeId, number: u64, result: Result<(), Refusal>) {
        if number != 0 {
            let message = ContextMessage::Acknowledge { number, result };
            self.send(to, Lane::Contexts, message.encode().into());
        }
    }

    pub(crate) fn handle_counters(&mut self, from: NodeId, octets: &[u8]) -> Result<(), MessageError> {
        match CounterMessage::decode(octets)? {
            _ if !self.may_count(from) => {}
            // It is sent again.
            CounterMessage::Reserve { .. } if self.prepares_late() => {}
            CounterMessage::Reserve { number, items, .. } => {
                let within = self.owned_by(from);
                self.outputs.push_back(Output::RaiseFloors { from, number, floors: items, within });
            }
            CounterMessage::Acknowledge { number, missing } => {
                self.reservations_acknowledged(from, number, &missing);
            }
        }
        Ok(())
    }

    /// `foreign` are segments of SAs that were passed over because their owner is another one.
    pub(crate) fn floors_raised(&mut self, to: NodeId, number: u64, missing: Vec<SaKey>, foreign: Segments) {
        self.suspect(to, foreign);
        let message = CounterMessage::Acknowledge { number, missing };
        self.send(to, Lane::Counters, message.encode().into());
    }
}
