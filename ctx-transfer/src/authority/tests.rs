use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::channel::{Credentials, CredentialsError};
use crate::cluster::Role;
use baton_sad::NodeId;

fn member(cluster: &str, role: Role, node: u8) -> Identity {
    Identity { cluster: cluster.to_owned(), role, node: NodeId::new(node).expect("not 0") }
}

#[test]
fn a_cluster_is_begun_and_joined() {
    let (first, second) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let begun = first.path().join("cluster");
    let authority = Authority::create(&begun, "demo", 3650).expect("begun");
    let one = member("demo", Role::Node, 1);
    store(&begun, &authority.issue(&one, 365).expect("issued")).expect("stored");
    let loaded = Credentials::load(&begun).expect("whole");
    assert_eq!(loaded.identity, one);
    assert!(loaded.authority_expires > loaded.expires);
    for private in [AUTHORITY_KEY, KEY] {
        let mode = std::fs::metadata(begun.join(private)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }
    let witness = member("demo", Role::Witness, 3);
    let text = Authority::load(&begun, "demo").expect("there").invite(&witness, 30).expect("made").text();
    let invitation = Invitation::parse(&text).expect("an invitation");
    assert_eq!(invitation.member().expect("a member"), witness);
    let there = second.path().join("cluster");
    let refused = invitation.accept(&there, &one);
    assert!(matches!(refused, Err(InvitationError::ForAnother { .. })));
    invitation.accept(&there, &witness).expect("joined");
    assert_eq!(Credentials::load(&there).expect("whole").identity, witness);
    assert!(!there.join(AUTHORITY_KEY).exists(), "the authority's key stays where it is");
    let before = std::fs::read(there.join(KEY)).expect("there");
    let later = authority.invite(&witness, 30).expect("made");
    assert!(matches!(invitation.accept(&there, &witness), Err(InvitationError::Used)), "it is used once");
    assert_eq!(std::fs::read(there.join(KEY)).expect("there"), before);
    later.accept(&there, &witness).expect("a renewal");
    assert!(matches!(invitation.accept(&there, &witness), Err(InvitationError::Used)), "nor after a renewal");
    assert!(matches!(later.accept(&there, &witness), Err(InvitationError::Used)));
}

#[test]
fn a_cluster_is_begun_once() {
    let directory = tempfile::tempdir().expect("a directory");
    Authority::create(directory.path(), "demo", 10).expect("begun");
    let before = std::fs::read(directory.path().join(AUTHORITY_KEY)).expect("there");
    assert!(matches!(Authority::create(directory.path(), "demo", 10), Err(AuthorityError::Exists(_))));
    assert_eq!(std::fs::read(directory.path().join(AUTHORITY_KEY)).expect("there"), before);
}

#[test]
fn what_is_no_invitation_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::create(directory.path(), "demo", 10).expect("begun");
    let text = authority.invite(&member("demo", Role::Node, 2), 5).expect("made").text();
    let key_first = text.find("-----BEGIN PRIVATE").map(|at| format!("{}{}", &text[at..], &text[..at]));
    let long = "x".repeat(100_000);
    for bad in ["", "hello", &text[..text.len() - 20], &key_first.expect("a key"), &long] {
        assert!(Invitation::parse(bad).is_err());
    }
}

#[test]
fn credentials_that_cannot_be_used_are_told_by_file() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(matches!(Credentials::load(directory.path()), Err(CredentialsError::Missing(_))));
    let authority = Authority::create(directory.path(), "demo", 10).expect("begun");
    let one = authority.issue(&member("demo", Role::Node, 1), 5).expect("issued");
    let two = authority.issue(&member("demo", Role::Node, 2), 5).expect("issued");
    store(directory.path(), &one).expect("stored");
    let key = directory.path().join(KEY);
    std::fs::write(&key, two.key.as_bytes()).expect("written");
    assert!(matches!(Credentials::load(directory.path()), Err(CredentialsError::Mismatch(_))));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("changed");
    assert!(matches!(Credentials::load(directory.path()), Err(CredentialsError::NotPrivate(_))));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("changed");
    std::fs::write(&key, "no key").expect("written");
    assert!(matches!(Credentials::load(directory.path()), Err(CredentialsError::Unusable { .. })));
}
