//! What a RADIUS server says.
//!
//! The first octet chooses: 0, a datagram as it is, to both ends; 1, the code and the attributes of an answer to a
//! user's question, under the secret; 2, the same to a record; else the code and the attributes of a request of RFC
//! 5176, under the secret.
#![no_main]

use std::time::Duration;

use baton_radius::Secret;
use baton_radius::access::Access;
use baton_radius::accounting::{Record, Status, Usage};
use baton_radius::attribute::{Attributes, Kind};
use baton_radius::authorization::{Heard, Listener, Policy};
use baton_radius::client::{Client, Output, Port, Server, Service, Settings};
use baton_radius::packet::{Code, Draft, Packet};
use libfuzzer_sys::fuzz_target;

const NOW: Duration = Duration::from_secs(1000);

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((0, datagram)) => as_it_is(datagram),
        Some((1, [code, attributes @ ..])) => answer(Service::Authentication, Code(*code), attributes),
        Some((2, [code, attributes @ ..])) => answer(Service::Accounting, Code(*code), attributes),
        Some((_, [code, attributes @ ..])) => request(Code(*code), attributes),
        _ => {}
    }
});

fn secret() -> Secret {
    b"secret".to_vec().into()
}

fn client() -> Client {
    let server = Server {
        name: "a".into(),
        address: [192, 0, 2, 1].into(),
        auth_port: 1812,
        acct_port: 1813,
        preference: 0,
        sockets: 1,
        secret: secret(),
        nas_identifier: "gateway".to_owned(),
    };
    let (first, dead_time) = (Duration::from_secs(2), Duration::from_secs(60));
    Client::new(Settings { servers: vec![server], first, base: 1.4, tries: 2, dead_time })
}

fn listener() -> Listener {
    Listener::new(Policy {
        clients: vec![[192, 0, 2, 1].into()],
        secret: secret(),
        needs_timestamp: false,
        identifiers: vec!["gateway".to_owned()],
        addresses: vec![[192, 0, 2, 9].into()],
    })
}

/// A client that has asked, with what it has sent.
fn asked(service: Service) -> (Client, Port, Vec<u8>) {
    let mut client = client();
    match service {
        Service::Authentication => {
            let access = Access { attributes: Attributes::default(), eap: vec![2, 1, 0, 5, 1], thread: None };
            client.ask(NOW, 7, access, [3; 16]);
        }
        Service::Accounting => client.account(
            NOW,
            Record {
                session: "s".to_owned(),
                status: Status::Start,
                time: NOW,
                usage: Usage::default(),
                unix: NOW,
                attributes: Attributes::default(),
            },
        ),
    }
    match client.poll() {
        Some(Output::Transmit { port, datagram }) => (client, port, datagram),
        other => panic!("nothing is asked: {other:?}"),
    }
}

fn as_it_is(datagram: &[u8]) {
    for service in [Service::Authentication, Service::Accounting] {
        let (mut client, port, _) = asked(service);
        client.handle_datagram(NOW, port, datagram);
        // It cannot have guessed the authenticator.
        assert!(!matches!(client.poll(), Some(Output::Answered { .. })));
    }
    let heard = listener().hear(NOW, NOW, ([192, 0, 2, 1], 1).into(), datagram);
    assert!(!format!("{heard:?}").is_empty());
}

/// As many as fit, whatever they are.
fn attributes(octets: &[u8]) -> Attributes {
    let mut all = Attributes::default();
    let mut rest = octets;
    while let [kind, length, others @ ..] = rest {
        let (value, others) = others.split_at(others.len().min(usize::from(*length)));
        all.add(Kind(*kind), value);
        rest = others;
    }
    all
}

fn answer(service: Service, code: Code, octets: &[u8]) {
    let (mut client, port, datagram) = asked(service);
    let Ok(request) = Packet::parse(&datagram) else { panic!("our own packet is malformed") };
    let head = (code, request.identifier());
    let Ok(draft) = Draft::new(head, &request.authenticator(), true, &attributes(octets)) else { return };
    client.handle_datagram(NOW, port, &secret().sign_response(draft));
    while let Some(output) = client.poll() {
        assert!(!format!("{output:?}").is_empty());
    }
}

fn request(code: Code, octets: &[u8]) {
    let Ok(draft) = Draft::new((code, 1), &[0; 16], false, &attributes(octets)) else { return };
    let (datagram, _) = secret().sign_request(draft);
    let (mut listener, source) = (listener(), ([192, 0, 2, 1], 1).into());
    if let Heard::Asked(request) = listener.hear(NOW, NOW, source, &datagram) {
        let answer = listener.answer(NOW, &request, Ok(()));
        match listener.hear(NOW, NOW, source, &datagram) {
            Heard::Answer(again) => assert_eq!(again, answer),
            heard => panic!("carried out twice: {heard:?}"),
        }
    }
}
