//! The part of CBOR (RFC 8949) that contexts use, in its deterministic form (section 4.2) and no other.
//!
//! Reading borrows from the input and writing goes to one buffer of known size, so that no copies of keys are left
//! behind. What is read strictly is written back octet for octet.

use thiserror::Error;
use zeroize::Zeroizing;

/// Nesting of values that are only kept, not understood.
const MAX_DEPTH: u32 = 16;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u64 = 22;

/// Why octets are not the CBOR that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CborError {
    /// The octets end inside a value.
    #[error("the data ends too early")]
    Truncated,
    /// Octets follow the value.
    #[error("data follows the end")]
    Trailing,
    /// Not the deterministic encoding of RFC 8949, section 4.2.
    #[error("the encoding is not deterministic (RFC 8949, section 4.2)")]
    NotDeterministic,
    /// Another type than the field has.
    #[error("a value has another type than its field")]
    Type,
    /// More elements, or deeper nesting, than is read.
    #[error("there are too many elements, or they are nested too deeply")]
    TooMany,
}

/// Entries of a map that this release does not know, octet for octet: kept and written again.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Unknown(Vec<(u64, Zeroizing<Vec<u8>>)>);

impl Unknown {
    /// Adds an entry; the value must be one deterministic CBOR value.
    ///
    /// # Errors
    /// [`CborError`] if it is not.
    pub fn insert(&mut self, key: u64, value: &[u8]) -> Result<(), CborError> {
        let mut reader = Reader::new(value);
        reader.skip(MAX_DEPTH)?;
        reader.finish()?;
        self.0.retain(|(k, _)| *k != key);
        self.0.push((key, Zeroizing::new(value.to_vec())));
        self.0.sort_by_key(|(k, _)| *k);
        Ok(())
    }

    /// The keys, ascending.
    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|(key, _)| *key)
    }

    /// The encoded value of a key.
    pub fn get(&self, key: u64) -> Option<&[u8]> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, value)| value.as_slice())
    }

    /// Octets that its entries take when written, at most.
    pub(crate) fn octets(&self) -> usize {
        self.0.iter().map(|(_, value)| value.len() + 9).sum()
    }
}

/// What is not understood may be a secret.
impl std::fmt::Debug for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

