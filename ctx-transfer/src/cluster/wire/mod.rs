//! Messages between members: fixed fields in network byte order, sets and lists with a bound each, one version octet
//! first. Whatever comes in, reading neither panics nor takes more memory than the message has octets.

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

/// Version of the messages; this release also reads the one before, once there is one.
pub const PROTOCOL: u8 = 1;
