//! Reading and writing of fields.

use baton_sad::{Name, NodeId};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{OLDEST, PROTOCOL, TERMS};
use crate::cluster::segments::Segments;
use crate::cxtp::CxtpError;

/// Why a message is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It ends inside a field.
    #[error("the message ends too early")]
    Truncated,
    /// Something follows its end.
    #[error("data follows the end of the message")]
    Trailing,
    /// Another version.
    #[error(
        "the message has version {0}, this release reads {OLDEST} and {PROTOCOL}; run releases next to each other"
    )]
    Version(u8),
    /// No message of this lane.
    #[error("message kind {0} is not known on its lane")]
    Kind(u8),
    /// A value that its field cannot have.
    #[error("{0} has a value that it cannot have")]
    Value(&'static str),
    /// No message of CXTP.
    #[error(transparent)]
    Transfer(#[from] CxtpError),
    /// A list with more elements than there may be.
    #[error("there are too many {0}")]
    TooMany(&'static str),
}

/// Reads fields from the front.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The kind of the message, and what follows it.
    pub(crate) fn open(octets: &'a [u8]) -> Result<(u8, Self), MessageError> {
        let mut reader = Self { rest: octets };
        match reader.u8()? {
            OLDEST..=PROTOCOL => Ok((reader.u8()?, reader)),
            other => Err(MessageError::Version(other)),
        }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(MessageError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(MessageError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, MessageError> {
        self.array().map(|[octet]| octet)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, MessageError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A term, which never comes near the bound by itself: one beyond would be the last that anybody could claim with.
    pub(crate) fn term(&mut self) -> Result<u64, MessageError> {
        self.u64().and_then(|term| if term < TERMS { Ok(term) } else { Err(MessageError::Value("a term")) })
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, MessageError> {
        NodeId::new(self.u8()?).ok_or(MessageError::Value("a node id"))
    }

    pub(crate) fn segments(&mut self) -> Result<Segments, MessageError> {
        self.array().map(|octets| Segments::from_octets(&octets))
    }

    /// A list of at most `most` elements, counted by two octets.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        most: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, MessageError>,
    ) -> Result<Vec<T>, MessageError> {
        let count = usize::from(self.u16()?);
        if count > most {
            return Err(MessageError::TooMany(what));
        }
        // No room is made ahead: what is claimed to follow may not.
        (0..count).map(|_| element(self)).collect()
    }

    /// Octets with their length in front.
    pub(crate) fn long(&mut self, what: &'static str, most: usize) -> Result<&'a [u8], MessageError> {
        match self.u32()? as usize {
            length if length > most => Err(MessageError::TooMany(what)),
            length => self.take(length),
        }
    }

    pub(crate) fn text(&mut self, most: usize) -> Result<String, MessageError> {
        let octets = self.long("characters", most)?;
        String::from_utf8(octets.to_vec()).map_err(|_| MessageError::Value("a text"))
    }

    pub(crate) fn name(&mut self) -> Result<Name, MessageError> {
        let name = self.text(Name::MAX)?;
        Name::new(&name).map_err(|_| MessageError::Value("a tunnel's name"))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn finish(&self) -> Result<(), MessageError> {
        if self.rest.is_empty() { Ok(()) } else { Err(MessageError::Trailing) }
    }
}

/// Writes fields to a buffer that is wiped.
pub(crate) struct Writer {
    octets: Zeroizing<Vec<u8>>,
}

impl Writer {
    /// `capacity` should hold everything: a buffer that grows leaves its old octets behind.
    pub(crate) fn new(kind: u8, capacity: usize) -> Self {
        let mut octets = Zeroizing::new(Vec::with_capacity(capacity + 2));
        octets.extend([PROTOCOL, kind]);
        Self { octets }
    }

    pub(crate) fn into_octets(self) -> Zeroizing<Vec<u8>> {
        self.octets
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.octets.extend_from_slice(value);
    }

    /// Lets something else append, which keeps to the capacity.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.octets);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.octets.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn segments(&mut self, value: Segments) {
        self.bytes(&value.to_octets());
    }

    pub(crate) fn long(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.bytes(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.long(value.as_bytes());
    }

    pub(crate) fn name(&mut self, value: &Name) {
        self.text(value.as_str());
    }

    pub(crate) fn list<T>(&mut self, elements: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.u16(elements.len() as u16);
        for value in elements {
            element(self, value);
        }
    }
}
