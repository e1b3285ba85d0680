//! Message IDs of both directions of an IKE SA (RFC 7296 sections 2.1 to 2.3): what was sent is kept until it is
//! answered, and what was answered until the peer cannot ask again. Octets are kept as they went out, because a
//! repetition must be the very same (and because no IV may seal two texts).
//!
//! A message is one datagram, or all of its fragments (RFC 7383): they are repeated together.

mod codec;
mod requests;
mod responses;

pub use requests::{Due, Requests, Unsendable};
pub use responses::{Received, Responses};

/// The most requests that either side may have outstanding.
pub const MAX_WINDOW: u32 = 32;

/// Both directions of one IKE SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Our requests.
    pub requests: Requests,
    /// The peer's requests, and what we answered.
    pub responses: Responses,
}

impl Window {
    /// Of an IKE SA whose next request has these Message IDs: ours, and the peer's. Each side may have one outstanding
    /// until the other says more (RFC 7296 section 2.3).
    pub fn new(ours: u32, theirs: u32) -> Self {
        Self { requests: Requests::new(ours), responses: Responses::new(theirs) }
    }

    /// Whether so many Message IDs were used in either direction that new keys are due (RFC 7296 section 2.2).
    pub const fn is_nearly_exhausted(&self) -> bool {
        self.requests.next_id() >= NEARLY_EXHAUSTED || self.responses.expected() >= NEARLY_EXHAUSTED
    }
}

/// From this Message ID on new keys are due. What is left is plenty for a peer that is slow to agree.
const NEARLY_EXHAUSTED: u32 = u32::MAX - (1 << 20);

#[cfg(test)]
mod tests;
