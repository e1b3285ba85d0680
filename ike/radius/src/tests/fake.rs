//! Servers that answer as they are told, and a client among them.

use std::collections::BTreeMap;
use std::time::Duration;

use md5::{Digest, Md5};
use zeroize::Zeroizing;

use super::seconds;
use crate::access::{Access, Answer, Thread};
use crate::attribute::{Attributes, Kind};
use crate::client::{Client, Happening, Output, Port, Server, Settings};
use crate::packet::{Code, Draft, Packet};
use crate::secret::Secret;

pub(super) const SECRET: &[u8] = b"a secret that both know";

pub(super) fn secret() -> Secret {
    Secret::new(Zeroizing::new(SECRET.to_vec()))
}

pub(super) fn server(name: &str, preference: u32) -> Server {
    Server {
        name: name.into(),
        address: "192.0.2.1".parse().unwrap(),
        auth_port: 1812,
        acct_port: 1813,
        preference,
        sockets: 1,
        secret: secret(),
        nas_identifier: "gateway".to_owned(),
    }
}

pub(super) fn settings(servers: Vec<Server>) -> Settings {
    let (first, dead_time) = (seconds(2), seconds(60));
    Settings { servers, first, base: 2.0, tries: 2, dead_time }
}

/// A client, the time, and what it has done so far.
pub(super) struct Stage {
    pub(super) client: Client,
    pub(super) now: Duration,
    pub(super) sent: Vec<(Port, Vec<u8>)>,
    pub(super) answers: BTreeMap<u64, Answer>,
    pub(super) happened: Vec<Happening>,
}

impl Stage {
    pub(super) fn new(servers: Vec<Server>) -> Self {
        let client = Client::new(settings(servers));
        Self { client, now: seconds(1000), sent: vec![], answers: BTreeMap::new(), happened: vec![] }
    }

    pub(super) fn ask(&mut self, token: u64, thread: Option<Thread>) {
        let mut attributes = Attributes::default();
        attributes.add_text(Kind::USER_NAME, "alice");
        let access = Access { attributes, eap: vec![2, 1, 0, 6, 1, b'a'], thread };
        self.client.ask(self.now, token, access, [token as u8; 16]);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Transmit { port, datagram } => self.sent.push((port, datagram)),
                Output::Answered { token, answer } => assert!(self.answers.insert(token, answer).is_none()),
                Output::Happened(happening) => self.happened.push(happening),
            }
        }
    }

    /// Lets time pass, timer by timer.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.client.next_timeout().filter(|due| *due <= until) {
            self.now = due;
            self.client.handle_timeout(due);
            self.drain();
        }
        self.now = until;
    }

    pub(super) fn receive(&mut self, port: Port, datagram: &[u8]) {
        self.client.handle_datagram(self.now, port, datagram);
        self.drain();
    }

    /// Takes the oldest datagram that was sent.
    pub(super) fn take(&mut self) -> (Port, Vec<u8>) {
        self.sent.remove(0)
    }

    pub(super) fn counter(&self, server: usize, name: &str) -> u64 {
        let (_, counters) = self.client.servers().nth(server).expect("a server");
        counters.iter().find(|(own, ..)| *own == name).expect("a counter").1
    }
}

/// How a server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Right,
    WrongSecret,
    NoMac,
    WrongMac,
    TwoMacs,
}

pub(super) fn respond(request: &[u8], code: Code, attributes: &Attributes, manner: Manner) -> Vec<u8> {
    let request = Packet::parse(request).expect("a request");
    let key =
        if manner == Manner::WrongSecret { Secret::new(Zeroizing::new(b"other".to_vec())) } else { secret() };
    let mut all = attributes.clone();
    if manner == Manner::TwoMacs {
        all.add(Kind::MESSAGE_AUTHENTICATOR, &[0; 16]);
    }
    let head = (code, request.identifier());
    let draft =
        Draft::new(head, &request.authenticator(), manner != Manner::NoMac, &all).expect("a short answer");
    let mut octets = key.sign_response(draft);
    if manner == Manner::WrongMac {
        octets[25] ^= 1;
        let hash = Md5::new().chain_update(&octets[..4]).chain_update(request.authenticator());
        let hash: [u8; 16] = hash.chain_update(&octets[20..]).chain_update(SECRET).finalize().into();
        octets[4..20].copy_from_slice(&hash);
    }
    octets
}

pub(super) fn eap(octets: &[u8]) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.add_spread(Kind::EAP_MESSAGE, octets);
    attributes
}

/// A key as RFC 2548 section 2.4.2 hides it.
pub(super) fn hide(request: &[u8; 16], salt: [u8; 2], key: &[u8]) -> Vec<u8> {
    let mut clear = vec![key.len() as u8];
    clear.extend_from_slice(key);
    clear.resize(clear.len().next_multiple_of(16), 0);
    let mut hidden = salt.to_vec();
    let mut before = [request.as_slice(), &salt].concat();
    for block in clear.chunks(16) {
        let pad = Md5::new().chain_update(SECRET).chain_update(&before).finalize();
        before = block.iter().zip(pad).map(|(clear, pad)| clear ^ pad).collect();
        hidden.extend_from_slice(&before);
    }
    hidden
}
