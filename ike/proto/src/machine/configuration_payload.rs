//! Inner addresses and what goes with them, as peers ask for them (RFC 7296 sections 2.19 and 3.15).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{Attribute, AttributeType as Type, Configuration, ConfigurationType};

/// Addresses of one request or reply that are looked at; more are ignored.
const MAX_ADDRESSES: usize = 16;
/// The prefix length of an INTERNAL_IP6_ADDRESS that stands for one host.
const HOST_PREFIX: u8 = 128;

/// What a CFG_REQUEST asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// An inner address each; unspecified ones (`0.0.0.0`, `::`) leave the choice to the responder.
    pub addresses: Vec<IpAddr>,
    /// Whether the peer wants to know which attributes we know.
    pub supported: bool,
}

/// What a CFG_REPLY gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// Inner addresses.
    pub addresses: Vec<IpAddr>,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// Networks behind the responder, as address and prefix length.
    pub subnets: Vec<(IpAddr, u8)>,
}

impl Request {
    /// What we ask for: addresses, and with each IP version the DNS servers and networks of it.
    pub fn write(addresses: &[IpAddr]) -> Configuration {
        let mut attributes: Vec<_> = addresses.iter().map(|address| asked_address(*address)).collect();
        let empty = |kind| Attribute { kind, value: vec![] };
        if addresses.iter().any(IpAddr::is_ipv4) {
            attributes.extend([Type::INTERNAL_IP4_DNS, Type::INTERNAL_IP4_SUBNET].map(empty));
        }
        if addresses.iter().any(IpAddr::is_ipv6) {
            attributes.extend([Type::INTERNAL_IP6_DNS, Type::INTERNAL_IP6_SUBNET].map(empty));
        }
        Configuration { kind: ConfigurationType::CFG_REQUEST, attributes }
    }

    /// What the peer asks for; `None` if this is no request. What has no meaning to us is ignored.
    pub fn read(payload: &Configuration) -> Option<Self> {
        let mut request = Self::default();
        for attribute in &payload.attributes {
            match read_asked(attribute) {
                Some(address) if request.addresses.len() < MAX_ADDRESSES => request.addresses.push(address),
                _ => request.supported |= attribute.kind == Type::SUPPORTED_ATTRIBUTES,
            }
        }
        (payload.kind == ConfigurationType::CFG_REQUEST).then_some(request)
    }

    /// Of how many addresses of an IP version the peer is in want, and which ones it would like.
    pub fn of_version(&self, ipv4: bool) -> impl Iterator<Item = Option<IpAddr>> {
        let asked = self.addresses.iter().filter(move |address| address.is_ipv4() == ipv4);
        asked.map(|address| Some(*address).filter(|address| !address.is_unspecified()))
    }
}

impl Reply {
    /// The answer to a request: addresses, and of the IP versions that were given the rest.
    pub fn write(&self, request: &Request) -> Configuration {
        let given =
            |other: &IpAddr| self.addresses.iter().any(|address| address.is_ipv4() == other.is_ipv4());
        let addresses = self.addresses.iter().map(|address| given_address(*address));
        let dns = self.dns.iter().filter(|server| given(server)).map(|server| dns_server(*server));
        let subnets =
            self.subnets.iter().filter(|(address, _)| given(address)).map(|subnet| network(*subnet));
        let attributes =
            addresses.chain(dns).chain(subnets).chain(request.supported.then(supported)).collect();
        Configuration { kind: ConfigurationType::CFG_REPLY, attributes }
    }

    /// What the peer gave us; `None` if this is no reply. What has no meaning to us is ignored.
    pub fn read(payload: &Configuration) -> Option<Self> {
        let mut reply = Self::default();
        for attribute in &payload.attributes {
            reply.read_one(attribute.kind, &attribute.value);
        }
        reply.dns.truncate(MAX_ADDRESSES);
        reply.addresses.truncate(MAX_ADDRESSES);
        (payload.kind == ConfigurationType::CFG_REPLY).then_some(reply)
    }

    fn read_one(&mut self, kind: Type, value: &[u8]) {
        match kind {
            Type::INTERNAL_IP4_ADDRESS | Type::INTERNAL_IP6_ADDRESS => {
                self.addresses.extend(read_address(kind, value));
            }
            Type::INTERNAL_IP4_DNS => self.dns.extend(ipv4(value)),
            Type::INTERNAL_IP6_DNS => self.dns.extend(ipv6(value)),
            Type::INTERNAL_IP4_SUBNET => self.subnets.extend(read_ipv4_network(value)),
            Type::INTERNAL_IP6_SUBNET => self.subnets.extend(read_ipv6_network(value)),
            _ => {}
        }
    }
}

