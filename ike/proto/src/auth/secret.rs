//! Shared secrets.

use std::fmt;

use zeroize::Zeroizing;

use crate::identity::Identity;

/// A shared secret and whom it is shared by.
pub struct Secret {
    owners: Vec<Identity>,
    octets: Zeroizing<Vec<u8>>,
}

impl Secret {
    pub(super) fn new(owners: Vec<Identity>, octets: Zeroizing<Vec<u8>>) -> Self {
        Self { owners, octets }
    }

    /// The secret itself.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("owners", &self.owners).finish_non_exhaustive()
    }
}
