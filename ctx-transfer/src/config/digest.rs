//! Digests of what has to be equal on all members, so that they can tell each other where it is not.

use aws_lc_rs::digest::{SHA256, digest};
use toml::Table;

/// Secrets are not among them: a digest of a bad password gives it away.
const SECTIONS: [&str; 5] = ["segments", "connections", "pools", "authorities", "cluster"];

/// The sections that there are, each with the first 64 bits of a digest of its content, whatever its order.
pub(super) fn of(text: &str) -> Vec<(String, u64)> {
    let Ok(table) = text.parse::<Table>() else { return Vec::new() };
    let section = |name: &str| {
        let content =
            toml::to_string(&Table::from_iter([(name.to_owned(), table.get(name)?.clone())])).ok()?;
        let octets = digest(&SHA256, content.as_bytes());
        let first = octets.as_ref().first_chunk::<8>()?;
        Some((name.to_owned(), u64::from_be_bytes(*first)))
    };
    SECTIONS.into_iter().filter_map(section).collect()
}
