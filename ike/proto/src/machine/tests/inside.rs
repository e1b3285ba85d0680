//! What an authenticated peer may do wrong (RFC 7296 sections 2.5, 2.21 and 3.15), said with its own keys.

use std::time::Duration;

use super::pair::{Packet, Pair, configuration, connection, secrets};
use super::side::Side;
use crate::configuration::{Connection, Limits};
use crate::crypto::{Group, IkeKeys, KeyShare, Role};
use crate::host::{DownReason, Event, Path};
use crate::machine::ike_sa::IkeSa;
use crate::machine::tunnel::Tunnel;
use crate::proposal::offer_ike;
use crate::wire::{
    self, Configuration, ConfigurationType, Datagram, Delete, ExchangeType, Flags, Header, Notify,
    NotifyType, Payload, PayloadType, ProtocolId,
};

/// The IKE SA of the only tunnel of an end.
fn sa(side: &Side) -> &IkeSa {
    let Some(Tunnel::Up(up)) = side.ike.tunnels.values().next().map(|slot| &slot.tunnel) else { panic!() };
    up.current()
}

/// A request as left would make it, with that Message ID.
fn forge(pair: &mut Pair, exchange: ExchangeType, message_id: u32, payloads: &[Payload]) -> Packet {
    let sa = sa(&pair.left);
    let flags = Flags { initiator: sa.role == Role::Initiator, response: false };
    let header = Header {
        initiator_spi: sa.initiator_spi,
        responder_spi: sa.responder_spi,
        exchange,
        flags,
        message_id,
    };
    let octets = sa.keys.seal(sa.role, &header, payloads, &mut super::side::TestHost::new(77)).unwrap();
    let path = pair.right.tunnels(pair.now())[0].path;
    Packet { to_right: true, path, octets }
}

/// What right answers to it, if it does.
fn ask(
    pair: &mut Pair,
    exchange: ExchangeType,
    message_id: u32,
    payloads: &[Payload],
) -> Option<Vec<Payload>> {
    let request = forge(pair, exchange, message_id, payloads);
    pair.deliver(&request);
    let octets = pair.right.sent.pop_front()?.1;
    let Ok(Datagram::Encrypted(sealed)) = wire::parse(&octets) else { panic!() };
    let keys: &IkeKeys = &sa(&pair.left).keys;
    let chain = keys.open(Role::Responder, &sealed).unwrap();
    Some(wire::parse_chain(sealed.first, &chain).unwrap())
}

fn kinds(payloads: &[Payload]) -> Vec<NotifyType> {
    let kind = |payload: &Payload| match payload {
        Payload::Notify(notify) => Some(notify.kind),
        _ => None,
    };
    payloads.iter().filter_map(kind).collect()
}

#[test]
fn an_empty_request_gets_an_empty_answer_and_message_ids_are_kept() {
    let mut pair = Pair::up();
    assert_eq!(ask(&mut pair, ExchangeType::INFORMATIONAL, 2, &[]), Some(vec![]));
    for outside in [0, 1, 4, 1000, u32::MAX] {
        let request = forge(&mut pair, ExchangeType::INFORMATIONAL, outside, &[]);
        pair.deliver(&request);
        assert!(pair.right.sent.is_empty(), "Message ID {outside}");
    }
    // The one before is answered by the same octets.
    let again = forge(&mut pair, ExchangeType::INFORMATIONAL, 2, &[]);
    pair.deliver(&again);
    assert_eq!(pair.right.sent.len(), 1);
}

#[test]
fn unknown_payloads_are_passed_over_unless_they_are_critical() {
    let mut pair = Pair::up();
    let unknown = [Payload::Unknown { kind: PayloadType(200), data: vec![1, 2, 3] }];
    assert_eq!(ask(&mut pair, ExchangeType::INFORMATIONAL, 2, &unknown), Some(vec![]));
    // The critical bit is the top one of the second octet; nothing here writes it, so it is set by hand.
    let Some(critical) = sealed_critical(&mut pair) else { panic!() };
    pair.deliver(&critical);
    let octets = pair.right.sent.pop_front().unwrap().1;
    let Ok(Datagram::Encrypted(sealed)) = wire::parse(&octets) else { panic!() };
    let chain = sa(&pair.left).keys.open(Role::Responder, &sealed).unwrap();
    let answer = wire::parse_chain(sealed.first, &chain).unwrap();
    let expected = Notify::new(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![200]);
    assert_eq!(answer, [Payload::Notify(expected)]);
    pair.assert_up(1);
}

