//! Whether this node's interfaces have a link: without its outer or its inner one a node reaches no peer, or nothing
//! that is behind it, and serves nobody.
//!
//! It claims nothing then, and gives what it owns to nodes that are better off: by planned moves at once, which lose
//! nothing that was not lost on the wire, and what has not gone after a while by letting go, so that others take over. It
//! keeps what nobody could take. Others offer it segments again once it has had its links for the settling time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Cluster;
use super::configuration::{Configuration, Role};
use super::peer::Peer;
use super::segments::Segments;
use super::status::Alarm;

/// Planned moves get the time of so many.
const MOVES: u32 = 5;

/// One of the two sides of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Peers are there.
    Outer,
    /// What is protected is there.
    Inner,
}

/// The interfaces of this node.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    down: BTreeSet<Side>,
    /// While one is down: when to let go of what others did not get by planned moves.
    let_go: Option<Duration>,
    /// Nothing is offered to it before.
    steady: Duration,
}

impl Attachment {
    /// Whether all links are there.
    pub(crate) fn is_whole(&self) -> bool {
        self.down.is_empty()
    }

    /// Those that are not.
    pub(crate) fn down(&self) -> BTreeSet<Side> {
        self.down.clone()
    }

    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.let_go
    }
}

fn patience(config: &Configuration) -> Duration {
    config.move_wait * MOVES
}

impl Cluster {
    pub(crate) fn set_link(&mut self, side: Side, up: bool) {
        let changes = if up { self.attachment.down.remove(&side) } else { self.attachment.down.insert(side) };
        if !changes || !self.is_node() {
            return;
        }
        self.alarm(Alarm::NoLink(side), !up);
        if self.attachment.is_whole() {
            self.attachment.let_go = None;
            self.attachment.steady = self.now + self.config.settle;
        } else if self.attachment.let_go.is_none() {
            self.attachment.let_go = Some(self.now + patience(&self.config));
            self.moves.pinned = Segments::NONE;
            self.lose(self.ownership.claimed() - self.claims.held);
        }
        (self.next_beat, self.next_tending) = (self.now, self.now);
    }

    /// Whether this node can handle packets.
    pub(crate) fn is_able(&self) -> bool {
        self.dataplane && self.attachment.is_whole()
    }

    /// Whether others may give segments to this node, and count on it.
    pub(crate) fn is_steady(&self) -> bool {
        self.is_able() && self.now >= self.attachment.steady
    }

    /// Whether segments should be anywhere but here.
    pub(crate) fn is_leaving(&self) -> bool {
        self.maintenance || !self.attachment.is_whole()
    }

    /// What is not gone in time others have to take over, unless none of them could.
    pub(crate) fn tend_attachment(&mut self) {
        if self.attachment.let_go.is_none_or(|due| due > self.now) {
            return;
        }
        // One that is not heard may live and find a majority; in a pair without a witness it would have taken all by itself.
        let waits = self.ownership.is_exclusive();
        let unable = |peer: &Peer| {
            if peer.is_alive() { peer.beat.idle || peer.beat.maintenance } else { !waits }
        };
        let mut nodes = self.peers.values().filter(|peer| peer.member.role == Role::Node);
        if !nodes.all(unable) {
            self.lose(self.ownership.claimed());
        }
        self.attachment.let_go = Some(self.now + patience(&self.config));
    }
}
