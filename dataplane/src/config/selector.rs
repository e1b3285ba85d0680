//! Traffic selectors as swanctl writes them: `10.1.0.0/16[tcp/443]`.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use baton_sad::{AddressRange, Selector};
use thiserror::Error;

use super::cover;
use super::reader::shortened;
use crate::prefix::{Prefix, PrefixError};

/// One side of a traffic selector (RFC 4301 section 4.4.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// Addresses of one family.
    pub addresses: AddressRange,
    /// IP protocol number; `None` is any.
    pub protocol: Option<u8>,
    /// Ports of this side, as [`Selector::local_ports`] has them; those of another protocol than any.
    pub ports: RangeInclusive<u16>,
}

/// 0..=65535: all ports, and packets in which none can be seen.
pub(super) const ANY: RangeInclusive<u16> = 0..=u16::MAX;

/// Protocols by the names that /etc/protocols or swanctl have for them; the first name of each is shown.
const PROTOCOLS: [(&str, u8); 19] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("ospf", 89),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("mh", 135),
    ("udplite", 136),
];
const ICMP: u8 = 1;
const IPV6_ICMP: u8 = 58;
const MOBILITY: u8 = 135;

/// Longer texts are no selectors: two IPv6 addresses, a protocol and two ports fit.
const MAX_TEXT: usize = 128;

/// Why a text is not a selector.
#[derive(Debug, Error)]
pub(super) enum SelectorError {
    #[error("\"{0}\" is not an address, a network or a range of addresses")]
    Addresses(String),
    #[error("{0}")]
    Prefix(#[from] PrefixError),
    #[error("the range {0} is empty or of two IP versions")]
    Range(String),
    #[error("the range {0} is made of more than {max} prefixes", max = cover::MAX_PREFIXES)]
    Ragged(String),
    #[error("`dynamic` stands for a tunnel's outer address, and there is none here")]
    Dynamic,
    #[error("what follows the addresses is not a protocol in brackets")]
    Brackets,
    #[error("\"{0}\" is not a protocol")]
    Protocol(String),
    #[error("ports without a protocol: ICMP types would be taken for ports, and IKE cannot negotiate them")]
    PortsAlone(String),
    #[error("{0} packets have no ports")]
    NoPorts(String),
    #[error("\"{0}\" is not a port or a range of ports")]
    Ports(String),
    #[error("\"{0}\" is not a type, a range of types, or a type and a code")]
    Types(String),
    #[error("{0} does not occur in packets between these addresses")]
    Family(&'static str),
}

impl SelectorError {
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Addresses(_) | Self::Prefix(_) => "write a network as \"10.2.0.0/16\"".to_owned(),
            Self::Range(_) => "write the lower address first: \"10.2.0.5-10.2.0.9\"".to_owned(),
            Self::Ragged(_) => "let it begin and end at the borders of networks".to_owned(),
            Self::Dynamic => "write the address".to_owned(),
            Self::Brackets => "write \"10.2.0.0/16[tcp/443]\"".to_owned(),
            Self::Protocol(_) => "write a name such as tcp, udp or icmp, or a number of 1..=255".to_owned(),
            Self::PortsAlone(ports) => {
                format!("name the protocols: \"...[tcp/{ports}]\" and \"...[udp/{ports}]\"")
            }
            Self::NoPorts(protocol) => format!("write \"[{protocol}]\" alone"),
            Self::Ports(_) => "write \"[tcp/443]\", \"[udp/1000-2000]\" or \"[tcp/opaque]\"".to_owned(),
            Self::Types(_) => {
                "write a type as \"[icmp/8]\", types as \"[icmp/8-13]\", a code as \"[icmp/3/4]\"".to_owned()
            }
            Self::Family(_) => "write icmp with IPv4 and icmpv6 with IPv6 addresses".to_owned(),
        }
    }
}

impl TrafficSelector {
    /// Everything from or to one host.
    pub(super) fn host(address: IpAddr) -> Self {
        Self { addresses: AddressRange::single(address), protocol: None, ports: ANY }
    }

