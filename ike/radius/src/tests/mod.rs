//! The client against servers of every kind, and octets against those that others have printed.

mod authorization;
mod client;
mod fake;
mod parser;
mod printed;
mod records;

use std::time::Duration;

/// A time that is a day.
const UNIX: Duration = Duration::from_hours(500_000);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
