//! Traffic selectors as swanctl writes them: `10.1.0.0/16[tcp/443]`, `dynamic[udp/1701]`.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use thiserror::Error;

use super::{ANY_PORTS, OPAQUE_PORTS, TrafficSelector, range};

/// Longer texts are no selectors: two IPv6 addresses, a protocol and two ports fit.
const MAX_TEXT: usize = 128;
const ICMP: u8 = 1;
const IPV6_ICMP: u8 = 58;
const MOBILITY: u8 = 135;

/// Protocols by the names that swanctl takes; the first of each is shown.
const PROTOCOLS: [(&str, u8); 19] = [
    ("icmp", ICMP),
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
    ("icmpv6", IPV6_ICMP),
    ("ipv6-icmp", IPV6_ICMP),
    ("ospf", 89),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("mh", MOBILITY),
    ("udplite", 136),
];

/// Which traffic, as configured: addresses may be known only later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredSelector {
    /// `None` is `dynamic`: the outer address, or the inner ones that were given to that side.
    addresses: Option<(IpAddr, IpAddr)>,
    protocol: u8,
    ports: RangeInclusive<u16>,
}

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// Not addresses.
    #[error("\"{0}\" is not an address, a network or a range; write a network as \"10.2.0.0/16\"")]
    Addresses(String),
    /// Bits behind the prefix length.
    #[error("\"{0}\" has host bits set, or more bits than an address; write the network's own address")]
    Prefix(String),
    /// The higher address first, or two families.
    #[error("the range \"{0}\" is empty or of two IP versions; write \"10.2.0.5-10.2.0.9\"")]
    Range(String),
    /// No network's border anywhere near.
    #[error(
        "the range \"{0}\" is made of more than 64 networks; let it begin and end at the borders of networks"
    )]
    Ragged(String),
    /// Something behind the addresses.
    #[error("what follows the addresses is not a protocol in brackets; write \"10.2.0.0/16[tcp/443]\"")]
    Brackets,
    /// No protocol.
    #[error("\"{0}\" is not a protocol; write a name such as tcp, udp or icmp, or a number of 1..=255")]
    Protocol(String),
    /// Ports of any protocol.
    #[error("IKE cannot negotiate ports without a protocol; write \"...[tcp/{0}]\" and \"...[udp/{0}]\"")]
    PortsAlone(String),
    /// Ports of a protocol without.
    #[error("{0} packets have no ports; write \"[{0}]\" alone")]
    NoPorts(String),
    /// Not ports.
    #[error("\"{0}\" is not a port or a range; write \"[tcp/443]\", \"[udp/1000-2000]\" or \"[tcp/opaque]\"")]
    Ports(String),
    /// Not types.
    #[error("\"{0}\" is not a type; write \"[icmp/8]\", types as \"[icmp/8-13]\", a code as \"[icmp/3/4]\"")]
    Types(String),
    /// ICMP of the other IP version.
    #[error(
        "{0} does not occur between these addresses; write icmp with IPv4 and icmpv6 with IPv6 addresses"
    )]
    Family(&'static str),
}

impl ConfiguredSelector {
    /// The outer address of that side, or the inner ones that were given to it.
    pub const DYNAMIC: Self = Self { addresses: None, protocol: 0, ports: ANY_PORTS };

    /// Whether it waits for addresses.
    pub const fn is_dynamic(&self) -> bool {
        self.addresses.is_none()
    }

    /// What it means where `dynamic` stands for these addresses: one selector, or one for each of them.
    pub fn resolve(&self, dynamic: &[IpAddr]) -> Vec<TrafficSelector> {
        let selector = |(first, last)| TrafficSelector { first, last, ..self.template() };
        match self.addresses {
            Some(ends) => vec![selector(ends)],
            None => dynamic.iter().filter(|a| self.may_occur_at(**a)).map(|a| selector((*a, *a))).collect(),
        }
    }

    fn template(&self) -> TrafficSelector {
        let unspecified = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        TrafficSelector {
            protocol: self.protocol,
            ports: self.ports.clone(),
            ..TrafficSelector::host(unspecified)
        }
    }

    fn may_occur_at(&self, address: IpAddr) -> bool {
        self.protocol != if address.is_ipv4() { IPV6_ICMP } else { ICMP }
    }
}

impl FromStr for ConfiguredSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_TEXT || text.contains(char::is_control) {
            return Err(SelectorError::Addresses(shortened(text)));
        }
        let (addresses, layer) = match text.split_once('[') {
            None => (text, None),
            Some((addresses, rest)) => {
                (addresses, Some(rest.strip_suffix(']').ok_or(SelectorError::Brackets)?))
            }
        };
        let addresses = parse_addresses(addresses.trim())?;
        let (protocol, ports) = layer.map_or(Ok((0, ANY_PORTS)), parse_layer)?;
        let selector = Self { addresses, protocol, ports };
        match addresses {
            Some((first, _)) if !selector.may_occur_at(first) => Err(wrong_family(first)),
            _ => Ok(selector),
        }
    }
}

