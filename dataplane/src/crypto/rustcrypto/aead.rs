//! AES-GCM, AES-CCM and ChaCha20-Poly1305 with ICVs of any of their lengths.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U8, U11, U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce, Tag};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use baton_sad::{Encryption, Suite};
use ccm::Ccm;
use chacha20poly1305::ChaCha20Poly1305;

use crate::crypto::aead::{Aead, NONCE};

pub(in crate::crypto) fn aead(suite: Suite, key: &[u8]) -> Option<Box<dyn Aead>> {
    use Encryption::{
        AesCcm8, AesCcm12, AesCcm16, AesGcm8, AesGcm12, AesGcm16, AesGmac, ChaCha20Poly1305 as ChaCha,
    };
    match (suite.encryption(), suite.cipher_key_length()) {
        (AesGcm8, 16) => boxed::<AesGcm<Aes128, U12, U8>>(key),
        (AesGcm8, 24) => boxed::<AesGcm<Aes192, U12, U8>>(key),
        (AesGcm8, 32) => boxed::<AesGcm<Aes256, U12, U8>>(key),
        (AesGcm12, 16) => boxed::<AesGcm<Aes128, U12, U12>>(key),
        (AesGcm12, 24) => boxed::<AesGcm<Aes192, U12, U12>>(key),
        (AesGcm12, 32) => boxed::<AesGcm<Aes256, U12, U12>>(key),
        (AesGcm16 | AesGmac, 16) => boxed::<AesGcm<Aes128, U12, U16>>(key),
        (AesGcm16 | AesGmac, 24) => boxed::<AesGcm<Aes192, U12, U16>>(key),
        (AesGcm16 | AesGmac, 32) => boxed::<AesGcm<Aes256, U12, U16>>(key),
        // Nonces of 11 octets, so 4 count the octets of the text: RFC 4309 section 4.
        (AesCcm8, 16) => boxed::<Ccm<Aes128, U8, U11>>(key),
        (AesCcm8, 24) => boxed::<Ccm<Aes192, U8, U11>>(key),
        (AesCcm8, 32) => boxed::<Ccm<Aes256, U8, U11>>(key),
        (AesCcm12, 16) => boxed::<Ccm<Aes128, U12, U11>>(key),
        (AesCcm12, 24) => boxed::<Ccm<Aes192, U12, U11>>(key),
        (AesCcm12, 32) => boxed::<Ccm<Aes256, U12, U11>>(key),
        (AesCcm16, 16) => boxed::<Ccm<Aes128, U16, U11>>(key),
        (AesCcm16, 24) => boxed::<Ccm<Aes192, U16, U11>>(key),
        (AesCcm16, 32) => boxed::<Ccm<Aes256, U16, U11>>(key),
        (ChaCha, 32) => boxed::<ChaCha20Poly1305>(key),
        _ => None,
    }
}

fn boxed<C>(key: &[u8]) -> Option<Box<dyn Aead>>
where
    C: AeadInOut + KeyInit + Send + 'static,
{
    let cipher = C::new_from_slice(key).ok()?;
    Some(Box::new(Portable(cipher)))
}

/// One of the ciphers.
struct Portable<C>(C);

impl<C: AeadInOut> Portable<C> {
    /// The front of it, as many octets as this cipher takes.
    #[inline]
    fn nonce(nonce: &[u8; NONCE]) -> Option<Nonce<C>> {
        let mut own = Nonce::<C>::default();
        let length = own.len();
        own.copy_from_slice(nonce.get(..length)?);
        Some(own)
    }

    fn try_seal(
        &self,
        nonce: &[u8; NONCE],
        associated: &[u8],
        text: &mut [u8],
        icv: &mut [u8],
    ) -> Option<()> {
        let text = InOutBuf::from(text);
        let tag = self.0.encrypt_inout_detached(&Self::nonce(nonce)?, associated, text).ok()?;
        (tag.len() == icv.len()).then(|| icv.copy_from_slice(&tag))
    }

    fn try_open(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &[u8]) -> Option<()> {
        let tag = Tag::<C>::try_from(icv).ok()?;
        let text = InOutBuf::from(text);
        self.0.decrypt_inout_detached(&Self::nonce(nonce)?, associated, text, &tag).ok()
    }
}

impl<C: AeadInOut + Send> Aead for Portable<C> {
    fn seal(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &mut [u8]) -> bool {
        self.try_seal(nonce, associated, text, icv).is_some()
    }

    fn open(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &[u8]) -> bool {
        self.try_open(nonce, associated, text, icv).is_some()
    }
}
