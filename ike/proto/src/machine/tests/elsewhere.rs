//! Users whose proof is judged elsewhere (RFC 3579): what waits for the judge, and what does not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::pair::{Pair, configuration};
use super::users::{asks, credentials, id, user};
use crate::auth::Credentials;
use crate::configuration::{Configuration, Connection, EapMethod, RemoteMethod};
use crate::eap::{Means, Server, Turn};
use crate::host::{Command, Grant, Host as _, Judgement, Question, Thread};
use crate::identity::Identity;

/// An authenticator that asks users for their passwords.
pub(super) struct Judge {
    credentials: Arc<Credentials>,
    conversations: HashMap<String, Server>,
    pub(super) grant: Grant,
}

impl Judge {
    pub(super) fn new(grant: Grant) -> Self {
        let credentials = credentials(&[("carol", "carol's"), ("dave", "dave's")]);
        Self { credentials, conversations: HashMap::new(), grant }
    }

    pub(super) fn judge(&mut self, pair: &mut Pair, question: &Question) -> Judgement {
        let mut random = |octets: &mut [u8]| pair.right.host.random(octets);
        let unix = Duration::from_secs(2_000_000_000);
        let mut means = Means { credentials: &self.credentials, random: &mut random, unix };
        let thread =
            Thread { server: "judge".to_owned(), state: Some(question.session.clone().into_bytes()) };
        let Some(server) = self.conversations.get_mut(&question.session) else {
            assert_eq!(question.thread, None);
            let (server, eap) = begin(&mut means, &question.user);
            self.conversations.insert(question.session.clone(), server);
            return Judgement::Continue { eap, thread };
        };
        assert_eq!(question.thread.as_ref(), Some(&thread));
        match server.handle(&mut means, &question.eap) {
            Turn::Ask(eap) | Turn::AskLater(eap) => Judgement::Continue { eap, thread },
            Turn::Success { packet, key, .. } => {
                let key = key.map(|key| key.octets().to_vec().into());
                Judgement::Accept(Box::new(Grant { eap: Some(packet), key, ..self.grant.clone() }))
            }
            Turn::Failure { packet, problem } => Judgement::Reject { eap: Some(packet), problem },
        }
    }
}

fn begin(means: &mut Means, user: &[u8]) -> (Server, Vec<u8>) {
    let mut remote = asks().remote;
    remote.eap_identity = Some(Identity::from_eap(user).unwrap());
    Server::begin(means, EapMethod::MsChapV2, (id("judge"), &[]), remote, Identity::Any).unwrap()
}

/// Right asks users, and somebody else judges.
pub(super) fn passes() -> Connection {
    let mut right = asks();
    right.remote.method = RemoteMethod::Radius;
    right
}

pub(super) fn pair_of(left: Connection, right: Configuration, password: &str) -> Pair {
    let ours = credentials(&[("carol", password), ("dave", "dave's")]);
    Pair::with(configuration(left), right, ours, credentials(&[]))
}

fn pair(password: &str) -> Pair {
    pair_of(user("carol"), configuration(passes()), password)
}

fn begin_at(pair: &mut Pair) {
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
    pair.run();
}

/// Lets the judge answer all that it is asked.
pub(super) fn judge_all(pair: &mut Pair, judge: &mut Judge) {
    while let Some(question) = pair.right.questions.pop_front() {
        let judgement = judge.judge(pair, &question);
        say(pair, &question, judgement);
    }
}

pub(super) fn say(pair: &mut Pair, question: &Question, judgement: Judgement) {
    let now = pair.now();
    pair.right.ike.judged(now, question.id, judgement, &mut pair.right.host);
    pair.right.drain();
    pair.run();
}

pub(super) fn initiate(pair: &mut Pair, judge: &mut Judge) {
    begin_at(pair);
    judge_all(pair, judge);
}

#[test]
fn a_user_comes_in_when_the_judge_says_so() {
    let (mut pair, mut judge) = (pair("carol's"), Judge::new(Grant::default()));
    initiate(&mut pair, &mut judge);
    pair.assert_up(1);
    let seen = &pair.right.established(pair.now())[0];
    assert_eq!(seen.user, Some(id("carol")));
    assert_eq!(seen.session.as_ref().map(|session| session.user.clone()), Some(b"carol".to_vec()));
    assert_eq!(pair.right.ike.half_open(), 0);
}

