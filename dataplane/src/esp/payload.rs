//! The ESP payload: padding, trailer, IV and AEAD.

use std::ops::Range;

use crate::crypto::{Aead, Job, NONCE, Outcome};
use crate::drop_reason::DropReason;
use crate::packet::esp::{EspHeader, HEADER};

/// Octets of the explicit IV (RFC 4106 section 3.1).
pub const IV: usize = 8;
/// Octets of pad length and next header.
pub const TRAILER: usize = 2;
/// Next header of a dummy packet (RFC 4303 section 2.6).
pub const NO_NEXT_HEADER: u8 = 59;
/// RFC 4303 section 2.4: the ciphertext ends on a multiple of four octets.
const ALIGNMENT: usize = 4;
/// The padding that RFC 4303 section 2.4 wants: 1, 2, 3, ...
static PADDING: [u8; 255] = {
    let mut padding = [0; 255];
    let mut at = 0;
    while at < padding.len() {
        padding[at] = at as u8 + 1;
        at += 1;
    }
    padding
};

/// A prepared key with all that ESP needs to know about its suite.
pub struct EspKey {
    /// Security parameters index.
    pub spi: u32,
    /// The implicit part of the nonce.
    pub salt: [u8; 4],
    /// Octets of the ICV.
    pub icv: usize,
    /// Whether the sequence numbers have 64 bits.
    pub extended: bool,
    /// The cipher.
    pub aead: Box<dyn Aead>,
}

impl std::fmt::Debug for EspKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EspKey").field("spi", &self.spi).field("icv", &self.icv).finish_non_exhaustive()
    }
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Where the payload lies in the buffer, padding and trailer excluded.
    pub range: Range<usize>,
    /// What it is.
    pub next_header: u8,
}

impl EspKey {
    #[inline]
    fn nonce(&self, iv: [u8; IV]) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&iv);
        nonce
    }

    /// SPI and sequence number; with extended ones all 64 bits (RFC 4106 section 5).
    #[inline]
    fn aad(&self, sequence: u64) -> ([u8; 12], usize) {
        let mut aad = [0; 12];
        aad[..4].copy_from_slice(&self.spi.to_be_bytes());
        if self.extended {
            aad[4..].copy_from_slice(&sequence.to_be_bytes());
            (aad, 12)
        } else {
            aad[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
            (aad, 8)
        }
    }

    /// Octets from SPI to ICV for a payload of `length` octets.
    #[inline]
    pub fn sealed_length(&self, length: usize) -> usize {
        HEADER + IV + (length + TRAILER).next_multiple_of(ALIGNMENT) + self.icv
    }

    /// The largest payload whose ESP packet has at most `length` octets.
    #[inline]
    pub fn largest_payload(&self, length: usize) -> usize {
        let text = length.saturating_sub(HEADER + IV + self.icv) / ALIGNMENT * ALIGNMENT;
        text.saturating_sub(TRAILER)
    }

    /// Seals the payload at `payload` in place, writing SPI, sequence number and IV in front of it and padding,
    /// trailer and ICV behind. Returns where the ESP packet lies. The caller never gives one IV twice (I1).
    ///
    /// # Errors
    /// [`DropReason::Oversized`] when the buffer has no room around the payload.
    #[inline(always)]
    pub fn seal(
        &self,
        buffer: &mut [u8],
        payload: Range<usize>,
        next_header: u8,
        sequence: u64,
        iv: u64,
    ) -> Result<Range<usize>, DropReason> {
        let start = payload.start.checked_sub(HEADER + IV).ok_or(DropReason::Oversized)?;
        let esp = start..start + self.sealed_length(payload.len());
        let room = buffer.get_mut(esp.clone()).ok_or(DropReason::Oversized)?;
        let (header, rest) = room.split_at_mut(HEADER + IV);
        let (text, icv) = rest.split_at_mut(rest.len() - self.icv);
        header[..HEADER].copy_from_slice(&EspHeader { spi: self.spi, sequence: sequence as u32 }.emit());
        let iv = iv.to_be_bytes();
        header[HEADER..].copy_from_slice(&iv);
        put_trailer(text, payload.len(), next_header);
        let (aad, aad_length) = self.aad(sequence);
        let mut job =
            Job { nonce: self.nonce(iv), aad: &aad[..aad_length], text, icv, outcome: Outcome::Pending };
        self.aead.seal(std::slice::from_mut(&mut job));
        if job.outcome == Outcome::Done { Ok(esp) } else { Err(DropReason::SaUnusable) }
    }

    /// Opens the ESP packet at `esp` in place, with the full sequence number that the replay check inferred.
    ///
    /// # Errors
    /// [`DropReason::EspLength`], [`DropReason::BadIcv`], [`DropReason::BadPadding`]. The payload is not
    /// readable then.
    #[inline(always)]
    pub fn open(&self, buffer: &mut [u8], esp: Range<usize>, sequence: u64) -> Result<Payload, DropReason> {
        let start = esp.start + HEADER + IV;
        let packet = buffer.get_mut(esp).ok_or(DropReason::EspLength)?;
        let (header, rest) = packet.split_at_mut_checked(HEADER + IV).ok_or(DropReason::EspLength)?;
        let length = rest.len().checked_sub(self.icv).ok_or(DropReason::EspLength)?;
        if length < ALIGNMENT || !length.is_multiple_of(ALIGNMENT) {
            return Err(DropReason::EspLength);
        }
        let (text, icv) = rest.split_at_mut(length);
        let iv = *header.last_chunk().ok_or(DropReason::EspLength)?;
        let (aad, aad_length) = self.aad(sequence);
        let nonce = self.nonce(iv);
        let mut job = Job { nonce, aad: &aad[..aad_length], text, icv, outcome: Outcome::Pending };
        self.aead.open(std::slice::from_mut(&mut job));
        if job.outcome != Outcome::Done {
            return Err(DropReason::BadIcv);
        }
        let (length, next_header) = strip_trailer(text)?;
        Ok(Payload { range: start..start + length, next_header })
    }
}

