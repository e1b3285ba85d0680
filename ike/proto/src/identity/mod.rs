//! Identities (RFC 7296 section 3.5), written and matched as strongSwan does.

mod distinguished_name;
mod matching;
mod parse;
#[cfg(test)]
mod tests;
mod write;

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

pub(crate) use distinguished_name::DistinguishedName;

use crate::wire::{Identification, IdentificationType};

/// The longest identity in octets that is taken from anybody.
pub const MAX_IDENTITY: usize = 1024;

/// Who somebody is, or a pattern of whom somebody may be.
///
/// Equality is that of X.509 and the DNS: the case of names does not count, nor in which of ASN.1's string types a
/// distinguished name is written.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Anybody.
    Any,
    /// ID_IPV4_ADDR.
    Ipv4(Ipv4Addr),
    /// ID_IPV6_ADDR.
    Ipv6(Ipv6Addr),
    /// From the first to the last address; only a pattern.
    AddressRange(IpAddr, IpAddr),
    /// ID_FQDN. As a pattern it may begin with `*`.
    Fqdn(String),
    /// ID_RFC822_ADDR. As a pattern it may begin with `*`.
    Email(String),
    /// ID_DER_ASN1_DN, in DER. As a pattern values may be `*`.
    DistinguishedName(Vec<u8>),
    /// ID_KEY_ID: any octets.
    KeyId(Vec<u8>),
}

/// Why something is no identity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// An ID type that has no meaning here.
    #[error("identities of type {0} are not supported; addresses, names, e-mail addresses, key ids are")]
    Type(IdentificationType),
    /// Not what its type demands.
    #[error("\"{text}\" is no identity: {problem}")]
    Malformed {
        /// As it came, escaped.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Identity {
    /// Reads an Identification payload.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] says what is wrong with it.
    pub fn from_wire(payload: &Identification) -> Result<Self, IdentityError> {
        let data = payload.data.as_slice();
        if data.is_empty() || data.len() > MAX_IDENTITY {
            return Err(malformed(data, "it is empty or longer than 1024 octets"));
        }
        match payload.kind {
            IdentificationType::ID_IPV4_ADDR => octets(data).map(|octets: [u8; 4]| Self::Ipv4(octets.into())),
            IdentificationType::ID_IPV6_ADDR => {
                octets(data).map(|octets: [u8; 16]| Self::Ipv6(octets.into()))
            }
            IdentificationType::ID_FQDN => text(data).map(Self::Fqdn),
            IdentificationType::ID_RFC822_ADDR => text(data).map(Self::Email),
            IdentificationType::ID_DER_ASN1_DN => distinguished_name(data),
            IdentificationType::ID_KEY_ID => Ok(Self::KeyId(data.to_vec())),
            other => Err(IdentityError::Type(other)),
        }
    }

    /// As an Identification payload; `None` for a pattern, which is nobody.
    pub fn to_wire(&self) -> Option<Identification> {
        if self.is_pattern() {
            return None;
        }
        let (kind, data) = match self {
            Self::Any | Self::AddressRange(..) => return None,
            Self::Ipv4(address) => (IdentificationType::ID_IPV4_ADDR, address.octets().to_vec()),
            Self::Ipv6(address) => (IdentificationType::ID_IPV6_ADDR, address.octets().to_vec()),
            Self::Fqdn(name) => (IdentificationType::ID_FQDN, name.clone().into_bytes()),
            Self::Email(name) => (IdentificationType::ID_RFC822_ADDR, name.clone().into_bytes()),
            Self::DistinguishedName(der) => (IdentificationType::ID_DER_ASN1_DN, der.clone()),
            Self::KeyId(octets) => (IdentificationType::ID_KEY_ID, octets.clone()),
        };
        Some(Identification::new(kind, data))
    }

    /// Reads the identity of a user as EAP tells it (RFC 3748 section 5.1, RFC 7542): text, which means what it means
    /// in the configuration.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] if it is no text, or somebody calls itself by a pattern.
    pub fn from_eap(data: &[u8]) -> Result<Self, IdentityError> {
        if data.is_empty() || data.len() > crate::eap::MAX_IDENTITY {
            return Err(malformed(data, "a user's name has 1 to 253 octets"));
        }
        let identity = Self::parse(&text(data)?)?;
        if identity.is_pattern() {
            return Err(malformed(data, "a user cannot have a pattern as its name"));
        }
        Ok(identity)
    }

    /// What a user of that identity calls itself in EAP.
    pub fn to_eap(&self) -> Vec<u8> {
        match self {
            Self::Fqdn(name) | Self::Email(name) => name.clone().into_bytes(),
            Self::KeyId(octets) => octets.clone(),
            other => other.to_string().into_bytes(),
        }
    }

    /// Whether it is a pattern, which can be matched but not claimed.
    pub fn is_pattern(&self) -> bool {
        match self {
            Self::Any | Self::AddressRange(..) => true,
            Self::Fqdn(name) | Self::Email(name) => name.starts_with('*'),
            Self::DistinguishedName(der) => {
                DistinguishedName::decode(der).is_some_and(|name| name.has_wildcards())
            }
            Self::Ipv4(_) | Self::Ipv6(_) | Self::KeyId(_) => false,
        }
    }

    /// What is compared and hashed: a number of its kind, and octets that do not depend on how it is written.
    fn canonical(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Any => (0, Vec::new()),
            Self::Ipv4(address) => (1, address.octets().to_vec()),
            Self::Ipv6(address) => (2, address.octets().to_vec()),
            Self::AddressRange(first, last) => (3, format!("{first}-{last}").into_bytes()),
            Self::Fqdn(name) => (4, name.to_ascii_lowercase().into_bytes()),
            Self::Email(name) => (5, name.to_ascii_lowercase().into_bytes()),
            Self::DistinguishedName(der) => (6, canonical_name(der)),
            Self::KeyId(octets) => (7, octets.clone()),
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl From<IpAddr> for Identity {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::Ipv4(address),
            IpAddr::V6(address) => Self::Ipv6(address),
        }
    }
}

fn canonical_name(der: &[u8]) -> Vec<u8> {
    DistinguishedName::decode(der).map_or_else(|| der.to_vec(), |name| name.canonical())
}

fn octets<const N: usize>(data: &[u8]) -> Result<[u8; N], IdentityError> {
    data.try_into().map_err(|_| malformed(data, "an address has another length"))
}

/// RFC 7296 section 3.5: no terminators. Control characters are nobody's name and would forge log lines.
fn text(data: &[u8]) -> Result<String, IdentityError> {
    match std::str::from_utf8(data) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(malformed(data, "a name has control characters or is not UTF-8")),
    }
}

fn distinguished_name(data: &[u8]) -> Result<Identity, IdentityError> {
    match DistinguishedName::decode(data) {
        Some(_) => Ok(Identity::DistinguishedName(data.to_vec())),
        None => Err(malformed(data, "it is no distinguished name in DER")),
    }
}

fn malformed(data: &[u8], problem: &'static str) -> IdentityError {
    let shown = &data[..data.len().min(64)];
    IdentityError::Malformed { text: shown.escape_ascii().to_string(), problem }
}
