//! Both ends against each other.

use super::packet::{FromPeer, FromServer};
use super::{Peer, Server};
use crate::eap::Step;

fn random(octets: &mut [u8]) {
    octets.iter_mut().enumerate().for_each(|(at, octet)| *octet = at as u8);
}

#[track_caller]
fn asked(turn: Step) -> Vec<u8> {
    match turn {
        Step::Ask(data) | Step::AskLater(data) => data,
        Step::Success(_) => panic!("it is over"),
        Step::Failure(problem) => panic!("{problem}"),
    }
}

#[test]
fn both_ends_have_one_key() {
    let (mut server, challenge) = Server::begin(b"moon", Some(b"clientPass"), &mut random);
    let mut peer = Peer::new(b"DOMAIN\\User", b"clientPass");
    let response = peer.handle(&challenge, &mut random).unwrap();
    let shown = asked(server.handle(&response, &mut random));
    let last = peer.handle(&shown, &mut random).unwrap();
    let Step::Success(key) = server.handle(&last, &mut random) else { panic!("no success") };
    assert_eq!(peer.finish().unwrap().octets(), key.octets());
    assert_ne!(key.octets()[..32], [0; 32]);
}

#[test]
fn a_wrong_password_is_refused_as_one_of_nobody_is() {
    for password in [Some(&b"other"[..]), None] {
        let (mut server, challenge) = Server::begin(b"moon", password, &mut random);
        let mut peer = Peer::new(b"User", b"clientPass");
        let response = peer.handle(&challenge, &mut random).unwrap();
        let turn = server.handle(&response, &mut random);
        assert!(matches!(turn, Step::AskLater(_)));
        let refusal = asked(turn);
        assert!(refusal[4..].starts_with(b"E=691 R=1 C="), "{}", refusal.escape_ascii());
        let last = peer.handle(&refusal, &mut random).unwrap();
        assert_eq!(FromPeer::parse(&last), Ok(FromPeer::Failure));
        assert!(matches!(server.handle(&last, &mut random), Step::Failure(_)));
        assert!(peer.problem().contains("wrong name or password"));
        assert!(peer.finish().is_err());
    }
}

#[test]
fn guesses_are_counted() {
    let (mut server, mut question) = Server::begin(b"moon", Some(b"clientPass"), &mut random);
    for guess in 1..=3 {
        // The new challenge stands in the refusal.
        let challenge: [u8; 16] = match FromServer::parse(&question).unwrap() {
            FromServer::Challenge { challenge, .. } => *challenge,
            FromServer::Failure { message } => hex::decode(&message[12..44]).unwrap().try_into().unwrap(),
            FromServer::Success { .. } => panic!("a wrong password is right"),
        };
        let asks = super::packet::challenge(1, &challenge, b"moon");
        let response = Peer::new(b"User", b"wrong").handle(&asks, &mut random).unwrap();
        let Step::AskLater(refusal) = server.handle(&response, &mut random) else { panic!("no refusal") };
        let retry: &[u8] = if guess < 3 { b"E=691 R=1" } else { b"E=691 R=0" };
        assert!(refusal[4..].starts_with(retry));
        question = refusal;
    }
    let asks = super::packet::challenge(1, &server_challenge(&question), b"moon");
    let right = Peer::new(b"User", b"clientPass").handle(&asks, &mut random).unwrap();
    assert!(matches!(server.handle(&right, &mut random), Step::Failure(_)), "a fourth password was tried");
}

fn server_challenge(refusal: &[u8]) -> [u8; 16] {
    hex::decode(&refusal[16..48]).unwrap().try_into().unwrap()
}

#[test]
fn a_second_password_may_be_right() {
    let (mut server, challenge) = Server::begin(b"moon", Some(b"clientPass"), &mut random);
    let wrong = Peer::new(b"User", b"wrong").handle(&challenge, &mut random).unwrap();
    let refusal = asked(server.handle(&wrong, &mut random));
    let asks = super::packet::challenge(1, &server_challenge(&refusal), b"moon");
    let right = Peer::new(b"User", b"clientPass").handle(&asks, &mut random).unwrap();
    assert!(matches!(server.handle(&right, &mut random), Step::Ask(_)));
}

#[test]
fn a_server_that_does_not_know_the_password_is_not_believed() {
    let mut peer = Peer::new(b"User", b"clientPass");
    let challenge = super::packet::challenge(1, &[7; 16], b"moon");
    peer.handle(&challenge, &mut random).unwrap();
    let lie = super::packet::success(1, &[0; 20]);
    assert!(peer.handle(&lie, &mut random).unwrap_err().contains("without knowing it"));
    assert!(peer.finish().is_err());
}

/// strongSwan says it outside of EAP.
#[test]
fn who_gives_up_has_a_reason() {
    let (mut server, challenge) = Server::begin(b"moon", Some(b"clientPass"), &mut random);
    assert!(server.given_up().contains("look at its log"));
    let right = Peer::new(b"User", b"clientPass").handle(&challenge, &mut random).unwrap();
    server.handle(&right, &mut random);
    assert!(server.given_up().contains("does not believe that we know its password"));
    let (mut server, challenge) = Server::begin(b"moon", Some(b"clientPass"), &mut random);
    let wrong = Peer::new(b"User", b"wrong").handle(&challenge, &mut random).unwrap();
    server.handle(&wrong, &mut random);
    assert!(server.given_up().contains("the password was wrong once"));
}

#[test]
fn success_cannot_come_first() {
    assert!(Peer::new(b"User", b"clientPass").finish().is_err());
    let (mut server, _) = Server::begin(b"moon", Some(b"clientPass"), &mut random);
    assert!(matches!(server.handle(super::packet::SUCCESS_RESPONSE, &mut random), Step::Failure(_)));
}

#[test]
fn nothing_secret_is_written() {
    let (server, _) = Server::begin(b"moon", Some(b"clientPass"), &mut random);
    let text = format!("{server:?} {:?}", Peer::new(b"User", b"clientPass"));
    assert!(!text.contains("challenge") && !text.contains("password") && !text.contains("Pass"), "{text}");
}
