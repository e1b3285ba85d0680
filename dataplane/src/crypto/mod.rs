//! Seals and opens ESP packets of every suite of [`Suite::ALL`], many at a time.
//!
//! An [`Engine`] prepares keys and runs [`Job`]s. A job is a whole ESP packet in its buffer, and the jobs of one
//! call may belong to different SAs and suites. Today one job is done after the other; an engine that computes
//! several packets at once can take the place of this one, because it sees all of them.
//!
//! Two back ends, chosen by [`Backend`]. The default is aws-lc-rs, by measurement; RustCrypto stays selectable and
//! is the differential tests' judge. Where the safe interface of aws-lc-rs lacks a part, RustCrypto does that part
//! for both: AES-CCM, AES-CMAC (theirs allocates for each message), and opening AES-GCM with an ICV shorter than
//! 16 octets.
//!
//! No packet allocates. Prepared keys wipe themselves: aws-lc's in C, RustCrypto's through the crates' `zeroize`
//! features, salts and nonces through `Zeroizing`.

mod aead;
mod aws_lc;
mod backend;
mod composed;
mod engine;
mod job;
mod key;
mod rustcrypto;
#[cfg(test)]
mod tests;

pub use backend::{Backend, UnknownBackend};
pub use engine::{Engine, EngineError};
pub use job::{Job, Outcome};
pub use key::{KeyError, PreparedKey};

/// Octets of SPI and sequence number, with which every ESP packet begins (RFC 4303 section 2).
const HEADER: usize = crate::packet::esp::HEADER;
/// Octets of an AES block.
const BLOCK: usize = 16;
