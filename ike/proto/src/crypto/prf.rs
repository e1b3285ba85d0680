//! The pseudorandom functions and prf+ (RFC 7296 section 2.13).

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::{Integrity, Prf};

/// A secret of no fixed length, wiped when dropped.
pub(super) type Secret = Zeroizing<Vec<u8>>;

pub(super) const fn hmac_of(prf: Prf) -> hmac::Algorithm {
    match prf {
        Prf::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Prf::HmacSha2_256 => hmac::HMAC_SHA256,
        Prf::HmacSha2_384 => hmac::HMAC_SHA384,
        Prf::HmacSha2_512 => hmac::HMAC_SHA512,
    }
}

/// A key that is ready for use, as often as one likes.
pub(super) struct Keyed(hmac::Key);

impl Keyed {
    pub(super) fn prf(prf: Prf, key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac_of(prf), key))
    }

    pub(super) fn integrity(integrity: Integrity, key: &[u8]) -> Self {
        Self::prf(integrity.prf(), key)
    }

    /// The MAC of the parts' concatenation.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        context.sign()
    }
}

/// prf(key, parts).
pub(super) fn prf(prf: Prf, key: &[u8], parts: &[&[u8]]) -> Secret {
    Zeroizing::new(Keyed::prf(prf, key).mac(parts).as_ref().to_vec())
}

/// The first `length` octets of prf+(key, seed). The callers' lengths are far below the 255 blocks that it can give.
pub(super) fn prf_plus(prf: Prf, key: &[u8], seed: &[&[u8]], length: usize) -> Secret {
    let keyed = Keyed::prf(prf, key);
    let mut stream = Zeroizing::new(Vec::with_capacity(length + prf.length()));
    for counter in 1..=length.div_ceil(prf.length()) as u8 {
        let previous = stream.len().saturating_sub(prf.length());
        let counter = [counter];
        let parts: Vec<&[u8]> =
            [&stream[previous..]].into_iter().chain(seed.iter().copied()).chain([&counter[..]]).collect();
        let block = keyed.mac(&parts);
        stream.extend_from_slice(block.as_ref());
    }
    stream.truncate(length);
    stream
}
