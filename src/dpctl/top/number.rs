//! Numbers in few characters.

/// A rate, as `999`, `1.5k`, `12M`.
pub(super) fn count(value: f64) -> String {
    let (value, unit) = scaled(value);
    if unit.is_empty() {
        format!("{value:.0}")
    } else {
        format!("{value:.prec$}{unit}", prec = places(value))
    }
}

/// Bits per second, as `0 `, `1.5 k`, `12 M`, for `bit/s` behind it.
pub(super) fn bits(value: f64) -> String {
    let (value, unit) = scaled(value);
    if unit.is_empty() {
        format!("{value:.0} ")
    } else {
        format!("{value:.prec$} {unit}", prec = places(value))
    }
}

/// Seconds, as `59s`, `12m`, `5h`, `3d`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn scaled(value: f64) -> (f64, &'static str) {
    let units = ["", "k", "M", "G", "T"];
    let mut scaled = value;
    for unit in units {
        if scaled < 999.5 {
            return (scaled, unit);
        }
        scaled /= 1000.0;
    }
    (scaled, "P")
}

fn places(value: f64) -> usize {
    usize::from(value < 9.95)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        let counts = [0.0, 0.4, 999.0, 999.6, 1500.0, 12_345.0, 9.99e6, 1e18].map(count);
        assert_eq!(counts, ["0", "0", "999", "1.0k", "1.5k", "12k", "10M", "1000P"]);
        assert_eq!([bits(0.0), bits(1.5e9)], ["0 ", "1.5 G"]);
        assert_eq!([59, 61, 3600, 90_000].map(age), ["59s", "1m01s", "1h00m", "1d01h"]);
    }
}
