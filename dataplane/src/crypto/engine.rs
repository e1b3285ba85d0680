//! The engine: from jobs to primitives.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use baton_sad::Suite;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{BLOCK, Backend, HEADER, Job, KeyError, Outcome, PreparedKey};

/// Octets of the secret behind CBC's IVs.
const SECRET: usize = 32;

/// Why an engine cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The operating system gives no random octets.
    #[error(
        "the system's random generator gives nothing ({0}); check that getrandom(2) is allowed to this process"
    )]
    Random(getrandom::Error),
}

/// One worker's crypto.
pub struct Engine {
    backend: Backend,
    /// Makes CBC's IVs. Its key never leaves this engine and dies with it; the crate wipes its round keys.
    iv_cipher: Aes256,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine on `backend`, with a secret of its own for CBC's IVs.
    ///
    /// # Errors
    /// [`EngineError::Random`] when there is no random secret to be had.
    pub fn new(backend: Backend) -> Result<Self, EngineError> {
        let mut secret = Zeroizing::new([0; SECRET]);
        getrandom::fill(&mut *secret).map_err(EngineError::Random)?;
        Ok(Self::with_secret(backend, &secret))
    }

    pub(super) fn with_secret(backend: Backend, secret: &[u8; SECRET]) -> Self {
        Self { backend, iv_cipher: Aes256::new(secret.into()) }
    }

    /// Prepares the keying material of an SA: cipher key, salt or nonce, integrity key (RFC 7296 section 2.17).
    /// `extended` says whether its sequence numbers have 64 bits.
    ///
    /// # Errors
    /// [`KeyError`] when the material has not the suite's length.
    pub fn prepare(&self, suite: Suite, extended: bool, material: &[u8]) -> Result<PreparedKey, KeyError> {
        PreparedKey::new(self.backend, suite, extended, material)
    }

    /// Writes each packet's IV and ICV and encrypts its text.
    #[inline]
    pub fn seal(&mut self, jobs: &mut [Job<'_>]) {
        for job in jobs {
            job.outcome = self.seal_one(job);
        }
    }

    /// Verifies each packet's ICV in constant time and decrypts the text of those that are authentic.
    #[inline]
    pub fn open(&mut self, jobs: &mut [Job<'_>]) {
        for job in jobs {
            job.outcome = open_one(job);
        }
    }

    #[inline]
    fn seal_one(&self, job: &mut Job<'_>) -> Outcome {
        let Job { key, sequence, iv, packet, .. } = job;
        let Some(text) = key.text(packet.len()) else { return Outcome::Malformed };
        match &mut packet[HEADER..text.start] {
            [] => {}
            explicit if explicit.len() == BLOCK => explicit.copy_from_slice(&self.unpredictable_iv(*iv)),
            explicit => explicit.copy_from_slice(&iv.to_be_bytes()),
        }
        // The libraries refuse only lengths that no packet has.
        if key.seal(*sequence, packet, text) { Outcome::Done } else { Outcome::Malformed }
    }

    /// An IV for CBC that cannot be foreseen (RFC 3602 section 3): the encryption of a number that is used once,
    /// under a key that is used for nothing else (NIST SP 800-38A appendix C). Distinct numbers give distinct IVs.
    #[inline]
    fn unpredictable_iv(&self, number: u64) -> [u8; BLOCK] {
        let mut block = u128::from(number).to_be_bytes().into();
        self.iv_cipher.encrypt_block(&mut block);
        block.into()
    }
}

#[inline]
fn open_one(job: &mut Job<'_>) -> Outcome {
    let Job { key, sequence, packet, .. } = job;
    let Some(text) = key.text(packet.len()) else { return Outcome::Malformed };
    if key.open(*sequence, packet, text.clone()) {
        return Outcome::Done;
    }
    // Some primitives leave ciphertext, some zeros; without encryption it would be the plaintext itself.
    packet[text].fill(0);
    Outcome::BadIcv
}
