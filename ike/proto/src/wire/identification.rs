//! Who a peer says it is (RFC 7296 section 3.5).

use super::ParseError;
use super::numbers::registry;
use super::octets::Hexadecimal;
use super::reader::Reader;

registry! {
    /// What an identity is.
    IdentificationType(u8) {
        /// Four octets.
        1 ID_IPV4_ADDR,
        /// A domain name in ASCII, without a terminator.
        2 ID_FQDN,
        /// An e-mail address in ASCII, without a terminator.
        3 ID_RFC822_ADDR,
        /// Sixteen octets.
        5 ID_IPV6_ADDR,
        /// A distinguished name as DER.
        9 ID_DER_ASN1_DN,
        /// A general name as DER.
        10 ID_DER_ASN1_GN,
        /// Octets that mean something to the two.
        11 ID_KEY_ID,
        /// Nobody (RFC 7619).
        13 ID_NULL,
    }
}

/// The body of an IDi or IDr payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Identification {
    /// What `data` is.
    pub kind: IdentificationType,
    /// The identity.
    pub data: Vec<u8>,
    // As received: AUTH covers them (RFC 7296 section 2.15).
    reserved: [u8; 3],
}

impl Identification {
    /// As we send it.
    pub fn new(kind: IdentificationType, data: Vec<u8>) -> Self {
        Self { kind, data, reserved: [0; 3] }
    }

    /// The octets that AUTH covers: all after the generic header, as they were received.
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(4 + self.data.len());
        self.emit(&mut body);
        body
    }

    /// The inverse of [`Self::body`].
    ///
    /// # Errors
    /// [`ParseError::Syntax`] if there are fewer than four octets.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("Identification payload", body);
        let kind = IdentificationType(reader.u8()?);
        let reserved = reader.array()?;
        Ok(Self { kind, data: reader.rest().to_vec(), reserved })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.kind.0);
        out.extend_from_slice(&self.reserved);
        out.extend_from_slice(&self.data);
    }
}

impl std::fmt::Debug for Identification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.kind, Hexadecimal(&self.data))
    }
}
