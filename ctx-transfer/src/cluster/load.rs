//! Load: a node that has had more to do than it should, for a while, moves segments to one that has room, by planned
//! moves. Where it does is by thresholds of the configuration; there are none by default.
//!
//! Hysteresis: it waits for a hold time before each move, and a node has room only below three quarters of every
//! threshold, so that what it gets does not push it over. What was moved is pinned: it is not balanced back.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_sad::NodeId;

use super::Cluster;
use super::configuration::Role;
use super::output::Lane;
use super::segments::Segments;
use super::wire::ControlMessage;

/// What another node has said of itself counts for so long; nodes say it about once a second.
const FRESH: Duration = Duration::from_secs(5);

/// What a node's driver measures, about once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Of all processors, 0 to 1000.
    pub cpu_per_mille: u16,
    /// Packets that the data plane has dropped, whatever the reason.
    pub drops_per_second: u64,
}

/// When segments are moved away; without any threshold never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// From so much of all processors, in thousandths.
    pub cpu_per_mille: Option<u16>,
    /// From so many packets.
    pub drops_per_second: Option<u64>,
    /// From so many tunnels of this node.
    pub tunnels: Option<u64>,
    /// For how long before a move, and between two. Default 10 s.
    pub hold: Duration,
}

impl Default for Trigger {
    fn default() -> Self {
        let hold = Duration::from_secs(10);
        Self { cpu_per_mille: None, drops_per_second: None, tunnels: None, hold }
    }
}

/// What nodes tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// As measured.
    pub load: Load,
    /// Tunnels that the node owns.
    pub tunnels: u64,
}

impl Trigger {
    /// Each threshold that is set, with what a node has of it.
    fn pairs(&self, report: &LoadReport) -> impl Iterator<Item = (u64, u64)> {
        let LoadReport { load: Load { cpu_per_mille, drops_per_second }, tunnels } = *report;
        let pairs = [
            (self.cpu_per_mille.map(u64::from), u64::from(cpu_per_mille)),
            (self.drops_per_second, drops_per_second),
            (self.tunnels, tunnels),
        ];
        pairs.into_iter().filter_map(|(threshold, value)| Some((threshold?, value)))
    }

    /// Whether anything is moved by it.
    pub const fn is_off(&self) -> bool {
        self.cpu_per_mille.is_none() && self.drops_per_second.is_none() && self.tunnels.is_none()
    }

    fn is_over(&self, report: &LoadReport) -> bool {
        self.pairs(report).any(|(threshold, value)| value >= threshold)
    }

    fn has_room(&self, report: &LoadReport) -> bool {
        self.pairs(report).all(|(threshold, value)| value.saturating_mul(4) < threshold.saturating_mul(3))
    }
}

/// What is known of loads.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    /// Since when this node has too much to do, or since it last moved something away.
    since: Option<Duration>,
    others: BTreeMap<NodeId, (Duration, LoadReport)>,
}

impl Cluster {
    /// What this node has to do now.
    pub(crate) fn note_load(&mut self, load: Load) {
        let trigger = self.config.trigger;
        if trigger.is_off() || !self.is_node() {
            return;
        }
        let report = LoadReport { load, tunnels: self.tunnels.own.len() as u64 };
        let others = self.peers.iter().filter(|(_, peer)| peer.connected && peer.member.role == Role::Node);
        for to in others.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.send(to, Lane::Control, ControlMessage::Load(report).encode().into());
        }
        if !trigger.is_over(&report) || self.maintenance {
            self.loads.since = None;
            return;
        }
        let since = *self.loads.since.get_or_insert(self.now);
        if self.now.saturating_sub(since) >= trigger.hold && !self.moves.is_busy() {
            self.relieve();
        }
    }

    /// Gives some segments to the node that has the least to do, if one has room.
    fn relieve(&mut self) {
        let has_room = |id: &NodeId| {
            let peer = self.peers.get(id).filter(|peer| peer.connected && peer.is_alive());
            let takes = peer.is_some_and(|peer| !peer.beat.maintenance && !peer.beat.idle);
            let (at, report) = self.loads.others.get(id).filter(|_| takes)?;
            let is_fresh = self.now.saturating_sub(*at) <= FRESH;
            (is_fresh && self.config.trigger.has_room(report)).then_some((report.tunnels, *id))
        };
        let target = self.loads.others.keys().filter_map(has_room).min();
        let segments = (self.claims.held - self.moves.pinned).first(self.config.move_batch);
        if let Some((_, to)) = target.filter(|_| segments != Segments::NONE) {
            self.loads.since = Some(self.now);
            self.plan_pinned(to, segments);
        }
    }

    /// What another node has to do.
    pub(crate) fn hear_load(&mut self, from: NodeId, report: LoadReport) {
        if self.peers.get(&from).is_some_and(|peer| peer.member.role == Role::Node) {
            self.loads.others.insert(from, (self.now, report));
        }
    }
}
