//! What a peer is to be configured with (RFC 7296 section 3.15).

use super::ParseError;
use super::numbers::registry;
use super::octets::Hexadecimal;
use super::reader::Reader;

/// The top bit of an attribute's type is reserved.
const TYPE_MASK: u16 = 0x7fff;
const MAX_VALUE: usize = 65_535;

registry! {
    /// Who says what.
    ConfigurationType(u8) {
        /// Asks.
        1 CFG_REQUEST,
        /// Answers.
        2 CFG_REPLY,
        /// Tells.
        3 CFG_SET,
        /// Confirms.
        4 CFG_ACK,
    }
}

registry! {
    /// What an attribute is (RFC 7296 section 3.15.1).
    AttributeType(u16) {
        /// Four octets, or none in a request.
        1 INTERNAL_IP4_ADDRESS,
        /// Four octets.
        2 INTERNAL_IP4_NETMASK,
        /// Four octets.
        3 INTERNAL_IP4_DNS,
        /// Four octets.
        4 INTERNAL_IP4_NBNS,
        /// Four octets.
        6 INTERNAL_IP4_DHCP,
        /// Text.
        7 APPLICATION_VERSION,
        /// Sixteen octets and a prefix length, or none in a request.
        8 INTERNAL_IP6_ADDRESS,
        /// Sixteen octets.
        10 INTERNAL_IP6_DNS,
        /// Sixteen octets.
        12 INTERNAL_IP6_DHCP,
        /// An address and a netmask.
        13 INTERNAL_IP4_SUBNET,
        /// Types of attributes.
        14 SUPPORTED_ATTRIBUTES,
        /// An address and a prefix length.
        15 INTERNAL_IP6_SUBNET,
        /// RFC 5739.
        17 INTERNAL_IP6_LINK,
        /// RFC 5739.
        18 INTERNAL_IP6_PREFIX,
        /// A domain (RFC 8598).
        25 INTERNAL_DNS_DOMAIN,
        /// RFC 8598.
        26 INTERNAL_DNSSEC_TA,
    }
}

/// The body of a CP payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Who says what.
    pub kind: ConfigurationType,
    /// In the order of the payload.
    pub attributes: Vec<Attribute>,
}

/// One thing to configure.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// What it is, below 32,768.
    pub kind: AttributeType,
    /// As its type writes it.
    pub value: Vec<u8>,
}

impl Configuration {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("Configuration payload", body);
        let kind = ConfigurationType(reader.u8()?);
        reader.take(3)?;
        let mut attributes = Vec::new();
        while !reader.is_empty() {
            attributes.push(Attribute::parse(&mut reader)?);
        }
        Ok(Self { kind, attributes })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind.0, 0, 0, 0]);
        for attribute in &self.attributes {
            attribute.emit(out);
        }
    }
}

impl Attribute {
    fn parse(reader: &mut Reader) -> Result<Self, ParseError> {
        let kind = AttributeType(reader.u16()? & TYPE_MASK);
        let length = reader.u16()?;
        Ok(Self { kind, value: reader.take(length.into())?.to_vec() })
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let value = &self.value[..self.value.len().min(MAX_VALUE)];
        out.extend_from_slice(&(self.kind.0 & TYPE_MASK).to_be_bytes());
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
}

impl std::fmt::Debug for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.kind, Hexadecimal(&self.value))
    }
}
