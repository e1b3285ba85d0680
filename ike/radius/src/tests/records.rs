//! Records of sessions, which are repeated until they are taken.

use super::fake::{Manner, Stage, respond, server};
use super::seconds;
use crate::accounting::{Cause, Record, Status, Usage};
use crate::attribute::{Attributes, Kind, number};
use crate::client::MAX_RECORDS;
use crate::packet::{Code, Packet};

fn record(session: &str, status: Status) -> Record {
    let mut attributes = Attributes::default();
    attributes.add_text(Kind::USER_NAME, "alice");
    let usage = Usage { input_octets: (5 << 32) + 7, input_packets: 3, output_octets: 9, output_packets: 1 };
    Record { session: session.to_owned(), status, time: seconds(77), usage, unix: super::UNIX, attributes }
}

fn value(octets: &[u8], kind: Kind) -> Option<u32> {
    Packet::parse(octets).expect("a packet").first(kind).and_then(number)
}

fn account(stage: &mut Stage, record: Record) {
    stage.client.account(stage.now, record);
    stage.drain();
}

fn take_response(stage: &mut Stage) {
    let (port, request) = stage.take();
    stage.receive(port, &respond(&request, Code::ACCOUNTING_RESPONSE, &Attributes::default(), Manner::NoMac));
}

#[test]
fn a_record_says_what_a_session_has_carried() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    account(&mut stage, record("s", Status::Start));
    assert_eq!(value(&stage.sent[0].1, Kind::ACCT_STATUS_TYPE), Some(1));
    assert_eq!(value(&stage.sent[0].1, Kind::ACCT_INPUT_OCTETS), None);
    take_response(&mut stage);
    account(&mut stage, record("s", Status::Stop(Cause::UserRequest)));
    let octets = &stage.sent[0].1;
    let expected = [
        (Kind::ACCT_STATUS_TYPE, 2),
        (Kind::ACCT_INPUT_OCTETS, 7),
        (Kind::ACCT_INPUT_GIGAWORDS, 5),
        (Kind::ACCT_OUTPUT_OCTETS, 9),
        (Kind::ACCT_INPUT_PACKETS, 3),
        (Kind::ACCT_SESSION_TIME, 77),
        (Kind::ACCT_TERMINATE_CAUSE, 1),
        (Kind::ACCT_DELAY_TIME, 0),
        (Kind::EVENT_TIMESTAMP, 1_800_000_000),
    ];
    for (kind, wanted) in expected {
        assert_eq!(value(octets, kind), Some(wanted), "{kind:?}");
    }
    assert_eq!(value(octets, Kind::ACCT_OUTPUT_GIGAWORDS), None);
    let packet = Packet::parse(octets).expect("a packet");
    assert_eq!(super::fake::secret().check_request(&packet), Ok(()), "RFC 2866 section 3");
    take_response(&mut stage);
    assert_eq!((stage.client.records_waiting(), stage.counter(0, "records_taken")), (0, 2));
}

#[test]
fn records_are_repeated_with_their_delay_until_they_are_taken() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    account(&mut stage, record("s", Status::Stop(Cause::LostService)));
    stage.pass(seconds(3));
    assert_eq!(stage.sent.len(), 2);
    assert_ne!(stage.sent[0].1[1], stage.sent[1].1[1], "another identifier (RFC 2866 section 5.2)");
    assert_eq!(value(&stage.sent[1].1, Kind::ACCT_DELAY_TIME), Some(2));
    // Hours later it is still there, and what is sent has not become much.
    stage.pass(seconds(7200));
    assert!(stage.sent.len() < 60, "{}", stage.sent.len());
    let (port, request) = stage.sent.pop().expect("a record");
    stage.receive(port, &respond(&request, Code::ACCOUNTING_RESPONSE, &Attributes::default(), Manner::Right));
    stage.pass(seconds(3600));
    let sent = stage.sent.len();
    stage.ask(1, None);
    assert_eq!(stage.sent.len(), sent + 1);
}

#[test]
fn an_answer_to_an_earlier_repetition_is_one() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    account(&mut stage, record("s", Status::Start));
    stage.pass(seconds(3));
    take_response(&mut stage);
    assert_eq!((stage.client.records_waiting(), stage.client.next_timeout()), (0, None));
}

#[test]
fn forged_responses_take_nothing() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    account(&mut stage, record("s", Status::Start));
    let (port, request) = stage.take();
    for manner in [Manner::WrongSecret, Manner::WrongMac] {
        stage.receive(port, &respond(&request, Code::ACCOUNTING_RESPONSE, &Attributes::default(), manner));
    }
    assert_eq!((stage.client.records_waiting(), stage.counter(0, "bad_authenticators")), (1, 2));
}

#[test]
fn only_the_newest_interim_record_of_a_session_waits() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    for _ in 0..10 {
        account(&mut stage, record("s", Status::Interim));
        account(&mut stage, record("t", Status::Interim));
    }
    assert_eq!(stage.client.records_waiting(), 2);
    account(&mut stage, record("s", Status::Stop(Cause::AdminReset)));
    assert_eq!(stage.client.records_waiting(), 2, "the last word of a session");
}

#[test]
fn a_dead_server_does_not_fill_the_memory() {
    let mut stage = Stage::new(vec![server("a", 0)]);
    for number in 0..MAX_RECORDS + 10 {
        account(&mut stage, record(&number.to_string(), Status::Start));
    }
    account(&mut stage, record("x", Status::Interim));
    assert_eq!(stage.client.records_waiting(), MAX_RECORDS);
    assert_eq!(stage.client.records_lost(), 11);
}

#[test]
fn without_servers_nothing_is_kept() {
    let mut stage = Stage::new(vec![]);
    account(&mut stage, record("s", Status::Start));
    assert_eq!(stage.client.records_waiting(), 0);
    stage.ask(1, None);
    assert_eq!(stage.answers.len(), 1);
}