/// An INFORMATIONAL request with a critical payload of type 200: a vendor ID's octets are a payload's, header and all,
/// behind a first type that makes them one.
fn sealed_critical(pair: &mut Pair) -> Option<Packet> {
    let sa = sa(&pair.left);
    let flags = Flags { initiator: true, response: false };
    let (initiator_spi, responder_spi) = (sa.initiator_spi, sa.responder_spi);
    let exchange = ExchangeType::INFORMATIONAL;
    let header = Header { initiator_spi, responder_spi, exchange, flags, message_id: 3 };
    let octets = sa.keys.seal_octets(
        sa.role,
        &header,
        PayloadType(200),
        &[0, 0x80, 0, 4],
        &mut super::side::TestHost::new(78),
    );
    let path = pair.right.tunnels(pair.now())[0].path;
    Some(Packet { to_right: true, path, octets: octets.ok()? })
}

#[test]
fn an_unknown_exchange_and_a_half_request_are_refused_and_the_tunnel_stands() {
    let mut pair = Pair::up();
    let nonce = [Payload::Nonce(vec![7; 32])];
    for (message_id, exchange, payloads) in [
        (2, ExchangeType(99), &[][..]),
        (3, ExchangeType::CREATE_CHILD_SA, &[]),
        (4, ExchangeType::CREATE_CHILD_SA, &nonce),
        (5, ExchangeType::IKE_AUTH, &nonce),
    ] {
        let answer = ask(&mut pair, exchange, message_id, payloads).unwrap();
        assert_eq!(kinds(&answer), [NotifyType::INVALID_SYNTAX], "{exchange}");
    }
    pair.assert_up(1);
}

#[test]
fn what_is_not_there_is_neither_rekeyed_nor_deleted() {
    let mut pair = Pair::up();
    let rekey =
        [Payload::Notify(Notify::about_esp(NotifyType::REKEY_SA, 0x0102_0304)), Payload::Nonce(vec![7; 32])];
    let answer = ask(&mut pair, ExchangeType::CREATE_CHILD_SA, 2, &rekey).unwrap();
    assert_eq!(answer, [Payload::Notify(Notify::about_esp(NotifyType::CHILD_SA_NOT_FOUND, 0x0102_0304))]);
    let delete = [Payload::Delete(Delete { protocol: ProtocolId::ESP, spis: vec![0x0102_0304; 300] })];
    assert_eq!(ask(&mut pair, ExchangeType::INFORMATIONAL, 3, &delete), Some(vec![]));
    pair.assert_up(1);
}

#[test]
fn a_peer_that_tells_us_how_to_be_configured_is_thanked() {
    let mut pair = Pair::up();
    let configuration = |kind| Payload::Configuration(Configuration { kind, attributes: Vec::new() });
    let set = [configuration(ConfigurationType::CFG_SET)];
    let answer = ask(&mut pair, ExchangeType::INFORMATIONAL, 2, &set);
    assert_eq!(answer, Some(vec![configuration(ConfigurationType::CFG_ACK)]));
}

#[test]
fn a_peer_that_does_not_accept_our_proof_ends_the_tunnel() {
    let mut pair = Pair::up();
    let failed = [Payload::Notify(Notify::new(NotifyType::AUTHENTICATION_FAILED, Vec::new()))];
    assert_eq!(ask(&mut pair, ExchangeType::INFORMATIONAL, 2, &failed), Some(vec![]));
    assert!(matches!(pair.right.events.last(), Some(Event::IkeDown { reason: DownReason::Failed, .. })));
    assert!(pair.right.inbound.is_empty());
}

#[test]
fn a_hint_that_the_peer_has_lost_the_ike_sa_asks_the_peer_once() {
    let mut pair = Pair::up();
    let sa = sa(&pair.left);
    let flags = Flags { initiator: false, response: true };
    let (initiator_spi, responder_spi) = (sa.initiator_spi, sa.responder_spi);
    let exchange = ExchangeType::INFORMATIONAL;
    let header = Header { initiator_spi, responder_spi, exchange, flags, message_id: 0 };
    let octets =
        wire::emit(&header, &[Payload::Notify(Notify::new(NotifyType::INVALID_IKE_SPI, Vec::new()))]);
    let path: Path = pair.left.tunnels(pair.now())[0].path;
    let hint = Packet { to_right: false, path, octets };
    pair.deliver(&hint);
    assert!(pair.left.sent.is_empty(), "it was heard just now");
    pair.pass(Duration::from_secs(11));
    pair.deliver(&hint);
    pair.deliver(&hint);
    assert_eq!(pair.left.sent.len(), 1);
    pair.run();
    pair.assert_up(1);
}

