//! Our private keys, and the signatures that they make.

use std::fmt;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::AuthError;
use super::algorithm::{Curve, Hash, HashAlgorithm, Scheme, ecdsa_signers, rsa_signer};
use super::public_key::{KeyKind, of_curve};
use crate::wire::AuthenticationMethod;

/// A private key; the back end wipes it.
pub(super) enum PrivateKey {
    Rsa(RsaKeyPair),
    /// One that makes an `ECDSA-Sig-Value`, and one that puts the two numbers side by side.
    Ecdsa(Curve, [EcdsaKeyPair; 2]),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Reads PKCS#8, PKCS#1 or SEC1, not encrypted; the error says what is wrong.
    pub(super) fn parse(der: &[u8]) -> Result<Self, &'static str> {
        match RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
            Ok(key) => return Ok(Self::Rsa(key)),
            Err(rejected) if rejected.to_string() == "TooSmall" => {
                return Err("its RSA key is shorter than 2048 bits");
            }
            Err(_) => {}
        }
        let ecdsa = Curve::ALL.into_iter().find_map(|curve| ecdsa(curve, der));
        ecdsa.or_else(|| Ed25519KeyPair::from_pkcs8(der).ok().map(Self::Ed25519)).ok_or(
            "it is no private key of RSA (2048 to 8192 bits), ECDSA (P-256, P-384, P-521) or Ed25519 \
             in PKCS#8, PKCS#1 or SEC1",
        )
    }

    /// The contents of the subjectPublicKey of certificates for it.
    pub(super) fn public_key(&self) -> &[u8] {
        match self {
            Self::Rsa(key) => key.public_key().as_ref(),
            Self::Ecdsa(_, [key, _]) => key.public_key().as_ref(),
            Self::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    pub(super) fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa(key) => KeyKind::Rsa(key.public_modulus_len() * 8),
            Self::Ecdsa(curve, _) => KeyKind::Ecdsa(*curve),
            Self::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// Signs for a peer that has announced `peer_hashes` (none: it knows nothing of RFC 7427).
    pub(super) fn sign(
        &self,
        peer_hashes: &[u16],
        with_pss: bool,
        octets: &[u8],
    ) -> Result<(AuthenticationMethod, Vec<u8>), AuthError> {
        let is_understood = |hash: HashAlgorithm| peer_hashes.contains(&hash.0);
        match (self, self.scheme(is_understood, with_pss)) {
            (_, Some(scheme)) => {
                let signature = self.signature(scheme, octets).map_err(|_| AuthError::Internal)?;
                Ok((AuthenticationMethod::DIGITAL_SIGNATURE, put_together(scheme, &signature)))
            }
            (Self::Ecdsa(curve, [_, fixed]), None) => {
                let signature = fixed.sign(&SystemRandom::new(), octets).map_err(|_| AuthError::Internal)?;
                Ok((of_curve(*curve), signature.as_ref().to_vec()))
            }
            (_, None) => Err(AuthError::NoCommonSignature(self.kind().to_string())),
        }
    }

    /// How the key signs for a peer that understands these hashes.
    fn scheme(&self, is_understood: impl Fn(HashAlgorithm) -> bool, with_pss: bool) -> Option<Scheme> {
        let scheme = match self {
            Self::Rsa(_) => {
                let hash = Hash::ALL.into_iter().find(|hash| is_understood(hash.announced()))?;
                if with_pss { Scheme::RsaPss(hash) } else { Scheme::RsaPkcs1(hash) }
            }
            Self::Ecdsa(curve, _) => Scheme::Ecdsa(curve.hash()),
            Self::Ed25519(_) => Scheme::Ed25519,
        };
        is_understood(scheme.hash()).then_some(scheme)
    }

    pub(super) fn signature(&self, scheme: Scheme, octets: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match (self, scheme) {
            (Self::Rsa(key), Scheme::RsaPkcs1(hash)) => rsa(key, hash, false, octets),
            (Self::Rsa(key), Scheme::RsaPss(hash)) => rsa(key, hash, true, octets),
            (Self::Ecdsa(_, [key, _]), Scheme::Ecdsa(_)) => {
                Ok(key.sign(&SystemRandom::new(), octets)?.as_ref().to_vec())
            }
            (Self::Ed25519(key), Scheme::Ed25519) => Ok(key.try_sign(octets)?.as_ref().to_vec()),
            _ => Err(Unspecified),
        }
    }
}

fn ecdsa(curve: Curve, der: &[u8]) -> Option<PrivateKey> {
    let [value, fixed] = ecdsa_signers(curve);
    let read = |signer| EcdsaKeyPair::from_private_key_der(signer, der).ok();
    Some(PrivateKey::Ecdsa(curve, [read(value)?, read(fixed)?]))
}

fn rsa(key: &RsaKeyPair, hash: Hash, with_pss: bool, octets: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(rsa_signer(hash, with_pss), &SystemRandom::new(), octets, &mut signature)?;
    Ok(signature)
}

/// RFC 7427 section 3.
fn put_together(scheme: Scheme, signature: &[u8]) -> Vec<u8> {
    let identifier = scheme.identifier();
    let mut data = vec![identifier.len() as u8];
    data.extend(identifier);
    data.extend(signature);
    data
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key", self.kind())
    }
}
