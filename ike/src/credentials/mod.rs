//! Secrets, keys, certificates and revocation lists from their files.
//!
//! The directory has swanctl's own directories below it, so that one of strongSwan's can be used as it is.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use baton_ike_proto::auth::{CredentialError, Credentials, CredentialsBuilder};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::{CredentialSources, SecretKind, SecretSource, SharedSecret};

const CERTIFICATES: &str = "x509";
const AUTHORITIES: &str = "x509ca";
const REVOCATION_LISTS: &str = "x509crl";
const PRIVATE_KEYS: [&str; 4] = ["private", "rsa", "ecdsa", "pkcs8"];
/// A revocation list of a large authority has some megabytes.
const MAX_FILE: u64 = 32 << 20;
/// Files of one directory.
const MAX_FILES: usize = 10_000;
/// Problems beyond these are not told.
const MAX_PROBLEMS: usize = 100;

/// Why credentials cannot be used: every problem, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.join("\n"))]
pub struct CredentialProblems(pub Vec<String>);

impl CredentialSources {
    /// Every file and directory that [`load`] reads, whether it is there or not.
    pub fn paths(&self) -> Vec<PathBuf> {
        let secrets = self.secrets.iter().filter_map(|secret| match &secret.source {
            SecretSource::File(path) => Some(path.clone()),
            SecretSource::Inline(_) => None,
        });
        let named = |kind, names: &[String]| -> Vec<PathBuf> {
            names.iter().map(|name| self.directory.join(kind).join(name)).collect()
        };
        let mut paths = vec![self.directory.clone()];
        paths.extend(secrets);
        paths.extend(named(CERTIFICATES, &self.certificates));
        paths.extend(named(AUTHORITIES, &self.authorities));
        paths.extend(self.revocation_lists.iter().cloned());
        paths
    }
}

/// Reads all of them afresh.
///
/// # Errors
/// Every file that cannot be used, with what to do.
pub fn load(sources: &CredentialSources) -> Result<Credentials, CredentialProblems> {
    let mut loader = Loader { sources, builder: CredentialsBuilder::default(), problems: Vec::new() };
    loader.builder.set_rsa_pss(sources.rsa_pss);
    if sources.directory_is_named && !sources.directory.is_dir() {
        let shown = sources.directory.display();
        loader.problem(format!("{shown}: is not a directory; make it, or correct credential_directory"));
    }
    loader.add_all(CERTIFICATES, &sources.certificates, CredentialsBuilder::add_certificate);
    loader.add_all(AUTHORITIES, &sources.authorities, CredentialsBuilder::add_authority);
    loader.add_all(REVOCATION_LISTS, &[], CredentialsBuilder::add_crl);
    for path in &sources.revocation_lists {
        loader.add(path, &path.display().to_string(), Access::Any, CredentialsBuilder::add_crl);
    }
    for kind in PRIVATE_KEYS {
        for (name, path) in loader.files(kind) {
            loader.add(&path, &name, Access::Private, CredentialsBuilder::add_private_key);
        }
    }
    for secret in &sources.secrets {
        loader.add_secret(secret);
    }
    if loader.problems.is_empty() {
        Ok(loader.builder.build())
    } else {
        Err(CredentialProblems(loader.problems))
    }
}

/// Reads secrets of RADIUS servers afresh, by their names.
///
/// # Errors
/// Every file that cannot be used, with what to do.
pub fn radius_secrets(sources: &CredentialSources) -> Result<RadiusSecrets, CredentialProblems> {
    let (mut secrets, mut problems) = (HashMap::new(), Vec::new());
    for secret in sources.secrets.iter().filter(|secret| secret.kind == SecretKind::Radius) {
        match read_secret(&secret.source) {
            Ok(octets) => drop(secrets.insert(secret.name.clone(), baton_radius::Secret::new(octets))),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(secrets) } else { Err(CredentialProblems(problems)) }
}

/// Secrets of RADIUS servers by their names.
pub type RadiusSecrets = HashMap<String, baton_radius::Secret>;

fn read_secret(source: &SecretSource) -> Result<Zeroizing<Vec<u8>>, String> {
    match source {
        SecretSource::Inline(octets) => Ok(octets.clone()),
        SecretSource::File(path) => read(path, Access::Private).and_then(|text| {
            let secret = decode_secret(text.trim_ascii_end());
            secret.map_err(|problem| format!("{}: {problem}", path.display()))
        }),
    }
}

type Add = fn(&mut CredentialsBuilder, &str, &[u8]) -> Result<(), CredentialError>;

/// Who may be able to read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Any,
    /// Nobody but its owner.
    Private,
}

