//! `[tunnel.inbound]` and `[tunnel.outbound]`: SPIs and keys.

use baton_sad::{Key, Suite};
use zeroize::Zeroizing;

use super::reader::{Item, Place, Section};
use super::sections::Surroundings;
use super::{StaticSa, keys};

/// An SA's section: what it says and where.
pub(super) struct ReadSa {
    pub(super) sa: StaticSa,
    pub(super) spi: Place,
    pub(super) key: Place,
}

/// Reads one direction, unless the tunnel `waits` for a restore.
pub(super) fn read(
    tunnel: &Section<'_, '_>,
    section: &Section<'_, '_>,
    waits: bool,
    suite: Option<Suite>,
    around: &Surroundings<'_>,
) -> Option<ReadSa> {
    if waits {
        return None;
    }
    if !section.is_present() {
        let message = "one direction has an SA and the other has none";
        let remedy = "give both [tunnel.inbound] and [tunnel.outbound], or none while it waits for a restore";
        section.place().report(tunnel.source(), message, remedy);
        return None;
    }
    let item = section.require("spi", "give the SPI that both gateways agreed on: spi = 0x2a000001");
    let spi_place = item.as_ref().map_or(section.place(), Item::place);
    let spi = item.and_then(|item| spi(&item));
    let (key, key_place) = read_key(section, suite, around);
    section.finish();
    Some(ReadSa { sa: StaticSa { spi: spi?, key: key? }, spi: spi_place, key: key_place })
}

fn spi(item: &Item<'_, '_>) -> Option<u32> {
    let spi = u32::try_from(item.integer(0..=u64::from(u32::MAX))?).ok()?;
    if spi <= 255 {
        let message = format!("SPI {spi:#x} is reserved (RFC 4303, section 2.1: 0 to 255)");
        item.report(message, "choose one above 255");
        return None;
    }
    Some(spi)
}

fn read_key(
    section: &Section<'_, '_>,
    suite: Option<Suite>,
    around: &Surroundings<'_>,
) -> (Option<Key>, Place) {
    match (section.get("key"), section.get("key_file")) {
        (Some(item), None) => (inline_key(&item, suite, around), item.place()),
        (None, Some(item)) => (key_from_file(&item, suite, around), item.place()),
        (Some(item), Some(_)) => {
            item.report("both `key` and `key_file` are given", "keep one of them");
            (None, item.place())
        }
        (None, None) => {
            let remedy = "name a file of mode 0600 with the key in hex: key_file = \"...\"";
            section.place().report(section.source(), "there is no key", remedy);
            (None, section.place())
        }
    }
}

fn inline_key(item: &Item<'_, '_>, suite: Option<Suite>, around: &Surroundings<'_>) -> Option<Key> {
    let text = item.string()?;
    if !around.private {
        let message = "a key stands in a configuration that others than its owner can read";
        item.report(message, "chmod 0600 the configuration and change the key, or use key_file");
    }
    let suite = suite?;
    take_key(item, suite, keys::from_hex(text.as_bytes(), suite.key_length()))
}

fn key_from_file(item: &Item<'_, '_>, suite: Option<Suite>, around: &Surroundings<'_>) -> Option<Key> {
    let path = around.directory.join(item.string()?);
    let suite = suite?;
    take_key(item, suite, keys::read_file(&path, suite.key_length()))
}

fn take_key(
    item: &Item<'_, '_>,
    suite: Suite,
    read: Result<Zeroizing<Vec<u8>>, keys::KeyProblem>,
) -> Option<Key> {
    match read {
        Ok(octets) => Key::new(&octets).ok(),
        Err(problem) => {
            let (octets, parts) = (suite.key_length(), parts(suite));
            item.report(
                problem.message,
                format!("{} ({suite} takes {octets} octets: {parts})", problem.remedy),
            );
            None
        }
    }
}

/// What a suite's keying material consists of, in its order (RFC 7296 section 2.17).
pub(super) fn parts(suite: Suite) -> String {
    let parts = [
        ("cipher key", suite.cipher_key_length()),
        ("salt", suite.salt_length()),
        ("integrity key", suite.integrity().key_length()),
    ];
    let named = parts.iter().filter(|(_, octets)| *octets > 0);
    named.map(|(name, octets)| format!("{octets} of {name}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_every_suite_add_up() {
        for suite in Suite::ALL {
            let octets = |part: &str| part.split(' ').next().and_then(|n| n.parse::<usize>().ok());
            let sum: Option<usize> = parts(suite).split(", ").map(octets).sum();
            assert_eq!(sum, Some(suite.key_length()), "{suite}");
        }
        let of = |name| parts(Suite::from_name(name).expect("known"));
        assert_eq!(of("aes256ctr-sha256"), "32 of cipher key, 4 of salt, 32 of integrity key");
        assert_eq!(of("aes128ccm8"), "16 of cipher key, 3 of salt");
        assert_eq!(of("null-sha1"), "20 of integrity key");
    }
}
