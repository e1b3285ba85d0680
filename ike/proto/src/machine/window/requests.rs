//! Our requests: outstanding until answered, sent again until then.

use std::collections::VecDeque;
use std::time::Duration;

use thiserror::Error;

use super::MAX_WINDOW;
use crate::configuration::Retransmission;
use crate::machine::backoff;

/// Why no request can be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsendable {
    /// As many are outstanding as the peer takes: wait for an answer.
    #[error("the peer takes no more requests before it has answered one")]
    WindowFull,
    /// The last Message ID is used up: the IKE SA must end (RFC 7296 section 2.2).
    #[error("all Message IDs are used up")]
    Exhausted,
}

/// What is to be done about a request whose answer is late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due<'a> {
    /// Send it again.
    Repeat {
        /// Its Message ID.
        message_id: u32,
        /// How often it has been repeated, this time included.
        repetition: u32,
        /// The very octets.
        datagrams: &'a [Vec<u8>],
    },
    /// It was sent often enough: the peer is taken for dead (RFC 7296 section 2.4).
    GiveUp {
        /// Its Message ID.
        message_id: u32,
    },
}

/// Our requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    next: u32,
    /// How many the peer takes at once.
    limit: u32,
    /// In order of Message IDs.
    pub(super) outstanding: VecDeque<Outstanding>,
}

/// A request without an answer yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outstanding {
    pub(super) message_id: u32,
    pub(super) datagrams: Vec<Vec<u8>>,
    pub(super) repetitions: u32,
    pub(super) due: Duration,
}

impl Requests {
    pub(super) fn new(next: u32) -> Self {
        Self { next, limit: 1, outstanding: VecDeque::new() }
    }

    pub(super) fn restored(next: u32, limit: u32, outstanding: VecDeque<Outstanding>) -> Self {
        Self { next, limit, outstanding }
    }

    /// The Message ID that no request has had yet.
    pub const fn next_id(&self) -> u32 {
        self.next
    }

    /// How many the peer takes at once.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The peer's SET_WINDOW_SIZE. What is outstanding beyond a smaller one stays so.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit.clamp(1, MAX_WINDOW);
    }

    /// The Message ID for a request that may be sent now. It is taken by [`Self::sent`].
    ///
    /// # Errors
    /// When none may be sent. The window is counted from the oldest request without an answer, not by how many there
    /// are: the peer keeps answers for so many Message IDs (RFC 7296 section 2.3).
    pub fn sendable(&self) -> Result<u32, Unsendable> {
        let oldest = self.outstanding.front().map_or(self.next, |request| request.message_id);
        match self.next {
            u32::MAX => Err(Unsendable::Exhausted),
            next if next - oldest >= self.limit => Err(Unsendable::WindowFull),
            next => Ok(next),
        }
    }

    /// Takes note of a request as it goes out with Message ID [`Self::next_id`].
    pub fn sent(&mut self, now: Duration, retransmission: &Retransmission, datagrams: Vec<Vec<u8>>) {
        let due = now.saturating_add(backoff::wait(retransmission, 0));
        self.outstanding.push_back(Outstanding { message_id: self.next, datagrams, repetitions: 0, due });
        self.next = self.next.saturating_add(1);
    }

    /// A response to this request was authenticated: the request is not sent again. Whether it was outstanding: if
    /// not, the response is a duplicate and is ignored.
    pub fn answered(&mut self, message_id: u32) -> bool {
        let before = self.outstanding.len();
        self.outstanding.retain(|request| request.message_id != message_id);
        self.outstanding.len() < before
    }

    /// Whether an answer to this Message ID is waited for.
    pub fn is_outstanding(&self, message_id: u32) -> bool {
        self.outstanding.iter().any(|request| request.message_id == message_id)
    }

    /// The Message IDs of requests without an answer, in order.
    pub fn outstanding(&self) -> impl Iterator<Item = u32> {
        self.outstanding.iter().map(|request| request.message_id)
    }

    /// The octets of a request without an answer.
    pub fn datagrams(&self, message_id: u32) -> Option<&[Vec<u8>]> {
        let request = self.outstanding.iter().find(|request| request.message_id == message_id)?;
        Some(&request.datagrams)
    }

    /// When [`Self::due`] has something to say.
    pub fn next_due(&self) -> Option<Duration> {
        self.outstanding.iter().map(|request| request.due).min()
    }

    /// One request that is late by now, and what is to be done about it. A repetition is counted by this call; one
    /// that is given up is due until it, or the IKE SA, is forgotten.
    pub fn due(&mut self, now: Duration, retransmission: &Retransmission) -> Option<Due<'_>> {
        let request = self.outstanding.iter_mut().filter(|r| r.due <= now).min_by_key(|r| r.due)?;
        let message_id = request.message_id;
        if !backoff::may_repeat(retransmission, request.repetitions) {
            return Some(Due::GiveUp { message_id });
        }
        request.repetitions += 1;
        request.due = now.saturating_add(backoff::wait(retransmission, request.repetitions));
        Some(Due::Repeat { message_id, repetition: request.repetitions, datagrams: &request.datagrams })
    }

    /// Nothing is sent again: the IKE SA is over, and only answers are repeated.
    pub fn abandon(&mut self) {
        self.outstanding.clear();
    }

    /// How often the request has been repeated that was so most.
    pub fn repetitions(&self) -> u32 {
        self.outstanding.iter().map(|request| request.repetitions).max().unwrap_or_default()
    }

    /// Goes on with this Message ID, or with a higher one that is next already; nothing is outstanding any more (RFC 6311
    /// section 5.1).
    pub fn restart_at(&mut self, next: u32) {
        self.next = self.next.max(next);
        self.outstanding.clear();
    }

    /// After a restart, or on another gateway: everything is due now, and was not repeated yet, because the peer was
    /// not silent, we were.
    pub fn resume(&mut self, now: Duration) {
        for request in &mut self.outstanding {
            (request.repetitions, request.due) = (0, now);
        }
    }
}
