//! Postquantum preshared keys (RFC 8784), IKE SAs without a Child SA (RFC 6023).

use std::sync::Arc;

use zeroize::Zeroizing;

use super::pair::{Packet, Pair, RIGHT, configuration, connection};
use super::side::Side;
use crate::auth::{Credentials, CredentialsBuilder};
use crate::configuration::{Childless, Connection, PostquantumKey};
use crate::host::{Command, Target};
use crate::identity::Identity;
use crate::machine::Restoring;
use crate::wire::{self, Datagram, NotifyType, Payload};

const KEY: &[u8] = b"a postquantum preshared key of many octets";

/// By what they go by.
type Keys<'a> = &'a [(&'a str, &'a [u8])];

fn target() -> Target {
    Target::Connection("net".to_owned())
}

fn identity(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

/// Credentials with the secret of both ends, and keys by what they go by.
fn keys(keys: Keys) -> Arc<Credentials> {
    let mut builder = CredentialsBuilder::default();
    builder.add_shared_secret("test", Vec::new(), Zeroizing::new(b"secret".to_vec())).unwrap();
    for (name, key) in keys {
        builder.add_postquantum_key("test", vec![identity(name)], Zeroizing::new(key.to_vec())).unwrap();
    }
    Arc::new(builder.build())
}

fn with_ppk(is_left: bool, name: Option<&str>, is_required: bool) -> Connection {
    let ppk = PostquantumKey { identity: name.map(identity), is_required };
    Connection { ppk, ..connection(is_left) }
}

/// Left initiates with its key; what is configured on the right is given.
fn pair(left: (Option<&str>, bool, Keys), right: (bool, Keys)) -> Pair {
    let mut pair = Pair::with(
        configuration(with_ppk(true, left.0, left.1)),
        configuration(with_ppk(false, None, right.0)),
        keys(left.2),
        keys(right.1),
    );
    pair.initiate();
    pair
}

fn key_of(pair: &Pair) -> [Option<Identity>; 2] {
    let (left, right) = (pair.left.established(pair.now()), pair.right.established(pair.now()));
    [left[0].ppk.clone(), right[0].ppk.clone()]
}

#[test]
fn a_key_that_both_have_is_used_whether_required_or_not() {
    let ours: Keys = &[("other.example", b"another key, of another peer"), ("key.example", KEY)];
    let theirs: Keys = &[("*.example", KEY), ("other.example", b"another key, of another peer")];
    for (left, right) in [(false, false), (true, false), (false, true), (true, true)] {
        let pair = pair((Some("key.example"), left, ours), (right, theirs));
        pair.assert_up(1);
        assert_eq!(key_of(&pair), [Some(identity("key.example")), Some(identity("key.example"))]);
    }
}

#[test]
fn keys_of_the_tunnel_and_its_children_go_on_from_the_mixed_ones() {
    let mut pair =
        pair((Some("key.example"), true, &[("key.example", KEY)]), (true, &[("key.example", KEY)]));
    for command in [Command::RekeyIke(target()), Command::RekeyChild(target())] {
        pair.left.command(pair.now(), command).unwrap();
        pair.run();
        pair.assert_up(1);
    }
    let name = pair.right.established(pair.now())[0].name.to_string();
    let context = pair.right.contexts[&name].clone();
    let before = key_of(&pair);
    let with_key = keys(&[("key.example", KEY)]);
    let mut new = Side::new(2, RIGHT, configuration(with_ppk(false, None, true)), with_key);
    new.host.advance(1 << 20);
    new.ike.restore(pair.now(), &context, Restoring::Restart, &mut new.host).unwrap();
    (new.inbound, new.outbound) = (pair.right.inbound.clone(), pair.right.outbound.clone());
    new.drain();
    pair.right = new;
    assert_eq!(key_of(&pair), before);
    pair.left.command(pair.now(), Command::RekeyChild(target())).unwrap();
    pair.run();
    pair.assert_up(1);
}

#[test]
fn without_a_common_key_it_stands_only_if_nobody_requires_one() {
    let ours: Keys = &[("key.example", KEY)];
    let stranger: Keys = &[("stranger.example", KEY)];
    for theirs in [&[][..], stranger] {
        let optional = pair((Some("key.example"), false, ours), (false, theirs));
        optional.assert_up(1);
        assert_eq!(key_of(&optional), [None, None]);
        for (left, right) in [(true, false), (false, true), (true, true)] {
            let pair = pair((Some("key.example"), left, ours), (right, theirs));
            assert!(pair.left.established(pair.now()).is_empty(), "{left} {right}");
            assert!(pair.right.established(pair.now()).is_empty(), "{left} {right}");
            let problems = [pair.left.problems(), pair.right.problems()].concat().join("\n");
            assert!(problems.contains("postquantum preshared key"), "{problems}");
        }
    }
}

#[test]
fn who_names_no_key_is_refused_by_who_requires_one() {
    let pair = pair((None, false, &[]), (true, &[("key.example", KEY)]));
    assert!(pair.right.established(pair.now()).is_empty());
    assert!(pair.right.problems()[0].contains("names none; set ppk_id there"), "{:?}", pair.right.problems());
}

/// Whoever else has a key of ours may not use it in the place of this connection's.
#[test]
fn a_key_of_another_connection_is_none() {
    let both: Keys = &[("key.example", KEY), ("other.example", b"another key, of another peer")];
    for is_required in [true, false] {
        let mut pair = Pair::with(
            configuration(with_ppk(true, Some("other.example"), false)),
            configuration(with_ppk(false, Some("key.example"), is_required)),
            keys(both),
            keys(both),
        );
        pair.initiate();
        if is_required {
            assert!(pair.right.established(pair.now()).is_empty());
            assert!(
                pair.right.problems()[0].contains("ppk_id is \"key.example\""),
                "{:?}",
                pair.right.problems()
            );
        } else {
            pair.assert_up(1);
            assert_eq!(key_of(&pair), [None, None]);
        }
    }
}

/// RFC 8784 section 3: AUTHENTICATION_FAILED.
#[test]
fn who_has_announced_a_key_has_to_name_it() {
    let (left, right) = (with_ppk(true, Some("key.example"), false), with_ppk(false, None, false));
    let known: Keys = &[("key.example", KEY)];
    let mut pair = Pair::with(configuration(left), configuration(right), keys(known), keys(known));
    pair.left.command(pair.now(), Command::Initiate { connection: "net".to_owned(), child: None }).unwrap();
    let request = pair.take_packets().remove(0);
    pair.deliver(&request);
    // Between the two messages the operator takes the key away.
    let now = pair.now();
    let unset = Arc::new(configuration(with_ppk(true, None, false)));
    pair.left.ike.reconfigure(now, unset, keys(&[]), &mut pair.left.host);
    pair.left.drain();
    pair.run();
    assert!(pair.right.established(now).is_empty());
    assert!(pair.right.problems()[0].contains("names none"), "{:?}", pair.right.problems());
    // Who has not got it does not announce it.
    let (left, right) = (with_ppk(true, Some("key.example"), false), with_ppk(false, None, false));
    let mut pair = Pair::with(configuration(left), configuration(right), keys(&[]), keys(known));
    pair.initiate();
    pair.assert_up(1);
}

#[test]
fn a_wrong_key_proves_nothing_even_where_it_is_optional() {
    let wrong: Keys = &[("key.example", b"a key that is another one")];
    let pair = pair((Some("key.example"), false, &[("key.example", KEY)]), (false, wrong));
    assert!(pair.left.established(pair.now()).is_empty());
    assert_eq!(pair.right.ike.counters().authentication_failed, 1);
}

/// What somebody on the path makes of an IKE_SA_INIT message; other messages are as they were.
fn without(packet: Packet, kind: NotifyType) -> Packet {
    let Ok(Datagram::Plain(header, mut payloads)) = wire::parse(&packet.octets) else { return packet };
    let before = payloads.len();
    payloads.retain(|payload| !matches!(payload, Payload::Notify(notify) if notify.kind == kind));
    assert_eq!(payloads.len(), before - 1);
    Packet { octets: wire::emit(&header, &payloads), ..packet }
}

#[test]
fn who_takes_the_announcement_out_of_either_message_breaks_the_proof() {
    for to_right in [true, false] {
        let mut pair = Pair::with(
            configuration(with_ppk(true, Some("key.example"), false)),
            configuration(with_ppk(false, None, false)),
            keys(&[("key.example", KEY)]),
            keys(&[("key.example", KEY)]),
        );
        pair.left
            .command(pair.now(), Command::Initiate { connection: "net".to_owned(), child: None })
            .unwrap();
        for _ in 0..8 {
            for packet in pair.take_packets() {
                let packet =
                    if packet.to_right == to_right { without(packet, NotifyType::USE_PPK) } else { packet };
                pair.deliver(&packet);
            }
        }
        assert!(
            pair.left.established(pair.now()).is_empty() && pair.right.established(pair.now()).is_empty()
        );
    }
}

fn childless(left: Childless, right: Childless) -> Pair {
    let left = Connection { childless: left, ..connection(true) };
    let right = Connection { childless: right, ..connection(false) };
    let mut pair = Pair::new(left, right);
    pair.initiate();
    pair
}

#[test]
fn the_first_child_comes_with_the_ike_sa_or_after_it() {
    use Childless::{Allow, Force, Never, Prefer};
    // Exchanges after IKE_SA_INIT: the first child has one of its own if it comes after.
    for (left, right, requests) in [
        (Allow, Allow, 2),
        (Never, Never, 2),
        (Prefer, Allow, 3),
        (Prefer, Never, 2),
        (Prefer, Force, 3),
        (Force, Prefer, 3),
        (Allow, Prefer, 2),
    ] {
        let pair = childless(left, right);
        pair.assert_up(1);
        let ids = pair.left.established(pair.now())[0].message_ids.0;
        assert_eq!(ids, requests, "{left:?} {right:?}");
    }
}

#[test]
fn who_insists_meets_who_refuses() {
    let pair = childless(Childless::Force, Childless::Never);
    assert!(pair.left.established(pair.now()).is_empty());
    assert!(pair.left.problems()[0].contains("childless = force"), "{:?}", pair.left.problems());
    let pair = childless(Childless::Allow, Childless::Force);
    pair.assert_up(0);
    assert!(pair.right.problems()[0].contains("childless = force"), "{:?}", pair.right.problems());
}
