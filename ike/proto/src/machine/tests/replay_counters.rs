//! Gateways that go on with SAs whose latest packets they do not know (RFC 6311 section 5.2).

use std::sync::Arc;
use std::time::Duration;

use super::pair::{Pair, RIGHT, configuration, connection, secrets};
use super::side::Side;
use crate::configuration::{Connection, Moving};
use crate::host::{Command, Event, Target};
use crate::machine::Restoring;
use crate::proposal::EspProposal;

fn target() -> Target {
    Target::Connection("net".to_owned())
}

fn with(is_left: bool, message_ids: bool, counters: bool) -> Connection {
    let moving = Moving { message_id_sync: message_ids, replay_counter_sync: counters, ..Moving::default() };
    Connection { moving, ..connection(is_left) }
}

fn pair(message_ids: bool, counters: bool) -> Pair {
    let mut pair = Pair::new(with(true, message_ids, counters), with(false, message_ids, counters));
    pair.initiate();
    pair.assert_up(1);
    pair
}

/// Right goes on from its context, with both edges of its SAs advanced.
fn restore_copy(pair: &mut Pair, advanced: u64) {
    let context = pair.right.contexts.values().next().expect("a context").clone();
    restore(pair, &context, Restoring::Move);
    tell(pair, advanced);
}

fn restore(pair: &mut Pair, context: &[u8], how: Restoring) {
    let now = pair.now();
    let configured = configuration(connection_of(pair));
    let mut new = Side::new(2, RIGHT, configured, secrets("secret"));
    new.host.advance(1 << 20);
    new.ike.restore(now, context, how, &mut new.host).expect("restored");
    new.inbound = std::mem::take(&mut pair.right.inbound);
    new.outbound = std::mem::take(&mut pair.right.outbound);
    new.drain();
    pair.right = new;
}

fn connection_of(pair: &Pair) -> Connection {
    let configuration = &pair.right.ike.core.configuration;
    Connection::clone(&configuration.connections[0])
}

fn tell(pair: &mut Pair, packets: u64) {
    let (now, tunnel) = (pair.now(), pair.right.tunnels(pair.now())[0].name.to_string());
    assert_eq!(pair.right.command(now, Command::Advanced { tunnel, packets }), Ok(1));
}

fn reqid(pair: &Pair) -> u32 {
    *pair.left.outbound.keys().next().expect("an SA")
}

fn was_rekeyed(side: &Side) -> bool {
    side.events.iter().any(|event| matches!(event, Event::ChildUp { replaces: Some(_), .. }))
}

#[test]
fn both_ends_say_that_they_can() {
    for (is_on, counts) in [(true, 1), (false, 0)] {
        let pair = pair(true, is_on);
        for side in [&pair.left, &pair.right] {
            let view = &side.established(pair.now())[0];
            let said = view.extensions.iter().filter(|one| **one == "replay-counter-sync").count();
            assert_eq!(said, counts);
        }
    }
}

/// Case 3 of RFC 6311 section 5: both notifies in one request with Message ID 0, before the answer.
#[test]
fn the_peer_skips_as_many_as_the_edge_is_ahead() {
    let mut pair = pair(true, true);
    restore_copy(&mut pair, 5000);
    pair.left.log.clear();
    pair.run();
    assert_eq!(pair.left.skips, [(vec![reqid(&pair)], 5000)]);
    assert!(pair.right.skips.is_empty(), "the answer asks for nothing");
    let position = |what| pair.left.log.iter().position(|one| *one == what).expect(what);
    assert!(position("skip") < position("store") && position("store") < position("transmit"));
    let counters = (pair.left.ike.counters(), pair.right.ike.counters());
    assert_eq!((counters.0.synchronizations, counters.0.counter_synchronizations), (1, 1));
    assert_eq!(counters.1.failovers, 1);
    // Once per failover (RFC 6311 section 7): another one asks for Message IDs alone.
    pair.right.command(pair.now(), Command::Synchronize(target())).expect("it can");
    pair.run();
    assert_eq!((pair.left.skips.len(), pair.right.ike.counters().failovers), (1, 2));
    assert!(!was_rekeyed(&pair.left) && !was_rekeyed(&pair.right));
    pair.assert_up(1);
}

/// What was asked for and not answered is asked for again, with another nonce and a higher M1.
#[test]
fn a_lost_answer_skips_again_and_a_replay_does_not() {
    let mut pair = pair(true, true);
    restore_copy(&mut pair, 5000);
    let first = pair.take_packets();
    pair.deliver(&first[0]);
    let _lost = pair.take_packets();
    for _ in 0..3 {
        pair.deliver(&first[0]);
    }
    assert_eq!(pair.left.skips.len(), 1);
    pair.pass(Duration::from_secs(30));
    assert_eq!((pair.left.skips.len(), pair.right.ike.counters().failovers), (2, 1));
}

/// Killed between any two of its outputs, the answering gateway has either skipped or not answered.
#[test]
fn nobody_is_answered_before_the_numbers_are_skipped() {
    let mut pair = pair(true, true);
    let (before, reqid) = (pair.left.contexts.values().next().expect("a context").clone(), reqid(&pair));
    restore_copy(&mut pair, 5000);
    let request = pair.take_packets();
    pair.deliver(&request[0]);
    // It dies after the effect, and before the context is stored and the answer sent.
    let _lost = pair.take_packets();
    let now = pair.now();
    let mut again = Side::new(1, super::pair::LEFT, configuration(with(true, true, true)), secrets("secret"));
    again.host.advance(1 << 20);
    again.ike.restore(now, &before, Restoring::Restart, &mut again.host).expect("restored");
    (again.inbound, again.outbound) = (pair.left.inbound.clone(), pair.left.outbound.clone());
    again.drain();
    pair.left = again;
    pair.pass(Duration::from_secs(30));
    assert_eq!(pair.left.skips, [(vec![reqid], 5000)]);
    assert_eq!(pair.right.ike.counters().failovers, 1);
    pair.assert_up(1);
}

