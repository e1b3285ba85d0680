//! Encryption and authentication of one piece of text, by AWS-LC.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::iv::FixedLength;

use super::prf::Keyed;
use super::{Encryption, IkeKeys, Integrity, Role};

/// Octets of a block of AES.
pub(super) const BLOCK: usize = 16;
/// Octets of the tag of each AEAD.
const TAG: usize = 16;

/// One direction of an IKE SA.
pub(super) enum Cipher {
    /// RFC 5282.
    Aead { key: LessSafeKey, salt: [u8; 4] },
    /// Encrypt, then MAC (RFC 7296 section 3.14).
    Cbc {
        algorithm: &'static cipher::Algorithm,
        key: zeroize::Zeroizing<Vec<u8>>,
        mac: Box<Keyed>,
        icv: usize,
    },
}

impl Cipher {
    /// `None` if the keys do not have the suite's lengths, which those of [`IkeKeys`] have.
    pub(super) fn new(keys: &IkeKeys, sender: Role) -> Option<Self> {
        let suite = keys.suite();
        let key = keys.encryption_key(sender);
        match suite.integrity {
            None => Self::aead(suite.encryption, key),
            Some(integrity) => Self::cbc(suite.encryption, key, integrity, keys.integrity_key(sender)),
        }
    }

    fn aead(encryption: Encryption, key: &[u8]) -> Option<Self> {
        let algorithm = match encryption {
            Encryption::AesGcm16_128 => &aead::AES_128_GCM,
            Encryption::AesGcm16_192 => &aead::AES_192_GCM,
            Encryption::AesGcm16_256 => &aead::AES_256_GCM,
            Encryption::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
            Encryption::AesCbc128 | Encryption::AesCbc192 | Encryption::AesCbc256 => return None,
        };
        let (key, salt) = key.split_last_chunk()?;
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self::Aead { key, salt: *salt })
    }

    fn cbc(encryption: Encryption, key: &[u8], integrity: Integrity, mac_key: &[u8]) -> Option<Self> {
        let algorithm = match encryption {
            Encryption::AesCbc128 => &cipher::AES_128,
            Encryption::AesCbc192 => &cipher::AES_192,
            Encryption::AesCbc256 => &cipher::AES_256,
            _ => return None,
        };
        let (key, mac) = (key.to_vec().into(), Box::new(Keyed::integrity(integrity, mac_key)));
        Some(Self::Cbc { algorithm, key, mac, icv: integrity.icv_length() })
    }

    /// Octets of the IV.
    pub(super) fn iv_length(&self) -> usize {
        match self {
            Self::Aead { .. } => 8,
            Self::Cbc { .. } => BLOCK,
        }
    }

    /// Octets of the integrity check value.
    pub(super) fn icv_length(&self) -> usize {
        match self {
            Self::Aead { .. } => TAG,
            Self::Cbc { icv, .. } => *icv,
        }
    }

    /// Text and padding together are a multiple of so many octets.
    pub(super) fn alignment(&self) -> usize {
        match self {
            Self::Aead { .. } => 1,
            Self::Cbc { .. } => BLOCK,
        }
    }

    /// Encrypts `message[text..]`, in front of which stands the IV and in front of that the associated data, and
    /// appends the integrity check value.
    pub(super) fn seal(&self, message: &mut Vec<u8>, text: usize) -> Option<()> {
        let (head, inside) = message.split_at_mut(text);
        let (associated, iv) = head.split_at(text.checked_sub(self.iv_length())?);
        match self {
            Self::Aead { key, salt } => {
                let nonce = nonce(*salt, iv)?;
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(associated), inside).ok()?;
                message.extend_from_slice(tag.as_ref());
            }
            Self::Cbc { algorithm, key, mac, icv } => {
                let key = EncryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?;
                let iv = EncryptionContext::Iv128(FixedLength::try_from(iv).ok()?);
                key.less_safe_encrypt(inside, iv).ok()?;
                let tag = mac.mac(&[message]);
                message.extend_from_slice(&tag.as_ref()[..*icv]);
            }
        }
        Some(())
    }

    /// Checks the integrity of `associated` and `body` (IV, ciphertext, integrity check value), and leaves the text
    /// with its padding in `body`, which is as long as the result says.
    pub(super) fn open<'a>(&self, associated: &[u8], body: &'a mut [u8]) -> Option<&'a [u8]> {
        let text = body.len().checked_sub(self.iv_length() + self.icv_length())?;
        match self {
            Self::Aead { key, salt } => {
                let (iv, inside) = body.split_at_mut(self.iv_length());
                let opened = key.open_in_place(nonce(*salt, iv)?, Aad::from(associated), inside);
                opened.ok().map(|text| &*text)
            }
            Self::Cbc { algorithm, key, mac, .. } => {
                let (front, icv) = body.split_at_mut(BLOCK + text);
                let tag = mac.mac(&[associated, front]);
                verify_slices_are_equal(&tag.as_ref()[..icv.len()], icv).ok()?;
                let (iv, inside) = front.split_at_mut(BLOCK);
                let key = DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?;
                let iv = DecryptionContext::Iv128(FixedLength::try_from(&*iv).ok()?);
                key.decrypt(inside, iv).ok().map(|text| &*text)
            }
        }
    }
}

/// Salt and explicit IV (RFC 5282 section 4, RFC 7634 section 2).
fn nonce(salt: [u8; 4], iv: &[u8]) -> Option<Nonce> {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&salt);
    nonce[4..].copy_from_slice(iv.try_into().ok().map(|iv: &[u8; 8]| iv)?);
    Some(Nonce::assume_unique_for_key(nonce))
}
