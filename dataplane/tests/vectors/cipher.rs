//! Ciphers that do not authenticate: their vectors become the text of ESP packets, with ICVs by the judge.

use baton_sad::Suite;

use crate::data::{Vector, vectors};
use crate::judge;
use crate::trial::{HEADER, Trial, suite};

const INTEGRITY: [&str; 5] = ["sha1", "aescmac", "sha256", "sha384", "sha512"];

/// An SPI and a sequence number for vectors that have none.
const FRONT: [u8; HEADER] = [0, 0, 0x43, 0x21, 0, 0, 0, 7];

/// A packet of `suite` that is `front` (SPI, sequence number, IV, ciphertext) and the judge's ICV.
fn packet(suite: Suite, cipher_key: &[u8], front: &[u8], text: &[u8]) -> Trial {
    let integrity_key: Vec<u8> = (0..suite.integrity().key_length()).map(|octet| octet as u8).collect();
    let material = [cipher_key, &integrity_key].concat();
    let sequence = u64::from(u32::from_be_bytes(front[4..HEADER].try_into().unwrap()));
    let mut packet = front.to_vec();
    let tag = judge::tag(suite.integrity(), &integrity_key, front);
    packet.extend_from_slice(&tag[..suite.icv_length()]);
    Trial { suite, material, sequence, extended: false, text: text.to_vec(), packet }
}

/// Runs a packet without ICV with each integrity algorithm; says with how many. `key` is that of the cipher, with the
/// nonce if it has one.
pub fn with_every_integrity(cipher: &str, key: &[u8], front: &[u8], text: &[u8]) -> usize {
    for integrity in INTEGRITY {
        packet(suite(&format!("{cipher}-{integrity}")), key, front, text).run();
    }
    INTEGRITY.len()
}

fn cipher_of(key: &[u8], mode: &str) -> String {
    format!("aes{}{mode}", key.len() * 8)
}

/// SPI and sequence number, the vector's own if it has them; IV; ciphertext.
fn front(vector: &Vector) -> Vec<u8> {
    let header = if vector.has("spi") {
        [vector.octets("spi"), vector.octets("sequence")].concat()
    } else {
        FRONT.to_vec()
    };
    [header, vector.octets("iv"), vector.octets("ciphertext")].concat()
}

#[test]
fn rfc3602_cbc() {
    let mut packets = 0;
    for vector in vectors(include_str!("../data/rfc3602-cbc.txt"), 8) {
        packets += usize::from(vector.has("spi"));
        let key = vector.octets("key");
        with_every_integrity(&cipher_of(&key, ""), &key, &front(&vector), &vector.octets("plaintext"));
    }
    assert_eq!(packets, 4, "whole ESP packets, but for the ICV");
}

#[test]
fn rfc3686_ctr() {
    for vector in vectors(include_str!("../data/rfc3686-ctr.txt"), 9) {
        let key = vector.octets("key");
        let with_nonce = [key.clone(), vector.octets("nonce")].concat();
        let text = vector.octets("plaintext");
        with_every_integrity(&cipher_of(&key, "ctr"), &with_nonce, &front(&vector), &text);
    }
}

/// The integrity algorithms take turns, so that each meets each key length often.
#[test]
fn nist_cavp_cbc() {
    for (number, vector) in vectors(include_str!("../data/nist-cavp-cbc.txt"), 385).into_iter().enumerate() {
        let key = vector.octets("key");
        let name = format!("{}-{}", cipher_of(&key, ""), INTEGRITY[number % INTEGRITY.len()]);
        packet(suite(&name), &key, &front(&vector), &vector.octets("plaintext")).run();
    }
}
