//! Packets (RFC 2865 section 3): views of what came, checked, and what goes.

use thiserror::Error;

use crate::attribute::{Attributes, Kind, MAX_VALUE};

/// The longest packet.
pub const MAX_PACKET: usize = 4096;
/// Code, identifier, length and authenticator.
pub(crate) const HEADER: usize = 20;
/// The place of the authenticator.
pub(crate) const AUTHENTICATOR: std::ops::Range<usize> = 4..20;
/// An attribute with a MAC of 16 octets.
pub(crate) const MESSAGE_AUTHENTICATOR: usize = 18;

/// What a packet is (RFC 2865 section 3, RFC 2866 section 3, RFC 5176 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u8);

#[allow(missing_docs)]
impl Code {
    pub const ACCESS_REQUEST: Self = Self(1);
    pub const ACCESS_ACCEPT: Self = Self(2);
    pub const ACCESS_REJECT: Self = Self(3);
    pub const ACCOUNTING_REQUEST: Self = Self(4);
    pub const ACCOUNTING_RESPONSE: Self = Self(5);
    pub const ACCESS_CHALLENGE: Self = Self(11);
    pub const DISCONNECT_REQUEST: Self = Self(40);
    pub const DISCONNECT_ACK: Self = Self(41);
    pub const DISCONNECT_NAK: Self = Self(42);
    pub const COA_REQUEST: Self = Self(43);
    pub const COA_ACK: Self = Self(44);
    pub const COA_NAK: Self = Self(45);
}

/// Why octets are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is no RADIUS packet: {0}")]
pub struct Malformed(pub &'static str);

/// A view of a packet whose lengths were checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    octets: &'a [u8],
}

// Attributes say who a user is, and part of them are keys.
impl std::fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packet({:?}, {}, {} octets)", self.code(), self.identifier(), self.octets.len())
    }
}

/// One attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// What it is about.
    pub kind: Kind,
    /// What it says: 0 to 253 octets.
    pub value: &'a [u8],
    /// Where the value stands in the packet.
    pub(crate) at: usize,
}

impl<'a> Packet<'a> {
    /// Checks `datagram`: what follows the length that the packet names is padding (RFC 2865 section 3), and its
    /// attributes fill it.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let Some(&[_, _, high, low]) = datagram.first_chunk::<4>() else {
            return Err(Malformed("it has no header"));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(HEADER..=MAX_PACKET).contains(&length) {
            return Err(Malformed("its length is impossible"));
        }
        let octets = datagram.get(..length).ok_or(Malformed("it is shorter than it says"))?;
        let mut at = HEADER;
        while at < length {
            match octets[at..] {
                [_, long, ..] if long >= 2 && at + usize::from(long) <= length => at += usize::from(long),
                _ => return Err(Malformed("an attribute's length is wrong")),
            }
        }
        Ok(Self { octets })
    }

    /// What it is.
    pub fn code(&self) -> Code {
        Code(self.octets[0])
    }

    /// Links an answer with its request.
    pub fn identifier(&self) -> u8 {
        self.octets[1]
    }

    /// The request's, or the response's.
    pub fn authenticator(&self) -> [u8; 16] {
        self.octets[AUTHENTICATOR].try_into().unwrap_or_default()
    }

    /// All of it, without padding.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Its attributes in their order.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let octets = self.octets;
        let mut at = HEADER;
        std::iter::from_fn(move || {
            let &[kind, length] = octets.get(at..)?.first_chunk::<2>()?;
            let value = octets.get(at + 2..at + usize::from(length))?;
            let attribute = Attribute { kind: Kind(kind), value, at: at + 2 };
            at += usize::from(length);
            Some(attribute)
        })
    }

    /// Values of one kind.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.attributes().filter(move |attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    /// The first value of a kind.
    pub fn first(&self, kind: Kind) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    /// A value that is spread over its attributes; `None` if there is none (RFC 3579 section 3.1).
    pub fn joined(&self, kind: Kind) -> Option<Vec<u8>> {
        self.first(kind)?;
        Some(self.all(kind).flatten().copied().collect())
    }

    /// The first value of a vendor's attribute (RFC 2865 section 5.26).
    pub(crate) fn vendors(&self, vendor: u32, kind: u8) -> Option<&'a [u8]> {
        self.all(Kind::VENDOR_SPECIFIC).find_map(|value| {
            let (id, mut rest) = value.split_first_chunk::<4>()?;
            loop {
                let &[own, length] = rest.first_chunk::<2>()?;
                let value = rest.get(2..usize::from(length))?;
                if u32::from_be_bytes(*id) == vendor && own == kind {
                    return Some(value);
                }
                rest = &rest[usize::from(length)..];
            }
        })
    }
}

/// Why a packet cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a packet of {0} octets is longer than the {MAX_PACKET} that RADIUS carries; let the client send smaller EAP packets"
)]
pub struct TooLong(pub usize);

/// A packet that is being written: its length is right, its authenticators are still to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    octets: Vec<u8>,
}

impl Draft {
    /// With an empty Message-Authenticator as its first attribute, where no collision of MD5 can be prepared before it,
    /// or without one.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(
        (code, identifier): (Code, u8),
        authenticator: &[u8; 16],
        has_mac: bool,
        attributes: &Attributes,
    ) -> Result<Self, TooLong> {
        let mac = if has_mac { MESSAGE_AUTHENTICATOR } else { 0 };
        let length = HEADER + mac + attributes.octets().len();
        if length > MAX_PACKET {
            return Err(TooLong(length));
        }
        let mut octets = Vec::with_capacity(length);
        octets.extend_from_slice(&[code.0, identifier]);
        octets.extend_from_slice(&(length as u16).to_be_bytes());
        octets.extend_from_slice(authenticator);
        if has_mac {
            octets.extend_from_slice(&[Kind::MESSAGE_AUTHENTICATOR.0, MESSAGE_AUTHENTICATOR as u8]);
            octets.extend_from_slice(&[0; 16]);
        }
        octets.extend_from_slice(attributes.octets());
        Ok(Self { octets })
    }

    /// Where the MAC is to stand; only of one that was asked for.
    pub(crate) fn mac_mut(&mut self) -> Option<&mut [u8]> {
        self.octets.get_mut(HEADER + 2..HEADER + MESSAGE_AUTHENTICATOR)
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    pub(crate) fn set_authenticator(&mut self, authenticator: &[u8; 16]) {
        self.octets[AUTHENTICATOR].copy_from_slice(authenticator);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.octets
    }
}

const _: () = assert!(MAX_VALUE + 2 == u8::MAX as usize);
