//! What servers ask of us.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::fake::secret;
use super::{UNIX, seconds};
use crate::Secret;
use crate::attribute::{Attributes, Kind, number};
use crate::authorization::{Cause, Change, Heard, Ignored, Listener, Order, Policy};
use crate::packet::{Code, Draft, Packet};

fn listener() -> Listener {
    Listener::new(Policy {
        clients: vec!["192.0.2.1".parse().unwrap()],
        secret: secret(),
        needs_timestamp: true,
        identifiers: vec!["gateway".to_owned()],
        addresses: vec!["192.0.2.9".parse().unwrap()],
    })
}

fn source() -> SocketAddr {
    "192.0.2.1:40000".parse().unwrap()
}

fn signed(secret: &Secret, code: Code, add: impl FnOnce(&mut Attributes)) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.add_seconds(Kind::EVENT_TIMESTAMP, UNIX);
    add(&mut attributes);
    secret.sign_request(Draft::new((code, 7), &[0; 16], false, &attributes).unwrap()).0
}

fn disconnect(add: impl FnOnce(&mut Attributes)) -> Vec<u8> {
    signed(&secret(), Code::DISCONNECT_REQUEST, add)
}

fn hear(listener: &mut Listener, datagram: &[u8]) -> Heard {
    listener.hear(seconds(1), UNIX, source(), datagram)
}

fn refused(heard: Heard) -> Option<u32> {
    let Heard::Answer(octets) = heard else { panic!("{heard:?}") };
    Packet::parse(&octets).unwrap().first(Kind::ERROR_CAUSE).and_then(number)
}

#[test]
fn a_disconnect_is_asked_and_answered_once() {
    let mut listener = listener();
    let datagram = disconnect(|all| {
        all.add(Kind::USER_NAME, b"alice")
            .add(Kind::NAS_IDENTIFIER, b"gateway")
            .add(Kind::PROXY_STATE, b"hop");
    });
    let Heard::Asked(request) = hear(&mut listener, &datagram) else { panic!("not asked") };
    assert_eq!(
        (request.query.user.as_deref(), &request.order),
        (Some(b"alice".as_slice()), &Order::Disconnect)
    );
    let answer = listener.answer(seconds(1), &request, Ok(()));
    let packet = Packet::parse(&answer).unwrap();
    assert_eq!((packet.code(), packet.identifier()), (Code::DISCONNECT_ACK, 7));
    assert_eq!(packet.first(Kind::PROXY_STATE), Some(b"hop".as_slice()));
    let asked = Packet::parse(&datagram).unwrap().authenticator();
    assert_eq!(secret().check_response(&packet, &asked, crate::secret::Demand::Mac), Ok(()));
    // What comes again is answered by the same octets, and not carried out.
    let Heard::Answer(again) = hear(&mut listener, &datagram) else { panic!("asked twice") };
    assert_eq!(again, answer);
}

#[test]
fn strangers_forgeries_and_old_requests_are_ignored() {
    let mut listener = listener();
    let datagram = disconnect(|all| {
        all.add(Kind::USER_NAME, b"alice");
    });
    let stranger = "192.0.2.2:40000".parse().unwrap();
    let mut judge = |unix, source, octets: &[u8]| match listener.hear(seconds(1), unix, source, octets) {
        Heard::Ignored(ignored) => ignored,
        heard => panic!("{heard:?}"),
    };
    assert_eq!(judge(UNIX, stranger, &datagram), Ignored::Stranger);
    let other = Secret::new(Zeroizing::new(b"other".to_vec()));
    let forged = signed(&other, Code::DISCONNECT_REQUEST, |all| {
        all.add(Kind::USER_NAME, b"alice");
    });
    assert_eq!(judge(UNIX, source(), &forged), Ignored::Forged);
    assert_eq!(judge(UNIX + seconds(301), source(), &datagram), Ignored::Stale);
    assert_eq!(judge(UNIX.saturating_sub(seconds(301)), source(), &datagram), Ignored::Stale);
    assert_eq!(judge(UNIX, source(), &datagram[..19]), Ignored::Malformed);
    let access = signed(&secret(), Code::ACCESS_REQUEST, |_| {});
    assert_eq!(judge(UNIX, source(), &access), Ignored::Malformed);
    let mut timeless = Attributes::default();
    timeless.add(Kind::USER_NAME, b"alice");
    let draft = Draft::new((Code::DISCONNECT_REQUEST, 7), &[0; 16], false, &timeless).unwrap();
    assert_eq!(judge(UNIX, source(), &secret().sign_request(draft).0), Ignored::Stale);
}

#[test]
fn what_is_not_understood_is_refused_with_its_cause() {
    type Refusal<'a> = (&'a [(Kind, &'a [u8])], Cause);
    let refusals: [Refusal; 6] = [
        (&[], Cause::MissingAttribute),
        (&[(Kind::USER_NAME, b"a"), (Kind::NAS_IDENTIFIER, b"other")], Cause::NasIdentificationMismatch),
        (&[(Kind::USER_NAME, b"a"), (Kind::NAS_IP_ADDRESS, &[9, 9, 9, 9])], Cause::NasIdentificationMismatch),
        (&[(Kind::FRAMED_IP_ADDRESS, &[9, 9])], Cause::InvalidRequest),
        (&[(Kind::USER_NAME, b"a"), (Kind::SERVICE_TYPE, &[0, 0, 0, 17])], Cause::UnsupportedService),
        (&[(Kind::USER_NAME, b"a"), (Kind::SESSION_TIMEOUT, &[0, 0, 0, 17])], Cause::UnsupportedAttribute),
    ];
    for (attributes, cause) in refusals {
        let datagram = disconnect(|all| {
            for (kind, value) in attributes {
                all.add(*kind, value);
            }
        });
        assert_eq!(refused(hear(&mut listener(), &datagram)), Some(cause as u32), "{cause:?}");
    }
}

#[test]
fn a_change_names_what_is_to_change() {
    let change = |add: fn(&mut Attributes)| {
        signed(&secret(), Code::COA_REQUEST, |all| {
            all.add(Kind::ACCT_SESSION_ID, b"s");
            add(all);
        })
    };
    let datagram = change(|all| {
        all.add_number(Kind::SESSION_TIMEOUT, 60);
    });
    let Heard::Asked(request) = hear(&mut listener(), &datagram) else { panic!("not asked") };
    let wanted = Change { session_timeout: Some(seconds(60)), interim_interval: None };
    assert_eq!(
        (&request.order, request.query.session.as_deref()),
        (&Order::Change(wanted), Some(b"s".as_slice()))
    );
    assert_eq!(refused(hear(&mut listener(), &change(|_| {}))), Some(402));
}
