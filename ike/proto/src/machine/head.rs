//! What a tunnel is from its first message to its last.

use std::net::IpAddr;
use std::sync::Arc;

use super::core::{Cx, Who};
use super::mobility::Roaming;
use super::nat::{self, Nat};
use super::redirect::Detour;
use super::resumption::Ticket;
use crate::configuration::{Child, Connection};
use crate::host::{OuterEnds, Path, TunnelName};
use crate::selector::TrafficSelector;

/// What a tunnel is from its first message to its last.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) number: u32,
    pub(super) connection: Arc<Connection>,
    pub(super) path: Path,
    pub(super) nat: Nat,
    pub(super) roaming: Roaming,
}

impl Head {
    pub(super) fn name(&self) -> TunnelName {
        TunnelName::new(&self.connection.name, self.number)
    }

    /// The segment is the top octet of all its numbers.
    pub(super) fn segment(&self) -> u8 {
        self.number.to_be_bytes()[0]
    }

    pub(super) fn ends(&self) -> OuterEnds {
        let (path, nat) = self.roaming.held.unwrap_or((self.path, self.nat));
        nat::outer_ends(path, nat, &self.connection, self.roaming.is_on)
    }

    /// Local and remote selectors of transport mode as they are on this side of NATs (RFC 7296 section 2.23.1).
    pub(super) fn beyond_nat(
        &self,
        local: Vec<TrafficSelector>,
        remote: Vec<TrafficSelector>,
    ) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
        let local = if self.nat.ours { nat::substituted(local, self.path.local.ip()) } else { local };
        let remote = if self.nat.peers { nat::substituted(remote, self.peer()) } else { remote };
        (local, remote)
    }

    pub(super) fn who(&self) -> Who {
        Who {
            tunnel: Some(self.name()),
            connection: Some(Arc::clone(&self.connection)),
            remote: self.path.remote,
        }
    }

    pub(super) fn failed(&self, cx: &mut Cx, problem: String) {
        cx.failed(&self.who(), problem);
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.path.remote.ip()
    }
}

/// A Child SA that is to be set up once the IKE SA stands.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) child: Arc<Child>,
    /// Of its trapped policy, if it has one.
    pub(super) reqid: Option<u32>,
}

impl Attempt {
    /// It begins at that address; those before it in their turn are passed over.
    pub(super) fn skip_to(&mut self, connection: &Connection, peer: IpAddr) {
        let count = connection.peers().count();
        let is_it = |skipped: &usize| connection.peers().nth((self.turn + skipped) % count) == Some(peer);
        let skipped = (0..count).find(is_it).unwrap_or(0);
        (self.turn, self.refused) = (self.turn + skipped, self.refused + skipped);
    }

    /// Adds Child SAs that are not wanted yet.
    pub(super) fn add(&mut self, wanted: Vec<Wanted>) {
        for wanted in wanted {
            if self.wanted.iter().all(|other| other.child.name != wanted.child.name) {
                self.wanted.push(wanted);
            }
        }
    }
}

/// Why and how often an initiator tries.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempt {
    pub(super) wanted: Vec<Wanted>,
    /// Attempts before this one that failed.
    pub(super) failures: u32,
    /// Which of the connection's addresses is tried; those after the last one are the first ones again.
    pub(super) turn: usize,
    /// Of all addresses, how many have failed since the last pause.
    pub(super) refused: usize,
    /// Tunnels in a row, before this one, that ended soon after they stood.
    pub(super) short_lived: u32,
    /// The addresses that this host had inside before: it asks for the same ones.
    pub(super) inside: Vec<IpAddr>,
    /// How it came to another gateway than the configured one.
    pub(super) detour: Detour,
    /// Of a tunnel that still stands and that this one is to follow; otherwise that of the connection is taken.
    pub(super) ticket: Option<Arc<Ticket>>,
    /// It goes without a ticket.
    pub(super) is_whole: bool,
}