/// Reads values from the front of the input.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    pub(crate) fn finish(&self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, CborError> {
        self.expect(UNSIGNED)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.expect(BYTES)?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, CborError> {
        let length = self.expect(TEXT)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| CborError::Type)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, CborError> {
        match self.expect(SIMPLE)? {
            FALSE => Ok(false),
            TRUE => Ok(true),
            _ => Err(CborError::Type),
        }
    }

    /// An unsigned integer or null.
    pub(crate) fn optional(&mut self) -> Result<Option<u64>, CborError> {
        match self.head()? {
            (UNSIGNED, value) => Ok(Some(value)),
            (SIMPLE, NULL) => Ok(None),
            _ => Err(CborError::Type),
        }
    }

    /// An array of at most `most` elements, a few; `element` reads one.
    pub(crate) fn array<T, E: From<CborError>>(
        &mut self,
        most: u64,
        mut element: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let count = self.expect(ARRAY)?;
        if count > most {
            return Err(CborError::TooMany.into());
        }
        // Room for all at once: a vector that grows leaves copies of the keys in it behind.
        let mut elements = Vec::with_capacity(count as usize);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// A map with ascending unsigned keys. `field` reads the value of a key and says whether it knows it; the others
    /// are kept.
    pub(crate) fn map<E: From<CborError>>(
        &mut self,
        mut field: impl FnMut(&mut Self, u64) -> Result<bool, E>,
    ) -> Result<Unknown, E> {
        let mut unknown = Unknown::default();
        let mut last = None;
        for _ in 0..self.expect(MAP)? {
            let key = self.unsigned()?;
            if last.is_some_and(|last| last >= key) {
                return Err(CborError::NotDeterministic.into());
            }
            last = Some(key);
            let before = self.rest;
            if !field(self, key)? {
                self.skip(MAX_DEPTH)?;
                let value = &before[..before.len() - self.rest.len()];
                unknown.0.push((key, Zeroizing::new(value.to_vec())));
            }
        }
        Ok(unknown)
    }

    /// Passes over one value of any kind.
    fn skip(&mut self, depth: u32) -> Result<(), CborError> {
        let depth = depth.checked_sub(1).ok_or(CborError::TooMany)?;
        match self.head()? {
            (BYTES, length) => self.take(length).map(drop),
            (TEXT, length) => std::str::from_utf8(self.take(length)?).map(drop).map_err(|_| CborError::Type),
            (ARRAY, count) => (0..count).try_for_each(|_| self.skip(depth)),
            (MAP, count) => self.skip_map(count, depth),
            (TAG, _) => self.skip(depth),
            _ => Ok(()),
        }
    }

    /// Keys stand in the bytewise order of their encodings (RFC 8949, section 4.2.1).
    fn skip_map(&mut self, count: u64, depth: u32) -> Result<(), CborError> {
        let mut last: &[u8] = &[];
        for _ in 0..count {
            let before = self.rest;
            self.skip(depth)?;
            let key = &before[..before.len() - self.rest.len()];
            if last >= key {
                return Err(CborError::NotDeterministic);
            }
            last = key;
            self.skip(depth)?;
        }
        Ok(())
    }

    fn expect(&mut self, major: u8) -> Result<u64, CborError> {
        match self.head()? {
            (found, argument) if found == major => Ok(argument),
            _ => Err(CborError::Type),
        }
    }

    /// Major type and argument (RFC 8949, section 3), in the shortest form only.
    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let first = self.take(1)?[0];
        let (major, short) = (first >> 5, first & 0x1f);
        let octets = match short {
            0..=23 => return Ok((major, u64::from(short))),
            24..=27 => 1 << (short - 24),
            _ => return Err(CborError::NotDeterministic),
        };
        let argument = self.take(octets)?.iter().fold(0, |n, octet| n << 8 | u64::from(*octet));
        let shortest = match octets {
            1 => argument >= 24,
            n => argument >> (4 * n) != 0,
        };
        match major {
            // Two to eight octets are floats, whose bits say nothing about length; simple values start at 32.
            SIMPLE if octets > 1 || argument >= 32 => Ok((major, argument | 1 << 63)),
            UNSIGNED | NEGATIVE | BYTES | TEXT | ARRAY | MAP | TAG if shortest => Ok((major, argument)),
            _ => Err(CborError::NotDeterministic),
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Writes values to a buffer that is wiped.
pub(crate) struct Writer {
    octets: Zeroizing<Vec<u8>>,
}

impl Writer {
    /// `capacity` should hold everything: a buffer that grows leaves its old octets behind.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { octets: Zeroizing::new(Vec::with_capacity(capacity)) }
    }

    pub(crate) fn into_octets(self) -> Zeroizing<Vec<u8>> {
        self.octets
    }

    pub(crate) fn unsigned(&mut self, value: u64) {
        self.head(UNSIGNED, value);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.head(BYTES, value.len() as u64);
        self.octets.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.head(TEXT, value.len() as u64);
        self.octets.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.head(SIMPLE, if value { TRUE } else { FALSE });
    }

    pub(crate) fn optional(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.unsigned(value),
            None => self.head(SIMPLE, NULL),
        }
    }

    pub(crate) fn array<T>(&mut self, elements: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.head(ARRAY, elements.len() as u64);
        for value in elements {
            element(self, value);
        }
    }

    /// A map of the ascending `known` keys, whose values `value` writes, and of the unknown ones in their places.
    pub(crate) fn map(&mut self, known: &[u64], unknown: &Unknown, mut value: impl FnMut(&mut Self, u64)) {
        self.head(MAP, (known.len() + unknown.0.len()) as u64);
        let mut kept = unknown.0.iter().peekable();
        for key in known {
            while let Some((other, octets)) = kept.next_if(|(other, _)| other < key) {
                self.kept(*other, octets);
            }
            self.unsigned(*key);
            value(self, *key);
        }
        for (other, octets) in kept {
            self.kept(*other, octets);
        }
    }

    fn kept(&mut self, key: u64, octets: &[u8]) {
        self.unsigned(key);
        self.octets.extend_from_slice(octets);
    }

    fn head(&mut self, major: u8, argument: u64) {
        let octets = argument.to_be_bytes();
        let (short, octets) = match argument {
            0..=23 => (argument as u8, &octets[8..]),
            24..=0xff => (24, &octets[7..]),
            0x100..=0xffff => (25, &octets[6..]),
            0x1_0000..=0xffff_ffff => (26, &octets[4..]),
            _ => (27, &octets[..]),
        };
        self.octets.push(major << 5 | short);
        self.octets.extend_from_slice(octets);
    }
}
