//! The protocol's tunnels and the configuration in the control socket's words.

use std::time::Duration;

use baton_ike_proto::configuration::{
    AddressMatch, Child, Connection, EapMethod, LocalMethod, Mode, RemoteMethod, StartAction,
};
use baton_ike_proto::crypto::Role;
use baton_ike_proto::host::SessionView;
use baton_ike_proto::machine::{ChildView, TunnelState, TunnelView};
use baton_sad::{Direction, Table};

use crate::control::{
    ChildConfiguration, ChildEntry, ConnectionEntry, IkeEntry, SelectorsText, SessionText, esp_spi, ike_spi,
};

/// A tunnel, with its Child SAs' counters from the table.
pub(super) fn tunnel(view: &TunnelView, table: &Table, unix: Duration) -> IkeEntry {
    let (initiator, responder) = view.spis;
    let (nat_local, nat_remote) = view.nat;
    let identity = |identity: &Option<_>| identity.as_ref().map_or(String::new(), ToString::to_string);
    IkeEntry {
        name: view.name.to_string(),
        connection: view.connection.clone(),
        state: state(view.state).to_owned(),
        role: role(view.role).to_owned(),
        initiator_spi: ike_spi(initiator),
        responder_spi: ike_spi(responder),
        local: Some(view.path.local),
        remote: Some(view.path.remote),
        local_identity: identity(&view.local),
        remote_identity: identity(&view.remote),
        eap_identity: identity(&view.user),
        session: view.session.as_ref().map(|session| self::session(session, unix)),
        proposal: view.suite.map_or(String::new(), |suite| suite.to_string()),
        ppk: identity(&view.ppk),
        segment: view.segment,
        frozen: view.state == TunnelState::Frozen,
        nat_local,
        nat_remote,
        established_seconds: view.established.map(|since| unix.saturating_sub(since).as_secs()),
        rekey_seconds: view.rekey_at.map(|at| at.saturating_sub(unix).as_secs()),
        virtual_addresses: view.virtual_addresses.clone(),
        ticket_seconds: view
            .resumption
            .as_ref()
            .and_then(|resumption| Some(resumption.until?.saturating_sub(unix).as_secs())),
        dns: view.dns.clone(),
        extensions: view.extensions.iter().map(ToString::to_string).collect(),
        further_addresses: view.mobility.as_ref().map_or(Vec::new(), |mobility| mobility.additional.clone()),
        children: view.children.iter().map(|child| self::child(child, table, unix)).collect(),
    }
}

fn session(view: &SessionView, unix: Duration) -> SessionText {
    SessionText {
        id: view.id.clone(),
        user: String::from_utf8_lossy(&view.user).into_owned(),
        class: view.class.iter().map(hex::encode).collect(),
        remaining_seconds: view.ends.map(|at| at.saturating_sub(unix).as_secs()),
        idle_timeout_seconds: view.idle_timeout.map(|time| time.as_secs()),
        interim_seconds: view.interim_interval.map(|time| time.as_secs()),
    }
}

fn child(view: &ChildView, table: &Table, unix: Duration) -> ChildEntry {
    let counted = |direction, key| {
        let handle = table.lookup(direction, key)?;
        table.slot(handle).map(|slot| (slot.packets(), slot.octets()))
    };
    let inbound = counted(Direction::Inbound, view.inbound_spi);
    let outbound = counted(Direction::Outbound, view.reqid);
    let is_installed = inbound.is_some() && outbound.is_some();
    let texts = |selectors: &[_]| selectors.iter().map(ToString::to_string).collect();
    ChildEntry {
        name: view.name.clone(),
        state: if is_installed { "installed" } else { "installing" }.to_owned(),
        reqid: view.reqid,
        inbound_spi: esp_spi(view.inbound_spi),
        outbound_spi: esp_spi(view.outbound_spi),
        mode: mode(view.mode).to_owned(),
        proposal: view.suite.to_string(),
        selectors: SelectorsText { local: texts(&view.local), remote: texts(&view.remote) },
        rekey_seconds: view.rekey_at.map(|at| at.saturating_sub(unix).as_secs()),
        inbound_packets: inbound.map(|(packets, _)| packets),
        inbound_octets: inbound.map(|(_, octets)| octets),
        outbound_packets: outbound.map(|(packets, _)| packets),
        outbound_octets: outbound.map(|(_, octets)| octets),
    }
}

fn state(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Waiting => "waiting",
        TunnelState::Connecting => "connecting",
        TunnelState::Established => "established",
        TunnelState::Rekeying => "rekeying",
        TunnelState::Deleting => "deleting",
        TunnelState::Frozen => "frozen",
        TunnelState::Standby => "standby",
        _ => "unknown",
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Initiator => "initiator",
        Role::Responder => "responder",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Tunnel => "tunnel",
        Mode::Transport => "transport",
    }
}

fn eap(method: EapMethod) -> &'static str {
    match method {
        EapMethod::MsChapV2 => "eap-mschapv2",
        EapMethod::Tls => "eap-tls",
    }
}

/// A configured connection, of which so many tunnels stand or are being set up.
pub(super) fn connection(connection: &Connection, tunnels: u64) -> ConnectionEntry {
    ConnectionEntry {
        name: connection.name.clone(),
        local_addresses: connection.local_addresses.iter().map(ToString::to_string).collect(),
        remote_addresses: connection.remote_addresses.iter().map(addresses).collect(),
        local_identity: connection.local.identity.to_string(),
        remote_identity: connection.remote.identity.to_string(),
        local_authentication: match &connection.local.method {
            LocalMethod::PreSharedKey => "psk",
            LocalMethod::Signature(_) => "pubkey",
            LocalMethod::Eap(user) => eap(user.method),
        }
        .to_owned(),
        remote_authentication: match connection.remote.method {
            RemoteMethod::PreSharedKey => "psk",
            RemoteMethod::Signature => "pubkey",
            RemoteMethod::Eap(method) => eap(method),
            RemoteMethod::Radius => "eap-radius",
        }
        .to_owned(),
        ike_proposals: connection.ike_proposals.iter().map(ToString::to_string).collect(),
        pools: connection.pools.clone(),
        children: connection.children.iter().map(|child| child_configuration(child)).collect(),
        tunnels,
    }
}

fn addresses(range: &AddressMatch) -> String {
    if range.first == range.last {
        range.first.to_string()
    } else {
        format!("{}-{}", range.first, range.last)
    }
}

fn child_configuration(child: &Child) -> ChildConfiguration {
    let selectors = |side: &[_]| match side {
        [] => vec!["dynamic".to_owned()],
        side => side.iter().map(ToString::to_string).collect(),
    };
    ChildConfiguration {
        name: child.name.clone(),
        mode: mode(child.mode).to_owned(),
        local_selectors: selectors(&child.local),
        remote_selectors: selectors(&child.remote),
        esp_proposals: child.esp_proposals.iter().map(ToString::to_string).collect(),
        start_action: match child.start_action {
            StartAction::None => "none",
            StartAction::Trap => "trap",
            StartAction::Start => "start",
            StartAction::TrapStart => "trap|start",
        }
        .to_owned(),
    }
}
