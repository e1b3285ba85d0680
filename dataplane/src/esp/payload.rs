//! The ESP payload around what the crypto engine works on: SPI and sequence number in front, TFC padding, padding and
//! trailer behind (RFC 4303 section 2).
//!
//! `| SPI 4 | sequence 4 | IV | payload | TFC padding | padding, pad length, next header | ICV |`

use std::ops::Range;

use baton_sad::Suite;

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

/// Where a suite puts things in a packet, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    iv: usize,
    icv: usize,
    alignment: usize,
}

/// What a sealed packet carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Where the payload lies in the buffer, padding and trailer excluded. TFC padding is still in it: only the inner
    /// packet's own length tells it apart.
    pub range: Range<usize>,
    /// What it is.
    pub next_header: u8,
}

impl Layout {
    /// The layout of a suite's packets.
    pub const fn new(suite: Suite) -> Self {
        Self { iv: suite.iv_length(), icv: suite.icv_length(), alignment: suite.alignment() }
    }

    /// Octets in front of the payload: SPI, sequence number and IV.
    #[inline]
    pub const fn front(&self) -> usize {
        HEADER + self.iv
    }

    /// Octets from SPI to ICV for a payload of `length` octets, TFC padding included.
    #[inline]
    pub const fn sealed_length(&self, length: usize) -> usize {
        self.front() + (length + TRAILER).next_multiple_of(self.alignment) + self.icv
    }

    /// The largest payload whose ESP packet has at most `length` octets.
    #[inline]
    pub const fn largest_payload(&self, length: usize) -> usize {
        let text = length.saturating_sub(self.front() + self.icv) / self.alignment * self.alignment;
        text.saturating_sub(TRAILER)
    }

    /// Writes everything around the payload at `payload` but the IV and the ICV, which are the engine's. Returns
    /// where the ESP packet lies.
    ///
    /// # Errors
    /// [`DropReason::Oversized`] when the buffer has no room around the payload.
    #[inline(always)]
    pub fn wrap(
        &self,
        buffer: &mut [u8],
        payload: Range<usize>,
        tfc_padding: usize,
        header: EspHeader,
        next_header: u8,
    ) -> Result<Range<usize>, DropReason> {
        let start = payload.start.checked_sub(self.front()).ok_or(DropReason::Oversized)?;
        let esp = start..start + self.sealed_length(payload.len() + tfc_padding);
        let room = buffer.get_mut(esp.clone()).ok_or(DropReason::Oversized)?;
        room[..HEADER].copy_from_slice(&header.emit());
        let text_end = room.len() - self.icv;
        let rest = &mut room[self.front() + payload.len()..text_end];
        if tfc_padding > 0 {
            rest[..tfc_padding].fill(0);
        }
        put_trailer(&mut rest[tfc_padding..], next_header);
        Ok(esp)
    }

    /// What the opened ESP packet at `esp` carries.
    ///
    /// # Errors
    /// [`DropReason::EspLength`], [`DropReason::BadPadding`].
    #[inline(always)]
    pub fn unwrap(&self, buffer: &[u8], esp: Range<usize>) -> Result<Payload, DropReason> {
        let (start, end) = (esp.start + self.front(), esp.end.saturating_sub(self.icv));
        let text = buffer.get(start..end).ok_or(DropReason::EspLength)?;
        let (length, next_header) = strip_trailer(text)?;
        Ok(Payload { range: start..start + length, next_header })
    }
}

/// Padding, pad length and next header, which fill `room`.
#[inline]
fn put_trailer(room: &mut [u8], next_header: u8) {
    if let [padding @ .., pad_length, next] = room {
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
    use proptest::prelude::*;

    fn suites() -> impl Strategy<Value = Suite> {
        proptest::sample::select(Suite::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn unwraps_what_it_wrapped(suite in suites(), length in 0_usize..1600, tfc in 0_usize..300, sequence: u32) {
            let layout = Layout::new(suite);
            let mut buffer = vec![0xee; 2300];
            buffer[100..100 + length].fill(0x55);
            let header = EspHeader { spi: 0x2a00_0001, sequence };
            let esp = layout.wrap(&mut buffer, 100..100 + length, tfc, header, 41).unwrap();
            prop_assert_eq!(esp.len(), layout.sealed_length(length + tfc));
            prop_assert!((esp.len() - layout.front() - layout.icv).is_multiple_of(suite.alignment()));
            let largest = layout.largest_payload(esp.len());
            prop_assert!(largest >= length + tfc && largest < length + tfc + suite.alignment());
            prop_assert_eq!(EspHeader::parse(&buffer[esp.start..]), Ok(header));
            let payload = layout.unwrap(&buffer, esp).unwrap();
            prop_assert_eq!(&payload, &Payload { range: 100..100 + length + tfc, next_header: 41 });
            prop_assert!(buffer[100..100 + length].iter().all(|octet| *octet == 0x55));
        }

        #[test]
        fn never_panics(octets in proptest::collection::vec(any::<u8>(), 0..120), suite in suites(), a in 0_usize..130, b in 0_usize..130) {
            let layout = Layout::new(suite);
            let _ = layout.unwrap(&octets, a..b);
            let _ = layout.wrap(&mut octets.clone(), a.min(b)..b, 7, EspHeader { spi: 1, sequence: 1 }, 4);
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
}
