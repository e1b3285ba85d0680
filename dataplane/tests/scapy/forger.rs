//! A peer with the key who makes what he likes.

use std::net::IpAddr;

use baton_dataplane::io::Side;
use baton_sad::{Direction, Mode, Suite};
use serde_json::{Value, json};

use crate::common::wire::shapes;
use crate::common::{Gateway, Setup, ethernet};
use crate::exchange::{self, Verdict};
use crate::python::{Scapy, association};

const ETH: usize = 14;
/// Octets behind the upper layer's header of scapy's packets.
const LENGTH: usize = 60;

/// What becomes of a packet: what A sends on, or why it does not.
pub type Fate = Result<Vec<u8>, &'static str>;

/// An ESP text, trailer included, and what has to become of it.
pub type Case = (Vec<u8>, Fate);

/// Gateway A, and scapy with the key of its inbound SA.
pub struct Forger {
    pub scapy: Scapy,
    pub setup: Setup,
    pub a: Gateway,
    sequence: u64,
}

/// Each shape with an AEAD of each alignment and with the others' ways to check and encrypt.
fn setups() -> impl Iterator<Item = Setup> {
    let suites = ["aes128gcm16", "aes256ccm8", "aes128-sha256", "aes192ctr-sha512", "null-sha1"];
    let suites = suites.map(|name| Suite::from_name(name).expect("a suite"));
    suites.into_iter().flat_map(|suite| shapes().map(move |shape| Setup { suite, ..shape }))
}

/// Runs `test` in each set-up, as far as scapy is there.
pub fn with_forger(name: &str, mode: Mode, mut test: impl FnMut(&mut Forger)) {
    let Some(mut scapy) = Scapy::start(name) else { return };
    for setup in setups().filter(|setup| setup.mode == mode) {
        let a = Gateway::new(0, &setup);
        let mut forger = Forger { scapy, setup, a, sequence: 0 };
        test(&mut forger);
        scapy = forger.scapy;
    }
}

impl Forger {
    /// Packet `number` of scapy's, from one address to another.
    pub fn packet(&mut self, [source, destination]: [IpAddr; 2], number: usize) -> Vec<u8> {
        let numbers = [(number, LENGTH)];
        let question =
            json!({"ask": "packets", "source": source, "destination": destination, "numbers": numbers});
        let packets: Vec<String> = self.scapy.ask(&question);
        hex::decode(&packets[0]).expect("hex")
    }

    /// From the peer's host to ours.
    pub fn own_packet(&mut self, number: usize) -> Vec<u8> {
        self.packet([self.setup.host(1), self.setup.host(0)], number)
    }

    /// A datagram (no options or extension headers).
    pub fn datagram(&mut self) -> Vec<u8> {
        self.own_packet(0)
    }

    fn question(&mut self, text: &[u8]) -> Value {
        self.sequence += 1;
        let ours = association(&self.setup, Direction::Inbound);
        json!({"ask": "forge", "ours": ours, "sequence": self.sequence, "text": hex::encode(text)})
    }

    /// An authentic packet with this text; in transport mode with the headers of `front`.
    pub fn forge(&mut self, text: &[u8], front: &[u8]) -> Vec<u8> {
        let mut question = self.question(text);
        question["front"] = hex::encode(front).into();
        hex::decode(self.scapy.ask::<String>(&question)).expect("hex")
    }

    /// What the peer seals for a packet.
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        let seal = [json!({"sent": hex::encode(packet), "sequence": self.sequence})];
        let verdict: Verdict = self.scapy.ask(&exchange::question(&self.setup, &[], &seal));
        hex::decode(&verdict.sealed[0].packet).expect("hex")
    }

    /// The packet in fragments.
    pub fn fragments(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let question = json!({"ask": "fragments", "packet": hex::encode(packet)});
        let parts: Vec<String> = self.scapy.ask(&question);
        assert!(parts.len() > 1);
        parts.iter().map(|part| hex::decode(part).expect("hex")).collect()
    }

    /// What becomes of a packet from the outer side.
    pub fn fate(&mut self, packet: &[u8]) -> Fate {
        let before = self.a.drops();
        self.a.receive(Side::Outer, &ethernet(packet));
        let after = self.a.drops();
        match (self.a.sent(Side::Inner).as_slice(), after.iter().find(|drop| !before.contains(drop))) {
            ([frame], None) => Ok(frame[ETH..].to_vec()),
            ([], Some((reason, _))) => Err(reason),
            (frames, reason) => panic!("{} frames sent on, {reason:?}", frames.len()),
        }
    }

    /// Forges and delivers; `front` matters in transport mode only.
    pub fn hold(&mut self, cases: &[Case], front: &[u8]) {
        for (text, expected) in cases {
            let packet = self.forge(text, front);
            let fate = self.fate(&packet);
            assert_eq!(&fate, expected, "{} {:?}", hex::encode(text), self.setup);
        }
    }

    /// Payload, padding and trailer.
    pub fn text(&self, payload: &[u8], next_header: u8) -> Vec<u8> {
        let padding = (payload.len() + 2).next_multiple_of(self.setup.suite.alignment()) - payload.len() - 2;
        padded(payload, padding, next_header)
    }

    /// Texts with a padding that is none, and with more of it than needed.
    pub fn paddings(&self, payload: &[u8], next_header: u8, arrives: &[u8]) -> Vec<Case> {
        let text = |padding| padded(payload, padding, next_header);
        let alignment = self.setup.suite.alignment();
        let [least, most] = [text(0).len(), text(255).len()].map(|octets| octets % alignment);
        // The least padding that there is not at all: its last octet is wrong, its length, all of it.
        let some = alignment - least + alignment;
        let changed = |from_end: usize, value: u8| {
            let mut text = text(some);
            let place = text.len() - from_end;
            text[place] = value;
            (text, Err("bad-padding"))
        };
        vec![
            changed(3, 0),
            changed(some + 2, 9),
            changed(2, some as u8 - 1),
            changed(2, some as u8 + 1),
            changed(2, 255),
            (text(255 - most), Ok(arrives.to_vec())),
        ]
    }

    /// A payload whose length is not a multiple of the alignment; a block cipher cannot even make it.
    pub fn misaligned(&self, payload: &[u8], next_header: u8) -> Option<Case> {
        let mut text = self.text(payload, next_header);
        text.insert(0, 0);
        (self.setup.suite.alignment() == 4).then_some((text, Err("esp-length")))
    }
}

fn padded(payload: &[u8], padding: usize, next_header: u8) -> Vec<u8> {
    let mut text = payload.to_vec();
    text.extend((1..=padding).map(|octet| octet as u8));
    text.extend([padding as u8, next_header]);
    text
}
