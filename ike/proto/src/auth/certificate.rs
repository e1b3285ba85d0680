//! X.509 certificates (RFC 5280), as far as IKE asks (RFC 4945).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls_pki_types::CertificateDer;
use x509_cert::TbsCertificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName, SubjectKeyIdentifier};

use super::public_key::PublicKey;
use crate::identity::Identity;

/// The most octets of a certificate that is read.
pub(super) const MAX_CERTIFICATE: usize = 16 * 1024;
/// The most names of a certificate that are looked at.
const MAX_NAMES: usize = 64;

/// A certificate taken apart.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    pub(super) subject: Identity,
    /// Its alternative names.
    names: Vec<Identity>,
    issuer: Vec<u8>,
    subject_der: Vec<u8>,
    pub(super) key: PublicKey,
    /// SHA-1 of the SubjectPublicKeyInfo (RFC 7296 section 3.7).
    pub(super) key_hash: [u8; 20],
    /// Key ids that mean it: the subject key identifier and SHA-1 of the key, with and without its type.
    key_ids: Vec<Vec<u8>>,
    not_before: Duration,
    pub(super) not_after: Duration,
    constraints: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
}

impl Certificate {
    /// Reads DER; the error says what is wrong.
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        if der.len() > MAX_CERTIFICATE {
            return Err(format!("it has {} octets; {MAX_CERTIFICATE} are read", der.len()));
        }
        let certificate = x509_cert::Certificate::from_der(der).map_err(|error| malformed(&error))?;
        Self::of(der, certificate.tbs_certificate())
    }

    fn of(der: &[u8], certificate: &TbsCertificate) -> Result<Self, String> {
        let subject_der = certificate.subject().to_der().map_err(|error| malformed(&error))?;
        let key = PublicKey::of(certificate.subject_public_key_info())?;
        let info = certificate.subject_public_key_info().to_der().map_err(|error| malformed(&error))?;
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            subject: Identity::DistinguishedName(subject_der.clone()),
            names: names(certificate)?,
            issuer: certificate.issuer().to_der().map_err(|error| malformed(&error))?,
            subject_der,
            key_hash: sha1(&info),
            key_ids: key_ids(certificate, &key, &info)?,
            key,
            not_before: certificate.validity().not_before.to_unix_duration(),
            not_after: certificate.validity().not_after.to_unix_duration(),
            constraints: extension(certificate)?,
            usage: extension(certificate)?,
        })
    }

    /// Whether it is for this identity: its subject, an alternative name, or its key's id. Never by a wildcard in it.
    pub(super) fn is_for(&self, identity: &Identity) -> bool {
        match identity {
            Identity::KeyId(id) => self.key_ids.contains(id),
            identity if identity.is_pattern() => false,
            identity => self.subject == *identity || self.names.contains(identity),
        }
    }

    /// For whom it is, for people.
    pub(super) fn subjects(&self) -> String {
        let names = self.names.iter().take(8).map(|name| format!("\"{name}\""));
        std::iter::once(format!("\"{}\"", self.subject)).chain(names).collect::<Vec<_>>().join(", ")
    }

    /// Its subject in DER.
    pub(super) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// Whether it may sign certificates (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
    pub(super) fn is_authority(&self) -> bool {
        let is_ca = self.constraints.as_ref().is_some_and(|constraints| constraints.ca);
        is_ca && self.usage.is_none_or(|usage| usage.key_cert_sign())
    }

    /// How many intermediate certificates may stand below it; `None` is no bound.
    pub(super) fn path_length(&self) -> Option<u8> {
        self.constraints.as_ref().and_then(|constraints| constraints.path_len_constraint)
    }

    /// Whether its key may sign messages (RFC 4945 section 5.1.3.2).
    pub(super) fn may_authenticate(&self) -> bool {
        self.usage.is_none_or(|usage| usage.digital_signature() || usage.non_repudiation())
    }

    /// Whether issuer and subject are the same (RFC 5280 section 3.2).
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject_der
    }

    /// Whether `other` may have issued it, by its name.
    pub(super) fn may_be_issued_by(&self, other: &Self) -> bool {
        self.issuer == other.subject_der
    }

    /// Whether it is valid at a time since 1970; the error says how far off it is.
    pub(super) fn check_validity(&self, unix: Duration) -> Result<(), String> {
        if let Some(early) = self.not_before.checked_sub(unix).filter(|early| !early.is_zero()) {
            return Err(format!(
                "\"{}\" is valid only in {}; is the clock right?",
                self.subject,
                days(early)
            ));
        }
        if let Some(late) = unix.checked_sub(self.not_after).filter(|late| !late.is_zero()) {
            return Err(format!("\"{}\" has expired {} ago", self.subject, days(late)));
        }
        Ok(())
    }
}

fn days(time: Duration) -> String {
    match time.as_secs() / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn malformed(error: &x509_cert::der::Error) -> String {
    format!("it is no X.509 certificate: {error}")
}

fn sha1(octets: &[u8]) -> [u8; 20] {
    let mut hash = [0; 20];
    hash.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref());
    hash
}

fn extension<'a, T>(certificate: &'a TbsCertificate) -> Result<Option<T>, String>
where
    T: Decode<'a, Error = x509_cert::der::Error> + x509_cert::der::oid::AssociatedOid,
{
    let found = certificate.get_extension::<T>().map_err(|error| malformed(&error))?;
    Ok(found.map(|(_, extension)| extension))
}

fn names(certificate: &TbsCertificate) -> Result<Vec<Identity>, String> {
    let names: Option<SubjectAltName> = extension(certificate)?;
    Ok(names
        .into_iter()
        .flat_map(|names| names.0)
        .take(MAX_NAMES)
        .filter_map(|name| identity(&name))
        .collect())
}

/// The identity that an alternative name is; other names are nobody's in IKE.
fn identity(name: &GeneralName) -> Option<Identity> {
    match name {
        GeneralName::DnsName(name) => Some(Identity::Fqdn(name.as_str().to_owned())),
        GeneralName::Rfc822Name(name) => Some(Identity::Email(name.as_str().to_owned())),
        GeneralName::DirectoryName(name) => name.to_der().ok().map(Identity::DistinguishedName),
        GeneralName::IpAddress(address) => address_of(address.as_bytes()),
        _ => None,
    }
}

fn address_of(octets: &[u8]) -> Option<Identity> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| Identity::Ipv4(Ipv4Addr::from(octets)));
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| Identity::Ipv6(Ipv6Addr::from(octets)))).ok()
}

fn key_ids(certificate: &TbsCertificate, key: &PublicKey, info: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let named: Option<SubjectKeyIdentifier> = extension(certificate)?;
    let hashes = [sha1(&key.octets).to_vec(), sha1(info).to_vec()];
    Ok(named.map(|id| id.0.as_bytes().to_vec()).into_iter().chain(hashes).collect())
}
