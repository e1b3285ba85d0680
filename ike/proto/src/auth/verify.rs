//! Whether the peer is who it says it is.

use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::certificate::Certificate;
use super::{AuthError, Credentials, first_success, trust};
use crate::configuration::{RemoteAuthentication, RemoteMethod};
use crate::identity::Identity;
use crate::wire::AuthenticationMethod;

/// The most certificates that a peer may send: it is not known yet, and each costs time.
pub const MAX_PEER_CERTIFICATES: usize = 16;
/// The most certificates of ours that are tried for a peer that sends none.
const MAX_CANDIDATES: usize = 4;

/// What the peer has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// By what, for events: `RSA-2048 certificate "C=CH, CN=moon" of authority "ca.pem"`.
    pub by: String,
}

impl Credentials {
    /// Whether `identity` has signed `octets`, and may. `certificates` are the peer's CERT payloads in DER, its own
    /// first; `unix` is the time since 1970.
    ///
    /// # Errors
    ///
    /// [`AuthError`] says whose fault it is and why.
    #[allow(
        clippy::too_many_arguments,
        reason = "the AUTH, CERT and ID payloads and what they are judged by"
    )]
    pub fn verify(
        &self,
        remote: &RemoteAuthentication,
        identity: &Identity,
        certificates: &[Vec<u8>],
        method: AuthenticationMethod,
        data: &[u8],
        octets: &[u8],
        unix: Duration,
    ) -> Result<Verified, AuthError> {
        check_method(remote, method)?;
        check_identity(remote, identity)?;
        let intermediates = self.intermediates(certificates)?;
        let prove = |certificate: &Certificate| {
            check_certificate(certificate, identity)?;
            certificate.key.verify(method, data, octets)?;
            self.trusted(certificate, &intermediates, remote, unix)
        };
        match certificates.first() {
            Some(der) => prove(&Certificate::parse(der).map_err(AuthError::Certificate)?),
            None => first_success(self.candidates(remote, identity).map(prove))
                .unwrap_or_else(|| Err(AuthError::NoCertificate(identity.clone()))),
        }
    }

    /// Whether these certificates, in DER and the end's own first, are of `identity` and may be: what remains to be
    /// seen is whether it has the key. For TLS.
    pub(super) fn verify_certificates(
        &self,
        remote: &RemoteAuthentication,
        identity: &Identity,
        certificates: &[Vec<u8>],
        unix: Duration,
    ) -> Result<Verified, AuthError> {
        let intermediates = self.intermediates(certificates)?;
        let end = certificates.first().ok_or_else(|| AuthError::NoCertificate(identity.clone()))?;
        let end = Certificate::parse(end).map_err(AuthError::Certificate)?;
        check_certificate(&end, identity)?;
        self.trusted(&end, &intermediates, remote, unix)
    }

    /// What may stand between the peer's certificate and an authority: what the peer sent, and what we have.
    fn intermediates<'a>(&'a self, sent: &'a [Vec<u8>]) -> Result<Vec<CertificateDer<'a>>, AuthError> {
        if sent.len() > MAX_PEER_CERTIFICATES {
            let problem = format!("{} certificates were sent; {MAX_PEER_CERTIFICATES} are read", sent.len());
            return Err(AuthError::Certificate(problem));
        }
        let is_small = |der: &&Vec<u8>| der.len() <= super::certificate::MAX_CERTIFICATE;
        let sent = sent.iter().skip(1).filter(is_small).map(|der| CertificateDer::from(der.as_slice()));
        let ours = self.intermediates.iter().map(|der| CertificateDer::from(der.as_ref()));
        Ok(sent.chain(ours).collect())
    }

    /// Certificates of ours that may be the peer's.
    fn candidates<'a>(
        &'a self,
        remote: &'a RemoteAuthentication,
        identity: &'a Identity,
    ) -> impl Iterator<Item = &'a Certificate> {
        let is_allowed = |name: &String| remote.certificates.is_empty() || remote.certificates.contains(name);
        let allowed = self.certificates.iter().filter(move |named| is_allowed(&named.name));
        allowed.map(|named| &named.certificate).filter(|one| one.is_for(identity)).take(MAX_CANDIDATES)
    }

    /// Pinned certificates are trusted as they are, unless authorities are named as well.
    fn trusted(
        &self,
        certificate: &Certificate,
        intermediates: &[CertificateDer<'_>],
        remote: &RemoteAuthentication,
        unix: Duration,
    ) -> Result<Verified, AuthError> {
        let what = format!("{} certificate \"{}\"", certificate.key.kind, certificate.subject);
        let pinned = self.pinned(certificate, remote, unix)?;
        if let Some(name) = pinned.filter(|_| remote.authorities.is_empty()) {
            return Ok(Verified { by: format!("{what}, pinned as \"{name}\"") });
        }
        let authority =
            trust::chain(certificate, intermediates, &self.authorities, &self.lists, remote, unix)
                .map_err(AuthError::Certificate)?;
        Ok(Verified { by: format!("{what} of authority \"{authority}\"") })
    }

    /// The name of the pinned certificate that this is, octet by octet; `None` if none is pinned.
    fn pinned<'a>(
        &self,
        certificate: &Certificate,
        remote: &'a RemoteAuthentication,
        unix: Duration,
    ) -> Result<Option<&'a str>, AuthError> {
        if remote.certificates.is_empty() {
            return Ok(None);
        }
        let is_this = |name: &&String| {
            self.certificates
                .iter()
                .any(|named| named.name == **name && named.certificate.der == certificate.der)
        };
        let name = remote.certificates.iter().find(is_this).ok_or_else(|| {
            AuthError::Certificate(format!("\"{}\" is none of the pinned ones", certificate.subject))
        })?;
        certificate.check_validity(unix).map_err(AuthError::Certificate)?;
        Ok(Some(name))
    }
}

fn check_method(remote: &RemoteAuthentication, method: AuthenticationMethod) -> Result<(), AuthError> {
    const ACCEPTED: [AuthenticationMethod; 4] = [
        AuthenticationMethod::DIGITAL_SIGNATURE,
        AuthenticationMethod::ECDSA_SHA256_P256,
        AuthenticationMethod::ECDSA_SHA384_P384,
        AuthenticationMethod::ECDSA_SHA512_P521,
    ];
    let is_accepted = remote.method == RemoteMethod::Signature && ACCEPTED.contains(&method);
    if is_accepted { Ok(()) } else { Err(AuthError::Method(method)) }
}

/// A peer that claims to be a pattern would be everybody that fits it.
fn check_identity(remote: &RemoteAuthentication, identity: &Identity) -> Result<(), AuthError> {
    let is_expected = !identity.is_pattern() && remote.identity.matches(identity).is_some();
    let refused = || AuthError::Identity { identity: identity.clone(), pattern: remote.identity.clone() };
    if is_expected { Ok(()) } else { Err(refused()) }
}

fn check_certificate(certificate: &Certificate, identity: &Identity) -> Result<(), AuthError> {
    if !certificate.is_for(identity) {
        let (identity, subjects) = (identity.clone(), certificate.subjects());
        return Err(AuthError::NotInCertificate { identity, subjects });
    }
    if !certificate.may_authenticate() {
        let problem = "its key usage forbids digital signatures".to_owned();
        return Err(AuthError::Certificate(problem));
    }
    Ok(())
}
