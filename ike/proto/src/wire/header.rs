//! The header of every message (RFC 7296 section 3.1).

use super::reader::Reader;
use super::{ExchangeType, HEADER_LENGTH, ParseError, PayloadType};

const MAJOR_VERSION: u8 = 2;
const RESPONSE: u8 = 0x20;
const INITIATOR: u8 = 0x08;

/// What stands in front of the payloads, apart from the length and the type of the first one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the original initiator; never 0.
    pub initiator_spi: u64,
    /// Chosen by the original responder; 0 until it has answered.
    pub responder_spi: u64,
    /// What the message is about.
    pub exchange: ExchangeType,
    /// Who sends it.
    pub flags: Flags,
    /// The request's number, and its response's.
    pub message_id: u32,
}

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// It is from the original initiator of the IKE SA.
    pub initiator: bool,
    /// It is a response.
    pub response: bool,
}

impl Flags {
    fn parse(octet: u8) -> Self {
        Self { initiator: octet & INITIATOR != 0, response: octet & RESPONSE != 0 }
    }

    fn octet(self) -> u8 {
        let initiator = if self.initiator { INITIATOR } else { 0 };
        let response = if self.response { RESPONSE } else { 0 };
        initiator | response
    }
}

/// A header with the fields that only the codec needs.
pub(super) struct RawHeader {
    pub(super) header: Header,
    pub(super) first: PayloadType,
    pub(super) length: u32,
}

impl Header {
    /// Reads the header of `datagram` and looks no further: neither at the length nor at the payloads.
    ///
    /// # Errors
    /// [`ParseError::NotIke`], [`ParseError::Truncated`], [`ParseError::MajorVersion`].
    pub fn parse(datagram: &[u8]) -> Result<Self, ParseError> {
        RawHeader::parse(datagram).map(|raw| raw.header)
    }
}

impl RawHeader {
    pub(super) fn parse(datagram: &[u8]) -> Result<Self, ParseError> {
        let octets = datagram.get(..HEADER_LENGTH).ok_or(ParseError::Truncated)?;
        let (raw, major) = Self::read(&mut Reader::new("header", octets))?;
        match major {
            _ if raw.header.initiator_spi == 0 => Err(ParseError::NotIke),
            // Nobody who speaks version 1 would understand an answer.
            0..MAJOR_VERSION => Err(ParseError::NotIke),
            MAJOR_VERSION => Ok(raw),
            _ => Err(ParseError::MajorVersion { header: raw.header, major }),
        }
    }

    fn read(reader: &mut Reader) -> Result<(Self, u8), ParseError> {
        let (initiator_spi, responder_spi) = (reader.u64()?, reader.u64()?);
        let first = PayloadType(reader.u8()?);
        let version = reader.u8()?;
        let exchange = ExchangeType(reader.u8()?);
        let flags = Flags::parse(reader.u8()?);
        let (message_id, length) = (reader.u32()?, reader.u32()?);
        let header = Header { initiator_spi, responder_spi, exchange, flags, message_id };
        Ok((Self { header, first, length }, version >> 4))
    }

    /// Always as version 2.0.
    pub(super) fn emit(&self) -> [u8; HEADER_LENGTH] {
        let mut octets = [0; HEADER_LENGTH];
        octets[..8].copy_from_slice(&self.header.initiator_spi.to_be_bytes());
        octets[8..16].copy_from_slice(&self.header.responder_spi.to_be_bytes());
        octets[16] = self.first.0;
        octets[17] = MAJOR_VERSION << 4;
        octets[18] = self.header.exchange.0;
        octets[19] = self.header.flags.octet();
        octets[20..24].copy_from_slice(&self.header.message_id.to_be_bytes());
        octets[24..].copy_from_slice(&self.length.to_be_bytes());
        octets
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let direction = if self.flags.response { "response" } else { "request" };
        let sender = if self.flags.initiator { "initiator" } else { "responder" };
        write!(f, "{:016x}/{:016x} ", self.initiator_spi, self.responder_spi)?;
        write!(f, "{} {direction} {} of the {sender}", self.exchange, self.message_id)
    }
}
