//! Servers that are there, absent, slow, lying.

use md5::{Digest, Md5};

use super::fake::{Manner, Stage, eap, hide, respond, secret, server};
use super::seconds;
use crate::access::{Answer, Thread};
use crate::attribute::{Attributes, Kind};
use crate::client::{Happening, Service};
use crate::packet::{Code, Packet};
use crate::secret::Demand;

fn challenge(stage: &mut Stage) -> Thread {
    let (port, request) = stage.take();
    let mut attributes = eap(&[1, 2, 0, 5, 21]);
    attributes.add(Kind::STATE, b"state");
    stage.receive(port, &respond(&request, Code::ACCESS_CHALLENGE, &attributes, Manner::Right));
    match stage.answers.pop_last() {
        Some((_, Answer::Challenge { thread, eap })) if eap == [1, 2, 0, 5, 21] => thread,
        other => panic!("no challenge: {other:?}"),
    }
}

#[test]
fn a_conversation_keeps_its_state_and_ends_with_the_key() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    stage.ask(1, None);
    let thread = challenge(&mut stage);
    stage.ask(2, Some(thread));
    let (port, request) = stage.take();
    let packet = Packet::parse(&request).unwrap();
    assert_eq!(packet.attributes().next().map(|first| first.kind), Some(Kind::MESSAGE_AUTHENTICATOR));
    assert_eq!(packet.first(Kind::STATE), Some(b"state".as_slice()));
    assert_eq!(packet.first(Kind::NAS_IDENTIFIER), Some(b"gateway".as_slice()));
    let mut attributes = eap(&[3, 3, 0, 4]);
    for (kind, octet) in [(16, 0x55), (17, 0xaa)] {
        let hidden = hide(&packet.authenticator(), [0x80, kind], &[octet; 32]);
        let vendor = [&[0, 0, 1, 55, kind, hidden.len() as u8 + 2], hidden.as_slice()].concat();
        attributes.add(Kind::VENDOR_SPECIFIC, &vendor);
    }
    attributes
        .add(Kind::CLASS, b"gold")
        .add_number(Kind::SESSION_TIMEOUT, 3600)
        .add(Kind::FRAMED_IP_ADDRESS, &[10, 3, 0, 7])
        .add(Kind::USER_NAME, b"alice@example.org");
    stage.receive(port, &respond(&request, Code::ACCESS_ACCEPT, &attributes, Manner::Right));
    let Some(Answer::Accept(accept)) = stage.answers.remove(&2) else { panic!("not accepted") };
    assert_eq!(accept.key.as_ref().map(|key| key.to_vec()), Some([[0xaa; 32], [0x55; 32]].concat()));
    assert_eq!(accept.eap, Some(vec![3, 3, 0, 4]));
    assert_eq!((accept.class, accept.session_timeout), (vec![b"gold".to_vec()], Some(seconds(3600))));
    assert_eq!(accept.addresses, ["10.3.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(accept.user, Some(b"alice@example.org".to_vec()));
    assert_eq!(stage.client.next_timeout(), None, "nothing is left of it");
}

/// The Message-Authenticator of what we send, by the same rule as for answers (RFC 3579 section 3.2).
#[test]
fn questions_are_signed() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    stage.ask(9, None);
    let (_, mut request) = stage.take();
    let authenticator = Packet::parse(&request).unwrap().authenticator();
    // An answer with these octets would have this authenticator.
    let hash: [u8; 16] =
        Md5::new().chain_update(&request).chain_update(super::fake::SECRET).finalize().into();
    request[4..20].copy_from_slice(&hash);
    let packet = Packet::parse(&request).unwrap();
    assert_eq!(secret().check_response(&packet, &authenticator, Demand::Mac), Ok(()));
}

#[test]
fn forged_answers_are_dropped_and_the_true_one_is_taken() {
    for (manner, counter) in [
        (Manner::WrongSecret, "bad_authenticators"),
        (Manner::NoMac, "unsigned"),
        (Manner::WrongMac, "bad_authenticators"),
        (Manner::TwoMacs, "bad_authenticators"),
    ] {
        let mut stage = Stage::new(vec![server("a", 0)]);
        stage.ask(1, None);
        let (port, request) = stage.take();
        let accept = eap(&[3, 1, 0, 4]);
        stage.receive(port, &respond(&request, Code::ACCESS_ACCEPT, &accept, manner));
        assert!(stage.answers.is_empty());
        assert_eq!(stage.counter(0, counter), 1);
        assert!(matches!(&stage.happened[..], [Happening::Forged(name, _)] if &**name == "a"));
        stage.receive(port, &respond(&request, Code::ACCESS_REJECT, &eap(&[4, 1, 0, 4]), Manner::Right));
        assert!(matches!(stage.answers[&1], Answer::Reject { .. }));
    }
}

