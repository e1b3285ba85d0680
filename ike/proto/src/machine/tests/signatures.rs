//! Proofs by certificates (RFC 7296 sections 2.15 and 3.6, RFC 7427). The files are those of [`crate::auth`]'s tests.

use std::sync::Arc;

use super::pair::{Pair, configuration, connection};
use crate::auth::{Credentials, CredentialsBuilder};
use crate::configuration::{Connection, LocalAuthentication, LocalMethod, RemoteMethod, SendCertificate};
use crate::identity::Identity;

fn credentials(own: &str, authority: &str) -> Arc<Credentials> {
    let file = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pki").join(name);
        std::fs::read(path).unwrap()
    };
    let mut builder = CredentialsBuilder::default();
    builder.add_certificate(own, &file(&format!("{own}.pem"))).unwrap();
    builder.add_private_key(own, &file(&format!("{own}.key.pem"))).unwrap();
    builder.add_authority(authority, &file(&format!("{authority}.pem"))).unwrap();
    Arc::new(builder.build())
}

fn certified(is_left: bool, own: &str, theirs: &str) -> Connection {
    let mut connection = connection(is_left);
    let identity = Identity::Fqdn(format!("{own}.example.org"));
    connection.local = LocalAuthentication { method: LocalMethod::Signature(Vec::new()), identity };
    connection.remote.method = RemoteMethod::Signature;
    connection.remote.identity = Identity::Fqdn(format!("{theirs}.example.org"));
    connection
}

fn pair(left: Connection, right: Connection, authority: &str) -> Pair {
    let (ours, theirs) = (credentials("moon", "root"), credentials("p384", authority));
    let mut pair = Pair::with(configuration(left), configuration(right), ours, theirs);
    pair.initiate();
    pair
}

#[test]
fn both_ends_prove_themselves_by_certificates_of_different_kinds() {
    let pair = pair(certified(true, "moon", "p384"), certified(false, "p384", "moon"), "root");
    pair.assert_up(1);
}

#[test]
fn a_stranger_s_certificate_is_refused() {
    let pair = pair(certified(true, "moon", "p384"), certified(false, "p384", "moon"), "stranger");
    assert!(pair.left.established(pair.now()).is_empty() && pair.right.established(pair.now()).is_empty());
    assert!(pair.right.problems()[0].contains("certificate"), "{:?}", pair.right.problems());
}

#[test]
fn an_initiator_that_does_not_accept_the_responder_tells_it() {
    let mut left = certified(true, "moon", "p384");
    left.remote.identity = Identity::Fqdn("somebody.example.org".to_owned());
    let mut right = certified(false, "p384", "moon");
    // Otherwise the name that the initiator asks for would already fit no connection.
    right.local.identity = Identity::Any;
    let pair = pair(left, right, "root");
    assert!(pair.left.problems()[0].contains("p384"), "{:?}", pair.left.problems());
    assert!(pair.left.tunnels(pair.now()).is_empty() && pair.right.tunnels(pair.now()).is_empty());
    assert!(pair.right.inbound.is_empty());
}

#[test]
fn certificates_are_not_sent_where_that_is_configured() {
    let mut left = certified(true, "moon", "p384");
    left.send_certificate = SendCertificate::Never;
    let pair = pair(left, certified(false, "p384", "moon"), "root");
    assert!(pair.right.established(pair.now()).is_empty());
    assert!(pair.right.problems()[0].contains("certificate"), "{:?}", pair.right.problems());
}
