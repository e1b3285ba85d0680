//! Kinds of fields that IKE's sections have.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use baton_dataplane::config::field::bounded_name;
use baton_dataplane::config::quantity::{self, Units};
use baton_dataplane::config::reader::{Item, Section, Word, shortened};
use baton_ike_proto::identity::Identity;

/// Entries that a list may have.
const MAX_LIST: usize = 256;
/// Octets of the name of a child, a pool, a secret or an authority.
const MAX_NAME: usize = 32;

/// Notes an error that reads `what is wrong; what to do`.
pub(super) fn refuse(word: &Word<'_, '_>, error: impl Display, remedy: &str) {
    let text = error.to_string();
    let (message, remedy) = text.rsplit_once("; ").unwrap_or((&text, remedy));
    word.report(message, remedy);
}

/// The list under `key`, each word read by `read`; `None` if any was refused, empty if there is none.
pub(super) fn list<'s, 'a, T>(
    section: &Section<'s, 'a>,
    key: &'static str,
    read: impl Fn(&Word<'s, 'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(item) = section.get(key) else { return Some(Vec::new()) };
    let words = item.words();
    if words.len() > MAX_LIST {
        item.report(format!("{} entries are too many", words.len()), format!("write at most {MAX_LIST}"));
        return None;
    }
    let all: Vec<_> = words.iter().map(read).collect();
    all.into_iter().collect()
}

/// As [`list`], of sentences that may have commas: a single string is one of them.
pub(super) fn sentences<'s, 'a, T>(
    section: &Section<'s, 'a>,
    key: &'static str,
    read: impl Fn(&Word<'s, 'a>) -> Option<T>,
) -> Option<Vec<T>> {
    match section.get(key) {
        Some(item) if item.is_string() => Some(vec![read(&item.text()?)?]),
        _ => list(section, key, read),
    }
}

/// The names of a section's tables.
pub(super) fn name(word: &Word<'_, '_>) -> Option<String> {
    bounded_name(word, MAX_NAME)
}

/// The truth value under `key`, which swanctl's users may write as yes and no.
pub(super) fn boolean(section: &Section<'_, '_>, key: &'static str, default: bool) -> Option<bool> {
    section.get(key).map_or(Some(default), |item| {
        if item.is_string() { item.word(&[("yes", true), ("no", false)]) } else { item.boolean() }
    })
}

/// One of a few words under `key`.
pub(super) fn word<T: Copy>(
    section: &Section<'_, '_>,
    key: &'static str,
    default: T,
    words: &[(&str, T)],
) -> Option<T> {
    section.get(key).map_or(Some(default), |item| item.word(words))
}

/// The time under `key`, in whole seconds.
pub(super) fn time(section: &Section<'_, '_>, key: &'static str, default: Duration) -> Option<Duration> {
    quantity(section, key, &quantity::TIME, default.as_secs()).map(Duration::from_secs)
}

/// The number with a unit under `key`.
pub(super) fn quantity(
    section: &Section<'_, '_>,
    key: &'static str,
    units: &Units,
    default: u64,
) -> Option<u64> {
    section.get(key).map_or(Some(default), |item| quantity::read(&item, units))
}

/// An IP address of any kind.
pub(super) fn address(word: &Word<'_, '_>) -> Option<IpAddr> {
    let address = word.text.parse().ok();
    if address.is_none() {
        let message = format!("\"{}\" is not an IP address", shortened(word.text));
        word.report(message, "write an address such as \"203.0.113.2\" or \"2001:db8::2\"");
    }
    address
}

/// An identity, or a pattern of some.
pub(super) fn identity(word: &Word<'_, '_>) -> Option<Identity> {
    let identity = Identity::parse(word.text);
    if let Err(error) = &identity {
        refuse(word, error, "write an address, a domain, an e-mail address or a distinguished name");
    }
    identity.ok()
}

/// The name of a certificate's file: absolute, or below its directory.
pub(super) fn file_name(word: &Word<'_, '_>) -> Option<String> {
    let is_outside = Path::new(word.text).components().any(|part| part.as_os_str() == "..");
    if word.text.is_empty() || word.text.contains(char::is_control) || is_outside {
        let message = format!("\"{}\" is not a usable file name", shortened(word.text));
        word.report(message, "name a file in the directory, or write an absolute path");
        return None;
    }
    Some(word.text.to_owned())
}

/// Refuses keys that mean nothing here.
pub(super) fn refuse_keys(section: &Section<'_, '_>, keys: &[&'static str], why: &str) {
    for item in keys.iter().filter_map(|key| section.get(key)) {
        Item::report(&item, why, "remove it");
    }
}
