//! Users: EAP in IKE_AUTH (RFC 7296 section 2.16).

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::pair::{Packet, Pair, configuration, connection};
use crate::auth::{Credentials, CredentialsBuilder};
use crate::configuration::{
    AddressMatch, AllowedGateway, Connection, EapMethod, EapUser, LocalMethod, Pool, RemoteMethod, Unique,
};
use crate::crypto::Role;
use crate::host::Command;
use crate::identity::Identity;
use crate::machine::Restoring;
use crate::machine::tunnel::Tunnel;
use crate::wire::{self, Datagram, Notify, NotifyType, Payload, Redirect};

pub(super) fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

/// Left is user `name`, by a password; right proves itself by a secret.
pub(super) fn user(name: &str) -> Connection {
    let mut left = connection(true);
    left.local.method = LocalMethod::Eap(EapUser {
        method: EapMethod::MsChapV2,
        identity: Some(id(name)),
        certificates: vec![],
        server: None,
    });
    left
}

/// Right asks users.
pub(super) fn asks() -> Connection {
    let mut right = connection(false);
    right.remote.method = RemoteMethod::Eap(EapMethod::MsChapV2);
    right.remote.identity = Identity::Any;
    right.remote.eap_identity = Some(Identity::Any);
    right
}

pub(super) fn credentials(passwords: &[(&str, &str)]) -> Arc<Credentials> {
    let mut builder = CredentialsBuilder::default();
    builder.add_shared_secret("ike", Vec::new(), Zeroizing::new(b"secret".to_vec())).unwrap();
    for (user, password) in passwords {
        let password = Zeroizing::new(password.as_bytes().to_vec());
        builder.add_password("eap", vec![id(user)], password).unwrap();
    }
    Arc::new(builder.build())
}

fn pair(left: Connection, right: Connection, password: &str) -> Pair {
    let ours = credentials(&[("carol", password), ("dave", "dave's")]);
    let theirs = credentials(&[("carol", "carol's"), ("dave", "dave's")]);
    Pair::with(configuration(left), configuration(right), ours, theirs)
}

#[test]
fn a_user_comes_in_by_its_password() {
    let mut pair = pair(user("carol"), asks(), "carol's");
    pair.initiate();
    pair.assert_up(1);
    let seen = &pair.right.established(pair.now())[0];
    assert_eq!(seen.user, Some(id("carol")));
    assert_eq!(seen.remote, Some(id("left.test")));
    assert_eq!(pair.right.ike.half_open(), 0);
}

#[test]
fn a_wrong_password_is_refused_and_not_at_once() {
    let mut pair = pair(user("carol"), asks(), "wrong");
    pair.initiate();
    assert_eq!(pair.right.ike.half_open(), 1);
    assert!(pair.right.problems().is_empty() && pair.left.problems().is_empty());
    pair.pass(Duration::from_millis(1900));
    assert!(pair.left.problems().is_empty(), "guesses are answered at once");
    pair.pass(Duration::from_millis(200));
    assert!(pair.left.problems()[0].contains("wrong name or password"), "{:?}", pair.left.problems());
    assert!(pair.right.problems()[0].contains("password was wrong"), "{:?}", pair.right.problems());
    assert!(pair.left.tunnels(pair.now()).is_empty() && pair.right.tunnels(pair.now()).is_empty());
    assert!(pair.right.inbound.is_empty() && pair.left.inbound.is_empty());
    // Failing is no way around the limits.
    assert_eq!(pair.right.ike.half_open(), 1);
    pair.pass(Duration::from_secs(40));
    assert_eq!(pair.right.ike.half_open(), 0);
}

#[test]
fn nobody_comes_in_without_a_proof_where_users_are_asked() {
    // A plain secret, although it is right.
    let mut pair = pair(connection(true), asks(), "carol's");
    pair.initiate();
    assert!(pair.right.established(pair.now()).is_empty() && pair.right.inbound.is_empty());
    assert!(pair.right.problems()[0].contains("no connection accepts"), "{:?}", pair.right.problems());
}

#[test]
fn a_user_is_not_asked_where_secrets_are() {
    let mut pair = pair(user("carol"), connection(false), "carol's");
    pair.initiate();
    assert!(pair.left.established(pair.now()).is_empty());
    assert!(pair.right.problems()[0].contains("no connection accepts"), "{:?}", pair.right.problems());
}

