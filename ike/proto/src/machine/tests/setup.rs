//! Setting up (RFC 7296 sections 1.2, 2.6, 2.7, 2.21).

use std::sync::Arc;
use std::time::Duration;

use super::pair::{Packet, Pair, configuration, connection, secrets};
use crate::configuration::{Configuration, Fragmentation, Unique};
use crate::host::{Command, DownReason, Event};
use crate::identity::Identity;
use crate::wire::{self, Datagram, ExchangeType, NotifyType, Payload};

fn exchange(packet: &Packet) -> ExchangeType {
    wire::Header::parse(&packet.octets).unwrap().exchange
}

fn notifies(packet: &Packet) -> Vec<NotifyType> {
    let Ok(Datagram::Plain(_, payloads)) = wire::parse(&packet.octets) else { return Vec::new() };
    let kind = |payload| match payload {
        Payload::Notify(notify) => Some(notify.kind),
        _ => None,
    };
    payloads.into_iter().filter_map(kind).collect()
}

#[test]
fn a_tunnel_with_a_shared_secret_and_one_child_stands() {
    let mut pair = Pair::plain();
    pair.initiate();
    pair.assert_up(1);
    assert_eq!(pair.left.policies.len(), 1);
    assert_eq!(pair.right.policies.len(), 1);
    assert_eq!(pair.left.problems(), [""; 0]);
}

#[test]
fn sas_and_context_come_before_the_answer() {
    let mut pair = Pair::plain();
    pair.initiate();
    let last = &pair.right.log[pair.right.log.len() - 3..];
    assert_eq!(last, ["install", "store", "transmit"]);
    assert_eq!(pair.left.log[pair.left.log.len() - 2..], ["install", "store"]);
}

#[test]
fn every_lost_datagram_is_made_good_for_by_repetition() {
    for lost in 0..4 {
        let mut pair = Pair::plain();
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        let mut count = 0;
        let mut lets = |_: &Packet| {
            count += 1;
            count != lost + 1
        };
        pair.run_through(&mut lets);
        pair.pass_through(Duration::from_secs(10), &mut lets);
        pair.assert_up(1);
    }
}

#[test]
fn repeated_requests_get_the_same_octets() {
    let mut pair = Pair::plain();
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
    for _ in 0..2 {
        let request = pair.take_packets().remove(0);
        pair.deliver(&request);
        pair.deliver(&request);
        let answers = pair.take_packets();
        assert_eq!(answers.len(), 2);
        assert_eq!(answers[0].octets, answers[1].octets);
        pair.deliver(&answers[0]);
        pair.deliver(&answers[1]);
    }
    pair.assert_up(1);
}

#[test]
fn a_wrong_secret_and_an_unknown_identity_look_the_same_and_say_so_to_the_operator() {
    let wrong = Pair::with(
        configuration(connection(true)),
        configuration(connection(false)),
        secrets("secret"),
        secrets("another"),
    );
    let mut stranger = connection(true);
    stranger.local.identity = Identity::Fqdn("nobody.test".to_owned());
    let unknown = Pair::new(stranger, connection(false));
    let mut lengths = Vec::new();
    for (mut pair, word) in [(wrong, "secret"), (unknown, "nobody.test")] {
        pair.run_through(|_| true);
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        let mut last = 0;
        pair.run_through(|packet| {
            last = packet.octets.len();
            true
        });
        lengths.push(last);
        assert!(pair.right.problems()[0].contains(word), "{:?}", pair.right.problems());
        assert!(pair.left.problems()[0].contains("does not accept us"), "{:?}", pair.left.problems());
        assert!(pair.left.tunnels(pair.now()).is_empty() && pair.right.tunnels(pair.now()).is_empty());
        assert!(matches!(pair.left.events.last(), Some(Event::IkeDown { reason: DownReason::Failed, .. })));
    }
    assert_eq!(lengths[0], lengths[1]);
}

