//! Proof of identity (RFC 7296 section 2.15): shared secrets, certificates, signatures.

mod builder;
mod error;
mod secret;

use std::net::IpAddr;
use std::time::Duration;

pub use builder::CredentialsBuilder;
pub use error::{AuthError, CredentialError};
pub use secret::Secret;

use crate::configuration::{LocalAuthentication, LocalMethod, RemoteAuthentication};
use crate::identity::Identity;
use crate::wire::AuthenticationMethod;

/// Secrets, private keys, certificates, authorities and revocation lists. It does not change after it was built.
#[derive(Debug)]
pub struct Credentials {
    _later: (),
}

/// An AUTH payload of ours and the certificates that go with it.
#[derive(Debug)]
pub struct Signed {
    /// Its Auth Method.
    pub method: AuthenticationMethod,
    /// Its data.
    pub data: Vec<u8>,
    /// DER: ours first, then intermediate ones.
    pub certificates: Vec<Vec<u8>>,
}

/// What the peer has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// A sentence's object, for events: `RSA-2048 certificate "CN=..." by authority "..."`.
    pub by: String,
}

impl Credentials {
    /// The secret that fits both identities best, by strongSwan's rules: the better match of the peer decides, then
    /// that of ours.
    pub fn shared_secret(&self, local: &Identity, remote: &Identity) -> Option<&Secret> {
        let _ = (local, remote);
        todo!()
    }

    /// As whom we speak: what is configured, else the subject of our certificate, else our address.
    pub fn local_identity(&self, local: &LocalAuthentication, address: IpAddr) -> Identity {
        let _ = (local, address);
        todo!()
    }

    /// Signs `octets` with the key of a certificate that `method` names, or that bears the identity.
    ///
    /// `peer_hashes` are the peer's SIGNATURE_HASH_ALGORITHMS; without any it knows nothing of RFC 7427.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if there is no key for it, or the peer understands no signature that the key can make.
    pub fn sign(
        &self,
        method: &LocalMethod,
        identity: &Identity,
        peer_hashes: &[u16],
        octets: &[u8],
    ) -> Result<Signed, AuthError> {
        let _ = (method, identity, peer_hashes, octets);
        todo!()
    }

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
        let _ = (remote, identity, certificates, method, data, octets, unix);
        todo!()
    }

    /// The body of a certificate request: SHA-1 hashes of the authorities' public keys (RFC 7296 section 3.7).
    pub fn certificate_request(&self, remote: &RemoteAuthentication) -> Vec<u8> {
        let _ = remote;
        todo!()
    }
}

/// What our SIGNATURE_HASH_ALGORITHMS says (RFC 7427 section 4): SHA2-256, SHA2-384, SHA2-512, Identity (RFC 8420).
pub fn signature_hash_algorithms() -> Vec<u16> {
    vec![2, 3, 4, 5]
}
