//! Prepared keys.

use std::ops::Range;

use baton_sad::{Encryption, Suite};
use thiserror::Error;

use super::aead::AeadKey;
use super::composed::ComposedKey;
use super::{Backend, HEADER};

/// Why a key cannot be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The keying material has not the suite's length.
    #[error(
        "the keying material of {suite} has {expected} octets, not {given}; check its suite and its key file"
    )]
    Length {
        /// The suite.
        suite: Suite,
        /// Octets that it needs.
        expected: usize,
        /// Octets that it got.
        given: usize,
    },
}

/// An SA's key, ready for packets. Dropping it wipes it.
pub struct PreparedKey {
    suite: Suite,
    extended: bool,
    layout: Layout,
    transform: Transform,
}

/// The suite's lengths, so that no packet has to look them up.
#[derive(Clone, Copy)]
struct Layout {
    front: usize,
    icv: usize,
    /// One less than the alignment, a power of two.
    mask: usize,
}

enum Transform {
    Aead(AeadKey),
    /// Authentication without encryption: RFC 4543.
    Gmac(AeadKey),
    Composed(Box<ComposedKey>),
}

impl std::fmt::Debug for PreparedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("PreparedKey");
        debug.field("suite", &self.suite).field("extended", &self.extended).finish_non_exhaustive()
    }
}

impl PreparedKey {
    pub(super) fn new(
        backend: Backend,
        suite: Suite,
        extended: bool,
        material: &[u8],
    ) -> Result<Self, KeyError> {
        let wrong = KeyError::Length { suite, expected: suite.key_length(), given: material.len() };
        if material.len() != suite.key_length() {
            return Err(wrong);
        }
        // Neither library has another reason to refuse a key.
        let transform = Transform::new(backend, suite, material).ok_or(wrong)?;
        let layout = Layout {
            front: HEADER + suite.iv_length(),
            icv: suite.icv_length(),
            mask: suite.alignment() - 1,
        };
        Ok(Self { suite, extended, layout, transform })
    }

    /// The suite that it was prepared for.
    #[inline]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Whether the SA's sequence numbers have 64 bits.
    #[inline]
    pub fn is_extended(&self) -> bool {
        self.extended
    }

    /// Octets of SPI, sequence number and IV.
    #[inline]
    pub fn front_length(&self) -> usize {
        self.layout.front
    }

    /// Octets of the ICV.
    #[inline]
    pub fn icv_length(&self) -> usize {
        self.layout.icv
    }

    /// Octets of text for so many octets of payload, pad length and next header: the suite's alignment is kept.
    #[inline]
    pub fn padded(&self, length: usize) -> usize {
        (length + self.layout.mask) & !self.layout.mask
    }

    /// Where the text lies in a packet of so many octets; `None` if no packet of this suite has so many: one alignment
    /// of text at least, and no part of one.
    #[inline]
    pub fn text(&self, length: usize) -> Option<Range<usize>> {
        let Layout { front, icv, mask } = self.layout;
        let text = length.checked_sub(front + icv)?;
        (text != 0 && text & mask == 0).then(|| front..front + text)
    }

    /// The upper half of the sequence number, if it is authenticated.
    #[inline]
    fn upper_half(&self, sequence: u64) -> Option<[u8; 4]> {
        self.extended.then(|| ((sequence >> 32) as u32).to_be_bytes())
    }

    /// Seals a packet whose IV is written and whose text lies there.
    #[inline]
    pub(super) fn seal(&self, sequence: u64, packet: &mut [u8], text: Range<usize>) -> bool {
        let upper_half = self.upper_half(sequence);
        match &self.transform {
            Transform::Aead(key) => key.seal(upper_half, packet, text),
            Transform::Gmac(key) => key.authenticate(upper_half, packet, text),
            Transform::Composed(key) => key.seal(upper_half, packet, text),
        }
    }

    /// Opens a packet whose text lies there. If it is not authentic, the text is anything.
    #[inline]
    pub(super) fn open(&self, sequence: u64, packet: &mut [u8], text: Range<usize>) -> bool {
        let upper_half = self.upper_half(sequence);
        match &self.transform {
            Transform::Aead(key) => key.open(upper_half, packet, text),
            Transform::Gmac(key) => key.verify(upper_half, packet, text),
            Transform::Composed(key) => key.open(upper_half, packet, text),
        }
    }
}

impl Transform {
    /// `None` when a library refuses a part of the material.
    fn new(backend: Backend, suite: Suite, material: &[u8]) -> Option<Self> {
        Some(match suite.encryption() {
            Encryption::AesGmac => Self::Gmac(AeadKey::new(backend, suite, material)?),
            Encryption::Null | Encryption::AesCbc | Encryption::AesCtr => {
                Self::Composed(Box::new(ComposedKey::new(backend, suite, material)?))
            }
            _ => Self::Aead(AeadKey::new(backend, suite, material)?),
        })
    }
}
