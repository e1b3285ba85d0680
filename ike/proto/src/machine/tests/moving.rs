//! Contexts: a restart, a move, and another configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::pair::{LEFT, Pair, RIGHT, child, configuration, connection, secrets};
use super::side::Side;
use crate::configuration::{Configuration, Connection};
use crate::host::{Command, Event, Target};
use crate::machine::{RestoreError, Restoring};

fn rekey(pair: &mut Pair, is_left: bool, command: impl Fn(Target) -> Command) {
    let now = pair.now();
    let side = if is_left { &mut pair.left } else { &mut pair.right };
    side.command(now, command(Target::Connection("net".to_owned()))).unwrap();
}

/// Another process in the place of one end: its table stays, its contexts are restored.
fn restart(pair: &mut Pair, is_left: bool, how: Restoring) {
    pair.replace(is_left, how, configuration(connection(is_left)), secrets("secret"));
}

#[test]
fn after_a_restart_at_any_moment_everything_goes_on() {
    for step in 0..12 {
        for is_left in [true, false] {
            let mut pair = Pair::up();
            rekey(&mut pair, true, Command::RekeyChild);
            rekey(&mut pair, false, Command::RekeyIke);
            for _ in 0..step {
                pair.take_one();
            }
            restart(&mut pair, is_left, Restoring::Restart);
            pair.run();
            pair.pass(Duration::from_mins(3));
            pair.assert_up(1);
            for is_left in [true, false] {
                rekey(&mut pair, is_left, Command::RekeyChild);
                pair.run();
                rekey(&mut pair, is_left, Command::RekeyIke);
                pair.run();
            }
            pair.pass(Duration::from_mins(1));
            pair.assert_up(1);
            for side in [&pair.left, &pair.right] {
                assert_eq!(
                    (side.inbound.len(), side.outbound.len(), side.policies.len()),
                    (1, 1, 1),
                    "step {step}"
                );
            }
        }
    }
}

#[test]
fn an_outstanding_request_is_sent_again_octet_for_octet() {
    let mut pair = Pair::up();
    rekey(&mut pair, true, Command::RekeyChild);
    let before = pair.take_packets();
    restart(&mut pair, true, Restoring::Restart);
    pair.left.timeout(pair.now());
    let after = pair.take_packets();
    assert_eq!(before[0].octets, after[0].octets);
    // And a kept answer as well.
    pair.deliver(&before[0]);
    let answer = pair.take_packets();
    restart(&mut pair, false, Restoring::Restart);
    pair.deliver(&before[0]);
    assert_eq!(pair.take_packets()[0].octets, answer[0].octets);
}

#[test]
fn a_tunnel_moves_frozen_and_goes_on_elsewhere() {
    let mut pair = Pair::up();
    let name = pair.right.tunnels(pair.now())[0].name.to_string();
    assert!(pair.right.command(pair.now(), Command::Release(name.clone())).is_err(), "not frozen");
    pair.right.command(pair.now(), Command::Freeze(name.clone())).unwrap();
    rekey(&mut pair, true, Command::RekeyChild);
    pair.run();
    assert_eq!(pair.right.inbound.len(), 1, "a frozen tunnel answers nothing");
    let context = pair.right.contexts[&name].clone();
    let mut other = Side::new(2, RIGHT, configuration(connection(false)), secrets("secret"));
    other.host.advance(1 << 20);
    let now = pair.now();
    assert_eq!(other.ike.restore(now, &context, Restoring::Move, &mut other.host).unwrap().as_str(), name);
    (other.inbound, other.outbound) = (pair.right.inbound.clone(), pair.right.outbound.clone());
    other.drain();
    pair.right.command(now, Command::Release(name)).unwrap();
    assert!(pair.right.inbound.is_empty() && pair.right.sent.is_empty());
    assert!(matches!(pair.right.events.last(), Some(Event::IkeDown { .. })));
    pair.right = other;
    pair.pass(Duration::from_mins(1));
    pair.assert_up(1);
    assert_eq!(pair.right.policies.len(), 1);
    rekey(&mut pair, false, Command::RekeyIke);
    pair.run();
    pair.assert_up(1);
}

#[test]
fn a_thawed_tunnel_goes_on() {
    let mut pair = Pair::up();
    let name = pair.right.tunnels(pair.now())[0].name.to_string();
    pair.right.command(pair.now(), Command::Freeze(name.clone())).unwrap();
    rekey(&mut pair, true, Command::RekeyChild);
    pair.run();
    let end = Command::Terminate(Target::Tunnel(name.clone()));
    assert_eq!(pair.right.command(pair.now(), end), Err(crate::host::CommandError::Frozen(name.clone())));
    pair.right.command(pair.now(), Command::Thaw(name)).unwrap();
    pair.pass(Duration::from_mins(1));
    pair.assert_up(1);
}

#[test]
fn what_is_not_our_context_is_refused() {
    let mut pair = Pair::up();
    let now = pair.now();
    let context = pair.left.contexts.values().next().unwrap().clone();
    let fresh = |seed| Side::new(seed, LEFT, configuration(connection(true)), secrets("secret"));
    let restore =
        |side: &mut Side, context: &[u8]| side.ike.restore(now, context, Restoring::Move, &mut side.host);
    assert!(matches!(restore(&mut pair.left, &context), Err(RestoreError::Present(_))));
    assert!(matches!(restore(&mut fresh(9), &context), Err(RestoreError::Keys(_))));
    let none = Configuration::default();
    let mut empty = Side::new(1, LEFT, none, secrets("secret"));
    assert!(matches!(restore(&mut empty, &context), Err(RestoreError::NoConnection(..))));
    for at in 0..context.len() {
        let mut damaged = context.clone();
        damaged[at] ^= 0x20;
        assert!(restore(&mut fresh(1), &damaged).is_err(), "octet {at}");
        assert!(restore(&mut fresh(1), &context[..at]).is_err());
    }
    assert!(restore(&mut fresh(1), &context).is_ok());
}

