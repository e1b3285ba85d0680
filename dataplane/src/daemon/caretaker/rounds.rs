//! Rounds over all SAs, a few at a time: keep-alives, and SAs whose time is over while nobody sends.

use baton_sad::{Direction, Sa, SaHandle, SlotView};

use super::{Caretaker, Present, count};
use crate::worker::Command;

/// Calls that one round is spread over: at 50 calls a second, a round takes a second.
const CALLS: u32 = 50;
/// Slots that a call visits at least, so that small tables are seen whole.
const LEAST_STEP: u32 = 1024;
/// Configurations that a call reads at most, a microsecond or so each: after a start there may be a million unread.
const READINGS: u32 = 2048;

/// Slots that a search compares at once.
const CHUNK: usize = 256;
/// Slots that all searches of a call compare at most, some nanoseconds each; one search there is always.
const SEARCHED: usize = 2_000_000;

/// In [`Seen::told`]: the soft bound was told.
pub(super) const SOFT: u8 = 1;
/// In [`Seen::told`]: the hard bound was told.
pub(super) const HARD: u8 = 2;
/// In [`Seen::told`]: the peer was told to be unheard after a takeover.
pub(super) const UNHEARD: u8 = 4;

const NANOSECONDS: u64 = 1_000_000_000;

/// What the rounds remember of the SA in a slot: no more than the question whether there is something to do takes.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Of the content that the rest is about; 0 is none.
    generation: u64,
    /// In its packets.
    spi: u32,
    /// Unix seconds; 0 is no bound. 32 bits last until 2106.
    soft: u32,
    hard: u32,
    /// Monotonic seconds of the last keep-alive.
    kept_alive: u32,
    /// Idle seconds before one; 0 is never.
    keepalive: u16,
    segment: u8,
    told: u8,
}

impl Seen {
    fn new(handle: SaHandle, sa: &Sa) -> Self {
        let is_outbound = sa.direction == Direction::Outbound;
        let seconds = |unix: u64| u32::try_from(unix).unwrap_or(u32::MAX);
        Self {
            generation: handle.generation(),
            spi: sa.spi,
            soft: seconds(sa.lifetime.soft.expires_at),
            hard: seconds(sa.lifetime.hard.expires_at),
            kept_alive: 0,
            keepalive: sa.encapsulation.filter(|_| is_outbound).map_or(0, |udp| udp.keepalive_seconds),
            segment: sa.segment,
            told: 0,
        }
    }

    /// The bound that is reached and was not told; a hard one says more than a soft one.
    fn news(&self, unix_seconds: u64) -> Option<u8> {
        let reached = |bound: u32| bound != 0 && unix_seconds >= u64::from(bound);
        if reached(self.hard) {
            return (self.told & HARD == 0).then_some(HARD);
        }
        (reached(self.soft) && self.told & SOFT == 0).then_some(SOFT)
    }

    fn wants_keep_alive(&self, slot: SlotView<'_>, now: u64) -> bool {
        let since = slot.last_used().max(u64::from(self.kept_alive) * NANOSECONDS);
        self.keepalive != 0 && now.saturating_sub(since) >= u64::from(self.keepalive) * NANOSECONDS
    }
}

/// What was seen of each slot.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    seen: Vec<Seen>,
    /// The peer's SPI of the outbound SA in each slot, 0 where there is none: apart, since searches read all of it.
    outbound: Vec<u32>,
    /// The slot that is next.
    position: u32,
}

