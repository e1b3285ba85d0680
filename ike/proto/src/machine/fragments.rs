//! Messages that come in fragments (RFC 7383 section 2.6). Only fragments that were authenticated come here.

use std::collections::BTreeMap;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::wire::PayloadType;

/// Fragments of one message.
const MAX_FRAGMENTS: u16 = 512;
/// Octets of all that is incomplete, and of a message, as of one that comes whole.
const MAX_OCTETS: usize = 65_535;
/// Messages that are incomplete at once.
const MAX_MESSAGES: usize = 8;
/// An incomplete message is forgotten after so long without a new fragment.
const TIMEOUT: Duration = Duration::from_mins(1);

/// One fragment, opened.
#[derive(Debug)]
pub struct Piece {
    /// Of the message.
    pub message_id: u32,
    /// From 1.
    pub number: u16,
    /// Of how many.
    pub total: u16,
    /// The type of the message's first payload; it stands in fragment 1.
    pub first: PayloadType,
    /// A part of the message's payloads.
    pub content: Zeroizing<Vec<u8>>,
}

/// What a fragment did.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// It was the last one missing: the type of the first payload, and the payloads.
    Complete(PayloadType, Zeroizing<Vec<u8>>),
    /// Others are missing.
    Incomplete,
    /// It was here before, or is not possible.
    Ignored,
}

/// What is incomplete, of the messages of one direction of an IKE SA.
#[derive(Default)]
pub struct Reassembly {
    messages: BTreeMap<u32, Message>,
}

struct Message {
    total: u16,
    first: PayloadType,
    pieces: BTreeMap<u16, Zeroizing<Vec<u8>>>,
    octets: usize,
    latest: Duration,
}

impl Reassembly {
    /// Adds a fragment. One that says that there are more of them than others said begins the message anew, because
    /// the sender has made them smaller; one that says that there are fewer is old (RFC 7383 section 2.6).
    pub fn add(&mut self, now: Duration, piece: Piece) -> Added {
        if piece.number == 0 || piece.number > piece.total || piece.total > MAX_FRAGMENTS {
            return Added::Ignored;
        }
        self.expire(now);
        let message_id = piece.message_id;
        let message = self.messages.entry(message_id).or_insert_with(|| Message::new(piece.total));
        if !message.add(now, piece) {
            return Added::Ignored;
        }
        match self.messages.remove(&message_id) {
            Some(message) if message.is_complete() => message.joined(),
            Some(message) => {
                self.messages.insert(message_id, message);
                self.make_room(message_id);
                Added::Incomplete
            }
            None => Added::Ignored,
        }
    }

    /// Forgets a message: it has come whole, or nobody waits for it any more.
    pub fn forget(&mut self, message_id: u32) {
        self.messages.remove(&message_id);
    }

    /// Forgets what has been incomplete for too long.
    pub fn expire(&mut self, now: Duration) {
        self.messages.retain(|_, message| now.saturating_sub(message.latest) < TIMEOUT);
    }

    /// The message that waits longest goes first; this one only if it alone is too long.
    fn make_room(&mut self, newest: u32) {
        while self.messages.len() > MAX_MESSAGES || self.octets() > MAX_OCTETS {
            let others = self.messages.iter().filter(|(id, _)| **id != newest);
            let oldest = others.min_by_key(|(_, message)| message.latest).map(|(id, _)| *id);
            self.messages.remove(&oldest.unwrap_or(newest));
        }
    }

    fn octets(&self) -> usize {
        self.messages.values().map(|message| message.octets).sum()
    }
}

impl Message {
    fn new(total: u16) -> Self {
        Self { total, first: PayloadType(0), pieces: BTreeMap::new(), octets: 0, latest: Duration::ZERO }
    }

    fn add(&mut self, now: Duration, piece: Piece) -> bool {
        if piece.total > self.total {
            *self = Self::new(piece.total);
        }
        if piece.total < self.total || self.pieces.contains_key(&piece.number) {
            return false;
        }
        if piece.number == 1 {
            self.first = piece.first;
        }
        self.latest = now;
        self.octets += piece.content.len();
        self.pieces.insert(piece.number, piece.content);
        true
    }

    fn is_complete(&self) -> bool {
        self.pieces.len() == usize::from(self.total)
    }

