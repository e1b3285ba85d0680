//! Conversations of both ends, and octets of neither.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{Code, Means, Packet, Peer, Reply, Server, Turn, Type};
use crate::auth::{Credentials, CredentialsBuilder};
use crate::configuration::{EapMethod, EapUser, RemoteAuthentication, RemoteMethod, Revocation};
use crate::identity::Identity;

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn credentials(user: &str, password: &str) -> Arc<Credentials> {
    let mut builder = CredentialsBuilder::default();
    let password = Zeroizing::new(password.as_bytes().to_vec());
    builder.add_password("eap-test", vec![id(user)], password).unwrap();
    Arc::new(builder.build())
}

fn remote(identity: &str, eap: Option<&str>) -> RemoteAuthentication {
    RemoteAuthentication {
        method: RemoteMethod::Eap(EapMethod::MsChapV2),
        identity: id(identity),
        authorities: vec![],
        certificates: vec![],
        revocation: Revocation::Relaxed,
        eap_identity: eap.map(id),
    }
}

/// Works with these credentials and a fixed randomness.
fn with<T>(credentials: &Arc<Credentials>, work: impl FnOnce(&mut Means) -> T) -> T {
    let random = &mut |octets: &mut [u8]| octets.fill(7);
    work(&mut Means { credentials, random, unix: Duration::from_secs(2_000_000_000) })
}

fn server(credentials: &Arc<Credentials>, remote: RemoteAuthentication, claimed: &str) -> (Server, Vec<u8>) {
    let method = EapMethod::MsChapV2;
    with(credentials, |means| {
        Server::begin(means, method, (id("moon.test"), &[]), remote, id(claimed)).unwrap()
    })
}

fn peer(identity: &str) -> Peer {
    let user = EapUser {
        method: EapMethod::MsChapV2,
        identity: Some(id(identity)),
        certificates: vec![],
        server: None,
    };
    Peer::new(user, &id("carol.test"), id("moon.test"), remote("%any", None))
}

/// The conversation to its end: who it is, or why not.
fn talk(
    (mut server, mut request): (Server, Vec<u8>),
    ours: &Arc<Credentials>,
    mut peer: Peer,
    theirs: &Arc<Credentials>,
) -> Result<Identity, String> {
    let mut key = None;
    for _ in 0..20 {
        let answer = match with(theirs, |means| peer.handle(means, &request)) {
            Reply::Answer(answer) => answer,
            Reply::Success(_) => panic!("too early"),
            Reply::Failure(problem) | Reply::Refusal(problem) => return Err(problem),
        };
        request = match with(ours, |means| server.handle(means, &answer)) {
            Turn::Ask(request) | Turn::AskLater(request) => request,
            Turn::Success { packet, user, key: theirs_too } => {
                assert!(key.is_none());
                key = theirs_too;
                let Reply::Success(Some(ours)) = with(theirs, |means| peer.handle(means, &packet)) else {
                    panic!("no key");
                };
                assert_eq!(key.unwrap().octets(), ours.octets());
                return Ok(user);
            }
            Turn::Failure { packet, problem } => {
                assert!(matches!(with(theirs, |means| peer.handle(means, &packet)), Reply::Failure(_)));
                return Err(problem);
            }
        };
    }
    panic!("no end");
}

#[test]
fn a_user_is_found_by_its_password() {
    let credentials = credentials("carol", "secret");
    for (pattern, expected) in [(Some("%any"), "carol"), (Some("carol"), "carol")] {
        let began = server(&credentials, remote("%any", pattern), "192.0.2.9");
        let user = talk(began, &credentials, peer("carol"), &credentials);
        assert_eq!(user, Ok(id(expected)));
    }
    // Without eap_id, who it is in IKE is who it is.
    let began = server(&credentials, remote("%any", None), "carol");
    assert_eq!(talk(began, &credentials, peer("carol"), &credentials), Ok(id("carol")));
}

#[test]
fn another_password_and_another_user_are_refused() {
    let (ours, theirs) = (credentials("carol", "secret"), credentials("carol", "other"));
    let began = server(&ours, remote("%any", Some("%any")), "192.0.2.9");
    let problem = talk(began, &ours, peer("carol"), &theirs).unwrap_err();
    assert!(problem.contains("\"carol\"") && problem.contains("password was wrong"), "{problem}");
    let (ours, theirs) = (credentials("carol", "secret"), credentials("dave", "secret"));
    let began = server(&ours, remote("%any", Some("%any")), "192.0.2.9");
    let problem = talk(began, &ours, peer("dave"), &theirs).unwrap_err();
    assert!(problem.contains("no secret is of that user"), "{problem}");
}

#[test]
fn a_user_is_who_the_configuration_allows() {
    let credentials = credentials("dave@b.test", "secret");
    for (identity, eap, is_allowed) in [
        ("%any", "*@b.test", true),
        ("%any", "*@a.test", false),
        // What it calls itself in IKE proves nothing, so `id` holds for the user as well.
        ("*@a.test", "%any", false),
        ("*@b.test", "%any", true),
        ("carol@a.test", "*@b.test", true),
    ] {
        let began = server(&credentials, remote(identity, Some(eap)), "carol@a.test");
        let found = talk(began, &credentials, peer("dave@b.test"), &credentials);
        assert_eq!(found.is_ok(), is_allowed, "{identity} {eap} {found:?}");
    }
}

