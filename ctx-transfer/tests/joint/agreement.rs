//! What must be true when all is well and time has passed.

use baton_ctx_transfer::cluster::Segments;
use baton_ike_proto::machine::{ChildView, TunnelState, TunnelView};
use baton_sad::NodeId;

use crate::exchanges::Answered;
use crate::node::Node;
use crate::plane::{number, segment};
use crate::setting::connection_name;
use crate::world::World;

impl World {
    /// The cluster is whole, both ends of every tunnel agree, and nobody had to begin anew because of a takeover.
    pub fn agree(&self) -> Result<(), String> {
        self.is_owned_once()?;
        for at in 0..self.peers.len() {
            self.peer_agrees(at).map_err(|why| format!("peer {}: {why}", at + 1))?;
            self.peer_was_left_in_peace(at).map_err(|why| format!("peer {}: {why}", at + 1))?;
        }
        self.nodes
            .values()
            .filter(|node| !node.witness)
            .try_for_each(|node| self.standbys_follow(node.id))?;
        self.no_storm()
    }

    /// Every segment has one owner, and a standby in good order.
    fn is_owned_once(&self) -> Result<(), String> {
        let mut owned = Segments::NONE;
        for node in self.nodes.values().filter(|node| !node.witness) {
            let status = node.daemon.core.as_ref().ok_or("a daemon is dead")?.status();
            if !(owned & status.owned).is_empty() {
                return Err(format!("two own {}", owned & status.owned));
            }
            owned |= status.owned;
            let ready = status.members.iter().fold(Segments::NONE, |all, member| all | member.ready);
            if !(status.owned - ready).is_empty() {
                let missing = status.owned - ready;
                return Err(format!("{}: nobody stands by for {missing}: {:?}", status.me, status.members));
            }
        }
        if owned == Segments::ALL { Ok(()) } else { Err(format!("nobody owns {}", Segments::ALL - owned)) }
    }

    fn peer_agrees(&self, at: usize) -> Result<(), String> {
        let peer = &self.peers[at];
        let tunnels = peer.tunnels(self.now);
        for view in &tunnels {
            self.tunnel_agrees(peer, view).map_err(|why| format!("tunnel {}: {why}", view.name))?;
        }
        let spis: Vec<_> = tunnels.iter().map(|view| view.spis).collect();
        for node in self.nodes.values().filter(|node| !node.witness) {
            let ike = node.process.ike.as_ref().ok_or("an IKE daemon is dead")?;
            let acting = ike.tunnels(node.now(self.now)).filter(|view| view.state != TunnelState::Standby);
            let mut of_peer = acting.filter(|view| self.peer_at(view.path.remote) == Some(at));
            if let Some(view) = of_peer.find(|view| !spis.contains(&view.spis)) {
                return Err(format!(
                    "{} has {} {:?}, which the peer does not",
                    node.id, view.name, view.state
                ));
            }
        }
        Ok(())
    }

    fn tunnel_agrees(&self, peer: &Node, view: &TunnelView) -> Result<(), String> {
        if view.state != TunnelState::Established {
            return Err(format!("is left {:?}", view.state));
        }
        let (id, theirs) = self.other_end(view).ok_or("no node has its other end")?;
        if theirs.role == view.role || theirs.message_ids != (view.message_ids.1, view.message_ids.0) {
            let (ours, theirs) = (view.message_ids, theirs.message_ids);
            return Err(format!("roles or Message IDs: {ours:?} {theirs:?}"));
        }
        // What was made by an exchange that was lost with its node is left at one end (RFC 6311 section 8.3).
        if self.judge.loose.contains(&number(&theirs.name)) {
            return Ok(());
        }
        if view.children.len() != theirs.children.len() {
            return Err(format!("{} Child SAs, {} at {id}", view.children.len(), theirs.children.len()));
        }
        view.children.iter().try_for_each(|child| self.child_agrees((peer, child), (id, &theirs)))
    }

