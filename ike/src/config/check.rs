//! What sections demand of each other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use baton_dataplane::config as gateway;
use baton_dataplane::config::reader::Source;
use baton_ike_proto::configuration::{Connection, EapMethod, LocalMethod, RemoteMethod, StartAction};
use baton_ike_proto::host::TunnelName;
use baton_ike_proto::identity::Identity;

use super::{Daemon, SecretKind, SharedSecret, connection, moving, pool, radius};

/// All that refers to each other.
pub(super) struct Whole<'r> {
    pub(super) connections: &'r [connection::Read],
    pub(super) pools: &'r [pool::Read],
    pub(super) secrets: &'r [SharedSecret],
    pub(super) daemon: &'r Daemon,
    pub(super) radius: &'r radius::Read,
}

pub(super) fn across(source: &Source<'_>, gateway: Option<&gateway::Config>, whole: &Whole<'_>) {
    pools_are_known(source, whole);
    pools_are_apart(source, whole);
    addresses_are_listened_at(source, whole);
    peers_are_sent_elsewhere(source, whole);
    secrets_are_there(source, whole);
    postquantum_keys_are_there(source, whole);
    users_are_possible(source, whole);
    judges_are_there(source, whole);
    radius_secrets_are_there(source, whole);
    if let Some(gateway) = gateway {
        names_are_free(source, gateway, whole);
        inner_addresses_are_not_ours(source, gateway, whole);
    }
}

fn pools_are_known(source: &Source<'_>, whole: &Whole<'_>) {
    let names: Vec<&str> = whole.pools.iter().map(|(pool, _)| pool.name.as_str()).collect();
    let known: BTreeSet<&str> = names.iter().copied().collect();
    for (connection, places) in whole.connections {
        for (name, place) in connection.pools.iter().zip(&places.pools) {
            if !known.contains(name.as_str()) {
                let remedy = match gateway::reader::nearest(name, &names) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("add [pools.{name}]"),
                };
                place.report(source, format!("there is no pool \"{name}\""), remedy);
            }
        }
    }
}

/// One address is given to one peer.
fn pools_are_apart(source: &Source<'_>, whole: &Whole<'_>) {
    let mut pools: Vec<_> = whole.pools.iter().collect();
    pools.sort_by_key(|(pool, _)| (pool.first, pool.last));
    let mut highest: Option<&pool::Read> = None;
    for read @ (pool, place) in pools {
        if let Some((below, _)) = highest
            && pool.first <= below.last
        {
            let message = format!("it has addresses of pool \"{}\"", below.name);
            place.report(source, message, "let no two pools have an address in common");
        }
        if highest.is_none_or(|(below, _)| below.last < pool.last) {
            highest = Some(read);
        }
    }
}

fn addresses_are_listened_at(source: &Source<'_>, whole: &Whole<'_>) {
    for (connection, places) in whole.connections {
        let strange = |address: &&IpAddr| !whole.daemon.listen.contains(address);
        let addresses = connection.local_addresses.iter().zip(&places.local_addresses);
        for (address, place) in addresses.filter(|(address, _)| strange(address)) {
            let message = format!("IKE does not listen at {address}");
            place.report(source, message, "add it to [ike] listen, or to [outer] addresses");
        }
    }
}

fn peers_are_sent_elsewhere(source: &Source<'_>, whole: &Whole<'_>) {
    for (connection, places) in whole.connections {
        if moving::is_own(&connection.moving, &whole.daemon.listen) {
            let place = places.redirect_to.first().unwrap_or(&places.name);
            place.report(source, "this is this gateway itself", "name another one, or leave it out");
        }
    }
}

fn secrets_are_there(source: &Source<'_>, whole: &Whole<'_>) {
    let is_psk = |connection: &Connection| {
        connection.local.method == LocalMethod::PreSharedKey
            || connection.remote.method == RemoteMethod::PreSharedKey
    };
    let is_by_password = |connection: &Connection| {
        let local = matches!(&connection.local.method, LocalMethod::Eap(user) if user.method == PASSWORD);
        local || connection.remote.method == RemoteMethod::Eap(PASSWORD)
    };
    let psk = ("auth = \"psk\" needs a secret, and there is none", "add [secrets.ike-...] with id and file");
    let password = (
        "auth = \"eap-mschapv2\" needs a password, and there is none",
        "add [secrets.eap-...] with id and file",
    );
    secret_is_there(source, whole, (SecretKind::Ike, psk), is_psk);
    secret_is_there(source, whole, (SecretKind::Eap, password), is_by_password);
}

const PASSWORD: EapMethod = EapMethod::MsChapV2;

fn secret_is_there(
    source: &Source<'_>,
    whole: &Whole<'_>,
    (kind, (message, remedy)): (SecretKind, (&str, &str)),
    needs: impl Fn(&Connection) -> bool,
) {
    let is_missing = whole.secrets.iter().all(|secret| secret.kind != kind);
    let needing = whole.connections.iter().find(|(connection, _)| needs(connection));
    if let Some((_, places)) = needing.filter(|_| is_missing) {
        places.local.report(source, message, remedy);
    }
}

