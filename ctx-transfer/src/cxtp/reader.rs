//! Reading big-endian fields from octets that nobody vouches for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// Why octets are not a message of CXTP. Whoever sent them is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CxtpError {
    /// The octets end inside of a field.
    #[error("the message ends too early")]
    Truncated,
    /// Another version than 1.
    #[error("the message has version {0} of CXTP, not 1; use releases that fit each other")]
    Version(u8),
    /// A type that RFC 4067 does not define.
    #[error("there is no message of CXTP of type {0}")]
    Type(u8),
    /// The header's length is not that of the octets.
    #[error("the message says that it has {said} octets, and has {found}")]
    Length {
        /// In the header.
        said: usize,
        /// Of the octets.
        found: usize,
    },
    /// Octets follow what the message's type has.
    #[error("the message has octets that its type does not have")]
    Trailing,
    /// The token's algorithm is not HMAC-SHA1.
    #[error("the token's algorithm is {0}; RFC 4067 defines 1, HMAC-SHA1, alone")]
    Algorithm(u16),
    /// The token's key has no octets, or too many.
    #[error("the token's key has {0} octets; 1 to 64 are taken")]
    Key(usize),
    /// More than fits the 16 bits of a message's length.
    #[error("the message would have {0} octets, more than the 65,535 that CXTP can say")]
    TooLong(usize),
}

/// What is left to read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], CxtpError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CxtpError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CxtpError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CxtpError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CxtpError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CxtpError> {
        self.array().map(u32::from_be_bytes)
    }

    /// An address of the family that the V bit says: set for IPv4 (RFC 4067 section 2.5).
    pub(super) fn address(&mut self, is_ipv4: bool) -> Result<IpAddr, CxtpError> {
        if is_ipv4 {
            return self.array::<4>().map(|octets| Ipv4Addr::from(octets).into());
        }
        self.array::<16>().map(|octets| Ipv6Addr::from(octets).into())
    }
}

/// Writes an address as [`Reader::address`] reads it.
pub(super) fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}
