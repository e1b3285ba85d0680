//! Both ends against each other, with the certificates of [`crate::auth`]'s tests.

use std::sync::Arc;
use std::time::Duration;

use super::{Peer, Server};
use crate::auth::{Credentials, CredentialsBuilder, Expected};
use crate::configuration::{EapMethod, RemoteAuthentication, RemoteMethod, Revocation};
use crate::eap::{Msk, Step};
use crate::identity::Identity;

fn file(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pki").join(name);
    std::fs::read(path).unwrap()
}

fn credentials(own: &str, authority: &str) -> Arc<Credentials> {
    let mut builder = CredentialsBuilder::default();
    builder.add_certificate(own, &file(&format!("{own}.pem"))).unwrap();
    builder.add_private_key(own, &file(&format!("{own}.key.pem"))).unwrap();
    builder.add_authority(authority, &file(&format!("{authority}.pem"))).unwrap();
    builder.add_crl("root", &file("root.crl")).unwrap();
    Arc::new(builder.build())
}

fn id(name: &str) -> Identity {
    Identity::Fqdn(format!("{name}.example.org"))
}

fn expected(name: &str) -> Expected {
    let remote = RemoteAuthentication {
        method: RemoteMethod::Eap(EapMethod::Tls),
        identity: Identity::Any,
        authorities: vec![],
        certificates: vec![],
        revocation: Revocation::Relaxed,
        eap_identity: None,
    };
    Expected { identity: id(name), remote, unix: Duration::from_secs(2_000_000_000) }
}

/// A server and a user, each with its certificate and whom it expects.
struct Ends {
    server: (&'static str, &'static str, &'static str),
    user: (&'static str, &'static str, &'static str),
    /// Without TLS 1.3.
    is_old: bool,
}

const USUAL: Ends = Ends { server: ("moon", "root", "p384"), user: ("p384", "root", "moon"), is_old: false };

/// The keys of both, or what either says.
fn talk(ends: &Ends) -> Result<(Msk, Msk, usize), (String, String)> {
    let (own, authority, expects) = ends.server;
    let configuration = credentials(own, authority).tls_server(&[], &id(own), expected(expects)).unwrap();
    let (mut server, mut request) = Server::begin(configuration).unwrap();
    let (own, authority, expects) = ends.user;
    let ours = credentials(own, authority);
    let mut configuration = ours.tls_client(&[], &id(own), expected(expects)).unwrap();
    if ends.is_old {
        let versions = &[&rustls::version::TLS12];
        configuration = ours.tls_client_of(versions, &[], &id(own), expected(expects)).unwrap();
    }
    let mut peer = Peer::new(configuration);
    for round in 0..60 {
        let answer = match peer.handle(&request) {
            Ok(answer) => answer,
            Err(problem) => return Err((String::new(), problem)),
        };
        request = match server.handle(&answer) {
            Step::Ask(request) => request,
            Step::AskLater(_) => panic!("nobody guesses"),
            Step::Success(key) => {
                return peer.finish().map(|ours| (key, ours, round)).map_err(|why| (String::new(), why));
            }
            Step::Failure(problem) => {
                let theirs = peer.problem();
                assert!(peer.finish().is_err(), "the user thinks that all is well");
                return Err((problem, theirs));
            }
        };
    }
    panic!("no end");
}

#[test]
fn both_ends_have_one_key_with_every_version_of_tls() {
    for is_old in [false, true] {
        let (ours, theirs, _) = talk(&Ends { is_old, ..USUAL }).unwrap();
        assert_eq!(ours.octets(), theirs.octets());
        assert_ne!(ours.octets(), &[0; 64]);
    }
}

#[test]
fn every_kind_of_key_signs() {
    for (name, authority) in [("rsa", "root-rsa"), ("p521", "root"), ("ed", "root"), ("moon", "root")] {
        for is_old in [false, true] {
            let ends = Ends { server: ("moon", authority, name), user: (name, "root", "moon"), is_old };
            let outcome = talk(&ends);
            assert!(outcome.is_ok(), "{name} {is_old} {outcome:?}");
        }
    }
}

#[test]
fn a_stranger_is_refused_on_either_side() {
    let ends = Ends { server: ("moon", "stranger", "p384"), ..USUAL };
    let (server, user) = talk(&ends).unwrap_err();
    assert!(server.contains("is not signed by the authority"), "{server}");
    assert!(user.contains("TLS fails") || user.contains("look at its log"), "{user}");
    let ends = Ends { user: ("p384", "stranger", "moon"), ..USUAL };
    let (server, user) = talk(&ends).unwrap_err();
    assert!(user.contains("is not signed by the authority"), "{user}");
    assert!(server.contains("TLS fails"), "{server}");
}

#[test]
fn the_certificate_is_for_the_user() {
    let ends = Ends { server: ("moon", "root", "carol"), ..USUAL };
    let (server, _) = talk(&ends).unwrap_err();
    assert!(server.contains("carol.example.org"), "{server}");
    let ends = Ends { user: ("p384", "root", "sun"), ..USUAL };
    let (_, user) = talk(&ends).unwrap_err();
    assert!(user.contains("sun.example.org"), "{user}");
}

#[test]
fn a_revoked_certificate_is_refused() {
    let ends = Ends { server: ("moon", "root", "revoked"), user: ("revoked", "root", "moon"), is_old: false };
    let (server, _) = talk(&ends).unwrap_err();
    assert!(server.contains("revoked"), "{server}");
}

#[test]
fn success_before_the_end_is_not_believed() {
    let configuration = credentials("p384", "root").tls_client(&[], &id("p384"), expected("moon")).unwrap();
    let mut peer = Peer::new(configuration);
    assert!(peer.handle(&[0x20]).is_ok());
    assert!(peer.finish().is_err());
    let configuration = credentials("p384", "root").tls_client(&[], &id("p384"), expected("moon")).unwrap();
    assert!(Peer::new(configuration).finish().is_err());
}

#[test]
fn nonsense_ends_it() {
    let configuration =
        || credentials("moon", "root").tls_server(&[], &id("moon"), expected("p384")).unwrap();
    for octets in
        [&b""[..], b"\0", b"\0hello", b"\x80", b"\xc0\xff\xff\xff\xff...", b"\0\x16\x03\x01\x40\x00"]
    {
        let (mut server, _) = Server::begin(configuration()).unwrap();
        // It may be told by an alert first.
        let mut step = server.handle(octets);
        if matches!(step, Step::Ask(_)) {
            step = server.handle(b"\0");
        }
        assert!(matches!(step, Step::Failure(_)), "{}", octets.escape_ascii());
    }
}