#[test]
fn the_responder_s_secret_has_to_be_right_before_the_user_answers() {
    let ours = {
        let mut builder = CredentialsBuilder::default();
        builder.add_shared_secret("ike", Vec::new(), Zeroizing::new(b"another".to_vec())).unwrap();
        builder.add_password("eap", vec![id("carol")], Zeroizing::new(b"carol's".to_vec())).unwrap();
        Arc::new(builder.build())
    };
    let theirs = credentials(&[("carol", "carol's")]);
    let mut pair = Pair::with(configuration(user("carol")), configuration(asks()), ours, theirs);
    pair.initiate();
    assert!(pair.left.problems()[0].contains("another one at the peer"), "{:?}", pair.left.problems());
    assert!(pair.left.established(pair.now()).is_empty() && pair.right.established(pair.now()).is_empty());
}

#[test]
fn loss_and_repetition_change_nothing() {
    for lost in 0..12 {
        let mut pair = pair(user("carol"), asks(), "carol's");
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        let mut number = 0;
        pair.run_through(|_| {
            number += 1;
            number != lost
        });
        pair.pass(Duration::from_secs(20));
        pair.assert_up(1);
        assert_eq!(pair.right.tunnels(pair.now()).len(), 1);
    }
}

#[test]
fn a_user_that_falls_silent_is_forgotten() {
    let mut pair = pair(user("carol"), asks(), "carol's");
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
    let mut number = 0;
    // IKE_SA_INIT, the first IKE_AUTH, and an answer to it.
    let mut lets = |_: &super::pair::Packet| {
        number += 1;
        number <= 4
    };
    pair.run_through(&mut lets);
    assert_eq!(pair.right.ike.half_open(), 1);
    pair.pass_through(Duration::from_secs(31), lets);
    assert_eq!(pair.right.ike.half_open(), 0);
    assert!(pair.right.problems()[0].contains("in time"), "{:?}", pair.right.problems());
}

/// The address belongs to whom EAP has found, whatever the peer calls itself in IKE.
#[test]
fn inner_addresses_and_uniqueness_are_the_user_s() {
    let mut left = user("carol");
    left.virtual_addresses = vec!["0.0.0.0".parse().unwrap()];
    let mut right = asks();
    right.pools = vec!["inner".to_owned()];
    right.unique = Unique::Replace;
    let mut configuration_right = configuration(right);
    configuration_right.pools = vec![Arc::new(Pool {
        name: "inner".to_owned(),
        first: "10.9.0.1".parse().unwrap(),
        last: "10.9.255.250".parse().unwrap(),
        dns: vec![],
        subnets: vec![],
        lease_time: Duration::from_hours(1),
    })];
    let ours = credentials(&[("carol", "carol's"), ("dave", "dave's")]);
    let mut pair = Pair::with(configuration(left.clone()), configuration_right, Arc::clone(&ours), ours);
    let given = |pair: &Pair| pair.right.established(pair.now())[0].virtual_addresses.clone();
    pair.initiate();
    let first = given(&pair);
    // Under another name in IKE, but the same user: the tunnel is replaced.
    let mut renamed = left.clone();
    renamed.local.identity = id("renamed.test");
    renamed.name = "again".to_owned();
    let credentials = credentials(&[("carol", "carol's"), ("dave", "dave's")]);
    let mut all = configuration(left.clone());
    let mut other = left;
    other.name = "dave".to_owned();
    other.local.method = user("dave").local.method;
    all.connections.extend([Arc::new(renamed), Arc::new(other)]);
    let now = pair.now();
    let (ike, host) = (&mut pair.left.ike, &mut pair.left.host);
    ike.reconfigure(now, Arc::new(all), credentials, host);
    pair.left.drain();
    let begin = |pair: &mut Pair, name: &str| {
        let command = Command::Initiate { connection: name.to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        pair.run();
    };
    begin(&mut pair, "again");
    let tunnels = pair.right.established(pair.now());
    assert_eq!(tunnels.len(), 1, "{tunnels:?}");
    assert_eq!(
        (&tunnels[0].virtual_addresses, tunnels[0].remote.clone()),
        (&first, Some(id("renamed.test")))
    );
    // The same name in IKE, and another user: both stay.
    begin(&mut pair, "dave");
    assert_eq!(pair.right.established(pair.now()).len(), 2);
}

#[test]
fn the_user_is_part_of_the_context() {
    let mut pair = pair(user("carol"), asks(), "carol's");
    pair.initiate();
    let context = pair.right.contexts.values().next().unwrap().clone();
    let now = pair.now();
    let theirs = credentials(&[("carol", "carol's")]);
    let wrap = Arc::new(crate::crypto::WrapKey::new([2; 32]));
    pair.right.ike = crate::machine::Ike::new(Arc::new(configuration(asks())), theirs, wrap);
    let (ike, host) = (&mut pair.right.ike, &mut pair.right.host);
    ike.restore(now, &context, Restoring::Restart, host).unwrap();
    pair.right.drain();
    assert_eq!(pair.right.established(now)[0].user, Some(id("carol")));
}

#[test]
fn a_connection_of_users_cannot_be_initiated() {
    let mut pair = pair(user("carol"), asks(), "carol's");
    let (ike, host) = (&mut pair.left.ike, &mut pair.left.host);
    let mut left = connection(true);
    left.remote.method = RemoteMethod::Eap(EapMethod::MsChapV2);
    ike.reconfigure(
        crate::host::Now { monotonic: pair.now, unix: pair.now },
        Arc::new(configuration(left)),
        credentials(&[]),
        host,
    );
    pair.initiate();
    assert!(pair.left.problems()[0].contains("has to initiate"), "{:?}", pair.left.problems());
}

fn certified(own: &str) -> Arc<Credentials> {
    let file = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pki").join(name);
        std::fs::read(path).unwrap()
    };
    let mut builder = CredentialsBuilder::default();
    builder.add_certificate(own, &file(&format!("{own}.pem"))).unwrap();
    builder.add_private_key(own, &file(&format!("{own}.key.pem"))).unwrap();
    builder.add_authority("root", &file("root.pem")).unwrap();
    builder.add_shared_secret("ike", Vec::new(), Zeroizing::new(b"secret".to_vec())).unwrap();
    Arc::new(builder.build())
}