#[test]
fn no_common_proposal_is_told_with_what_was_offered() {
    let mut left = connection(true);
    left.ike_proposals = vec!["aes256-sha1-modp2048".parse().unwrap()];
    let mut pair = Pair::new(left, connection(false));
    pair.initiate();
    let problem = pair.right.problems()[0];
    assert!(
        problem.contains("aes256-") && problem.contains("modp2048") && problem.contains("connection net"),
        "{problem}"
    );
    assert!(pair.left.problems()[0].contains("accepts none of our IKE proposals"));
}

#[test]
fn another_group_is_asked_for_and_given() {
    let (mut left, mut right) = (connection(true), connection(false));
    left.ike_proposals = vec!["aes128gcm16-prfsha256-x25519-ecp256".parse().unwrap()];
    right.ike_proposals = vec!["aes128gcm16-prfsha256-ecp256".parse().unwrap()];
    let mut pair = Pair::new(left, right);
    pair.initiate();
    pair.assert_up(1);
}

#[test]
fn cookies_are_asked_for_and_given_also_with_another_group() {
    let (mut left, mut right) = (connection(true), connection(false));
    left.ike_proposals = vec!["aes128gcm16-prfsha256-x25519-ecp256".parse().unwrap()];
    right.ike_proposals = vec!["aes128gcm16-prfsha256-ecp256".parse().unwrap()];
    let mut always = configuration(right);
    always.limits.cookie_threshold = 0;
    let mut pair = Pair::with(configuration(left), always, secrets("secret"), secrets("secret"));
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
    let mut cookies = 0;
    pair.run_through(|packet| {
        cookies += usize::from(!packet.to_right && notifies(packet).contains(&NotifyType::COOKIE));
        true
    });
    assert!(cookies >= 1);
    pair.assert_up(1);
}

#[test]
fn a_responder_that_asks_for_ever_new_cookies_is_given_up() {
    let mut pair = Pair::plain();
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
    for cookie in 0_u8..20 {
        let Some(request) = pair.take_packets().pop() else { break };
        let header = wire::Header::parse(&request.octets).unwrap();
        let flags = wire::Flags { initiator: false, response: true };
        let notify = wire::Notify::new(NotifyType::COOKIE, vec![cookie; 8]);
        let octets = wire::emit(&wire::Header { flags, ..header }, &[Payload::Notify(notify)]);
        let path =
            crate::host::Path { local: request.path.remote, remote: request.path.local, marked: false };
        pair.deliver(&Packet { to_right: false, path, octets });
    }
    assert!(pair.left.problems()[0].contains("keeps asking"));
    assert!(pair.left.tunnels(pair.now()).is_empty());
}

#[test]
fn the_ike_sa_stands_although_no_traffic_or_algorithm_is_common() {
    let (mut other_traffic, mut other_algorithm) = (connection(false), connection(false));
    let mut child = super::pair::child(false);
    child.remote = vec!["10.9.0.0/16".parse().unwrap()];
    other_traffic.children = vec![Arc::new(child)];
    let mut child = super::pair::child(false);
    child.esp_proposals = vec!["aes256-sha256".parse().unwrap()];
    other_algorithm.children = vec![Arc::new(child)];
    for (right, words) in
        [(other_traffic, "no traffic in common"), (other_algorithm, "none of child net's ESP proposals")]
    {
        let mut pair = Pair::new(connection(true), right);
        pair.initiate();
        pair.assert_up(0);
        assert!(pair.left.problems()[0].contains(words), "{:?}", pair.left.problems());
        assert_eq!(pair.right.problems().len(), 1);
    }
}

#[test]
fn traffic_is_narrowed_to_what_both_want() {
    let mut right = connection(false);
    let mut child = super::pair::child(false);
    child.local = vec!["10.2.3.0/24[tcp/443]".parse().unwrap()];
    right.children = vec![Arc::new(child)];
    let mut pair = Pair::new(connection(true), right);
    pair.initiate();
    pair.assert_up(1);
    let (left, right) = (pair.left.tunnels(pair.now()), pair.right.tunnels(pair.now()));
    assert_eq!(left[0].children[0].remote, right[0].children[0].local);
    assert_eq!(left[0].children[0].remote[0].to_string(), "10.2.3.0/24[tcp/443]");
}

