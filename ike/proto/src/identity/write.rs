//! Identities written so that [`Identity::parse`] reads them back.

use std::fmt;
use std::net::IpAddr;

use super::{DistinguishedName, Identity};

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&written(self))
    }
}

fn written(identity: &Identity) -> String {
    match identity {
        Identity::Any => "%any".to_owned(),
        Identity::Ipv4(address) => exactly(identity, address.to_string(), || format!("ipv4:{address}")),
        Identity::Ipv6(address) => exactly(identity, address.to_string(), || format!("ipv6:{address}")),
        Identity::AddressRange(first, last) => range(*first, *last),
        Identity::Fqdn(name) => exactly(identity, name.clone(), || prefixed("fqdn:", name.as_bytes())),
        Identity::Email(name) => exactly(identity, name.clone(), || prefixed("email:", name.as_bytes())),
        Identity::DistinguishedName(der) => name(identity, der),
        Identity::KeyId(octets) => key_id(octets),
    }
}

/// The short form if it is read as the same identity, otherwise the long one.
fn exactly(identity: &Identity, short: String, long: impl FnOnce() -> String) -> String {
    match Identity::parse(&short) {
        Ok(read) if read == *identity => short,
        _ => long(),
    }
}

/// Text behind a prefix, as octets if it would be read as something else, or would forge a line of a log.
fn prefixed(prefix: &str, octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) if !text.starts_with('#') && !text.chars().any(char::is_control) => {
            format!("{prefix}{text}")
        }
        _ => format!("{prefix}#{}", hexadecimal(octets)),
    }
}

fn name(identity: &Identity, der: &[u8]) -> String {
    let short = DistinguishedName::decode(der).map_or_else(String::new, |name| name.to_string());
    exactly(identity, short, || format!("asn1dn:#{}", hexadecimal(der)))
}

fn key_id(octets: &[u8]) -> String {
    let is_plain = octets.first() != Some(&b'#') && octets.iter().all(|octet| (0x20..0x7f).contains(octet));
    match std::str::from_utf8(octets) {
        Ok(text) if is_plain => format!("keyid:{text}"),
        _ => format!("@#{}", hexadecimal(octets)),
    }
}

fn range(first: IpAddr, last: IpAddr) -> String {
    match prefix_length(first, last) {
        Some(length) => format!("{first}/{length}"),
        None => format!("{first}-{last}"),
    }
}

/// The length of the prefix of which the range is the network, if it is one.
fn prefix_length(first: IpAddr, last: IpAddr) -> Option<u32> {
    let (hosts, width) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => ((first.to_bits() ^ last.to_bits()) as u128, 32),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() ^ last.to_bits(), 128),
        _ => return None,
    };
    let start = match first {
        IpAddr::V4(first) => first.to_bits() as u128,
        IpAddr::V6(first) => first.to_bits(),
    };
    let is_network = hosts & hosts.wrapping_add(1) == 0 && start & hosts == 0;
    is_network.then(|| width - hosts.count_ones())
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}
