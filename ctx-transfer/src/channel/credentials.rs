//! A member's certificate, its key, and the cluster's authority, from their files.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use rustls::crypto::aws_lc_rs as aws_lc_rs_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use webpki::{EndEntityCert, anchor_from_trusted_cert};
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use super::{Identity, NotAMember};

/// The authority's certificate, in the directory.
pub const AUTHORITY: &str = "ca.pem";
/// The authority's key, only where the cluster was begun.
pub const AUTHORITY_KEY: &str = "ca.key";
/// This member's certificate.
pub const CERTIFICATE: &str = "member.pem";
/// This member's key.
pub const KEY: &str = "member.key";

/// A certificate or a key is much shorter.
const MAX_OCTETS: u64 = 64 << 10;

/// Why a member's credentials cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Not there yet.
    #[error(
        "{0} is not there; begin a cluster with `dpctl cluster init`, or join one with `dpctl cluster join`"
    )]
    Missing(PathBuf),
    /// The system refuses.
    #[error("cannot read {path}: {source}; check its directory and permissions")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read a key.
    #[error("{0} can be read by others than its owner; chmod 600 it, and make it anew if somebody has")]
    NotPrivate(PathBuf),
    /// Damaged.
    #[error("{path}: {problem}; make it anew with `dpctl cluster invite` and `dpctl cluster join`")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key are of two.
    #[error(
        "{0} and the key beside it do not belong together; join the cluster again (`dpctl cluster join`)"
    )]
    Mismatch(PathBuf),
}

/// Who we are, and how we prove it.
pub struct Credentials {
    /// The name in our certificate.
    pub identity: Identity,
    /// When our certificate ends, since 1970.
    pub expires: Duration,
    /// When the authority's ends, since 1970.
    pub authority_expires: Duration,
    pub(super) authority: CertificateDer<'static>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads them from a directory.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn load(directory: &Path) -> Result<Self, CredentialsError> {
        let authority_path = directory.join(AUTHORITY);
        let path = directory.join(CERTIFICATE);
        let authority = certificate(&authority_path)?;
        let certificate = certificate(&path)?;
        let key_path = directory.join(KEY);
        let text = read(&key_path, true)?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|error| unusable(&key_path)(format!("it has no key: {error}")))?;
        let named = name_of(&certificate).map_err(unusable(&path))?;
        if !belong_together(&certificate, &key) {
            return Err(CredentialsError::Mismatch(path));
        }
        anchor_from_trusted_cert(&authority).map_err(|error| unusable(&authority_path)(error.to_string()))?;
        Ok(Self {
            identity: named,
            expires: end_of(&certificate).map_err(unusable(&path))?,
            authority_expires: end_of(&authority).map_err(unusable(&authority_path))?,
            authority,
            certificate,
            key,
        })
    }

    /// A key by which a member that was killed recognizes the connections of its life before (RFC 9000 section 10.3),
    /// so that the others need not wait until they have missed it.
    pub(super) fn reset_key(&self) -> hmac::Key {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"baton stateless reset");
        context.update(self.key.secret_der());
        hmac::Key::new(hmac::HMAC_SHA256, context.finish().as_ref())
    }
}

/// Whether the certificate is for the key.
fn belong_together(certificate: &CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> bool {
    let signing = aws_lc_rs_provider::sign::any_supported_type(key);
    let pair = signing.map(|key| CertifiedKey::new(vec![certificate.clone()], key));
    pair.is_ok_and(|pair| pair.keys_match().is_ok())
}

fn unusable(path: &Path) -> impl Fn(String) -> CredentialsError {
    let path = path.to_owned();
    move |problem| CredentialsError::Unusable { path: path.clone(), problem }
}

/// A file's octets, which are wiped when dropped.
fn read(path: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => CredentialsError::Missing(path.to_owned()),
        _ => CredentialsError::File { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(failed)?;
    if private && file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(CredentialsError::NotPrivate(path.to_owned()));
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(MAX_OCTETS as usize));
    file.take(MAX_OCTETS).read_to_end(&mut octets).map_err(failed)?;
    Ok(octets)
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>, CredentialsError> {
    let text = read(path, false)?;
    let found = CertificateDer::from_pem_slice(&text);
    found.map_err(|error| unusable(path)(format!("it has no certificate: {error}")))
}

/// The member that a certificate names.
///
/// # Errors
/// Why it names none, as a clause.
pub fn name_of(certificate: &CertificateDer<'_>) -> Result<Identity, String> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    let mut names = certificate.valid_uri_names().filter_map(|name| name.parse().ok());
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        (None, _) => Err(NotAMember.to_string()),
        _ => Err("it names several members".to_owned()),
    }
}

/// When a certificate ends, since 1970.
fn end_of(certificate: &CertificateDer<'_>) -> Result<Duration, String> {
    let certificate = x509_cert::Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    Ok(certificate.tbs_certificate().validity().not_after.to_unix_duration())
}
