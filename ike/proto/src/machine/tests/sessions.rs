//! Sessions of users who were judged elsewhere: their addresses, their time, and what is told of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::elsewhere::{Judge, initiate, judge_all, pair_of, passes};
use super::pair::{Pair, configuration};
use super::users::{credentials, user};
use crate::configuration::{Configuration, Connection};
use crate::crypto::WrapKey;
use crate::host::{Account, Command, DownReason, Grant, Moment, SessionChange, Target, Volume};
use crate::machine::{Ike, Restoring};

const MINUTE: Duration = Duration::from_mins(1);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn asking(name: &str) -> Connection {
    let mut left = user(name);
    left.virtual_addresses = vec![address("0.0.0.0")];
    left
}

fn granted(grant: Grant) -> (Pair, Judge) {
    let mut pair = pair_of(asking("carol"), configuration(passes()), "carol's");
    let grant = Grant { addresses: vec![address("10.9.0.7")], ..grant };
    let mut judge = Judge::new(grant);
    initiate(&mut pair, &mut judge);
    pair.assert_up(1);
    (pair, judge)
}

fn moments(accounts: &[Account]) -> Vec<Moment> {
    accounts.iter().map(|account| account.moment).collect()
}

fn last_reason(pair: &Pair) -> Option<Moment> {
    pair.right.accounts.last().map(|account| account.moment)
}

/// Right's process dies and comes back with its contexts.
fn restart(pair: &mut Pair, how: Restoring) {
    let (configuration, credentials) = (configuration(passes()), credentials(&[]));
    restart_with(pair, configuration, credentials, how);
}

fn restart_with(
    pair: &mut Pair,
    configuration: Configuration,
    credentials: Arc<crate::auth::Credentials>,
    how: Restoring,
) {
    let now = pair.now();
    let wrap = Arc::new(WrapKey::new([2; 32]));
    pair.right.ike = Ike::new(Arc::new(configuration), credentials, wrap);
    for context in pair.right.contexts.clone().into_values() {
        let (ike, host) = (&mut pair.right.ike, &mut pair.right.host);
        ike.restore(now, &context, how, host).unwrap();
    }
    pair.right.drain();
}

#[test]
fn the_assigned_address_and_name_servers_reach_the_user() {
    let grant = Grant { dns: vec![address("10.9.0.1")], ..Grant::default() };
    let (pair, _) = granted(grant);
    let given = &pair.left.established(pair.now())[0].virtual_addresses;
    assert_eq!(given, &[address("10.9.0.7")]);
    assert_eq!(pair.right.accounts[0].virtual_addresses, [address("10.9.0.7")]);
}

