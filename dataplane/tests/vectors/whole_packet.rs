//! Whole ESP packets, byte for byte.

use std::collections::HashSet;

use baton_sad::{Encryption, Suite};

use crate::data::{Vector, vectors};
use crate::trial::{COUNTER_IV, HEADER, Trial, sequence, suite};

/// Payload with the trailer that makes it as long as the text in a packet (RFC 4303 sections 2.4 to 2.6: the padding
/// counts from one).
fn with_trailer(payload: &[u8], length: usize) -> Vec<u8> {
    let padding = (length - payload.len() - 2) as u8;
    let next_header = if payload[0] >> 4 == 4 { 4 } else { 41 };
    let mut text = payload.to_vec();
    text.extend(1..=padding);
    text.extend([padding, next_header]);
    text
}

/// A tunnel-mode packet whose inner packet is known.
fn tunnelled(
    suite: Suite,
    material: Vec<u8>,
    (sequence, extended): (u64, bool),
    inner: &[u8],
    packet: Vec<u8>,
) -> Trial {
    let length = packet.len() - HEADER - suite.iv_length() - suite.icv_length();
    Trial { suite, material, sequence, extended, text: with_trailer(inner, length), packet }
}

/// Scapy's packets: every suite, without and with extended sequence numbers.
#[test]
fn scapy_seals_every_suite() {
    let mut seen = HashSet::new();
    for vector in vectors(include_str!("../data/scapy-esp.txt"), 2 * Suite::ALL.len()) {
        let (suite, sequence) = (suite(vector.text("suite")), sequence(&vector));
        seen.insert((suite, sequence.1));
        let (key, packet) = (vector.octets("key"), vector.octets("packet"));
        tunnelled(suite, key, sequence, &vector.octets("inner"), packet).run();
    }
    assert!(Suite::ALL.iter().all(|suite| seen.contains(&(*suite, false)) && seen.contains(&(*suite, true))));
}

/// The ESP packet behind an outer IP header.
fn esp(packet: &[u8]) -> &[u8] {
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    &packet[header..]
}

fn low_sequence(esp: &[u8]) -> u64 {
    esp[4..HEADER].iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

fn optional(vector: &Vector, name: &str) -> Vec<u8> {
    if vector.has(name) { vector.octets(name) } else { Vec::new() }
}

#[test]
fn dpdk_packets() {
    let all = vectors(include_str!("../data/dpdk-esp.txt"), 12);
    let whole: Vec<_> = all.iter().filter(|vector| vector.has("suite")).collect();
    assert_eq!(whole.len(), 10);
    for vector in whole {
        let outer = vector.octets("packet");
        let esp = esp(&outer).to_vec();
        let material = ["key", "salt", "integrity"].map(|part| optional(vector, part)).concat();
        let sequence = (low_sequence(&esp), false);
        tunnelled(suite(vector.text("suite")), material, sequence, &vector.octets("inner"), esp).run();
    }
}

/// DPDK's two AES-CBC packets without an ICV of ours: with each integrity algorithm and the judge's ICV.
#[test]
fn dpdk_packets_without_icv() {
    let all = vectors(include_str!("../data/dpdk-esp.txt"), 12);
    let bare: Vec<_> = all.iter().filter(|vector| vector.has("cipher")).collect();
    assert_eq!(bare.len(), 2);
    for vector in bare {
        assert_eq!(vector.text("cipher"), "aes128cbc");
        let outer = vector.octets("packet");
        let text = with_trailer(&vector.octets("inner"), esp(&outer).len() - HEADER - 16);
        assert_eq!(
            crate::cipher::with_every_integrity("aes128", &vector.octets("key"), esp(&outer), &text),
            5
        );
    }
}

/// SPI, sequence number, salt and IV stand apart in these files.
fn from_parts(vector: &Vector, suite: Suite) -> Trial {
    let (sequence, extended) = sequence(vector);
    let material = [vector.octets("key"), vector.octets("salt")].concat();
    let packet = vector.octets("packet");
    assert_eq!(packet[..4], vector.octets("spi"));
    assert_eq!(packet[HEADER..HEADER + COUNTER_IV], vector.octets("iv"));
    Trial { suite, material, sequence, extended, text: vector.octets("plaintext"), packet }
}

/// Each also with the shorter ICVs that are the front of the full one (NIST SP 800-38D section 7.1).
#[test]
fn mcgrew_viega_gcm() {
    for vector in vectors(include_str!("../data/mcgrew-viega-gcm-esp.txt"), 16) {
        for icv in [8, 12, 16] {
            let suite = suite(&format!("aes{}gcm{icv}", vector.octets("key").len() * 8));
            let mut trial = from_parts(&vector, suite);
            let full = trial.packet.len() - HEADER - COUNTER_IV - trial.text.len();
            if icv <= full {
                trial.packet.truncate(trial.packet.len() - full + icv);
                trial.run();
            }
        }
    }
}

#[test]
fn mcgrew_gmac() {
    for vector in vectors(include_str!("../data/mcgrew-gmac-esp.txt"), 1) {
        let trial = from_parts(&vector, suite("aes128gmac"));
        assert_eq!(trial.suite.encryption(), Encryption::AesGmac);
        trial.run();
    }
}

#[test]
fn rfc7634_chacha20_poly1305() {
    for vector in vectors(include_str!("../data/rfc7634-chacha20-poly1305-esp.txt"), 1) {
        from_parts(&vector, suite("chacha20poly1305")).run();
    }
}
