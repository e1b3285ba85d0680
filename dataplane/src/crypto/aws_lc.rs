//! The back end on aws-lc-rs.
//!
//! Its safe interface knows full tags only. Sealing computes the full tag and truncates it. Opening with a
//! truncated ICV is done by the RustCrypto back end instead, for which it is the ordinary operation: it costs
//! two to three times as much at 1,400 octets, by CPU, and nothing in safety. The 16-octet ICV, which everyone recommends,
//! takes the fast way in both directions.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey,
};
use zeroize::Zeroize;

use super::{Aead, FULL_TAG, Job, KeyError, Outcome, rustcrypto};

pub(super) fn prepare(key: &[u8], icv: usize) -> Result<Box<dyn Aead>, KeyError> {
    let wrong = || KeyError::KeyLength(key.len());
    let algorithm: &Algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return Err(wrong()),
    };
    let full = Full(LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| wrong())?));
    if icv == FULL_TAG {
        return Ok(Box::new(full));
    }
    Ok(Box::new(Truncated { full, opener: rustcrypto::prepare(key, icv)? }))
}

/// 16-octet ICVs. aws-lc wipes its key when dropped.
struct Full(LessSafeKey);

impl Full {
    #[inline]
    fn seal_one(&self, job: &mut Job<'_>) -> bool {
        let nonce = Nonce::assume_unique_for_key(job.nonce);
        self.0.seal_in_place_scatter(nonce, Aad::from(job.aad), job.text, &[], job.icv).is_ok()
    }

    #[inline]
    fn open_one(&self, job: &mut Job<'_>) -> bool {
        let nonce = Nonce::assume_unique_for_key(job.nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::from(job.aad), job.icv, job.text).is_ok()
    }
}

impl Aead for Full {
    fn seal(&self, jobs: &mut [Job<'_>]) {
        for job in jobs {
            job.outcome = if self.seal_one(job) { Outcome::Done } else { Outcome::Pending };
        }
    }

    fn open(&self, jobs: &mut [Job<'_>]) {
        for job in jobs {
            job.outcome = if self.open_one(job) {
                Outcome::Done
            } else {
                // aws-lc wipes what it decrypted before it saw the ICV; so that nobody has to know, again.
                job.text.zeroize();
                Outcome::BadIcv
            };
        }
    }
}

/// 8- and 12-octet ICVs.
struct Truncated {
    full: Full,
    opener: Box<dyn Aead>,
}

impl Aead for Truncated {
    fn seal(&self, jobs: &mut [Job<'_>]) {
        for job in jobs {
            let mut tag = [0; FULL_TAG];
            let mut whole = Job { icv: &mut tag, text: &mut *job.text, ..*job };
            let done = self.full.seal_one(&mut whole);
            let length = job.icv.len();
            match tag.get(..length) {
                Some(icv) if done => {
                    job.icv.copy_from_slice(icv);
                    job.outcome = Outcome::Done;
                }
                _ => job.outcome = Outcome::Pending,
            }
        }
    }

    fn open(&self, jobs: &mut [Job<'_>]) {
        self.opener.open(jobs);
    }
}
