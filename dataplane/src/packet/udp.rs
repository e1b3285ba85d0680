//! UDP (RFC 768), as far as a gateway looks at it: ports, and the payload of UDP-encapsulated ESP (RFC 3948).

use super::{Malformed, be16};

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
        let source = be16(bytes, 0)?;
        let destination = be16(bytes, 2)?;
        let length = usize::from(be16(bytes, 4)?);
        if bytes.len() < HEADER {
            return Err(Malformed::Truncated);
        }
        let payload = bytes.get(HEADER..length).ok_or(Malformed::UdpLength)?;
        Ok(Self { source, destination, payload })
    }
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
}
