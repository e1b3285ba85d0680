//! IPv4 (RFC 791): checked parse of header and options, and the changes that a router makes in place.

use std::net::Ipv4Addr;

use super::ip::Fragment;
use super::{Malformed, be16, checksum, octets};

/// Octets of a header without options.
pub const HEADER: usize = 20;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IPv4 in IPv4, and ESP's next header for it.
pub const IPIP: u8 = 4;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ESP.
pub const ESP: u8 = 50;

/// Offset of the protocol number.
pub const PROTOCOL_AT: usize = 9;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Octets of the header, options included: 20..=60.
    pub header_length: usize,
    /// Octets of the packet, header included; at most the octets that were there.
    pub total_length: usize,
    /// DSCP (upper six bits) and ECN (lower two).
    pub traffic_class: u8,
    /// The identification field.
    pub identification: u16,
    /// Flags and fragment offset as on the wire.
    pub flags_and_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
}

impl Ipv4Header {
    /// Checks version, lengths, options and checksum of the packet at the start of `bytes`, which may be
    /// longer than the packet (Ethernet pads).
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::Version`], [`Malformed::HeaderLength`], [`Malformed::Options`] and
    /// [`Malformed::Checksum`].
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse_fields(bytes)?;
        if bytes.len() < header.total_length {
            return Err(Malformed::Truncated);
        }
        let octets = &bytes[..header.header_length];
        if header.header_length > HEADER {
            walk_options(&octets[HEADER..])?;
        }
        if checksum::sum(octets) == 0xffff { Ok(header) } else { Err(Malformed::Checksum) }
    }

    /// The header of a packet of which only the beginning is there, as an ICMP error quotes it. Neither options nor
    /// checksum are checked: who quotes may have changed them.
    ///
    /// # Errors
    /// [`Malformed::Version`], [`Malformed::HeaderLength`] and [`Malformed::Truncated`].
    pub fn parse_quoted(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse_fields(bytes)?;
        if bytes.len() < header.header_length { Err(Malformed::Truncated) } else { Ok(header) }
    }

    #[inline(always)]
    fn parse_fields(bytes: &[u8]) -> Result<Self, Malformed> {
        let fixed: [u8; HEADER] = octets(bytes, 0)?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        if fixed[0] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let header_length = usize::from(fixed[0] & 15) * 4;
        let total_length = usize::from(word(2));
        if header_length < HEADER || total_length < header_length {
            return Err(Malformed::HeaderLength);
        }
        Ok(Self {
            header_length,
            total_length,
            traffic_class: fixed[1],
            identification: word(4),
            flags_and_offset: word(6),
            ttl: fixed[8],
            protocol: fixed[9],
            source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
        })
    }

    /// Whether the sender forbids fragmentation.
    pub const fn dont_fragment(&self) -> bool {
        self.flags_and_offset & DONT_FRAGMENT != 0
    }

    /// Which part of a packet it is.
    #[inline]
    pub const fn fragment(&self) -> Fragment {
        match (self.flags_and_offset & OFFSET, self.flags_and_offset & MORE_FRAGMENTS) {
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        }
    }
}

/// Loose and strict source route: they lead a packet elsewhere than the selectors saw, as the routing header that
/// [`ipv6::walk`](super::ipv6::walk) refuses (RFC 7126 sections 4.3 and 4.4: drop by default).
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// Walks the options: end of list ends it, no-operation is one octet, any other has a length of at least two
/// that stays within the header (RFC 791 section 3.1) and is no source route.
fn walk_options(mut options: &[u8]) -> Result<(), Malformed> {
    while let [kind, rest @ ..] = options {
        options = match kind {
            0 => return Ok(()),
            1 => rest,
            _ => {
                let length = usize::from(*rest.first().ok_or(Malformed::Options)?);
                let next = options.get(length..).ok_or(Malformed::Options)?;
                if length < 2 || SOURCE_ROUTES.contains(kind) {
                    return Err(Malformed::Options);
                }
                next
            }
        };
    }
    Ok(())
}

/// Decrements the TTL in place as a forwarding router does and keeps the checksum right. The caller has parsed
/// the header and knows that the TTL is above 1.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) {
    if let (Ok(old), Ok(sum)) = (be16(packet, 8), be16(packet, 10)) {
        let new = old.wrapping_sub(0x0100);
        put16(packet, 8, new);
        put16(packet, 10, checksum::update(sum, old, new));
    }
}

/// Replaces the traffic class in place and keeps the checksum right.
#[inline]
pub fn set_traffic_class(packet: &mut [u8], class: u8) {
    if let (Ok(old), Ok(sum)) = (be16(packet, 0), be16(packet, 10)) {
        let new = old & 0xff00 | u16::from(class);
        put16(packet, 0, new);
        put16(packet, 10, checksum::update(sum, old, new));
    }
}

/// See [`ip::set_length_and_protocol`](super::ip::set_length_and_protocol).
pub(super) fn set_length_and_protocol(packet: &mut [u8], total_length: u16, protocol: u8) -> Option<u8> {
    let (old_length, lifetime, sum) = (be16(packet, 2).ok()?, be16(packet, 8).ok()?, be16(packet, 10).ok()?);
    let new_lifetime = lifetime & 0xff00 | u16::from(protocol);
    put16(packet, 2, total_length);
    put16(packet, 8, new_lifetime);
    put16(
        packet,
        10,
        checksum::update(checksum::update(sum, old_length, total_length), lifetime, new_lifetime),
    );
    Some(lifetime as u8)
}

/// See [`IpHeader::is_forwardable`](super::ip::IpHeader::is_forwardable).
#[inline]
pub(super) fn is_forwardable(source: u32, destination: u32) -> bool {
    let (source, destination) = (Ipv4Addr::from_bits(source), Ipv4Addr::from_bits(destination));
    // "This network", as a whole block (RFC 1122 section 3.2.1.3).
    let one_link =
        |a: &Ipv4Addr| a.octets()[0] == 0 || a.is_loopback() || a.is_link_local() || a.is_broadcast();
    // The local network control block (RFC 5771 section 4).
    let near_group = destination.octets()[..3] == [224, 0, 0];
    !one_link(&source) && !source.is_multicast() && !one_link(&destination) && !near_group
}

#[inline]
fn put16(packet: &mut [u8], offset: usize, value: u16) {
    if let Some(field) = packet.get_mut(offset..offset + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// The parts of an emitted header that stay the same for all packets of one SA (or of one ICMP sender), with
/// their checksum already summed.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Template {
    octets: [u8; HEADER],
    partial: u64,
}

/// The parts that differ from packet to packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ipv4Fields {
    /// Octets of the packet, header included.
    pub total_length: u16,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The identification field.
    pub identification: u16,
    /// The DF bit.
    pub dont_fragment: bool,
}

impl Ipv4Template {
    /// A header without options.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, ttl: u8) -> Self {
        let mut octets = [0; HEADER];
        octets[0] = 0x45;
        octets[8] = ttl;
        octets[9] = protocol;
        octets[12..16].copy_from_slice(&source.octets());
        octets[16..].copy_from_slice(&destination.octets());
        Self { octets, partial: u64::from(checksum::sum(&octets)) }
    }

    /// The finished header.
    #[inline(always)]
    pub fn emit(&self, fields: Ipv4Fields) -> [u8; HEADER] {
        let fragment = if fields.dont_fragment { DONT_FRAGMENT } else { 0 };
        let total = self.partial
            + u64::from(fields.traffic_class)
            + u64::from(fields.total_length)
            + u64::from(fields.identification)
            + u64::from(fragment);
        let mut octets = self.octets;
        octets[1] = fields.traffic_class;
        octets[2..4].copy_from_slice(&fields.total_length.to_be_bytes());
        octets[4..6].copy_from_slice(&fields.identification.to_be_bytes());
        octets[6..8].copy_from_slice(&fragment.to_be_bytes());
        octets[10..12].copy_from_slice(&(!checksum::fold(total)).to_be_bytes());
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(fields: Ipv4Fields) -> Vec<u8> {
        let template = Ipv4Template::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), UDP, 64);
        let mut packet = template.emit(fields).to_vec();
        packet.resize(usize::from(fields.total_length), 0);
        packet
    }

    fn with_options(options: &[u8]) -> Result<Ipv4Header, Malformed> {
        let mut bytes = packet(Ipv4Fields { total_length: 20, ..Default::default() });
        bytes.extend(options);
        bytes[0] = 0x45 + (options.len() / 4) as u8;
        bytes[3] = bytes.len() as u8;
        bytes[10..12].fill(0);
        let sum = checksum::checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        Ipv4Header::parse(&bytes)
    }

    #[test]
    fn options_are_walked() {
        assert!(with_options(&[1, 1, 7, 5, 0, 0, 0, 0]).is_ok());
        assert!(with_options(&[0, 255, 255, 255]).is_ok());
        assert_eq!(with_options(&[7, 5, 0, 0]), Err(Malformed::Options));
        assert_eq!(with_options(&[7, 1, 0, 0]), Err(Malformed::Options));
        assert_eq!(with_options(&[1, 1, 1, 7]), Err(Malformed::Options));
        assert_eq!(with_options(&[131, 3, 4, 0]), Err(Malformed::Options));
        assert_eq!(with_options(&[1, 137, 3, 4]), Err(Malformed::Options));
    }

    #[test]
    fn lengths_are_checked() {
        let good = packet(Ipv4Fields { total_length: 40, ..Default::default() });
        assert!(Ipv4Header::parse(&good).is_ok());
        assert_eq!(Ipv4Header::parse(&good[..39]), Err(Malformed::Truncated));
        assert_eq!(Ipv4Header::parse(&good[..19]), Err(Malformed::Truncated));
        let mut short = good.clone();
        short[0] = 0x44;
        assert_eq!(Ipv4Header::parse(&short), Err(Malformed::HeaderLength));
        short[0] = 0x65;
        assert_eq!(Ipv4Header::parse(&short), Err(Malformed::Version));
        let mut damaged = good;
        damaged[8] ^= 1;
        assert_eq!(Ipv4Header::parse(&damaged), Err(Malformed::Checksum));
    }

    proptest! {
        #[test]
        fn changes_keep_the_checksum(total_length in 20_u16..2000, class: u8, identification: u16, dont_fragment: bool, new: u8) {
            let fields = Ipv4Fields { total_length, traffic_class: class, identification, dont_fragment };
            let mut bytes = packet(fields);
            let before = Ipv4Header::parse(&bytes).unwrap();
            prop_assert_eq!((before.traffic_class, before.dont_fragment()), (class, dont_fragment));
            decrement_ttl(&mut bytes);
            set_traffic_class(&mut bytes, new);
            let after = Ipv4Header::parse(&bytes).unwrap();
            prop_assert_eq!((after.ttl, after.traffic_class), (63, new));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Ipv4Header::parse(&bytes);
        }
    }
}
