//! Identities as text, by strongSwan's rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{DistinguishedName, Identity, IdentityError, MAX_IDENTITY, malformed};

/// What a prefix says of the rest.
#[derive(Clone, Copy)]
enum Kind {
    Ipv4,
    Ipv6,
    Range,
    Fqdn,
    Email,
    DistinguishedName,
    DistinguishedNameDer,
    KeyId,
}

const PREFIXES: [(&str, Kind); 14] = [
    ("ipv4:", Kind::Ipv4),
    ("ipv6:", Kind::Ipv6),
    ("ipv4net:", Kind::Range),
    ("ipv6net:", Kind::Range),
    ("ipv4range:", Kind::Range),
    ("ipv6range:", Kind::Range),
    ("rfc822:", Kind::Email),
    ("email:", Kind::Email),
    ("userfqdn:", Kind::Email),
    ("fqdn:", Kind::Fqdn),
    ("dns:", Kind::Fqdn),
    ("asn1dn:#", Kind::DistinguishedNameDer),
    ("asn1dn:", Kind::DistinguishedName),
    ("keyid:", Kind::KeyId),
];

/// Text that is looked at: that of the longest identity, as hexadecimal digits or with long names of attributes.
const MAX_TEXT: usize = 8 * MAX_IDENTITY;

const ANY: [&str; 7] = ["", "%any", "%any6", "0.0.0.0", "*", "::", "0::0"];

impl Identity {
    /// Reads an identity as strongSwan does: `%any`, `@fqdn`, `@@user@host`, `@#hex`, addresses, networks and ranges
    /// (patterns), distinguished names, `user@host`, and everything else as a domain name. The prefixes `ipv4:`,
    /// `ipv6:`, `ipv4net:`, `ipv6net:`, `ipv4range:`, `ipv6range:`, `fqdn:`, `dns:`, `email:`, `rfc822:`, `userfqdn:`,
    /// `asn1dn:` and `keyid:` say what it is; octets may follow them as `#hex`.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Malformed`] if it is too long, has control characters, or is not what its prefix says.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(malformed(text.as_bytes(), "it is very long or has control characters"));
        }
        let identity = Self::parse_any(text)?;
        match &identity {
            Self::Fqdn(name) | Self::Email(name) if name.len() > MAX_IDENTITY => Err(too_long(text)),
            Self::DistinguishedName(octets) | Self::KeyId(octets) if octets.len() > MAX_IDENTITY => {
                Err(too_long(text))
            }
            _ => Ok(identity),
        }
    }

    fn parse_any(text: &str) -> Result<Self, IdentityError> {
        match PREFIXES.iter().find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, *kind))) {
            Some((rest, kind)) => of_kind(kind, rest).ok_or_else(|| {
                malformed(text.as_bytes(), "what follows the prefix is not what the prefix says")
            }),
            None => plain(text),
        }
    }
}

fn too_long(text: &str) -> IdentityError {
    malformed(text.as_bytes(), "it is longer than 1024 octets")
}

fn of_kind(kind: Kind, rest: &str) -> Option<Identity> {
    match kind {
        Kind::Ipv4 => rest.parse().ok().map(Identity::Ipv4),
        Kind::Ipv6 => rest.parse().ok().map(Identity::Ipv6),
        Kind::Range => range(rest),
        Kind::Fqdn => string(rest).map(Identity::Fqdn),
        Kind::Email => string(rest).map(Identity::Email),
        Kind::DistinguishedName => DistinguishedName::parse(rest).map(Identity::DistinguishedName),
        Kind::DistinguishedNameDer => hexadecimal(rest)
            .filter(|der| DistinguishedName::decode(der).is_some())
            .map(Identity::DistinguishedName),
        Kind::KeyId => octets(rest).map(Identity::KeyId),
    }
}

fn plain(text: &str) -> Result<Identity, IdentityError> {
    if ANY.contains(&text) {
        return Ok(Identity::Any);
    }
    if text.contains('=') {
        // As strongSwan: what looks like a distinguished name and is none is a key id.
        return Ok(DistinguishedName::parse(text)
            .map_or_else(|| Identity::KeyId(text.as_bytes().to_vec()), Identity::DistinguishedName));
    }
    if text.contains('@') {
        return with_at(text).ok_or_else(|| malformed(text.as_bytes(), "\"@#\" wants hexadecimal digits"));
    }
    Ok(address(text).or_else(|| range(text)).unwrap_or_else(|| named(text)))
}

fn named(text: &str) -> Identity {
    if text.contains(':') {
        Identity::KeyId(text.as_bytes().to_vec())
    } else {
        Identity::Fqdn(text.to_owned())
    }
}

fn with_at(text: &str) -> Option<Identity> {
    if let Some(digits) = text.strip_prefix("@#") {
        return hexadecimal(digits).map(Identity::KeyId);
    }
    if let Some(name) = text.strip_prefix("@@") {
        return string(name).map(Identity::Email);
    }
    Some(match text.strip_prefix('@') {
        Some(name) => Identity::Fqdn(string(name)?),
        None => Identity::Email(text.to_owned()),
    })
}

fn address(text: &str) -> Option<Identity> {
    text.parse::<IpAddr>().ok().map(Identity::from)
}

/// `network/prefix length` or `first-last`.
fn range(text: &str) -> Option<Identity> {
    let (first, last) = if let Some((network, length)) = text.split_once('/') {
        network_ends(network.parse().ok()?, length.parse().ok()?)?
    } else {
        let (first, last) = text.split_once('-')?;
        (first.parse::<IpAddr>().ok()?, last.parse::<IpAddr>().ok()?)
    };
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Identity::AddressRange(first, last))
}

/// The first and the last address of a network.
fn network_ends(network: IpAddr, length: u32) -> Option<(IpAddr, IpAddr)> {
    match network {
        IpAddr::V4(network) if length <= 32 => {
            let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
            let first = network.to_bits() & !hosts;
            Some((Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(first | hosts).into()))
        }
        IpAddr::V6(network) if length <= 128 => {
            let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
            let first = network.to_bits() & !hosts;
            Some((Ipv6Addr::from_bits(first).into(), Ipv6Addr::from_bits(first | hosts).into()))
        }
        _ => None,
    }
}

/// Text that stands behind a prefix, or its octets as `#hex`.
fn string(text: &str) -> Option<String> {
    let text = String::from_utf8(octets(text)?).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

fn octets(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix('#') {
        Some(digits) => hexadecimal(digits),
        None => Some(text.as_bytes().to_vec()).filter(|octets| !octets.is_empty()),
    }
}

/// Octets from hexadecimal digits, at least one, with or without colons between them.
pub(super) fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = digits.bytes().filter(|digit| *digit != b':').collect();
    let pair = |pair: &[u8]| {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(*pair.get(1)?).to_digit(16)?;
        Some((high << 4 | low) as u8)
    };
    let octets: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    octets.filter(|octets| !octets.is_empty())
}
