//! The headers of a tunnel: what the outer one gets at encapsulation, what the inner one keeps at decapsulation
//! (RFC 4301 sections 5.1.2.1 and 5.1.2.2, RFC 6040, RFC 3948). Inner and outer family mix freely.

use std::net::IpAddr;

use baton_sad::{DfPolicy, DscpPolicy, UdpEncapsulation};

use crate::drop_reason::DropReason;
use crate::packet::ip::{self, IpHeader};
use crate::packet::ipv4::{self, Ipv4Fields, Ipv4Template};
use crate::packet::ipv6::{self, Ipv6Template};
use crate::packet::{ecn, udp};

/// TTL or hop limit of the outer header: the gateway is its sender (RFC 4301 section 5.1.2.1).
const OUTER_HOP_LIMIT: u8 = 64;

/// How an SA's outer headers are made.
#[derive(Clone, Copy, Debug)]
pub struct OuterHeader {
    template: Template,
    /// Source and destination port.
    ports: Option<(u16, u16)>,
    dscp: DscpPolicy,
    df: DfPolicy,
}

#[derive(Clone, Copy, Debug)]
enum Template {
    V4(Ipv4Template),
    /// With both addresses as numbers, for the UDP checksum.
    V6(Ipv6Template, u128, u128),
}

/// What differs from packet to packet.
#[derive(Clone, Copy)]
struct Fields {
    traffic_class: u8,
    dont_fragment: bool,
    identification: u16,
}

impl OuterHeader {
    /// For an SA between these addresses of one family; with `encapsulation` in UDP. `None` if the families differ.
    pub fn new(
        source: IpAddr,
        destination: IpAddr,
        encapsulation: Option<UdpEncapsulation>,
        dscp: DscpPolicy,
        df: DfPolicy,
    ) -> Option<Self> {
        let protocol = if encapsulation.is_some() { ipv4::UDP } else { ipv4::ESP };
        let template = match (source, destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                Template::V4(Ipv4Template::new(from, to, protocol, OUTER_HOP_LIMIT))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let template = Ipv6Template::new(from, to, protocol, OUTER_HOP_LIMIT);
                Template::V6(template, from.to_bits(), to.to_bits())
            }
            _ => return None,
        };
        let ports = encapsulation.map(|udp| (udp.source_port, udp.destination_port));
        Some(Self { template, ports, dscp, df })
    }

    /// Octets of the headers in front of ESP.
    #[inline]
    pub const fn overhead(&self) -> usize {
        let udp = if self.ports.is_some() { udp::HEADER } else { 0 };
        match self.template {
            Template::V4(_) => ipv4::HEADER + udp,
            Template::V6(..) => ipv6::HEADER + udp,
        }
    }

    /// Writes the headers in front of the ESP packet at `esp` (an offset into `buffer`) of `length` octets, which is
    /// sealed: a checksum of UDP in IPv6 covers it. Returns the offset of the outer IP header.
    ///
    /// # Errors
    /// [`DropReason::Oversized`] when there is no room in front, or too much behind.
    #[inline(always)]
    pub fn emit_before(
        &self,
        buffer: &mut [u8],
        esp: usize,
        length: usize,
        inner: &IpHeader,
        identification: u16,
    ) -> Result<usize, DropReason> {
        let fields = Fields {
            traffic_class: self.traffic_class(inner.traffic_class),
            dont_fragment: self.dont_fragment(inner),
            identification,
        };
        self.emit(buffer, esp, length, fields).ok_or(DropReason::Oversized)
    }

    /// Writes a NAT keep-alive (RFC 3948 section 2.3) whose one octet of payload goes to `at`. Returns the offset of
    /// its IP header.
    ///
    /// # Errors
    /// [`DropReason::Oversized`] when there is no room around `at`.
    pub fn emit_keep_alive(&self, buffer: &mut [u8], at: usize) -> Result<usize, DropReason> {
        *buffer.get_mut(at).ok_or(DropReason::Oversized)? = udp::KEEP_ALIVE;
        let fields = Fields { traffic_class: 0, dont_fragment: false, identification: 0 };
        self.emit(buffer, at, 1, fields).ok_or(DropReason::Oversized)
    }

    #[inline(always)]
    fn emit(&self, buffer: &mut [u8], payload: usize, length: usize, fields: Fields) -> Option<usize> {
        let start = payload.checked_sub(self.overhead())?;
        let total_length = self.overhead().checked_add(length)?;
        let packet = buffer.get_mut(start..start.checked_add(total_length)?)?;
        match &self.template {
            Template::V4(template) => {
                let Fields { traffic_class, dont_fragment, identification } = fields;
                let total_length = u16::try_from(total_length).ok()?;
                let fields = Ipv4Fields { total_length, traffic_class, identification, dont_fragment };
                let (ip, rest) = packet.split_first_chunk_mut()?;
                *ip = template.emit(fields);
                self.emit_udp(rest, None)?;
            }
            Template::V6(template, source, destination) => {
                let (ip, rest) = packet.split_first_chunk_mut()?;
                let label = flow_label(rest.get(self.overhead() - ipv6::HEADER..)?);
                *ip = template.emit(u16::try_from(rest.len()).ok()?, fields.traffic_class, label);
                self.emit_udp(rest, Some((*source, *destination)))?;
            }
        }
        Some(start)
    }

    /// The UDP header at the start of `datagram`, if there is one.
    #[inline(always)]
    fn emit_udp(&self, datagram: &mut [u8], ipv6_addresses: Option<(u128, u128)>) -> Option<()> {
        match self.ports {
            None => Some(()),
            Some(ports) => udp::emit(datagram, ports, ipv6_addresses),
        }
    }

    /// ECN is copied whatever the DSCP does (RFC 6040 section 4.1).
    #[inline]
    fn traffic_class(&self, inner: u8) -> u8 {
        match self.dscp {
            DscpPolicy::Copy => inner,
            DscpPolicy::Set(dscp) => dscp << 2 | ecn::encapsulate(inner),
        }
    }

    /// RFC 4301 section 8.1. IPv6 inside counts as set: its sender relies on hearing of packets that are too big.
    #[inline]
    fn dont_fragment(&self, inner: &IpHeader) -> bool {
        match self.df {
            DfPolicy::Copy => inner.dont_fragment,
            DfPolicy::Set => true,
            DfPolicy::Clear => false,
        }
    }
}

/// The outer flow label, from the SPI alone: routers can spread SAs over paths (RFC 6438 section 3), but learn nothing of
/// the flows inside, whose labels are not copied (RFC 4301 section 5.1.2.2, note 8).
#[inline]
fn flow_label(esp: &[u8]) -> u32 {
    let spi = esp.first_chunk().map_or(0, |spi| u32::from_be_bytes(*spi));
    spi.wrapping_mul(0x9e37_79b1) >> 12
}

/// The inner ECN field after decapsulation, put in place. Returns whether the combination was unexpected.
///
/// # Errors
/// [`DropReason::EcnDrop`] (RFC 6040 section 4.2).
#[inline(always)]
pub fn combine_ecn(packet: &mut [u8], inner: u8, outer: u8) -> Result<bool, DropReason> {
    let (field, unexpected) = match ecn::decapsulate(inner, outer) {
        ecn::Decapsulated::Forward(field) => (field, false),
        ecn::Decapsulated::Unexpected(field) => (field, true),
        ecn::Decapsulated::Drop => return Err(DropReason::EcnDrop),
    };
    if field != inner & ecn::MASK {
        ip::set_traffic_class(packet, inner & !ecn::MASK | field);
    }
    Ok(unexpected)
}

#[cfg(test)]
mod tests;
