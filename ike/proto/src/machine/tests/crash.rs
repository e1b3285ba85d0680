//! Peers that have lost their IKE SAs (RFC 6290).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::pair::{Packet, Pair, configuration, connection, secrets};
use super::side::Side;
use crate::configuration::{Child, Configuration, Connection, EndAction};
use crate::crypto::Role;
use crate::host::{Command, DownReason, Event, Path, Target};
use crate::machine::{Restoring, TunnelView};
use crate::wire::{self, ExchangeType, Flags, Header, Notify, NotifyType, Payload, ProtocolId};

fn making(connection: Connection) -> Configuration {
    Configuration { crash_detection: true, ..configuration(connection) }
}

/// Both give each other tokens.
fn pair() -> Pair {
    let mut pair =
        Pair::with(making(connection(true)), making(connection(false)), secrets("secret"), secrets("secret"));
    pair.initiate();
    pair.assert_up(1);
    pair
}

/// One end begins anew with nothing but its key; its table is empty.
fn crash(pair: &mut Pair, is_left: bool) {
    let (address, seed) = if is_left { (super::pair::LEFT, 1) } else { (super::pair::RIGHT, 2) };
    let mut new = Side::new(seed, address, making(connection(is_left)), secrets("secret"));
    new.host.advance(1 << 20);
    *(if is_left { &mut pair.left } else { &mut pair.right }) = new;
}

fn is_crash(event: &Event) -> bool {
    matches!(event, Event::IkeDown { reason: DownReason::Crashed, .. })
}

fn target() -> Target {
    Target::Connection("net".to_owned())
}

#[test]
fn a_peer_that_lost_everything_is_known_at_its_first_word() {
    for crashed_left in [true, false] {
        for rekeyed in [None, Some(true), Some(false)] {
            let mut pair = pair();
            if let Some(by_left) = rekeyed {
                let now = pair.now();
                let side = if by_left { &mut pair.left } else { &mut pair.right };
                side.command(now, Command::RekeyIke(target())).unwrap();
                pair.run();
                pair.pass(Duration::from_secs(20));
            }
            crash(&mut pair, crashed_left);
            let now = pair.now();
            let living = if crashed_left { &mut pair.right } else { &mut pair.left };
            living.command(now, Command::RekeyChild(target())).unwrap();
            pair.run();
            let (living, dead) =
                if crashed_left { (&pair.right, &pair.left) } else { (&pair.left, &pair.right) };
            assert!(living.events.iter().any(is_crash), "{crashed_left} {rekeyed:?} {:?}", living.events);
            assert!(living.tunnels(now).is_empty() && living.inbound.is_empty());
            assert_eq!(living.ike.counters().crashes_detected, 1);
            assert_eq!(dead.ike.counters().crash_tokens_sent, 1);
        }
    }
}

#[test]
fn what_is_to_stand_is_set_up_anew() {
    let mut restarting: Connection = connection(true);
    let child = Child { dpd_action: EndAction::Start, ..(*restarting.children[0]).clone() };
    restarting.children = vec![Arc::new(child)];
    let mut pair =
        Pair::with(making(restarting), making(connection(false)), secrets("secret"), secrets("secret"));
    pair.initiate();
    crash(&mut pair, false);
    pair.left.command(pair.now(), Command::RekeyChild(target())).unwrap();
    pair.run();
    pair.assert_up(1);
}

fn presented(view: &TunnelView, tokens: &[Vec<u8>], is_response: bool) -> Vec<u8> {
    let (initiator_spi, responder_spi) = view.spis;
    let flags = Flags { initiator: false, response: is_response };
    let exchange = ExchangeType::INFORMATIONAL;
    let header = Header { initiator_spi, responder_spi, exchange, flags, message_id: 7 };
    let token = |data: &Vec<u8>| {
        let kind = NotifyType::QUICK_CRASH_DETECTION;
        Payload::Notify(Notify { protocol: ProtocolId::IKE, spi: Vec::new(), kind, data: data.clone() })
    };
    let hint = Payload::Notify(Notify::new(NotifyType::INVALID_IKE_SPI, Vec::new()));
    let payloads: Vec<_> = std::iter::once(hint).chain(tokens.iter().map(token)).collect();
    wire::emit(&header, &payloads)
}

/// The peer's true token, as it makes it.
fn token_of_right(view: &TunnelView) -> Vec<u8> {
    let secret = crate::crypto::WrapKey::new([2; 32]).crash_secret();
    secret.token(Role::Responder, view.spis.0, view.spis.1).to_vec()
}

