//! Rekeying (RFC 7296 sections 1.3.2, 1.3.3, 2.8, 2.25).

use std::sync::Arc;
use std::time::Duration;

use super::pair::{Packet, Pair, child, connection};
use crate::configuration::Connection;
use crate::host::{Command, Target};

fn rekey_child() -> Command {
    Command::RekeyChild(Target::Connection("net".to_owned()))
}

fn rekey_ike() -> Command {
    Command::RekeyIke(Target::Connection("net".to_owned()))
}

fn spis(pair: &Pair) -> (u64, u64) {
    pair.left.tunnels(pair.now())[0].spis
}

fn child_spi(pair: &Pair) -> u32 {
    pair.left.tunnels(pair.now())[0].children[0].inbound_spi
}

/// All is settled: one pair, nothing left over in either table.
#[track_caller]
fn assert_settled(pair: &mut Pair) {
    pair.pass(Duration::from_secs(40));
    pair.assert_up(1);
    for side in [&pair.left, &pair.right] {
        assert_eq!((side.inbound.len(), side.outbound.len(), side.policies.len()), (1, 1, 1));
    }
}

#[test]
fn a_child_is_rekeyed_by_either_end_without_a_gap() {
    for is_left in [true, false] {
        let mut pair = Pair::up();
        let before = child_spi(&pair);
        let now = pair.now();
        let side = if is_left { &mut pair.left } else { &mut pair.right };
        assert_eq!(side.command(now, rekey_child()), Ok(1));
        // At no moment does an end send by what the other does not receive with.
        while pair.take_one() {
            pair.assert_same_sas();
        }
        assert_ne!(child_spi(&pair), before);
        assert_eq!(pair.left.inbound.len(), 2, "the old one stays for packets that are late");
        assert_settled(&mut pair);
    }
}

#[test]
fn the_ike_sa_is_rekeyed_as_often_as_a_peer_likes_that_deletes_the_old_ones() {
    let mut pair = Pair::up();
    for round in 0..40 {
        let (before, now) = (spis(&pair), pair.now());
        let side = if round % 2 == 0 { &mut pair.left } else { &mut pair.right };
        assert_eq!(side.command(now, rekey_ike()), Ok(1));
        while pair.take_one() {}
        assert_ne!(spis(&pair), before, "round {round}");
        pair.pass(Duration::from_millis(100));
    }
    let stored = |side: &super::side::Side| side.contexts.values().map(Vec::len).max();
    assert!(stored(&pair.left) < Some(4096) && stored(&pair.right) < Some(4096), "contexts stay small");
    assert_settled(&mut pair);
}

#[test]
fn a_child_is_rekeyed_with_and_without_forward_secrecy_and_with_another_group() {
    for (ours, theirs) in [
        ("aes128gcm16", "aes128gcm16"),
        ("aes128gcm16-x25519", "aes128gcm16-x25519"),
        ("aes128gcm16-x25519-ecp256", "aes128gcm16-ecp256"),
    ] {
        let with = |is_left: bool, proposal: &str| {
            let mut child = child(is_left);
            child.esp_proposals = vec![proposal.parse().unwrap()];
            Connection { children: vec![Arc::new(child)], ..connection(is_left) }
        };
        let mut pair = Pair::new(with(true, ours), with(false, theirs));
        pair.initiate();
        pair.assert_up(1);
        let before = child_spi(&pair);
        pair.left.command(pair.now(), rekey_child()).unwrap();
        pair.run();
        assert_ne!(child_spi(&pair), before, "{:?}", pair.left.problems());
        assert_settled(&mut pair);
    }
}

#[test]
fn an_ike_sa_is_rekeyed_by_either_end_and_used() {
    for is_left in [true, false] {
        let mut pair = Pair::up();
        let before = spis(&pair);
        let now = pair.now();
        let side = if is_left { &mut pair.left } else { &mut pair.right };
        side.command(now, rekey_ike()).unwrap();
        pair.run();
        pair.assert_up(1);
        assert_ne!(spis(&pair), before);
        for is_left in [true, false] {
            let side = if is_left { &mut pair.left } else { &mut pair.right };
            side.command(now, rekey_child()).unwrap();
            pair.run();
        }
        assert_settled(&mut pair);
    }
}

#[test]
fn keys_are_replaced_when_their_time_has_come() {
    let mut pair = Pair::up();
    let (ike, esp) = (spis(&pair), child_spi(&pair));
    pair.pass(Duration::from_mins(61));
    assert_ne!(child_spi(&pair), esp);
    assert_eq!(spis(&pair), ike);
    pair.pass(Duration::from_hours(3));
    assert_ne!(spis(&pair), ike);
    pair.pass(Duration::from_hours(24));
    assert_settled(&mut pair);
    assert_eq!(pair.left.problems(), [""; 0]);
    assert_eq!(pair.right.problems(), [""; 0]);
}

#[test]
fn both_ends_rekey_one_child_at_once() {
    // With losses of each of the first datagrams in turn: whoever hears what first, one pair is left.
    for lost in 0..8 {
        let mut pair = Pair::up();
        let before = child_spi(&pair);
        let now = pair.now();
        pair.left.command(now, rekey_child()).unwrap();
        pair.right.command(now, rekey_child()).unwrap();
        let mut count = 0;
        let mut lets = |_: &Packet| {
            count += 1;
            count != lost
        };
        pair.run_through(&mut lets);
        pair.pass_through(Duration::from_mins(1), &mut lets);
        assert_ne!(child_spi(&pair), before);
        assert_settled(&mut pair);
        if lost == 0 {
            assert_eq!(pair.left.ike.counters().collisions, 1);
            assert_eq!(pair.right.ike.counters().collisions, 1);
        }
    }
}

