//! Additional key exchanges of SAs that CREATE_CHILD_SA makes (RFC 9370 section 2.2.4).

use std::sync::Arc;
use std::time::Duration;

use super::pair::{Packet, Pair, child, configuration, connection, secrets};
use crate::configuration::{Childless, Connection};
use crate::host::{Command, Target};
use crate::machine::Restoring;
use crate::wire::{ExchangeType, Header};

fn hybrid(is_left: bool) -> Connection {
    let mut child = child(is_left);
    child.esp_proposals = vec!["aes128gcm16-x25519-ke1_mlkem768-ke2_ecp384".parse().unwrap()];
    Connection {
        ike_proposals: vec!["aes128gcm16-prfsha256-x25519-ke1_mlkem768".parse().unwrap()],
        children: vec![Arc::new(child)],
        ..connection(is_left)
    }
}

fn pair() -> Pair {
    let mut pair = Pair::new(hybrid(true), hybrid(false));
    pair.initiate();
    pair.assert_up(1);
    pair
}

fn rekey(pair: &mut Pair, is_left: bool, command: fn(Target) -> Command) {
    let now = pair.now();
    let side = if is_left { &mut pair.left } else { &mut pair.right };
    side.command(now, command(Target::Connection("net".to_owned()))).unwrap();
}

/// What both rekeyings replace.
fn spis(pair: &Pair) -> ((u64, u64), u32) {
    let tunnel = &pair.left.tunnels(pair.now())[0];
    (tunnel.spis, tunnel.children[0].inbound_spi)
}

#[track_caller]
fn assert_settled(pair: &mut Pair, what: &str) {
    pair.pass(Duration::from_mins(4));
    pair.assert_up(1);
    for side in [&pair.left, &pair.right] {
        assert_eq!((side.inbound.len(), side.outbound.len(), side.policies.len()), (1, 1, 1), "{what}");
    }
}

fn suite(pair: &Pair) -> String {
    pair.right.established(pair.now())[0].children[0].suite.to_string()
}

/// Another process in the place of one end: its table stays, its contexts are restored.
fn restart(pair: &mut Pair, is_left: bool) {
    pair.replace(is_left, Restoring::Restart, configuration(hybrid(is_left)), secrets("secret"));
}

#[test]
fn either_end_rekeys_with_all_key_exchanges() {
    for is_left in [true, false] {
        for command in [Command::RekeyChild as fn(Target) -> Command, Command::RekeyIke] {
            let mut pair = pair();
            let before = spis(&pair);
            rekey(&mut pair, is_left, command);
            let mut exchanges = Vec::new();
            pair.run_through(|packet| {
                exchanges.push(Header::parse(&packet.octets).unwrap().exchange);
                true
            });
            let count = exchanges.iter().filter(|e| **e == ExchangeType::IKE_FOLLOWUP_KE).count();
            assert!(count >= 2, "{exchanges:?}");
            pair.assert_up(1);
            assert_ne!(spis(&pair), before);
            assert_settled(&mut pair, "rekeyed");
            assert_eq!(pair.left.problems(), [""; 0]);
        }
    }
}

#[test]
fn a_new_child_has_them_as_well() {
    let mut pair = Pair::new(Connection { childless: Childless::Force, ..hybrid(true) }, hybrid(false));
    pair.initiate();
    pair.assert_up(1);
    assert_eq!(suite(&pair), "aes128gcm16-x25519-ke1_mlkem768-ke2_ecp384");
}

#[test]
fn lost_datagrams_and_restarts_at_any_moment_delay_it_only() {
    for command in [Command::RekeyChild as fn(Target) -> Command, Command::RekeyIke] {
        for step in 0..14 {
            let mut pair = pair();
            let before = spis(&pair);
            rekey(&mut pair, true, command);
            let mut number = 0;
            let mut lets = |_: &Packet| {
                number += 1;
                number != step + 1
            };
            pair.run_through(&mut lets);
            pair.pass_through(Duration::from_secs(30), &mut lets);
            assert_ne!(spis(&pair), before, "step {step}");
            assert_settled(&mut pair, &format!("lost {step}"));
        }
    }
}

#[test]
fn after_a_restart_at_any_moment_it_goes_on_or_is_begun_anew() {
    for command in [Command::RekeyChild as fn(Target) -> Command, Command::RekeyIke] {
        for step in 0..14 {
            for is_left in [true, false] {
                let mut pair = pair();
                let before = spis(&pair);
                rekey(&mut pair, true, command);
                for _ in 0..step {
                    pair.take_one();
                }
                restart(&mut pair, is_left);
                pair.run();
                pair.pass(Duration::from_mins(1));
                assert_ne!(spis(&pair), before, "step {step}, {is_left}");
                assert_settled(&mut pair, &format!("restart {step}, {is_left}"));
            }
        }
    }
}

/// Both sides drop what is outstanding then (RFC 6311 section 5.1), and nothing half made is left with either.
#[test]
fn after_an_agreement_about_message_ids_at_any_moment_it_is_begun_anew() {
    for step in 0..14 {
        for is_left in [true, false] {
            let mut pair = pair();
            let before = spis(&pair);
            rekey(&mut pair, true, Command::RekeyChild);
            for _ in 0..step {
                pair.take_one();
            }
            rekey(&mut pair, is_left, Command::Synchronize);
            pair.run();
            pair.pass(Duration::from_mins(1));
            assert_ne!(spis(&pair), before, "step {step}, {is_left}");
            assert_settled(&mut pair, &format!("agreed {step}, {is_left}"));
        }
    }
}

#[test]
fn rekeyings_at_once_leave_one_in_whatever_order_they_get_ahead() {
    for command in [Command::RekeyChild as fn(Target) -> Command, Command::RekeyIke] {
        let mut collisions = 0;
        for step in 0..16 {
            let mut pair = pair();
            rekey(&mut pair, true, command);
            for _ in 0..step {
                pair.take_one();
            }
            rekey(&mut pair, false, command);
            // One end's datagrams are slow for a while.
            for _ in 0..step % 5 {
                let packets = pair.take_packets();
                let (slow, fast): (Vec<_>, Vec<_>) =
                    packets.into_iter().partition(|packet| packet.to_right == (step % 2 == 0));
                for packet in fast.iter().chain(&slow) {
                    pair.deliver(packet);
                }
            }
            pair.run();
            assert_settled(&mut pair, &format!("at once, step {step}"));
            collisions += pair.left.ike.counters().collisions + pair.right.ike.counters().collisions;
        }
        assert!(collisions >= 4, "{collisions} are few");
    }
}

#[test]
fn what_is_not_gone_on_with_is_forgotten_and_its_key_exchange_unknown() {
    let mut pair = pair();
    rekey(&mut pair, true, Command::RekeyChild);
    // CREATE_CHILD_SA is answered; the IKE_FOLLOWUP_KE after it comes too late.
    pair.take_one();
    pair.take_one();
    let late = pair.take_packets();
    assert_eq!(Header::parse(&late[0].octets).unwrap().exchange, ExchangeType::IKE_FOLLOWUP_KE);
    pair.pass_through(Duration::from_secs(1), |_| false);
    let before = pair.now;
    pair.now += Duration::from_mins(4);
    let now = pair.now();
    pair.right.timeout(now);
    pair.now = before;
    for packet in &late {
        pair.deliver(packet);
    }
    pair.run();
    let spi = spis(&pair).1;
    pair.pass(Duration::from_secs(5));
    assert_ne!(spis(&pair).1, spi, "begun anew");
    assert_settled(&mut pair, "begun anew");
}
