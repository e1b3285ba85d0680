//! The status.

use super::Cluster;
use super::peer::Peer;
use super::segments::Segments;
use super::status::{MemberStatus, StandbyState, Status};

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
            moving: Segments::NONE,
            members: self.peers.values().map(member).collect(),
            alarms: self.alarms.iter().cloned().collect(),
            last_took: self.claims.last_took,
            totals: self.totals,
        }
    }
}

fn member(peer: &Peer) -> MemberStatus {
    MemberStatus {
        id: peer.member.id,
        role: peer.member.role,
        alive: peer.is_alive(),
        heard: peer.heard,
        owns: peer.owns(),
        maintenance: peer.beat.maintenance,
        standby: StandbyState::Absent,
        ready: Segments::NONE,
        lag: 0,
        refused: Vec::new(),
    }
}
