//! AEAD as ESP needs it (RFC 4106): in place, detached ICV of 8, 12 or 16 octets, the caller's nonce.
//!
//! One trait, two back ends. The default is aws-lc-rs, by measurement; RustCrypto stays selectable and is the
//! differential test's judge. Jobs come in slices: GCM works on one at a time, and a suite that gains from
//! many packets at once (CBC or CTR with HMAC) finds them together.

mod aws_lc;
mod rustcrypto;

use std::str::FromStr;

use thiserror::Error;

/// Octets of a GCM nonce: salt (4) and explicit IV (8), RFC 4106 section 4.
pub const NONCE: usize = 12;
/// Octets of a full GCM tag.
pub const FULL_TAG: usize = 16;

/// Which library computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// AWS libcrypto by aws-lc-rs: run-time dispatch to the CPU's best.
    #[default]
    AwsLc,
    /// RustCrypto's aes-gcm: portable Rust.
    RustCrypto,
}

/// Not the name of a back end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a crypto back end; choose `aws-lc` or `rustcrypto`")]
pub struct UnknownBackend(String);

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        match name {
            "aws-lc" => Ok(Self::AwsLc),
            "rustcrypto" => Ok(Self::RustCrypto),
            _ => Err(UnknownBackend(name.to_owned())),
        }
    }
}

/// Why a key cannot be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not 16, 24 or 32 octets.
    #[error("an AES key has 16, 24 or 32 octets, not {0}")]
    KeyLength(usize),
    /// Not an ICV of RFC 4106 section 6.
    #[error("a GCM ICV has 8, 12 or 16 octets, not {0}")]
    IcvLength(usize),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Not run.
    #[default]
    Pending,
    /// Sealed, or opened and found authentic.
    Done,
    /// The ICV is wrong. The text is not the plaintext: it is still ciphertext, or wiped.
    BadIcv,
}

/// One packet to seal or open in place.
#[derive(Debug)]
pub struct Job<'b> {
    /// Salt and explicit IV.
    pub nonce: [u8; NONCE],
    /// Authenticated, not encrypted: SPI and sequence number (RFC 4106 section 5).
    pub aad: &'b [u8],
    /// Plaintext before sealing, ciphertext after, and the reverse.
    pub text: &'b mut [u8],
    /// Written by sealing, compared by opening; its length is that of the suite.
    pub icv: &'b mut [u8],
    /// How it ended.
    pub outcome: Outcome,
}

/// A prepared key. Dropping it wipes it.
pub trait Aead: Send {
    /// Encrypts each job's text and writes its ICV.
    fn seal(&self, jobs: &mut [Job<'_>]);

    /// Verifies each job's ICV in constant time and decrypts its text.
    fn open(&self, jobs: &mut [Job<'_>]);
}

impl Backend {
    /// Prepares AES-GCM with a `key` of 16, 24 or 32 octets and ICVs of `icv` octets.
    ///
    /// # Errors
    /// [`KeyError`] for other lengths.
    pub fn prepare(self, key: &[u8], icv: usize) -> Result<Box<dyn Aead>, KeyError> {
        if !matches!(icv, 8 | 12 | 16) {
            return Err(KeyError::IcvLength(icv));
        }
        match self {
            Self::AwsLc => aws_lc::prepare(key, icv),
            Self::RustCrypto => rustcrypto::prepare(key, icv),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKENDS: [Backend; 2] = [Backend::AwsLc, Backend::RustCrypto];

    fn run(backend: Backend, key: &[u8], open: bool, case: &mut Case) -> Outcome {
        let prepared = backend.prepare(key, case.icv.len()).unwrap();
        let (nonce, aad) = (case.nonce, case.aad.as_slice());
        let mut job = Job { nonce, aad, text: &mut case.text, icv: &mut case.icv, outcome: Outcome::Pending };
        let jobs = std::slice::from_mut(&mut job);
        if open {
            prepared.open(jobs);
        } else {
            prepared.seal(jobs);
        }
        job.outcome
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Case {
        nonce: [u8; NONCE],
        aad: Vec<u8>,
        text: Vec<u8>,
        icv: Vec<u8>,
    }

    fn case() -> impl Strategy<Value = (Vec<u8>, Case)> {
        let key = prop_oneof![Just(16_usize), Just(24), Just(32)]
            .prop_flat_map(|n| proptest::collection::vec(any::<u8>(), n));
        let aad =
            prop_oneof![Just(8_usize), Just(12)].prop_flat_map(|n| proptest::collection::vec(any::<u8>(), n));
        let icv = prop_oneof![Just(8_usize), Just(12), Just(16)];
        let text = proptest::collection::vec(any::<u8>(), 0..2100);
        (key, any::<[u8; NONCE]>(), aad, text, icv)
            .prop_map(|(key, nonce, aad, text, icv)| (key, Case { nonce, aad, text, icv: vec![0; icv] }))
    }

    proptest! {
        #[test]
        fn back_ends_agree((key, plain) in case()) {
            let mut sealed = [plain.clone(), plain.clone()];
            for (backend, case) in BACKENDS.into_iter().zip(&mut sealed) {
                prop_assert_eq!(run(backend, &key, false, case), Outcome::Done);
            }
            prop_assert_eq!(&sealed[0], &sealed[1]);
            for (backend, case) in BACKENDS.into_iter().zip(&mut sealed) {
                prop_assert_eq!(run(backend, &key, true, case), Outcome::Done);
                prop_assert_eq!(&case.text, &plain.text);
            }
        }

        #[test]
        fn any_flipped_bit_is_refused((key, plain) in case(), at: proptest::sample::Index, bit in 0..8) {
            for backend in BACKENDS {
                let mut case = plain.clone();
                run(backend, &key, false, &mut case);
                let Case { nonce, aad, text, icv } = &mut case;
                let mut octets: Vec<&mut u8> = nonce.iter_mut().chain(aad).chain(text).chain(icv).collect();
                let at = at.index(octets.len());
                *octets[at] ^= 1_u8 << bit;
                prop_assert_eq!(run(backend, &key, true, &mut case), Outcome::BadIcv);
                // Short texts may agree by chance once wiped; a long one never is its plaintext again.
                prop_assert!(plain.text.len() < 16 || case.text != plain.text);
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for backend in BACKENDS {
            assert_eq!(backend.prepare(&[0; 15], 16).err(), Some(KeyError::KeyLength(15)));
            assert_eq!(backend.prepare(&[0; 16], 10).err(), Some(KeyError::IcvLength(10)));
        }
    }
}