impl Rounds {
    /// The slots of outbound SAs with this SPI.
    pub(super) fn outbound_with(&self, spi: u32) -> impl Iterator<Item = u32> + '_ {
        // All of a chunk, without an early end: the compiler compares many at once then.
        let has = move |chunk: &[u32]| chunk.iter().filter(|other| **other == spi).count() > 0;
        let chunks =
            (0..).step_by(CHUNK).zip(self.outbound.chunks(CHUNK)).filter(move |(_, chunk)| has(chunk));
        let within = move |(first, chunk): (u32, &'_ [u32])| {
            let numbered = (first..).zip(chunk.iter().copied());
            numbered.filter(move |(_, found)| *found == spi).map(|(slot, _)| slot).collect::<Vec<_>>()
        };
        chunks.flat_map(within)
    }

    /// How many [searches](Self::outbound_with) a call has time for.
    pub(super) fn searches(&self) -> usize {
        (SEARCHED / self.outbound.len().max(1)).max(1)
    }

    /// Whether nobody was told yet that this SA reached the bound; now somebody is.
    pub(super) fn is_news(&mut self, handle: SaHandle, sa: &Sa, bound: u8) -> bool {
        self.note(handle, sa);
        let Some(seen) = self.seen.get_mut(handle.slot() as usize) else { return false };
        let is_news = seen.told & bound == 0;
        seen.told |= bound;
        is_news
    }

    fn knows(&self, handle: SaHandle) -> bool {
        self.seen.get(handle.slot() as usize).is_some_and(|seen| seen.generation == handle.generation())
    }

    /// Notes what was read of a slot. What was told of an SA stays told when only its configuration was updated, as
    /// long as its bounds are the same.
    fn note(&mut self, handle: SaHandle, sa: &Sa) {
        let number = handle.slot() as usize;
        if self.knows(handle) {
            return;
        }
        if self.seen.len() <= number {
            self.seen.resize(number + 1, Seen::default());
            self.outbound.resize(number + 1, 0);
        }
        let (old, mut new) = (self.seen[number], Seen::new(handle, sa));
        let spi = if sa.direction == Direction::Outbound { sa.spi } else { 0 };
        if (old.spi, old.soft, old.hard) == (new.spi, new.soft, new.hard) && old.generation != 0 {
            (new.told, new.kept_alive) = (old.told, old.kept_alive);
        }
        self.seen[number] = new;
        self.outbound[number] = spi;
    }

    fn forget(&mut self, slot: u32) {
        let place = slot as usize;
        if let (Some(seen), Some(spi)) = (self.seen.get_mut(place), self.outbound.get_mut(place)) {
            (*seen, *spi) = (Seen::default(), 0);
        }
    }
}

impl Caretaker {
    /// Visits the next slots, with an end to it: each slot once in about a second.
    pub(super) fn go_round(&mut self, present: &Present<'_>) {
        let slots = self.table.used_slots();
        let mut readings = READINGS;
        for _ in 0..slots.div_ceil(CALLS).max(LEAST_STEP).min(slots) {
            if self.rounds.position >= slots {
                self.rounds.position = 0;
            }
            if !self.visit(self.rounds.position, &mut readings, present) {
                return;
            }
            self.rounds.position += 1;
        }
    }

    /// Looks after the SA in a slot; false where that must wait for the next call.
    fn visit(&mut self, number: u32, readings: &mut u32, present: &Present<'_>) -> bool {
        let Some(handle) = self.table.handle_at(number) else {
            self.rounds.forget(number);
            return true;
        };
        if !self.rounds.knows(handle) {
            let Some(left) = readings.checked_sub(1) else { return false };
            *readings = left;
            // Else a writer is there: the next round will see what it made.
            let Some(sa) = self.config(handle) else { return true };
            self.rounds.note(handle, &sa);
        }
        let seen = self.rounds.seen[number as usize];
        let news = seen.news(present.unix_seconds);
        if (news.is_some() || seen.keepalive != 0) && self.is_ours(handle, seen.segment, present.now) {
            if let Some(bound) = news {
                self.tell_of(handle, bound);
            }
            self.keep_alive(handle, &seen, present);
        }
        true
    }

    /// It stays in the table: without it, a restart would install a configured SA anew, from sequence number 1 (I2).
    fn tell_of(&mut self, handle: SaHandle, bound: u8) {
        if let Some(sa) = self.config(handle)
            && self.rounds.is_news(handle, &sa, bound)
        {
            self.tell_limit(&sa, bound);
        }
    }

    /// RFC 3948 section 4: only when nothing else was sent.
    fn keep_alive(&mut self, handle: SaHandle, seen: &Seen, present: &Present<'_>) {
        let Some(slot) = self.table.slot(handle) else { return };
        let is_over = seen.hard != 0 && present.unix_seconds >= u64::from(seen.hard);
        if is_over || !seen.wants_keep_alive(slot, present.now) {
            return;
        }
        if self.rings.command(Command::KeepAlive(handle)) {
            let seconds = u32::try_from(present.now / NANOSECONDS).unwrap_or(u32::MAX);
            self.rounds.seen[handle.slot() as usize].kept_alive = seconds;
            count(&self.counts.keep_alives);
        } else {
            count(&self.counts.keep_alives_late);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_all_of_an_spi_wherever_they_are() {
        let places = [0, 255, 256, 257, 999];
        let mut rounds = Rounds { outbound: vec![0; 1000], ..Rounds::default() };
        for place in places {
            rounds.outbound[place] = 7;
        }
        assert_eq!(rounds.outbound_with(7).map(|slot| slot as usize).collect::<Vec<_>>(), places);
        assert_eq!(rounds.outbound_with(8).count(), 0);
        assert_eq!((Rounds::default().searches() > 16, rounds.searches()), (true, 2000));
    }
}