/// How far the edge is ahead is part of the context, until the peer has answered.
#[test]
fn a_gap_survives_a_restart() {
    let mut pair = pair(true, true);
    restore_copy(&mut pair, 5000);
    let _lost = pair.take_packets();
    let context = pair.right.contexts.values().next().expect("a context").clone();
    restore(&mut pair, &context, Restoring::Restart);
    pair.pass(Duration::from_secs(30));
    assert_eq!(pair.left.skips, [(vec![reqid(&pair)], 5000)]);
    let context = pair.right.contexts.values().next().expect("a context").clone();
    restore(&mut pair, &context, Restoring::Restart);
    pair.right.command(pair.now(), Command::Synchronize(target())).expect("it can");
    pair.run();
    assert_eq!(pair.left.skips.len(), 1, "it was answered");
}

/// Case 2 of RFC 6311 section 5: an exchange like any other, whose repetition skips nothing.
#[test]
fn counters_alone_are_synchronized_within_the_window() {
    let mut pair = pair(false, true);
    restore_copy(&mut pair, 5000);
    let request = pair.take_packets();
    for _ in 0..3 {
        pair.deliver(&request[0]);
    }
    assert_eq!(pair.left.skips, [(vec![reqid(&pair)], 5000)]);
    let answers = pair.take_packets();
    assert!(answers.iter().all(|answer| answer.octets == answers[0].octets));
    let interrupted = pair.right.contexts.values().next().expect("a context").clone();
    restore(&mut pair, &interrupted, Restoring::Restart);
    pair.pass(Duration::from_secs(30));
    assert_eq!(pair.left.skips.len(), 1);
    pair.right.command(pair.now(), Command::Synchronize(target())).expect_err("there is nothing to do");
    pair.assert_up(1);
}

/// Where the peer cannot skip, Child SAs that begin at 1 at both ends do.
#[test]
fn with_a_peer_that_cannot_the_child_sas_are_rekeyed() {
    let mut pair = pair(true, false);
    restore_copy(&mut pair, 5000);
    pair.run();
    pair.pass(Duration::from_secs(30));
    assert!(pair.left.skips.is_empty());
    assert!(was_rekeyed(&pair.left) && was_rekeyed(&pair.right));
    pair.assert_up(1);
}

/// Either all Child SAs have extended sequence numbers or none has, or it cannot be said (RFC 6311 section 6.4).
#[test]
fn the_number_has_the_length_that_the_child_sas_want() {
    for (proposal, advanced, is_said) in [
        ("aes128gcm16-esn", 1_u64 << 40, true),
        ("aes128gcm16-noesn", u64::from(u32::MAX), true),
        ("aes128gcm16-noesn", 1 << 32, false),
    ] {
        let ends = [true, false].map(|is_left| {
            let mut connection = with(is_left, true, true);
            for child in &mut connection.children {
                Arc::make_mut(child).esp_proposals = EspProposal::parse_list(proposal).expect("proposals");
            }
            connection
        });
        let [left, right] = ends;
        let mut pair = Pair::new(left, right);
        pair.initiate();
        pair.assert_up(1);
        restore_copy(&mut pair, advanced);
        pair.run();
        pair.pass(Duration::from_secs(30));
        let skipped: Vec<u64> = pair.left.skips.iter().map(|(_, numbers)| *numbers).collect();
        assert_eq!(skipped, if is_said { vec![advanced] } else { vec![] }, "{proposal}");
        assert_eq!(was_rekeyed(&pair.right), !is_said);
        pair.assert_up(1);
    }
}

/// An outbound half that waits for the peer begins at 1 as well, and is used from then on.
#[test]
fn a_half_that_waits_to_be_used_skips_too() {
    let mut pair = pair(true, true);
    let now = pair.now();
    pair.right.command(now, Command::RekeyChild(target())).expect("rekeyed");
    // Left has answered; the deletion of the old pair does not come through.
    let request = pair.take_packets();
    pair.deliver(&request[0]);
    let answer = pair.take_packets();
    pair.deliver(&answer[0]);
    let _deletion = pair.take_packets();
    let new = pair.right.established(now)[0].children.last().expect("the new pair").inbound_spi;
    assert_ne!(pair.left.outbound[&reqid(&pair)].0, new);
    restore_copy(&mut pair, 5000);
    pair.left.log.clear();
    pair.run_through(|packet| packet.to_right || pair_is_synchronizing(packet));
    assert_eq!(pair.left.outbound[&reqid(&pair)].0, new);
    let position = |what| pair.left.log.iter().position(|one| *one == what).expect(what);
    assert!(position("install") < position("skip"));
}

fn pair_is_synchronizing(packet: &super::pair::Packet) -> bool {
    crate::wire::parse(&packet.octets).is_ok_and(|datagram| datagram.header().message_id == 0)
}

/// What is not agreed, is forged or is beside other things is not done.
#[test]
fn only_who_has_agreed_is_heeded() {
    let mut pair = Pair::new(with(true, true, false), with(false, true, true));
    pair.initiate();
    restore_copy(&mut pair, 5000);
    pair.pass(Duration::from_secs(30));
    assert!(pair.left.skips.is_empty());
    assert!(was_rekeyed(&pair.right));
}