/// Left is user moon by a certificate; right is p384, and proves itself by a secret, or by EAP-TLS alone.
fn by_certificates(is_alone: bool) -> (Connection, Connection) {
    let user = |identity| EapUser { method: EapMethod::Tls, identity, certificates: vec![], server: None };
    let (mut left, mut right) = (connection(true), connection(false));
    left.local.identity = id("moon.example.org");
    left.local.method = LocalMethod::Eap(user(None));
    left.remote.identity = id("p384.example.org");
    right.local.identity = id("p384.example.org");
    right.remote.identity = id("*.example.org");
    right.remote.method = RemoteMethod::Eap(EapMethod::Tls);
    if is_alone {
        left.remote.method = RemoteMethod::Eap(EapMethod::Tls);
        right.local.method = LocalMethod::Eap(user(None));
    }
    (left, right)
}

fn run_by_certificates((left, right): (Connection, Connection), ours: &str, theirs: &str) -> Pair {
    let mut pair = Pair::with(configuration(left), configuration(right), certified(ours), certified(theirs));
    pair.initiate();
    pair
}

#[test]
fn a_user_comes_in_by_its_certificate() {
    for is_alone in [false, true] {
        let pair = run_by_certificates(by_certificates(is_alone), "moon", "p384");
        pair.assert_up(1);
        assert_eq!(pair.right.established(pair.now())[0].user, Some(id("moon.example.org")));
    }
}

#[test]
fn certificates_in_small_fragments_come_through() {
    let (mut left, mut right) = by_certificates(false);
    for side in [&mut left, &mut right] {
        side.fragment_size = 576;
        side.fragmentation = crate::configuration::Fragmentation::Force;
    }
    run_by_certificates((left, right), "moon", "p384").assert_up(1);
}

#[test]
fn a_certificate_of_somebody_else_is_none() {
    let (mut left, right) = by_certificates(false);
    // It has the certificate of ed, and calls itself moon.
    left.local.method = LocalMethod::Eap(EapUser {
        method: EapMethod::Tls,
        identity: Some(id("ed.example.org")),
        certificates: vec![],
        server: None,
    });
    let pair = run_by_certificates((left, right), "ed", "p384");
    assert!(pair.right.established(pair.now()).is_empty());
    assert!(pair.right.problems()[0].contains("moon.example.org"), "{:?}", pair.right.problems());
}

