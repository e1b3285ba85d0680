//! Payloads that name each other (RFC 7296 section 3.2).

use super::reader::Reader;
use super::{MAX_PAYLOADS, PAYLOAD_HEADER_LENGTH, ParseError, Payload, PayloadType};

const CRITICAL: u8 = 0x80;
const MAX_LENGTH: usize = 65_535;

/// One payload before its meaning.
pub(super) struct RawPayload<'a> {
    pub(super) kind: PayloadType,
    pub(super) next: PayloadType,
    critical: bool,
    pub(super) body: &'a [u8],
}

impl<'a> RawPayload<'a> {
    pub(super) fn parse(kind: PayloadType, reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let next = PayloadType(reader.u8()?);
        let critical = reader.u8()? & CRITICAL != 0;
        let length = usize::from(reader.u16()?);
        let Some(length) = length.checked_sub(PAYLOAD_HEADER_LENGTH) else { return reader.error() };
        Ok(Self { kind, next, critical, body: reader.take(length)? })
    }

    pub(super) fn interpret(&self) -> Result<Payload, ParseError> {
        if self.critical && !self.kind.is_known() {
            return Err(ParseError::UnsupportedCritical(self.kind));
        }
        Payload::parse(self.kind, self.body)
    }
}

/// Reads a chain of which the first payload is of type `first`, to the end of `octets`. Payloads that are unknown and
/// not critical are kept as [`Payload::Unknown`].
///
/// # Errors
/// [`ParseError::Syntax`], [`ParseError::UnsupportedCritical`].
pub fn parse_chain(first: PayloadType, octets: &[u8]) -> Result<Vec<Payload>, ParseError> {
    let mut reader = Reader::new("payload header", octets);
    let mut payloads = Vec::new();
    let mut kind = first;
    while kind != PayloadType::NO_NEXT_PAYLOAD {
        let raw = RawPayload::parse(kind, &mut reader)?;
        push(&mut payloads, raw.interpret()?)?;
        kind = raw.next;
    }
    reader.end()?;
    Ok(payloads)
}

pub(super) fn push(payloads: &mut Vec<Payload>, payload: Payload) -> Result<(), ParseError> {
    if payloads.len() >= MAX_PAYLOADS {
        return Err(ParseError::Syntax("too many payloads"));
    }
    payloads.push(payload);
    Ok(())
}

/// Writes a chain, and says of what type its first payload is. The critical bit is clear throughout, as RFC 7296
/// asks for payloads that it defines. What does not fit a payload's 65,535 octets is cut off.
pub fn emit_chain(payloads: &[Payload]) -> (PayloadType, Vec<u8>) {
    let mut octets = Vec::new();
    append_chain(payloads, &mut octets);
    (first_type(payloads), octets)
}

pub(super) fn first_type(payloads: &[Payload]) -> PayloadType {
    payloads.first().map_or(PayloadType::NO_NEXT_PAYLOAD, Payload::kind)
}

pub(super) fn append_chain(payloads: &[Payload], out: &mut Vec<u8>) {
    for (place, payload) in payloads.iter().enumerate() {
        let start = out.len();
        out.extend_from_slice(&[first_type(&payloads[place + 1..]).0, 0, 0, 0]);
        payload.emit(out);
        out.truncate(start + MAX_LENGTH);
        let length = (out.len() - start) as u16;
        out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}
