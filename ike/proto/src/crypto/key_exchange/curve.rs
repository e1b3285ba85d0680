//! NIST curves and Curve25519, by AWS-LC.

use aws_lc_rs::agreement::{
    Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey, UnparsedPublicKey, X25519, agree,
};
use zeroize::Zeroizing;

use super::super::Group;
use super::super::prf::Secret;

/// What SEC 1 puts in front of an uncompressed point, and IKE does not (RFC 5903 section 7).
const UNCOMPRESSED: u8 = 4;

/// A private key, and the octets that it came from.
pub(super) struct Scalar {
    octets: Secret,
    key: PrivateKey,
}

impl Scalar {
    /// The key with its public value; `None` if the octets are not below the curve's order, or zero.
    pub(super) fn new(group: Group, octets: &[u8]) -> Option<(Self, Vec<u8>)> {
        let key = PrivateKey::from_private_key(algorithm(group)?, octets).ok()?;
        let public = key.compute_public_key().ok()?.as_ref().to_vec();
        let public = if group == Group::Curve25519 { public } else { public[1..].to_vec() };
        Some((Self { octets: Zeroizing::new(octets.to_vec()), key }, public))
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The x coordinate of the common point. AWS-LC refuses points off the curve and at infinity, and the all-zero
    /// secret of Curve25519 (RFC 6989 section 2.3, RFC 8031 section 2).
    pub(super) fn agree(&self, peer: &[u8]) -> Option<Secret> {
        let algorithm = self.key.algorithm();
        let point = if *algorithm == X25519 { peer.to_vec() } else { [&[UNCOMPRESSED], peer].concat() };
        let keep = |secret: &[u8]| Ok(Zeroizing::new(secret.to_vec()));
        agree(&self.key, UnparsedPublicKey::new(algorithm, point), (), keep).ok()
    }
}

fn algorithm(group: Group) -> Option<&'static Algorithm> {
    match group {
        Group::Ecp256 => Some(&ECDH_P256),
        Group::Ecp384 => Some(&ECDH_P384),
        Group::Ecp521 => Some(&ECDH_P521),
        Group::Curve25519 => Some(&X25519),
        Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => None,
    }
}

/// Clears the bits of random octets that lie above P-521's order, of which then every second draw is below it. (The
/// other orders begin with 32 ones: hardly any draw is not.)
pub(super) fn trim(group: Group, octets: &mut [u8]) {
    if let (Group::Ecp521, [first, ..]) = (group, octets) {
        *first &= 1;
    }
}
