//! The life of a slot: free, filling, live, dead, and free again after a grace period.

use super::reserve::Reservation;
use super::writer::Writer;
use crate::layout::{REPLAY_WORDS, header, slot};
use crate::sa::{Counters, Direction, ReplayWindow, Sa, encode, name_tag};
use crate::shared::SlotWords;
use crate::slot::state;
use crate::sync::{Ordering, add_single_writer, store};
use crate::workers::first_busy;
use crate::{quiescence, seqlock};

/// How many retired slots an operation frees beyond those it needs, so that none waits for ever and
/// no operation takes long.
const RECLAIM_AT_ONCE: usize = 8;

/// What the SA in a slot begins with.
pub(super) struct Start {
    pub(super) counters: Counters,
    pub(super) reservation: Reservation,
}

impl Start {
    /// Where nothing was there before: nothing is reserved beyond what was used.
    pub(super) fn new(counters: Counters) -> Self {
        let edge = counters.edge();
        Self { counters, reservation: Reservation { reserved: edge, mark: edge, ..Reservation::default() } }
    }
}

impl Writer<'_> {
    /// The words of a slot whose number comes from the table's own lists.
    pub(super) fn words(&self, number: u32) -> &SlotWords {
        // Numbers are below `slots` in any table that this code wrote; a damaged one must not panic.
        self.shared.slot(number).or_else(|| self.shared.slot(0)).expect("a table has slots")
    }

    pub(super) fn state(&self, number: u32) -> u64 {
        state::of(self.state_word(number))
    }

    pub(super) fn state_word(&self, number: u32) -> u64 {
        self.words(number)[slot::STATE].load(Ordering::Relaxed)
    }

    pub(super) fn set_state(&self, number: u32, state: u64) {
        store(&self.words(number)[slot::STATE], state, Ordering::Release);
    }

    /// Slots that can be taken at once.
    pub(super) fn available(&self) -> usize {
        let fresh = u64::from(self.shared.layout().slots).saturating_sub(self.value(header::FRESH));
        (self.value(header::FREE_COUNT) + fresh) as usize
    }

    /// Takes a slot out of the list of free ones, or one that was never used.
    pub(super) fn allocate(&self) -> Option<u32> {
        let head = self.value(header::FREE_HEAD);
        if let Some(number) = (head as u32).checked_sub(1) {
            self.set(header::FREE_HEAD, self.words(number)[slot::LINK].load(Ordering::Relaxed));
            self.add(header::FREE_COUNT, 1_u64.wrapping_neg());
            return Some(number);
        }
        let fresh = self.value(header::FRESH);
        if fresh >= u64::from(self.shared.layout().slots) {
            return None;
        }
        self.set(header::FRESH, fresh + 1);
        Some(fresh as u32)
    }

    /// Puts a slot that nobody can see into the list of free ones.
    pub(super) fn release(&self, number: u32) {
        let words = self.words(number);
        self.set_state(number, state::FREE);
        store(&words[slot::LINK], self.value(header::FREE_HEAD), Ordering::Release);
        self.set(header::FREE_HEAD, u64::from(number) + 1);
        self.add(header::FREE_COUNT, 1);
    }

    /// Fills a slot. Readers that come by it see the predecessor until the transaction commits.
    pub(super) fn fill(&self, number: u32, transaction: u64, replaces: Option<u32>, sa: &Sa, start: &Start) {
        let words = self.words(number);
        self.set_state(number, state::FILLING);
        let odd = seqlock::begin_write(&words[slot::VERSION]);
        let predecessor = replaces.map_or(0, |old| u64::from(old) + 1);
        store(&words[slot::TRANSACTION], transaction, Ordering::Relaxed);
        store(&words[slot::PREDECESSOR], predecessor, Ordering::Relaxed);
        store(&words[slot::KEY], key_word(sa.direction, sa.index_key()), Ordering::Relaxed);
        fill_counters(words, sa, start);
        seqlock::copy_in(&words[slot::CONFIG..], &*encode(sa));
        seqlock::end_write(&words[slot::VERSION], odd);
        self.set_tag(number, name_tag(sa.name.as_str()));
        add_single_writer(&words[slot::GENERATION], 1);
        self.set_state(number, state::LIVE);
    }

    pub(super) fn set_tag(&self, number: u32, tag: u64) {
        if let Some(word) = self.shared.tags().get(number as usize) {
            store(word, tag, Ordering::Release);
        }
    }

    /// Takes an SA that no index entry leads to any more out of use and wipes its keys. Its counters
    /// stay until the slot is filled again: its worker may still be counting in this batch.
    pub(super) fn retire(&self, number: u32) {
        self.set_state(number, state::DEAD);
        self.wipe(number);
    }

    /// Overwrites configuration and keys with zeros.
    pub(super) fn wipe(&self, number: u32) {
        let words = self.words(number);
        let odd = seqlock::begin_write(&words[slot::VERSION]);
        seqlock::clear(&words[slot::CONFIG..]);
        seqlock::end_write(&words[slot::VERSION], odd);
        self.set_tag(number, 0);
    }

    /// Queues a retired slot: it is free when all workers have passed `period`.
    pub(super) fn queue_retired(&self, number: u32, period: u64) {
        let words = self.words(number);
        store(&words[slot::RETIRED_AT], period, Ordering::Relaxed);
        store(&words[slot::LINK], 0, Ordering::Relaxed);
        match (self.value(header::RETIRED_TAIL) as u32).checked_sub(1) {
            Some(tail) => store(&self.words(tail)[slot::LINK], u64::from(number) + 1, Ordering::Release),
            None => self.set(header::RETIRED_HEAD, u64::from(number) + 1),
        }
        self.set(header::RETIRED_TAIL, u64::from(number) + 1);
        self.add(header::RETIRED_COUNT, 1);
    }

    /// The number that [`Self::start_grace_period`] will give.
    pub(super) fn next_grace_period(&self) -> u64 {
        self.value(header::GRACE_PERIOD) + 1
    }

    /// Starts the grace period of what was just taken away.
    pub(super) fn start_grace_period(&self) -> u64 {
        quiescence::start_grace_period(self.shared.header(header::GRACE_PERIOD))
    }

    /// Frees retired slots whose grace period is over: at most a few more than `wanted`. Gives the
    /// worker that holds the next one up, if it is that.
    pub(super) fn reclaim(&self, wanted: usize) -> Option<u16> {
        let mut passed = 0;
        for _ in 0..wanted + RECLAIM_AT_ONCE {
            let number = (self.value(header::RETIRED_HEAD) as u32).checked_sub(1)?;
            let words = self.words(number);
            let period = words[slot::RETIRED_AT].load(Ordering::Relaxed);
            if period > passed {
                if let Some(worker) = first_busy(self.shared, period) {
                    return Some(worker);
                }
                passed = period;
            }
            self.unqueue_first(words[slot::LINK].load(Ordering::Relaxed));
            self.release(number);
        }
        None
    }

    fn unqueue_first(&self, next: u64) {
        self.set(header::RETIRED_HEAD, next);
        if next == 0 {
            self.set(header::RETIRED_TAIL, 0);
        }
        self.add(header::RETIRED_COUNT, 1_u64.wrapping_neg());
    }
}

