//! AEAD vectors whose associated data is as long as ESP's: SPI and sequence number, 8 octets, or 12 if extended (RFC 4106
//! section 5, RFC 4309 section 5, RFC 7634 section 2.1).

use std::collections::HashMap;

use crate::data::{Vector, vectors};
use crate::trial::{COUNTER_IV, HEADER, Trial, suite};

/// Octets of associated data with an extended sequence number.
const EXTENDED: usize = 12;

fn suite_name(algorithm: &str, key: &[u8]) -> String {
    match algorithm {
        "chacha20poly1305" => algorithm.to_owned(),
        _ => format!("aes{}{algorithm}16", key.len() * 8),
    }
}

/// `None` when no ESP packet looks like that.
fn trial(vector: &Vector) -> Option<Trial> {
    let (associated, text) = (vector.octets("aad"), vector.octets("plaintext"));
    let extended = associated.len() == EXTENDED;
    if !(extended || associated.len() == HEADER) || text.is_empty() || text.len() % 4 != 0 {
        return None;
    }
    let (key, nonce) = (vector.octets("key"), vector.octets("nonce"));
    let (salt, iv) = nonce.split_at(nonce.len() - COUNTER_IV);
    let sequence = associated[4..].iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    let low = &associated[associated.len() - 4..];
    let (ciphertext, tag) = (vector.octets("ciphertext"), vector.octets("tag"));
    let packet = [&associated[..4], low, iv, &ciphertext, &tag].concat();
    let suite = suite(&suite_name(vector.text("algorithm"), &key));
    Some(Trial { suite, material: [&key, salt].concat(), sequence, extended, text, packet })
}

#[test]
fn wycheproof() {
    let mut ran: HashMap<String, usize> = HashMap::new();
    for vector in vectors(include_str!("../data/wycheproof-aead.txt"), 293) {
        let Some(trial) = trial(&vector) else { continue };
        if vector.has("FAIL") {
            trial.run_forged();
        } else {
            trial.run();
        }
        *ran.entry(trial.suite.to_string()).or_default() += 1;
    }
    let expected = [
        ("aes128gcm16", 2),
        ("aes192gcm16", 1),
        ("aes256gcm16", 1),
        ("aes128ccm16", 1),
        ("aes192ccm16", 1),
        ("aes256ccm16", 1),
        ("chacha20poly1305", 11),
    ];
    assert_eq!(ran, expected.map(|(suite, count)| (suite.to_owned(), count)).into());
}
