//! Links between members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton_sad::NodeId;

/// One connection between two members: it lives until its link is cut or one of them dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub number: u64,
    /// Something was lost: it delivers nothing any more, and both will notice.
    pub broken: bool,
}

/// All links.
#[derive(Debug, Default)]
pub struct Network {
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub connections: BTreeMap<(NodeId, NodeId), Connection>,
    /// When the last reliable message of a direction arrives.
    pub last: BTreeMap<(NodeId, NodeId), Duration>,
    pub made: u64,
}

/// The two ends of a link, in order.
pub fn link(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

impl Network {
    pub fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cut.contains(&link(a, b))
    }

    pub fn connection(&self, a: NodeId, b: NodeId) -> Option<Connection> {
        self.connections.get(&link(a, b)).copied()
    }

    /// Reliable messages arrive in order.
    pub fn in_order(&mut self, from: NodeId, to: NodeId, at: Duration) -> Duration {
        let last = self.last.entry((from, to)).or_default();
        *last = at.max(*last + Duration::from_micros(1));
        *last
    }
}
