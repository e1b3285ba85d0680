//! The ESP payload: padding and trailer, and the job for the crypto engine.

use std::ops::Range;

use crate::crypto::{Engine, Job, Outcome, PreparedKey};
use crate::drop_reason::DropReason;
use crate::packet::esp::{EspHeader, HEADER};

/// Octets of pad length and next header.
pub const TRAILER: usize = 2;
/// Next header of a dummy packet (RFC 4303 section 2.6).
pub const NO_NEXT_HEADER: u8 = 59;
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

/// An SA's prepared key and its SPI.
#[derive(Debug)]
pub struct EspKey {
    /// Security parameters index.
    pub spi: u32,
    /// Key, suite and width of the sequence numbers.
    pub key: PreparedKey,
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
    /// Octets from SPI to ICV for a payload of `length` octets.
    #[inline]
    pub fn sealed_length(&self, length: usize) -> usize {
        self.key.front_length() + self.key.padded(length + TRAILER) + self.key.icv_length()
    }

    /// The largest payload whose ESP packet has at most `length` octets.
    #[inline]
    pub fn largest_payload(&self, length: usize) -> usize {
        let suite = self.key.suite();
        let text = length.saturating_sub(self.key.front_length() + self.key.icv_length());
        (text / suite.alignment() * suite.alignment()).saturating_sub(TRAILER)
    }

    /// Seals the payload at `payload` in place, writing SPI, sequence number and IV in front of it and padding,
    /// trailer and ICV behind. Returns where the ESP packet lies. The caller never gives one IV twice (I1).
    ///
    /// # Errors
    /// [`DropReason::Oversized`] when the buffer has no room around the payload.
    #[inline(always)]
    pub fn seal(
        &self,
        engine: &mut Engine,
        buffer: &mut [u8],
        payload: Range<usize>,
        next_header: u8,
        (sequence, iv): (u64, u64),
    ) -> Result<Range<usize>, DropReason> {
        let start = payload.start.checked_sub(self.key.front_length()).ok_or(DropReason::Oversized)?;
        let esp = start..start + self.sealed_length(payload.len());
        let packet = buffer.get_mut(esp.clone()).ok_or(DropReason::Oversized)?;
        packet[..HEADER].copy_from_slice(&EspHeader { spi: self.spi, sequence: sequence as u32 }.emit());
        let text = self.key.front_length()..packet.len() - self.key.icv_length();
        put_trailer(&mut packet[text], payload.len(), next_header);
        let mut job = Job::to_seal(&self.key, sequence, iv, packet);
        engine.seal(std::slice::from_mut(&mut job));
        if job.outcome == Outcome::Done { Ok(esp) } else { Err(DropReason::SaUnusable) }
    }

    /// Opens the ESP packet at `esp` in place, with the full sequence number that the replay check inferred.
    ///
    /// # Errors
    /// [`DropReason::EspLength`], [`DropReason::BadIcv`], [`DropReason::BadPadding`]. The payload is not
    /// readable then.
    #[inline(always)]
    pub fn open(
        &self,
        engine: &mut Engine,
        buffer: &mut [u8],
        esp: Range<usize>,
        sequence: u64,
    ) -> Result<Payload, DropReason> {
        let start = esp.start + self.key.front_length();
        let packet = buffer.get_mut(esp).ok_or(DropReason::EspLength)?;
        let mut job = Job::to_open(&self.key, sequence, packet);
        engine.open(std::slice::from_mut(&mut job));
        match job.outcome {
            Outcome::Done => {}
            Outcome::Malformed => return Err(DropReason::EspLength),
            Outcome::BadIcv | Outcome::Pending => return Err(DropReason::BadIcv),
        }
        let text = self.key.front_length()..packet.len() - self.key.icv_length();
        let (length, next_header) = strip_trailer(&packet[text])?;
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
    use baton_sad::Suite;
    use proptest::prelude::*;

    fn key(suite: Suite, extended: bool) -> (Engine, EspKey) {
        let engine = Engine::new(Backend::default()).unwrap();
        let key = engine.prepare(suite, extended, &vec![7; suite.key_length()]).unwrap();
        (engine, EspKey { spi: 0x2a00_0001, key })
    }

    proptest! {
        #[test]
        fn opens_what_it_sealed(length in 0_usize..1600, suite in 0..Suite::ALL.len(), extended: bool, sequence: u64, iv: u64) {
            let (mut engine, key) = key(Suite::ALL[suite], extended);
            let alignment = key.key.suite().alignment();
            let mut buffer = vec![0xee; 2048];
            buffer[100..100 + length].fill(0x55);
            let esp = key.seal(&mut engine, &mut buffer, 100..100 + length, 4, (sequence, iv)).unwrap();
            prop_assert_eq!(esp.len(), key.sealed_length(length));
            prop_assert!(esp.len().is_multiple_of(4));
            let largest = key.largest_payload(esp.len());
            prop_assert!(largest >= length && largest < length + alignment);
            let payload = key.open(&mut engine, &mut buffer, esp, sequence).unwrap();
            prop_assert_eq!(&payload, &Payload { range: 100..100 + length, next_header: 4 });
            prop_assert!(buffer[payload.range].iter().all(|octet| *octet == 0x55));
        }

        #[test]
        fn never_panics(mut octets in proptest::collection::vec(any::<u8>(), 0..120), suite in 0..Suite::ALL.len()) {
            let length = octets.len();
            let (mut engine, key) = key(Suite::ALL[suite], true);
            let _ = key.open(&mut engine, &mut octets, 0..length, 1);
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
        let (mut engine, key) = key(Suite::AES128_GCM16, true);
        let mut buffer = vec![0; 200];
        let esp = key.seal(&mut engine, &mut buffer, 64..100, 4, ((1 << 32) + 5, 9)).unwrap();
        assert_eq!(key.open(&mut engine, &mut buffer.clone(), esp.clone(), 5), Err(DropReason::BadIcv));
        assert!(key.open(&mut engine, &mut buffer, esp, (1 << 32) + 5).is_ok());
    }
}
