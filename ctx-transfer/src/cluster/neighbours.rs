//! The nodes as they are on the links that they share.

use baton_sad::NodeId;

use super::Cluster;
use super::configuration::Role;
use super::output::Lane;
use super::segments::Segments;
use super::wire::ControlMessage;

/// The MAC addresses of a node's interfaces, as far as they are of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkAddresses {
    /// On the outer side.
    pub outer: Option<[u8; 6]>,
    /// On the inner side.
    pub inner: Option<[u8; 6]>,
}

/// A node, this one or another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who.
    pub id: NodeId,
    /// Its priority.
    pub priority: u8,
    /// Whether it is heard.
    pub alive: bool,
    /// What it handles: what it owns, or is about to, as soon as the former owner does not any more.
    pub owns: Segments,
    /// Where it is.
    pub links: LinkAddresses,
}

impl Cluster {
    /// All nodes, by their ids.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        let mut leaving = self.moves.leaving();
        // What somebody owns by now has arrived, wherever that is.
        let taken = self.peers.values().fold(Segments::NONE, |all, peer| all | peer.owns());
        for (_, segments) in &mut leaving {
            *segments -= taken;
        }
        let left = leaving.iter().fold(Segments::NONE, |all, (_, segments)| all | *segments);
        let node = |member: super::configuration::Member| {
            let (id, priority) = (member.id, member.priority);
            if id == self.config.me {
                let (owns, links) = (self.claims.held - left, self.config.links);
                return Some(Neighbour { id, priority, alive: true, owns, links });
            }
            let peer = self.peers.get(&id)?;
            let coming = leaving.iter().filter(|(to, _)| *to == id);
            let owns = coming.fold(peer.owns() - left, |all, (_, segments)| all | *segments);
            Some(Neighbour { id, priority, alive: peer.is_alive(), owns, links: peer.links })
        };
        let mut nodes: Vec<_> = self.config.nodes().into_iter().filter_map(node).collect();
        nodes.sort_unstable_by_key(|node| node.id);
        nodes
    }

    /// Another node has to know where we are, if we have said so ourselves.
    pub(crate) fn tell_links(&mut self, member: NodeId) {
        let is_node = self.config.member(member).is_some_and(|member| member.role == Role::Node);
        let links = self.config.links;
        if is_node && links != LinkAddresses::default() {
            self.send(member, Lane::Control, ControlMessage::Links(links).encode().into());
        }
    }

    pub(crate) fn hear_links(&mut self, from: NodeId, links: LinkAddresses) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.links = links;
        }
    }
}
