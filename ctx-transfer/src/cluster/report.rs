//! The status.

use super::Cluster;
use super::peer::Peer;
use super::segments::Segments;
use super::status::{MemberStatus, Status};

/// Refused tunnels of one standby that are listed at most.
const REFUSED: usize = 64;

impl Cluster {
    /// All of it, as of the latest time that was told.
    pub fn status(&self) -> Status {
        Status {
            me: self.config.me,
            owned: self.claims.held,
            term: self.claims.term,
            leased_until: self.claims.next_lapse(),
            majority: self.ownership.is_exclusive(),
            maintenance: self.maintenance,
            down: self.attachment.down(),
            moving: self.moves.frozen(),
            members: self.peers.values().map(|peer| self.member_status(peer)).collect(),
            alarms: self.alarms.iter().cloned().collect(),
            last_took: self.claims.last_took,
            totals: self.totals,
        }
    }

    fn member_status(&self, peer: &Peer) -> MemberStatus {
        let id = peer.member.id;
        let session = self.replicas.sessions.get(&id);
        let (lag_packets, since) = self.lag_of(id);
        MemberStatus {
            id,
            role: peer.member.role,
            alive: peer.is_alive(),
            heard: peer.heard,
            release: peer.release.clone(),
            owns: peer.owns(),
            maintenance: peer.beat.maintenance,
            idle: peer.beat.idle,
            standby: self.standby_state(id),
            ready: session.map_or(Segments::NONE, |session| session.ready),
            lag: session.map_or(0, super::session::Session::lag),
            lag_packets,
            waits_since: session
                .and_then(super::session::Session::waits_since)
                .into_iter()
                .chain(since)
                .min(),
            refused: session.into_iter().flat_map(|s| s.refused().take(REFUSED)).collect(),
        }
    }
}
