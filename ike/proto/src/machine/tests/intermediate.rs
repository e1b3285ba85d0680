//! Additional key exchanges (RFC 9370) in IKE_INTERMEDIATE (RFC 9242).

use std::time::Duration;

use super::pair::{Packet, Pair, connection};
use crate::configuration::{Connection, Fragmentation};
use crate::host::Command;
use crate::wire::{self, Datagram, ExchangeType, Header, NotifyType, Payload, TransformType};

const HYBRID: &str = "aes128gcm16-prfsha256-x25519-ke1_mlkem768";

fn with(is_left: bool, proposals: &str) -> Connection {
    let ike_proposals = crate::proposal::IkeProposal::parse_list(proposals).unwrap();
    Connection { ike_proposals, ..connection(is_left) }
}

fn hybrid() -> Pair {
    Pair::new(with(true, HYBRID), with(false, HYBRID))
}

fn begin(pair: &mut Pair) {
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
}

fn header(packet: &Packet) -> Header {
    Header::parse(&packet.octets).unwrap()
}

fn suites(pair: &Pair) -> [String; 2] {
    let (left, right) = (pair.left.established(pair.now()), pair.right.established(pair.now()));
    [left[0].suite.unwrap().to_string(), right[0].suite.unwrap().to_string()]
}

#[test]
fn ml_kem_comes_between_ike_sa_init_and_ike_auth() {
    let mut pair = hybrid();
    begin(&mut pair);
    let mut exchanges = Vec::new();
    pair.run_through(|packet| {
        exchanges.push((header(packet).exchange, header(packet).message_id));
        true
    });
    exchanges.dedup();
    assert_eq!(
        exchanges,
        [(ExchangeType::IKE_SA_INIT, 0), (ExchangeType::IKE_INTERMEDIATE, 1), (ExchangeType::IKE_AUTH, 2)]
    );
    pair.assert_up(1);
    assert_eq!(suites(&pair), [HYBRID, HYBRID]);
}

#[test]
fn several_are_done_in_the_order_of_their_places() {
    let all = "aes256-sha384-x25519-ke1_mlkem768-ke3_ecp384-ke7_mlkem1024";
    let mut pair = Pair::new(with(true, all), with(false, all));
    pair.initiate();
    pair.assert_up(1);
    assert_eq!(suites(&pair)[0], "aes256-sha384-prfsha384-x25519-ke1_mlkem768-ke3_ecp384-ke7_mlkem1024");
    assert_eq!(pair.left.established(pair.now())[0].message_ids.0, 5);
}

#[test]
fn every_lost_datagram_is_made_good_for_by_repetition() {
    let small = |is_left| Connection { fragment_size: 576, ..with(is_left, HYBRID) };
    let mut count = 0;
    let mut pair = Pair::new(small(true), small(false));
    begin(&mut pair);
    pair.run_through(|_| {
        count += 1;
        true
    });
    assert!(count > 8, "IKE_INTERMEDIATE comes in fragments: {count}");
    for lost in 0..count {
        let mut pair = Pair::new(small(true), small(false));
        begin(&mut pair);
        let mut number = 0;
        let mut lets = |_: &Packet| {
            number += 1;
            number != lost + 1
        };
        pair.run_through(&mut lets);
        pair.pass_through(Duration::from_secs(10), &mut lets);
        pair.assert_up(1);
    }
}

#[test]
fn repeated_requests_get_the_same_octets_although_the_keys_are_others() {
    let unfragmented = |is_left| Connection { fragmentation: Fragmentation::No, ..with(is_left, HYBRID) };
    let mut pair = Pair::new(unfragmented(true), unfragmented(false));
    begin(&mut pair);
    for _ in 0..3 {
        let request = pair.take_packets().remove(0);
        pair.deliver(&request);
        pair.deliver(&request);
        let answers = pair.take_packets();
        assert_eq!(answers.len(), 2, "{}", header(&request).exchange);
        assert_eq!(answers[0].octets, answers[1].octets);
        pair.deliver(&answers[0]);
        pair.deliver(&answers[1]);
    }
    pair.assert_up(1);
}

