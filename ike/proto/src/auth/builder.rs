//! Collecting credentials from files.

use zeroize::Zeroizing;

use super::{CredentialError, Credentials};
use crate::identity::Identity;

/// Collects credentials; [`Self::build`] makes them one.
#[derive(Debug, Default)]
pub struct CredentialsBuilder {
    _later: (),
}

impl CredentialsBuilder {
    /// Adds a certificate: ours, a pinned one of a peer, or an intermediate one. PEM (all of its certificates) or DER.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is none.
    pub fn add_certificate(&mut self, name: &str, octets: &[u8]) -> Result<(), CredentialError> {
        let _ = (name, octets);
        todo!()
    }

    /// Adds a private key, unencrypted: PKCS#8, PKCS#1 or SEC1, in PEM or DER.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is none, is encrypted, or too weak.
    pub fn add_private_key(&mut self, name: &str, octets: &[u8]) -> Result<(), CredentialError> {
        let _ = (name, octets);
        todo!()
    }

    /// Adds an authority whose certificates are accepted.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is no certificate of an authority.
    pub fn add_authority(&mut self, name: &str, octets: &[u8]) -> Result<(), CredentialError> {
        let _ = (name, octets);
        todo!()
    }

    /// Adds a certificate revocation list, in PEM or DER.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is none.
    pub fn add_crl(&mut self, name: &str, octets: &[u8]) -> Result<(), CredentialError> {
        let _ = (name, octets);
        todo!()
    }

    /// Adds a secret that these share; without any it is everybody's.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is empty.
    pub fn add_shared_secret(
        &mut self,
        name: &str,
        owners: Vec<Identity>,
        secret: Zeroizing<Vec<u8>>,
    ) -> Result<(), CredentialError> {
        let _ = (name, super::Secret::new(owners, secret));
        todo!()
    }

    /// All of it.
    pub fn build(self) -> Credentials {
        todo!()
    }
}
