//! Gateways that go on with tunnels whose latest exchanges they do not know (RFC 6311).

use std::time::Duration;

use super::pair::{Packet, Pair, RIGHT, configuration, connection, secrets};
use super::side::Side;
use crate::configuration::{Connection, Moving};
use crate::host::{Command, CommandError, DownReason, Event, Target};
use crate::machine::Restoring;

fn target() -> Target {
    Target::Connection("net".to_owned())
}

fn rekey(pair: &mut Pair, by_left: bool) {
    let now = pair.now();
    let side = if by_left { &mut pair.left } else { &mut pair.right };
    side.command(now, Command::RekeyChild(target())).unwrap();
    pair.run();
    pair.pass(Duration::from_secs(20));
}

/// Another gateway goes on with right's tunnel as it was when `context` was taken; its table is up to date.
fn fail_over(pair: &mut Pair, context: &[u8]) {
    let now = pair.now();
    let mut new = Side::new(2, RIGHT, configuration(connection(false)), secrets("secret"));
    new.host.advance(1 << 20);
    new.ike.restore(now, context, Restoring::Move, &mut new.host).unwrap();
    new.inbound = std::mem::take(&mut pair.right.inbound);
    new.outbound = std::mem::take(&mut pair.right.outbound);
    new.drain();
    pair.right = new;
}

fn context(pair: &Pair) -> Vec<u8> {
    pair.right.contexts.values().next().unwrap().clone()
}

fn synchronize(pair: &mut Pair) {
    let now = pair.now();
    assert_eq!(pair.right.command(now, Command::Synchronize(target())), Ok(1));
}

fn ids(pair: &Pair) -> ((u32, u32), (u32, u32)) {
    let now = pair.now();
    (pair.left.tunnels(now)[0].message_ids, pair.right.tunnels(now)[0].message_ids)
}

#[track_caller]
fn assert_agreed(pair: &Pair) {
    let (left, right) = ids(pair);
    assert_eq!((left.0, left.1), (right.1, right.0));
}

/// Both ends ask, and are answered. (What Child SAs there are the stale gateway does not know.)
fn assert_alive(pair: &mut Pair) {
    for by_left in [true, false] {
        let now = pair.now();
        let before = pair.left.tunnels(now)[0].spis;
        let side = if by_left { &mut pair.left } else { &mut pair.right };
        side.command(now, Command::RekeyIke(target())).unwrap();
        pair.run();
        pair.pass(Duration::from_secs(20));
        let now = pair.now();
        assert_ne!(pair.left.tunnels(now)[0].spis, before);
        assert_eq!((pair.left.established(now).len(), pair.right.established(now).len()), (1, 1));
        assert_eq!(pair.left.established(now)[0].spis, pair.right.established(now)[0].spis);
    }
}

#[test]
fn both_ends_say_that_they_can() {
    let pair = Pair::up();
    for side in [&pair.left, &pair.right] {
        assert!(side.established(pair.now())[0].extensions.contains(&"message-id-sync"));
    }
}

#[test]
fn without_it_a_stale_gateway_is_lost_and_with_it_goes_on() {
    for synchronizes in [false, true] {
        let mut pair = Pair::up();
        let stale = context(&pair);
        for _ in 0..3 {
            rekey(&mut pair, true);
            rekey(&mut pair, false);
        }
        fail_over(&mut pair, &stale);
        let before = ids(&pair);
        assert_ne!((before.0.0, before.0.1), (before.1.1, before.1.0));
        if synchronizes {
            synchronize(&mut pair);
            pair.run();
            pair.pass(Duration::from_mins(1));
            assert_agreed(&pair);
            assert_alive(&mut pair);
            let counters = (pair.left.ike.counters(), pair.right.ike.counters());
            assert_eq!((counters.0.synchronizations, counters.1.failovers), (1, 1));
        } else {
            rekey(&mut pair, false);
            pair.pass(Duration::from_mins(10));
            assert!(pair.right.tunnels(pair.now()).is_empty());
        }
    }
}

#[test]
fn message_ids_are_above_all_that_either_has_used() {
    let mut pair = Pair::up();
    let stale = context(&pair);
    rekey(&mut pair, true);
    rekey(&mut pair, false);
    let (left, _) = ids(&pair);
    fail_over(&mut pair, &stale);
    synchronize(&mut pair);
    pair.run();
    // P2 is what left sends next. M1 has to reach what left expects: it takes as many tries.
    pair.pass(Duration::from_mins(2));
    assert_agreed(&pair);
    let (after, _) = ids(&pair);
    assert!(after.0 >= left.0 && after.1 >= left.1, "{left:?} {after:?}");
}

#[test]
fn a_request_that_comes_again_is_dropped() {
    let mut pair = Pair::up();
    synchronize(&mut pair);
    let request: Vec<Packet> = pair.take_packets();
    assert_eq!(request.len(), 1);
    pair.deliver(&request[0]);
    let answer = pair.take_packets();
    assert_eq!(answer.len(), 1);
    let agreed = ids(&pair).0;
    // Before and after the answer.
    for _ in 0..3 {
        pair.deliver(&request[0]);
        assert!(pair.take_packets().is_empty());
    }
    pair.deliver(&answer[0]);
    assert_eq!(ids(&pair).0, agreed);
    assert_agreed(&pair);
    rekey(&mut pair, true);
    rekey(&mut pair, false);
    let before = ids(&pair);
    pair.deliver(&request[0]);
    pair.deliver(&answer[0]);
    assert!(pair.take_packets().is_empty());
    assert_eq!(ids(&pair), before);
    assert_eq!(pair.left.ike.counters().synchronizations_refused, 4);
    pair.assert_up(1);
}