#[test]
fn another_configuration_leaves_what_it_does_not_concern() {
    let named = |name: &str, is_left: bool| {
        let mut connection = connection(is_left);
        name.clone_into(&mut connection.name);
        Arc::new(connection)
    };
    let both = |is_left| Configuration {
        connections: vec![named("net", is_left), named("two", is_left)],
        ..Configuration::default()
    };
    let mut pair = Pair::with(both(true), both(false), secrets("secret"), secrets("secret"));
    pair.initiate();
    pair.left.command(pair.now(), Command::Initiate { connection: "two".to_owned(), child: None }).unwrap();
    pair.run();
    assert_eq!(pair.left.established(pair.now()).len(), 2);
    let before: BTreeMap<_, _> = pair.left.inbound.clone();
    let only = Configuration { connections: vec![named("net", true)], ..Configuration::default() };
    let now = pair.now();
    pair.left.ike.reconfigure(now, Arc::new(only), secrets("secret"), &mut pair.left.host);
    pair.left.drain();
    pair.run();
    let left = pair.left.established(now);
    assert_eq!((left.len(), left[0].connection.as_str()), (1, "net"));
    assert!(pair.left.inbound.keys().all(|spi| before.contains_key(spi)));
    pair.assert_same_sas();
}

#[test]
fn a_child_that_is_no_longer_configured_ends_with_a_restart() {
    let mut pair = Pair::up();
    let mut other = child(true);
    "other".clone_into(&mut other.name);
    let changed = Connection { children: vec![Arc::new(other)], ..connection(true) };
    let mut new = Side::new(1, LEFT, configuration(changed), secrets("secret"));
    new.host.advance(1 << 20);
    let now = pair.now();
    for context in pair.left.contexts.values() {
        new.ike.restore(now, context, Restoring::Restart, &mut new.host).unwrap();
    }
    (new.inbound, new.outbound) = (pair.left.inbound.clone(), pair.left.outbound.clone());
    new.drain();
    pair.left = new;
    pair.run();
    assert!(pair.left.inbound.is_empty() && pair.right.inbound.is_empty() && pair.right.policies.is_empty());
}

#[test]
fn a_trap_is_the_childs_own_again_after_a_restart() {
    let trapped = || {
        let mut child = child(true);
        child.start_action = crate::configuration::StartAction::Trap;
        Connection { children: vec![Arc::new(child)], ..connection(true) }
    };
    let mut pair = Pair::new(trapped(), connection(false));
    let now = pair.now();
    pair.left.ike.start(now, &mut pair.left.host);
    pair.left.drain();
    let reqid = *pair.left.traps.values().next().unwrap();
    pair.left.command(now, Command::Acquire { reqid }).unwrap();
    pair.run();
    let mut new = Side::new(1, LEFT, configuration(trapped()), secrets("secret"));
    new.host.advance(1 << 20);
    for context in pair.left.contexts.values() {
        new.ike.restore(now, context, Restoring::Restart, &mut new.host).unwrap();
    }
    new.ike.start(now, &mut new.host);
    new.drain();
    assert_eq!(new.policies, pair.left.policies);
    assert!(new.traps.is_empty(), "the policy leads to its SAs");
    (new.inbound, new.outbound) = (pair.left.inbound.clone(), pair.left.outbound.clone());
    pair.left = new;
    pair.right.command(now, Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    assert_eq!(pair.left.traps.values().copied().collect::<Vec<_>>(), [reqid]);
}

#[test]
fn what_does_not_change_a_context_does_not_store_it() {
    let mut pair = Pair::plain();
    pair.nat = Some("198.51.100.7:40000".parse().unwrap());
    pair.initiate();
    pair.left.log.clear();
    pair.pass(Duration::from_mins(10));
    assert!(pair.left.keep_alives > 20);
    assert_eq!(pair.left.log, [""; 0]);
}

#[test]
fn changed_traps_are_set_anew_and_removed_ones_go() {
    let trapped = |remote: &str| {
        let mut child = child(true);
        child.start_action = crate::configuration::StartAction::Trap;
        child.remote = vec![remote.parse().unwrap()];
        configuration(Connection { children: vec![Arc::new(child)], ..connection(true) })
    };
    let mut side = Side::new(1, LEFT, trapped("10.2.0.0/16"), secrets("secret"));
    let pair = Pair::plain();
    side.ike.start(pair.now(), &mut side.host);
    side.drain();
    let before = side.traps.clone();
    for (configuration, stays, count) in [
        (trapped("10.2.0.0/16"), true, 1),
        (trapped("10.3.0.0/16"), false, 1),
        (Configuration::default(), false, 0),
    ] {
        side.ike.reconfigure(pair.now(), Arc::new(configuration), secrets("secret"), &mut side.host);
        side.drain();
        assert_eq!((side.traps == before, side.traps.len()), (stays, count));
    }
}