    /// Reads a selector; `dynamic` in it stands for `own`.
    pub(super) fn parse(text: &str, own: Option<IpAddr>) -> Result<Self, SelectorError> {
        if text.len() > MAX_TEXT || text.contains(char::is_control) {
            return Err(SelectorError::Addresses(shortened(text)));
        }
        let (addresses, bracketed) = match text.split_once('[') {
            None => (text, None),
            Some((addresses, rest)) => {
                (addresses, Some(rest.strip_suffix(']').ok_or(SelectorError::Brackets)?))
            }
        };
        let addresses = parse_addresses(addresses.trim(), own)?;
        let (protocol, ports) = bracketed.map_or(Ok((None, ANY)), parse_layer)?;
        match (protocol, addresses.start().is_ipv4()) {
            (Some(ICMP), false) => Err(SelectorError::Family("icmp")),
            (Some(IPV6_ICMP), true) => Err(SelectorError::Family("icmpv6")),
            _ => Ok(Self { addresses, protocol, ports }),
        }
    }

    /// The selector between two sides; `None` if no packet could match both.
    pub(super) fn pair(local: &Self, remote: &Self) -> Option<Selector> {
        let protocol = match (local.protocol, remote.protocol) {
            (Some(a), Some(b)) if a != b => return None,
            (a, b) => a.or(b),
        };
        // A packet has both ports or none. Types are those of the sender alone (RFC 4301 section 4.4.1.3).
        let splits =
            |a: &Self, b: &Self| a.ports == Selector::OPAQUE && b.ports != Selector::OPAQUE && b.ports != ANY;
        let has_ports = protocol.is_some_and(|p| Fields::of(p) == Fields::Ports);
        if local.addresses.start().is_ipv4() != remote.addresses.start().is_ipv4()
            || has_ports && (splits(local, remote) || splits(remote, local))
        {
            return None;
        }
        let (local_ports, remote_ports) = (local.ports.clone(), remote.ports.clone());
        let (local, remote) = (local.addresses, remote.addresses);
        Some(Selector { local, remote, protocol, local_ports, remote_ports })
    }
}

/// As it is written, with a prefix where the addresses are one.
impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cover::show(&self.addresses))?;
        let Some(protocol) = self.protocol else { return Ok(()) };
        match PROTOCOLS.iter().find(|(_, number)| *number == protocol) {
            Some((name, _)) => write!(f, "[{name}")?,
            None => write!(f, "[{protocol}")?,
        }
        let (first, last) = (*self.ports.start(), *self.ports.end());
        if self.ports == Selector::OPAQUE {
            f.write_str("/opaque")?;
        } else if self.ports != ANY {
            show_fields(f, Fields::of(protocol), first, last)?;
        }
        f.write_str("]")
    }
}

fn show_fields(f: &mut fmt::Formatter<'_>, fields: Fields, first: u16, last: u16) -> fmt::Result {
    let (kind, [code, last_code]) = (first >> 8, [first & 0xff, last & 0xff]);
    match fields {
        Fields::Ports | Fields::None if first == last => write!(f, "/{first}"),
        Fields::Ports | Fields::None => write!(f, "/{first}-{last}"),
        _ if last >> 8 != kind => write!(f, "/{kind}-{}", last >> 8),
        _ if [code, last_code] == [0, 0xff] => write!(f, "/{kind}"),
        _ if code == last_code => write!(f, "/{kind}/{code}"),
        _ => write!(f, "/{kind}/{code}-{last_code}"),
    }
}

/// What a protocol has where TCP has ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fields {
    Ports,
    TypeAndCode,
    Type,
    None,
}

impl Fields {
    const fn of(protocol: u8) -> Self {
        match protocol {
            6 | 17 | 33 | 132 | 136 => Self::Ports,
            ICMP | IPV6_ICMP => Self::TypeAndCode,
            MOBILITY => Self::Type,
            _ => Self::None,
        }
    }
}