#[test]
fn both_ends_rekey_the_ike_sa_at_once() {
    for lost in 0..8 {
        let mut pair = Pair::up();
        let before = spis(&pair);
        let now = pair.now();
        pair.left.command(now, rekey_ike()).unwrap();
        pair.right.command(now, rekey_ike()).unwrap();
        let mut count = 0;
        let mut lets = |_: &Packet| {
            count += 1;
            count != lost
        };
        pair.run_through(&mut lets);
        pair.pass_through(Duration::from_mins(4), &mut lets);
        assert_ne!(spis(&pair), before, "lost {lost}");
        pair.right.command(pair.now(), rekey_child()).unwrap();
        pair.run();
        assert_settled(&mut pair);
    }
}

#[test]
fn one_end_rekeys_the_ike_sa_and_the_other_a_child_at_once() {
    for lost in 0..8 {
        let mut pair = Pair::up();
        let (ike, esp) = (spis(&pair), child_spi(&pair));
        let now = pair.now();
        pair.left.command(now, rekey_ike()).unwrap();
        pair.right.command(now, rekey_child()).unwrap();
        let mut count = 0;
        let mut lets = |_: &Packet| {
            count += 1;
            count != lost
        };
        pair.run_through(&mut lets);
        pair.pass_through(Duration::from_mins(2), &mut lets);
        assert_ne!(spis(&pair), ike, "lost {lost}");
        assert_ne!(child_spi(&pair), esp, "lost {lost}");
        assert_settled(&mut pair);
    }
}

#[test]
fn one_end_rekeys_a_child_that_the_other_deletes_at_once() {
    for lost in 0..8 {
        let mut pair = Pair::up();
        let now = pair.now();
        pair.left.command(now, rekey_child()).unwrap();
        pair.right.command(now, Command::Terminate(Target::Child(None, "net".to_owned()))).unwrap();
        let mut count = 0;
        let mut lets = |_: &Packet| {
            count += 1;
            count != lost
        };
        pair.run_through(&mut lets);
        pair.pass_through(Duration::from_mins(4), &mut lets);
        let (left, right) = (pair.left.tunnels(pair.now()), pair.right.tunnels(pair.now()));
        assert_eq!(left[0].children.len(), right[0].children.len(), "lost {lost}");
        pair.assert_same_sas();
    }
}

#[test]
fn a_soft_limit_rekeys_and_a_hard_one_ends() {
    let mut pair = Pair::up();
    let view = pair.left.tunnels(pair.now()).remove(0).children.remove(0);
    let soft = Command::SoftLimit { reqid: view.reqid, spi: view.outbound_spi };
    assert_eq!(pair.left.command(pair.now(), soft.clone()), Ok(1));
    assert_eq!(pair.left.command(pair.now(), soft), Ok(0), "once is enough");
    pair.run();
    assert_settled(&mut pair);
    let view = pair.left.tunnels(pair.now()).remove(0).children.remove(0);
    let hard = Command::HardLimit { reqid: view.reqid, spi: view.inbound_spi };
    assert_eq!(pair.left.command(pair.now(), hard), Ok(1));
    pair.run();
    pair.pass(Duration::from_secs(10));
    pair.assert_up(0);
}

#[test]
fn with_windows_above_one_several_requests_are_outstanding() {
    let wide = |is_left: bool| {
        let mut second = child(is_left);
        "second".clone_into(&mut second.name);
        let selectors = ["10.3.0.0/16", "10.4.0.0/16"].map(|text| vec![text.parse().unwrap()]);
        let [a, b] = selectors;
        (second.local, second.remote) = if is_left { (a, b) } else { (b, a) };
        let children = vec![Arc::new(child(is_left)), Arc::new(second)];
        Connection { window: 8, children, ..connection(is_left) }
    };
    let mut pair = Pair::new(wide(true), wide(false));
    pair.initiate();
    pair.assert_up(2);
    pair.left.command(pair.now(), rekey_child()).unwrap();
    let requests = pair.take_packets();
    assert_eq!(requests.len(), 2);
    // The later one comes first.
    pair.deliver(&requests[1]);
    pair.deliver(&requests[0]);
    pair.run();
    pair.pass(Duration::from_secs(10));
    pair.assert_up(2);
    // And after a rekey of the IKE SA the windows are told again.
    pair.right.command(pair.now(), rekey_ike()).unwrap();
    pair.run();
    pair.left.command(pair.now(), rekey_child()).unwrap();
    assert_eq!(pair.take_packets().len(), 2);
}

#[test]
fn what_has_just_been_made_is_rekeyed_before_the_old_one_is_deleted() {
    let mut pair = Pair::up();
    pair.left.command(pair.now(), rekey_child()).unwrap();
    // Right has answered and waits for the deletion; meanwhile it rekeys what it has just made.
    assert!(pair.take_one() && pair.take_one());
    let new = pair.right.tunnels(pair.now())[0].children.last().unwrap().inbound_spi;
    let deletion = pair.take_packets();
    pair.right.command(pair.now(), Command::RekeyChild(Target::Spi(new))).unwrap();
    pair.run();
    for packet in &deletion {
        pair.deliver(packet);
    }
    pair.run();
    pair.assert_same_sas();
    assert_settled(&mut pair);
}
