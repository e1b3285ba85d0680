//! The tunnels that this node owns or holds for others.

use std::collections::BTreeMap;

use baton_sad::{Name, NodeId};

use super::event::SaKey;
use super::segments::Segments;

/// A tunnel of a segment that we own.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) segment: u8,
    pub(crate) version: u64,
    /// Its SAs, as its context said when it was read last.
    pub(crate) sas: Vec<SaKey>,
}

/// A tunnel that we hold for another owner, or held when we lost its segment.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) segment: u8,
    pub(crate) version: u64,
    /// Who put it, in which session; `None` if it was ours.
    pub(crate) source: Option<(NodeId, u64)>,
}

/// All tunnels of this node, as many as the configuration allows.
#[derive(Debug)]
pub(crate) struct Tunnels {
    most: usize,
    /// Segments that were gained and whose tunnels stand among those that are held yet: a takeover does not wait for them.
    pub(crate) gained: Segments,
    pub(crate) own: BTreeMap<Name, Tunnel>,
    pub(crate) held: BTreeMap<Name, Held>,
}

impl Tunnels {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, gained: Segments::NONE, own: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Segments of which any tunnel is held.
    pub(crate) fn held_segments(&self) -> Segments {
        self.held.values().map(|held| held.segment).collect()
    }

    /// Whether there is room for a tunnel, which may be there already.
    pub(crate) fn has_room(&self, tunnel: &Name) -> bool {
        let known = self.own.contains_key(tunnel) || self.held.contains_key(tunnel);
        known || self.own.len() + self.held.len() < self.most
    }

    /// What was held of the segments that were gained is owned.
    pub(crate) fn take_gained(&mut self) {
        let segments = std::mem::take(&mut self.gained);
        if segments.is_empty() {
            return;
        }
        for (name, held) in self.held.extract_if(.., |_, held| segments.contains(held.segment)) {
            self.own.insert(name, Tunnel { segment: held.segment, version: held.version, sas: Vec::new() });
        }
    }

    /// What was owned is held, until the new owner puts it or says that it is gone.
    pub(crate) fn yield_up(&mut self, segments: Segments) {
        for (name, own) in self.own.extract_if(.., |_, own| segments.contains(own.segment)) {
            self.held.insert(name, Held { segment: own.segment, version: own.version, source: None });
        }
    }

    /// What a complete session did not mention is gone.
    pub(crate) fn sweep(&mut self, from: NodeId, session: u64, segments: Segments) -> Vec<Name> {
        let gone = |_: &Name, held: &mut Held| {
            segments.contains(held.segment) && held.source != Some((from, session))
        };
        self.held.extract_if(.., gone).map(|(name, _)| name).collect()
    }
}