fn parse_addresses(text: &str, own: Option<IpAddr>) -> Result<AddressRange, SelectorError> {
    if text == "dynamic" {
        return own.map(AddressRange::single).ok_or(SelectorError::Dynamic);
    }
    if let Ok(address) = text.parse() {
        return Ok(AddressRange::single(address));
    }
    if let Some((first, last)) = text.split_once('-') {
        let end = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| addresses_error(text));
        return range(end(first)?, end(last)?, text);
    }
    if !text.contains('/') {
        return Err(addresses_error(text));
    }
    let prefix: Prefix = text.parse()?;
    range(prefix.first(), prefix.last(), text)
}

fn addresses_error(text: &str) -> SelectorError {
    SelectorError::Addresses(shortened(text))
}

fn range(first: IpAddr, last: IpAddr, text: &str) -> Result<AddressRange, SelectorError> {
    let range = AddressRange::new(first, last).map_err(|_| SelectorError::Range(shortened(text)))?;
    if cover::cover(&range).nth(cover::MAX_PREFIXES).is_some() {
        return Err(SelectorError::Ragged(shortened(text)));
    }
    Ok(range)
}

/// What stands in brackets: `protocol`, `protocol/ports`, `icmp/type/code`.
fn parse_layer(text: &str) -> Result<(Option<u8>, RangeInclusive<u16>), SelectorError> {
    let (name, ports) = match text.split_once('/') {
        Some((name, ports)) => (name.trim(), Some(ports.trim()).filter(|ports| *ports != "any")),
        None => (text.trim(), None),
    };
    let protocol = parse_protocol(name, ports.is_some())?;
    match (protocol, ports) {
        (protocol, None) => Ok((protocol, ANY)),
        (None, Some(ports)) => Err(SelectorError::PortsAlone(shortened(ports))),
        (Some(protocol), Some(ports)) => Ok((Some(protocol), parse_fields(protocol, name, ports)?)),
    }
}

fn parse_protocol(name: &str, has_ports: bool) -> Result<Option<u8>, SelectorError> {
    if name == "any" || name.is_empty() && has_ports {
        return Ok(None);
    }
    let known = PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let number = known.map(|(_, number)| *number).or_else(|| number(name));
    // Protocol 0 is a hop-by-hop header in IPv6, and "any" in IKE: in neither case a protocol of its own.
    number.filter(|n| *n != 0).map(Some).ok_or_else(|| SelectorError::Protocol(shortened(name)))
}

fn parse_fields(protocol: u8, name: &str, text: &str) -> Result<RangeInclusive<u16>, SelectorError> {
    let fields = Fields::of(protocol);
    if fields == Fields::None {
        return Err(SelectorError::NoPorts(shortened(name)));
    }
    if text == "opaque" {
        return Ok(Selector::OPAQUE);
    }
    if fields == Fields::Ports {
        return span::<u16>(text).ok_or_else(|| SelectorError::Ports(shortened(text)));
    }
    let types = match text.split_once('/') {
        Some((kind, code)) if fields == Fields::TypeAndCode => type_and_code(kind, code),
        Some(_) => None,
        None => span::<u8>(text).map(|t| u16::from(*t.start()) << 8..=u16::from(*t.end()) << 8 | 0xff),
    };
    types.ok_or_else(|| SelectorError::Types(shortened(text)))
}

fn type_and_code(kind: &str, code: &str) -> Option<RangeInclusive<u16>> {
    let upper = u16::from(number::<u8>(kind.trim())?) << 8;
    let codes = span::<u8>(code)?;
    Some(upper | u16::from(*codes.start())..=upper | u16::from(*codes.end()))
}

/// `first-last`, or one number.
fn span<T: Copy + Ord + std::str::FromStr>(text: &str) -> Option<RangeInclusive<T>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (first <= last).then_some(first..=last)
}

/// Digits only: Rust's own parser takes a sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
