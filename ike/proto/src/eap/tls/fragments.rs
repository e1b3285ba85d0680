//! TLS messages in fragments (RFC 5216 sections 2.1.5 and 3.1).

use crate::eap::packet::Malformed;

const LENGTH: u8 = 0x80;
const MORE: u8 = 0x40;
const START: u8 = 0x20;

/// The most octets of one flight of TLS that are taken: those of a long chain of certificates.
const MAX_FLIGHT: usize = 32 * 1024;
/// Octets of TLS in one packet: it fits IKE messages that are not fragmented themselves.
const FRAGMENT: usize = 1000;

/// The first request.
pub(super) const BEGIN: &[u8] = &[START];
/// Nothing to say, or the next fragment, please.
pub(super) const EMPTY: &[u8] = &[0];

/// What one packet says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) is_start: bool,
    has_more: bool,
    /// Octets of the whole flight.
    length: Option<usize>,
    pub(super) data: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let (flags, rest) = octets.split_first().ok_or(Malformed("an EAP-TLS packet without flags"))?;
        let (length, data) = match rest.split_first_chunk::<4>() {
            Some((length, data)) if flags & LENGTH != 0 => (Some(u32::from_be_bytes(*length) as usize), data),
            None if flags & LENGTH != 0 => return Err(Malformed("an EAP-TLS packet without its length")),
            _ => (None, rest),
        };
        Ok(Self { is_start: flags & START != 0, has_more: flags & MORE != 0, length, data })
    }
}

/// A flight that comes.
#[derive(Default)]
pub(super) struct Incoming {
    octets: Vec<u8>,
    length: Option<usize>,
}

impl Incoming {
    /// The flight, if it is whole now. What a length announces is not believed, only compared.
    pub(super) fn add(&mut self, frame: &Frame) -> Result<Option<Vec<u8>>, Malformed> {
        self.length = self.length.or(frame.length);
        if self.length.unwrap_or(0).max(self.octets.len() + frame.data.len()) > MAX_FLIGHT {
            return Err(Malformed("a flight of TLS that is too long"));
        }
        if frame.has_more && frame.data.is_empty() {
            return Err(Malformed("an empty fragment that others are to follow"));
        }
        self.octets.extend_from_slice(frame.data);
        if frame.has_more {
            return Ok(None);
        }
        let Self { octets, length } = std::mem::take(self);
        match length {
            Some(length) if length != octets.len() => {
                Err(Malformed("a flight of another length than it says"))
            }
            _ => Ok(Some(octets)),
        }
    }

    /// Whether a flight has begun.
    pub(super) fn is_under_way(&self) -> bool {
        !self.octets.is_empty()
    }
}

/// A flight that goes.
#[derive(Default)]
pub(super) struct Outgoing {
    octets: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub(super) fn begin(octets: Vec<u8>) -> Self {
        Self { octets, sent: 0 }
    }

    /// Whether there is more of it.
    pub(super) fn has_more(&self) -> bool {
        self.sent < self.octets.len()
    }

    /// The next fragment; the first of several tells the length of all.
    pub(super) fn next(&mut self) -> Vec<u8> {
        let end = self.octets.len().min(self.sent + FRAGMENT);
        let has_more = end < self.octets.len();
        let tells_length = has_more && self.sent == 0;
        let mut packet = vec![if has_more { MORE } else { 0 } | if tells_length { LENGTH } else { 0 }];
        if tells_length {
            packet.extend_from_slice(&(self.octets.len() as u32).to_be_bytes());
        }
        packet.extend_from_slice(&self.octets[self.sent..end]);
        self.sent = end;
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flights_of_every_length_come_whole() {
        for length in [1, 999, 1000, 1001, 2000, 2001, MAX_FLIGHT] {
            let octets: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let (mut outgoing, mut incoming) = (Outgoing::begin(octets.clone()), Incoming::default());
            let mut whole = None;
            while outgoing.has_more() {
                assert!(whole.is_none());
                let packet = outgoing.next();
                assert!(packet.len() <= FRAGMENT + 5);
                whole = incoming.add(&Frame::parse(&packet).unwrap()).unwrap();
            }
            assert_eq!(whole, Some(octets));
        }
    }

    #[test]
    fn what_does_not_end_or_lies_is_refused() {
        let mut incoming = Incoming::default();
        let announced = [&[LENGTH | MORE][..], &u32::MAX.to_be_bytes(), b"x"].concat();
        assert!(incoming.add(&Frame::parse(&announced).unwrap()).is_err());
        let mut incoming = Incoming::default();
        let fragment = [&[MORE][..], &[7; 4000]].concat();
        let taken = (0..20).take_while(|_| incoming.add(&Frame::parse(&fragment).unwrap()).is_ok()).count();
        assert_eq!(taken, MAX_FLIGHT / 4000);
        let wrong = [&[LENGTH][..], &9_u32.to_be_bytes(), b"x"].concat();
        assert!(Incoming::default().add(&Frame::parse(&wrong).unwrap()).is_err());
        assert!(Incoming::default().add(&Frame::parse(&[MORE]).unwrap()).is_err());
        assert!(Frame::parse(&[]).is_err() && Frame::parse(&[LENGTH, 0, 0, 0]).is_err());
    }
}