const fn wrong_family(address: IpAddr) -> SelectorError {
    SelectorError::Family(if address.is_ipv4() { "icmpv6" } else { "icmp" })
}

impl fmt::Display for ConfiguredSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addresses {
            Some((first, last)) => f.write_str(&range::show(first, last))?,
            None => f.write_str("dynamic")?,
        }
        show_layer(f, self.protocol, &self.ports)
    }
}

/// Protocol and ports in brackets, if they are not any.
pub(super) fn show_layer(
    f: &mut fmt::Formatter<'_>,
    protocol: u8,
    ports: &RangeInclusive<u16>,
) -> fmt::Result {
    if protocol == 0 {
        return Ok(());
    }
    match PROTOCOLS.iter().find(|(_, number)| *number == protocol) {
        Some((name, _)) => write!(f, "[{name}")?,
        None => write!(f, "[{protocol}")?,
    }
    if *ports == OPAQUE_PORTS {
        f.write_str("/opaque")?;
    } else if *ports != ANY_PORTS {
        show_fields(f, Fields::of(protocol), *ports.start(), *ports.end())?;
    }
    f.write_str("]")
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
pub(super) enum Fields {
    Ports,
    TypeAndCode,
    Type,
    None,
}

impl Fields {
    pub(super) const fn of(protocol: u8) -> Self {
        match protocol {
            6 | 17 | 33 | 132 | 136 => Self::Ports,
            ICMP | IPV6_ICMP => Self::TypeAndCode,
            MOBILITY => Self::Type,
            _ => Self::None,
        }
    }
}

fn parse_addresses(text: &str) -> Result<Option<(IpAddr, IpAddr)>, SelectorError> {
    if text == "dynamic" {
        return Ok(None);
    }
    if let Ok(address) = text.parse() {
        return Ok(Some((address, address)));
    }
    if let Some((address, length)) = text.split_once('/') {
        let length = number(length).ok_or_else(|| addresses_error(text))?;
        let prefix = range::of_prefix(parse_address(address, text)?, length);
        return prefix.map(Some).ok_or_else(|| SelectorError::Prefix(shortened(text)));
    }
    let (first, last) = text.split_once('-').ok_or_else(|| addresses_error(text))?;
    let (first, last) = (parse_address(first.trim(), text)?, parse_address(last.trim(), text)?);
    if first.is_ipv4() != last.is_ipv4() || first > last {
        return Err(SelectorError::Range(shortened(text)));
    }
    let installable = range::is_installable(first, last);
    installable.then_some(Some((first, last))).ok_or_else(|| SelectorError::Ragged(shortened(text)))
}

fn parse_address(part: &str, whole: &str) -> Result<IpAddr, SelectorError> {
    part.parse().map_err(|_| addresses_error(whole))
}

fn addresses_error(text: &str) -> SelectorError {
    SelectorError::Addresses(shortened(text))
}

/// What stands in brackets: `protocol`, `protocol/ports`, `icmp/type/code`.
fn parse_layer(text: &str) -> Result<(u8, RangeInclusive<u16>), SelectorError> {
    let (name, ports) = match text.split_once('/') {
        Some((name, ports)) => (name.trim(), Some(ports.trim()).filter(|ports| *ports != "any")),
        None => (text.trim(), None),
    };
    match (parse_protocol(name, ports.is_some())?, ports) {
        (protocol, None) => Ok((protocol, ANY_PORTS)),
        (0, Some(ports)) => Err(SelectorError::PortsAlone(shortened(ports))),
        (protocol, Some(ports)) => Ok((protocol, parse_fields(protocol, name, ports)?)),
    }
}

fn parse_protocol(name: &str, has_ports: bool) -> Result<u8, SelectorError> {
    if name == "any" || name.is_empty() && has_ports {
        return Ok(0);
    }
    let known = PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let protocol = known.map(|(_, number)| *number).or_else(|| number(name));
    // Protocol 0 is a hop-by-hop header in IPv6, and "any" in IKE: in neither case a protocol of its own.
    protocol.filter(|n| *n != 0).ok_or_else(|| SelectorError::Protocol(shortened(name)))
}

fn parse_fields(protocol: u8, name: &str, text: &str) -> Result<RangeInclusive<u16>, SelectorError> {
    let fields = Fields::of(protocol);
    if fields == Fields::None {
        return Err(SelectorError::NoPorts(shortened(name)));
    }
    if text == "opaque" {
        return Ok(OPAQUE_PORTS);
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
fn span<T: Copy + Ord + FromStr>(text: &str) -> Option<RangeInclusive<T>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (first <= last).then_some(first..=last)
}

/// Digits only: Rust's own parser takes a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}
