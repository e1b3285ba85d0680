//! Where a peer is to go instead: the data of REDIRECT and REDIRECTED_FROM (RFC 5685 section 9).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::reader::Reader;
use super::{NONCE_LENGTHS, ParseError};

const IPV4: u8 = 1;
const IPV6: u8 = 2;
const FQDN: u8 = 3;

/// The longest name (RFC 1035 section 2.3.4, without the root's dot).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A gateway, as one tells of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GatewayIdentity {
    /// By its address.
    Address(IpAddr),
    /// By its name, in lower case.
    Name(String),
}

/// Neither an address nor a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a gateway is an address or a domain name; write 192.0.2.1, 2001:db8::1 or gw.example.org")]
pub struct NoGateway;

impl std::str::FromStr for GatewayIdentity {
    type Err = NoGateway;

    fn from_str(text: &str) -> Result<Self, NoGateway> {
        match text.parse::<IpAddr>() {
            Ok(address) if is_unicast(address) => Ok(Self::Address(address)),
            Ok(_) => Err(NoGateway),
            Err(_) => name(text.as_bytes()).map(Self::Name).ok_or(NoGateway),
        }
    }
}

impl std::fmt::Display for GatewayIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl GatewayIdentity {
    fn read(reader: &mut Reader) -> Result<Self, ParseError> {
        let (kind, length) = (reader.u8()?, reader.u8()?);
        let octets = reader.take(length.into())?;
        let wrong = ParseError::Syntax("the gateway of a Notify payload");
        let address = match kind {
            IPV4 => <[u8; 4]>::try_from(octets).ok().map(|octets| IpAddr::from(Ipv4Addr::from(octets))),
            IPV6 => <[u8; 16]>::try_from(octets).ok().map(|octets| IpAddr::from(Ipv6Addr::from(octets))),
            FQDN => return name(octets).map(Self::Name).ok_or(wrong),
            _ => None,
        };
        address.filter(|address| is_unicast(*address)).map(Self::Address).ok_or(wrong)
    }

    /// Names are never longer than an octet says.
    fn write(&self, out: &mut Vec<u8>) {
        let (kind, octets) = match self {
            Self::Address(IpAddr::V4(address)) => (IPV4, address.octets().to_vec()),
            Self::Address(IpAddr::V6(address)) => (IPV6, address.octets().to_vec()),
            Self::Name(name) => (FQDN, name.as_bytes()[..name.len().min(MAX_NAME)].to_vec()),
        };
        out.extend_from_slice(&[kind, octets.len() as u8]);
        out.extend_from_slice(&octets);
    }
}

/// Somewhere that a datagram can be sent to.
fn is_unicast(address: IpAddr) -> bool {
    let is_broadcast = address == IpAddr::from(Ipv4Addr::BROADCAST);
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

/// A host's name, in lower case: letters, digits and hyphens in labels (RFC 1123 section 2.1). All digits is an address
/// gone wrong.
fn name(octets: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(octets).ok()?;
    let is_label = |label: &str| {
        let is_edge = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_alphanumeric);
        let octets = label.as_bytes();
        (1..=MAX_LABEL).contains(&octets.len())
            && is_edge(octets.first())
            && is_edge(octets.last())
            && octets.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
    };
    let is_name = (1..=MAX_NAME).contains(&text.len())
        && text.split('.').all(is_label)
        && text.bytes().any(|octet| octet.is_ascii_alphabetic());
    is_name.then(|| text.to_ascii_lowercase())
}

/// The data of REDIRECT (RFC 5685 section 9.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Where to go.
    pub gateway: GatewayIdentity,
    /// The initiator's nonce, in an answer to IKE_SA_INIT; elsewhere empty.
    pub nonce: Vec<u8>,
}

impl Redirect {
    /// Reads the data of a notify.
    ///
    /// # Errors
    /// [`ParseError`] if it is malformed, or names what no gateway can be.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("REDIRECT", data);
        let gateway = GatewayIdentity::read(&mut reader)?;
        let nonce = reader.rest().to_vec();
        if nonce.is_empty() || NONCE_LENGTHS.contains(&nonce.len()) {
            Ok(Self { gateway, nonce })
        } else {
            Err(ParseError::Syntax("the nonce of REDIRECT"))
        }
    }

    /// As the data of a notify.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.gateway.write(&mut out);
        out.extend_from_slice(&self.nonce);
        out
    }
}

/// The data of REDIRECTED_FROM: the address of the gateway that sent the initiator on (RFC 5685 section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectedFrom(pub IpAddr);

impl RedirectedFrom {
    /// Reads the data of a notify.
    ///
    /// # Errors
    /// [`ParseError`] if it is malformed: here a gateway is an address.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("REDIRECTED_FROM", data);
        match GatewayIdentity::read(&mut reader)? {
            GatewayIdentity::Address(address) if reader.rest().is_empty() => Ok(Self(address)),
            _ => Err(ParseError::Syntax("REDIRECTED_FROM")),
        }
    }

    /// As the data of a notify.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        GatewayIdentity::Address(self.0).write(&mut out);
        out
    }
}
