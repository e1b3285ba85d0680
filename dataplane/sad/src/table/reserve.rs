//! Reservations of sequence numbers as the cluster daemon keeps them: see [`crate::Reservation`].

use super::writer::{WriteError, Writer};
use super::{Table, slots::split_key_word};
use crate::layout::{header, slot};
use crate::reservation::{self, GrantWords};
use crate::sa::{Direction, spi_and_segment};
use crate::shared::SlotWords;
use crate::slot::{SaHandle, is_installed, state};
use crate::sync::{Ordering, store};
use crate::{seqlock, sequence};

/// How many SAs are changed at once, before others that wait for the writer lock get it.
const AT_ONCE: usize = 4096;
/// Tries to read an SA that a writer is inside of.
const TRIES: u32 = 64;

/// Names one SA for good: a rekey puts another SA in the place of an outbound one, under the same reqid, and what was
/// reserved for the old one must not be taken for the new one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SaKey {
    /// Its direction.
    pub direction: Direction,
    /// Under which the index finds it: an inbound one's SPI, an outbound one's reqid.
    pub key: u32,
    /// The SPI in its packets.
    pub spi: u32,
}

/// What was reserved for an SA, in sequence numbers (64 bits, extended or not).
///
/// Outbound, an SA sends numbers above `floor` and up to `reserved`. Inbound, it accepts those above `floor`, within its
/// window, and up to `reserved`. Above `reserved` nothing is sent or accepted while the SA's segment enforces
/// reservations ([`Table::enforce_reservations`]); otherwise `reserved` and `mark` mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reservation {
    /// The highest number that may be used. An SA begins with its edge here, so that nothing is used before it was reserved.
    pub reserved: u64,
    /// From this number on its worker asks for attention ([`Table::drain_attention`]).
    pub mark: u64,
    /// Up to this number nothing is used any more. It only rises, except by a [`crate::PutKind::Move`].
    pub floor: u64,
    /// The highest number that was wanted and was not reserved then; 0 if none was since the SA was installed.
    pub wanted: u64,
}

/// A reservation to be raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// Of this SA.
    pub sa: SaKey,
    /// The highest number that may be used: what every standby has skipped.
    pub reserved: u64,
    /// From where on the worker asks for attention; above `reserved` counts as `reserved`.
    pub mark: u64,
}

/// A floor to be raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// Of this SA.
    pub sa: SaKey,
    /// Up to this number nothing is used any more.
    pub floor: u64,
}

/// How far an SA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Which SA.
    pub sa: SaKey,
    /// Its segment.
    pub segment: u8,
    /// The last number sent, or the highest accepted, or the floor if that is above it.
    pub edge: u64,
    /// Packets that it carried.
    pub packets: u64,
    /// What was reserved.
    pub reservation: Reservation,
}

impl Edge {
    /// The number that waits for a reservation.
    pub fn wanted(&self) -> Option<u64> {
        (self.reservation.wanted > self.reservation.reserved).then_some(self.reservation.wanted)
    }
}

impl Table {
    /// Raises reservations, after every standby has skipped that far; none is lowered, except that a freeze takes back
    /// what is not used. Gives how many of the SAs were there; frozen ones are not. Their workers go on with the next
    /// packet.
    ///
    /// # Errors
    /// If the table cannot be changed; some may have been raised.
    pub fn reserve(&self, items: &[Reserve]) -> Result<usize, WriteError> {
        let mut found = 0;
        for some in items.chunks(AT_ONCE) {
            // Under the lock, so that no slot is given to another SA, and none is frozen, meanwhile.
            let writer = self.write()?;
            for item in some {
                let Some(words) = writer.find(item.sa).filter(|words| is_live(words)) else { continue };
                // The mark first: who sees the new reservation asks again in time.
                sequence::raise(&words[slot::MARK], item.mark.min(item.reserved));
                sequence::raise(&words[slot::RESERVED], item.reserved);
                found += 1;
            }
        }
        Ok(found)
    }

    /// Raises floors, as a standby does before it confirms a reservation; none is ever lowered. Gives the SAs that are
    /// not there (removed, rekeyed, or not installed yet). Holds against a worker that uses the SA nevertheless: it
    /// goes on above the floor as soon as it sees it, and never goes back.
    ///
    /// # Errors
    /// If the table cannot be changed; some may have been raised.
    pub fn raise_floors(&self, items: &[Floor]) -> Result<Vec<SaKey>, WriteError> {
        let mut missing = Vec::new();
        for some in items.chunks(AT_ONCE) {
            let writer = self.write()?;
            for item in some {
                match writer.find(item.sa) {
                    Some(words) => sequence::raise(&words[slot::FLOOR], item.floor),
                    None => missing.push(item.sa),
                }
            }
        }
        Ok(missing)
    }