#[test]
fn nobody_is_called_by_a_pattern() {
    let credentials = credentials("%any", "secret");
    for name in ["%any", "*@b.test", "10.0.0.0/8", ""] {
        let (mut server, request) = server(&credentials, remote("%any", Some("%any")), "192.0.2.9");
        let identifier = Packet::parse(&request).unwrap().identifier;
        let answer = super::packet::response(identifier, Type::IDENTITY, name.as_bytes());
        let turn = with(&credentials, |means| server.handle(means, &answer));
        assert!(matches!(turn, Turn::Failure { .. }), "{name}");
    }
}

#[test]
fn users_may_have_unusual_names_and_no_impossible_ones() {
    for name in ["DOMAIN\\carol", "Zoë", "two words", "carol@a@b", "C=CH, O=x, CN=carol", "%carol"] {
        let credentials = credentials(name, "secret");
        let began = server(&credentials, remote("%any", Some("%any")), "192.0.2.9");
        assert_eq!(talk(began, &credentials, peer(name), &credentials), Ok(id(name)));
    }
    let credentials = credentials("%any", "secret");
    for name in [&b"\xff\xfe"[..], b"a\0b", b"a\nb", b"a\x1b[31m", &[b'a'; 254]] {
        let (mut server, request) = server(&credentials, remote("%any", Some("%any")), "192.0.2.9");
        let identifier = Packet::parse(&request).unwrap().identifier;
        let answer = super::packet::response(identifier, Type::IDENTITY, name);
        let Turn::Failure { problem, .. } = with(&credentials, |means| server.handle(means, &answer)) else {
            panic!("{name:?} is somebody");
        };
        assert!(!problem.chars().any(char::is_control), "{problem:?}");
    }
}

#[test]
fn another_method_is_refused_and_a_refusal_ends_it() {
    let credentials = credentials("carol", "secret");
    let request = super::packet::request(5, Type(4), &[16; 17]);
    let Reply::Answer(answer) = with(&credentials, |means| peer("carol").handle(means, &request)) else {
        panic!("no answer");
    };
    let parsed = Packet::parse(&answer).unwrap();
    assert_eq!((parsed.identifier, parsed.content), (5, Some((Type::NAK, &[26][..]))));
    let (mut server, request) = server(&credentials, remote("%any", Some("carol")), "carol");
    let identifier = Packet::parse(&request).unwrap().identifier;
    let refusal = super::packet::response(identifier, Type::NAK, &[13, 4]);
    let Turn::Failure { packet, problem } = with(&credentials, |means| server.handle(means, &refusal)) else {
        panic!("it goes on");
    };
    assert_eq!(Packet::parse(&packet).unwrap().code, Code::Failure);
    assert!(problem.contains("13, 4"), "{problem}");
}

#[test]
fn success_comes_only_after_the_method() {
    let credentials = credentials("carol", "secret");
    let success = super::packet::verdict(Code::Success, 1);
    let mut fresh = peer("carol");
    assert!(matches!(with(&credentials, |means| fresh.handle(means, &success)), Reply::Refusal(_)));
    // Nor half-way, when we have shown what we know and the other has not.
    let (_, challenge) = server(&credentials, remote("%any", Some("carol")), "carol");
    let mut half = peer("carol");
    assert!(matches!(with(&credentials, |means| half.handle(means, &challenge)), Reply::Answer(_)));
    assert!(matches!(with(&credentials, |means| half.handle(means, &success)), Reply::Refusal(_)));
}

#[test]
fn an_answer_to_another_request_is_none() {
    let credentials = credentials("carol", "secret");
    let (mut server, request) = server(&credentials, remote("%any", Some("%any")), "carol");
    let identifier = Packet::parse(&request).unwrap().identifier.wrapping_add(1);
    let answer = super::packet::response(identifier, Type::IDENTITY, b"carol");
    assert!(matches!(with(&credentials, |means| server.handle(means, &answer)), Turn::Failure { .. }));
}

proptest! {
    #[test]
    fn packets_are_what_they_were(code in 0..4_usize, identifier: u8, kind: u8, data: Vec<u8>) {
        let code = [Code::Request, Code::Response, Code::Success, Code::Failure][code];
        let content = matches!(code, Code::Request | Code::Response).then_some((Type(kind), &data[..]));
        let packet = Packet { code, identifier, content };
        let octets = packet.emit();
        prop_assert_eq!(Packet::parse(&octets), Ok(packet));
    }

    #[test]
    fn any_octets_are_survived(packets in prop::collection::vec(any::<Vec<u8>>(), 1..6)) {
        let credentials = credentials("carol", "secret");
        let (mut server, _) = server(&credentials, remote("%any", Some("carol")), "carol");
        let mut peer = peer("carol");
        for octets in &packets {
            let at_server = with(&credentials, |means| server.handle(means, octets));
            let is_success = matches!(at_server, Turn::Success { .. });
            prop_assert!(!is_success);
            let at_peer = with(&credentials, |means| peer.handle(means, octets));
            let is_success = matches!(at_peer, Reply::Success(_));
            prop_assert!(!is_success);
        }
    }

    #[test]
    fn any_answers_to_a_challenge_are_survived(answers in prop::collection::vec(any::<Vec<u8>>(), 1..6)) {
        let credentials = credentials("carol", "secret");
        let (mut server, mut request) = server(&credentials, remote("%any", Some("carol")), "carol");
        for answer in &answers {
            let identifier = Packet::parse(&request).unwrap().identifier;
            let answer = super::packet::response(identifier, Type::MSCHAPV2, answer);
            match with(&credentials, |means| server.handle(means, &answer)) {
                Turn::Ask(next) | Turn::AskLater(next) => request = next,
                Turn::Success { .. } => prop_assert!(false),
                Turn::Failure { .. } => break,
            }
        }
    }
}
