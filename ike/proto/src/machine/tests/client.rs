//! A host that sets tunnels up, and wants to have them: attempts and pauses, what it is inside, what stays closed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::pair::{LEFT, Packet, Pair, RIGHT, child, configuration, connection, secrets};
use crate::configuration::{AddressMatch, Configuration, Connection, EndAction, Pool, StartAction};
use crate::host::{Command, CommandError, DownReason, Event, Output, Target};
use crate::machine::Restoring;
use crate::wire;

const OTHERS: [&str; 2] = ["192.0.2.7", "192.0.2.8"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn single(text: &str) -> AddressMatch {
    AddressMatch { first: ip(text), last: ip(text) }
}

/// A client that wants its tunnel for ever, and may be told by whoever is at the right.
fn wanting(addresses: &[&str]) -> Connection {
    let mut child = child(true);
    (child.start_action, child.close_action, child.dpd_action) =
        (StartAction::Start, EndAction::Start, EndAction::Start);
    Connection {
        remote_addresses: addresses.iter().copied().map(single).collect(),
        children: vec![Arc::new(child)],
        keying_tries: 0,
        dpd_delay: Duration::from_secs(30),
        ..connection(true)
    }
}

fn initiate(pair: &mut Pair) {
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
}

/// When new attempts began within a time in which nobody answers, in seconds, and to where.
fn attempts(pair: &mut Pair, time: Duration) -> Vec<(u64, String)> {
    let (start, mut seen, mut begun) = (pair.now, Vec::new(), Vec::new());
    let end = start + time;
    loop {
        for packet in pair.take_packets() {
            let spi = wire::Header::parse(&packet.octets).unwrap().initiator_spi;
            if !seen.contains(&spi) {
                seen.push(spi);
                begun.push((pair.now.saturating_sub(start).as_secs(), packet.path.local.ip().to_string()));
            }
        }
        let due = pair.left.next_timeout().filter(|due| *due <= end);
        let Some(due) = due else { return begun };
        pair.now = pair.now.max(due);
        let now = pair.now();
        pair.left.timeout(now);
    }
}

#[test]
fn pauses_double_up_to_a_bound_for_ever() {
    let mut pair = Pair::new(wanting(&[RIGHT]), connection(false));
    initiate(&mut pair);
    let begun = attempts(&mut pair, Duration::from_hours(3));
    // Each attempt takes as long as the repetitions of its request do: 149 s.
    let pauses: Vec<u64> = begun.windows(2).map(|two| two[1].0 - two[0].0 - 149).collect();
    for (number, pause) in pauses.iter().enumerate() {
        let least = (5_u64 << number.min(10)).min(300);
        assert!((least..=least * 6 / 5 + 1).contains(pause), "pause {number} is {pause} s");
    }
    assert!(pauses.len() > 20 && pair.left.tunnels(pair.now()).len() == 1);
    let jitter = pauses.iter().filter(|pause| **pause != 300).count();
    assert!(jitter > 10, "not all clients of a gateway come back at once: {pauses:?}");
}

#[test]
fn all_addresses_are_tried_in_turn_before_a_pause() {
    let mut client = wanting(&[OTHERS[0], OTHERS[1], RIGHT]);
    client.keying_tries = 2;
    let mut pair = Pair::new(client, connection(false));
    initiate(&mut pair);
    let begun = attempts(&mut pair, Duration::from_hours(1));
    let places: Vec<&str> = begun.iter().map(|(_, to)| to.as_str()).collect();
    assert_eq!(places, [OTHERS[0], OTHERS[1], RIGHT, OTHERS[0], OTHERS[1], RIGHT], "two attempts");
    let pauses: Vec<u64> = begun.windows(2).map(|two| two[1].0 - two[0].0 - 149).collect();
    assert!(pauses[..2].iter().chain(&pauses[3..]).all(|pause| *pause <= 1), "{pauses:?}");
    assert!(pauses[2] >= 5, "{pauses:?}");
    assert!(pair.left.tunnels(pair.now()).is_empty());
    assert!(matches!(pair.left.events.last(), Some(Event::IkeDown { reason: DownReason::Failed, .. })));
}

#[test]
fn addresses_without_a_way_are_passed_over() {
    let mut client = wanting(&["2001:db8::1", OTHERS[0], "2001:db8::2", RIGHT]);
    (client.keying_tries, client.local_addresses) = (2, vec![ip(LEFT)]);
    let mut pair = Pair::new(client, connection(false));
    pair.left.host.source = ip("0.0.0.0");
    initiate(&mut pair);
    let begun = attempts(&mut pair, Duration::from_hours(1));
    let places: Vec<&str> = begun.iter().map(|(_, to)| to.as_str()).collect();
    assert_eq!(places, [OTHERS[0], RIGHT, OTHERS[0], RIGHT]);
}

/// Only the right end is there.
fn at_right(packet: &Packet) -> bool {
    !packet.to_right || packet.path.local.ip() == ip(RIGHT)
}

#[test]
fn a_lost_gateway_is_replaced_by_the_next_one_and_asked_for_again_by_nobody_else() {
    let mut pair = Pair::new(wanting(&[RIGHT, OTHERS[0]]), connection(false));
    initiate(&mut pair);
    pair.run_through(at_right);
    pair.assert_up(1);
    // The tunnel is there, whichever of the addresses it is at.
    initiate(&mut pair);
    assert_eq!(pair.left.tunnels(pair.now()).len(), 1);
    pair.pass(Duration::from_mins(10));
    while pair.left.established(pair.now()).len() == 1 {
        pair.pass_through(Duration::from_secs(1), |_| false);
    }
    let view = pair.left.tunnels(pair.now()).remove(0);
    assert_eq!(view.path.remote.ip(), ip(OTHERS[0]));
    pair.pass_through(Duration::from_mins(6), at_right);
    pair.assert_up(1);
}

#[test]
fn a_peer_that_ends_every_tunnel_at_once_is_not_called_all_the_time() {
    let mut pair = Pair::new(wanting(&[RIGHT]), connection(false));
    initiate(&mut pair);
    pair.run();
    let mut ended = 0;
    let end = pair.now + Duration::from_mins(30);
    while pair.now < end {
        if !pair.right.established(pair.now()).is_empty() {
            let all = Command::Terminate(Target::Connection("net".to_owned()));
            pair.right.command(pair.now(), all).unwrap();
            pair.run();
            ended += 1;
        }
        pair.pass(Duration::from_secs(1));
    }
    assert!((7..=14).contains(&ended), "{ended} tunnels in half an hour");
    // One that lasts makes up for it.
    while pair.left.established(pair.now()).is_empty() {
        pair.pass(Duration::from_secs(1));
    }
    pair.pass(Duration::from_mins(2));
    let all = Command::Terminate(Target::Connection("net".to_owned()));
    pair.right.command(pair.now(), all).unwrap();
    pair.run();
    pair.assert_up(1);
}

#[test]
fn without_a_way_it_waits_for_one_and_takes_it_at_once() {
    let mut client = wanting(&[RIGHT]);
    (client.keying_tries, client.local_addresses) = (1, Vec::new());
    let mut pair = Pair::new(client, connection(false));
    pair.left.host.source = ip("0.0.0.0");
    pair.left.ike.start(pair.now(), &mut pair.left.host);
    pair.left.drain();
    pair.pass(Duration::from_mins(10));
    assert!(pair.left.problems()[0].contains("no route"), "{:?}", pair.left.problems());
    assert_eq!(pair.left.tunnels(pair.now()).len(), 1, "that there is no network is no failed attempt");
    pair.left.host.source = ip(LEFT);
    pair.left.command(pair.now(), Command::AddressesChanged).unwrap();
    pair.pass(Duration::ZERO);
    pair.assert_up(1);
}

#[test]
fn an_attempt_from_an_address_that_is_gone_begins_anew() {
    let mut client = wanting(&[RIGHT]);
    client.local_addresses = Vec::new();
    let mut pair = Pair::new(client, connection(false));
    initiate(&mut pair);
    pair.run_through(|_| false);
    pair.left.host.source = ip("192.0.2.99");
    pair.left.command(pair.now(), Command::AddressesChanged).unwrap();
    pair.left.timeout(pair.now());
    let packet = pair.take_packets().remove(0);
    assert_eq!(packet.path.remote.ip(), ip("192.0.2.99"));
    pair.left.command(pair.now(), Command::AddressesChanged).unwrap();
    pair.left.timeout(pair.now());
    assert!(pair.take_packets().is_empty(), "nothing has changed since");
}

/// A gateway with inner addresses and DNS servers.
fn office() -> Configuration {
    let mut right = connection(false);
    right.pools = vec!["inner".to_owned()];
    let mut child = child(false);
    child.remote = vec!["dynamic".parse().unwrap()];
    right.children = vec![Arc::new(child)];
    let pool = Pool {
        name: "inner".to_owned(),
        first: ip("10.9.0.5"),
        last: ip("10.9.0.9"),
        dns: vec![ip("10.2.0.53"), ip("127.0.0.53"), ip("2001:db8::53")],
        subnets: Vec::new(),
        lease_time: Duration::from_mins(1),
    };
    Configuration { pools: vec![Arc::new(pool)], ..configuration(right) }
}

fn guest(change: impl FnOnce(&mut Connection)) -> Pair {
    let mut left = wanting(&[RIGHT]);
    left.virtual_addresses = vec![ip("0.0.0.0")];
    let mut child = crate::configuration::Child::clone(&left.children[0]);
    child.local = vec!["dynamic".parse().unwrap()];
    left.children = vec![Arc::new(child)];
    change(&mut left);
    let mut pair = Pair::with(configuration(left), office(), secrets("secret"), secrets("secret"));
    pair.initiate();
    pair
}

#[test]
fn this_host_is_what_it_was_given_until_the_tunnel_ends() {
    let mut pair = guest(|_| {});
    let view = pair.left.tunnels(pair.now()).remove(0);
    let inside = pair.left.inside.values().next().unwrap();
    assert_eq!(
        (inside.addresses.as_slice(), inside.tunnel.as_str()),
        (&[ip("10.9.0.5")][..], view.name.as_str())
    );
    assert_eq!(
        inside.dns,
        [ip("10.2.0.53")],
        "neither this host's own resolver nor one that was not asked for"
    );
    assert_eq!(view.dns, inside.dns);
    assert!(pair.right.inside.is_empty(), "whose addresses they are not");
    // A process that comes after says it again.
    let context = pair.left.contexts.values().next().unwrap().clone();
    let mut later = super::side::Side::new(
        1,
        LEFT,
        Configuration::clone(&pair.left.ike.core.configuration),
        secrets("secret"),
    );
    later.host.advance(1000);
    later.ike.restore(pair.now(), &context, Restoring::Restart, &mut later.host).unwrap();
    later.drain();
    assert_eq!(later.inside, pair.left.inside);
    pair.left.command(pair.now(), Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    assert!(pair.left.inside.is_empty());
}

#[test]
fn addresses_that_nobody_can_have_are_not_taken() {
    for given in ["127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255"] {
        let mut right = office();
        let mut pool = Pool::clone(&right.pools[0]);
        (pool.first, pool.last) = (ip(given), ip(given));
        right.pools = vec![Arc::new(pool)];
        let mut left = wanting(&[RIGHT]);
        left.virtual_addresses = vec![ip("0.0.0.0")];
        let mut pair = Pair::with(configuration(left), right, secrets("secret"), secrets("secret"));
        pair.initiate();
        assert!(pair.left.inside.is_empty(), "{given}");
    }
}

#[test]
fn the_same_address_is_asked_for_again() {
    let mut pair = guest(|_| {});
    // Another one would be the next free one.
    let other = pair.right.ike.core.pools.lease(
        "inner",
        2,
        &crate::identity::Identity::Fqdn("other.test".to_owned()),
        None,
        pair.now,
    );
    assert_eq!(other, Ok(ip("10.9.0.6")));
    pair.pass(Duration::from_mins(2));
    pair.right.command(pair.now(), Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    let inside: Vec<_> = pair.left.inside.values().flat_map(|inside| inside.addresses.clone()).collect();
    assert_eq!(inside, [ip("10.9.0.5")]);
}

/// The end of the tunnel by the right end; what becomes of the networks where it led.
fn kept_after_an_end(fails_closed: bool) -> (Pair, Vec<bool>) {
    let mut pair = guest(|left| {
        left.fails_closed = fails_closed;
        let mut child = crate::configuration::Child::clone(&left.children[0]);
        child.close_action = EndAction::None;
        left.children = vec![Arc::new(child)];
    });
    pair.right.command(pair.now(), Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    let kept = pair.left.kept.drain(..).map(|(_, kept)| kept).collect();
    (pair, kept)
}

#[test]
fn i7_networks_stay_closed_until_the_operator_opens_them() {
    let (mut pair, kept) = kept_after_an_end(true);
    assert_eq!(kept, [true]);
    let down = Command::Terminate(Target::Connection("net".to_owned()));
    assert_eq!(pair.left.command(pair.now(), down.clone()), Ok(1));
    assert_eq!(pair.left.kept.drain(..).map(|(_, kept)| kept).collect::<Vec<_>>(), [false]);
    assert!(pair.left.traps.is_empty());
    // After a restart nobody knows: what is configured is opened, and nothing matches all the same.
    assert!(matches!(pair.left.command(pair.now(), down), Err(CommandError::NoMatch(_))));
    assert_eq!(pair.left.kept.drain(..).map(|(_, kept)| kept).collect::<Vec<_>>(), [false]);
    let (_, kept) = kept_after_an_end(false);
    assert_eq!(kept, [false], "it is not to fail closed");
}

#[test]
fn a_connection_that_is_taken_away_opens_its_networks() {
    let (mut pair, _) = kept_after_an_end(true);
    let credentials = secrets("secret");
    pair.left.ike.reconfigure(pair.now(), Arc::default(), credentials, &mut pair.left.host);
    let outputs: Vec<Output> = std::iter::from_fn(|| pair.left.ike.poll()).collect();
    let opens = |output: &Output| matches!(output, Output::RemovePolicies { keep_prohibited: false, .. });
    assert_eq!(outputs.iter().filter(|output| opens(output)).count(), 1, "{outputs:?}");
}

#[test]
fn who_waits_for_traffic_takes_it_whatever_address_it_has() {
    let mut pair = guest(|left| {
        let mut child = crate::configuration::Child::clone(&left.children[0]);
        child.start_action = StartAction::Trap;
        left.children = vec![Arc::new(child)];
    });
    pair.left.command(pair.now(), Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    pair.left.ike.start(pair.now(), &mut pair.left.host);
    let trapped = std::iter::from_fn(|| pair.left.ike.poll()).find_map(|output| match output {
        Output::Trap(policy) => Some(policy.local[0].to_string()),
        _ => None,
    });
    assert_eq!(trapped.as_deref(), Some("0.0.0.0/0"), "the inner address is not known yet");
}