/// Padding, pad length and next header behind the first `length` octets of `text`.
#[inline]
fn put_trailer(text: &mut [u8], length: usize, next_header: u8) {
    if let Some([padding @ .., pad_length, next]) = text.get_mut(length..) {
        for (octet, value) in padding.iter_mut().zip(&PADDING) {
            *octet = *value;
        }
        *pad_length = padding.len() as u8;
        *next = next_header;
    }
}

/// Checks the padding, as RFC 4303 section 2.4 lets a receiver do, and returns what is in front of it.
#[inline]
fn strip_trailer(text: &[u8]) -> Result<(usize, u8), DropReason> {
    let [front @ .., pad_length, next_header] = text else { return Err(DropReason::EspLength) };
    let pad_length = usize::from(*pad_length);
    let length = front.len().checked_sub(pad_length).ok_or(DropReason::BadPadding)?;
    if front[length..] == PADDING[..pad_length] {
        Ok((length, *next_header))
    } else {
        Err(DropReason::BadPadding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Backend;
    use proptest::prelude::*;

    fn key(icv: usize, extended: bool) -> EspKey {
        let aead = Backend::default().prepare(&[7; 16], icv).unwrap();
        EspKey { spi: 0x2a00_0001, salt: [1, 2, 3, 4], icv, extended, aead }
    }

    proptest! {
        #[test]
        fn opens_what_it_sealed(length in 0_usize..1600, icv in 2_usize..=4, extended: bool, sequence: u64, iv: u64) {
            let key = key(icv * 4, extended);
            let mut buffer = vec![0xee; 2048];
            buffer[100..100 + length].fill(0x55);
            let esp = key.seal(&mut buffer, 100..100 + length, 4, sequence, iv).unwrap();
            prop_assert_eq!(esp.len(), key.sealed_length(length));
            prop_assert!(esp.len().is_multiple_of(4));
            prop_assert!(key.largest_payload(esp.len()) >= length && key.largest_payload(esp.len()) < length + 4);
            let payload = key.open(&mut buffer, esp, sequence).unwrap();
            prop_assert_eq!(&payload, &Payload { range: 100..100 + length, next_header: 4 });
            prop_assert!(buffer[payload.range].iter().all(|octet| *octet == 0x55));
        }

        #[test]
        fn never_panics(mut octets in proptest::collection::vec(any::<u8>(), 0..120), icv in 2_usize..=4) {
            let length = octets.len();
            let _ = key(icv * 4, true).open(&mut octets, 0..length, 1);
            let _ = strip_trailer(&octets);
        }
    }

    #[test]
    fn padding_is_checked() {
        assert_eq!(strip_trailer(&[9, 1, 2, 2, 4]), Ok((1, 4)));
        assert_eq!(strip_trailer(&[9, 1, 3, 2, 4]), Err(DropReason::BadPadding));
        assert_eq!(strip_trailer(&[9, 1, 2, 4, 4]), Err(DropReason::BadPadding));
        assert_eq!(strip_trailer(&[0, 4]), Ok((0, 4)));
        assert_eq!(strip_trailer(&[4]), Err(DropReason::EspLength));
    }

    #[test]
    fn extended_numbers_are_authenticated_whole() {
        let key = key(16, true);
        let mut buffer = vec![0; 200];
        let esp = key.seal(&mut buffer, 64..100, 4, (1 << 32) + 5, 9).unwrap();
        assert_eq!(key.open(&mut buffer.clone(), esp.clone(), 5), Err(DropReason::BadIcv));
        assert!(key.open(&mut buffer, esp, (1 << 32) + 5).is_ok());
    }
}
