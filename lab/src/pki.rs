//! Certificates for peers, made by strongSwan's `pki`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{LabError, Result};
use crate::gateway::write_secret;

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with 2048 bits.
    Rsa2048,
    /// ECDSA on P-256.
    Ecdsa256,
    /// ECDSA on P-384.
    Ecdsa384,
    /// ECDSA on P-521.
    Ecdsa521,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Rsa2048, Self::Ecdsa256, Self::Ecdsa384, Self::Ecdsa521, Self::Ed25519];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Rsa2048 => &["--type", "rsa", "--size", "2048"],
            Self::Ecdsa256 => &["--type", "ecdsa", "--size", "256"],
            Self::Ecdsa384 => &["--type", "ecdsa", "--size", "384"],
            Self::Ecdsa521 => &["--type", "ecdsa", "--size", "521"],
            Self::Ed25519 => &["--type", "ed25519"],
        }
    }
}

/// A certificate and its private key, both in PEM.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The private key's file, which only its owner can read.
    pub key: PathBuf,
    /// The file of the authority's certificate that others trust.
    pub authority: PathBuf,
}

/// What stands in a certificate.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// Distinguished name, such as `C=CH, O=lab, CN=a`.
    pub distinguished_name: &'a str,
    /// Subject alternative names.
    pub alternative_names: &'a [&'a str],
    /// Further options of `pki --issue`, such as `--nc-permitted`.
    pub options: &'a [&'a str],
}

/// Who signs certificates. Its files are called after it.
#[derive(Clone, Debug)]
pub struct Authority {
    folder: PathBuf,
    /// Its own certificate and key.
    pub own: Certified,
}

impl Authority {
    /// A root of its own, its files in `folder`.
    ///
    /// # Errors
    /// If `pki` fails.
    pub fn root(folder: &Path, name: &str, kind: KeyKind) -> Result<Self> {
        fs::create_dir_all(folder).map_err(LabError::path("make", folder))?;
        let key = generate(folder, name, kind)?;
        let dn = format!("C=CH, O=lab, CN={name}");
        let mut command =
            pki(&["--self", "--ca", "--lifetime", "30", "--outform", "pem", "--dn", &dn, "--in"]);
        let certificate = write(folder, &format!("{name}.crt"), &command::run(command.arg(&key))?)?;
        Ok(Self {
            folder: folder.to_owned(),
            own: Certified { authority: certificate.clone(), certificate, key },
        })
    }

    /// An authority below this one.
    ///
    /// # Errors
    /// If `pki` fails.
    pub fn intermediate(&self, name: &str, kind: KeyKind, options: &[&str]) -> Result<Self> {
        let dn = format!("C=CH, O=lab, CN={name}");
        let options = [&["--ca"], options].concat();
        let subject = Subject { distinguished_name: &dn, alternative_names: &[], options: &options };
        Ok(Self { folder: self.folder.clone(), own: self.issue(name, kind, &subject)? })
    }

    /// A certificate with a new key; the files are `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// If `pki` fails.
    pub fn issue(&self, name: &str, kind: KeyKind, subject: &Subject<'_>) -> Result<Certified> {
        let key = generate(&self.folder, name, kind)?;
        let mut command = pki(&["--issue", "--type", "priv", "--lifetime", "30", "--outform", "pem"]);
        command.arg("--in").arg(&key).arg("--cacert").arg(&self.own.certificate);
        command.arg("--cakey").arg(&self.own.key).args(["--dn", subject.distinguished_name]);
        for name in subject.alternative_names {
            command.args(["--san", name]);
        }
        let text = command::run(command.args(subject.options))?;
        let certificate = write(&self.folder, &format!("{name}.crt"), &text)?;
        Ok(Certified { certificate, key, authority: self.own.authority.clone() })
    }

    /// A fresh revocation list that names `revoked`; the file is `NAME.crl`.
    ///
    /// # Errors
    /// If `pki` fails.
    pub fn revoke(&self, name: &str, revoked: &[&Certified]) -> Result<PathBuf> {
        let mut command = pki(&["--signcrl", "--lifetime", "15", "--outform", "pem", "--cacert"]);
        command.arg(&self.own.certificate).arg("--cakey").arg(&self.own.key);
        for certified in revoked {
            command.args(["--reason", "key-compromise", "--cert"]).arg(&certified.certificate);
        }
        write(&self.folder, &format!("{name}.crl"), &command::run(&mut command)?)
    }
}

fn pki(arguments: &[&str]) -> Command {
    let mut command = Command::new("pki");
    command.args(arguments);
    command
}

fn generate(folder: &Path, name: &str, kind: KeyKind) -> Result<PathBuf> {
    let key = command::run(pki(&["--gen", "--outform", "pem"]).args(kind.arguments()))?;
    write(folder, &format!("{name}.key"), &key)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    write_secret(&path, text)?;
    Ok(path)
}

/// A new private key and its public key, in PEM.
///
/// # Errors
/// If `pki` fails.
pub fn key_pair(kind: KeyKind) -> Result<(String, String)> {
    let private = command::run(pki(&["--gen", "--outform", "pem"]).args(kind.arguments()))?;
    let mut public = pki(&["--pub", "--type", "priv", "--outform", "pem"]);
    let public = command::run_with_input(&mut public, private.as_bytes())?;
    Ok((private, public))
}