#[test]
fn peers_without_it_are_refused_where_it_is_required_and_taken_where_it_is_not() {
    let plain = "aes128gcm16-prfsha256-x25519";
    let either = "aes128gcm16-prfsha256-x25519-ke1_mlkem768-ke1_none";
    let listed = format!("{HYBRID}, {plain}");
    for (left, right) in [(HYBRID, plain), (plain, HYBRID)] {
        let mut pair = Pair::new(with(true, left), with(false, right));
        pair.initiate();
        assert!(pair.left.established(pair.now()).is_empty());
        assert!(pair.left.problems()[0].contains("accepts none of our IKE proposals"));
    }
    for (left, right, agreed) in [
        (either, plain, plain),
        (plain, either, plain),
        (listed.as_str(), plain, plain),
        (plain, listed.as_str(), plain),
        (either, either, HYBRID),
        (listed.as_str(), either, HYBRID),
        (either, HYBRID, HYBRID),
    ] {
        let mut pair = Pair::new(with(true, left), with(false, right));
        pair.initiate();
        pair.assert_up(1);
        assert_eq!(suites(&pair), [agreed, agreed], "{left} {right}");
    }
}

/// Somebody on the path changes what is said in IKE_SA_INIT.
fn tampered(mut pair: Pair, to_right: bool, change: impl Fn(&mut Vec<Payload>)) -> Pair {
    begin(&mut pair);
    for _ in 0..12 {
        for packet in pair.take_packets() {
            let packet = match wire::parse(&packet.octets) {
                Ok(Datagram::Plain(header, mut payloads)) if packet.to_right == to_right => {
                    change(&mut payloads);
                    Packet { octets: wire::emit(&header, &payloads), ..packet }
                }
                _ => packet,
            };
            pair.deliver(&packet);
        }
    }
    pair
}

fn strip(payloads: &mut Vec<Payload>) {
    for payload in &mut *payloads {
        if let Payload::SecurityAssociation(proposals) = payload {
            for proposal in proposals {
                proposal.transforms.retain(|transform| transform.kind != TransformType::ADDKE1);
            }
        }
    }
}

#[test]
fn whoever_takes_the_key_exchange_out_is_refused() {
    // Required: the initiator sees that its offer was not answered.
    let pair = tampered(hybrid(), false, strip);
    assert!(pair.left.established(pair.now()).is_empty());
    assert!(pair.left.problems()[0].contains("what we did not offer"), "{:?}", pair.left.problems());
    // Both would go without: the proofs do not fit what was changed.
    let both = "aes128gcm16-prfsha256-x25519-ke1_mlkem768-ke1_none";
    for to_right in [true, false] {
        let pair = tampered(Pair::new(with(true, both), with(false, both)), to_right, strip);
        assert!(
            pair.left.established(pair.now()).is_empty() && pair.right.established(pair.now()).is_empty()
        );
    }
    // Without the announcement there is no place for it.
    let unannounced = |payloads: &mut Vec<Payload>| {
        payloads.retain(|payload| {
            !matches!(payload, Payload::Notify(n) if n.kind == NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED)
        });
    };
    for to_right in [true, false] {
        let pair = tampered(hybrid(), to_right, unannounced);
        assert!(
            pair.left.established(pair.now()).is_empty() && pair.right.established(pair.now()).is_empty()
        );
    }
}

#[test]
fn half_open_ones_stay_bounded_and_are_forgotten_in_between() {
    let mut pair = hybrid();
    begin(&mut pair);
    // IKE_SA_INIT, then IKE_INTERMEDIATE; its answer is lost, and so is all that follows.
    pair.run_through(|packet| packet.to_right || header(packet).exchange == ExchangeType::IKE_SA_INIT);
    assert_eq!(pair.right.ike.half_open(), 1);
    pair.pass_through(Duration::from_secs(31), |packet| !packet.to_right);
    assert_eq!(pair.right.ike.half_open(), 0);
    assert_eq!(pair.right.ike.counters().ike_failed, 1);
}

#[test]
fn with_nothing_to_seal_by_it_waits() {
    let mut pair = hybrid();
    pair.left.host.ivs = 0;
    begin(&mut pair);
    pair.run();
    assert!(pair.left.established(pair.now()).is_empty());
    pair.left.host.ivs = u64::MAX;
    pair.pass(Duration::from_secs(1));
    pair.assert_up(1);
}