/// The answer to a CFG_SET: none of it was done (RFC 7296 section 3.15).
pub const fn acknowledge_nothing() -> Configuration {
    Configuration { kind: ConfigurationType::CFG_ACK, attributes: vec![] }
}

fn asked_address(address: IpAddr) -> Attribute {
    let asked = given_address(address);
    if address.is_unspecified() { Attribute { value: vec![], ..asked } } else { asked }
}

fn given_address(address: IpAddr) -> Attribute {
    match address {
        IpAddr::V4(v4) => Attribute { kind: Type::INTERNAL_IP4_ADDRESS, value: v4.octets().to_vec() },
        IpAddr::V6(v6) => {
            let value = [v6.octets().as_slice(), &[HOST_PREFIX]].concat();
            Attribute { kind: Type::INTERNAL_IP6_ADDRESS, value }
        }
    }
}

fn dns_server(address: IpAddr) -> Attribute {
    match address {
        IpAddr::V4(v4) => Attribute { kind: Type::INTERNAL_IP4_DNS, value: v4.octets().to_vec() },
        IpAddr::V6(v6) => Attribute { kind: Type::INTERNAL_IP6_DNS, value: v6.octets().to_vec() },
    }
}

fn network((address, length): (IpAddr, u8)) -> Attribute {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            let value = [v4.octets(), mask.to_be_bytes()].concat();
            Attribute { kind: Type::INTERNAL_IP4_SUBNET, value }
        }
        IpAddr::V6(v6) => {
            let value = [v6.octets().as_slice(), &[length]].concat();
            Attribute { kind: Type::INTERNAL_IP6_SUBNET, value }
        }
    }
}

/// All that a request of ours or of a peer's may contain and that we know.
fn supported() -> Attribute {
    let known = [
        Type::INTERNAL_IP4_ADDRESS,
        Type::INTERNAL_IP4_DNS,
        Type::INTERNAL_IP4_SUBNET,
        Type::INTERNAL_IP6_ADDRESS,
        Type::INTERNAL_IP6_DNS,
        Type::INTERNAL_IP6_SUBNET,
        Type::SUPPORTED_ATTRIBUTES,
    ];
    let value = known.iter().flat_map(|kind| kind.0.to_be_bytes()).collect();
    Attribute { kind: Type::SUPPORTED_ATTRIBUTES, value }
}

/// The address that is asked for; an empty value asks for any.
fn read_asked(attribute: &Attribute) -> Option<IpAddr> {
    match (attribute.kind, attribute.value.as_slice()) {
        (Type::INTERNAL_IP4_ADDRESS, []) => Some(Ipv4Addr::UNSPECIFIED.into()),
        (Type::INTERNAL_IP6_ADDRESS, []) => Some(Ipv6Addr::UNSPECIFIED.into()),
        (kind, value) => read_address(kind, value),
    }
}

fn read_address(kind: Type, value: &[u8]) -> Option<IpAddr> {
    match (kind, value) {
        (Type::INTERNAL_IP4_ADDRESS, value) => ipv4(value),
        // The prefix length says what the link is like, which an IPsec tunnel is not.
        (Type::INTERNAL_IP6_ADDRESS, [address @ .., _]) => ipv6(address),
        _ => None,
    }
}

fn ipv4(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value).ok().map(IpAddr::from)
}

