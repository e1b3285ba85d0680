//! A cipher and, separately, an authenticator: encrypt, then authenticate (RFC 4303 section 3.3.2).

use std::ops::Range;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use baton_sad::Suite;
use zeroize::Zeroizing;

use super::{BLOCK, Backend, HEADER, aws_lc, rustcrypto};

/// Octets of the longest tag: that of HMAC-SHA2-512.
pub(super) const LONGEST_TAG: usize = 64;

/// A cipher with its key, or none. Dropping it wipes the key.
pub(super) trait Cipher: Send {
    /// Encrypts `text`, whose length is a multiple of the suite's alignment, with the packet's `iv`.
    fn encrypt(&self, iv: &[u8], text: &mut [u8]) -> bool;

    /// The reverse.
    fn decrypt(&self, iv: &[u8], text: &mut [u8]) -> bool;
}

/// NULL encryption (RFC 2410).
pub(super) struct Null;

impl Cipher for Null {
    fn encrypt(&self, _iv: &[u8], _text: &mut [u8]) -> bool {
        true
    }

    fn decrypt(&self, _iv: &[u8], _text: &mut [u8]) -> bool {
        true
    }
}

/// The part of AES-CTR's counter block that stays the same (RFC 3686 section 5.1).
pub(super) struct CounterNonce(Zeroizing<[u8; 4]>);

impl CounterNonce {
    pub(super) fn new(nonce: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(nonce.try_into().ok()?)))
    }

    /// The packet's first counter block: nonce, IV, and a counter that begins with one (RFC 3686 section 4). No
    /// packet is so long that it wraps.
    #[inline]
    pub(super) fn first_block(&self, iv: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(&*self.0);
        block[4..12].copy_from_slice(iv);
        block[15] = 1;
        block
    }
}

/// Either library's authenticators. It lives in a box already, beside its cipher.
#[allow(clippy::large_enum_variant)]
enum Authenticator {
    AwsLc(aws_lc::Hmac),
    RustCrypto(rustcrypto::Authenticator),
}

impl Authenticator {
    fn new(backend: Backend, suite: Suite, key: &[u8]) -> Option<Self> {
        let hmac = match backend {
            Backend::AwsLc => aws_lc::Hmac::new(suite.integrity(), key).map(Self::AwsLc),
            Backend::RustCrypto => None,
        };
        hmac.or_else(|| rustcrypto::Authenticator::new(suite.integrity(), key).map(Self::RustCrypto))
    }

    /// The tag of these octets, one behind the other.
    #[inline]
    fn tag(&self, octets: &[u8], more: &[u8]) -> [u8; LONGEST_TAG] {
        match self {
            Self::AwsLc(hmac) => hmac.tag(octets, more),
            Self::RustCrypto(authenticator) => authenticator.tag(octets, more),
        }
    }
}

/// A cipher, an authenticator, and their keys.
pub(super) struct ComposedKey {
    cipher: Box<dyn Cipher>,
    authenticator: Authenticator,
}

impl ComposedKey {
    pub(super) fn new(backend: Backend, suite: Suite, material: &[u8]) -> Option<Self> {
        let (key, rest) = material.split_at_checked(suite.cipher_key_length())?;
        let (nonce, integrity_key) = rest.split_at_checked(suite.salt_length())?;
        let cipher = match backend {
            Backend::AwsLc => aws_lc::cipher(suite, key, nonce)?,
            Backend::RustCrypto => rustcrypto::cipher(suite, key, nonce)?,
        };
        Some(Self { cipher, authenticator: Authenticator::new(backend, suite, integrity_key)? })
    }

    /// The tag of SPI, sequence number, IV and text, and of the number's upper half, which is not sent (RFC 4303
    /// section 2.2.1).
    #[inline]
    fn tag(&self, upper_half: Option<[u8; 4]>, authenticated: &[u8]) -> [u8; LONGEST_TAG] {
        self.authenticator.tag(authenticated, upper_half.as_ref().map_or(&[], |half| half.as_slice()))
    }

    pub(super) fn seal(&self, upper_half: Option<[u8; 4]>, packet: &mut [u8], text: Range<usize>) -> bool {
        let end = text.end;
        let (front, rest) = packet.split_at_mut(text.start);
        let done = self.cipher.encrypt(&front[HEADER..], &mut rest[..text.len()]);
        let (authenticated, icv) = packet.split_at_mut(end);
        icv.copy_from_slice(&self.tag(upper_half, authenticated)[..icv.len()]);
        done
    }

    /// Looks at the ICV first: nobody learns anything from how an unauthentic text decrypts.
    pub(super) fn open(&self, upper_half: Option<[u8; 4]>, packet: &mut [u8], text: Range<usize>) -> bool {
        let (authenticated, icv) = packet.split_at_mut(text.end);
        let tag = self.tag(upper_half, authenticated);
        if verify_slices_are_equal(&tag[..icv.len()], icv).is_err() {
            return false;
        }
        let (front, text) = authenticated.split_at_mut(text.start);
        self.cipher.decrypt(&front[HEADER..], text)
    }
}
