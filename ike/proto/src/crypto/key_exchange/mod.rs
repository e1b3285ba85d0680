//! Agreeing on a secret (RFC 7296 section 2.12): MODP groups, NIST curves, Curve25519.

mod curve;
mod modp;
pub(super) mod primes;

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::prf::Secret;
use super::{Group, KeyExchangeMethod};

/// What both ends know and nobody else: g^ir of RFC 7296.
pub struct Shared(Secret);

impl Shared {
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn new(octets: &[u8]) -> Self {
        Self(Zeroizing::new(octets.to_vec()))
    }

    /// A secret that was agreed elsewhere, as the vectors of key derivation give it.
    #[cfg(test)]
    pub(crate) fn for_test(octets: &[u8]) -> Self {
        Self::new(octets)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(redacted)")
    }
}

/// A peer's public value that must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyExchangeError {
    /// Not of the method's length.
    #[error("the peer's public value for {} has {got} octets instead of {wanted}", .method.keyword())]
    Length {
        /// Which method.
        method: KeyExchangeMethod,
        /// Octets received.
        got: usize,
        /// Octets that it has.
        wanted: usize,
    },
    /// Not an element that generates anything (RFC 6989 section 2, RFC 7748 section 6.1).
    #[error("the peer's public value for {} is not one that is safe to use", .0.keyword())]
    Value(KeyExchangeMethod),
    /// No key of ours could be made.
    #[error("the generator of random numbers gives no key for {}", .0.keyword())]
    Random(KeyExchangeMethod),
}

/// Our half of a key exchange.
pub struct KeyShare {
    group: Group,
    private: Private,
    public: Vec<u8>,
}

enum Private {
    Modp(modp::Exponent),
    Curve(curve::Scalar),
}

impl KeyShare {
    /// A new one. `random` is asked for unpredictable octets, more than once if it gives some that do not make a
    /// private key.
    pub fn generate(group: Group, random: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut octets = Zeroizing::new(vec![0; private_length(group)]);
        loop {
            random(&mut octets);
            curve::trim(group, &mut octets);
            if let Some(share) = Self::from_private(group, &octets) {
                return share;
            }
        }
    }

    /// The share with this private value, if it is one.
    pub(super) fn from_private(group: Group, octets: &[u8]) -> Option<Self> {
        let (private, public) = match group {
            Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => {
                let exponent = modp::Exponent::new(octets)?;
                let public = modp::public(group, &exponent);
                (Private::Modp(exponent), public)
            }
            _ => {
                curve::Scalar::new(group, octets).map(|(scalar, public)| (Private::Curve(scalar), public))?
            }
        };
        Some(Self { group, private, public })
    }

    /// The data of the Key Exchange payload (RFC 7296 section 3.4, RFC 5903 section 7, RFC 8031 section 3).
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The group.
    pub fn group(&self) -> Group {
        self.group
    }

    /// The secret that we share with the owner of `peer`, the data of its Key Exchange payload.
    ///
    /// # Errors
    /// [`KeyExchangeError`]: it is not what the group wants.
    pub fn agree(&self, peer: &[u8]) -> Result<Shared, KeyExchangeError> {
        let (method, wanted) = (KeyExchangeMethod::Group(self.group), self.group.public_length());
        if peer.len() != wanted {
            return Err(KeyExchangeError::Length { method, got: peer.len(), wanted });
        }
        let secret = match &self.private {
            Private::Modp(exponent) => modp::agree(self.group, exponent, peer),
            Private::Curve(scalar) => scalar.agree(peer),
        };
        secret.map(Shared).ok_or(KeyExchangeError::Value(method))
    }

    pub(super) fn private(&self) -> &[u8] {
        match &self.private {
            Private::Modp(exponent) => exponent.octets(),
            Private::Curve(scalar) => scalar.octets(),
        }
    }
}

impl fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyShare({}, redacted)", self.group.keyword())
    }
}

/// Octets of a private value. MODP exponents have at least twice the bits of the higher estimate of the group's
/// strength (RFC 3526 section 8): 160, 210 and 240 bits.
const fn private_length(group: Group) -> usize {
    match group {
        Group::Modp2048 => 40,
        Group::Modp3072 => 56,
        Group::Modp4096 => 64,
        Group::Ecp256 | Group::Curve25519 => 32,
        Group::Ecp384 => 48,
        Group::Ecp521 => 66,
    }
}
