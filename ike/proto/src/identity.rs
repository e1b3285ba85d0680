//! Identities (RFC 7296 section 3.5), written and matched as strongSwan does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// Who somebody is, or a pattern of whom somebody may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    #[error("identity of type {0}, which is not supported")]
    Type(u8),
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
    /// Reads an identity as strongSwan does.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Malformed`] if a prefix names a type that the rest is not.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let _ = text;
        todo!()
    }

    /// Reads the type and the data of an Identification payload.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] says what is wrong with it.
    pub fn from_type_and_data(kind: u8, data: &[u8]) -> Result<Self, IdentityError> {
        let _ = (kind, data);
        todo!()
    }

    /// The type and the data of an Identification payload; `None` for a pattern, which is nobody.
    pub fn type_and_data(&self) -> Option<(u8, Vec<u8>)> {
        todo!()
    }

    /// How well `other` fits this pattern, higher is better; `None` if it does not.
    pub fn matches(&self, other: &Self) -> Option<u8> {
        let _ = other;
        todo!()
    }

    /// Whether it is a pattern, which can be matched but not claimed.
    pub fn is_pattern(&self) -> bool {
        todo!()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
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
