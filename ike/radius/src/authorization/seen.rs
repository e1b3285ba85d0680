//! Requests that were answered.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::FRESH;

/// Longer than a request with a time from the future can be repeated.
const KEPT: Duration = FRESH.saturating_mul(2);
/// Answers that are kept. Who knows the secret can fill them, and then have the oldest forgotten.
const MOST: usize = 16_384;

/// Requests by their authenticators, which are hashes of all that they say.
#[derive(Default)]
pub(super) struct Seen {
    answers: HashMap<[u8; 16], Vec<u8>>,
    order: VecDeque<(Duration, [u8; 16])>,
}

impl Seen {
    pub(super) fn answer(&mut self, now: Duration, authenticator: &[u8; 16]) -> Option<Vec<u8>> {
        self.forget(now);
        self.answers.get(authenticator).cloned()
    }

    pub(super) fn note(&mut self, now: Duration, authenticator: [u8; 16], answer: Vec<u8>) {
        if self.answers.insert(authenticator, answer).is_none() {
            self.order.push_back((now, authenticator));
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Duration) {
        while let Some((at, authenticator)) = self.order.front() {
            if self.order.len() <= MOST && now.saturating_sub(*at) <= KEPT {
                return;
            }
            self.answers.remove(authenticator);
            self.order.pop_front();
        }
    }
}
