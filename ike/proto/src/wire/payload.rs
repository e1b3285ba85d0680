//! Payloads (RFC 7296 section 3.2 and on).

use super::octets::{Hexadecimal, Length};
use super::reader::Reader;
use super::security_association as sa;
use super::{
    AuthenticationMethod, CertificateEncoding, Configuration, Delete, Identification, NONCE_LENGTHS, Notify,
    ParseError, PayloadType, Proposal, TrafficSelector, traffic_selector,
};

/// One payload that is not encrypted, or not any more.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// SA: algorithms on offer, or chosen.
    SecurityAssociation(Vec<Proposal>),
    /// KE: one side's public value.
    KeyExchange {
        /// The group, by its number as a transform.
        group: u16,
        /// The value, as the group writes it.
        data: Vec<u8>,
    },
    /// IDi.
    IdentificationInitiator(Identification),
    /// IDr.
    IdentificationResponder(Identification),
    /// CERT.
    Certificate {
        /// What `data` is.
        encoding: CertificateEncoding,
        /// The certificate.
        data: Vec<u8>,
    },
    /// CERTREQ.
    CertificateRequest {
        /// What is asked for.
        encoding: CertificateEncoding,
        /// For X.509: SHA-1 hashes of 20 octets of the public keys of authorities (RFC 7296 section 3.7).
        authorities: Vec<u8>,
    },
    /// AUTH: the proof.
    Authentication {
        /// How it was made.
        method: AuthenticationMethod,
        /// The proof.
        data: Vec<u8>,
    },
    /// Ni or Nr, of 16 to 256 octets.
    Nonce(Vec<u8>),
    /// N.
    Notify(Notify),
    /// D.
    Delete(Delete),
    /// V.
    VendorId(Vec<u8>),
    /// TSi.
    TrafficSelectorsInitiator(Vec<TrafficSelector>),
    /// TSr.
    TrafficSelectorsResponder(Vec<TrafficSelector>),
    /// CP.
    Configuration(Configuration),
    /// EAP.
    Eap(Vec<u8>),
    /// PS: keys, one behind the other.
    PuzzleSolution(Vec<u8>),
    /// Unknown, and not critical: to be ignored.
    Unknown {
        /// Its type.
        kind: PayloadType,
        /// Its body.
        data: Vec<u8>,
    },
}

impl Payload {
    /// The type that its predecessor names.
    pub fn kind(&self) -> PayloadType {
        match self {
            Self::SecurityAssociation(_) => PayloadType::SA,
            Self::KeyExchange { .. } => PayloadType::KE,
            Self::IdentificationInitiator(_) => PayloadType::IDI,
            Self::IdentificationResponder(_) => PayloadType::IDR,
            Self::Certificate { .. } => PayloadType::CERT,
            Self::CertificateRequest { .. } => PayloadType::CERTREQ,
            Self::Authentication { .. } => PayloadType::AUTH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::N,
            Self::Delete(_) => PayloadType::D,
            Self::VendorId(_) => PayloadType::V,
            Self::TrafficSelectorsInitiator(_) => PayloadType::TSI,
            Self::TrafficSelectorsResponder(_) => PayloadType::TSR,
            Self::Configuration(_) => PayloadType::CP,
            Self::Eap(_) => PayloadType::EAP,
            Self::PuzzleSolution(_) => PayloadType::PS,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// `body` is what follows the generic header.
    pub(super) fn parse(kind: PayloadType, body: &[u8]) -> Result<Self, ParseError> {
        Ok(match kind {
            PayloadType::SA => Self::SecurityAssociation(sa::parse(body)?),
            PayloadType::KE => parse_key_exchange(body)?,
            PayloadType::IDI => Self::IdentificationInitiator(Identification::parse(body)?),
            PayloadType::IDR => Self::IdentificationResponder(Identification::parse(body)?),
            PayloadType::CERT => parse_certificate(body)?,
            PayloadType::CERTREQ => parse_certificate_request(body)?,
            PayloadType::AUTH => parse_authentication(body)?,
            PayloadType::NONCE => parse_nonce(body)?,
            PayloadType::N => Self::Notify(Notify::parse(body)?),
            PayloadType::D => Self::Delete(Delete::parse(body)?),
            PayloadType::V => Self::VendorId(body.to_vec()),
            PayloadType::TSI => Self::TrafficSelectorsInitiator(traffic_selector::parse(body)?),
            PayloadType::TSR => Self::TrafficSelectorsResponder(traffic_selector::parse(body)?),
            PayloadType::CP => Self::Configuration(Configuration::parse(body)?),
            PayloadType::EAP => Self::Eap(body.to_vec()),
            PayloadType::PS if body.is_empty() => {
                return Err(ParseError::Syntax("a puzzle solution without keys"));
            }
            PayloadType::PS => Self::PuzzleSolution(body.to_vec()),
            PayloadType::SK | PayloadType::SKF => {
                return Err(ParseError::Syntax("an encrypted payload inside a chain"));
            }
            kind => Self::Unknown { kind, data: body.to_vec() },
        })
    }

    /// Appends what follows the generic header.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::SecurityAssociation(proposals) => sa::emit(proposals, out),
            Self::KeyExchange { group, data } => emit_key_exchange(*group, data, out),
            Self::IdentificationInitiator(id) | Self::IdentificationResponder(id) => id.emit(out),
            Self::Certificate { encoding, data }
            | Self::CertificateRequest { encoding, authorities: data } => {
                out.push(encoding.0);
                out.extend_from_slice(data);
            }
            Self::Authentication { method, data } => {
                out.extend_from_slice(&[method.0, 0, 0, 0]);
                out.extend_from_slice(data);
            }
            Self::Notify(notify) => notify.emit(out),
            Self::Delete(delete) => delete.emit(out),
            Self::TrafficSelectorsInitiator(selectors) | Self::TrafficSelectorsResponder(selectors) => {
                traffic_selector::emit(selectors, out);
            }
            Self::Configuration(configuration) => configuration.emit(out),
            Self::Nonce(data)
            | Self::VendorId(data)
            | Self::Eap(data)
            | Self::PuzzleSolution(data)
            | Self::Unknown { data, .. } => out.extend_from_slice(data),
        }
    }
}