#[test]
fn what_the_judge_calls_the_user_is_who_it_is() {
    let grant = Grant { user: Some(b"carol@example.org".to_vec()), ..Grant::default() };
    let (mut pair, mut judge) = (pair("carol's"), Judge::new(grant));
    initiate(&mut pair, &mut judge);
    let seen = &pair.right.established(pair.now())[0];
    assert_eq!(seen.user, Some(id("carol@example.org")));
    assert_eq!(pair.right.accounts[0].session.user, b"carol@example.org");
}

/// The name that an outer method hides may be one of another connection's users.
#[test]
fn who_turns_out_to_be_somebody_else_than_the_connection_is_for_does_not_come_in() {
    for (named, is_allowed) in [("carol@a.test", true), ("carol@b.test", false), ("%any", false)] {
        let mut right = passes();
        right.remote.eap_identity = Some(id("*@a.test"));
        let mut left = user("anonymous@a.test");
        left.local.identity = id("left.test");
        let ours = credentials(&[("anonymous@a.test", "carol's")]);
        let mut pair = Pair::with(configuration(left), configuration(right), ours, credentials(&[]));
        let grant = Grant { user: Some(named.as_bytes().to_vec()), ..Grant::default() };
        let mut judge = Judge::new(grant);
        judge.credentials = credentials(&[("anonymous@a.test", "carol's")]);
        initiate(&mut pair, &mut judge);
        let up = pair.right.established(pair.now());
        assert_eq!(up.len(), usize::from(is_allowed), "{named}");
        if is_allowed {
            assert_eq!(up[0].user, Some(id(named)));
        } else {
            assert!(pair.right.problems()[0].contains("User-Name"), "{:?}", pair.right.problems());
        }
    }
}

/// As FreeRADIUS gives them for EAP-MSCHAPv2.
#[test]
fn keys_of_16_octets_each_are_those_of_the_user() {
    let (mut pair, mut judge) = (pair("carol's"), Judge::new(Grant::default()));
    begin_at(&mut pair);
    while let Some(question) = pair.right.questions.pop_front() {
        let judgement = match judge.judge(&mut pair, &question) {
            Judgement::Accept(grant) => {
                let key = grant.key.as_ref().map(|key| key[..32].to_vec().into());
                Judgement::Accept(Box::new(Grant { key, ..*grant }))
            }
            other => other,
        };
        say(&mut pair, &question, judgement);
    }
    pair.assert_up(1);
}

#[test]
fn the_identity_is_not_asked_for_where_it_is_known() {
    let mut right = passes();
    right.remote.eap_identity = None;
    let mut left = user("carol");
    left.local.identity = id("carol");
    let (mut pair, mut judge) =
        (pair_of(left, configuration(right), "carol's"), Judge::new(Grant::default()));
    begin_at(&mut pair);
    assert_eq!(pair.right.questions.len(), 1);
    assert_eq!(pair.right.questions[0].user, b"carol");
    assert_eq!(pair.right.questions[0].eap[4..], *b"\x01carol");
    judge_all(&mut pair, &mut judge);
    pair.assert_up(1);
}

#[test]
fn who_is_rejected_has_nothing() {
    let (mut pair, mut judge) = (pair("wrong"), Judge::new(Grant::default()));
    initiate(&mut pair, &mut judge);
    assert!(pair.left.tunnels(pair.now()).is_empty() && pair.right.tunnels(pair.now()).is_empty());
    assert!(pair.right.inbound.is_empty() && pair.right.accounts.is_empty());
    assert!(pair.left.problems()[0].contains("wrong name or password"), "{:?}", pair.left.problems());
    assert!(pair.right.problems()[0].starts_with("user \"carol\""), "{:?}", pair.right.problems());
    assert_eq!(pair.right.ike.counters().authentication_failed, 1);
}

#[test]
fn who_does_not_fit_the_configuration_is_not_asked_about() {
    let mut right = passes();
    right.remote.eap_identity = Some(id("*@example.org"));
    let mut pair = pair_of(user("carol"), configuration(right), "carol's");
    begin_at(&mut pair);
    assert!(pair.right.questions.is_empty());
    assert!(pair.right.problems()[0].contains("eap_id"), "{:?}", pair.right.problems());
}

#[test]
fn a_silent_judge_costs_the_user_alone() {
    let mut pair = pair("carol's");
    begin_at(&mut pair);
    let question = pair.right.questions.pop_front().unwrap();
    // What comes again meanwhile asks nothing, and is not answered.
    pair.pass(Duration::from_secs(25));
    assert!(pair.right.questions.is_empty() && pair.right.sent.is_empty());
    assert_eq!(pair.right.ike.half_open(), 1);
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.right.ike.half_open(), 0);
    assert!(pair.right.problems()[0].contains("in time"), "{:?}", pair.right.problems());
    // Too late.
    say(&mut pair, &question, Judgement::Unknown("nobody knows".to_owned()));
    assert!(pair.right.tunnels(pair.now()).is_empty());
}

