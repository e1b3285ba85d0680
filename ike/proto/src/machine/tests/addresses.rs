//! Inner addresses, NATs, transport mode (RFC 7296 sections 2.19, 2.23 and 3.15).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::pair::{LEFT, Pair, child, configuration, connection, secrets};
use super::side::Side;
use crate::configuration::{Configuration, Connection, Mode, Pool};
use crate::host::{Command, Event, Movement, Target};
use crate::identity::Identity;

fn roaming() -> Connection {
    let mut child = child(true);
    child.local = Vec::new();
    let mut connection = connection(true);
    connection.children = vec![Arc::new(child)];
    connection.virtual_addresses = vec!["0.0.0.0".parse().unwrap()];
    connection
}

fn office(pools: &[&str]) -> Configuration {
    let mut child = child(false);
    child.remote = Vec::new();
    let mut connection = connection(false);
    connection.children = vec![Arc::new(child)];
    connection.pools = pools.iter().map(|name| (*name).to_owned()).collect();
    connection.remote.identity = Identity::Any;
    let pool = Pool {
        name: "pool".to_owned(),
        first: "10.99.0.1".parse().unwrap(),
        last: "10.99.0.2".parse().unwrap(),
        dns: vec!["10.2.0.53".parse().unwrap()],
        subnets: Vec::new(),
        lease_time: Duration::from_hours(1),
    };
    Configuration { pools: vec![Arc::new(pool)], ..configuration(connection) }
}

fn pair(left: Connection, right: Configuration) -> Pair {
    let mut pair = Pair::with(configuration(left), right, secrets("secret"), secrets("secret"));
    pair.initiate();
    pair
}

#[test]
fn a_peer_gets_an_inner_address_and_its_traffic_with_it() {
    let pair = pair(roaming(), office(&["pool"]));
    pair.assert_up(1);
    let (left, right) = (pair.left.tunnels(pair.now()), pair.right.tunnels(pair.now()));
    assert_eq!(left[0].virtual_addresses, right[0].virtual_addresses);
    assert_eq!(left[0].children[0].local, right[0].children[0].remote);
    assert_eq!(left[0].children[0].local[0].first, left[0].virtual_addresses[0]);
    let given = |event: &Event| matches!(event, Event::IkeUp { virtual_addresses, .. } if virtual_addresses.len() == 1);
    assert!(pair.left.events.iter().any(given) && pair.right.events.iter().any(given));
}

