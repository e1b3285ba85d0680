//! The keys of Child SAs on their way into the SA table.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::prf::Secret;

/// One direction's keying material: the cipher's key, its salt if it has one, the integrity key if there is one
/// (RFC 7296 section 2.17). Compared in constant time.
#[derive(Clone)]
pub struct KeyMaterial(Secret);

impl KeyMaterial {
    /// The octets.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for KeyMaterial {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for KeyMaterial {}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyMaterial({} octets, redacted)", self.0.len())
    }
}

/// Key material of a pair of Child SAs. Initiator is who sent the CREATE_CHILD_SA request that made them, or the IKE
/// SA's initiator for the pair that IKE_AUTH made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildKeys {
    /// For packets from the initiator.
    pub initiator_to_responder: KeyMaterial,
    /// For packets from the responder.
    pub responder_to_initiator: KeyMaterial,
}

impl ChildKeys {
    /// Takes KEYMAT apart; both halves are as long.
    pub(super) fn split(material: &[u8]) -> Self {
        let (first, second) = material.split_at(material.len() / 2);
        Self {
            initiator_to_responder: KeyMaterial(Secret::new(first.to_vec())),
            responder_to_initiator: KeyMaterial(Secret::new(second.to_vec())),
        }
    }
}