struct Loader<'s> {
    sources: &'s CredentialSources,
    builder: CredentialsBuilder,
    problems: Vec<String>,
}

impl Loader<'_> {
    fn problem(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// The files of a directory, and those that the configuration names beside them.
    fn add_all(&mut self, kind: &str, named: &[String], add: Add) {
        let mut files = self.files(kind);
        let missing = |name: &&String| files.iter().all(|(known, _)| known != *name);
        let others: Vec<_> = named.iter().filter(missing).collect();
        files.extend(
            others.into_iter().map(|name| (name.clone(), self.sources.directory.join(kind).join(name))),
        );
        for (name, path) in files {
            self.add(&path, &name, Access::Any, add);
        }
    }

    /// In the order of their names.
    fn files(&mut self, kind: &str) -> Vec<(String, PathBuf)> {
        let directory = self.sources.directory.join(kind);
        match list(&directory) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let shown = directory.display();
                self.problem(format!("{shown}: cannot be read: {error}; let the daemon's user read it"));
                Vec::new()
            }
        }
    }

    fn add(&mut self, path: &Path, name: &str, access: Access, add: Add) {
        let added = read(path, access).and_then(|octets| {
            let added = add(&mut self.builder, name, &octets);
            added.map_err(|error| error.to_string().replacen(name, &path.display().to_string(), 1))
        });
        if let Err(problem) = added {
            self.problem(problem);
        }
    }

    fn add_secret(&mut self, secret: &SharedSecret) {
        let octets = read_secret(&secret.source);
        let name = format!("secrets.{}", secret.name);
        let added = octets.and_then(|octets| {
            let owners = secret.owners.clone();
            let added = match secret.kind {
                SecretKind::Ike => self.builder.add_shared_secret(&name, owners, octets),
                SecretKind::Ppk => self.builder.add_postquantum_key(&name, owners, octets),
                SecretKind::Eap => self.builder.add_password(&name, owners, octets),
                SecretKind::Ticket => self.builder.add_ticket_key(&name, &octets),
                // Not the protocol's.
                SecretKind::Radius => return Ok(()),
            };
            added.map_err(|error| error.to_string())
        });
        if let Err(problem) = added {
            self.problem(problem);
        }
    }
}

fn list(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)?.take(MAX_FILES) {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.is_empty() && !name.starts_with('.') && path.is_file() {
            files.push((name.to_owned(), path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The file's octets; of what is no file, such as a pipe, that does not wait for a writer.
fn read(path: &Path, access: Access) -> Result<Zeroizing<Vec<u8>>, String> {
    let refuse = |problem: String| Err(format!("{}: {problem}", path.display()));
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = match opened {
        Ok(opened) => opened,
        Err(error) => return refuse(format!("cannot be read: {error}; put it there, or correct its name")),
    };
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return refuse(format!("is no file of at most {MAX_FILE} octets; correct its name"));
    }
    if access == Access::Private && metadata.mode() & 0o077 != 0 {
        return refuse(format!("others than its owner can use it; chmod 0600 {}", path.display()));
    }
    match read_all(file, metadata.len()) {
        Ok(octets) => Ok(octets),
        Err(error) => refuse(format!("cannot be read: {error}; copy it again")),
    }
}

/// Room for all of it at once: octets that grow leave copies behind.
fn read_all(file: File, length: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    file.take(length).read_to_end(&mut octets)?;
    Ok(octets)
}

/// A secret as swanctl writes it: `0x` and hexadecimal digits, `0s` and Base64, or itself.
///
/// # Errors
/// What is wrong, without the secret.
pub fn decode_secret(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let secret = match text.split_at_checked(2) {
        Some((b"0x" | b"0X", digits)) => hexadecimal(digits)?,
        Some((b"0s", digits)) => base64(digits)?,
        _ => Zeroizing::new(text.to_vec()),
    };
    if secret.is_empty() { Err("the secret is empty") } else { Ok(secret) }
}

fn hexadecimal(digits: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut octets = Zeroizing::new(vec![0; digits.len() / 2]);
    hex::decode_to_slice(digits, &mut octets)
        .map_err(|_| "what follows 0x are not pairs of hexadecimal digits")?;
    Ok(octets)
}

fn base64(digits: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut octets = Zeroizing::new(vec![0; digits.len()]);
    let length = Base64::decode(digits, &mut octets).map_err(|_| "what follows 0s is not Base64")?.len();
    octets.truncate(length);
    Ok(octets)
}

#[cfg(test)]
mod tests;