#[test]
fn forged_tokens_end_nothing() {
    let mut pair = pair();
    let view = pair.left.established(pair.now())[0].clone();
    let now = pair.now();
    let path =
        Path { local: view.path.local, remote: SocketAddr::from(([198, 51, 100, 66], 4500)), marked: true };
    let right = token_of_right(&view);
    let own = crate::crypto::WrapKey::new([1; 32]).crash_secret();
    let own = own.token(Role::Initiator, view.spis.0, view.spis.1);
    let swapped = TunnelView { spis: (view.spis.1, view.spis.0), ..view.clone() };
    for forged in [vec![0; 32], right[..31].to_vec(), [&right[..], &[0]].concat(), own.to_vec(), Vec::new()] {
        for is_response in [true, false] {
            pair.left.datagram(now, path, &presented(&view, std::slice::from_ref(&forged), is_response));
        }
    }
    pair.left.datagram(now, path, &presented(&swapped, std::slice::from_ref(&right), true));
    let many: Vec<Vec<u8>> = std::iter::repeat_n(vec![0; 32], 40).chain([right.clone()]).collect();
    pair.left.datagram(now, path, &presented(&view, &many, true));
    assert!(!pair.left.events.iter().any(is_crash) && pair.left.sent.is_empty());
    assert_eq!(pair.left.ike.counters().crash_tokens_refused, 12);
    pair.assert_up(1);
    // The fourth of four is a right one, and comes from another gateway of the cluster.
    let four = [vec![0; 32], vec![1; 16], vec![2; 128], right];
    pair.left.datagram(now, path, &presented(&view, &four, true));
    assert!(pair.left.events.iter().any(is_crash));
    assert!(pair.left.sent.is_empty(), "it is deleted without a word");
}

#[test]
fn no_token_is_told_of_a_living_tunnel() {
    let mut pair = pair();
    let view = pair.left.established(pair.now())[0].clone();
    let now = pair.now();
    // Sealed by somebody else, to the SPIs of the tunnel.
    pair.left.command(now, Command::RekeyChild(target())).unwrap();
    let mut packet: Packet = pair.take_packets().remove(0);
    let last = packet.octets.len() - 1;
    packet.octets[last] ^= 1;
    pair.deliver(&packet);
    assert!(pair.right.sent.is_empty());
    // Frozen, or on another gateway.
    let name = view.name.to_string();
    let name_right = pair.right.established(now)[0].name.to_string();
    pair.right.command(now, Command::Freeze(name_right.clone())).unwrap();
    packet.octets[last] ^= 1;
    pair.deliver(&packet);
    let context = pair.right.contexts[&name_right].clone();
    pair.right.command(now, Command::Release(name_right.clone())).unwrap();
    pair.now += Duration::from_secs(5);
    pair.deliver(&packet);
    assert!(pair.right.sent.is_empty());
    assert_eq!(pair.right.ike.counters().crash_tokens_sent, 0);
    // It comes back.
    let now = pair.now();
    pair.right.ike.restore(now, &context, Restoring::Move, &mut pair.right.host).unwrap();
    pair.right.drain();
    assert_eq!(pair.left.established(now)[0].name.to_string(), name);
}

/// The SPIs of an IKE SA that lives, under a flag that makes the peer's one ours, of which nothing is known.
#[test]
fn no_token_is_got_by_telling_the_roles_wrong() {
    let mut pair = pair();
    let view = pair.left.established(pair.now())[0].clone();
    let now = pair.now();
    pair.left.command(now, Command::RekeyChild(target())).unwrap();
    let mut packet: Packet = pair.take_packets().remove(0);
    // The flag I of RFC 7296 section 3.1. To right the SPI of left looks like one of a segment of its own.
    pair.right.host.segment = pair.left.host.segment;
    packet.octets[19] ^= 0x08;
    pair.deliver(&packet);
    let answers: Vec<_> = pair.right.sent.drain(..).collect();
    assert_eq!(pair.right.ike.counters().crash_tokens_sent, 1, "of an IKE SA that nobody has");
    let right = token_of_right(&view);
    assert!(!answers.iter().any(|sent| sent.1.windows(right.len()).any(|octets| octets == right)));
    for answer in answers {
        let path = Path { remote: SocketAddr::from(([198, 51, 100, 66], 4500)), ..view.path };
        pair.left.datagram(now, path, &answer.1);
    }
    assert!(!pair.left.events.iter().any(is_crash));
    pair.left.established(now);
}

#[test]
fn tokens_are_told_at_a_bounded_rate_and_only_if_configured() {
    let mut pair = pair();
    let now = pair.now();
    pair.left.command(now, Command::RekeyChild(target())).unwrap();
    let packet = pair.take_packets().remove(0);
    crash(&mut pair, false);
    for _ in 0..1000 {
        pair.deliver(&packet);
    }
    assert_eq!((pair.right.sent.len(), pair.right.ike.counters().crash_tokens_sent), (1, 1));
    let mut plain = Pair::up();
    let now = plain.now();
    assert!(plain.left.established(now)[0].extensions.iter().all(|word| *word != "crash-detection"));
    plain.left.command(now, Command::RekeyChild(target())).unwrap();
    let packet = plain.take_packets().remove(0);
    plain.right = Side::new(2, super::pair::RIGHT, configuration(connection(false)), secrets("secret"));
    plain.deliver(&packet);
    assert_eq!((plain.right.sent.len(), plain.right.ike.counters().crash_tokens_sent), (1, 0));
}

#[test]
fn what_is_kept_of_a_token_survives_a_restart_and_is_no_token() {
    let pair = pair();
    let now = pair.now();
    let view = pair.left.established(now)[0].clone();
    let token = token_of_right(&view);
    let context = pair.left.contexts.values().next().unwrap().clone();
    assert!(!context.windows(32).any(|octets| octets == token));
    let mut new = Side::new(1, super::pair::LEFT, making(connection(true)), secrets("secret"));
    new.host.advance(1 << 20);
    new.ike.restore(now, &context, Restoring::Restart, &mut new.host).unwrap();
    new.drain();
    new.datagram(now, view.path, &presented(&view, &[token], true));
    assert!(new.events.iter().any(is_crash));
}