/// Who is a user begins; who asks users waits for them. With EAP on both sides it is all that proves either.
fn users_are_possible(source: &Source<'_>, whole: &Whole<'_>) {
    for (connection, places) in whole.connections {
        let (local, remote) = (&connection.local.method, connection.remote.method);
        let starts = connection.children.iter().any(|child| child.start_action != StartAction::None);
        let problem = match (local, remote) {
            (LocalMethod::Eap(user), RemoteMethod::Eap(method))
                if user.method != method || !method.stands_alone() =>
            {
                Some(("this EAP method does not prove both ends", "set one side's auth to pubkey or psk"))
            }
            (LocalMethod::Eap(_), RemoteMethod::Radius) => Some((
                "a method that a RADIUS server chooses may not prove us",
                "set local.auth to pubkey or psk",
            )),
            (LocalMethod::PreSharedKey | LocalMethod::Signature(_), method) if starts && method.is_eap() => {
                Some(("users come by themselves: nothing can be started", "remove start_action"))
            }
            _ => None,
        };
        if let Some((message, remedy)) = problem {
            places.local.report(source, message, remedy);
        }
    }
}

/// Somebody has to judge users that we do not.
fn judges_are_there(source: &Source<'_>, whole: &Whole<'_>) {
    let has_none = whole.radius.radius.servers.is_empty();
    let asks = |(connection, _): &&connection::Read| connection.remote.method == RemoteMethod::Radius;
    if let Some((_, places)) = whole.connections.iter().find(asks).filter(|_| has_none) {
        let message = "auth = \"eap-radius\" needs a RADIUS server, and there is none";
        places.local.report(source, message, "add [eap-radius.servers.NAME] with address and secret");
    }
}

fn radius_secrets_are_there(source: &Source<'_>, whole: &Whole<'_>) {
    let secrets = whole.secrets.iter().filter(|secret| secret.kind == SecretKind::Radius);
    let names: Vec<&str> = secrets.map(|secret| secret.name.as_str()).collect();
    for (name, place) in &whole.radius.secrets {
        if !names.contains(&name.as_str()) {
            let remedy = match gateway::reader::nearest(name, &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "add [secrets.radius-...] with file, and name it here".to_owned(),
            };
            place.report(source, format!("there is no secret \"{name}\" for RADIUS"), remedy);
        }
    }
}

/// Every connection that initiates with a postquantum preshared key has one; every one that requires one may get it.
fn postquantum_keys_are_there(source: &Source<'_>, whole: &Whole<'_>) {
    let keys = || whole.secrets.iter().filter(|secret| secret.kind == SecretKind::Ppk);
    let goes_by = |key: &SharedSecret, name: &Identity| {
        key.owners.is_empty() || key.owners.iter().any(|owner| owner.matches(name).is_some())
    };
    for (connection, places) in whole.connections {
        let place = places.ppk.as_ref().unwrap_or(&places.name);
        match &connection.ppk.identity {
            Some(name) if !keys().any(|key| goes_by(key, name)) => {
                let message = format!("there is no postquantum preshared key \"{name}\"");
                place.report(source, message, format!("add [secrets.ppk-...] with id = \"{name}\" and file"));
            }
            None if connection.ppk.is_required && keys().next().is_none() => {
                let remedy = "add [secrets.ppk-...] with id and file";
                place.report(source, "a postquantum preshared key is required, and there is none", remedy);
            }
            _ => {}
        }
    }
}

/// A tunnel with static keys, or a policy, may look like one of a connection.
fn names_are_free(source: &Source<'_>, gateway: &gateway::Config, whole: &Whole<'_>) {
    let tunnels = gateway.tunnels.iter().map(|tunnel| &tunnel.name);
    let taken = tunnels.chain(gateway.exceptions.iter().map(|policy| &policy.name));
    let taken: BTreeSet<&str> = taken.filter_map(|name| Some(TunnelName::parse(name)?.0)).collect();
    for (connection, places) in whole.connections {
        if taken.contains(connection.name.as_str()) {
            let message = "a [[tunnel]] or [[policy]] has a name that tunnels of this connection would have";
            places.name.report(source, message, "rename one of them");
        }
    }
}

fn inner_addresses_are_not_ours(source: &Source<'_>, gateway: &gateway::Config, whole: &Whole<'_>) {
    for (pool, place) in whole.pools {
        let given = |address: &&IpAddr| (pool.first..=pool.last).contains(*address);
        if let Some(own) = gateway.outer.addresses.iter().find(given) {
            let message = format!("{own} is this gateway's own address");
            place.report(source, message, "leave it out of the pool");
        }
    }
}
