//! Numbers with units: `"1h"`, `"10G"`.

use super::reader::{Item, Section, shortened};

/// What a unit's letter multiplies by.
pub(super) struct Units {
    letters: &'static [(&'static str, u64)],
    /// An example for the remedy.
    example: &'static str,
    max: u64,
}

/// Seconds; more than ten years are a mistake.
pub(super) const TIME: Units = Units {
    letters: &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)],
    example: "3600, \"90m\", \"8h\" or \"1d\"",
    max: 10 * 365 * 86_400,
};

/// Octets; letters count in powers of 1024, as swanctl's do.
pub(super) const OCTETS: Units = Units {
    letters: &[("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40)],
    example: "1_000_000, \"500M\" or \"10G\"",
    max: 1 << 62,
};

/// Packets and sequence numbers.
pub(super) const COUNT: Units = Units { letters: &[], example: "1_000_000", max: i64::MAX as u64 };

/// The number under `key`; 0 if there is none.
pub(super) fn quantity(section: &Section<'_, '_>, key: &'static str, units: &Units) -> Option<u64> {
    section.get(key).map_or(Some(0), |item| read(&item, units))
}

fn read(item: &Item<'_, '_>, units: &Units) -> Option<u64> {
    if !item.is_string() || units.letters.is_empty() {
        return item.integer(0..=units.max);
    }
    let text = item.string()?;
    let value = parse(text, units);
    if value.is_none() {
        let message = format!("\"{}\" is not a quantity of 0..={}", shortened(text), units.max);
        item.report(message, format!("write {}", units.example));
    }
    value
}

fn parse(text: &str, units: &Units) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let factor = match units.letters.iter().find(|(letter, _)| *letter == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return None,
    };
    let digits = digits.trim_end();
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|value| *value <= units.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_multiply() {
        assert_eq!(parse("90m", &TIME), Some(5400));
        assert_eq!(parse("1 h", &TIME), Some(3600));
        assert_eq!(parse("10G", &OCTETS), Some(10 << 30));
        assert_eq!(parse("17", &OCTETS), Some(17));
        for bad in ["", "h", "1w", "-1s", "1.5h", "99999999999999999999", "1hh", "4000d", "+1s"] {
            assert_eq!(parse(bad, &TIME), None, "{bad}");
        }
        assert_eq!(parse("9999999T", &OCTETS), None);
    }
}
