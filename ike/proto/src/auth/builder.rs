//! Collecting credentials from files.

use rustls_pki_types::CertificateDer;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::pem::{Block, PemError, blocks};
use super::private_key::PrivateKey;
use super::trust::{Authority, reason};
use super::{CredentialError, Credentials, Named, Own, Secret};
use crate::crypto::TicketKey;
use crate::identity::Identity;

/// Octets of a postquantum preshared key. 32 random ones are advised (RFC 8784 section 6); of less than these nobody
/// expects that they withstand anything.
const MIN_POSTQUANTUM_KEY: usize = 16;

/// Octets of a key that tickets are sealed under: of random ones these are enough.
const MIN_TICKET_KEY: usize = 16;

/// Collects credentials; [`Self::build`] makes them one. Names are those by which the configuration refers to the file.
#[derive(Debug, Default)]
pub struct CredentialsBuilder {
    secrets: Vec<Secret>,
    postquantum_keys: Vec<Secret>,
    passwords: Vec<Secret>,
    keys: Vec<PrivateKey>,
    certificates: Vec<Named>,
    authorities: Vec<Authority>,
    lists: Vec<(std::time::Duration, OwnedCertRevocationList)>,
    with_pss: bool,
    ticket_keys: Vec<TicketKey>,
}

impl CredentialsBuilder {
    /// Whether our RSA keys sign by RSASSA-PSS rather than PKCS#1 v1.5 (both with SHA-2). Either is accepted from peers.
    pub fn set_rsa_pss(&mut self, with_pss: bool) {
        self.with_pss = with_pss;
    }

    /// Adds a certificate: ours, a pinned one of a peer, or an intermediate one. PEM (all of its certificates) or DER.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is none.
    pub fn add_certificate(&mut self, name: &str, octets: &[u8]) -> Result<(), CredentialError> {
        for certificate in certificates(name, octets)? {
            self.certificates.push(Named { name: name.to_owned(), certificate });
        }
        Ok(())
    }

    /// Adds a private key, unencrypted: PKCS#8, PKCS#1 or SEC1, in PEM or DER.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is none, is encrypted, or too weak.
    pub fn add_private_key(&mut self, name: &str, octets: &[u8]) -> Result<(), CredentialError> {
        let blocks = read(name, octets)?;
        let keys: Vec<_> = blocks.iter().filter(|block| is_key(block)).collect();
        if keys.is_empty() {
            return Err(CredentialError::new(name, "it has no private key", "export the key as PKCS#8"));
        }
        for block in keys {
            self.keys.push(private_key(name, &block.der)?);
        }
        Ok(())
    }

    /// Adds an authority whose certificates are accepted.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is no certificate of an authority.
    pub fn add_authority(&mut self, name: &str, octets: &[u8]) -> Result<(), CredentialError> {
        for certificate in certificates(name, octets)? {
            let authority = Authority::new(name, certificate);
            self.authorities.push(authority.map_err(|problem| {
                CredentialError::new(
                    name,
                    problem,
                    "pin it in the connection's remote.certs if it is a peer's",
                )
            })?);
        }
        Ok(())
    }

    /// Adds a certificate revocation list, in PEM or DER.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is none.
    pub fn add_crl(&mut self, name: &str, octets: &[u8]) -> Result<(), CredentialError> {
        let lists: Vec<_> = read(name, octets)?.into_iter().filter(|block| is(block, "X509 CRL")).collect();
        if lists.is_empty() {
            return Err(CredentialError::new(
                name,
                "it has no revocation list",
                "export the list as PEM or DER",
            ));
        }
        for block in lists {
            let list = revocation_list(&block.der);
            self.lists.push(list.map_err(|problem| {
                CredentialError::new(name, problem, "issue a complete list of version 2 with a next update")
            })?);
        }
        Ok(())
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
        if secret.is_empty() {
            return Err(CredentialError::new(
                name,
                "the secret is empty",
                "take 32 random octets, as hexadecimal",
            ));
        }
        self.secrets.push(Secret::new(owners, secret));
        Ok(())
    }

    /// Adds a postquantum preshared key (RFC 8784) with the identities, or patterns of some, by which peers call it;
    /// without any it goes by every identity.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is too short to withstand a search by a quantum computer.
    pub fn add_postquantum_key(
        &mut self,
        name: &str,
        identities: Vec<Identity>,
        key: Zeroizing<Vec<u8>>,
    ) -> Result<(), CredentialError> {
        if key.len() < MIN_POSTQUANTUM_KEY {
            let problem = format!("a postquantum preshared key has {MIN_POSTQUANTUM_KEY} octets at least");
            return Err(CredentialError::new(name, problem, "take 32 random octets, as hexadecimal"));
        }
        self.postquantum_keys.push(Secret::new(identities, key));
        Ok(())
    }

    /// Adds a secret that tickets of resumption are sealed under (RFC 5723). The first one seals; all open.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is too short: whoever finds it reads the keys in all tickets.
    pub fn add_ticket_key(&mut self, name: &str, secret: &[u8]) -> Result<(), CredentialError> {
        if secret.len() < MIN_TICKET_KEY {
            let problem = format!("a key of tickets has {MIN_TICKET_KEY} octets at least");
            return Err(CredentialError::new(name, problem, "take 32 random octets, as hexadecimal"));
        }
        self.ticket_keys.push(TicketKey::new(secret));
        Ok(())
    }

