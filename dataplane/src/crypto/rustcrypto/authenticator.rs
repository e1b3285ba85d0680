//! HMAC-SHA1, HMAC-SHA2 and AES-CMAC. A prepared HMAC key has hashed its inner and outer pads; each packet copies that
//! state, and the copy wipes itself.

use aes::Aes128;
use aes::cipher::{KeyInit, common::InnerInit};
use baton_sad::Integrity;
use cmac::Cmac;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use crate::crypto::composed::LONGEST_TAG;

pub(in crate::crypto) enum Authenticator {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
    Cmac(Aes128),
}

impl Authenticator {
    /// `None` for a key of another length than the algorithm's; an HMAC key is as long as the hash (RFC 2404 section 3,
    /// RFC 4868 section 2.1.1).
    pub(in crate::crypto) fn new(integrity: Integrity, key: &[u8]) -> Option<Self> {
        if key.len() != integrity.key_length() {
            return None;
        }
        Some(match integrity {
            Integrity::None => return None,
            Integrity::AesCmac96 => Self::Cmac(Aes128::new_from_slice(key).ok()?),
            Integrity::HmacSha1_96 => Self::Sha1(Hmac::new_from_slice(key).ok()?),
            Integrity::HmacSha2_256_128 => Self::Sha256(Hmac::new_from_slice(key).ok()?),
            Integrity::HmacSha2_384_192 => Self::Sha384(Hmac::new_from_slice(key).ok()?),
            Integrity::HmacSha2_512_256 => Self::Sha512(Hmac::new_from_slice(key).ok()?),
        })
    }

    #[inline]
    pub(in crate::crypto) fn tag(&self, octets: &[u8], more: &[u8]) -> [u8; LONGEST_TAG] {
        match self {
            Self::Sha1(state) => finish(state.clone(), octets, more),
            Self::Sha256(state) => finish(state.clone(), octets, more),
            Self::Sha384(state) => finish(state.clone(), octets, more),
            Self::Sha512(state) => finish(state.clone(), octets, more),
            Self::Cmac(cipher) => finish(Cmac::inner_init(cipher), octets, more),
        }
    }
}

#[inline]
fn finish<M: Mac>(mut state: M, octets: &[u8], more: &[u8]) -> [u8; LONGEST_TAG] {
    state.update(octets);
    state.update(more);
    let tag = state.finalize().into_bytes();
    let mut whole = [0; LONGEST_TAG];
    whole[..tag.len()].copy_from_slice(&tag);
    whole
}