#[test]
fn that_nobody_knows_is_told_to_the_user() {
    let mut pair = pair("carol's");
    begin_at(&mut pair);
    let question = pair.right.questions.pop_front().unwrap();
    say(&mut pair, &question, Judgement::Unknown("no RADIUS server has answered".to_owned()));
    assert!(pair.right.problems()[0].contains("no RADIUS server"), "{:?}", pair.right.problems());
    assert!(pair.left.tunnels(pair.now()).is_empty() && !pair.left.problems().is_empty());
}

#[test]
fn a_late_judgement_is_told_and_a_second_one_is_not() {
    let (mut pair, mut judge) = (pair("carol's"), Judge::new(Grant::default()));
    begin_at(&mut pair);
    let question = pair.right.questions.pop_front().unwrap();
    pair.pass(Duration::from_secs(12));
    let judgement = judge.judge(&mut pair, &question);
    say(&mut pair, &question, judgement);
    say(&mut pair, &question, Judgement::Unknown("too late".to_owned()));
    judge_all(&mut pair, &mut judge);
    pair.assert_up(1);
}

#[test]
fn without_ivs_a_judgement_waits() {
    let (mut pair, mut judge) = (pair("carol's"), Judge::new(Grant::default()));
    begin_at(&mut pair);
    let question = pair.right.questions.pop_front().unwrap();
    pair.right.host.ivs = 0;
    pair.right.ike.core.ivs = crate::machine::core::Ivs::default();
    let judgement = judge.judge(&mut pair, &question);
    say(&mut pair, &question, judgement);
    assert!(pair.right.questions.is_empty());
    pair.right.host.ivs = u64::MAX;
    pair.pass(Duration::from_secs(1));
    judge_all(&mut pair, &mut judge);
    pair.assert_up(1);
}

#[test]
fn impossible_judgements_let_nobody_in() {
    let accept = |eap: Option<Vec<u8>>, key: Option<usize>| {
        let key = key.map(|length| vec![1; length].into());
        Judgement::Accept(Box::new(Grant { eap, key, ..Grant::default() }))
    };
    let judgements = [
        (accept(Some(vec![4, 0, 0, 4]), Some(64)), "tells it otherwise"),
        (accept(Some(vec![3, 0, 0, 4]), Some(63)), "MS-MPPE"),
        (
            Judgement::Continue {
                eap: vec![3, 0, 0, 4],
                thread: Thread { server: "judge".to_owned(), state: None },
            },
            "asks nothing",
        ),
        (
            Judgement::Continue { eap: vec![1], thread: Thread { server: "judge".to_owned(), state: None } },
            "what the RADIUS server asks is wrong",
        ),
    ];
    for (judgement, expected) in judgements {
        let mut pair = pair("carol's");
        begin_at(&mut pair);
        let question = pair.right.questions.pop_front().unwrap();
        say(&mut pair, &question, judgement);
        assert!(pair.right.problems()[0].contains(expected), "{:?}", pair.right.problems());
        assert!(pair.right.tunnels(pair.now()).is_empty() && pair.right.inbound.is_empty());
    }
}

/// An accept that comes before the user has said anything does not help who cannot prove that it has the key.
#[test]
fn a_forged_accept_without_the_key_is_of_no_use() {
    let mut pair = pair("carol's");
    begin_at(&mut pair);
    let question = pair.right.questions.pop_front().unwrap();
    let grant = Grant { key: Some(vec![7; 64].into()), ..Grant::default() };
    say(&mut pair, &question, Judgement::Accept(Box::new(grant)));
    pair.pass(Duration::from_mins(2));
    assert!(pair.right.tunnels(pair.now()).is_empty() && pair.right.inbound.is_empty());
    assert!(pair.right.accounts.is_empty());
}

#[test]
fn loss_and_repetition_change_nothing() {
    for lost in 0..12 {
        let (mut pair, mut judge) = (pair("carol's"), Judge::new(Grant::default()));
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        let mut number = 0;
        let mut lets = |_: &super::pair::Packet| {
            number += 1;
            number != lost
        };
        for _ in 0..30 {
            pair.run_through(&mut lets);
            judge_all(&mut pair, &mut judge);
            pair.pass_through(Duration::from_millis(900), &mut lets);
        }
        pair.assert_up(1);
        assert_eq!(pair.right.accounts.len(), 1);
    }
}
