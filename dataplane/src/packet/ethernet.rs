//! Ethernet II with no, one (802.1Q) or two (802.1ad, QinQ) VLAN tags.

use super::{Malformed, be16, octets};
use crate::next_hop::{Link, Mac};

/// Octets of an untagged header.
pub const HEADER: usize = 14;
/// Octets of one VLAN tag.
pub const VLAN_TAG: usize = 4;

/// IPv4's EtherType.
pub const IPV4: u16 = 0x0800;
/// IPv6's EtherType.
pub const IPV6: u16 = 0x86dd;
/// 802.1Q's tag protocol identifier.
pub const VLAN: u16 = 0x8100;
/// 802.1ad's tag protocol identifier.
pub const QINQ: u16 = 0x88a8;

/// A parsed header; the payload begins [`length`](Self::length) octets into the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetHeader {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// The EtherType behind all tags.
    pub ethertype: u16,
    /// Octets of the header, tags included: 14, 18 or 22.
    pub length: usize,
}

impl EthernetHeader {
    /// Parses the header in front of `bytes`.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], and [`Malformed::Vlan`] for a third tag.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let destination = Mac(octets(bytes, 0)?);
        let source = Mac(octets(bytes, 6)?);
        let mut length = HEADER;
        let mut ethertype = be16(bytes, 12)?;
        while ethertype == VLAN || ethertype == QINQ {
            if length >= HEADER + 2 * VLAN_TAG {
                return Err(Malformed::Vlan);
            }
            ethertype = be16(bytes, length + 2)?;
            length += VLAN_TAG;
        }
        Ok(Self { destination, source, ethertype, length })
    }
}

/// Octets of the header that `link` asks for.
#[inline]
pub fn emitted_length(link: &Link) -> usize {
    if link.vlan.is_some() { HEADER + VLAN_TAG } else { HEADER }
}

/// Writes the header for `link` so that it ends where `payload` (an offset into `buffer`) begins. Returns the
/// offset of its first octet, or `None` when there is no room in front.
#[inline(always)]
pub fn emit_before(buffer: &mut [u8], payload: usize, link: &Link, ethertype: u16) -> Option<usize> {
    let start = payload.checked_sub(emitted_length(link))?;
    let header = buffer.get_mut(start..payload)?;
    let (addresses, rest) = header.split_at_mut(12);
    addresses[..6].copy_from_slice(&link.destination.0);
    addresses[6..].copy_from_slice(&link.source.0);
    let (tag, kind) = rest.split_at_mut(rest.len() - 2);
    if let (Some(vlan), [p0, p1, t0, t1]) = (link.vlan, tag) {
        [*p0, *p1] = VLAN.to_be_bytes();
        [*t0, *t1] = (vlan & 0x0fff).to_be_bytes();
    }
    kind.copy_from_slice(&ethertype.to_be_bytes());
    Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(vlan: Option<u16>) -> Link {
        Link { destination: Mac([2, 0, 0, 0, 0, 1]), source: Mac([2, 0, 0, 0, 0, 2]), vlan }
    }

    #[test]
    fn emits_what_it_parses() {
        for vlan in [None, Some(42)] {
            let mut buffer = [0; 32];
            let start = emit_before(&mut buffer, 24, &link(vlan), IPV4).unwrap();
            let header = EthernetHeader::parse(&buffer[start..]).unwrap();
            assert_eq!((header.destination, header.source), (link(vlan).destination, link(vlan).source));
            assert_eq!((header.ethertype, header.length), (IPV4, 24 - start));
        }
        assert_eq!(emit_before(&mut [0; 32], 13, &link(None), IPV4), None);
    }

    #[test]
    fn counts_tags() {
        let tags = |n: usize| {
            let mut bytes = vec![0; 12];
            for _ in 0..n {
                bytes.extend([0x81, 0, 0, 1]);
            }
            bytes.extend([8, 0]);
            bytes
        };
        assert_eq!(EthernetHeader::parse(&tags(2)).unwrap().length, 22);
        assert_eq!(EthernetHeader::parse(&tags(3)), Err(Malformed::Vlan));
        assert_eq!(EthernetHeader::parse(&tags(2)[..21]), Err(Malformed::Truncated));
    }
}
