//! Either IP family as one header: what a gateway needs to know of a packet, its options or extension headers
//! walked, and the changes that a router makes in place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ipv4::{self, Ipv4Header};
use super::ipv6::{self, Ipv6Header};
use super::transport::{self, Flow};
use super::{Malformed, checksum};

/// Which part of a packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// Its beginning.
    First,
    /// A part without the upper-layer header.
    Later,
}

/// Where transport mode puts ESP (RFC 4303 section 3.1.1), in octets from the packet's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insertion {
    /// Behind the IPv4 header with its options; behind IPv6's hop-by-hop, routing and fragment headers, and in
    /// front of the destination options that follow them.
    pub offset: usize,
    /// Which octet names what stands at `offset`.
    pub next_header_at: usize,
}

/// A checked header of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// An IPv4 address stands in the lowest 32 bits, as in [`Flow`].
    source: u128,
    destination: u128,
    is_ipv6: bool,
    /// Octets in front of what `protocol` names: the IPv4 header with options, the IPv6 header with the extension
    /// headers that were walked.
    pub header_length: usize,
    /// Octets of the packet; at most the octets that were there.
    pub total_length: usize,
    /// DSCP (upper six bits) and ECN (lower two).
    pub traffic_class: u8,
    /// IPv4's time to live, IPv6's hop limit.
    pub hop_limit: u8,
    /// The upper-layer protocol; of a later fragment, what the fragment header says that the packet begins with.
    pub protocol: u8,
    /// Which octet holds `protocol`, counted from the packet's first.
    pub protocol_at: usize,
    /// Which part of a packet it is.
    pub fragment: Fragment,
    /// Whether routers may not fragment it: IPv4's DF; always so in IPv6 (RFC 8200 section 4.5).
    pub dont_fragment: bool,
    /// IPv4's identification.
    pub identification: u16,
    /// Where ESP goes in transport mode.
    pub insertion: Insertion,
}

impl From<Ipv4Header> for IpHeader {
    #[inline(always)]
    fn from(header: Ipv4Header) -> Self {
        Self {
            source: header.source.to_bits().into(),
            destination: header.destination.to_bits().into(),
            is_ipv6: false,
            header_length: header.header_length,
            total_length: header.total_length,
            traffic_class: header.traffic_class,
            hop_limit: header.ttl,
            protocol: header.protocol,
            protocol_at: ipv4::PROTOCOL_AT,
            fragment: header.fragment(),
            dont_fragment: header.dont_fragment(),
            identification: header.identification,
            insertion: Insertion { offset: header.header_length, next_header_at: ipv4::PROTOCOL_AT },
        }
    }
}