fn ipv6(value: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

fn read_ipv4_network(value: &[u8]) -> Option<(IpAddr, u8)> {
    let (address, mask) = value.split_at_checked(4)?;
    let mask = u32::from_be_bytes(mask.try_into().ok()?);
    let length = mask.leading_ones();
    let is_prefix = mask.checked_shl(length).unwrap_or(0) == 0;
    Some((ipv4(address)?, length as u8)).filter(|_| is_prefix)
}

fn read_ipv6_network(value: &[u8]) -> Option<(IpAddr, u8)> {
    let (length, address) = value.split_last()?;
    Some((ipv6(address)?, *length)).filter(|_| *length <= 128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn values(payload: &Configuration) -> Vec<(u16, Vec<u8>)> {
        payload.attributes.iter().map(|a| (a.kind.0, a.value.clone())).collect()
    }

    #[test]
    fn a_request_asks_for_any_address_with_an_empty_value() {
        let request = Request::write(&addresses(&["0.0.0.0", "10.9.0.5"]));
        assert_eq!(values(&request), [(1, vec![]), (1, vec![10, 9, 0, 5]), (3, vec![]), (13, vec![])]);
        let request = Request::write(&addresses(&["::"]));
        assert_eq!(values(&request), [(8, vec![]), (10, vec![]), (15, vec![])]);
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let wanted = addresses(&["0.0.0.0", "10.9.0.5", "2001:db8::5", "::"]);
        let read = Request::read(&Request::write(&wanted)).unwrap();
        assert_eq!(read, Request { addresses: wanted, supported: false });
        assert_eq!(read.of_version(true).collect::<Vec<_>>(), [None, Some("10.9.0.5".parse().unwrap())]);
        assert_eq!(read.of_version(false).collect::<Vec<_>>(), [Some("2001:db8::5".parse().unwrap()), None]);
    }

    #[test]
    fn a_reply_gives_what_the_version_of_its_addresses_needs() {
        let reply = Reply {
            addresses: addresses(&["10.9.0.5"]),
            dns: addresses(&["10.0.0.53", "2001:db8::53"]),
            subnets: vec![("10.2.0.0".parse().unwrap(), 15), ("0.0.0.0".parse().unwrap(), 0)],
        };
        let written = reply.write(&Request { addresses: vec![], supported: true });
        let supported = [1, 3, 13, 8, 10, 15, 14].into_iter().flat_map(u16::to_be_bytes).collect();
        let expected = [
            (1, vec![10, 9, 0, 5]),
            (3, vec![10, 0, 0, 53]),
            (13, vec![10, 2, 0, 0, 255, 254, 0, 0]),
            (13, vec![0; 8]),
            (14, supported),
        ];
        assert_eq!(values(&written), expected);
    }

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        let reply = Reply {
            addresses: addresses(&["10.9.0.5", "2001:db8::5"]),
            dns: addresses(&["10.0.0.53", "2001:db8::53"]),
            subnets: vec![("10.2.0.0".parse().unwrap(), 16), ("2001:db8:2::".parse().unwrap(), 48)],
        };
        let written = reply.write(&Request::default());
        assert_eq!(Reply::read(&written), Some(reply));
        assert_eq!(Request::read(&written), None);
        assert_eq!(Reply::read(&acknowledge_nothing()), None);
    }

    #[test]
    fn masks_with_holes_and_odd_lengths_are_ignored() {
        let attribute = |kind, value: &[u8]| Attribute { kind, value: value.to_vec() };
        let attributes = vec![
            attribute(Type::INTERNAL_IP4_SUBNET, &[10, 0, 0, 0, 255, 0, 255, 0]),
            attribute(Type::INTERNAL_IP4_SUBNET, &[10, 0, 0]),
            attribute(Type::INTERNAL_IP6_SUBNET, &[129; 17]),
            attribute(Type::INTERNAL_IP4_ADDRESS, &[10, 0, 0]),
            attribute(Type::INTERNAL_IP6_ADDRESS, &[0; 16]),
            attribute(Type::INTERNAL_IP4_DNS, &[]),
        ];
        let payload = Configuration { kind: ConfigurationType::CFG_REPLY, attributes };
        assert_eq!(Reply::read(&payload), Some(Reply::default()));
    }

    proptest! {
        #[test]
        fn nothing_that_a_peer_writes_panics(
            attributes in prop::collection::vec((0_u16..20, prop::collection::vec(any::<u8>(), 0..20)), 0..40),
        ) {
            let attributes: Vec<_> =
                attributes.into_iter().map(|(kind, value)| Attribute { kind: Type(kind), value }).collect();
            let request = Configuration { kind: ConfigurationType::CFG_REQUEST, attributes: attributes.clone() };
            let read = Request::read(&request).unwrap();
            prop_assert!(read.addresses.len() <= MAX_ADDRESSES);
            let reply = Reply::read(&Configuration { kind: ConfigurationType::CFG_REPLY, attributes }).unwrap();
            let written = reply.write(&read);
            let again = Reply::read(&written).unwrap();
            prop_assert_eq!(again.addresses, reply.addresses);
        }
    }
}
