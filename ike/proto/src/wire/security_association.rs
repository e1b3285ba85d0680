//! Proposals and transforms (RFC 7296 section 3.3).

use super::octets::Hexadecimal;
use super::reader::Reader;
use super::{MAX_PROPOSALS, ParseError, ProtocolId, TransformType};

const LAST: u8 = 0;
const MORE_PROPOSALS: u8 = 2;
const MORE_TRANSFORMS: u8 = 3;
/// Top bit: the attribute's value stands in its length field.
const SHORT_ATTRIBUTE: u16 = 0x8000;
const KEY_LENGTH: u16 = 14;
/// Their number, and the length of an SPI, are one octet.
const MAX_COUNT: usize = 255;

/// One combination of algorithms on offer, or chosen.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal {
    /// From 1; an answer bears the number of what it chose.
    pub number: u8,
    /// For what SA.
    pub protocol: ProtocolId,
    /// The sender's SPI: 4 octets for ESP, 8 for the IKE SA in a rekey, else none.
    pub spi: Vec<u8>,
    /// Alternatives of several types.
    pub transforms: Vec<Transform>,
}

/// One algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transform {
    /// What it chooses.
    pub kind: TransformType,
    /// The algorithm, in the registry of its type.
    pub id: u16,
    /// Bits of the key, where the algorithm has several.
    pub key_length: Option<u16>,
    /// It has an attribute that is unknown or malformed: it must not be chosen (RFC 7296 section 3.3.6).
    pub unknown_attributes: bool,
}

impl Transform {
    /// One without attributes, or with a key length in bits.
    pub fn new(kind: TransformType, id: u16, key_length: Option<u16>) -> Self {
        Self { kind, id, key_length, unknown_attributes: false }
    }
}

pub(super) fn parse(body: &[u8]) -> Result<Vec<Proposal>, ParseError> {
    let mut reader = Reader::new("SA payload", body);
    let mut proposals = Vec::new();
    loop {
        let more = reader.u8()?;
        proposals.push(Proposal::parse(&mut reader)?);
        match more {
            LAST => break,
            MORE_PROPOSALS if proposals.len() < MAX_PROPOSALS => {}
            MORE_PROPOSALS => return Err(ParseError::Syntax("too many proposals")),
            _ => return reader.error(),
        }
    }
    reader.end()?;
    Ok(proposals)
}

pub(super) fn emit(proposals: &[Proposal], out: &mut Vec<u8>) {
    let proposals = &proposals[..proposals.len().min(MAX_PROPOSALS)];
    for (place, proposal) in proposals.iter().enumerate() {
        let more = if place + 1 < proposals.len() { MORE_PROPOSALS } else { LAST };
        emit_substructure(more, out, |out| proposal.emit(out));
    }
}

/// Writes `more`, a reserved octet, a length that covers all, and what `content` appends.
fn emit_substructure(more: u8, out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[more, 0, 0, 0]);
    content(out);
    let length = (out.len() - start) as u16;
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
}

impl Proposal {
    /// After its first octet.
    fn parse(reader: &mut Reader) -> Result<Self, ParseError> {
        reader.u8()?;
        let length = usize::from(reader.u16()?);
        let Some(rest) = length.checked_sub(4) else { return reader.error() };
        let mut body = Reader::new("Proposal", reader.take(rest)?);
        let (number, protocol) = (body.u8()?, ProtocolId(body.u8()?));
        let (spi_length, count) = (body.u8()?, body.u8()?);
        let spi = body.take(spi_length.into())?.to_vec();
        let transforms = parse_transforms(&mut body, count)?;
        body.end()?;
        Ok(Self { number, protocol, spi, transforms })
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let spi = &self.spi[..self.spi.len().min(MAX_COUNT)];
        let transforms = &self.transforms[..self.transforms.len().min(MAX_COUNT)];
        out.extend_from_slice(&[self.number, self.protocol.0, spi.len() as u8, transforms.len() as u8]);
        out.extend_from_slice(spi);
        for (place, transform) in transforms.iter().enumerate() {
            let more = if place + 1 < transforms.len() { MORE_TRANSFORMS } else { LAST };
            emit_substructure(more, out, |out| transform.emit(out));
        }
    }
}

fn parse_transforms(reader: &mut Reader, count: u8) -> Result<Vec<Transform>, ParseError> {
    let mut transforms = Vec::with_capacity(usize::from(count));
    for place in 1..=count {
        let more = reader.u8()?;
        if more != if place < count { MORE_TRANSFORMS } else { LAST } {
            return Err(ParseError::Syntax("Proposal with a wrong number of transforms"));
        }
        transforms.push(Transform::parse(reader)?);
    }
    Ok(transforms)
}

impl Transform {
    /// After its first octet.
    fn parse(reader: &mut Reader) -> Result<Self, ParseError> {
        reader.u8()?;
        let length = usize::from(reader.u16()?);
        let Some(rest) = length.checked_sub(4) else { return reader.error() };
        let mut body = Reader::new("Transform", reader.take(rest)?);
        let kind = TransformType(body.u8()?);
        body.u8()?;
        let mut transform = Self::new(kind, body.u16()?, None);
        while !body.is_empty() {
            transform.parse_attribute(&mut body)?;
        }
        Ok(transform)
    }

    /// A second key length contradicts the first, so that nobody can tell which was meant.
    fn parse_attribute(&mut self, reader: &mut Reader) -> Result<(), ParseError> {
        let kind = reader.u16()?;
        let value = reader.u16()?;
        if kind & SHORT_ATTRIBUTE == 0 {
            reader.take(value.into())?;
        }
        match kind {
            kind if kind == SHORT_ATTRIBUTE | KEY_LENGTH && self.key_length.is_none() => {
                self.key_length = Some(value);
            }
            _ => self.unknown_attributes = true,
        }
        Ok(())
    }

    fn emit(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind.0, 0]);
        out.extend_from_slice(&self.id.to_be_bytes());
        if let Some(bits) = self.key_length {
            out.extend_from_slice(&(SHORT_ATTRIBUTE | KEY_LENGTH).to_be_bytes());
            out.extend_from_slice(&bits.to_be_bytes());
        }
    }
}

impl std::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ", self.number, self.protocol)?;
        if !self.spi.is_empty() {
            write!(f, "{:?} ", Hexadecimal(&self.spi))?;
        }
        write!(f, "{:?}", self.transforms)
    }
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.id)?;
        if let Some(bits) = self.key_length {
            write!(f, "/{bits}")?;
        }
        f.write_str(if self.unknown_attributes { " with unknown attributes" } else { "" })
    }
}
