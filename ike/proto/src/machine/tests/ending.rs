//! Deletion, liveness, and what is not to be believed (RFC 7296 sections 1.4, 2.4, 2.21, 2.25).

use std::sync::Arc;
use std::time::Duration;

use super::pair::{Packet, Pair, child, connection};
use crate::configuration::{Child, Connection, EndAction, StartAction};
use crate::host::{Command, DownReason, Event, Target};
use crate::wire::{self, ExchangeType, Flags, Header, Notify, NotifyType, Payload};

fn reasons(events: &[Event]) -> Vec<DownReason> {
    let reason = |event: &Event| match event {
        Event::IkeDown { reason, .. } => Some(*reason),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}

fn with_child(is_left: bool, change: impl FnOnce(&mut Child)) -> Connection {
    let mut child = child(is_left);
    change(&mut child);
    Connection { children: vec![Arc::new(child)], ..connection(is_left) }
}

#[test]
fn either_end_ends_a_tunnel_for_both_and_nothing_is_left() {
    for is_left in [true, false] {
        let mut pair = Pair::up();
        let now = pair.now();
        let side = if is_left { &mut pair.left } else { &mut pair.right };
        assert_eq!(side.command(now, Command::Terminate(Target::Connection("net".to_owned()))), Ok(1));
        pair.run();
        for (side, reason) in [(&pair.left, is_left), (&pair.right, !is_left)] {
            let reason = if reason { DownReason::Command } else { DownReason::Peer };
            assert_eq!(reasons(&side.events), [reason]);
            assert!(side.inbound.is_empty() && side.outbound.is_empty() && side.policies.is_empty());
            assert!(side.contexts.is_empty());
        }
        pair.pass(Duration::from_mins(1));
        assert_eq!((pair.left.next_timeout(), pair.right.next_timeout()), (None, None));
    }
}

#[test]
fn both_ends_end_a_tunnel_at_once() {
    for lost in 0..5 {
        let mut pair = Pair::up();
        let now = pair.now();
        let end = Command::Terminate(Target::Connection("net".to_owned()));
        pair.left.command(now, end.clone()).unwrap();
        pair.right.command(now, end).unwrap();
        let mut count = 0;
        let mut lets = |_: &Packet| {
            count += 1;
            count != lost
        };
        pair.run_through(&mut lets);
        pair.pass_through(Duration::from_mins(5), &mut lets);
        assert!(pair.left.tunnels(pair.now()).is_empty() && pair.right.tunnels(pair.now()).is_empty());
    }
}

#[test]
fn a_lost_answer_to_a_deletion_is_repeated() {
    let mut pair = Pair::up();
    let end = Command::Terminate(Target::Connection("net".to_owned()));
    pair.left.command(pair.now(), end).unwrap();
    pair.run_through(|packet| packet.to_right);
    pair.pass(Duration::from_secs(5));
    assert_eq!(reasons(&pair.left.events), [DownReason::Command]);
}

#[test]
fn both_ends_delete_one_child_at_once() {
    let mut pair = Pair::up();
    let end = Command::Terminate(Target::Child(None, "net".to_owned()));
    let now = pair.now();
    pair.left.command(now, end.clone()).unwrap();
    pair.right.command(now, end).unwrap();
    pair.run();
    pair.assert_up(0);
    assert!(pair.left.inbound.is_empty() && pair.right.outbound.is_empty() && pair.left.policies.is_empty());
}

#[test]
fn silence_is_asked_about_and_a_dead_peer_given_up() {
    let mut left = connection(true);
    left.dpd_delay = Duration::from_secs(30);
    let mut pair = Pair::new(left, connection(false));
    pair.initiate();
    pair.pass(Duration::from_secs(100));
    pair.assert_up(1);
    assert_eq!(pair.left.tunnels(pair.now())[0].message_ids.0, 5, "three questions");
    pair.pass_through(Duration::from_mins(4), |_| false);
    assert_eq!(reasons(&pair.left.events), [DownReason::Unreachable]);
    assert!(pair.left.inbound.is_empty());
}

#[test]
fn dpd_action_and_close_action_set_it_up_again() {
    let mut left = with_child(true, |child| {
        (child.dpd_action, child.close_action) = (EndAction::Start, EndAction::Start);
    });
    left.dpd_delay = Duration::from_secs(30);
    left.keying_tries = 0;
    let mut pair = Pair::new(left, connection(false));
    pair.initiate();
    pair.pass_through(Duration::from_mins(4), |_| false);
    assert_eq!(reasons(&pair.left.events), [DownReason::Unreachable]);
    pair.pass(Duration::from_mins(6));
    pair.assert_up(1);
    let end = Command::Terminate(Target::Child(None, "net".to_owned()));
    pair.right.command(pair.now(), end).unwrap();
    pair.run();
    pair.assert_up(1);
    pair.right.command(pair.now(), Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    pair.pass(Duration::from_secs(10));
    pair.assert_up(1);
}

#[test]
fn nobody_ends_a_tunnel_from_outside() {
    let mut pair = Pair::up();
    let view = pair.left.tunnels(pair.now()).remove(0);
    for (exchange, kind) in [
        (ExchangeType::INFORMATIONAL, NotifyType::INVALID_IKE_SPI),
        (ExchangeType::INFORMATIONAL, NotifyType::INVALID_SPI),
        (ExchangeType::IKE_AUTH, NotifyType::AUTHENTICATION_FAILED),
        (ExchangeType::IKE_SA_INIT, NotifyType::NO_PROPOSAL_CHOSEN),
    ] {
        for response in [true, false] {
            let (initiator_spi, responder_spi) = view.spis;
            let flags = Flags { initiator: false, response };
            let header = Header { initiator_spi, responder_spi, exchange, flags, message_id: 0 };
            let octets = wire::emit(&header, &[Payload::Notify(Notify::new(kind, Vec::new()))]);
            let path = view.path;
            pair.deliver(&Packet { to_right: false, path, octets });
        }
    }
    assert!(pair.take_packets().is_empty());
    pair.assert_up(1);
}

#[test]
fn damaged_and_replayed_messages_change_nothing() {
    let mut pair = Pair::up();
    let command = Command::RekeyChild(Target::Connection("net".to_owned()));
    pair.left.command(pair.now(), command).unwrap();
    let request = pair.take_packets().remove(0);
    for at in 0..request.octets.len() {
        let mut damaged = request.clone();
        damaged.octets[at] ^= 1;
        pair.deliver(&damaged);
        assert!(pair.right.inbound.len() == 1, "octet {at}");
    }
    pair.right.sent.clear();
    pair.deliver(&request);
    pair.run();
    let installed = pair.right.inbound.len();
    pair.deliver(&request);
    pair.run();
    assert_eq!(pair.right.inbound.len(), installed);
    pair.pass(Duration::from_secs(40));
    pair.assert_up(1);
}

#[test]
fn traffic_sets_up_what_is_trapped_once_and_the_trap_stays() {
    let trapped = with_child(true, |child| child.start_action = StartAction::Trap);
    let mut pair = Pair::new(trapped, connection(false));
    let now = pair.now();
    pair.left.ike.start(now, &mut pair.left.host);
    pair.left.drain();
    let (name, reqid) =
        pair.left.traps.first_key_value().map(|(name, reqid)| (name.clone(), *reqid)).unwrap();
    assert_eq!(pair.left.command(now, Command::Acquire { reqid }), Ok(1));
    let _ = pair.left.command(now, Command::Acquire { reqid });
    assert_eq!(pair.left.sent.len(), 1, "one request, however many packets wait");
    pair.run();
    assert_eq!(pair.left.command(now, Command::Acquire { reqid }), Ok(0));
    pair.assert_up(1);
    assert_eq!(pair.left.policies.get(&name), Some(&reqid));
    assert!(pair.left.traps.is_empty());
    pair.right.command(now, Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    assert_eq!(pair.left.traps.get(&name), Some(&reqid));
    assert_eq!(pair.left.command(now, Command::Acquire { reqid }), Ok(1));
    pair.run();
    pair.assert_up(1);
}

#[test]
fn one_end_rekeys_the_ike_sa_that_the_other_deletes_at_once() {
    for lost in 0..8 {
        for is_left in [true, false] {
            let mut pair = Pair::up();
            let (now, connection) = (pair.now(), Target::Connection("net".to_owned()));
            let (a, b) = (Command::RekeyIke(connection.clone()), Command::Terminate(connection));
            let (a, b) = if is_left { (a, b) } else { (b, a) };
            pair.left.command(now, a).unwrap();
            pair.right.command(now, b).unwrap();
            let mut count = 0;
            let mut lets = |_: &Packet| {
                count += 1;
                count != lost
            };
            pair.run_through(&mut lets);
            pair.pass_through(Duration::from_mins(8), &mut lets);
            assert!(pair.left.tunnels(pair.now()).is_empty() && pair.right.tunnels(pair.now()).is_empty());
            assert!(pair.left.inbound.is_empty() && pair.right.inbound.is_empty());
        }
    }
}

#[test]
fn an_ike_sa_that_cannot_be_rekeyed_ends_after_its_over_time() {
    let mut pair = Pair::up();
    // From now on the peer has no algorithm in common.
    let mut other = connection(false);
    other.ike_proposals = vec!["aes256-sha512-ecp521".parse().unwrap()];
    let now = pair.now();
    let configuration = super::pair::configuration(other);
    pair.right.ike.reconfigure(
        now,
        Arc::new(configuration),
        super::pair::secrets("secret"),
        &mut pair.right.host,
    );
    pair.right.drain();
    pair.assert_up(1);
    pair.pass(Duration::from_mins(4 * 60 + 23));
    pair.assert_up(1);
    assert!(pair.left.problems()[0].contains("refuses to rekey"), "{:?}", pair.left.problems());
    pair.pass(Duration::from_mins(2));
    assert_eq!(reasons(&pair.left.events), [DownReason::Expired]);
    assert!(pair.right.tunnels(pair.now()).is_empty());
}

#[test]
fn further_children_are_bounded() {
    let second = |is_left: bool| {
        let mut second = child(is_left);
        "second".clone_into(&mut second.name);
        Connection { children: vec![Arc::new(child(is_left)), Arc::new(second)], ..connection(is_left) }
    };
    let mut right = super::pair::configuration(second(false));
    right.limits.max_children = 1;
    let secrets = || super::pair::secrets("secret");
    let mut pair = Pair::with(super::pair::configuration(second(true)), right, secrets(), secrets());
    pair.initiate();
    pair.assert_up(1);
    assert!(pair.left.problems()[0].contains("NO_ADDITIONAL_SAS"), "{:?}", pair.left.problems());
}