/// Direction and index key in one word, so that recovery needs no configuration to find the entry.
pub(crate) fn key_word(direction: Direction, key: u32) -> u64 {
    match direction {
        Direction::Inbound => u64::from(key),
        Direction::Outbound => 1 << 32 | u64::from(key),
    }
}

/// The inverse of [`key_word`].
pub(super) fn split_key_word(word: u64) -> (Direction, u32) {
    let direction = if word >> 32 == 0 { Direction::Inbound } else { Direction::Outbound };
    (direction, word as u32)
}

fn fill_counters(words: &SlotWords, sa: &Sa, start: &Start) {
    let Start { counters, reservation } = start;
    let edge = counters.edge();
    for (word, value) in [
        (slot::SEQUENCE, edge),
        (slot::PACKETS, counters.packets),
        (slot::OCTETS, counters.octets),
        (slot::REPLAY_DROPS, counters.replay_drops),
        (slot::INTEGRITY_FAILURES, counters.integrity_failures),
        (slot::LAST_USED, 0),
        (slot::PATH_MTU, 0),
        (slot::FLOOR, reservation.floor),
        (slot::RESERVED, reservation.reserved),
        (slot::MARK, reservation.mark),
        (slot::WANTED, reservation.wanted),
    ] {
        store(&words[word], value, Ordering::Relaxed);
    }
    if sa.direction == Direction::Inbound {
        let window = &counters.window;
        let ring =
            if window.top == edge { window.to_ring() } else { ReplayWindow::closed(edge, 4096).to_ring() };
        seqlock::copy_in(&words[slot::REPLAY..slot::REPLAY + REPLAY_WORDS], &ring);
    }
}