#[test]
fn the_connection_is_the_one_of_the_peers_identity() {
    let named = |name: &str, remote: Identity| {
        let mut connection = connection(false);
        name.clone_into(&mut connection.name);
        connection.remote.identity = remote;
        Arc::new(connection)
    };
    let connections = vec![
        named("other", Identity::Fqdn("other.test".to_owned())),
        named("all", Identity::Any),
        named("right", Identity::Fqdn("left.test".to_owned())),
    ];
    let right = Configuration { connections, ..Configuration::default() };
    let mut pair = Pair::with(configuration(connection(true)), right, secrets("secret"), secrets("secret"));
    pair.initiate();
    pair.assert_up(1);
    let view = &pair.right.tunnels(pair.now())[0];
    assert_eq!(view.connection, "right");
    assert!(view.name.as_str().starts_with("right-"));
}

#[test]
fn large_messages_go_in_fragments() {
    let (mut left, mut right) = (connection(true), connection(false));
    for connection in [&mut left, &mut right] {
        connection.fragmentation = Fragmentation::Force;
        connection.fragment_size = 200;
    }
    let mut pair = Pair::new(left, right);
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
    let mut fragments = 0;
    pair.run_through(|packet| {
        if exchange(packet) != ExchangeType::IKE_SA_INIT {
            assert!(packet.octets.len() <= 200 - 28);
            fragments += 1;
        }
        true
    });
    assert!(fragments >= 4, "{fragments}");
    pair.assert_up(1);
}

fn again(pair: &mut Pair) {
    let tunnels = pair.left.tunnels(pair.now());
    // The left end forgets its tunnel, as after a crash without contexts.
    let configuration = configuration(connection(true));
    pair.left = super::side::Side::new(3, super::pair::LEFT, configuration, secrets("secret"));
    assert_eq!(tunnels.len(), 1);
    pair.initiate();
}

#[test]
fn initial_contact_ends_what_the_peer_has_forgotten() {
    let mut pair = Pair::up();
    again(&mut pair);
    pair.assert_up(1);
    let is_replaced = |event: &Event| matches!(event, Event::IkeDown { reason: DownReason::Replaced, .. });
    assert_eq!(pair.right.events.iter().filter(|event| is_replaced(event)).count(), 1);
    assert_eq!(pair.right.inbound.len(), 1);
}

#[test]
fn unique_never_keeps_both() {
    let mut right = connection(false);
    right.unique = Unique::Never;
    let mut pair = Pair::new(connection(true), right);
    pair.initiate();
    again(&mut pair);
    assert_eq!(pair.right.established(pair.now()).len(), 2);
}

#[test]
fn a_dead_responder_is_tried_as_often_as_configured_with_pauses() {
    let mut left = connection(true);
    left.keying_tries = 2;
    let mut pair = Pair::new(left, connection(false));
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
    pair.pass_through(Duration::from_secs(1000), |_| false);
    assert_eq!(pair.left.problems().len(), 2);
    assert!(pair.left.tunnels(pair.now()).is_empty());
}

#[test]
fn an_operator_s_word_cuts_the_pause_short() {
    let mut left = connection(true);
    left.keying_tries = 0;
    let mut pair = Pair::new(left, connection(false));
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command.clone()).unwrap();
    while pair.left.problems().is_empty() {
        pair.pass_through(Duration::from_secs(1), |_| false);
    }
    assert!(pair.left.sent.is_empty());
    pair.left.command(pair.now(), command).unwrap();
    pair.pass(Duration::ZERO);
    pair.assert_up(1);
}