impl IpHeader {
    /// Checks the packet at the start of `bytes`, which may be longer than the packet (Ethernet pads): the header
    /// with its lengths, IPv4's options and checksum, IPv6's extension headers.
    ///
    /// # Errors
    /// Any [`Malformed`] but the VLAN and UDP ones.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first().ok_or(Malformed::Truncated)? >> 4 {
            4 => Ipv4Header::parse(bytes).map(Self::from),
            6 => Self::parse_ipv6(bytes),
            _ => Err(Malformed::Version),
        }
    }

    #[inline(always)]
    fn parse_ipv6(bytes: &[u8]) -> Result<Self, Malformed> {
        let base = Ipv6Header::parse(bytes)?;
        let total_length = ipv6::HEADER + base.payload_length;
        Self::with_chain(&base, &bytes[..total_length])
    }

    /// `packet` is cut at its end.
    #[inline(always)]
    fn with_chain(base: &Ipv6Header, packet: &[u8]) -> Result<Self, Malformed> {
        let chain = ipv6::walk(packet, base.next_header)?;
        Ok(Self {
            source: base.source.to_bits(),
            destination: base.destination.to_bits(),
            is_ipv6: true,
            header_length: chain.end,
            total_length: ipv6::HEADER + base.payload_length,
            traffic_class: base.traffic_class,
            hop_limit: base.hop_limit,
            protocol: chain.protocol,
            protocol_at: chain.protocol_at,
            fragment: chain.fragment,
            dont_fragment: true,
            identification: 0,
            insertion: chain.insertion,
        })
    }

    /// The header of a packet that is quoted in an ICMP error: `total_length` is what the header says, whatever is
    /// left of the packet, and an IPv4 checksum is not checked, as not every router keeps it right.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_quoted(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first().ok_or(Malformed::Truncated)? >> 4 {
            4 => Ipv4Header::parse_quoted(bytes).map(Self::from),
            6 => Self::with_chain(&Ipv6Header::parse_quoted(bytes)?, bytes),
            _ => Err(Malformed::Version),
        }
    }

    /// Whether this is IPv6.
    #[inline]
    pub const fn is_ipv6(&self) -> bool {
        self.is_ipv6
    }

    /// From whom.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.address(self.source)
    }

    /// To whom; in front of a routing header, the next hop that it names.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.address(self.destination)
    }

    /// Both addresses as numbers, IPv4's in the lowest 32 bits: from whom, to whom.
    #[inline]
    pub const fn address_bits(&self) -> (u128, u128) {
        (self.source, self.destination)
    }

    #[inline]
    fn address(&self, bits: u128) -> IpAddr {
        if self.is_ipv6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
    }

    /// Whether these are its two addresses.
    #[inline]
    pub fn is_between(&self, source: IpAddr, destination: IpAddr) -> bool {
        self.is_ipv6 == source.is_ipv6()
            && self.is_ipv6 == destination.is_ipv6()
            && self.source == transport::bits(source)
            && self.destination == transport::bits(destination)
    }

    /// ESP's next header for this packet in tunnel mode (RFC 4303 section 2.6).
    #[inline]
    pub const fn tunnelled_as(&self) -> u8 {
        if self.is_ipv6 { ipv6::IPV6_IN_IP } else { ipv4::IPIP }
    }

    /// Whether this is a part of a packet.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment != Fragment::Whole
    }

    /// The upper-layer header and what follows it, in the packet that this header was parsed from.
    #[inline]
    pub fn payload<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        packet.get(self.header_length..self.total_length).unwrap_or_default()
    }

    /// As [`payload`](Self::payload), to change it.
    #[inline]
    pub fn payload_mut<'p>(&self, packet: &'p mut [u8]) -> &'p mut [u8] {
        packet.get_mut(self.header_length..self.total_length).unwrap_or_default()
    }

    /// What policies and selectors compare, from the packet that this header was parsed from.
    #[inline(always)]
    pub fn flow(&self, packet: &[u8]) -> Flow {
        let ports = match self.fragment {
            Fragment::Later => None,
            Fragment::Whole | Fragment::First => transport::ports(self.protocol, self.payload(packet)),
        };
        Flow::from_bits(self.is_ipv6, self.source, self.destination, self.protocol, ports)
    }

    /// The sum of the pseudo-header (RFC 8200 section 8.1, RFC 9293 section 3.1) in front of `length` octets of
    /// `protocol`, to be folded.
    #[inline]
    pub fn pseudo_header(&self, protocol: u8, length: usize) -> u64 {
        checksum::pseudo_header(self.source, self.destination, protocol, length)
    }

    /// Whether a router may pass the packet on: not if an address is unspecified, loopback or of one link only, or
    /// the source is not one host (RFC 1812 section 5.3.7, RFC 3927 section 7, RFC 4291 section 2.5.6).
    #[inline]
    pub fn is_forwardable(&self) -> bool {
        if self.is_ipv6 {
            ipv6::is_forwardable(self.source, self.destination)
        } else {
            ipv4::is_forwardable(self.source as u32, self.destination as u32)
        }
    }
}

/// Whether a packet from here could be one that a router forwards: neither of one link alone, nor a group.
pub fn is_unicast_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => ipv4::is_forwardable(v4.to_bits(), v4.to_bits()) && v4.octets()[0] < 240,
        IpAddr::V6(v6) => ipv6::is_forwardable(v6.to_bits(), v6.to_bits()),
    }
}

/// Decrements TTL or hop limit in place as a forwarding router does. The caller has parsed the header and knows
/// that the value is above 1.
#[inline]
pub fn decrement_hop_limit(packet: &mut [u8]) {
    match packet.first().map(|octet| octet >> 4) {
        Some(4) => ipv4::decrement_ttl(packet),
        Some(6) => ipv6::decrement_hop_limit(packet),
        _ => {}
    }
}

/// Replaces DSCP and ECN in place. The caller has parsed the header.
#[inline]
pub fn set_traffic_class(packet: &mut [u8], class: u8) {
    match packet.first().map(|octet| octet >> 4) {
        Some(4) => ipv4::set_traffic_class(packet, class),
        Some(6) => ipv6::set_traffic_class(packet, class),
        _ => {}
    }
}

/// Replaces the packet's length, header included, and the octet at `next_header_at` (of an [`Insertion`], or
/// [`IpHeader::protocol_at`]) in place. Returns what that octet was, or `None`, with nothing changed, if the length
/// does not fit its field or the packet is not one that was parsed.
#[inline]
pub fn set_length_and_protocol(
    packet: &mut [u8],
    total_length: usize,
    next_header_at: usize,
    protocol: u8,
) -> Option<u8> {
    match packet.first()? >> 4 {
        4 => ipv4::set_length_and_protocol(packet, u16::try_from(total_length).ok()?, protocol),
        6 => ipv6::set_length_and_next_header(packet, total_length, next_header_at, protocol),
        _ => None,
    }
}
