//! Numbers with units: `"1h"`, `"1h 30m"`, `"10G"`.

use super::reader::{Item, Section, shortened};

/// What a unit's letter multiplies by.
pub struct Units {
    letters: &'static [(&'static str, u64)],
    /// An example for the remedy.
    example: &'static str,
    max: u64,
}

/// Seconds; more than ten years are a mistake.
pub const TIME: Units = Units {
    letters: &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)],
    example: "3600, \"90m\", \"1h 30m\" or \"1d\"",
    max: 10 * 365 * 86_400,
};

/// Octets; letters count in powers of 1024, as swanctl's do.
pub const OCTETS: Units = Units {
    letters: &[("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40)],
    example: "1_000_000, \"500M\" or \"10G\"",
    max: 1 << 62,
};

/// Packets and sequence numbers.
pub const COUNT: Units = Units { letters: &[], example: "1_000_000", max: i64::MAX as u64 };

/// The number under `key`; 0 if there is none.
pub fn quantity(section: &Section<'_, '_>, key: &'static str, units: &Units) -> Option<u64> {
    section.get(key).map_or(Some(0), |item| read(&item, units))
}

/// The number in `item`.
pub fn read(item: &Item<'_, '_>, units: &Units) -> Option<u64> {
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

/// A sum of numbers, each with its unit; a number alone counts in the smallest.
fn parse(text: &str, units: &Units) -> Option<u64> {
    if let Some(value) = digits(text.trim()) {
        return Some(value).filter(|value| *value <= units.max);
    }
    let (mut rest, mut sum) = (text.trim(), 0_u64);
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(number_ends);
        let behind = behind.trim_start();
        let unit_ends = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_ends);
        sum = sum.checked_add(digits(number)?.checked_mul(units.factor(unit)?)?)?;
        rest = behind.trim_start();
    }
    Some(sum).filter(|value| !text.trim().is_empty() && *value <= units.max)
}

/// Digits only: Rust's own parser takes a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Units {
    fn factor(&self, unit: &str) -> Option<u64> {
        let letter = self.letters.iter().find(|(letter, _)| letter.eq_ignore_ascii_case(unit));
        letter.map(|(_, factor)| *factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_multiply() {
        assert_eq!(parse("90m", &TIME), Some(5400));
        assert_eq!(parse("1 h", &TIME), Some(3600));
        assert_eq!(parse("1h 30m", &TIME), Some(5400));
        assert_eq!(parse("1d2h", &TIME), Some(93_600));
        assert_eq!(parse("10G", &OCTETS), Some(10 << 30));
        assert_eq!(parse("17", &OCTETS), Some(17));
        for bad in [
            "",
            " ",
            "h",
            "1h 30",
            "30 1h",
            "1w",
            "-1s",
            "1.5h",
            "99999999999999999999",
            "1hh",
            "4000d",
            "+1s",
        ] {
            assert_eq!(parse(bad, &TIME), None, "{bad}");
        }
        assert_eq!(parse("9999999T", &OCTETS), None);
    }
}
