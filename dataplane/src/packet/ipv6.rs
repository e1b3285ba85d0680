//! IPv6's base header (RFC 8200 section 3).

use std::net::Ipv6Addr;

use super::{Malformed, be16, be32, octets};

/// Octets of the base header.
pub const HEADER: usize = 40;

/// A checked base header. Extension headers are not walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Octets behind the base header; at most the octets that were there.
    pub payload_length: usize,
    /// What follows the base header.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
}

impl Ipv6Header {
    /// Checks version and length of the packet at the start of `bytes`.
    ///
    /// # Errors
    /// [`Malformed::Version`] and [`Malformed::Truncated`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let first = be32(bytes, 0)?;
        if first >> 28 != 6 {
            return Err(Malformed::Version);
        }
        let payload_length = usize::from(be16(bytes, 4)?);
        let [next_header, hop_limit] = octets(bytes, 6)?;
        let source = octets::<16>(bytes, 8)?.into();
        let destination = octets::<16>(bytes, 24)?.into();
        if bytes.len() < HEADER + payload_length {
            return Err(Malformed::Truncated);
        }
        let traffic_class = (first >> 20) as u8;
        Ok(Self { traffic_class, payload_length, next_header, hop_limit, source, destination })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_refuses() {
        let mut bytes = [0; 48];
        bytes[0] = 0x6a;
        bytes[1] = 0xb0;
        bytes[5] = 8;
        bytes[6] = 50;
        bytes[39] = 1;
        let header = Ipv6Header::parse(&bytes).unwrap();
        assert_eq!((header.traffic_class, header.next_header, header.payload_length), (0xab, 50, 8));
        assert_eq!(Ipv6Header::parse(&bytes[..47]), Err(Malformed::Truncated));
        bytes[0] = 0x45;
        assert_eq!(Ipv6Header::parse(&bytes), Err(Malformed::Version));
    }
}
