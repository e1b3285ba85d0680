//! The back end on RustCrypto's aes-gcm. It verifies before it decrypts, so a refused text stays ciphertext.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U8, U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce, Tag};
use aes_gcm::aes::{Aes128, Aes192, Aes256};

use super::{Aead, Job, KeyError, Outcome};

pub(super) fn prepare(key: &[u8], icv: usize) -> Result<Box<dyn Aead>, KeyError> {
    match (key.len(), icv) {
        (16, 8) => boxed::<AesGcm<Aes128, U12, U8>>(key),
        (16, 12) => boxed::<AesGcm<Aes128, U12, U12>>(key),
        (16, 16) => boxed::<AesGcm<Aes128, U12, U16>>(key),
        (24, 8) => boxed::<AesGcm<Aes192, U12, U8>>(key),
        (24, 12) => boxed::<AesGcm<Aes192, U12, U12>>(key),
        (24, 16) => boxed::<AesGcm<Aes192, U12, U16>>(key),
        (32, 8) => boxed::<AesGcm<Aes256, U12, U8>>(key),
        (32, 12) => boxed::<AesGcm<Aes256, U12, U12>>(key),
        (32, 16) => boxed::<AesGcm<Aes256, U12, U16>>(key),
        (16 | 24 | 32, _) => Err(KeyError::IcvLength(icv)),
        _ => Err(KeyError::KeyLength(key.len())),
    }
}

fn boxed<C>(key: &[u8]) -> Result<Box<dyn Aead>, KeyError>
where
    C: AeadInOut + KeyInit + Send + 'static,
{
    let cipher = C::new_from_slice(key).map_err(|_| KeyError::KeyLength(key.len()))?;
    Ok(Box::new(Portable(cipher)))
}

/// One of the nine suites; its round keys and hash key wipe themselves (the crates' `zeroize` features).
struct Portable<C>(C);

impl<C: AeadInOut> Portable<C> {
    fn seal_one(&self, job: &mut Job<'_>) -> Option<()> {
        let nonce = Nonce::<C>::try_from(job.nonce.as_slice()).ok()?;
        let text = InOutBuf::from(&mut *job.text);
        let tag = self.0.encrypt_inout_detached(&nonce, job.aad, text).ok()?;
        (tag.len() == job.icv.len()).then(|| job.icv.copy_from_slice(&tag))
    }

    fn open_one(&self, job: &mut Job<'_>) -> Option<()> {
        let nonce = Nonce::<C>::try_from(job.nonce.as_slice()).ok()?;
        let tag = Tag::<C>::try_from(&*job.icv).ok()?;
        let text = InOutBuf::from(&mut *job.text);
        self.0.decrypt_inout_detached(&nonce, job.aad, text, &tag).ok()
    }
}

impl<C: AeadInOut + Send> Aead for Portable<C> {
    fn seal(&self, jobs: &mut [Job<'_>]) {
        for job in jobs {
            job.outcome = self.seal_one(job).map_or(Outcome::Pending, |()| Outcome::Done);
        }
    }

    fn open(&self, jobs: &mut [Job<'_>]) {
        for job in jobs {
            job.outcome = self.open_one(job).map_or(Outcome::BadIcv, |()| Outcome::Done);
        }
    }
}
