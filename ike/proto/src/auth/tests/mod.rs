//! The certificates are in `testdata/pki`, whose `make` says what each is.

mod chains;
mod files;
mod secrets;
mod signatures;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::configuration::{RemoteMethod, Revocation};

/// May 2033, when all is valid that is not meant to be expired.
const NOW: Duration = Duration::from_secs(2_000_000_000);
const OCTETS: &[u8] = b"message | nonce | prf(SK_p, ID')";
const HASHES: &[u16] = &[2, 3, 4, 5];

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pki").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

/// The DER of a certificate file.
fn der(name: &str) -> Vec<u8> {
    pem::blocks(&file(&format!("{name}.pem"))).unwrap()[0].der.to_vec()
}

/// Credentials with these authorities, certificates and lists.
fn trusting(authorities: &[&str], certificates: &[&str], lists: &[&str]) -> Credentials {
    let mut builder = CredentialsBuilder::default();
    for name in authorities {
        builder.add_authority(name, &file(&format!("{name}.pem"))).unwrap();
    }
    for name in certificates {
        builder.add_certificate(name, &file(&format!("{name}.pem"))).unwrap();
    }
    for name in lists {
        builder.add_crl(name, &file(&format!("{name}.crl"))).unwrap();
    }
    builder.build()
}

/// Credentials with the keys and certificates of these names.
fn owning(names: &[&str]) -> CredentialsBuilder {
    let mut builder = CredentialsBuilder::default();
    for name in names {
        builder.add_certificate(name, &file(&format!("{name}.pem"))).unwrap();
        builder.add_private_key(name, &file(&format!("{name}.key.pem"))).unwrap();
    }
    builder
}

fn anybody() -> RemoteAuthentication {
    RemoteAuthentication {
        method: RemoteMethod::Signature,
        identity: Identity::Any,
        authorities: vec![],
        certificates: vec![],
        revocation: Revocation::Relaxed,
        eap_identity: None,
    }
}

fn by_certificate() -> LocalMethod {
    LocalMethod::Signature(vec![])
}

/// What `name` sends to prove that it is `identity`.
fn signed(name: &str, identity: &str) -> Signed {
    owning(&[name]).build().sign(&by_certificate(), &id(identity), HASHES, OCTETS).unwrap()
}

fn verify(
    judge: &Credentials,
    remote: &RemoteAuthentication,
    identity: &str,
    proof: &Signed,
) -> Result<Verified, AuthError> {
    judge.verify(remote, &id(identity), &proof.certificates, proof.method, &proof.data, OCTETS, NOW)
}