#[test]
fn without_an_iv_nothing_is_sealed_and_all_goes_on_when_there_are_some() {
    let mut pair = Pair::plain();
    pair.left.host.ivs = 0;
    pair.initiate();
    assert_eq!(pair.left.tunnels(pair.now())[0].message_ids, (0, 0));
    pair.pass(Duration::from_secs(1));
    assert!(pair.left.established(pair.now()).is_empty());
    pair.left.host.ivs = 1_000_000;
    pair.pass(Duration::from_secs(1));
    pair.assert_up(1);
}

#[test]
fn half_open_ones_are_bounded_and_forgotten() {
    let mut right = configuration(connection(false));
    right.limits.half_open = 3;
    right.limits.cookie_threshold = 1_000;
    let mut pair = Pair::with(configuration(connection(true)), right, secrets("secret"), secrets("secret"));
    for seed in 10..20 {
        pair.left = super::side::Side::new(
            seed,
            super::pair::LEFT,
            configuration(connection(true)),
            secrets("secret"),
        );
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        pair.run_through(|packet| packet.to_right);
    }
    let counters = pair.right.ike.counters();
    assert_eq!(counters.init_limited + counters.cookies_sent, 7);
    pair.left.sent.clear();
    pair.pass_through(Duration::from_secs(31), |_| false);
    assert_eq!(pair.right.next_timeout(), None);
}

#[test]
fn unique_replace_ends_the_others_and_keep_refuses_the_new_one() {
    for (unique, standing) in [(Unique::Replace, 1), (Unique::Keep, 1), (Unique::No, 2)] {
        // Without INITIAL_CONTACT, which would end the other one in any case.
        let (mut left, mut right) = (connection(true), connection(false));
        (left.unique, right.unique) = (Unique::Never, unique);
        let mut pair = Pair::new(left.clone(), right);
        pair.initiate();
        let first = pair.right.tunnels(pair.now())[0].name.clone();
        pair.left = super::side::Side::new(3, super::pair::LEFT, configuration(left), secrets("secret"));
        pair.initiate();
        pair.pass_through(Duration::from_mins(4), |_| true);
        let now = pair.right.established(pair.now());
        assert_eq!(now.len(), standing, "{unique:?}");
        assert_eq!(now.iter().any(|view| view.name == first), unique != Unique::Replace);
    }
}

#[test]
fn who_fails_to_authenticate_counts_as_half_open_for_as_long_as_it_is_remembered() {
    let mut right = configuration(connection(false));
    right.limits.half_open = 3;
    right.limits.cookie_threshold = 1_000;
    let mut pair = Pair::with(configuration(connection(true)), right, secrets("wrong"), secrets("secret"));
    let command = || Command::Initiate { connection: "net".to_owned(), child: None };
    for seed in 10..20 {
        let left = configuration(connection(true));
        pair.left = super::side::Side::new(seed, super::pair::LEFT, left, secrets("wrong"));
        pair.left.command(pair.now(), command()).unwrap();
        pair.run_through(|packet| packet.to_right || !notifies(packet).contains(&NotifyType::COOKIE));
    }
    pair.left.sent.clear();
    assert_eq!(pair.right.ike.counters().authentication_failed, 3);
    assert_eq!((pair.right.ike.half_open(), pair.right.ike.tunnels.len()), (3, 3));
    pair.pass_through(Duration::from_secs(31), |_| false);
    assert_eq!((pair.right.ike.half_open(), pair.right.ike.tunnels.len()), (0, 0));
}

#[test]
fn nobody_is_a_pattern() {
    for kind in [wire::IdentificationType::ID_FQDN, wire::IdentificationType::ID_RFC822_ADDR] {
        let id = wire::Identification::new(kind, b"*.test".to_vec());
        assert!(crate::machine::proof::identity(&id).unwrap_err().contains("is a pattern"));
    }
    let id = wire::Identification::new(wire::IdentificationType::ID_FQDN, b"left.test".to_vec());
    assert!(crate::machine::proof::identity(&id).is_ok());
}
