//! Kinds of fields that several sections have.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::reader::{Section, Word, shortened};

/// The integer under `key`, or the default.
pub fn integer(
    section: &Section<'_, '_>,
    key: &'static str,
    allowed: RangeInclusive<u64>,
    default: u64,
) -> Option<u64> {
    section.get(key).map_or(Some(default), |item| item.integer(allowed))
}

/// One of a few words; the default is the type's.
pub fn word<T: Copy + Default>(
    section: &Section<'_, '_>,
    key: &'static str,
    words: &[(&str, T)],
) -> Option<T> {
    section.get(key).map_or(Some(T::default()), |item| item.word(words))
}

/// A name that is safe in file names, messages and tables.
pub fn bounded_name(word: &Word<'_, '_>, octets: usize) -> Option<String> {
    let name = word.text;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=octets).contains(&name.len()) && name.chars().all(plain) {
        return Some(name.to_owned());
    }
    let message = format!("\"{}\" is not a usable name", shortened(name));
    word.report(message, format!("use 1 to {octets} of the characters A-Z a-z 0-9 . _ -"));
    None
}

/// The absolute path under `key`, or the default.
pub fn directory(section: &Section<'_, '_>, key: &'static str, default: &str) -> Option<PathBuf> {
    let Some(item) = section.get(key) else { return Some(PathBuf::from(default)) };
    let path = Path::new(item.string()?);
    if path.is_absolute() && !item.string()?.contains('\0') {
        return Some(path.to_owned());
    }
    item.report("this is not an absolute path", format!("start it with /, e.g. \"{default}\""));
    None
}

/// An address that one host can have, and packets of others can be sent to.
pub fn unicast(word: &Word<'_, '_>) -> Option<IpAddr> {
    let Ok(address) = word.text.parse() else {
        let message = format!("\"{}\" is not an IP address", shortened(word.text));
        word.report(message, "write an address such as \"203.0.113.2\" or \"2001:db8::2\"");
        return None;
    };
    if !is_unicast(address) {
        word.report(format!("{address} cannot be a gateway's address"), "write a unicast address");
        return None;
    }
    Some(address)
}

/// Whether one host can have it, and packets of others can be sent to it.
pub fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_loopback())
        }
        // Link-local addresses mean nothing without their link, and mapped ones are IPv4's.
        IpAddr::V6(v6) => {
            let elsewhere = v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some();
            !(v6.is_unspecified() || v6.is_multicast() || v6.is_loopback() || elsewhere)
        }
    }
}