    /// Adds a password of these users, for EAP.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if it is empty, is no text, or is nobody's.
    pub fn add_password(
        &mut self,
        name: &str,
        owners: Vec<Identity>,
        password: Zeroizing<Vec<u8>>,
    ) -> Result<(), CredentialError> {
        let problem = match () {
            () if owners.is_empty() => ("the password is nobody's", "name the user: id = \"...\""),
            () if password.is_empty() => ("the password is empty", "take a long one"),
            () if std::str::from_utf8(&password).is_err() => {
                ("the password is no text in UTF-8", "write it as text")
            }
            () => {
                self.passwords.push(Secret::new(owners, password));
                return Ok(());
            }
        };
        Err(CredentialError::new(name, problem.0, problem.1))
    }

    /// All of it. Revocation lists are asked the newest first.
    pub fn build(mut self) -> Credentials {
        self.lists.sort_by_key(|(issued, _)| std::cmp::Reverse(*issued));
        let mut own: Vec<Own> = self.keys.into_iter().flat_map(|key| own(key, &self.certificates)).collect();
        own.sort_by_key(|own| std::cmp::Reverse(own.named.certificate.not_after));
        Credentials {
            secrets: self.secrets,
            postquantum_keys: self.postquantum_keys,
            passwords: self.passwords,
            intermediates: intermediates(&self.certificates),
            own,
            certificates: self.certificates,
            authorities: self.authorities,
            lists: self.lists.into_iter().map(|(_, list)| CertRevocationList::from(list)).collect(),
            with_pss: self.with_pss,
            ticket_keys: self.ticket_keys,
        }
    }
}

fn own(key: PrivateKey, certificates: &[Named]) -> Vec<Own> {
    let key = std::sync::Arc::new(key);
    let is_of_key = |named: &&Named| {
        named.certificate.key.kind == key.kind() && named.certificate.key.octets == key.public_key()
    };
    let of_key = certificates.iter().filter(is_of_key);
    of_key.map(|named| Own { key: std::sync::Arc::clone(&key), named: named.clone() }).collect()
}

fn intermediates(certificates: &[Named]) -> Vec<CertificateDer<'static>> {
    let authorities = certificates.iter().filter(|named| named.certificate.is_authority());
    authorities.map(|named| named.certificate.der.clone()).collect()
}

fn read<'a>(name: &str, octets: &'a [u8]) -> Result<Vec<Block<'a>>, CredentialError> {
    blocks(octets).map_err(|error| match error {
        PemError::Encrypted => encrypted(name),
        PemError::Malformed => {
            CredentialError::new(name, "it is damaged PEM", "copy the file again, unchanged")
        }
    })
}

fn encrypted(name: &str) -> CredentialError {
    let remedy =
        format!("store it decrypted, readable by the daemon alone: openssl pkey -in {name} -out {name}");
    CredentialError::new(name, "its private key is encrypted", remedy)
}

fn is(block: &Block<'_>, label: &str) -> bool {
    block.label.is_empty() || block.label == label
}

fn is_key(block: &Block<'_>) -> bool {
    block.label.is_empty() || block.label.ends_with("PRIVATE KEY")
}

fn certificates(name: &str, octets: &[u8]) -> Result<Vec<Certificate>, CredentialError> {
    let blocks = read(name, octets)?;
    let remedy = "export the certificate as X.509 in PEM or DER";
    let found: Result<Vec<_>, String> = blocks
        .iter()
        .filter(|block| is(block, "CERTIFICATE"))
        .map(|block| Certificate::parse(&block.der))
        .collect();
    match found {
        Ok(certificates) if certificates.is_empty() => {
            Err(CredentialError::new(name, "it has no certificate", remedy))
        }
        found => found.map_err(|problem| CredentialError::new(name, problem, remedy)),
    }
}

fn private_key(name: &str, der: &[u8]) -> Result<PrivateKey, CredentialError> {
    if is_encrypted(der) {
        return Err(encrypted(name));
    }
    PrivateKey::parse(der).map_err(|problem| {
        CredentialError::new(
            name,
            problem,
            "make a new one, for example with pki --gen --type ecdsa --size 256",
        )
    })
}

/// Whether DER is an EncryptedPrivateKeyInfo (RFC 5958 section 3): it names an algorithm of PKCS#5 or PKCS#12 near its
/// start.
fn is_encrypted(der: &[u8]) -> bool {
    const PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5];
    const PKCS12: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12];
    der.get(..24).unwrap_or(der).windows(8).any(|window| window == PKCS5 || window == PKCS12)
}

fn revocation_list(der: &[u8]) -> Result<(std::time::Duration, OwnedCertRevocationList), String> {
    let list = OwnedCertRevocationList::from_der(der).map_err(|error| reason(&error))?;
    let parsed =
        <CertificateList>::from_der(der).map_err(|error| format!("it is no revocation list: {error}"))?;
    Ok((parsed.tbs_cert_list.this_update.to_unix_duration(), list))
}
