//! The peer's requests: each is worked on once; its answer is kept for as long as the peer may ask for it again.

use std::collections::BTreeMap;

use super::MAX_WINDOW;

/// What a request of the peer's is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<'a> {
    /// To be worked on: [`Responses::begin`], then [`Responses::answered`].
    New,
    /// Worked on before: send the same octets again.
    Repeated(&'a [Vec<u8>]),
    /// Being worked on, or a later fragment of a request that was answered (RFC 7383 section 2.6.1): nothing to do.
    Ignored,
    /// Of no Message ID that the peer may use: dropped.
    OutOfWindow,
}

/// The peer's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responses {
    /// The lowest Message ID that has not come.
    expected: u32,
    /// How many we take at once.
    limit: u32,
    /// What came, with the answer if there is one: at most `limit` Message IDs, the highest that came among them.
    pub(super) kept: BTreeMap<u32, Option<Vec<Vec<u8>>>>,
}

impl Responses {
    pub(super) fn new(expected: u32) -> Self {
        Self { expected, limit: 1, kept: BTreeMap::new() }
    }

    pub(super) fn restored(expected: u32, limit: u32, kept: BTreeMap<u32, Option<Vec<Vec<u8>>>>) -> Self {
        Self { expected, limit, kept }
    }

    /// The lowest Message ID that has not come.
    pub const fn expected(&self) -> u32 {
        self.expected
    }

    /// How many we take at once.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// One above the highest Message ID that has come.
    pub fn unseen(&self) -> u32 {
        let highest = self.kept.last_key_value().map_or(0, |(id, _)| id.saturating_add(1));
        highest.max(self.expected)
    }

    /// Goes on with this Message ID; what was kept below is forgotten (RFC 6311 section 5.1). Never goes back.
    pub fn restart_at(&mut self, expected: u32) {
        if expected > self.expected {
            self.expected = expected;
            self.kept.retain(|id, _| *id > expected);
        }
    }

    /// What our SET_WINDOW_SIZE says. It never shrinks: the peer may have used it.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = self.limit.max(limit.min(MAX_WINDOW));
    }

    /// What a request, or the fragment of that number of one, is.
    pub fn receive(&self, message_id: u32, fragment: Option<u16>) -> Received<'_> {
        let first = fragment.is_none_or(|number| number == 1);
        match self.kept.get(&message_id) {
            Some(Some(datagrams)) if first => Received::Repeated(datagrams),
            Some(_) => Received::Ignored,
            None if self.is_within(message_id) => Received::New,
            None => Received::OutOfWindow,
        }
    }

    /// From the lowest that has not come, as many as we said. The last Message ID of all is never taken, so that there
    /// always is a next one.
    const fn is_within(&self, message_id: u32) -> bool {
        message_id >= self.expected && message_id - self.expected < self.limit && message_id != u32::MAX
    }

    /// A request that is [`Received::New`], authenticated and complete, is being worked on. That the peer sent it
    /// shows that it has the answers to all that lie a window before it (RFC 7296 section 2.3): they are forgotten.
    pub fn begin(&mut self, message_id: u32) {
        if !self.is_within(message_id) || self.kept.contains_key(&message_id) {
            return;
        }
        self.kept.insert(message_id, None);
        while self.kept.contains_key(&self.expected) {
            self.expected += 1;
        }
        let highest = *self.kept.last_key_value().map_or(&message_id, |(id, _)| id);
        let limit = self.limit;
        self.kept.retain(|id, _| highest - id < limit);
    }

    /// The answer, as it goes out.
    pub fn answered(&mut self, message_id: u32, datagrams: Vec<Vec<u8>>) {
        if let Some(kept) = self.kept.get_mut(&message_id) {
            *kept = Some(datagrams);
        }
    }

    /// Gives up on a request that was begun and got no answer: if it comes again, it is new.
    pub fn forget(&mut self, message_id: u32) {
        if self.kept.get(&message_id).is_some_and(Option::is_none) {
            self.kept.remove(&message_id);
            self.expected = self.expected.min(message_id);
        }
    }
}
