//! Patterns and how well somebody fits them.

use std::net::IpAddr;

use super::{DistinguishedName, Identity};

/// The very same.
const PERFECT: u8 = 20;
/// The least that a pattern of a kind says.
const LEAST: u8 = 2;
/// Anybody fits.
const ANY: u8 = 1;

impl Identity {
    /// How well `other` fits this pattern, higher is better; `None` if it does not. 20 is equality, 1 is `%any`;
    /// between them patterns that leave less open are better.
    pub fn matches(&self, other: &Self) -> Option<u8> {
        match (self, other) {
            (Self::Any, _) => Some(ANY),
            (pattern, other) if pattern == other => Some(PERFECT),
            (Self::AddressRange(first, last), Self::Ipv4(address)) => {
                in_range(*first, *last, (*address).into())
            }
            (Self::AddressRange(first, last), Self::Ipv6(address)) => {
                in_range(*first, *last, (*address).into())
            }
            (Self::Fqdn(pattern), Self::Fqdn(name)) | (Self::Email(pattern), Self::Email(name)) => {
                ends_alike(pattern, name)
            }
            (Self::DistinguishedName(pattern), Self::DistinguishedName(name)) => {
                let wildcards =
                    DistinguishedName::decode(pattern)?.matches(&DistinguishedName::decode(name)?)?;
                Some(PERFECT.saturating_sub(wildcards.min(18) as u8).max(LEAST))
            }
            _ => None,
        }
    }
}

/// Of a pattern `*rest`.
fn ends_alike(pattern: &str, name: &str) -> Option<u8> {
    let rest = pattern.strip_prefix('*')?.as_bytes();
    let end = name.len().checked_sub(rest.len())?;
    let fits = name.as_bytes()[end..].eq_ignore_ascii_case(rest);
    fits.then(|| LEAST + rest.len().min(17) as u8)
}

fn in_range(first: IpAddr, last: IpAddr, address: IpAddr) -> Option<u8> {
    let fits = first.is_ipv4() == address.is_ipv4() && first <= address && address <= last;
    fits.then(|| LEAST + (17 * fixed_bits(first, last) / width(first)) as u8)
}

/// How many bits of an address a range leaves no choice of, about.
fn fixed_bits(first: IpAddr, last: IpAddr) -> u32 {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (last.to_bits() - first.to_bits()).leading_zeros(),
        (IpAddr::V6(first), IpAddr::V6(last)) => (last.to_bits() - first.to_bits()).leading_zeros(),
        _ => 0,
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}
