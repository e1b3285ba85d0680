//! Signature algorithms: how RFC 7427 writes them, and whose keys make them.

use aws_lc_rs::signature as backend;

use crate::wire::registry;

registry! {
    /// What is announced by SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 7, RFC 8420).
    HashAlgorithm(u16) {
        /// Not accepted in signatures (RFC 8247 section 3).
        1 SHA1,
        /// SHA-256.
        2 SHA2_256,
        /// SHA-384.
        3 SHA2_384,
        /// SHA-512.
        4 SHA2_512,
        /// The signature algorithm hashes by itself.
        5 IDENTITY,
    }
}

/// A hash function of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The weakest first: what is as strong as the usual keys.
    pub(super) const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    pub(super) fn announced(self) -> HashAlgorithm {
        match self {
            Self::Sha256 => HashAlgorithm::SHA2_256,
            Self::Sha384 => HashAlgorithm::SHA2_384,
            Self::Sha512 => HashAlgorithm::SHA2_512,
        }
    }

    /// Octets of a digest.
    fn length(self) -> u8 {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The last arc of 2.16.840.1.101.3.4.2 (FIPS 180), of sha*WithRSAEncryption (RFC 8017), and of ecdsa-with-SHA*
    /// (RFC 5758): they have the same order in each.
    fn arcs(self) -> [u8; 3] {
        match self {
            Self::Sha256 => [1, 11, 2],
            Self::Sha384 => [2, 12, 3],
            Self::Sha512 => [3, 13, 4],
        }
    }
}

/// A curve of ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(super) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The hash function that is as strong as the curve, and that RFC 4754 demands.
    pub(super) fn hash(self) -> Hash {
        match self {
            Self::P256 => Hash::Sha256,
            Self::P384 => Hash::Sha384,
            Self::P521 => Hash::Sha512,
        }
    }
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017).
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 of the same hash and a salt as long as it (RFC 8017).
    RsaPss(Hash),
    /// ECDSA; the signature is an `ECDSA-Sig-Value` (RFC 3279).
    Ecdsa(Hash),
    /// RFC 8420.
    Ed25519,
}

impl Scheme {
    /// The AlgorithmIdentifier in DER, as RFC 7427 appendix A has it.
    pub(super) fn identifier(self) -> Vec<u8> {
        match self {
            Self::RsaPkcs1(hash) => sequence(&[&rsa_with(hash), NULL]),
            Self::RsaPss(hash) => pss(hash, NULL),
            Self::Ecdsa(hash) => sequence(&[&ecdsa_with(hash)]),
            Self::Ed25519 => sequence(&[ED25519]),
        }
    }

    /// The scheme that an AlgorithmIdentifier means. Parameters that are NULL may be absent (RFC 4055 section 2.1).
    pub(super) fn from_identifier(identifier: &[u8]) -> Option<Self> {
        let named = |scheme: Self| scheme.identifier() == identifier;
        let of_hash = |hash: Hash| {
            let schemes = [Self::RsaPkcs1(hash), Self::RsaPss(hash), Self::Ecdsa(hash)];
            schemes.into_iter().find(|scheme| named(*scheme)).or_else(|| without_null(hash, identifier))
        };
        if named(Self::Ed25519) { Some(Self::Ed25519) } else { Hash::ALL.into_iter().find_map(of_hash) }
    }

    /// What the peer must have announced.
    pub(super) fn hash(self) -> HashAlgorithm {
        match self {
            Self::RsaPkcs1(hash) | Self::RsaPss(hash) | Self::Ecdsa(hash) => hash.announced(),
            Self::Ed25519 => HashAlgorithm::IDENTITY,
        }
    }
}

fn without_null(hash: Hash, identifier: &[u8]) -> Option<Scheme> {
    if identifier == sequence(&[&rsa_with(hash)]) {
        Some(Scheme::RsaPkcs1(hash))
    } else {
        (identifier == pss(hash, &[])).then_some(Scheme::RsaPss(hash))
    }
}

const NULL: &[u8] = &[5, 0];
const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];
const MGF1: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
const RSASSA_PSS: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];

fn rsa_with(hash: Hash) -> [u8; 11] {
    [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, hash.arcs()[1]]
}

fn ecdsa_with(hash: Hash) -> [u8; 10] {
    [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, hash.arcs()[2]]
}

