//! Whom we believe to be a member: the same rules for who calls and who is called.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::credentials::name_of;
use super::problem::CertificateProblem;
use super::{Identity, Member};

/// Judges the certificate of one connection's other end, and keeps why it was refused: TLS only knows an alert.
#[derive(Debug)]
pub(super) struct Judge {
    authority: CertificateDer<'static>,
    cluster: String,
    expected: Member,
    algorithms: WebPkiSupportedAlgorithms,
    found: Mutex<Option<CertificateProblem>>,
}

impl Judge {
    pub(super) fn new(
        authority: CertificateDer<'static>,
        cluster: &str,
        expected: Member,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Arc<Self> {
        Arc::new(Self {
            authority,
            cluster: cluster.to_owned(),
            expected,
            algorithms,
            found: Mutex::default(),
        })
    }

    /// Why the certificate was refused, if it was.
    pub(super) fn problem(&self) -> Option<CertificateProblem> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let judged = self.check_path(certificate, chain, now, usage);
        let judged = judged.and_then(|()| self.check_name(certificate));
        judged.map_err(|problem| {
            let alert = as_tls(&problem);
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
            alert
        })
    }

    fn check_path(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), CertificateProblem> {
        let anchors = [anchor_from_trusted_cert(&self.authority).map_err(from_webpki)?];
        let certificate = EndEntityCert::try_from(certificate).map_err(from_webpki)?;
        let verified =
            certificate.verify_for_usage(self.algorithms.all, &anchors, chain, now, usage, None, None);
        verified.map_err(from_webpki)?;
        Ok(())
    }

    fn check_name(&self, certificate: &CertificateDer<'_>) -> Result<(), CertificateProblem> {
        let Identity { cluster, role, node } =
            name_of(certificate).map_err(|_| CertificateProblem::NoMember)?;
        let expected = &self.expected;
        if cluster != self.cluster {
            return Err(CertificateProblem::OtherCluster(cluster));
        }
        if node != expected.id {
            return Err(CertificateProblem::OtherMember { expected: expected.id, found: node });
        }
        if role != expected.role {
            return Err(CertificateProblem::OtherRole { expected: expected.role, found: role });
        }
        Ok(())
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

fn from_webpki(error: webpki::Error) -> CertificateProblem {
    match error {
        webpki::Error::CertExpired { .. } => CertificateProblem::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateProblem::NotYetValid,
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            CertificateProblem::Foreign
        }
        other => CertificateProblem::Unusable(other.to_string()),
    }
}

/// So that the other end hears an alert that says something.
fn as_tls(problem: &CertificateProblem) -> Error {
    Error::InvalidCertificate(match problem {
        CertificateProblem::Expired => CertificateError::Expired,
        CertificateProblem::NotYetValid => CertificateError::NotValidYet,
        CertificateProblem::Foreign => CertificateError::UnknownIssuer,
        CertificateProblem::Unusable(_) => CertificateError::BadEncoding,
        _ => CertificateError::ApplicationVerificationFailure,
    })
}

/// TLS 1.2 is not offered, so that nothing of it can come.
fn only_tls13() -> Error {
    Error::General("TLS 1.2 is not spoken here".to_owned())
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(certificate, chain, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(certificate, chain, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
