//! Algorithms by strongSwan's keywords, and their negotiation (RFC 7296 sections 2.7 and 3.3).

mod esp;

pub use esp::{EspCipher, EspEncryption, EspIntegrity, EspSuite};
use thiserror::Error;

use crate::crypto::{Encryption, Group, Integrity, Prf};

/// IKE SA algorithms: any one of each kind goes with any one of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeProposal {
    encryption: Vec<Encryption>,
    integrity: Vec<Integrity>,
    prf: Vec<Prf>,
    groups: Vec<Group>,
}

/// Child SA algorithms: any one of each kind goes with any one of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspProposal {
    encryption: Vec<EspEncryption>,
    integrity: Vec<EspIntegrity>,
    groups: Vec<Group>,
    extended_sequence: Vec<bool>,
}

/// A proposal that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProposalError {
    /// A word that means no algorithm.
    #[error("\"{word}\" is no algorithm of {protocol}{hint}")]
    Unknown {
        /// The word.
        word: String,
        /// IKE or ESP.
        protocol: &'static str,
        /// What to write instead.
        hint: String,
    },
}
