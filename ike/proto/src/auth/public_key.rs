//! The peer's public key, and whether it made a signature.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use x509_cert::SubjectPublicKeyInfo;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Reader, SliceReader};

use super::AuthError;
use super::algorithm::{Curve, Scheme, ecdsa_fixed_verifier, ecdsa_verifier, rsa_verifier};
use crate::wire::AuthenticationMethod;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const CURVES: [(Curve, ObjectIdentifier); 3] = [
    (Curve::P256, ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7")),
    (Curve::P384, ObjectIdentifier::new_unwrap("1.3.132.0.34")),
    (Curve::P521, ObjectIdentifier::new_unwrap("1.3.132.0.35")),
];

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// With so many bits.
    Rsa(usize),
    Ecdsa(Curve),
    Ed25519,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::Ecdsa(Curve::P256) => f.write_str("ECDSA P-256"),
            Self::Ecdsa(Curve::P384) => f.write_str("ECDSA P-384"),
            Self::Ecdsa(Curve::P521) => f.write_str("ECDSA P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

/// A public key of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub(super) kind: KeyKind,
    /// The contents of the subjectPublicKey.
    pub(super) octets: Vec<u8>,
}

impl PublicKey {
    /// The key of a SubjectPublicKeyInfo; the error says what it lacks.
    pub(super) fn of(info: &SubjectPublicKeyInfo) -> Result<Self, String> {
        let octets = info.subject_public_key.as_bytes().ok_or("its key is no string of octets")?.to_vec();
        let kind = match info.algorithm.oid {
            RSA_ENCRYPTION => KeyKind::Rsa(rsa_bits(&octets)?),
            EC_PUBLIC_KEY => KeyKind::Ecdsa(curve(info)?),
            ED25519_KEY => KeyKind::Ed25519,
            other => return Err(format!("its key is of type {other}; RSA, ECDSA and Ed25519 are supported")),
        };
        Ok(Self { kind, octets })
    }

    /// Whether `data` is this key's signature of `octets` by an authentication method.
    pub(super) fn verify(
        &self,
        method: AuthenticationMethod,
        data: &[u8],
        octets: &[u8],
    ) -> Result<(), AuthError> {
        if method == AuthenticationMethod::DIGITAL_SIGNATURE {
            let (scheme, signature) = taken_apart(data)?;
            return self.verify_scheme(scheme, signature, octets);
        }
        match self.kind {
            KeyKind::Ecdsa(curve) if method == of_curve(curve) => checked(
                UnparsedPublicKey::new(ecdsa_fixed_verifier(curve), &self.octets).verify(octets, data),
            ),
            _ => Err(AuthError::Method(method)),
        }
    }

    fn verify_scheme(&self, scheme: Scheme, signature: &[u8], octets: &[u8]) -> Result<(), AuthError> {
        let key = &self.octets;
        match (self.kind, scheme) {
            (KeyKind::Rsa(_), scheme) => {
                let verifier = rsa_verifier(scheme).ok_or(AuthError::OtherKey(self.kind.to_string()))?;
                checked(UnparsedPublicKey::new(verifier, key).verify(octets, signature))
            }
            (KeyKind::Ecdsa(curve), Scheme::Ecdsa(hash)) => {
                checked(UnparsedPublicKey::new(ecdsa_verifier(curve, hash), key).verify(octets, signature))
            }
            (KeyKind::Ed25519, Scheme::Ed25519) => {
                checked(UnparsedPublicKey::new(&ED25519, key).verify(octets, signature))
            }
            _ => Err(AuthError::OtherKey(self.kind.to_string())),
        }
    }
}

/// RFC 7427 section 3: the length of the AlgorithmIdentifier, itself, the signature.
fn taken_apart(data: &[u8]) -> Result<(Scheme, &[u8]), AuthError> {
    let (length, rest) = data.split_first().ok_or(AuthError::Algorithm(String::new()))?;
    let (identifier, signature) =
        rest.split_at_checked(*length as usize).ok_or(AuthError::Algorithm(String::new()))?;
    let unknown = || {
        AuthError::Algorithm(
            identifier.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}")),
        )
    };
    Ok((Scheme::from_identifier(identifier).ok_or_else(unknown)?, signature))
}

/// The method of RFC 4754 for a curve.
pub(super) fn of_curve(curve: Curve) -> AuthenticationMethod {
    match curve {
        Curve::P256 => AuthenticationMethod::ECDSA_SHA256_P256,
        Curve::P384 => AuthenticationMethod::ECDSA_SHA384_P384,
        Curve::P521 => AuthenticationMethod::ECDSA_SHA512_P521,
    }
}

fn checked(result: Result<(), aws_lc_rs::error::Unspecified>) -> Result<(), AuthError> {
    result.map_err(|_| AuthError::Signature)
}

/// RFC 8247 section 3: 2048 bits at least.
fn rsa_bits(octets: &[u8]) -> Result<usize, String> {
    let modulus = SliceReader::new(octets)
        .and_then(|mut reader| {
            reader.sequence(|inner| Ok((UintRef::decode(inner)?, UintRef::decode(inner)?)))
        })
        .map(|(modulus, _): (UintRef<'_>, UintRef<'_>)| modulus.as_bytes())
        .map_err(|_: x509_cert::der::Error| "its RSA key is malformed".to_owned())?;
    let bits = modulus.len() * 8;
    let is_accepted = (2048..=8192).contains(&bits);
    if is_accepted { Ok(bits) } else { Err(format!("its RSA key has {bits} bits, not 2048 to 8192")) }
}

fn curve(info: &SubjectPublicKeyInfo) -> Result<Curve, String> {
    let named = info.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let known = CURVES.iter().find(|(_, oid)| Some(*oid) == named);
    known
        .map(|(curve, _)| *curve)
        .ok_or_else(|| "its key is on none of the curves P-256, P-384, P-521".to_owned())
}
