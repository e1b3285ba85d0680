//! ICMP errors about our own ESP packets, as routers on the way to the peer send them.
//!
//! Nobody signs them, so whoever can guess an SPI can send one. What is checked here: that the message is whole, and that
//! it quotes an ESP packet. What the caller must check: that the packet that is quoted is one that an SA of ours sends
//! (addresses, SPI, ports), with a sequence number that it has sent lately (RFC 4301 section 8.2.1, RFC 5927).

use std::net::IpAddr;

use super::esp::EspHeader;
use super::ip::{Fragment, IpHeader};
use super::ipv4::{self, ESP, UDP};
use super::udp::{self, NatTraversal};
use super::{Malformed, be16, be32, checksum, icmp, ipv6};

/// The lowest path MTU in octets that is taken from an error about IPv4. RFC 1191 section 3 has 68, RFC 791's
/// smallest; but 576 is what every host can receive (RFC 791), no link of today has less, and a forged 68
/// would leave an ESP tunnel no room for any packet.
pub const LEAST_IPV4: u16 = 576;
/// The same for IPv6: what every link has (RFC 8200 section 5).
pub const LEAST_IPV6: u16 = 1280;

/// Path MTUs that occur, to be tried when an old router does not say which it is (RFC 1191 section 7.1); those below
/// [`LEAST_IPV4`] are left out.
const PLATEAUS: [u16; 8] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006];

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotedError {
    /// The packet was too big for a link.
    TooBig {
        /// Octets of the largest packet that passes, at least [`LEAST_IPV4`] or [`LEAST_IPV6`].
        mtu: u16,
    },
    /// It did not arrive for another reason.
    Undelivered {
        /// ICMP or ICMPv6 type.
        kind: u8,
        /// ICMP or ICMPv6 code.
        code: u8,
    },
}

/// An error about an ESP packet, and what it quotes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedEsp {
    /// What happened to it.
    pub error: QuotedError,
    /// Its outer source address: ours, unless a NAT is in between.
    pub source: IpAddr,
    /// Its outer destination address: the peer's.
    pub destination: IpAddr,
    /// Its SPI and sequence number.
    pub esp: EspHeader,
    /// Source and destination port if it was in UDP.
    pub ports: Option<(u16, u16)>,
}

impl QuotedEsp {
    /// Reads the error in `packet`, which `header` was parsed from. `Ok(None)` if it is not an ICMP error about an ESP
    /// packet, or is a Packet Too Big that RFC 8201 section 4 tells to ignore (below IPv6's smallest MTU, or not below
    /// the packet's own length).
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::Checksum`], and those of the quoted header.
    pub fn parse(packet: &[u8], header: &IpHeader) -> Result<Option<Self>, Malformed> {
        let expected = if header.is_ipv6() { ipv6::ICMP } else { ipv4::ICMP };
        let message = header.payload(packet);
        if header.protocol != expected || header.fragment != Fragment::Whole || !is_error(header, message) {
            return Ok(None);
        }
        check_sum(header, message)?;
        let quote = message.get(icmp::ERROR_HEADER..).ok_or(Malformed::Truncated)?;
        let about = IpHeader::parse_quoted(quote)?;
        if about.is_ipv6() != header.is_ipv6() {
            return Err(Malformed::Version);
        }
        let Some((esp, ports)) = quoted_esp(quote, &about)? else { return Ok(None) };
        let error = read_error(header.is_ipv6(), message, about.total_length)?;
        let (source, destination) = (about.source(), about.destination());
        Ok(error.map(|error| Self { error, source, destination, esp, ports }))
    }
}

/// Destination unreachable, time exceeded, parameter problem; in IPv6 also packet too big.
fn is_error(header: &IpHeader, message: &[u8]) -> bool {
    match message.first() {
        Some(kind) if header.is_ipv6() => (1..=4).contains(kind),
        Some(kind) => matches!(kind, 3 | 11 | 12),
        None => false,
    }
}

fn check_sum(header: &IpHeader, message: &[u8]) -> Result<(), Malformed> {
    let pseudo_header = if header.is_ipv6() { header.pseudo_header(ipv6::ICMP, message.len()) } else { 0 };
    let sum = checksum::fold(pseudo_header + u64::from(checksum::sum(message)));
    if sum == 0xffff { Ok(()) } else { Err(Malformed::Checksum) }
}

type Quoted = (EspHeader, Option<(u16, u16)>);

/// What is left of the ESP packet behind `about`. RFC 792's eight octets suffice for ESP itself, not for ESP in UDP.
fn quoted_esp(quote: &[u8], about: &IpHeader) -> Result<Option<Quoted>, Malformed> {
    let payload = quote.get(about.header_length..).ok_or(Malformed::Truncated)?;
    match (about.fragment, about.protocol) {
        (Fragment::Later, _) => Ok(None),
        (_, ESP) => Ok(Some((EspHeader::parse(payload)?, None))),
        (_, UDP) => {
            let ports = (be16(payload, 0)?, be16(payload, 2)?);
            match NatTraversal::parse(payload.get(udp::HEADER..).ok_or(Malformed::Truncated)?)? {
                NatTraversal::Esp(esp) => Ok(Some((EspHeader::parse(esp)?, Some(ports)))),
                NatTraversal::Ike(_) | NatTraversal::KeepAlive => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

fn read_error(is_ipv6: bool, message: &[u8], quoted: usize) -> Result<Option<QuotedError>, Malformed> {
    let [kind, code] = be16(message, 0)?.to_be_bytes();
    let mtu = match (is_ipv6, kind, code) {
        (false, 3, 4) => Some(ipv4_mtu(be16(message, 6)?, quoted)),
        (true, 2, _) => ipv6_mtu(be32(message, 4)?),
        _ => return Ok(Some(QuotedError::Undelivered { kind, code })),
    };
    Ok(mtu.filter(|mtu| usize::from(*mtu) < quoted).map(|mtu| QuotedError::TooBig { mtu }))
}

/// 0 comes from routers older than RFC 1191: its section 5 then takes the next plateau below the packet's own length.
fn ipv4_mtu(next_hop: u16, quoted: usize) -> u16 {
    let plateau = || PLATEAUS.iter().copied().find(|plateau| usize::from(*plateau) < quoted);
    let mtu = if next_hop == 0 { plateau().unwrap_or(LEAST_IPV4) } else { next_hop };
    mtu.max(LEAST_IPV4)
}

/// Larger ones than an IP packet say nothing.
fn ipv6_mtu(mtu: u32) -> Option<u16> {
    u16::try_from(mtu).ok().filter(|mtu| *mtu >= LEAST_IPV6)
}
