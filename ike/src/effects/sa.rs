//! What a negotiated pair of Child SAs is in the SA table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use baton_ike_proto::configuration::{Handling, Mode as NegotiatedMode};
use baton_ike_proto::crypto::Role;
use baton_ike_proto::host::{Install, Movement, OuterEnds};
use baton_ike_proto::selector::TrafficSelector;
use baton_sad::{
    AddressRange, Bounds, DfPolicy, Direction, DscpPolicy, Key, Lifetime, Mode, Name, Sa, SaError, Selector,
    Selectors, Senders, Suite, TfcPadding, UdpEncapsulation,
};
use thiserror::Error;

/// A NAT's mapping is refreshed after so many idle seconds (RFC 3948 section 4).
const KEEPALIVE_SECONDS: u16 = 20;
/// From this sequence number on an SA without extended ones is to be replaced; at a million packets a second nine
/// minutes are left for that.
const SOFT_SEQUENCE: u64 = 7 << 29;

/// Why a negotiated pair has no place in the table.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChildError {
    /// An algorithm that the data plane lacks: it was not to be negotiated.
    #[error("the data plane has no suite {0}")]
    Suite(String),
    /// Halves without keys.
    #[error("there are no keys for it")]
    NoKeys,
    /// What the table does not take.
    #[error(transparent)]
    Sa(#[from] SaError),
}

/// The halves that are to be installed.
pub(super) fn pair(install: &Install) -> Result<Vec<Sa>, ChildError> {
    let wanted = [(install.inbound, Direction::Inbound), (install.outbound, Direction::Outbound)];
    let wanted = wanted.into_iter().filter_map(|(wanted, direction)| wanted.then_some(direction));
    wanted.map(|direction| half(install, direction)).collect()
}

fn half(install: &Install, direction: Direction) -> Result<Sa, ChildError> {
    let (spi, peer_spi) = match direction {
        Direction::Inbound => (install.inbound_spi, install.outbound_spi),
        Direction::Outbound => (install.outbound_spi, install.inbound_spi),
    };
    let handling = &install.child.handling;
    let mut sa = Sa {
        name: Name::new(install.tunnel.as_str())?,
        direction,
        spi,
        peer_spi,
        reqid: install.reqid,
        mode: mode(install.mode),
        segment: install.segment,
        suite: suite(install)?,
        key: key(install, direction)?,
        source: install.ends.local.ip(),
        destination: install.ends.remote.ip(),
        encapsulation: None,
        selectors: Selectors::new(selectors(&install.local, &install.remote)?)?,
        extended_sequence: install.suite.extended_sequence,
        replay_window: install.child.replay_window,
        dscp: if handling.copy_dscp { DscpPolicy::Copy } else { DscpPolicy::Set(0) },
        df: if handling.copy_df { DfPolicy::Copy } else { DfPolicy::Clear },
        path_mtu: handling.path_mtu,
        clamp_mss: handling.clamp_mss,
        tfc_padding: padding(handling, install.mode),
        lifetime: lifetime(install),
        senders: Senders::default(),
    };
    place(&mut sa, &install.ends);
    Ok(sa)
}

/// Moves an SA to other outer addresses and ports.
pub(super) fn place(sa: &mut Sa, ends: &OuterEnds) {
    let (source, destination) = match sa.direction {
        Direction::Inbound => (ends.remote, ends.local),
        Direction::Outbound => (ends.local, ends.remote),
    };
    (sa.source, sa.destination) = (source.ip(), destination.ip());
    if ends.movement == Movement::Roams && sa.direction == Direction::Inbound {
        (sa.source, sa.destination) = (any(sa.source), any(sa.destination));
    }
    sa.encapsulation = ends.encapsulated.then(|| UdpEncapsulation {
        source_port: source.port(),
        destination_port: destination.port(),
        follows_peer: ends.movement == Movement::FollowsPackets,
        keepalive_seconds: if ends.behind_nat { KEEPALIVE_SECONDS } else { 0 },
    });
}

/// The address that stands for all of its IP version.
fn any(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn mode(mode: NegotiatedMode) -> Mode {
    match mode {
        NegotiatedMode::Tunnel => Mode::Tunnel,
        NegotiatedMode::Transport => Mode::Transport,
    }
}

fn suite(install: &Install) -> Result<Suite, ChildError> {
    let keyword = install.suite.keyword();
    Suite::from_name(&keyword).ok_or(ChildError::Suite(keyword))
}

fn key(install: &Install, direction: Direction) -> Result<Key, ChildError> {
    let keys = install.keys.as_ref().ok_or(ChildError::NoKeys)?;
    // What the initiator sends is inbound to the responder.
    let material = match (install.role, direction) {
        (Role::Initiator, Direction::Outbound) | (Role::Responder, Direction::Inbound) => {
            &keys.initiator_to_responder
        }
        _ => &keys.responder_to_initiator,
    };
    Ok(Key::new(material.expose())?)
}

fn padding(handling: &Handling, mode: NegotiatedMode) -> TfcPadding {
    match handling.tfc_padding {
        _ if mode == NegotiatedMode::Transport => TfcPadding::Off,
        0 => TfcPadding::Off,
        u16::MAX => TfcPadding::PathMtu,
        octets => TfcPadding::To(octets),
    }
}

fn lifetime(install: &Install) -> Lifetime {
    let bounds = &install.lifetime;
    let sequence = if install.suite.extended_sequence { 0 } else { SOFT_SEQUENCE };
    Lifetime {
        soft: Bounds { octets: bounds.soft_octets, packets: bounds.soft_packets, sequence, expires_at: 0 },
        hard: Bounds {
            octets: bounds.hard_octets,
            packets: bounds.hard_packets,
            sequence: 0,
            expires_at: bounds.hard_unix,
        },
    }
}

/// Every pair of a local and a remote selector that a packet could match.
fn selectors(local: &[TrafficSelector], remote: &[TrafficSelector]) -> Result<Vec<Selector>, SaError> {
    let pairs = local.iter().flat_map(|l| remote.iter().map(move |r| (l, r)));
    pairs.filter(|(l, r)| l.pairs_with(r)).map(|(l, r)| selector(l, r)).collect()
}

fn selector(local: &TrafficSelector, remote: &TrafficSelector) -> Result<Selector, SaError> {
    let range = |side: &TrafficSelector| AddressRange::new(side.first, side.last);
    Ok(Selector {
        local: range(local)?,
        remote: range(remote)?,
        // Where one side says any, the other decides.
        protocol: Some(local.protocol.max(remote.protocol)).filter(|protocol| *protocol != 0),
        local_ports: local.ports.clone(),
        remote_ports: remote.ports.clone(),
    })
}
