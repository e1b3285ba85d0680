//! Whole messages.

use super::chain::{self, RawPayload};
use super::header::RawHeader;
use super::reader::Reader;
use super::{
    FRAGMENT_HEADER_LENGTH, HEADER_LENGTH, Header, PAYLOAD_HEADER_LENGTH, ParseError, Payload, PayloadType,
};

/// Where the header says which payload is the first.
const NEXT_PAYLOAD: usize = 16;
/// Where it says how long the message is.
const LENGTH: std::ops::Range<usize> = 24..28;

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// In the clear: IKE_SA_INIT, and errors about IKE SAs that the sender does not know.
    Plain(Header, Vec<Payload>),
    /// Its payloads are in an Encrypted payload (RFC 7296 section 3.14).
    Encrypted(Encrypted<'a>),
    /// A part of its payloads is in an Encrypted Fragment payload (RFC 7383 section 2.5).
    Fragment(Fragment<'a>),
}

/// A message that is still sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct Encrypted<'a> {
    /// Its header.
    pub header: Header,
    /// The type of the first payload inside.
    pub first: PayloadType,
    /// All before the IV: associated data of an AEAD (RFC 5282 section 5.1), the start of what a MAC covers.
    pub associated: &'a [u8],
    /// IV, ciphertext and integrity check value.
    pub body: &'a [u8],
    /// All octets of the message.
    pub whole: &'a [u8],
    /// Payloads in front of the Encrypted payload: covered by its integrity check, not secret.
    pub unprotected: Vec<Payload>,
}

/// A part of a message that is still sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// The sealed part. `first` is [`PayloadType::NO_NEXT_PAYLOAD`] in all but the first fragment.
    pub sealed: Encrypted<'a>,
    /// Which part, from 1.
    pub number: u16,
    /// Of how many.
    pub total: u16,
}

impl Datagram<'_> {
    /// Its header.
    pub fn header(&self) -> &Header {
        match self {
            Self::Plain(header, _) => header,
            Self::Encrypted(sealed) | Self::Fragment(Fragment { sealed, .. }) => &sealed.header,
        }
    }
}

/// Reads a datagram, without a non-ESP marker in front.
///
/// # Errors
/// As [`ParseError`] says.
pub fn parse(datagram: &[u8]) -> Result<Datagram<'_>, ParseError> {
    let raw = RawHeader::parse(datagram)?;
    let length = usize::try_from(raw.length).map_err(|_| ParseError::Truncated)?;
    if length > datagram.len() {
        return Err(ParseError::Truncated);
    }
    if length != datagram.len() {
        return Err(ParseError::Syntax("octets behind the end of the message"));
    }
    parse_payloads(&raw, datagram)
}

fn parse_payloads<'a>(raw: &RawHeader, whole: &'a [u8]) -> Result<Datagram<'a>, ParseError> {
    let mut reader = Reader::new("payload header", &whole[HEADER_LENGTH..]);
    let mut payloads = Vec::new();
    let mut kind = raw.first;
    while kind != PayloadType::NO_NEXT_PAYLOAD {
        let payload = RawPayload::parse(kind, &mut reader)?;
        if matches!(kind, PayloadType::SK | PayloadType::SKF) {
            // It is the last one, whatever its next payload field says (RFC 7296 section 3.14).
            reader.end()?;
            return sealed(raw.header, &payload, whole, payloads);
        }
        chain::push(&mut payloads, payload.interpret()?)?;
        kind = payload.next;
    }
    reader.end()?;
    Ok(Datagram::Plain(raw.header, payloads))
}

fn sealed<'a>(
    header: Header,
    payload: &RawPayload<'a>,
    whole: &'a [u8],
    unprotected: Vec<Payload>,
) -> Result<Datagram<'a>, ParseError> {
    let mut reader = Reader::new("Encrypted Fragment payload", payload.body);
    let numbers = match payload.kind {
        PayloadType::SKF => Some(fragment_numbers(&mut reader)?),
        _ => None,
    };
    let body = reader.rest();
    let associated = &whole[..whole.len() - body.len()];
    let sealed = Encrypted { header, first: payload.next, associated, body, whole, unprotected };
    Ok(match numbers {
        Some((number, total)) => Datagram::Fragment(Fragment { sealed, number, total }),
        None => Datagram::Encrypted(sealed),
    })
}