fn parse_key_exchange(body: &[u8]) -> Result<Payload, ParseError> {
    let mut reader = Reader::new("KE payload", body);
    let group = reader.u16()?;
    reader.take(2)?;
    let data = reader.rest().to_vec();
    if data.is_empty() { reader.error() } else { Ok(Payload::KeyExchange { group, data }) }
}

fn emit_key_exchange(group: u16, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&group.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(data);
}

fn parse_certificate(body: &[u8]) -> Result<Payload, ParseError> {
    let mut reader = Reader::new("CERT payload", body);
    let encoding = CertificateEncoding(reader.u8()?);
    Ok(Payload::Certificate { encoding, data: reader.rest().to_vec() })
}

fn parse_certificate_request(body: &[u8]) -> Result<Payload, ParseError> {
    let mut reader = Reader::new("CERTREQ payload", body);
    let encoding = CertificateEncoding(reader.u8()?);
    Ok(Payload::CertificateRequest { encoding, authorities: reader.rest().to_vec() })
}

fn parse_authentication(body: &[u8]) -> Result<Payload, ParseError> {
    let mut reader = Reader::new("AUTH payload", body);
    let method = AuthenticationMethod(reader.u8()?);
    reader.take(3)?;
    Ok(Payload::Authentication { method, data: reader.rest().to_vec() })
}

fn parse_nonce(body: &[u8]) -> Result<Payload, ParseError> {
    if !NONCE_LENGTHS.contains(&body.len()) {
        return Err(ParseError::Syntax("a nonce that is not 16 to 256 octets long"));
    }
    Ok(Payload::Nonce(body.to_vec()))
}

// Proofs and what EAP carries are of no use in a log, certificates are long: only their lengths are written.
impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind().to_string();
        let mut tuple = f.debug_tuple(&kind);
        match self {
            Self::SecurityAssociation(proposals) => tuple.field(proposals),
            Self::KeyExchange { group, data } => tuple.field(group).field(&Hexadecimal(data)),
            Self::IdentificationInitiator(id) | Self::IdentificationResponder(id) => tuple.field(id),
            Self::Certificate { encoding, data } => tuple.field(encoding).field(&Length(data)),
            Self::CertificateRequest { encoding, authorities } => {
                tuple.field(encoding).field(&Length(authorities))
            }
            Self::Authentication { method, data } => tuple.field(method).field(&Length(data)),
            Self::Nonce(data) | Self::VendorId(data) | Self::PuzzleSolution(data) => {
                tuple.field(&Hexadecimal(data))
            }
            Self::Notify(notify) => tuple.field(notify),
            Self::Delete(delete) => tuple.field(delete),
            Self::TrafficSelectorsInitiator(selectors) | Self::TrafficSelectorsResponder(selectors) => {
                tuple.field(selectors)
            }
            Self::Configuration(configuration) => tuple.field(configuration),
            Self::Eap(data) | Self::Unknown { data, .. } => tuple.field(&Length(data)),
        };
        tuple.finish()
    }
}
