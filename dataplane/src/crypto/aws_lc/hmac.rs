//! HMAC-SHA1 and HMAC-SHA2. A prepared key has hashed its inner and outer pads; each packet copies that state, which is
//! flat memory, and the library wipes the copy.

use aws_lc_rs::hmac::{
    Algorithm, Context, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key,
};
use baton_sad::Integrity;

use crate::crypto::composed::LONGEST_TAG;

pub(in crate::crypto) struct Hmac(Key);

impl Hmac {
    /// `None` for what is not an HMAC, and for a key of another length than the hash's (RFC 4868 section 2.1.1).
    pub(in crate::crypto) fn new(integrity: Integrity, key: &[u8]) -> Option<Self> {
        let algorithm: Algorithm = match integrity {
            Integrity::HmacSha1_96 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Integrity::HmacSha2_256_128 => HMAC_SHA256,
            Integrity::HmacSha2_384_192 => HMAC_SHA384,
            Integrity::HmacSha2_512_256 => HMAC_SHA512,
            Integrity::None | Integrity::AesCmac96 => return None,
        };
        (key.len() == integrity.key_length()).then(|| Self(Key::new(algorithm, key)))
    }

    #[inline]
    pub(in crate::crypto) fn tag(&self, octets: &[u8], more: &[u8]) -> [u8; LONGEST_TAG] {
        let mut context = Context::with_key(&self.0);
        context.update(octets);
        context.update(more);
        let tag = context.sign();
        let mut whole = [0; LONGEST_TAG];
        whole[..tag.as_ref().len()].copy_from_slice(tag.as_ref());
        whole
    }
}
