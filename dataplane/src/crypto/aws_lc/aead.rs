//! AES-GCM and ChaCha20-Poly1305.
//!
//! The safe interface knows full tags only. Sealing computes the full tag and truncates it. Opening with a truncated
//! ICV is done by the RustCrypto back end instead, for which it is the ordinary operation: it costs two to eight times
//! as much at 1,400 octets, the more the newer the CPU, and nothing in safety. The 16-octet ICV, which everyone
//! recommends, takes the fast way in both directions. AES-CCM is RustCrypto's altogether.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use baton_sad::{Encryption, Suite};

use crate::crypto::aead::{Aead, FULL_TAG, NONCE};
use crate::crypto::rustcrypto;

pub(in crate::crypto) fn aead(suite: Suite, key: &[u8]) -> Option<Box<dyn Aead>> {
    let Some(algorithm) = algorithm(suite) else { return rustcrypto::aead(suite, key) };
    let full = Full(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?));
    if suite.icv_length() == FULL_TAG {
        return Some(Box::new(full));
    }
    Some(Box::new(Truncated { full, opener: rustcrypto::aead(suite, key)? }))
}

fn algorithm(suite: Suite) -> Option<&'static Algorithm> {
    match (suite.encryption(), suite.cipher_key_length()) {
        (Encryption::ChaCha20Poly1305, _) => Some(&CHACHA20_POLY1305),
        (Encryption::AesCcm8 | Encryption::AesCcm12 | Encryption::AesCcm16, _) => None,
        (_, 16) => Some(&AES_128_GCM),
        (_, 24) => Some(&AES_192_GCM),
        (_, 32) => Some(&AES_256_GCM),
        _ => None,
    }
}

/// 16-octet ICVs.
struct Full(LessSafeKey);

impl Aead for Full {
    #[inline]
    fn seal(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &mut [u8]) -> bool {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.seal_in_place_scatter(nonce, Aad::from(associated), text, &[], icv).is_ok()
    }

    #[inline]
    fn open(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &[u8]) -> bool {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::from(associated), icv, text).is_ok()
    }
}

/// 8- and 12-octet ICVs.
struct Truncated {
    full: Full,
    opener: Box<dyn Aead>,
}

impl Aead for Truncated {
    fn seal(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &mut [u8]) -> bool {
        let mut tag = [0; FULL_TAG];
        let done = self.full.seal(nonce, associated, text, &mut tag);
        icv.copy_from_slice(&tag[..icv.len()]);
        done
    }

    fn open(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &[u8]) -> bool {
        self.opener.open(nonce, associated, text, icv)
    }
}
