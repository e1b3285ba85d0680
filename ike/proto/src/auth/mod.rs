//! Proof of identity (RFC 7296 section 2.15): shared secrets, certificates, signatures.

mod algorithm;
mod builder;
mod certificate;
mod error;
mod pem;
mod private_key;
mod public_key;
mod secret;
#[cfg(test)]
mod tests;
mod tls;
mod trust;
mod verify;

use std::net::IpAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use webpki::CertRevocationList;

use certificate::Certificate;
use private_key::PrivateKey;
use trust::Authority;

pub use algorithm::HashAlgorithm;
pub use builder::CredentialsBuilder;
pub use error::{AuthError, CredentialError};
pub use secret::Secret;
pub(crate) use tls::Expected;
pub use verify::{MAX_PEER_CERTIFICATES, Verified};

use crate::configuration::{EapMethod, LocalAuthentication, LocalMethod, RemoteAuthentication};
use crate::crypto::TicketKey;
use crate::identity::Identity;
use crate::wire::AuthenticationMethod;

/// The most intermediate certificates that go with ours.
const MAX_CHAIN: usize = 8;

/// Secrets, private keys, certificates, authorities and revocation lists. It does not change after it was built.
#[derive(Debug)]
pub struct Credentials {
    secrets: Vec<Secret>,
    postquantum_keys: Vec<Secret>,
    /// Of users.
    passwords: Vec<Secret>,
    /// The one that is valid longest first.
    own: Vec<Own>,
    certificates: Vec<Named>,
    /// Authorities' certificates that are not trusted by themselves.
    intermediates: Vec<CertificateDer<'static>>,
    authorities: Vec<Authority>,
    /// The newest first.
    lists: Vec<CertRevocationList<'static>>,
    with_pss: bool,
    /// The one that seals first.
    ticket_keys: Vec<TicketKey>,
}

/// A certificate and the file that it is from.
#[derive(Debug, Clone)]
struct Named {
    name: String,
    certificate: Certificate,
}

/// A certificate of which we have the private key.
#[derive(Debug)]
struct Own {
    key: Arc<PrivateKey>,
    named: Named,
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

impl Credentials {
    /// The secret that fits both identities best, by strongSwan's rules: the better match of the peer decides, then
    /// that of ours. One that names only one of them fits as well.
    pub fn shared_secret(&self, local: &Identity, remote: &Identity) -> Option<&Secret> {
        secret::best(&self.secrets, local, remote)
    }

    /// The postquantum preshared key (RFC 8784) that goes by this identity; the best match of several.
    pub fn postquantum_key(&self, identity: &Identity) -> Option<&Secret> {
        secret::best_of_one(&self.postquantum_keys, identity)
    }

    /// Whether there is any postquantum preshared key.
    pub fn has_postquantum_keys(&self) -> bool {
        !self.postquantum_keys.is_empty()
    }

    /// The password of a user: that of which an owner fits best, then that which names `other` as well, the end that
    /// the user speaks with. One that does not name the user is none of its.
    pub fn password(&self, other: &Identity, user: &Identity) -> Option<&Secret> {
        secret::of_user(&self.passwords, other, user)
    }

    /// What tickets of resumption are sealed under (RFC 5723): the first seals, all open. Without any the gateway has
    /// one of its own.
    pub fn ticket_keys(&self) -> &[TicketKey] {
        &self.ticket_keys
    }

    /// As whom we speak: what is configured, else the subject of our certificate, else our address. An identity that
    /// does not stand in the configured certificates gives way to the subject of the first, as in strongSwan: no peer
    /// would accept it.
    pub fn local_identity(&self, local: &LocalAuthentication, address: IpAddr) -> Identity {
        let configured = Some(&local.identity).filter(|identity| !identity.is_pattern());
        match (&local.method, configured) {
            (LocalMethod::PreSharedKey, Some(identity)) => identity.clone(),
            (LocalMethod::PreSharedKey, None) => address.into(),
            // A user by a password.
            (LocalMethod::Eap(user), configured) if user.method == EapMethod::MsChapV2 => {
                configured.cloned().unwrap_or_else(|| address.into())
            }
            (LocalMethod::Signature(_) | LocalMethod::Eap(_), configured) => {
                let names = local.method.certificates();
                let own = configured.and_then(|identity| self.own_for(names, identity));
                match (own, configured, self.any_own(names)) {
                    (Some(_), Some(identity), _) => identity.clone(),
                    (_, _, Some(own)) if configured.is_none() || !names.is_empty() => {
                        own.named.certificate.subject.clone()
                    }
                    (_, configured, _) => configured.cloned().unwrap_or_else(|| address.into()),
                }
            }
        }
    }

