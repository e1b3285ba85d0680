//! Who should own what, and commands that say otherwise.

use baton_sad::NodeId;

use super::Cluster;
use super::configuration::Balance;
use super::event::Command;
use super::output::Output;
use super::segments::Segments;
use super::wire::{ControlMessage, MessageError};

impl Cluster {
    /// Plans moves of our segments to the nodes that come first in their rings.
    pub(crate) fn balance(&mut self) {
        // Planned anew each time: what was the reason may be over.
        self.moves.forget_balance();
        let automatic = self.config.balance == Balance::Automatic;
        if !(automatic || self.moves.once || self.is_leaving()) {
            return;
        }
        let mut settled = true;
        for (share, ring) in self.shares() {
            let segments = share & (self.claims.held - self.moves.pinned);
            let target = ring.first().copied().filter(|node| *node != self.config.me);
            let Some(target) = target.filter(|_| !segments.is_empty()) else { continue };
            settled = false;
            let in_order = self.peers.get(&target).is_some_and(|peer| peer.beat.settled);
            if in_order || self.moves.once || self.is_leaving() {
                self.moves.plan(target, segments);
            }
        }
        self.moves.once &= !settled;
    }

    pub(crate) fn command(&mut self, command: Command) {
        match command {
            Command::Take(segments) => self.ask_for(segments),
            Command::Drop(segments) => self.give_away(segments & self.claims.held),
            Command::Move { segments, to } => self.plan_pinned(to, segments & self.claims.held),
            Command::Balance => {
                self.moves.pinned = Segments::NONE;
                self.moves.once = true;
            }
            Command::Maintenance(on) => self.set_maintenance(on),
            Command::Resync => self.resync(),
        }
    }

    pub(crate) fn plan_pinned(&mut self, to: NodeId, segments: Segments) {
        if to != self.config.me && self.peers.contains_key(&to) {
            self.moves.pinned |= segments;
            self.moves.plan(to, segments);
        }
    }

    fn give_away(&mut self, segments: Segments) {
        for segment in segments.iter() {
            let next = self.ring(segment).into_iter().find(|node| *node != self.config.me);
            if let Some(to) = next {
                self.plan_pinned(to, Segments::one(segment));
            }
        }
    }

    fn set_maintenance(&mut self, on: bool) {
        self.maintenance = on;
        let fresh = self.ownership.claimed() - self.claims.held;
        if on {
            self.moves.pinned = Segments::NONE;
            self.lose(fresh);
        }
        self.next_beat = self.now;
    }

    fn resync(&mut self) {
        let standbys: Vec<NodeId> = self.replicas.sessions.keys().copied().collect();
        for standby in standbys {
            self.open_session(standby, true);
        }
    }

    pub(crate) fn handle_control(&mut self, from: NodeId, octets: &[u8]) -> Result<(), MessageError> {
        let message = ControlMessage::decode(octets)?;
        if !self.may_control(from, &message) {
            return Ok(());
        }
        match message {
            ControlMessage::Hello { incarnation, release, digests } => {
                self.greeted(from, incarnation, &release, &digests);
            }
            ControlMessage::Links(links) => self.hear_links(from, links),
            ControlMessage::Load(report) => self.hear_load(from, report),
            ControlMessage::Transfer(message) => self.handle_transfer(from, message)?,
        }
        Ok(())
    }

    /// Leases of segments that stay with us are written again.
    pub(crate) fn repeat_leases(&mut self, segments: Segments) {
        for (until, segments) in self.claims.leases_of(segments) {
            self.outputs.push_back(Output::SetLease { segments, until });
        }
    }
}