#[test]
fn an_absent_server_is_asked_again_and_then_the_next_one() {
    let mut stage = Stage::new(vec![server("low", 1), server("high", 5)]);
    stage.ask(1, None);
    stage.pass(seconds(13));
    assert_eq!(stage.sent.len(), 3, "one question and two repetitions, after 2 and 4 s");
    assert!(stage.sent.iter().all(|(port, octets)| port.server == 1 && *octets == stage.sent[0].1));
    stage.sent.clear();
    stage.pass(seconds(1));
    let (port, request) = stage.take();
    assert_eq!(port.server, 0);
    assert_eq!(stage.happened, [Happening::Dead("high".into(), Service::Authentication)]);
    stage.receive(port, &respond(&request, Code::ACCESS_REJECT, &eap(&[4, 1, 0, 4]), Manner::Right));
    assert!(matches!(stage.answers[&1], Answer::Reject { .. }));
    // The dead one is passed over for a while.
    stage.ask(2, None);
    assert_eq!(stage.take().0.server, 0);
    stage.pass(seconds(60));
    stage.ask(3, None);
    assert!(stage.sent.iter().any(|(port, _)| port.server == 1));
}

#[test]
fn no_server_at_all_costs_the_one_who_asks() {
    let mut stage = Stage::new(vec![server("a", 0), server("b", 0)]);
    stage.ask(1, None);
    stage.pass(seconds(28));
    assert!(matches!(&stage.answers[&1], Answer::Failed(problem) if problem.contains("no RADIUS server")));
    assert_eq!((stage.counter(0, "timeouts"), stage.counter(1, "timeouts")), (1, 1));
    assert_eq!(stage.client.next_timeout(), None);
    // All are dead, and yet somebody is asked.
    stage.sent.clear();
    stage.ask(2, None);
    assert_eq!(stage.sent.len(), 1);
}

#[test]
fn a_conversation_does_not_change_servers() {
    let mut stage = Stage::new(vec![server("a", 1), server("b", 0)]);
    stage.ask(1, None);
    let thread = challenge(&mut stage);
    stage.ask(2, Some(thread));
    stage.pass(seconds(14));
    assert!(stage.sent.iter().all(|(port, _)| port.server == 0));
    assert!(matches!(stage.answers[&2], Answer::Failed(_)));
}

#[test]
fn who_waits_for_a_server_that_dies_goes_to_the_next_at_once() {
    let mut stage = Stage::new(vec![server("a", 1), server("b", 0)]);
    stage.ask(1, None);
    stage.pass(seconds(13));
    stage.ask(2, None);
    stage.sent.clear();
    stage.pass(seconds(2));
    let servers: Vec<_> = stage.sent.iter().map(|(port, _)| port.server).collect();
    assert_eq!(servers, [1, 1], "both, the second one after a single question to the dead server");
}

#[test]
fn a_slow_answer_is_taken_and_a_second_one_is_not() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    stage.ask(1, None);
    stage.pass(seconds(5));
    let (port, request) = stage.take();
    let answer = respond(&request, Code::ACCESS_REJECT, &eap(&[4, 1, 0, 4]), Manner::Right);
    stage.receive(port, &answer);
    assert!(matches!(stage.answers[&1], Answer::Reject { .. }));
    stage.receive(port, &answer);
    assert_eq!(stage.counter(0, "unexpected"), 1);
}

#[test]
fn a_port_has_256_questions_and_the_next_one_waits() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    (0..300).for_each(|token| stage.ask(token, None));
    assert_eq!(stage.sent.len(), 256);
    let identifiers: std::collections::BTreeSet<u8> =
        stage.sent.iter().map(|(_, octets)| octets[1]).collect();
    assert_eq!(identifiers.len(), 256);
    let (port, request) = stage.take();
    stage.receive(port, &respond(&request, Code::ACCESS_REJECT, &eap(&[4, 1, 0, 4]), Manner::Right));
    assert_eq!(stage.sent.len(), 256, "the next one goes");
    let mut several = server("a", 0);
    several.sockets = 2;
    let mut stage = Stage::new(vec![several]);
    (0..300).for_each(|token| stage.ask(token, None));
    assert_eq!(stage.sent.len(), 300);
}

#[test]
fn nonsense_changes_nothing() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    stage.ask(1, None);
    let (port, request) = stage.take();
    stage.receive(port, &[]);
    stage.receive(port, &request[..19]);
    stage.receive(port, &respond(&request, Code::ACCOUNTING_RESPONSE, &Attributes::default(), Manner::Right));
    assert!(stage.answers.is_empty());
    assert_eq!(stage.counter(0, "malformed"), 3);
    // A challenge that says nothing ends the conversation.
    stage.receive(port, &respond(&request, Code::ACCESS_CHALLENGE, &Attributes::default(), Manner::Right));
    assert!(matches!(stage.answers[&1], Answer::Failed(_)));
}

#[test]
fn too_long_questions_are_refused_at_once() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    let access =
        crate::access::Access { attributes: Attributes::default(), eap: vec![0; 4096], thread: None };
    stage.client.ask(stage.now, 1, access, [0; 16]);
    stage.drain();
    assert!(stage.sent.is_empty() && matches!(stage.answers[&1], Answer::Failed(_)));
}

#[test]
fn other_servers_take_over_what_waits() {
    let mut stage = Stage::new(vec![server("a", 1)]);
    stage.ask(1, None);
    let thread = challenge(&mut stage);
    stage.ask(2, Some(thread));
    stage.ask(3, None);
    stage.sent.clear();
    stage.client.reconfigure(stage.now, super::fake::settings(vec![server("b", 0)]));
    stage.drain();
    assert!(matches!(stage.answers[&2], Answer::Failed(_)));
    assert_eq!(stage.sent.len(), 1);
}