    /// Signs `octets` with the key of a certificate that `method` names and that is for the identity; without names, of
    /// any certificate that is. Of several the first is taken whose signatures the peer understands.
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
        let own = self
            .named_own(method.certificates())
            .into_iter()
            .filter(|own| own.named.certificate.is_for(identity));
        let attempts = own.map(|own| {
            let (method, data) = own.key.sign(peer_hashes, self.with_pss, octets)?;
            Ok(Signed { method, data, certificates: self.chain_of(&own.named.certificate) })
        });
        first_success(attempts).unwrap_or_else(|| Err(AuthError::NoPrivateKey(identity.clone())))
    }

    /// The body of a certificate request: SHA-1 hashes of the authorities' public keys (RFC 7296 section 3.7).
    pub fn certificate_request(&self, remote: &RemoteAuthentication) -> Vec<u8> {
        let allowed = self.authorities.iter().filter(|authority| authority.is_allowed(remote));
        let mut hashes: Vec<[u8; 20]> = allowed.map(|authority| authority.certificate.key_hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.concat()
    }

    /// Our certificate for an identity, in the order of the names.
    fn own_for(&self, names: &[String], identity: &Identity) -> Option<&Own> {
        self.named_own(names).into_iter().find(|own| own.named.certificate.is_for(identity))
    }

    /// Any certificate of ours, in the order of the names.
    fn any_own(&self, names: &[String]) -> Option<&Own> {
        self.named_own(names).first().copied()
    }

    fn named_own(&self, names: &[String]) -> Vec<&Own> {
        if names.is_empty() {
            return self.own.iter().collect();
        }
        names.iter().flat_map(|name| self.own.iter().filter(move |own| own.named.name == *name)).collect()
    }

    /// A certificate and those that lead to a root, which the peer has already.
    fn chain_of(&self, certificate: &Certificate) -> Vec<Vec<u8>> {
        let mut chain = vec![certificate];
        while let Some(issuer) = self.issuer_of(chain[chain.len() - 1]).filter(|_| chain.len() <= MAX_CHAIN) {
            chain.push(issuer);
        }
        chain.into_iter().map(|certificate| certificate.der.to_vec()).collect()
    }

    fn issuer_of(&self, certificate: &Certificate) -> Option<&Certificate> {
        let files = self.certificates.iter().map(|named| &named.certificate);
        let trusted = self.authorities.iter().map(|authority| &authority.certificate);
        let is_issuer = |other: &&Certificate| {
            other.is_authority() && !other.is_self_issued() && certificate.may_be_issued_by(other)
        };
        files.chain(trusted).find(is_issuer).filter(|_| !certificate.is_self_issued())
    }
}

/// The first success, otherwise the first failure; `None` if nothing was tried.
fn first_success<T, E>(results: impl Iterator<Item = Result<T, E>>) -> Option<Result<T, E>> {
    let mut failure = None;
    for result in results {
        if result.is_ok() {
            return Some(result);
        }
        failure.get_or_insert(result);
    }
    failure
}

/// What our SIGNATURE_HASH_ALGORITHMS says (RFC 7427 section 4, RFC 8420): SHA-2, and none for Ed25519.
pub fn signature_hash_algorithms() -> Vec<u16> {
    [HashAlgorithm::SHA2_256, HashAlgorithm::SHA2_384, HashAlgorithm::SHA2_512, HashAlgorithm::IDENTITY]
        .map(|hash| hash.0)
        .to_vec()
}
