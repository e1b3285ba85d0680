//! Whom we trust, and chains of certificates to it (RFC 5280 section 6).

use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
    aws_lc_rs as algorithms,
};

use super::certificate::Certificate;
use crate::configuration::{RemoteAuthentication, Revocation};

/// What certificates may be signed with: SHA-2 only.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 19] = [
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Purposes of which one must stand in a certificate that names any (RFC 4945 section 5.1.3.12).
const PURPOSES: [&[usize]; 8] = [
    &[2, 5, 29, 37, 0],
    &[1, 3, 6, 1, 5, 5, 7, 3, 1],
    &[1, 3, 6, 1, 5, 5, 7, 3, 2],
    &[1, 3, 6, 1, 5, 5, 7, 3, 5],
    &[1, 3, 6, 1, 5, 5, 7, 3, 6],
    &[1, 3, 6, 1, 5, 5, 7, 3, 7],
    &[1, 3, 6, 1, 5, 5, 7, 3, 17],
    &[1, 3, 6, 1, 5, 5, 8, 2, 2],
];

/// An authority whose word we take.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) name: String,
    pub(super) certificate: Certificate,
    anchor: TrustAnchor<'static>,
}

impl Authority {
    /// The error says what is wrong with it.
    pub(super) fn new(name: &str, certificate: Certificate) -> Result<Self, String> {
        if !certificate.is_authority() {
            return Err(
                "it is no authority's: CA is not true in its basic constraints, or its key usage forbids \
                        to sign certificates"
                    .to_owned(),
            );
        }
        let anchor =
            webpki::anchor_from_trusted_cert(&certificate.der).map_err(|error| reason(&error))?.to_owned();
        Ok(Self { name: name.to_owned(), certificate, anchor })
    }

    pub(super) fn is_allowed(&self, remote: &RemoteAuthentication) -> bool {
        remote.authorities.is_empty() || remote.authorities.contains(&self.name)
    }

    fn borrowed(&self) -> TrustAnchor<'_> {
        TrustAnchor {
            subject: self.anchor.subject.as_ref().into(),
            subject_public_key_info: self.anchor.subject_public_key_info.as_ref().into(),
            name_constraints: self
                .anchor
                .name_constraints
                .as_ref()
                .map(|constraints| constraints.as_ref().into()),
        }
    }

    /// RFC 5280 section 4.2.1.9: self-issued certificates do not count.
    fn allows_path(&self, path: &VerifiedPath<'_>) -> bool {
        let counted =
            path.intermediate_certificates().filter(|below| below.subject() != below.issuer()).count();
        self.certificate.path_length().is_none_or(|length| counted <= length as usize)
    }
}

/// Finds a chain from a certificate to an allowed authority and returns the latter's name; the error says why there is
/// none.
pub(super) fn chain<'a>(
    certificate: &Certificate,
    intermediates: &[CertificateDer<'_>],
    authorities: &'a [Authority],
    lists: &[CertRevocationList<'static>],
    remote: &RemoteAuthentication,
    unix: Duration,
) -> Result<&'a str, String> {
    let allowed = allowed(authorities, remote, unix)?;
    let anchors: Vec<TrustAnchor<'_>> = allowed.iter().map(|authority| authority.borrowed()).collect();
    let which =
        |path: &VerifiedPath<'_>| anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
    let is_within_bounds = |path: &VerifiedPath<'_>| {
        let is_allowed = which(path).is_some_and(|index| allowed[index].allows_path(path));
        if is_allowed { all_may_sign(path) } else { Err(Error::PathLenConstraintViolated) }
    };
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
    let revocation = revocation(&lists, remote.revocation)?;
    let end = EndEntityCert::try_from(&certificate.der).map_err(|error| reason(&error))?;
    let time = UnixTime::since_unix_epoch(unix);
    let path = end
        .verify_for_usage(
            &ALGORITHMS,
            &anchors,
            intermediates,
            time,
            Purpose,
            revocation,
            Some(&is_within_bounds),
        )
        .map_err(|error| reason(&error))?;
    which(&path).map(|index| allowed[index].name.as_str()).ok_or_else(|| reason(&Error::UnknownIssuer))
}

