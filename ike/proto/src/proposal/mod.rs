//! Algorithms by strongSwan's keywords, and their negotiation (RFC 7296 sections 2.7 and 3.3).
//!
//! A proposal is written as keywords with dashes between them: `aes128gcm16-prfsha256-x25519`. Several of a kind are
//! alternatives, the first one preferred.

mod error;
mod esp;
mod keyword;
mod negotiation;
#[cfg(test)]
mod tests;
mod text;

pub use error::{AnswerError, ProposalError};
pub use esp::{EspCipher, EspEncryption, EspIntegrity, EspSuite};
pub use negotiation::{
    Selected, accept_esp, accept_ike, accepts_ike, offer_esp, offer_ike, select_esp, select_ike,
};

use crate::crypto::{AdditionalMethods, Encryption, Group, Integrity, KeyExchangeMethod, Prf};

/// IKE SA algorithms: any one of each kind goes with any one of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeProposal {
    /// All AEADs, or none.
    encryption: Vec<Encryption>,
    /// Empty exactly with AEADs.
    integrity: Vec<Integrity>,
    prf: Vec<Prf>,
    groups: Vec<Group>,
    additional: Additional,
}

/// Additional key exchanges (RFC 9370) by their places; `None` among those of a place is none, and so is nothing.
type Additional = [Vec<Option<KeyExchangeMethod>>; AdditionalMethods::PLACES];

impl IkeProposal {
    /// The groups by preference; the first is the one to guess that the peer takes. At least one.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether it has additional key exchanges (RFC 9370).
    pub fn has_additional(&self) -> bool {
        has_methods(&self.additional)
    }
}

fn has_methods(additional: &Additional) -> bool {
    additional.iter().flatten().any(Option::is_some)
}

/// Child SA algorithms: any one of each kind goes with any one of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspProposal {
    /// All AEADs, or none.
    encryption: Vec<EspEncryption>,
    /// Empty exactly with AEADs.
    integrity: Vec<EspIntegrity>,
    /// `None` is no key exchange.
    groups: Vec<Option<Group>>,
    additional: Additional,
    extended_sequence: Vec<bool>,
}

impl EspProposal {
    /// The groups by preference, `None` for going without; the first is the one to guess that the peer takes. At
    /// least one.
    pub fn groups(&self) -> &[Option<Group>] {
        &self.groups
    }
}
