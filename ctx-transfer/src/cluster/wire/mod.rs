//! Messages between members: fixed fields in network byte order, sets and lists with a bound each, one version octet
//! first. Whatever comes in, reading neither panics nor takes more memory than the message has octets.

use std::ops::RangeInclusive;

mod contexts;
mod control;
mod counters;
mod heartbeat;
mod octets;
#[cfg(test)]
mod tests;

pub use contexts::ContextMessage;
pub use control::ControlMessage;
pub use counters::{CounterMessage, MAX_RESERVED};
pub(crate) use heartbeat::Beat;
pub use heartbeat::{Heartbeat, Mark, Vote};
pub use octets::MessageError;

/// Terms are lower: a claim a second needs more than a century to get there, and other daemons keep 32 bits of them.
pub const TERMS: u64 = 1 << 32;

/// Version of the messages that this release writes.
pub const PROTOCOL: u8 = 1;
/// The oldest version that this release reads, and writes to members that read no later one: the one before.
pub const OLDEST: u8 = PROTOCOL - 1;

/// All that is spoken.
pub const SPOKEN: RangeInclusive<u8> = OLDEST..=PROTOCOL;

/// Makes a message one of the version that its receiver reads. Versions in use at one time differ in the messages that
/// there are, not in how they are laid out: what the older one does not know, it counts and leaves alone.
pub fn write_as(version: u8, octets: &mut [u8]) {
    if let Some(first) = octets.first_mut() {
        *first = version;
    }
}