/// RFC 7383 section 2.5: both count from 1, and the first is not above the second.
fn fragment_numbers(reader: &mut Reader) -> Result<(u16, u16), ParseError> {
    let (number, total) = (reader.u16()?, reader.u16()?);
    if (1..=total).contains(&number) { Ok((number, total)) } else { reader.error() }
}

/// Writes a message in the clear.
pub fn emit(header: &Header, payloads: &[Payload]) -> Vec<u8> {
    let mut octets = vec![0; HEADER_LENGTH];
    chain::append_chain(payloads, &mut octets);
    let raw = RawHeader { header: *header, first: chain::first_type(payloads), length: octets.len() as u32 };
    octets[..HEADER_LENGTH].copy_from_slice(&raw.emit());
    octets
}

/// Writes what stands before the IV in a message with an Encrypted payload, whose IV, ciphertext and integrity check
/// value have `body_length` octets together, at most 65,531.
pub fn emit_encrypted_head(header: &Header, first: PayloadType, body_length: usize) -> Vec<u8> {
    emit_head(header, PayloadType::SK, first, body_length)
}

/// A head of [`emit_encrypted_head`] or [`emit_fragment_head`] with a payload in the clear before the encrypted one: both are
/// covered by its integrity check. With it a message has at most 65,535 octets, too.
pub fn put_before(payload: &Payload, head: &[u8]) -> Vec<u8> {
    let (kind, mut between) = chain::emit_chain(std::slice::from_ref(payload));
    let mut octets = head.to_vec();
    // The payload that was the first one comes after this one now.
    between[0] = octets[NEXT_PAYLOAD];
    octets[NEXT_PAYLOAD] = kind.0;
    let length = u32::from_be_bytes([octets[24], octets[25], octets[26], octets[27]]) + between.len() as u32;
    octets[LENGTH].copy_from_slice(&length.to_be_bytes());
    octets.splice(HEADER_LENGTH..HEADER_LENGTH, between);
    octets
}

/// As [`emit_encrypted_head`] for fragment `number` of `total`; `body_length` is at most 65,527. `first` is of the
/// message; only the first fragment bears it (RFC 7383 section 2.5).
pub fn emit_fragment_head(
    header: &Header,
    first: PayloadType,
    (number, total): (u16, u16),
    body_length: usize,
) -> Vec<u8> {
    let first = if number == 1 { first } else { PayloadType::NO_NEXT_PAYLOAD };
    let mut octets = emit_head(header, PayloadType::SKF, first, FRAGMENT_HEADER_LENGTH + body_length);
    octets.extend_from_slice(&number.to_be_bytes());
    octets.extend_from_slice(&total.to_be_bytes());
    octets
}

fn emit_head(header: &Header, kind: PayloadType, inner: PayloadType, body_length: usize) -> Vec<u8> {
    let payload_length = PAYLOAD_HEADER_LENGTH + body_length;
    let length = (HEADER_LENGTH + payload_length) as u32;
    let mut octets = RawHeader { header: *header, first: kind, length }.emit().to_vec();
    octets.extend_from_slice(&[inner.0, 0]);
    octets.extend_from_slice(&(payload_length as u16).to_be_bytes());
    octets
}

impl std::fmt::Debug for Encrypted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {} first in {} octets", self.header, self.first, self.body.len())?;
        if self.unprotected.is_empty() { Ok(()) } else { write!(f, " after {:?}", self.unprotected) }
    }
}

impl std::fmt::Debug for Fragment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fragment {} of {}: {:?}", self.number, self.total, self.sealed)
    }
}