#[test]
fn an_answer_to_another_request_is_none() {
    let mut pair = Pair::up();
    synchronize(&mut pair);
    let first = pair.take_packets();
    pair.deliver(&first[0]);
    let late = pair.take_packets();
    // The answer is late: the next request has another nonce.
    pair.now += Duration::from_secs(5);
    pair.right.timeout(pair.now());
    let second = pair.take_packets();
    assert_ne!(first[0].octets, second[0].octets);
    let before = ids(&pair).1;
    pair.deliver(&late[0]);
    assert_eq!((ids(&pair).1, pair.right.ike.counters().synchronizations_refused), (before, 1));
    pair.deliver(&second[0]);
    pair.run();
    assert_agreed(&pair);
    assert_alive(&mut pair);
}

#[test]
fn nothing_is_asked_before_both_agree_and_nothing_is_lost() {
    let mut pair = Pair::up();
    let now = pair.now();
    pair.right.command(now, Command::RekeyChild(target())).unwrap();
    let _lost = pair.take_packets();
    synchronize(&mut pair);
    pair.right.command(now, Command::RekeyIke(target())).unwrap();
    assert_eq!(pair.take_packets().len(), 1);
    pair.right.timeout(pair.now());
    pair.pass(Duration::from_mins(1));
    pair.assert_up(1);
    let replaced = |event: &Event| matches!(event, Event::ChildUp { replaces: Some(_), .. });
    assert!(pair.right.events.iter().any(replaced));
    assert!(pair.right.events.iter().any(|event| matches!(event, Event::IkeRekeyed { .. })));
}

#[test]
fn what_the_peer_has_outstanding_it_asks_again() {
    let mut pair = Pair::up();
    let stale = context(&pair);
    let now = pair.now();
    pair.left.command(now, Command::RekeyChild(target())).unwrap();
    let _lost = pair.take_packets();
    fail_over(&mut pair, &stale);
    synchronize(&mut pair);
    pair.run();
    pair.pass(Duration::from_secs(30));
    pair.assert_up(1);
    let replaced = |event: &Event| matches!(event, Event::ChildUp { replaces: Some(_), .. });
    assert!(pair.left.events.iter().any(replaced));
}

#[test]
fn both_may_fail_over_at_once() {
    let mut pair = Pair::up();
    let now = pair.now();
    synchronize(&mut pair);
    pair.left.command(now, Command::Synchronize(target())).unwrap();
    pair.run();
    pair.pass(Duration::from_mins(1));
    assert_agreed(&pair);
    assert_alive(&mut pair);
}

#[test]
fn a_synchronization_survives_a_restart() {
    let mut pair = Pair::up();
    synchronize(&mut pair);
    let _lost = pair.take_packets();
    let interrupted = context(&pair);
    fail_over(&mut pair, &interrupted);
    pair.right.timeout(pair.now());
    pair.run();
    assert_agreed(&pair);
    assert_alive(&mut pair);
    // That the peer has answered one it knows after a restart as well: the highest M1 is in its context.
    assert_eq!(pair.right.ike.counters().failovers, 1);
}

#[test]
fn a_peer_that_never_answers_is_gone() {
    let mut pair = Pair::up();
    synchronize(&mut pair);
    pair.pass_through(Duration::from_mins(10), |_| false);
    let is_down = |event: &Event| matches!(event, Event::IkeDown { reason: DownReason::Unreachable, .. });
    assert!(pair.right.events.iter().any(is_down));
}

#[test]
fn who_does_not_know_it_is_not_asked() {
    let off = |is_left: bool| {
        let moving = Moving { message_id_sync: !is_left, ..Moving::default() };
        Connection { moving, ..connection(is_left) }
    };
    let mut pair = Pair::new(off(true), off(false));
    pair.initiate();
    let now = pair.now();
    let refused = pair.right.command(now, Command::Synchronize(target()));
    assert_eq!(refused, Err(CommandError::NotSynchronizable(1)));
    assert!(pair.take_packets().is_empty());
    // And what it sends all the same is a request like any other.
    rekey(&mut pair, false);
    pair.assert_up(1);
}

/// What waits for the agreement waits without being looked at again and again; what the peer asks meanwhile may have
/// been answered already (RFC 6311 section 8.1).
#[test]
fn nothing_else_happens_before_both_agree() {
    let dpd_delay = Duration::from_secs(1);
    let mut pair = Pair::new(
        Connection { dpd_delay, ..connection(true) },
        Connection { dpd_delay, ..connection(false) },
    );
    pair.initiate();
    synchronize(&mut pair);
    let _lost = pair.take_packets();
    pair.now += Duration::from_millis(1500);
    let now = pair.now();
    pair.right.timeout(now);
    assert!(pair.right.next_timeout().is_some_and(|due| due > now.monotonic), "it never has done");
    assert!(pair.take_packets().is_empty());
    pair.left.command(now, Command::RekeyChild(target())).unwrap();
    let request = pair.take_packets();
    pair.deliver(&request[0]);
    assert!(pair.take_packets().is_empty());
    pair.pass(Duration::from_mins(1));
    assert_agreed(&pair);
    let replaced = |event: &Event| matches!(event, Event::ChildUp { replaces: Some(_), .. });
    assert!(pair.left.events.iter().any(replaced));
}
