//! UDP (RFC 768), as far as a gateway looks at it: ports, and the payload of UDP-encapsulated ESP (RFC 3948).

use super::ipv4::UDP;
use super::{Malformed, be16, checksum};

/// Octets of the header.
pub const HEADER: usize = 8;
/// The port of IKE behind a NAT and of UDP-encapsulated ESP (RFC 3948).
pub const NAT_TRAVERSAL: u16 = 4500;

/// A checked datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHeader<'b> {
    /// Sender's port.
    pub source: u16,
    /// Receiver's port.
    pub destination: u16,
    /// What it carries.
    pub payload: &'b [u8],
}

impl<'b> UdpHeader<'b> {
    /// Checks the lengths of the datagram that fills `bytes` (an IP payload).
    ///
    /// # Errors
    /// [`Malformed::Truncated`] and [`Malformed::UdpLength`].
    pub fn parse(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let (header, length) = Self::parse_ports(bytes)?;
        let payload = bytes.get(HEADER..length).ok_or(Malformed::UdpLength)?;
        Ok(Self { payload, ..header })
    }

    /// As [`parse`](Self::parse), for a datagram of which only the beginning is there, as in a first fragment.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but the payload may be missing.
    pub fn parse_cut(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let (header, length) = Self::parse_ports(bytes)?;
        let payload = bytes.get(HEADER..length.min(bytes.len())).ok_or(Malformed::UdpLength)?;
        Ok(Self { payload, ..header })
    }

    /// The header, and the length that it states.
    #[inline]
    fn parse_ports(bytes: &'b [u8]) -> Result<(Self, usize), Malformed> {
        let source = be16(bytes, 0)?;
        let destination = be16(bytes, 2)?;
        let length = usize::from(be16(bytes, 4)?);
        if bytes.len() < HEADER {
            return Err(Malformed::Truncated);
        }
        Ok((Self { source, destination, payload: &[] }, length))
    }
}

/// The payload of a NAT keep-alive (RFC 3948 section 2.3).
pub const KEEP_ALIVE: u8 = 0xff;

/// What a datagram on the NAT traversal port carries (RFC 3948 sections 2.1 to 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatTraversal<'b> {
    /// Nothing: it keeps a NAT's mapping alive.
    KeepAlive,
    /// IKE, from its header on; the non-ESP marker is left out.
    Ike(&'b [u8]),
    /// ESP, from the SPI on.
    Esp(&'b [u8]),
}

impl<'b> NatTraversal<'b> {
    /// Tells them apart. The datagram's checksum is not checked: what matters has its own integrity check (RFC 3948
    /// section 2.1 wants it not to be relied upon, RFC 6935 lets it be zero in IPv6).
    ///
    /// # Errors
    /// [`Malformed::Truncated`] for what is too short to be any of them.
    #[inline]
    pub fn parse(payload: &'b [u8]) -> Result<Self, Malformed> {
        match payload {
            [KEEP_ALIVE] => Ok(Self::KeepAlive),
            [0, 0, 0, 0, ike @ ..] => Ok(Self::Ike(ike)),
            _ if payload.len() >= super::esp::HEADER => Ok(Self::Esp(payload)),
            _ => Err(Malformed::Truncated),
        }
    }
}

/// Writes the header of UDP-encapsulated ESP at the start of `datagram`, which the (sealed) ESP packet behind it fills.
/// `None` if there is no room, or too much behind.
///
/// The checksum is zero in IPv4 (RFC 3948 section 2.1). In IPv6, between the addresses that are given as numbers, it is
/// computed: RFC 6935 would let a tunnel leave it out, but only between ends that agreed on it, and Linux takes no
/// UDP-encapsulated ESP in IPv6 without.
#[inline(always)]
pub fn emit(
    datagram: &mut [u8],
    (source, destination): (u16, u16),
    ipv6_addresses: Option<(u128, u128)>,
) -> Option<()> {
    let length = u16::try_from(datagram.len()).ok()?;
    let words = [source, destination, length, 0];
    let header = words.iter().fold(0, |header, word| header << 16 | u64::from(*word));
    *datagram.first_chunk_mut()? = header.to_be_bytes();
    if let Some(addresses) = ipv6_addresses {
        put_checksum(datagram, addresses);
    }
    Some(())
}

fn put_checksum(datagram: &mut [u8], (source, destination): (u128, u128)) {
    let pseudo_header = checksum::pseudo_header(source, destination, UDP, datagram.len());
    let sum = transmitted(!checksum::fold(pseudo_header + u64::from(checksum::sum(datagram))));
    if let Some(field) = datagram.get_mut(6..HEADER) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// A computed checksum of zero goes as its other form: zero says that there is none (RFC 768).
#[inline]
pub(super) fn transmitted(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_refuses() {
        let bytes = [0x11, 0x94, 0x11, 0x94, 0, 9, 0, 0, 0xff];
        let header = UdpHeader::parse(&bytes).unwrap();
        assert_eq!((header.source, header.payload), (NAT_TRAVERSAL, &[0xff][..]));
        assert_eq!(UdpHeader::parse(&bytes[..8]), Err(Malformed::UdpLength));
        assert_eq!(UdpHeader::parse(&bytes[..7]), Err(Malformed::Truncated));
        assert_eq!(UdpHeader::parse(&[0, 0, 0, 0, 0, 7, 0, 0]), Err(Malformed::UdpLength));
    }

    #[test]
    fn a_beginning_is_parsed_as_far_as_it_goes() {
        let bytes = [0x11, 0x94, 0x11, 0x94, 0, 11, 0, 0, 1, 2, 3, 4];
        let payload = |length| UdpHeader::parse_cut(&bytes[..length]).map(|header| header.payload);
        assert_eq!(payload(12), Ok(&[1, 2, 3][..]));
        assert_eq!(payload(10), Ok(&[1, 2][..]));
        assert_eq!(payload(8), Ok(&[][..]));
        assert_eq!(payload(7), Err(Malformed::Truncated));
        assert_eq!(UdpHeader::parse_cut(&[0, 0, 0, 0, 0, 7, 0, 0]), Err(Malformed::UdpLength));
    }
}
