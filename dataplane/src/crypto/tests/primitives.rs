//! Published answers of the primitives under the suites, with associated data and messages of lengths that no ESP packet
//! has. Those that look like ESP packets also go through whole engines, in `tests/vectors`.

#[path = "../../../tests/vectors/data.rs"]
mod data;

use std::collections::HashMap;

use baton_sad::{Integrity, Suite};
use data::{Vector, vectors};

use super::BACKENDS;
use crate::crypto::aead::{Aead, NONCE};
use crate::crypto::{Backend, aws_lc, rustcrypto};

/// An AEAD's vector, by whatever names its file has.
#[derive(Debug)]
struct Case {
    key: Vec<u8>,
    nonce: [u8; NONCE],
    associated: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    icv: Vec<u8>,
    forged: bool,
}

impl Case {
    fn new(vector: &Vector, [key, nonce, associated, plain, sealed, icv]: [&str; 6]) -> Self {
        let forged = vector.has("FAIL");
        // AES-CCM's nonce has 11 octets; what follows is not used.
        let mut padded = [0; NONCE];
        let nonce = vector.octets(nonce);
        padded[..nonce.len()].copy_from_slice(&nonce);
        Self {
            key: vector.octets(key),
            nonce: padded,
            associated: vector.octets(associated),
            // The files give no plaintext to forged packets.
            plain: if forged && !vector.has(plain) { Vec::new() } else { vector.octets(plain) },
            sealed: vector.octets(sealed),
            icv: vector.octets(icv),
            forged,
        }
    }

    /// The cipher of `suite`: `aes{bits}gcm16` has the bits of this key.
    fn run(&self, suite: &str) {
        let suite = suite.replace("{bits}", &(self.key.len() * 8).to_string());
        let suite = Suite::from_name(&suite).unwrap_or_else(|| panic!("no suite {suite}"));
        for backend in BACKENDS {
            let cipher = aead(backend, suite, &self.key);
            self.opens(&*cipher, backend);
            if !self.forged {
                self.seals(&*cipher, backend);
            }
        }
    }

    fn opens(&self, cipher: &dyn Aead, backend: Backend) {
        let mut text = self.sealed.clone();
        let authentic = cipher.open(&self.nonce, &self.associated, &mut text, &self.icv);
        assert_eq!(authentic, !self.forged, "{backend:?} {self:x?}");
        assert!(self.forged || text == self.plain, "{backend:?} {self:x?}");
    }

    fn seals(&self, cipher: &dyn Aead, backend: Backend) {
        let (mut text, mut icv) = (self.plain.clone(), vec![0; self.icv.len()]);
        assert!(cipher.seal(&self.nonce, &self.associated, &mut text, &mut icv));
        assert_eq!((&text, &icv), (&self.sealed, &self.icv), "{backend:?} {self:x?}");
    }
}

fn aead(backend: Backend, suite: Suite, key: &[u8]) -> Box<dyn Aead> {
    match backend {
        Backend::AwsLc => aws_lc::aead(suite, key),
        Backend::RustCrypto => rustcrypto::aead(suite, key),
    }
    .unwrap_or_else(|| panic!("{backend:?} has no {suite}"))
}

#[test]
fn nist_cavp_gcm() {
    let mut forged = 0;
    for vector in vectors(include_str!("../../../tests/data/nist-cavp-gcm.txt"), 81) {
        let case = Case::new(&vector, ["Key", "IV", "AAD", "PT", "CT", "Tag"]);
        forged += usize::from(case.forged);
        case.run(&format!("aes{{bits}}gcm{}", case.icv.len()));
    }
    assert_eq!(forged, 27);
}

const NAMES: [&str; 6] = ["key", "nonce", "aad", "plaintext", "ciphertext", "tag"];

#[test]
fn nist_cavp_ccm() {
    for vector in vectors(include_str!("../../../tests/data/nist-cavp-ccm.txt"), 30) {
        Case::new(&vector, NAMES).run("aes{bits}ccm16");
    }
}

#[test]
fn wycheproof_aeads() {
    let mut ran: HashMap<(&str, bool), usize> = HashMap::new();
    for vector in vectors(include_str!("../../../tests/data/wycheproof-aead.txt"), 293) {
        let (algorithm, case) = (vector.text("algorithm"), Case::new(&vector, NAMES));
        case.run(match algorithm {
            "gcm" => "aes{bits}gcm16",
            "ccm" => "aes{bits}ccm16",
            _ => algorithm,
        });
        *ran.entry((algorithm, case.forged)).or_default() += 1;
    }
    let expected = [
        (("gcm", false), 28),
        (("gcm", true), 81),
        (("ccm", false), 18),
        (("chacha20poly1305", false), 106),
        (("chacha20poly1305", true), 60),
    ];
    assert_eq!(ran, HashMap::from(expected));
}

fn integrity(name: &str) -> Integrity {
    Suite::from_name(&format!("null-{name}")).unwrap().integrity()
}

/// Each back end's tag.
fn tags(integrity: Integrity, key: &[u8], message: &[u8]) -> Vec<Vec<u8>> {
    let (front, back) = message.split_at(message.len() / 3);
    let portable = rustcrypto::Authenticator::new(integrity, key).unwrap().tag(front, back).to_vec();
    let fast = aws_lc::Hmac::new(integrity, key).map(|hmac| hmac.tag(front, back).to_vec());
    assert_eq!(fast.is_none(), integrity == Integrity::AesCmac96, "RustCrypto does AES-CMAC for both");
    [Some(portable), fast].into_iter().flatten().collect()
}

/// A shorter key is filled up with zeros, as HMAC does (RFC 2104 section 2). Keys longer than ESP's are not taken.
#[test]
fn published_macs() {
    let (mut ran, mut longer) = (0, 0);
    for vector in vectors(include_str!("../../../tests/data/mac.txt"), 426) {
        let integrity = integrity(vector.text("algorithm"));
        let mut key = vector.octets("key");
        if key.len() > integrity.key_length() {
            longer += 1;
            continue;
        }
        key.resize(integrity.key_length(), 0);
        let mac = vector.octets("mac");
        let sent = mac.len().min(integrity.icv_length());
        for tag in tags(integrity, &key, &vector.octets("message")) {
            assert_eq!(tag[..sent] == mac[..sent], !vector.has("FAIL"), "{vector:?}");
            assert!(vector.has("FAIL") || tag.starts_with(&mac), "{vector:?}");
        }
        ran += 1;
    }
    assert_eq!((ran, longer), (417, 9));
}