    /// Enforces the reservations of these segments, or ignores them: segment `s` is bit `s % 64` of word `s / 64`. To be
    /// called by one thread of one process.
    ///
    /// Workers heed it from their next batch on. To be sure that nothing above a reservation is used any more, call
    /// [`Self::wait_until_quiescent`] then, and afterwards read [`Self::edges`]: an SA whose edge is above its
    /// reservation was there before, and waits for the next one.
    pub fn enforce_reservations(&self, segments: &[u64; 4], is_enforced: bool) {
        for (segment, word) in self.shared().enforced().iter().enumerate() {
            if segments[segment / 64] >> (segment % 64) & 1 == 1 {
                store(word, u64::from(is_enforced), Ordering::Release);
            }
        }
        self.shared().header(header::ENFORCEMENT_COUNT).fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a segment's reservations are enforced.
    pub fn enforces_reservations(&self, segment: u8) -> bool {
        self.shared().enforced()[usize::from(segment)].load(Ordering::Acquire) != 0
    }

    /// Counts the calls of [`Self::enforce_reservations`]: a worker that sees it move, between its batches, forgets what
    /// [`Self::grant`] told it.
    #[inline]
    pub fn enforcement_count(&self) -> u64 {
        self.shared().header(header::ENFORCEMENT_COUNT).load(Ordering::Acquire)
    }

    /// The SA's worker wants to use `number`, of an SA of `segment`: gives the highest number that it may use without
    /// asking again. Below `number`: it may not be used, and attention was asked for.
    #[cold]
    pub fn grant(&self, handle: SaHandle, segment: u8, number: u64) -> u64 {
        let Some(words) = self.shared().slot(handle.slot) else { return 0 };
        let words = GrantWords {
            enforced: &self.shared().enforced()[usize::from(segment)],
            reserved: &words[slot::RESERVED],
            mark: &words[slot::MARK],
            wanted: &words[slot::WANTED],
            attention: self.attention(handle.slot),
        };
        reservation::grant(words, number)
    }

    fn attention(&self, number: u32) -> (&crate::sync::AtomicU64, u64) {
        (&self.shared().attention()[number as usize / 64], 1 << (number % 64))
    }

    /// Asks for attention to an SA, as its worker does: its edge was moved beyond its reservation.
    pub(super) fn ask_for_attention(&self, number: u32) {
        reservation::ask(self.attention(number));
    }

    /// The SAs whose workers asked for attention since the last call, appended to `edges`: they passed their mark, or
    /// wait for a reservation. One caller at a time.
    pub fn drain_attention(&self, edges: &mut Vec<Edge>) {
        let used = (self.used_slots() as usize).div_ceil(64);
        for (place, word) in self.shared().attention()[..used].iter().enumerate() {
            let mut bits = reservation::drain(word);
            while bits != 0 {
                let number = place as u32 * 64 + bits.trailing_zeros();
                bits &= bits - 1;
                match self.edge(number) {
                    Ok(edge) => edges.extend(edge),
                    // Being changed: later.
                    Err(Moving) => self.ask_for_attention(number),
                }
            }
        }
    }

    /// How far all SAs of some segments are: bit `s % 64` of word `s / 64` for segment `s`. An SA that is installed or
    /// changed meanwhile may be missing.
    pub fn edges(&self, segments: &[u64; 4]) -> Vec<Edge> {
        let is_asked = |edge: &Edge| segments[usize::from(edge.segment / 64)] >> (edge.segment % 64) & 1 == 1;
        (0..self.used_slots())
            .filter_map(|number| self.edge(number).ok().flatten())
            .filter(is_asked)
            .collect()
    }

    /// The SA in a slot, if there is one and a reader would find it.
    fn edge(&self, number: u32) -> Result<Option<Edge>, Moving> {
        let Some(words) = self.shared().slot(number) else { return Ok(None) };
        if !is_installed(words[slot::STATE].load(Ordering::Acquire)) {
            return Ok(None);
        }
        let edge = (0..TRIES).find_map(|_| read_edge(words)).ok_or(Moving)?;
        let found = self.shared().resolve(edge.sa.direction, edge.sa.key) == Some(number);
        Ok(found.then_some(edge))
    }
}

/// A writer is inside the SA.
struct Moving;

impl Writer<'_> {
    /// The installed SA of this name; `None` too if another one stands under its key.
    fn find(&self, sa: SaKey) -> Option<&SlotWords> {
        let words = self.words(self.shared.resolve(sa.direction, sa.key)?);
        (spi_and_segment(&words[slot::CONFIG..]).0 == sa.spi).then_some(words)
    }
}

fn is_live(words: &SlotWords) -> bool {
    state::of(words[slot::STATE].load(Ordering::Acquire)) == state::LIVE
}

fn read_edge(words: &SlotWords) -> Option<Edge> {
    let version = seqlock::begin_read(&words[slot::VERSION])?;
    let (direction, key) = split_key_word(words[slot::KEY].load(Ordering::Relaxed));
    let (spi, segment) = spi_and_segment(&words[slot::CONFIG..]);
    let edge = Edge {
        sa: SaKey { direction, key, spi },
        segment,
        edge: sequence::edge(&words[slot::SEQUENCE], &words[slot::FLOOR]),
        packets: words[slot::PACKETS].load(Ordering::Relaxed),
        reservation: read_reservation(words),
    };
    seqlock::end_read(&words[slot::VERSION], version).then_some(edge)
}

pub(super) fn read_reservation(words: &SlotWords) -> Reservation {
    let word = |i: usize| words[i].load(Ordering::Acquire);
    Reservation {
        reserved: word(slot::RESERVED),
        mark: word(slot::MARK),
        floor: word(slot::FLOOR),
        wanted: word(slot::WANTED),
    }
}
