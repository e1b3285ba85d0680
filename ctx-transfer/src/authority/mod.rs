//! The cluster's own certificate authority: one key, on the machine where the cluster was begun, that signs one
//! certificate for each member.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::channel::{AUTHORITY, AUTHORITY_KEY, CERTIFICATE, Identity, KEY};
use crate::private_file::{PrivateFile, PrivateFileError};

mod invitation;

#[cfg(test)]
mod tests;

pub use invitation::{Invitation, InvitationError};

/// A day, in seconds.
const DAY: u64 = 86_400;
/// Clocks of members differ, and who joins just now has to be believed by one that is behind.
const BACKDATED: Duration = Duration::from_hours(1);
/// Keys are short.
const MAX_OCTETS: u64 = 64 << 10;

/// Why the authority cannot do something.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A cluster was begun here before.
    #[error(
        "{0} is there already, and all members trust it; `dpctl cluster invite` makes certificates with it. To begin \
         another cluster, move the directory away first"
    )]
    Exists(PathBuf),
    /// The key is elsewhere.
    #[error("{0} is not there; certificates are made where the cluster was begun (`dpctl cluster init`)")]
    Missing(PathBuf),
    /// The system refuses.
    #[error("cannot read {path}: {source}; check its directory and permissions")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Writing.
    #[error(transparent)]
    Write(#[from] PrivateFileError),
    /// Making a directory.
    #[error("cannot make {path}: {source}; check its parent's permissions")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A damaged key.
    #[error("{0} is damaged; restore it from a backup, or begin the cluster anew")]
    Damaged(PathBuf),
    /// Making a certificate.
    #[error("cannot make a certificate: {0}; this is a bug of Baton")]
    Making(String),
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn making(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Making(error.to_string())
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// For everybody.
    pub certificate: String,
    /// For its member only.
    pub key: Zeroizing<String>,
}

/// The authority, with its key.
pub struct Authority {
    certificate: String,
    cluster: String,
    key: KeyPair,
}

impl Authority {
    /// Begins a cluster: an authority in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// [`AuthorityError`]; if there is one already, nothing was changed.
    pub fn create(directory: &Path, cluster: &str, days: u32) -> Result<Self, AuthorityError> {
        make_directory(directory)?;
        let key_path = directory.join(AUTHORITY_KEY);
        for path in [&key_path, &directory.join(AUTHORITY)] {
            if path.exists() {
                return Err(AuthorityError::Exists(path.clone()));
            }
        }
        let key = KeyPair::generate().map_err(making)?;
        let mut parameters = named(cluster);
        (parameters.not_before, parameters.not_after) = validity(days);
        let certificate = parameters.self_signed(&key).map_err(making)?.pem();
        write(&key_path, &Zeroizing::new(key.serialize_pem()))?;
        write(&directory.join(AUTHORITY), &certificate)?;
        Ok(Self { certificate, cluster: cluster.to_owned(), key })
    }

    /// The authority of a cluster that was begun here.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn load(directory: &Path, cluster: &str) -> Result<Self, AuthorityError> {
        let key_path = directory.join(AUTHORITY_KEY);
        let text = read(&key_path)?;
        let key = KeyPair::from_pem(&text).map_err(|_| AuthorityError::Damaged(key_path))?;
        let certificate = read(&directory.join(AUTHORITY))?.to_string();
        Ok(Self { certificate, cluster: cluster.to_owned(), key })
    }

    /// A certificate for a member, with a new key, valid for so many days from now.
    ///
    /// # Errors
    /// [`AuthorityError::Making`].
    pub fn issue(&self, member: &Identity, days: u32) -> Result<Issued, AuthorityError> {
        let (from, to) = validity(days);
        self.issue_for(member, from, to)
    }

    pub(crate) fn issue_for(
        &self,
        member: &Identity,
        from: Time,
        to: Time,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate().map_err(making)?;
        let mut parameters = CertificateParams::default();
        (parameters.not_before, parameters.not_after) = (from, to);
        parameters.distinguished_name.push(DnType::CommonName, member.to_string());
        let uri = member.to_string().try_into().map_err(making)?;
        parameters.subject_alt_names = vec![SanType::URI(uri)];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let issuer = named(&self.cluster);
        let issuer = Issuer::from_params(&issuer, &self.key);
        let certificate = parameters.signed_by(&key, &issuer).map_err(making)?.pem();
        Ok(Issued { certificate, key: Zeroizing::new(key.serialize_pem()) })
    }

    /// All that a member needs to join.
    ///
    /// # Errors
    /// [`AuthorityError::Making`].
    pub fn invite(&self, member: &Identity, days: u32) -> Result<Invitation, AuthorityError> {
        let issued = self.issue(member, days)?;
        Ok(Invitation::new(self.certificate.clone(), issued))
    }
}

/// What rcgen measures time in.
type Time = time::OffsetDateTime;

/// An authority's name says whose it is, so that the name of its certificate's issuer follows from the cluster's.
fn named(cluster: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, format!("Baton cluster {cluster}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

/// From now, by this machine's clock.
fn validity(days: u32) -> (Time, Time) {
    let now = SystemTime::now();
    let end = now + Duration::from_secs(u64::from(days) * DAY);
    (now.checked_sub(BACKDATED).unwrap_or(now).into(), end.into())
}

fn make_directory(directory: &Path) -> Result<(), AuthorityError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| AuthorityError::Directory { path: directory.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), PrivateFileError> {
    let mut file = PrivateFile::create(path)?;
    file.write_all(text.as_bytes())?;
    file.publish()
}

fn read(path: &Path) -> Result<Zeroizing<String>, AuthorityError> {
    use std::io::Read as _;
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => AuthorityError::Missing(path.to_owned()),
        _ => AuthorityError::Read { path: path.to_owned(), source },
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = Zeroizing::new(String::with_capacity(MAX_OCTETS as usize));
    file.take(MAX_OCTETS).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Puts a member's own certificate and key into its directory.
///
/// # Errors
/// [`AuthorityError`].
pub fn store(directory: &Path, issued: &Issued) -> Result<(), AuthorityError> {
    make_directory(directory)?;
    // A key without its certificate is refused at the next start; the other way round as well.
    write(&directory.join(KEY), &issued.key)?;
    Ok(write(&directory.join(CERTIFICATE), &issued.certificate)?)
}