/// RFC 7427 appendix A.4; RFC 4055 section 3.1 says what stands in it.
fn pss(hash: Hash, null: &[u8]) -> Vec<u8> {
    let function = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, hash.arcs()[0]];
    let function = sequence(&[&function, null]);
    let parameters = sequence(&[
        &wrap(0xa0, &[&function]),
        &wrap(0xa1, &[&sequence(&[MGF1, &function])]),
        &wrap(0xa2, &[&[2, 1, hash.length()]]),
    ]);
    sequence(&[RSASSA_PSS, &parameters])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    wrap(0x30, parts)
}

/// A tag, a length in the short form, and contents, which are shorter than 128 octets here.
fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let mut der = vec![tag, contents.len() as u8];
    der.extend(contents);
    der
}

/// The verifier of a scheme with keys of a curve; `None` if the curve has nothing to do with the scheme.
pub(super) fn rsa_verifier(scheme: Scheme) -> Option<&'static backend::RsaParameters> {
    Some(match scheme {
        Scheme::RsaPkcs1(Hash::Sha256) => &backend::RSA_PKCS1_2048_8192_SHA256,
        Scheme::RsaPkcs1(Hash::Sha384) => &backend::RSA_PKCS1_2048_8192_SHA384,
        Scheme::RsaPkcs1(Hash::Sha512) => &backend::RSA_PKCS1_2048_8192_SHA512,
        Scheme::RsaPss(Hash::Sha256) => &backend::RSA_PSS_2048_8192_SHA256,
        Scheme::RsaPss(Hash::Sha384) => &backend::RSA_PSS_2048_8192_SHA384,
        Scheme::RsaPss(Hash::Sha512) => &backend::RSA_PSS_2048_8192_SHA512,
        Scheme::Ecdsa(_) | Scheme::Ed25519 => return None,
    })
}

/// The verifier of an `ECDSA-Sig-Value`.
pub(super) fn ecdsa_verifier(curve: Curve, hash: Hash) -> &'static backend::EcdsaVerificationAlgorithm {
    match (curve, hash) {
        (Curve::P256, Hash::Sha256) => &backend::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, Hash::Sha384) => &backend::ECDSA_P256_SHA384_ASN1,
        (Curve::P256, Hash::Sha512) => &backend::ECDSA_P256_SHA512_ASN1,
        (Curve::P384, Hash::Sha256) => &backend::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, Hash::Sha384) => &backend::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, Hash::Sha512) => &backend::ECDSA_P384_SHA512_ASN1,
        (Curve::P521, Hash::Sha256) => &backend::ECDSA_P521_SHA256_ASN1,
        (Curve::P521, Hash::Sha384) => &backend::ECDSA_P521_SHA384_ASN1,
        (Curve::P521, Hash::Sha512) => &backend::ECDSA_P521_SHA512_ASN1,
    }
}

/// The verifier of two numbers side by side, as RFC 4754 has them.
pub(super) fn ecdsa_fixed_verifier(curve: Curve) -> &'static backend::EcdsaVerificationAlgorithm {
    match curve {
        Curve::P256 => &backend::ECDSA_P256_SHA256_FIXED,
        Curve::P384 => &backend::ECDSA_P384_SHA384_FIXED,
        Curve::P521 => &backend::ECDSA_P521_SHA512_FIXED,
    }
}

/// What makes an `ECDSA-Sig-Value`, and what makes two numbers side by side.
pub(super) fn ecdsa_signers(curve: Curve) -> [&'static backend::EcdsaSigningAlgorithm; 2] {
    match curve {
        Curve::P256 => [&backend::ECDSA_P256_SHA256_ASN1_SIGNING, &backend::ECDSA_P256_SHA256_FIXED_SIGNING],
        Curve::P384 => [&backend::ECDSA_P384_SHA384_ASN1_SIGNING, &backend::ECDSA_P384_SHA384_FIXED_SIGNING],
        Curve::P521 => [&backend::ECDSA_P521_SHA512_ASN1_SIGNING, &backend::ECDSA_P521_SHA512_FIXED_SIGNING],
    }
}

/// What makes a signature with an RSA key.
pub(super) fn rsa_signer(hash: Hash, with_pss: bool) -> &'static backend::RsaSignatureEncoding {
    match (with_pss, hash) {
        (false, Hash::Sha256) => &backend::RSA_PKCS1_SHA256,
        (false, Hash::Sha384) => &backend::RSA_PKCS1_SHA384,
        (false, Hash::Sha512) => &backend::RSA_PKCS1_SHA512,
        (true, Hash::Sha256) => &backend::RSA_PSS_SHA256,
        (true, Hash::Sha384) => &backend::RSA_PSS_SHA384,
        (true, Hash::Sha512) => &backend::RSA_PSS_SHA512,
    }
}
