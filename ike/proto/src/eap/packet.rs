//! EAP packets (RFC 3748 section 4).

use thiserror::Error;

/// The longest packet that is read: it comes inside of one IKE message.
pub const MAX_PACKET: usize = 4096;
/// The longest identity that is told or taken (RFC 7542 section 2.3 names 253 as what all can carry).
pub const MAX_IDENTITY: usize = 253;

/// What a packet is (RFC 3748 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The authenticator asks.
    Request,
    /// The peer answers.
    Response,
    /// The peer has authenticated itself.
    Success,
    /// It has not.
    Failure,
}

/// What a request or response is about (RFC 3748 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Type(pub u8);

impl Type {
    /// Who the peer is.
    pub const IDENTITY: Self = Self(1);
    /// Something for people.
    pub const NOTIFICATION: Self = Self(2);
    /// A refusal of the method, with those that are wanted.
    pub const NAK: Self = Self(3);
    /// EAP-TLS (RFC 5216).
    pub const TLS: Self = Self(13);
    /// EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2).
    pub const MSCHAPV2: Self = Self(26);
}

/// Why octets are no EAP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is no EAP packet: {0}")]
pub struct Malformed(pub &'static str);

/// A view of a packet whose lengths were checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub code: Code,
    /// Links a response with its request.
    pub identifier: u8,
    /// Of a request or response: what it is about, and what it says.
    pub content: Option<(Type, &'a [u8])>,
}

impl<'a> Packet<'a> {
    /// Checks `octets`. What follows the length that the packet names is padding of a lower layer and is ignored (RFC
    /// 3748 section 4.1).
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let Some((&[code, identifier, high, low], _)) = octets.split_first_chunk::<4>() else {
            return Err(Malformed("it has no header"));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_PACKET {
            return Err(Malformed("it is too long"));
        }
        let body = octets.get(4..length).ok_or(Malformed("its length is wrong"))?;
        let code = match code {
            1 => Code::Request,
            2 => Code::Response,
            3 => Code::Success,
            4 => Code::Failure,
            _ => return Err(Malformed("its code is unknown")),
        };
        Ok(Self { code, identifier, content: content(code, body)? })
    }

    /// Its octets.
    pub fn emit(&self) -> Vec<u8> {
        let code = match self.code {
            Code::Request => 1,
            Code::Response => 2,
            Code::Success => 3,
            Code::Failure => 4,
        };
        let body = self.content.map_or(0, |(_, data)| 1 + data.len());
        let mut octets = vec![code, self.identifier];
        octets.extend_from_slice(&((4 + body) as u16).to_be_bytes());
        if let Some((kind, data)) = self.content {
            octets.push(kind.0);
            octets.extend_from_slice(data);
        }
        octets
    }
}

/// A request or response has a type, the others have nothing (RFC 3748 sections 4.1 and 4.2).
fn content(code: Code, body: &[u8]) -> Result<Option<(Type, &[u8])>, Malformed> {
    match (code, body.split_first()) {
        (Code::Request | Code::Response, Some((kind, data))) => Ok(Some((Type(*kind), data))),
        (Code::Request | Code::Response, None) => Err(Malformed("it has no type")),
        (Code::Success | Code::Failure, None) => Ok(None),
        (Code::Success | Code::Failure, Some(_)) => Err(Malformed("it has data that it must not have")),
    }
}

// What methods say is of no use in a log, and part of it helps to guess passwords.
impl std::fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let about = self.content.map(|(kind, data)| (kind.0, data.len()));
        write!(f, "{:?} {} (type and length: {about:?})", self.code, self.identifier)
    }
}

/// A request.
pub(super) fn request(identifier: u8, kind: Type, data: &[u8]) -> Vec<u8> {
    Packet { code: Code::Request, identifier, content: Some((kind, data)) }.emit()
}

/// A response.
pub(super) fn response(identifier: u8, kind: Type, data: &[u8]) -> Vec<u8> {
    Packet { code: Code::Response, identifier, content: Some((kind, data)) }.emit()
}

/// How it ended.
pub(super) fn verdict(code: Code, identifier: u8) -> Vec<u8> {
    Packet { code, identifier, content: None }.emit()
}
