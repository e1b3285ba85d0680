//! Where the peer is, and what stands between (RFC 7296 section 2.23).

use std::net::{IpAddr, SocketAddr};

use super::core::Cx;
use super::message::{Message, notify};
use crate::configuration::Connection;
use crate::crypto::nat_detection_hash;
use crate::host::{Movement, OuterEnds, Path};
use crate::selector::TrafficSelector;
use crate::wire::{Header, NotifyType, Payload};

/// The port of IKE, and of ESP in UDP, where there is a NAT.
pub(super) const NAT_PORT: u16 = 4500;

/// In front of whom a NAT stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Nat {
    pub(super) ours: bool,
    pub(super) peers: bool,
}

impl Nat {
    /// What the peer's hashes say of the way that its message has come. A peer that sends none knows nothing of NATs.
    pub(super) fn detect(message: &Message, header: &Header, path: Path) -> Self {
        let differs = |kind, end| {
            let expected = nat_detection_hash(header.initiator_spi, header.responder_spi, end);
            let mut hashes = message.notifies.iter().filter(|notify| notify.kind == kind).peekable();
            hashes.peek().is_some() && !hashes.any(|notify| notify.data == expected)
        };
        Self {
            ours: differs(NotifyType::NAT_DETECTION_DESTINATION_IP, path.local),
            peers: differs(NotifyType::NAT_DETECTION_SOURCE_IP, path.remote),
        }
    }

    pub(super) fn is_there(self) -> bool {
        self.ours || self.peers
    }
}

/// The two hashes of a message that goes along `path`. With `force_encapsulation` ours is wrong, so that the peer
/// believes in a NAT.
pub(super) fn detection(cx: &mut Cx, header: &Header, path: Path, connection: &Connection) -> [Payload; 2] {
    let hash = |end| nat_detection_hash(header.initiator_spi, header.responder_spi, end);
    let source = if connection.force_encapsulation { cx.random() } else { hash(path.local) };
    [
        notify(NotifyType::NAT_DETECTION_SOURCE_IP, source),
        notify(NotifyType::NAT_DETECTION_DESTINATION_IP, hash(path.remote)),
    ]
}

/// Selectors of a Child SA in transport mode whose one address is what the other side of a NAT knows: with the address
/// that packets have here (RFC 7296 section 2.23.1). With more addresses, as they are.
pub(super) fn substituted(selectors: Vec<TrafficSelector>, address: IpAddr) -> Vec<TrafficSelector> {
    let Some(single) = selectors.first().map(|selector| selector.first) else { return selectors };
    let is_single = |selector: &TrafficSelector| (selector.first, selector.last) == (single, single);
    if single.is_ipv4() != address.is_ipv4() || !selectors.iter().all(is_single) {
        return selectors;
    }
    selectors
        .into_iter()
        .map(|selector| TrafficSelector { first: address, last: address, ..selector })
        .collect()
}

/// Both ends on the ports for NATs.
pub(super) fn floated(path: Path) -> Path {
    let with = |end: SocketAddr| SocketAddr::new(end.ip(), NAT_PORT);
    if path.marked { path } else { Path { local: with(path.local), remote: with(path.remote), marked: true } }
}

/// How ESP travels along `path`.
pub(super) fn outer_ends(path: Path, nat: Nat, connection: &Connection, roams: bool) -> OuterEnds {
    let movement = match roams {
        true => Movement::Roams,
        false if nat.peers && !nat.ours => Movement::FollowsPackets,
        false => Movement::Fixed,
    };
    OuterEnds {
        local: path.local,
        remote: path.remote,
        encapsulated: nat.is_there() || connection.force_encapsulation,
        movement,
        behind_nat: nat.ours,
    }
}