#[test]
fn the_same_peer_gets_the_same_address_again_also_when_it_has_forgotten_its_tunnel() {
    let mut pair = pair(roaming(), office(&["pool"]));
    let before = pair.right.tunnels(pair.now())[0].virtual_addresses.clone();
    pair.left = Side::new(7, LEFT, configuration(roaming()), secrets("secret"));
    pair.initiate();
    pair.assert_up(1);
    assert_eq!(pair.right.tunnels(pair.now())[0].virtual_addresses, before);
    pair.left.command(pair.now(), Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    pair.initiate();
    assert_eq!(pair.right.tunnels(pair.now())[0].virtual_addresses, before);
}

#[test]
fn what_was_agreed_stays_over_rekeys() {
    let mut pair = pair(roaming(), office(&["pool"]));
    let before = pair.right.tunnels(pair.now())[0].children[0].remote.clone();
    for _ in 0..2 {
        pair.right.command(pair.now(), Command::RekeyChild(Target::Connection("net".to_owned()))).unwrap();
        pair.run();
        pair.left.command(pair.now(), Command::RekeyChild(Target::Connection("net".to_owned()))).unwrap();
        pair.run();
        pair.pass(Duration::from_secs(40));
    }
    pair.assert_up(1);
    assert_eq!(pair.right.tunnels(pair.now())[0].children[0].remote, before);
}

#[test]
fn without_addresses_the_ike_sa_stands_alone() {
    let mut full = office(&["pool"]);
    let mut pool = Pool::clone(&full.pools[0]);
    pool.last = pool.first;
    full.pools = vec![Arc::new(pool)];
    for (left, right, words) in [
        (roaming(), office(&[]), "it has no pools"),
        (connection(true), office(&["pool"]), "asks for no inner address"),
    ] {
        let pair = pair(left, right);
        pair.assert_up(0);
        assert!(pair.right.problems()[0].contains(words), "{:?}", pair.right.problems());
        assert_eq!(pair.left.problems().len(), 1);
    }
    let mut pair = pair(roaming(), full);
    pair.assert_up(1);
    let mut second = roaming();
    second.local.identity = Identity::Fqdn("second.test".to_owned());
    pair.left = Side::new(8, LEFT, configuration(second), secrets("secret"));
    pair.initiate();
    assert!(pair.right.problems()[0].contains("no free address"), "{:?}", pair.right.problems());
}

fn natted(left: Connection, right: Connection) -> Pair {
    let mut pair = Pair::new(left, right);
    pair.nat = Some(SocketAddr::new("198.51.100.7".parse().unwrap(), 40_000));
    pair.initiate();
    pair
}

#[test]
fn behind_a_nat_both_float_to_4500_and_encapsulate() {
    let mut pair = natted(connection(true), connection(false));
    pair.assert_up(1);
    let (left, right) = (pair.left.tunnels(pair.now()).remove(0), pair.right.tunnels(pair.now()).remove(0));
    assert_eq!((left.nat, right.nat), ((true, false), (false, true)));
    assert!(left.path.marked && left.path.remote.port() == 4500 && left.path.local.port() == 4500);
    assert_eq!(right.path.remote, pair.nat.unwrap());
    let ends = right.children[0].ends;
    assert!(
        ends.encapsulated
            && ends.movement == Movement::FollowsPackets
            && !ends.behind_nat
            && ends.remote == pair.nat.unwrap()
    );
    pair.pass(Duration::from_secs(65));
    assert_eq!((pair.left.keep_alives, pair.right.keep_alives), (3, 0));
}

#[test]
fn an_authentic_message_from_elsewhere_moves_a_peer_behind_a_nat() {
    let mut pair = natted(connection(true), connection(false));
    let elsewhere = SocketAddr::new("198.51.100.7".parse().unwrap(), 40_001);
    pair.nat = Some(elsewhere);
    pair.left.command(pair.now(), Command::RekeyChild(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    assert_eq!(pair.right.tunnels(pair.now())[0].path.remote, elsewhere);
    assert!(pair.right.inbound.values().all(|sa| sa.ends.remote == elsewhere));
    assert!(pair.right.events.iter().any(|event| matches!(event, Event::PathChanged { .. })));
    // And so does the data plane's word.
    let (spi, remote) = (*pair.right.inbound.keys().next().unwrap(), SocketAddr::new(elsewhere.ip(), 40_002));
    assert_eq!(pair.right.command(pair.now(), Command::PeerMoved { spi, remote }), Ok(1));
    assert!(pair.right.outbound.values().all(|(_, sa)| sa.ends.remote == remote));
    // Not at the end that is behind it.
    let spi = *pair.left.inbound.keys().next().unwrap();
    assert_eq!(pair.left.command(pair.now(), Command::PeerMoved { spi, remote }), Ok(0));
}

#[test]
fn without_a_nat_nobody_moves() {
    let mut pair = Pair::up();
    let before = pair.right.tunnels(pair.now())[0].path;
    pair.left.command(pair.now(), Command::RekeyChild(Target::Connection("net".to_owned()))).unwrap();
    let mut request = pair.take_packets().remove(0);
    request.path.remote = "203.0.113.9:500".parse().unwrap();
    pair.deliver(&request);
    assert_eq!(pair.right.tunnels(pair.now())[0].path, before);
    assert_eq!(
        pair.right.sent[0].0.remote, request.path.remote,
        "the answer goes to where the request came from"
    );
    let spi = *pair.right.inbound.keys().next().unwrap();
    let moved = Command::PeerMoved { spi, remote: request.path.remote };
    assert_eq!(pair.right.command(pair.now(), moved), Ok(0));
}

#[test]
fn encapsulation_is_forced_by_either_end() {
    for is_left in [true, false] {
        let with = |force, is_left| Connection { force_encapsulation: force, ..connection(is_left) };
        let mut pair = Pair::new(with(is_left, true), with(!is_left, false));
        pair.initiate();
        pair.assert_up(1);
        for view in [pair.left.tunnels(pair.now()), pair.right.tunnels(pair.now())] {
            assert!(view[0].children[0].ends.encapsulated && view[0].path.marked);
        }
    }
}

fn hosts(is_left: bool, mode: Mode) -> Connection {
    let mut child = child(is_left);
    (child.local, child.remote, child.mode) = (Vec::new(), Vec::new(), mode);
    Connection { children: vec![Arc::new(child)], ..connection(is_left) }
}

#[test]
fn transport_mode_is_used_if_both_want_it() {
    for (theirs, agreed) in [(Mode::Transport, Mode::Transport), (Mode::Tunnel, Mode::Tunnel)] {
        let mut pair = Pair::new(hosts(true, Mode::Transport), hosts(false, theirs));
        pair.initiate();
        pair.assert_up(1);
        assert_eq!((pair.left.modes(), pair.right.modes()), (vec![agreed], vec![agreed]));
    }
}

#[test]
fn transport_mode_behind_a_nat_has_the_addresses_of_each_side() {
    let pair = natted(hosts(true, Mode::Transport), hosts(false, Mode::Transport));
    pair.assert_up(1);
    let (left, right) = (pair.left.tunnels(pair.now()).remove(0), pair.right.tunnels(pair.now()).remove(0));
    assert_eq!(pair.right.modes(), [Mode::Transport]);
    assert_eq!(left.children[0].local[0].first, LEFT.parse::<IpAddr>().unwrap());
    assert_eq!(right.children[0].remote[0].first, pair.nat.unwrap().ip());
}