#[test]
fn an_unknown_ike_sa_is_told_of_at_a_bounded_rate() {
    let mut pair = Pair::up();
    let mut request = forge(&mut pair, ExchangeType::INFORMATIONAL, 2, &[]);
    request.octets[15] ^= 1;
    for _ in 0..10 {
        pair.deliver(&request);
    }
    assert_eq!(pair.right.sent.len(), 1);
    let Ok(Datagram::Plain(header, payloads)) = wire::parse(&pair.right.sent[0].1) else { panic!() };
    assert!(header.flags.response && !header.flags.initiator && header.message_id == 2);
    assert_eq!(kinds(&payloads), [NotifyType::INVALID_IKE_SPI]);
}

#[test]
fn another_major_version_is_answered_with_ours() {
    let mut pair = Pair::plain();
    pair.left
        .command(pair.now(), crate::host::Command::Initiate { connection: "net".to_owned(), child: None })
        .unwrap();
    let mut request = pair.take_packets().remove(0);
    request.octets[17] = 0x30;
    pair.deliver(&request);
    let Ok(Datagram::Plain(_, payloads)) = wire::parse(&pair.right.sent[0].1) else { panic!() };
    assert_eq!(kinds(&payloads), [NotifyType::INVALID_MAJOR_VERSION]);
}

#[test]
fn a_peer_that_rekeys_without_end_waits_until_old_ones_are_gone() {
    // Room for many requests at once, and for two pairs with what they replace.
    let right = Connection { window: 32, ..connection(false) };
    let limits = Limits { max_children: 2, ..Limits::default() };
    let right = crate::configuration::Configuration { limits, ..configuration(right) };
    let mut pair = Pair::with(configuration(connection(true)), right, secrets("secret"), secrets("secret"));
    pair.initiate();
    // The peer never deletes what it has replaced: its requests to do so are lost.
    for _ in 0..20 {
        let net = crate::host::Target::Connection("net".to_owned());
        let _ = pair.left.command(pair.now(), crate::host::Command::RekeyChild(net));
        pair.run_through(|packet| {
            !packet.to_right
                || Header::parse(&packet.octets).unwrap().exchange == ExchangeType::CREATE_CHILD_SA
        });
    }
    let right = pair.right.ike.tunnels.values().next().map(|slot| &slot.tunnel);
    let Some(Tunnel::Up(up)) = right else { panic!() };
    assert_eq!(up.children.len(), 4);
}

/// RFC 5723 section 4.1: a ticket may be asked for whenever the keys are replaced, and in an exchange of its own.
#[test]
fn a_ticket_is_given_when_the_ike_sa_stands_and_promised_before() {
    for resumes in [true, false] {
        let mut right = connection(false);
        right.moving.session_resumption = resumes;
        let mut pair = Pair::new(connection(true), right);
        pair.initiate();
        let ticket = || Payload::Notify(Notify::new(NotifyType::TICKET_REQUEST, Vec::new()));
        let answer = ask(&mut pair, ExchangeType::INFORMATIONAL, 2, &[ticket()]).unwrap();
        assert_eq!(kinds(&answer) == [NotifyType::TICKET_LT_OPAQUE], resumes, "{answer:?}");
        let mut octet = 0;
        let share = KeyShare::generate(Group::Curve25519, &mut |octets| {
            octet += 1;
            octets.fill(octet);
        });
        let proposals = connection(true).ike_proposals;
        let rekey = [
            Payload::SecurityAssociation(offer_ike(&proposals, &[7; 8])),
            Payload::Nonce(vec![9; 32]),
            Payload::KeyExchange { group: share.group().id(), data: share.public().to_vec() },
            ticket(),
        ];
        let answer = ask(&mut pair, ExchangeType::CREATE_CHILD_SA, 3, &rekey).unwrap();
        assert!(matches!(answer[0], Payload::SecurityAssociation(_)), "{answer:?}");
        assert_eq!(kinds(&answer) == [NotifyType::TICKET_ACK], resumes, "{answer:?}");
    }
}