fn allowed<'a>(
    authorities: &'a [Authority],
    remote: &RemoteAuthentication,
    unix: Duration,
) -> Result<Vec<&'a Authority>, String> {
    let named: Vec<_> = authorities.iter().filter(|authority| authority.is_allowed(remote)).collect();
    if named.is_empty() {
        return Err("no authority is configured for it; add the one that has signed it".to_owned());
    }
    let is_valid = |authority: &&Authority| authority.certificate.check_validity(unix).is_ok();
    let valid: Vec<_> = named.iter().copied().filter(is_valid).collect();
    if valid.is_empty() { named[0].certificate.check_validity(unix).map(|()| valid) } else { Ok(valid) }
}

fn revocation<'a>(
    lists: &'a [&'a CertRevocationList<'a>],
    policy: Revocation,
) -> Result<Option<webpki::RevocationOptions<'a>>, String> {
    let builder = match RevocationOptionsBuilder::new(lists) {
        Ok(builder) => builder.with_depth(RevocationCheckDepth::Chain),
        Err(_) if policy == Revocation::Relaxed => return Ok(None),
        Err(_) => return Err(reason(&Error::UnknownRevocationStatus)),
    };
    let (unknown, expired) = match policy {
        Revocation::Strict => (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce),
        Revocation::Relaxed => (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore),
    };
    Ok(Some(builder.with_status_policy(unknown).with_expiration_policy(expired).build()))
}

/// Every certificate between may sign certificates by its key usage (RFC 5280 section 6.1.4 (n)).
fn all_may_sign(path: &VerifiedPath<'_>) -> Result<(), Error> {
    let may_sign = |der: &[u8]| Certificate::parse(der).is_ok_and(|certificate| certificate.is_authority());
    let all = path.intermediate_certificates().all(|certificate| may_sign(&certificate.der()));
    if all { Ok(()) } else { Err(Error::EndEntityUsedAsCa) }
}

/// Any of [`PURPOSES`], or none at all.
struct Purpose;

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let (mut is_absent, mut is_for_us) = (true, false);
        for purpose in purposes {
            is_absent = false;
            is_for_us |= PURPOSES.contains(&purpose?.to_decoded_oid().as_slice());
        }
        if is_absent || is_for_us { Ok(()) } else { Err(Error::ExtensionValueInvalid) }
    }
}

/// A sentence for people.
pub(super) fn reason(error: &Error) -> String {
    let text = match error {
        Error::UnknownIssuer => "no chain leads from it to an allowed authority",
        Error::CertExpired { .. } => "it, or one that it depends on, has expired",
        Error::CertNotValidYet { .. } => {
            "it, or one that it depends on, is not valid yet; is the clock right?"
        }
        Error::CertRevoked => "it, or one that it depends on, is revoked",
        Error::CrlExpired { .. } => "the revocation list is out of date; fetch a new one",
        Error::UnknownRevocationStatus => {
            "no revocation list tells of it, and revocation is strict; add the list"
        }
        Error::InvalidCrlSignatureForPublicKey => "the revocation list is not signed by its authority",
        Error::InvalidSignatureForPublicKey => "it is not signed by the authority that it names",
        Error::NameConstraintViolation => "a name in it is outside of what its authority may certify",
        Error::PathLenConstraintViolated => "more certificates lie between than its authority allows",
        Error::ExtensionValueInvalid => "its extended key usage allows neither IKE nor TLS",
        Error::EndEntityUsedAsCa => "it is signed by a certificate that may not sign others",
        Error::CaUsedAsEndEntity => "it is an authority's; those may not authenticate unless they are pinned",
        Error::UnsupportedCriticalExtension => "it has a critical extension that is not known",
        Error::UnsupportedCertVersion => "it is not of version 3",
        Error::MaximumSignatureChecksExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumNameConstraintComparisonsExceeded
        | Error::MaximumPathDepthExceeded => "the chain is too long or too involved",
        other => return format!("it does not verify ({other:?})"),
    };
    text.to_owned()
}