/// The user is where it came from last; nobody else gets its address.
#[test]
fn an_assigned_address_has_one_holder() {
    let (mut pair, mut judge) = granted(Grant::default());
    let now = pair.now();
    let mut all = configuration(asking("carol"));
    for (connection, name, identity) in [("dave", "dave", "d.test"), ("again", "carol", "c.test")] {
        let mut other = asking(name);
        other.name = connection.to_owned();
        other.local.identity = super::users::id(identity);
        all.connections.push(Arc::new(other));
    }
    let ours = credentials(&[("carol", "carol's"), ("dave", "dave's")]);
    pair.left.ike.reconfigure(now, Arc::new(all), ours, &mut pair.left.host);
    pair.left.drain();
    let begin = |pair: &mut Pair, judge: &mut Judge, name: &str| {
        let command = Command::Initiate { connection: name.to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        pair.run();
        judge_all(pair, judge);
    };
    begin(&mut pair, &mut judge, "dave");
    assert!(pair.right.problems()[0].contains("is leased to another peer"), "{:?}", pair.right.problems());
    begin(&mut pair, &mut judge, "again");
    let held = |pair: &Pair| {
        let tunnels = pair.right.established(pair.now());
        tunnels.into_iter().filter(|view| view.virtual_addresses == [address("10.9.0.7")]).count()
    };
    assert_eq!(held(&pair), 1);
    let stops: Vec<_> = moments(&pair.right.accounts);
    assert!(stops.contains(&Moment::Stop(DownReason::Replaced)), "{stops:?}");
    // It is free when the last one has ended.
    for connection in ["net", "again"] {
        let target = Target::Connection(connection.to_owned());
        let _ = pair.left.command(pair.now(), Command::Terminate(target));
        pair.run();
    }
    let target = Target::Connection("dave".to_owned());
    let _ = pair.left.command(pair.now(), Command::Terminate(target));
    pair.run();
    begin(&mut pair, &mut judge, "dave");
    assert_eq!(held(&pair), 1);
}

#[test]
fn a_session_ends_in_time_whatever_happens_to_the_process() {
    let (mut pair, _) = granted(Grant { session_timeout: Some(10 * MINUTE), ..Grant::default() });
    pair.pass(6 * MINUTE);
    restart(&mut pair, Restoring::Restart);
    assert_eq!(pair.right.established(pair.now()).len(), 1);
    pair.pass(3 * MINUTE);
    assert_eq!(pair.right.established(pair.now()).len(), 1);
    pair.pass(MINUTE + Duration::from_secs(5));
    assert!(pair.right.tunnels(pair.now()).is_empty() && pair.left.tunnels(pair.now()).is_empty());
    assert_eq!(moments(&pair.right.accounts), [Moment::Start, Moment::Stop(DownReason::SessionTimeout)]);
    assert_eq!(pair.right.accounts[1].time.as_secs(), 600);
}

#[test]
fn a_session_without_traffic_ends() {
    let (mut pair, _) = granted(Grant { idle_timeout: Some(4 * MINUTE), ..Grant::default() });
    for packets in 1..5 {
        pair.pass(3 * MINUTE);
        pair.right.host.received.values_mut().for_each(|volume| volume.packets = packets);
    }
    assert_eq!(pair.right.established(pair.now()).len(), 1);
    pair.pass(6 * MINUTE);
    assert!(pair.right.tunnels(pair.now()).is_empty());
    assert_eq!(last_reason(&pair), Some(Moment::Stop(DownReason::Idle)));
}

fn carry(pair: &mut Pair, octets: u64) {
    let more = |volume: &mut Volume, octets| *volume += Volume { octets, packets: 1 };
    pair.right.host.received.values_mut().for_each(|volume| more(volume, octets));
    pair.right.host.sent.values_mut().for_each(|(_, volume)| more(volume, 2 * octets));
}

/// Whoever rekeys, and if the process dies in between.
#[test]
fn rekeyings_lose_no_octets() {
    let (mut pair, _) = granted(Grant::default());
    let id = pair.right.accounts[0].session.id.clone();
    let mut expected = 0;
    for round in 0..6 {
        carry(&mut pair, 1000);
        expected += 1000;
        let now = pair.now();
        let side = if round % 2 == 0 { &mut pair.left } else { &mut pair.right };
        side.command(now, Command::RekeyChild(Target::Connection("net".to_owned()))).unwrap();
        pair.run();
        pair.pass(Duration::from_secs(20));
        if round == 3 {
            restart(&mut pair, Restoring::Restart);
        }
        if round == 4 {
            let command = Command::RekeyIke(Target::Connection("net".to_owned()));
            pair.left.command(pair.now(), command).unwrap();
            pair.run();
        }
    }
    carry(&mut pair, 1);
    pair.left.command(pair.now(), Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    let stop = pair.right.accounts.last().unwrap();
    assert_eq!(stop.moment, Moment::Stop(DownReason::Peer));
    assert_eq!((stop.traffic.inbound.octets, stop.traffic.outbound.octets), (expected + 1, 2 * expected + 2));
    assert_eq!((stop.traffic.inbound.packets, stop.traffic.outbound.packets), (7, 7));
    assert_eq!(moments(&pair.right.accounts).len(), 2, "one Start and one Stop");
    assert_eq!(stop.session.id, id);
}

#[test]
fn interim_records_come_at_their_intervals() {
    let (mut pair, _) = granted(Grant { interim_interval: Some(MINUTE), ..Grant::default() });
    pair.pass(MINUTE * 3 + Duration::from_secs(1));
    let expected = [Moment::Start, Moment::Interim, Moment::Interim, Moment::Interim];
    assert_eq!(moments(&pair.right.accounts), expected);
    assert_eq!(pair.right.accounts[2].time.as_secs(), 120);
}

#[test]
fn a_session_that_moves_goes_on_elsewhere() {
    let grant =
        Grant { class: vec![b"gold".to_vec()], session_timeout: Some(10 * MINUTE), ..Grant::default() };
    let (mut pair, _) = granted(grant);
    carry(&mut pair, 500);
    let before = pair.right.established(pair.now())[0].clone();
    let name = before.name.to_string();
    pair.right.command(pair.now(), Command::Freeze(name.clone())).unwrap();
    let contexts = pair.right.contexts.clone();
    pair.right.command(pair.now(), Command::Release(name)).unwrap();
    assert_eq!(moments(&pair.right.accounts), [Moment::Start], "the session is not over");
    pair.right.contexts = contexts;
    restart(&mut pair, Restoring::Move);
    let after = pair.right.established(pair.now())[0].clone();
    assert_eq!(after.session, before.session);
    assert_eq!(after.session.unwrap().class, [b"gold".to_vec()]);
    assert_eq!(moments(&pair.right.accounts), [Moment::Start], "it does not begin again");
}

#[test]
fn a_server_may_change_a_session() {
    let (mut pair, _) = granted(Grant { session_timeout: Some(10 * MINUTE), ..Grant::default() });
    let tunnel = pair.right.established(pair.now())[0].name.to_string();
    pair.pass(MINUTE);
    let change = SessionChange { timeout: Some(2 * MINUTE), interim_interval: Some(MINUTE / 2) };
    let command = Command::ChangeSession { tunnel: tunnel.clone(), change };
    assert_eq!(pair.right.command(pair.now(), command), Ok(1));
    restart(&mut pair, Restoring::Restart);
    pair.pass(MINUTE + Duration::from_secs(5));
    assert!(pair.right.tunnels(pair.now()).is_empty());
    let expected = [Moment::Start, Moment::Interim, Moment::Stop(DownReason::SessionTimeout)];
    assert_eq!(moments(&pair.right.accounts)[..2], expected[..2]);
    assert_eq!(last_reason(&pair), Some(expected[2]));
    let change = SessionChange::default();
    let gone = pair.right.command(pair.now(), Command::ChangeSession { tunnel, change });
    assert!(gone.is_err());
}

#[test]
fn tunnels_of_others_have_no_session() {
    let mut pair = Pair::up();
    let tunnel = pair.right.established(pair.now())[0].name.to_string();
    let change = SessionChange::default();
    assert!(pair.right.command(pair.now(), Command::ChangeSession { tunnel, change }).is_err());
    pair.left.command(pair.now(), Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    assert!(pair.right.accounts.is_empty());
}
