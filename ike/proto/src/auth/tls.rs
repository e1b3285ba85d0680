//! Our keys and our trust as TLS asks for them, for EAP-TLS.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::algorithm::{Curve, Hash, Scheme};
use super::private_key::PrivateKey;
use super::{AuthError, Credentials};
use crate::configuration::RemoteAuthentication;
use crate::identity::Identity;

/// Who the other end of a TLS connection has to be, and by whose word.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// Its certificate has to be for it.
    pub(crate) identity: Identity,
    /// Which authorities and certificates are accepted, and what of revocation.
    pub(crate) remote: RemoteAuthentication,
    /// The time since 1970.
    pub(crate) unix: Duration,
}

impl Credentials {
    /// What a server of EAP-TLS needs, that proves itself as `ours` by one of the certificates of these names.
    pub(crate) fn tls_server(
        self: &Arc<Self>,
        names: &[String],
        ours: &Identity,
        peer: Expected,
    ) -> Result<ServerConfig, AuthError> {
        let key = SingleCertAndKey::from(self.certified(names, ours)?);
        let builder = ServerConfig::builder_with_details(Arc::new(default_provider()), Clock::of(peer.unix));
        let builder = builder.with_safe_default_protocol_versions().map_err(|_| AuthError::Internal)?;
        let mut configuration =
            builder.with_client_cert_verifier(self.judge(peer)).with_cert_resolver(Arc::new(key));
        configuration.session_storage = Arc::new(NoServerSessionStorage {});
        configuration.send_tls13_tickets = 0;
        Ok(configuration)
    }

    /// The same of a client.
    pub(crate) fn tls_client(
        self: &Arc<Self>,
        names: &[String],
        ours: &Identity,
        server: Expected,
    ) -> Result<ClientConfig, AuthError> {
        self.tls_client_of(rustls::DEFAULT_VERSIONS, names, ours, server)
    }

    pub(crate) fn tls_client_of(
        self: &Arc<Self>,
        versions: &[&'static SupportedProtocolVersion],
        names: &[String],
        ours: &Identity,
        server: Expected,
    ) -> Result<ClientConfig, AuthError> {
        let key = SingleCertAndKey::from(self.certified(names, ours)?);
        let builder =
            ClientConfig::builder_with_details(Arc::new(default_provider()), Clock::of(server.unix));
        let builder = builder.with_protocol_versions(versions).map_err(|_| AuthError::Internal)?;
        let mut configuration = builder
            .dangerous()
            .with_custom_certificate_verifier(self.judge(server))
            .with_client_cert_resolver(Arc::new(key));
        configuration.resumption = rustls::client::Resumption::disabled();
        configuration.enable_sni = false;
        Ok(configuration)
    }

    fn certified(&self, names: &[String], ours: &Identity) -> Result<CertifiedKey, AuthError> {
        let own = self.own_for(names, ours).ok_or_else(|| AuthError::NoPrivateKey(ours.clone()))?;
        let chain = self.chain_of(&own.named.certificate).into_iter().map(CertificateDer::from).collect();
        Ok(CertifiedKey::new(chain, Arc::new(TlsKey(Arc::clone(&own.key)))))
    }

    fn judge(self: &Arc<Self>, expected: Expected) -> Arc<Judge> {
        let allowed = self.authorities.iter().filter(|authority| authority.is_allowed(&expected.remote));
        let hints = allowed.map(|authority| authority.certificate.subject_der().to_vec().into());
        let (hints, provider) = (hints.collect::<Vec<DistinguishedName>>(), default_provider());
        Arc::new(Judge { credentials: Arc::clone(self), expected, hints, provider })
    }
}

/// TLS asks for the time; it is the machine's.
#[derive(Debug)]
struct Clock(Duration);

impl Clock {
    fn of(unix: Duration) -> Arc<Self> {
        Arc::new(Self(unix))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0))
    }
}

/// Judges certificates as those of IKE are.
#[derive(Debug)]
struct Judge {
    credentials: Arc<Credentials>,
    expected: Expected,
    hints: Vec<DistinguishedName>,
    provider: CryptoProvider,
}

impl Judge {
    fn check(&self, end: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let sent: Vec<Vec<u8>> =
            std::iter::once(end).chain(others).map(|certificate| certificate.to_vec()).collect();
        let Expected { identity, remote, unix } = &self.expected;
        let verdict = self.credentials.verify_certificates(remote, identity, &sent, *unix);
        let refused = |error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))));
        verdict.map(drop).map_err(refused)
    }

    fn check_1_2(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn check_1_3(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_1_2(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_1_3(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_1_2(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_1_3(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// A key of ours.
#[derive(Debug)]
struct TlsKey(Arc<PrivateKey>);

impl TlsKey {
    /// What it can sign with, the best first. TLS 1.3 has no PKCS#1 v1.5.
    fn schemes(&self) -> Vec<(SignatureScheme, Scheme)> {
        match &*self.0 {
            PrivateKey::Rsa(_) => vec![
                (SignatureScheme::RSA_PSS_SHA256, Scheme::RsaPss(Hash::Sha256)),
                (SignatureScheme::RSA_PSS_SHA384, Scheme::RsaPss(Hash::Sha384)),
                (SignatureScheme::RSA_PSS_SHA512, Scheme::RsaPss(Hash::Sha512)),
                (SignatureScheme::RSA_PKCS1_SHA256, Scheme::RsaPkcs1(Hash::Sha256)),
                (SignatureScheme::RSA_PKCS1_SHA384, Scheme::RsaPkcs1(Hash::Sha384)),
                (SignatureScheme::RSA_PKCS1_SHA512, Scheme::RsaPkcs1(Hash::Sha512)),
            ],
            PrivateKey::Ecdsa(curve, _) => vec![(of_curve(*curve), Scheme::Ecdsa(curve.hash()))],
            PrivateKey::Ed25519(_) => vec![(SignatureScheme::ED25519, Scheme::Ed25519)],
        }
    }
}

fn of_curve(curve: Curve) -> SignatureScheme {
    match curve {
        Curve::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        Curve::P384 => SignatureScheme::ECDSA_NISTP384_SHA384,
        Curve::P521 => SignatureScheme::ECDSA_NISTP521_SHA512,
    }
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let (name, scheme) = self.schemes().into_iter().find(|(name, _)| offered.contains(name))?;
        Some(Box::new(TlsSigner { key: Arc::clone(&self.0), name, scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match &*self.0 {
            PrivateKey::Rsa(_) => SignatureAlgorithm::RSA,
            PrivateKey::Ecdsa(..) => SignatureAlgorithm::ECDSA,
            PrivateKey::Ed25519(_) => SignatureAlgorithm::ED25519,
        }
    }
}

/// A key of ours with an algorithm.
#[derive(Debug)]
struct TlsSigner {
    key: Arc<PrivateKey>,
    name: SignatureScheme,
    scheme: Scheme,
}

impl Signer for TlsSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |_| Error::General("our signature could not be made".to_owned());
        self.key.signature(self.scheme, message).map_err(failed)
    }

    fn scheme(&self) -> SignatureScheme {
        self.name
    }
}
