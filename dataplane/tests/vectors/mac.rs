//! Message authentication codes: a message becomes an ESP packet with NULL encryption. Its first octets are SPI and
//! sequence number; with extended sequence numbers its last four are their upper half (RFC 4303 section 2.2.1).

use std::collections::HashMap;

use baton_sad::Suite;

use crate::data::{Vector, vectors};
use crate::judge;
use crate::trial::{HEADER, Trial, suite};

/// Octets of the upper half of a sequence number.
const UPPER_HALF: usize = 4;
/// Octets of the shortest text: pad length and next header, aligned.
const SHORTEST: usize = 4;

/// A key as ESP has it. HMAC hashes a longer one and fills up a shorter one with zeros (RFC 2104 section 2).
fn key_of(suite: Suite, vector: &Vector) -> Vec<u8> {
    let mut key = judge::hashed_key(suite.integrity(), &vector.octets("key"));
    assert!(key.len() <= suite.key_length());
    key.resize(suite.key_length(), 0);
    key
}

fn trial(suite: Suite, vector: &Vector, extended: bool) -> Option<Trial> {
    let message = vector.octets("message");
    let unsent = if extended { UPPER_HALF } else { 0 };
    let text =
        message.len().checked_sub(HEADER + unsent).filter(|text| *text >= SHORTEST && text % 4 == 0)?;
    let (sent, upper_half) = message.split_at(HEADER + text);
    let icv = &vector.octets("mac")[..suite.icv_length()];
    let number = [upper_half, &sent[4..HEADER]].concat();
    let sequence = number.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    let material = key_of(suite, vector);
    let packet = [sent, icv].concat();
    Some(Trial { suite, material, sequence, extended, text: sent[HEADER..].to_vec(), packet })
}

/// How many vectors of each source and algorithm ran, without and with extended sequence numbers.
#[test]
fn published_macs() {
    let mut ran: HashMap<(&str, &str), [usize; 2]> = HashMap::new();
    for vector in vectors(include_str!("../data/mac.txt"), 426) {
        let suite = suite(&format!("null-{}", vector.text("algorithm")));
        for extended in [false, true] {
            let Some(trial) = trial(suite, &vector, extended) else { continue };
            if vector.has("FAIL") {
                trial.run_forged();
            } else {
                trial.run();
            }
            let source = vector.text("source").trim_end_matches(|c: char| c.is_ascii_digit());
            let source = if source == "Wycheproof " { source.trim_end() } else { vector.text("source") };
            ran.entry((source, vector.text("algorithm"))).or_default()[usize::from(extended)] += 1;
        }
    }
    let expected = [
        (("RFC 2202", "sha1"), [2, 2]),
        (("RFC 4231", "sha256"), [2, 2]),
        (("RFC 4231", "sha384"), [2, 2]),
        (("RFC 4231", "sha512"), [2, 2]),
        (("RFC 4868", "sha256"), [1, 1]),
        (("RFC 4868", "sha384"), [1, 1]),
        (("RFC 4868", "sha512"), [1, 1]),
        (("RFC 4493", "aescmac"), [3, 3]),
        (("Wycheproof", "sha1"), [27, 26]),
        (("Wycheproof", "sha256"), [34, 33]),
        (("Wycheproof", "sha384"), [34, 33]),
        (("Wycheproof", "sha512"), [34, 33]),
        (("Wycheproof", "aescmac"), [24, 23]),
    ];
    assert_eq!(ran, HashMap::from(expected));
}