    fn joined(self) -> Added {
        if self.octets > MAX_OCTETS {
            return Added::Ignored;
        }
        // Of its final size from the start: growing would leave copies in freed memory.
        let mut whole = Zeroizing::new(Vec::with_capacity(self.octets));
        for piece in self.pieces.values() {
            whole.extend_from_slice(piece);
        }
        Added::Complete(self.first, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: PayloadType = PayloadType(35);

    fn piece(message_id: u32, number: u16, total: u16, content: &[u8]) -> Piece {
        let first = if number == 1 { FIRST } else { PayloadType(0) };
        Piece { message_id, number, total, first, content: Zeroizing::new(content.to_vec()) }
    }

    fn complete(octets: &[u8]) -> Added {
        Added::Complete(FIRST, Zeroizing::new(octets.to_vec()))
    }

    #[test]
    fn fragments_that_are_not_possible_are_ignored() {
        let mut reassembly = Reassembly::default();
        for (number, total) in [(0, 2), (3, 2), (1, 0), (0, 0), (1, MAX_FRAGMENTS + 1)] {
            assert_eq!(reassembly.add(Duration::ZERO, piece(1, number, total, b"x")), Added::Ignored);
        }
        assert!(reassembly.messages.is_empty());
    }

    #[test]
    fn a_sender_that_makes_them_smaller_begins_anew() {
        let mut reassembly = Reassembly::default();
        let mut add =
            |number, total, content: &[u8]| reassembly.add(Duration::ZERO, piece(1, number, total, content));
        assert_eq!(add(1, 2, b"old"), Added::Incomplete);
        assert_eq!(add(1, 3, b"a"), Added::Incomplete);
        assert_eq!(add(2, 2, b"old"), Added::Ignored);
        assert_eq!(add(3, 3, b"c"), Added::Incomplete);
        assert_eq!(add(3, 3, b"x"), Added::Ignored);
        assert_eq!(add(2, 3, b"b"), complete(b"abc"));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let mut reassembly = Reassembly::default();
        let part = vec![0; 10_000];
        for id in 0..100 {
            reassembly.add(Duration::from_secs(1), piece(id, 1, 9, &part));
            assert!(reassembly.octets() <= MAX_OCTETS && reassembly.messages.len() <= MAX_MESSAGES);
        }
        let mut one = Reassembly::default();
        let results: Vec<_> = (1..=9).map(|n| one.add(Duration::ZERO, piece(1, n, 9, &part))).collect();
        assert!(results.iter().all(|result| !matches!(result, Added::Complete(..))));
        let small: Vec<_> = (100..120).map(|id| one.add(Duration::ZERO, piece(id, 1, 2, b""))).collect();
        assert!(
            small.iter().all(|result| *result == Added::Incomplete) && one.messages.len() == MAX_MESSAGES
        );
    }

    #[test]
    fn what_stays_incomplete_is_forgotten() {
        let mut reassembly = Reassembly::default();
        reassembly.add(Duration::ZERO, piece(1, 1, 2, b"a"));
        reassembly.add(Duration::from_secs(30), piece(2, 1, 2, b"a"));
        reassembly.expire(Duration::from_mins(1));
        assert_eq!(reassembly.messages.keys().collect::<Vec<_>>(), [&2]);
        reassembly.forget(2);
        assert!(reassembly.messages.is_empty());
    }

    proptest! {
        #[test]
        fn a_message_comes_together_once_in_whatever_order_its_fragments_come(
            content in prop::collection::vec(any::<u8>(), 1..200),
            size in 1_usize..50,
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..100),
        ) {
            let parts: Vec<_> = content.chunks(size).collect();
            let all = (0..parts.len()).map(|at| (at + 1) as u16);
            let drawn = order.iter().map(|index| (index.index(parts.len()) + 1) as u16);
            let (mut reassembly, mut seen) = (Reassembly::default(), std::collections::HashSet::new());
            for number in drawn.chain(all) {
                let part = parts[usize::from(number) - 1];
                let added = reassembly.add(Duration::ZERO, piece(9, number, parts.len() as u16, part));
                let is_new = seen.insert(number);
                if is_new && seen.len() == parts.len() {
                    prop_assert_eq!(added, complete(&content));
                    return Ok(());
                }
                prop_assert_eq!(added, if is_new { Added::Incomplete } else { Added::Ignored });
            }
        }
    }
}