/// RFC 5998: EAP alone is used only if both ends have said so.
#[test]
fn eap_alone_takes_two() {
    let (_, alone) = by_certificates(true);
    let (left, right) = by_certificates(false);
    let pair = run_by_certificates((left, alone), "moon", "p384");
    assert!(pair.right.problems()[0].contains("RFC 5998"), "{:?}", pair.right.problems());
    assert!(pair.left.established(pair.now()).is_empty());
    let (alone, _) = by_certificates(true);
    let pair = run_by_certificates((alone, right), "moon", "p384");
    assert!(pair.left.problems()[0].contains("instead of EAP"), "{:?}", pair.left.problems());
    assert!(pair.right.established(pair.now()).is_empty());
}

#[test]
fn a_password_does_not_stand_alone() {
    let mut left = user("carol");
    left.remote.method = RemoteMethod::Eap(EapMethod::MsChapV2);
    let mut pair = pair(left, asks(), "carol's");
    pair.initiate();
    assert!(pair.left.problems()[0].contains("both ends"), "{:?}", pair.left.problems());
}

/// It has no password, and says so outside of EAP.
#[test]
fn a_user_that_gives_up_is_answered_and_forgotten() {
    let mut pair = pair(user("erin"), asks(), "carol's");
    pair.initiate();
    assert!(pair.left.problems()[0].contains("no secret of user \"erin\""), "{:?}", pair.left.problems());
    let problem = &pair.right.problems()[0];
    assert!(problem.contains("user \"erin\": the peer gave up"), "{problem}");
    assert_eq!(pair.right.ike.counters().authentication_failed, 1);
    assert!(pair.right.tunnels(pair.now()).is_empty() && pair.right.inbound.is_empty());
    pair.pass(Duration::from_secs(40));
    assert_eq!(pair.right.ike.half_open(), 0);
}

/// What the responder's first answer is if it sends the user elsewhere instead of asking it (RFC 5685 section 6);
/// without its proof, on demand.
fn sent_on(pair: &mut Pair, octets: &[u8], is_proved: bool) -> Vec<u8> {
    let Ok(Datagram::Encrypted(sealed)) = wire::parse(octets) else { panic!("a fragment") };
    let tunnel = &pair.right.ike.tunnels.values().next().unwrap().tunnel;
    let Tunnel::EapAnswered(state) = tunnel else { panic!("nobody is asked") };
    let keys = &state.half.sa.keys;
    let chain = keys.open(Role::Responder, &sealed).unwrap();
    let mut payloads = wire::parse_chain(sealed.first, &chain).unwrap();
    payloads.retain(|payload| match payload {
        Payload::Eap(_) => false,
        Payload::Authentication { .. } => is_proved,
        _ => true,
    });
    let gateway = "192.0.2.9".parse().unwrap();
    let data = Redirect { gateway, nonce: Vec::new() }.emit();
    payloads.push(Payload::Notify(Notify::new(NotifyType::REDIRECT, data)));
    keys.seal(Role::Responder, &sealed.header, &payloads, &mut pair.right.host).unwrap()
}

#[test]
fn a_user_goes_where_a_proven_gateway_sends_it_before_it_is_asked() {
    for is_proved in [true, false] {
        let mut left = user("carol");
        let addresses =
            AddressMatch { first: "192.0.2.9".parse().unwrap(), last: "192.0.2.9".parse().unwrap() };
        left.moving.follow_redirects = vec![AllowedGateway { name: None, addresses }];
        let mut pair = pair(left, asks(), "carol's");
        pair.left
            .command(pair.now(), Command::Initiate { connection: "net".to_owned(), child: None })
            .unwrap();
        for _ in 0..3 {
            let packet = pair.take_packets().remove(0);
            pair.deliver(&packet);
        }
        let packet = pair.take_packets().remove(0);
        let octets = sent_on(&mut pair, &packet.octets, is_proved);
        pair.deliver(&Packet { octets, ..packet });
        let (path, octets) = pair.left.sent.pop_front().unwrap();
        if is_proved {
            assert_eq!(path.remote.ip().to_string(), "192.0.2.9");
            assert_eq!(pair.left.ike.counters().redirects_followed, 1);
            assert!(matches!(wire::parse(&octets), Ok(Datagram::Plain(..))), "it begins anew there");
        } else {
            assert_eq!(pair.left.ike.counters().redirects_followed, 0);
            assert!(!pair.left.problems().is_empty());
        }
    }
}
