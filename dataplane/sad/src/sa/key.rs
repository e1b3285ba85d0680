//! Raw keying material.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::SaError;

/// Raw keying material of an SA, at most 104 octets; for GCM the key, then the 4-octet salt (RFC 4106
/// section 8.1). Wiped when dropped, redacted in debug output, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key {
    octets: [u8; Self::MAX],
    length: u8,
}

impl Key {
    /// The most that fits, in octets.
    pub const MAX: usize = 104;

    /// # Errors
    /// [`SaError::KeyTooLong`] if it does not fit.
    pub fn new(material: &[u8]) -> Result<Self, SaError> {
        if material.len() > Self::MAX {
            return Err(SaError::KeyTooLong(material.len()));
        }
        let mut key = Self { octets: [0; Self::MAX], length: material.len() as u8 };
        key.octets[..material.len()].copy_from_slice(material);
        Ok(key)
    }

    /// The octets.
    pub fn expose(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }

    /// Length in octets.
    pub fn len(&self) -> usize {
        usize::from(self.length)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Compares in time that depends on the lengths only.
    pub fn ct_eq(&self, other: &Self) -> bool {
        let difference = self.octets.iter().zip(&other.octets).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference | (self.length ^ other.length)) == 0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other)
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} octets, redacted)", self.length)
    }
}