    fn child_agrees(
        &self,
        (peer, ours): (&Node, &ChildView),
        (id, theirs): (NodeId, &TunnelView),
    ) -> Result<(), String> {
        let spi = ours.inbound_spi;
        let crossed = |child: &&ChildView| {
            (child.inbound_spi, child.outbound_spi) == (ours.outbound_spi, ours.inbound_spi)
        };
        let other = theirs.children.iter().find(crossed).ok_or(format!("{spi:08x} has no other end"))?;
        let (here, there) = (&peer.host.table, &self.nodes[&id].host.table);
        let missing = |what: &str| format!("{what} of {spi:08x} is not in the table");
        let received = here.inbound.get(&spi).ok_or_else(|| missing("the inbound SA"))?;
        let sent = here.outbound.get(&ours.reqid).ok_or_else(|| missing("the outbound SA"))?;
        let received_there =
            there.inbound.get(&other.inbound_spi).ok_or_else(|| missing("the node's inbound SA"))?;
        let sent_back = there.outbound.get(&other.reqid).ok_or_else(|| missing("the node's outbound SA"))?;
        if (&received.key, &sent.key) != (&sent_back.key, &received_there.key) {
            return Err(format!("keys of {spi:08x}"));
        }
        let carries = |is_sending: bool, key: &[u8]| !is_sending || self.crosses(key);
        if carries(ours.is_sending, &sent.key) && carries(other.is_sending, &sent_back.key) {
            return Ok(());
        }
        Err(format!("nothing crosses {spi:08x}: {:?}", self.nodes[&id].plane.counters))
    }

    /// No tunnel was lost, and none was set up again, because a node was (I6).
    fn peer_was_left_in_peace(&self, at: usize) -> Result<(), String> {
        if !self.judge.is_true_to(&connection_name(at + 1)) {
            return Ok(());
        }
        let counters = self.peers[at].counters();
        let (given_up, stood) = (counters["unreachable"], counters["ike_established"]);
        let lost = given_up - self.ended_without_an_answer(at).min(given_up);
        if lost > 0 {
            return Err(format!("{lost} tunnels were given up"));
        }
        if stood > self.setups[at] {
            return Err(format!("{stood} tunnels were set up, {} were wanted", self.setups[at]));
        }
        Ok(())
    }

    /// How many tunnels a peer was ending itself, and the cluster has ended, but the answer has not arrived, and who gave it
    /// has died or given the segment up since. Nothing is lost by that: both ends have forgotten the tunnel, as they were
    /// to, and I6 speaks of tunnels that stand. A responder repeats its last answer while it can (RFC 7296 section 2.1),
    /// which it does from its memory; if it has lost that it says that it does not know the IKE SA, in the clear, which the
    /// initiator must not believe by itself (section 2.21.4): that one asks until it has asked enough and discards all
    /// state of the IKE SA (section 2.4), which it wanted to discard. The roadmap says so among the known limits.
    ///
    /// A request that nobody has ever answered, or whose answer its owner still has, is no reason to give a tunnel up, nor
    /// is one of a tunnel that its peer was not ending.
    fn ended_without_an_answer(&self, at: usize) -> u64 {
        let peer = &self.peers[at];
        let is_gone = |segment: u8, answered: &Answered| {
            let is_dead = self.nodes[&answered.by].process.life != answered.life;
            is_dead || self.taken[usize::from(segment)] != answered.taken
        };
        self.exchanges.forgotten(peer.host.address, is_gone).min(peer.given_up_while_ending())
    }

    /// What a node owns is on another one in the version that it has itself.
    fn standbys_follow(&self, id: NodeId) -> Result<(), String> {
        let node = &self.nodes[&id];
        let owned = node.daemon.core.as_ref().ok_or("a daemon is dead")?.status().owned;
        let ours = node.host.table.contexts.keys().filter(|tunnel| owned.contains(segment(tunnel)));
        for tunnel in ours.filter(|tunnel| !self.judge.loose.contains(&number(tunnel))) {
            let version = node.version(tunnel);
            let others = self.nodes.values().filter(|other| other.id != id);
            if !others.into_iter().any(|other| other.version(tunnel) == version) {
                return Err(format!("{tunnel} of {id} is on no other node in version {version:x?}"));
            }
        }
        Ok(())
    }

    /// Nothing is rekeyed but what somebody wanted rekeyed.
    fn no_storm(&self) -> Result<(), String> {
        let all = self.peers.iter().flat_map(Node::counters);
        let rekeyed: u64 =
            all.filter(|(name, _)| matches!(*name, "children_rekeyed" | "ike_rekeyed")).map(|(_, n)| n).sum();
        if rekeyed <= self.rekeys {
            return Ok(());
        }
        Err(format!("{rekeyed} SAs were rekeyed, {} rekeyings were wanted", self.rekeys))
    }
}
