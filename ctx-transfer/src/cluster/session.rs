//! What one standby has of the tunnels that we own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use baton_sad::Name;

use super::event::{Content, Refusal, Reserved, SaKey};
use super::segments::{SEGMENTS, Segments};

/// Contexts that are being read for one standby at most.
const READING: usize = 64;
/// Deletions that wait at most; beyond, the standby gets everything anew.
const DELETIONS: usize = 1 << 16;
/// What a deletion counts for in the window.
const DELETION: usize = 128;
/// Reservations on their way that are remembered; what is forgotten is sent again.
const BATCHES: usize = 1_024;

/// A tunnel as the standby has it.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    segment: u8,
    /// The change that it has acknowledged last.
    pub(crate) acked: Option<u64>,
    /// How far its SAs are reserved there.
    covered: BTreeMap<SaKey, u64>,
    queued: bool,
    /// It was waited for in vain.
    pub(crate) late: bool,
    /// Messages up to this one were of an earlier copy.
    since: u64,
    /// The message that it has taken last.
    applied: u64,
    /// Why it keeps its segment from being ready, as counted.
    counted: (bool, bool),
}

/// Something that was sent and not acknowledged.
#[derive(Debug)]
pub(crate) struct Flight {
    number: u64,
    pub(crate) tunnel: Name,
    version: u64,
    octets: usize,
    reserved: Vec<Reserved>,
    since: Duration,
    /// The segment of a tunnel that is gone.
    pub(crate) deleted: Option<u8>,
}

/// The session with one standby.
#[derive(Debug)]
pub(crate) struct Session {
    /// Ours with this life of the standby.
    pub(crate) number: u64,
    /// How often it has stopped standing by for each segment.
    ended: Vec<u32>,
    /// Segments that it stands by for.
    pub(crate) segments: Segments,
    /// It has all contexts of these; reservations wait for it.
    pub(crate) joining: Segments,
    /// It can take these over without a loss, and the voters are told so.
    pub(crate) ready: Segments,
    /// Voters are being told that it cannot any more, since these heartbeats.
    leaving: Vec<(u64, Segments)>,
    /// It has not heard itself that it cannot any more, as far as we know, since these heartbeats.
    believing: Vec<(u64, Segments)>,
    /// Segments of which it has been told that it has everything.
    completed: Segments,
    copies: BTreeMap<Name, Copy>,
    /// Tunnels that it has refused, by the messages that it has refused last: their segments are not in good order.
    refused: BTreeMap<Name, (u64, Refusal)>,
    unacked: Vec<u32>,
    uncovered: Vec<u32>,
    /// Tunnels that are gone, with their segments, and those whose deletion was refused.
    deletions: VecDeque<(Name, u8)>,
    refused_deletions: Vec<(Name, u8)>,
    live: VecDeque<Name>,
    fill: VecDeque<Name>,
    reading: BTreeSet<Name>,
    flights: VecDeque<Flight>,
    in_flight: usize,
    /// The longest context so far.
    longest: usize,
    next_number: u64,
    /// Octets that a fill may send now.
    pub(crate) budget: i64,
    batches: VecDeque<(u64, Vec<Reserved>)>,
    pub(crate) unsent: BTreeMap<SaKey, u64>,
    pub(crate) stale_since: Option<Duration>,
    pub(crate) filled: bool,
    /// The next connection begins with everything.
    pub(crate) anew: bool,
}

impl Session {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            ended: vec![0; SEGMENTS],
            segments: Segments::NONE,
            joining: Segments::NONE,
            ready: Segments::NONE,
            leaving: Vec::new(),
            believing: Vec::new(),
            completed: Segments::NONE,
            copies: BTreeMap::new(),
            refused: BTreeMap::new(),
            unacked: vec![0; SEGMENTS],
            uncovered: vec![0; SEGMENTS],
            deletions: VecDeque::new(),
            refused_deletions: Vec::new(),
            live: VecDeque::new(),
            fill: VecDeque::new(),
            reading: BTreeSet::new(),
            flights: VecDeque::new(),
            in_flight: 0,
            longest: 0,
            // What an earlier session's standby answers late is not taken for an answer to this one.
            next_number: number << 32,
            budget: 0,
            batches: VecDeque::new(),
            unsent: BTreeMap::new(),
            stale_since: None,
            filled: false,
            anew: false,
        }
    }

    /// As the standby is told with what is of a segment: it is another one whenever it stands by for it anew. It still has
    /// what it had when it stopped, and has not heard of what has ended since: that it sweeps (I6).
    pub(crate) fn number_of(&self, segment: u8) -> u64 {
        self.number.wrapping_add(u64::from(self.ended[usize::from(segment)]) << 32)
    }

    /// Segments whose reservations wait for this standby.
    pub(crate) fn required(&self) -> Segments {
        self.leaving.iter().fold(self.joining | self.ready, |all, (_, segments)| all | *segments)
    }

    pub(crate) fn copy(&self, tunnel: &Name) -> Option<&Copy> {
        self.copies.get(tunnel)
    }

    /// Whether it has acknowledged a tunnel up to a version, and installed it.
    pub(crate) fn has_all_of(&self, tunnel: &Name, version: u64) -> bool {
        let has = self.copies.get(tunnel).is_some_and(|copy| copy.acked >= Some(version));
        has && !self.refused.contains_key(tunnel)
    }

    /// Tunnels of these segments that are gone, and are not known to be gone there.
    pub(crate) fn deletions(&self, segments: Segments) -> impl Iterator<Item = Name> {
        self.undeleted().filter(move |(_, segment)| segments.contains(*segment)).map(|(tunnel, _)| tunnel)
    }

    fn undeleted(&self) -> impl Iterator<Item = (Name, u8)> {
        let sent = self.flights.iter().filter_map(|flight| Some((flight.tunnel, flight.deleted?)));
        sent.chain(self.deletions.iter().chain(&self.refused_deletions).copied())
    }

    /// Refused tunnels.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (Name, Refusal)> + '_ {
        self.refused.iter().map(|(name, (_, refusal))| (*name, *refusal))
    }

    /// Whether it has refused the latest copy of a tunnel.
    pub(crate) fn has_refused(&self, tunnel: &Name) -> bool {
        self.refused.contains_key(tunnel)
    }

    /// Tunnels that are there, and all.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let done = self.copies.values().filter(|copy| copy.acked.is_some()).count();
        (done as u64, self.copies.len() as u64)
    }

    /// Contexts that it does not have in their present state.
    pub(crate) fn lag(&self) -> u64 {
        (self.live.len() + self.fill.len() + self.reading.len() + self.flights.len()) as u64
    }

    /// Since when something is on its way to it.
    pub(crate) fn waits_since(&self) -> Option<Duration> {
        self.flights.iter().map(|flight| flight.since).min()
    }

    /// A tunnel of one of its segments has changed, or is to be filled in.
    pub(crate) fn enqueue(&mut self, tunnel: Name, segment: u8, live: bool) {
        let known = self.copies.contains_key(&tunnel);
        let since = self.next_number;
        let copy = self.copies.entry(tunnel).or_insert_with(|| Copy { segment, since, ..Copy::default() });
        if !std::mem::replace(&mut copy.queued, true) {
            if live { self.live.push_back(tunnel) } else { self.fill.push_back(tunnel) }
        }
        if !known {
            self.judge(&tunnel, &BTreeMap::new());
        }
    }

    /// The next tunnel to read, as far as window and budget allow.
    pub(crate) fn next_read(&mut self, window: usize) -> Option<Name> {
        // What is being read will be on its way soon.
        let expected = self.in_flight + self.reading.len() * self.longest;
        if expected >= window || self.reading.len() >= READING || !self.deletions.is_empty() {
            return None;
        }
        let fill = |session: &mut Self| (session.budget > 0).then(|| session.fill.pop_front()).flatten();
        let tunnel = self.live.pop_front().or_else(|| fill(self))?;
        if let Some(copy) = self.copies.get_mut(&tunnel) {
            copy.queued = false;
            self.reading.insert(tunnel);
        }
        Some(tunnel)
    }

    /// Whether it waits for the content of a tunnel.
    pub(crate) fn has_read(&mut self, tunnel: &Name) -> bool {
        self.reading.remove(tunnel)
    }

    /// The number of a Put that leaves.
    pub(crate) fn put(&mut self, content: &Content, now: Duration) -> u64 {
        let octets = content.octets.0.len() + 128;
        self.longest = self.longest.max(octets);
        self.budget = self.budget.saturating_sub_unsigned(octets as u64);
        self.depart(content.tunnel, content.version, octets, content.reserved.clone(), now, None)
    }

    /// A tunnel is gone. The standby is told when there is room, if it ever heard of it: whether it has.
    pub(crate) fn delete(&mut self, tunnel: &Name) -> bool {
        self.reading.remove(tunnel);
        let Some(copy) = self.copies.remove(tunnel) else { return false };
        self.refused.remove(tunnel);
        self.count(&copy, (false, false));
        if copy.queued {
            self.live.retain(|other| other != tunnel);
            self.fill.retain(|other| other != tunnel);
        }
        self.deletions.push_back((*tunnel, copy.segment));
        if self.deletions.len() + self.refused_deletions.len() > DELETIONS {
            self.deletions.clear();
            self.refused_deletions.clear();
            self.anew = true;
        }
        true
    }

    /// The next Delete that leaves, as far as the window allows. They go before contexts, which may be of a new tunnel of
    /// the same name; where that is there already, it takes the old one's place.
    pub(crate) fn next_deletion(&mut self, window: usize, now: Duration) -> Option<(u64, Name)> {
        while self.in_flight < window {
            let (tunnel, segment) = self.deletions.pop_front()?;
            if !self.copies.contains_key(&tunnel) {
                return Some((self.depart(tunnel, 0, DELETION, Vec::new(), now, Some(segment)), tunnel));
            }
        }
        None
    }

    /// Whether it has not answered yet that a tunnel is gone. One that is not in good order is not waited for.
    pub(crate) fn is_deleting(&self, tunnel: &Name) -> bool {
        let required = self.required();
        let is_sent = self.flights.iter().any(|flight| flight.deleted.is_some() && flight.tunnel == *tunnel);
        let mut waiting = self.deletions.iter().chain(&self.refused_deletions);
        is_sent || waiting.any(|(name, segment)| name == tunnel && required.contains(*segment))
    }

    fn depart(
        &mut self,
        tunnel: Name,
        version: u64,
        octets: usize,
        reserved: Vec<Reserved>,
        since: Duration,
        deleted: Option<u8>,
    ) -> u64 {
        self.next_number += 1;
        let number = self.next_number;
        self.in_flight += octets;
        self.flights.push_back(Flight { number, tunnel, version, octets, reserved, since, deleted });
        number
    }

    /// What was refused is tried again: there may be room by now.
    pub(crate) fn retry_refused(&mut self) {
        self.deletions.extend(self.refused_deletions.drain(..));
        let segment = |tunnel: &Name| self.copies.get(tunnel).map(|copy| (*tunnel, copy.segment));
        let refused: Vec<_> = self.refused.keys().filter_map(segment).collect();
        for (tunnel, segment) in refused {
            self.enqueue(tunnel, segment, false);
        }
    }

    /// A Put or Delete is acknowledged; gives it back.
    pub(crate) fn acknowledge(&mut self, number: u64, result: Result<(), Refusal>) -> Option<Flight> {
        let place = self.flights.iter().position(|flight| flight.number == number)?;
        let flight = self.flights.remove(place)?;
        self.in_flight -= flight.octets;
        match (flight.deleted, result) {
            (Some(_), Ok(())) => {}
            (Some(segment), Err(_)) => self.refused_deletions.push((flight.tunnel, segment)),
            (None, Ok(())) => self.taken(&flight),
            (None, Err(refusal)) => self.refuse(&flight, refusal),
        }
        Some(flight)
    }

    /// The standby has a copy. What it refused after that it does not have.
    fn taken(&mut self, flight: &Flight) {
        let copy = self.copies.get_mut(&flight.tunnel).filter(|copy| copy.since < flight.number);
        let Some(copy) = copy else { return };
        copy.acked = copy.acked.max(Some(flight.version));
        copy.applied = copy.applied.max(flight.number);
        copy.covered.retain(|key, _| flight.reserved.iter().any(|reserved| reserved.key == *key));
        for reserved in &flight.reserved {
            let covered = copy.covered.entry(reserved.key).or_default();
            *covered = reserved.number.max(*covered);
        }
        if self.refused.get(&flight.tunnel).is_some_and(|(number, _)| *number < flight.number) {
            self.refused.remove(&flight.tunnel);
        }
    }

    /// The standby does not have a copy, whatever it had before. Refusals may overtake what takes its time.
    fn refuse(&mut self, flight: &Flight, refusal: Refusal) {
        let Some(copy) =
            self.copies.get_mut(&flight.tunnel).filter(|copy| copy.since.max(copy.applied) < flight.number)
        else {
            return;
        };
        copy.acked = None;
        let last = self.refused.entry(flight.tunnel).or_insert((flight.number, refusal));
        *last = (flight.number, refusal).max(*last);
    }

    /// Reservations that leave in one datagram.
    pub(crate) fn note_batch(&mut self, number: u64, items: Vec<Reserved>) {
        if self.batches.len() == BATCHES {
            self.batches.pop_front();
        }
        self.batches.push_back((number, items));
    }

    /// A datagram of reservations is acknowledged; gives them back without those that are missing there.
    pub(crate) fn acknowledge_batch(&mut self, number: u64, missing: &[SaKey]) -> Vec<Reserved> {
        let place = self.batches.iter().position(|(other, _)| *other == number);
        let batch = place.and_then(|place| self.batches.remove(place));
        let mut items = batch.map(|(_, items)| items).unwrap_or_default();
        items.retain(|reserved| !missing.contains(&reserved.key));
        items
    }

    /// The standby starts an SA above a number.
    pub(crate) fn cover(&mut self, tunnel: &Name, reserved: Reserved) {
        if let Some(copy) = self.copies.get_mut(tunnel) {
            let covered = copy.covered.entry(reserved.key).or_default();
            *covered = reserved.number.max(*covered);
        }
    }

    /// How far an SA is reserved there.
    pub(crate) fn covered(&self, tunnel: &Name, key: SaKey) -> u64 {
        self.copies.get(tunnel).and_then(|copy| copy.covered.get(&key)).copied().unwrap_or(0)
    }

    /// Counts a tunnel anew among those that keep its segment from being ready; `reserved` is what its SAs may use.
    pub(crate) fn judge(&mut self, tunnel: &Name, reserved: &BTreeMap<SaKey, u64>) {
        let Some(copy) = self.copies.get(tunnel) else { return };
        let behind = |(key, number): (&SaKey, &u64)| copy.covered.get(key).is_none_or(|has| has < number);
        let missing = copy.acked.is_none() || copy.late || self.refused.contains_key(tunnel);
        let now = (missing, reserved.iter().any(behind));
        let (segment, before) = (usize::from(copy.segment), copy.counted);
        self.unacked[segment] = self.unacked[segment] + u32::from(now.0) - u32::from(before.0);
        self.uncovered[segment] = self.uncovered[segment] + u32::from(now.1) - u32::from(before.1);
        if let Some(copy) = self.copies.get_mut(tunnel) {
            copy.counted = now;
        }
    }

    fn count(&mut self, copy: &Copy, now: (bool, bool)) {
        let segment = usize::from(copy.segment);
        self.unacked[segment] = self.unacked[segment] + u32::from(now.0) - u32::from(copy.counted.0);
        self.uncovered[segment] = self.uncovered[segment] + u32::from(now.1) - u32::from(copy.counted.1);
    }

    /// Marks a tunnel that was waited for in vain, or that has come after all.
    pub(crate) fn set_late(&mut self, tunnel: &Name, late: bool) {
        if let Some(copy) = self.copies.get_mut(tunnel) {
            copy.late = late;
        }
    }

    /// Moves segments towards ready as far as their tunnels allow; gives those that are ready now, and those that are
    /// complete for the first time. Whoever would go on with a tunnel that its peer knows to be over is not in good order
    /// either.
    pub(crate) fn advance(&mut self, complete_first: bool) -> (Segments, Segments) {
        let (mut ready, mut behind) = (Segments::NONE, Segments::NONE);
        let undeleted: Segments = self.undeleted().map(|(_, segment)| segment).collect();
        for segment in (self.segments - self.ready).iter() {
            let place = usize::from(segment);
            if (self.unacked[place] > 0 || undeleted.contains(segment)) && complete_first {
                behind.insert(segment);
            } else if self.joining.contains(segment) && self.uncovered[place] == 0 {
                ready.insert(segment);
            } else {
                self.joining.insert(segment);
            }
        }
        let required = self.required();
        self.joining -= behind;
        self.note_unrequired(required);
        self.ready |= ready;
        self.joining -= ready;
        let complete = ready - self.completed;
        self.completed |= ready;
        (ready, complete)
    }

    /// The standby can no longer take segments over without a loss. Until the voters know, since heartbeat `sequence`,
    /// reservations still wait for it.
    pub(crate) fn unready(&mut self, segments: Segments, sequence: u64) {
        let (leaving, required) = (segments & self.ready, self.required());
        self.joining -= segments;
        self.ready -= segments;
        self.filled &= leaving.is_empty();
        if !leaving.is_empty() {
            self.leaving.push((sequence, leaving));
            self.believing.retain_mut(|(_, segments)| {
                *segments -= leaving;
                !segments.is_empty()
            });
            self.believing.push((sequence, leaving));
        }
        self.note_unrequired(required);
    }

    /// Of what was required `before`, nobody waits for some any more: the standby is not in good order again before it has
    /// what is on its way to it (I6).
    fn note_unrequired(&mut self, before: Segments) {
        let unrequired = before - self.required();
        if unrequired.is_empty() {
            return;
        }
        let flights = self.flights.iter().map(|flight| &flight.tunnel);
        for tunnel in flights.chain(&self.reading).chain(&self.live).chain(&self.fill) {
            let copy = self.copies.get_mut(tunnel).filter(|copy| unrequired.contains(copy.segment));
            let Some(copy) = copy else { continue };
            copy.late = true;
            if !std::mem::replace(&mut copy.counted.0, true) {
                self.unacked[usize::from(copy.segment)] += 1;
            }
        }
    }

    /// Segments that it may still take itself for an heir of.
    pub(crate) fn believing(&self) -> Segments {
        self.believing.iter().fold(Segments::NONE, |all, (_, segments)| all | *segments)
    }

    /// It has granted a heartbeat that says who the heirs of these segments are.
    pub(crate) fn has_heard(&mut self, sequence: u64, granted: Segments) {
        self.believing.retain_mut(|(since, segments)| {
            if *since <= sequence {
                *segments -= granted;
            }
            !segments.is_empty()
        });
    }

    /// Forgets what the voters know by now.
    pub(crate) fn let_leave(&mut self, is_known: impl Fn(u8, u64) -> bool) -> bool {
        let (mut any, required) = (false, self.required());
        for (sequence, segments) in &mut self.leaving {
            let known: Segments = segments.iter().filter(|segment| is_known(*segment, *sequence)).collect();
            any |= !known.is_empty();
            *segments -= known;
        }
        self.leaving.retain(|(_, segments)| !segments.is_empty());
        if any {
            self.note_unrequired(required);
        }
        any
    }

    /// It does not stand by for these any more.
    pub(crate) fn forget(&mut self, segments: Segments) {
        self.segments -= segments;
        self.completed -= segments;
        self.copies.retain(|_, copy| !segments.contains(copy.segment));
        for segment in segments.iter().map(usize::from) {
            self.unacked[segment] = 0;
            self.uncovered[segment] = 0;
            self.ended[segment] = self.ended[segment].wrapping_add(1);
        }
        let copies = &self.copies;
        self.refused.retain(|tunnel, _| copies.contains_key(tunnel));
        self.live.retain(|tunnel| copies.contains_key(tunnel));
        self.fill.retain(|tunnel| copies.contains_key(tunnel));
        self.reading.retain(|tunnel| copies.contains_key(tunnel));
    }

    /// Takes the place of an older session: what the voters know of that one is still to be taken back. A standby in a new
    /// life remembers only owners.
    pub(crate) fn inherit(&mut self, mut old: Self, sequence: u64, new_life: bool) {
        old.unready(Segments::ALL, sequence);
        self.leaving = old.leaving;
        if !new_life {
            self.believing = old.believing;
        }
    }

    /// We do not own these any more: nothing is reserved, and nobody is told.
    pub(crate) fn abandon(&mut self, segments: Segments) {
        self.forget(segments);
        self.deletions.retain(|(_, segment)| !segments.contains(*segment));
        self.refused_deletions.retain(|(_, segment)| !segments.contains(*segment));
        self.joining -= segments;
        self.ready -= segments;
        self.leaving.iter_mut().for_each(|(_, leaving)| *leaving -= segments);
    }

    /// The connection is gone, and with it all that was under way: it is sent again.
    pub(crate) fn disconnect(&mut self, sequence: u64) {
        self.unready(Segments::ALL, sequence);
        self.completed = Segments::NONE;
        self.batches.clear();
        self.unsent.clear();
        self.in_flight = 0;
        let reading = std::mem::take(&mut self.reading).into_iter().map(|tunnel| (tunnel, None));
        let flights = std::mem::take(&mut self.flights);
        let flights = flights.into_iter().map(|flight| (flight.tunnel, flight.deleted));
        for (tunnel, deleted) in reading.chain(flights).collect::<Vec<_>>() {
            match self.copies.get(&tunnel).map(|copy| copy.segment) {
                Some(segment) => self.enqueue(tunnel, segment, true),
                // Whether the standby knows of the deletion is not known.
                None => self.deletions.extend(deleted.map(|segment| (tunnel, segment))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 1 << 20;

    /// Sends what is due, and gives the number of the one message.
    fn send(session: &mut Session, version: u64) -> u64 {
        let tunnel = session.next_read(WINDOW).expect("something to send");
        assert!(session.has_read(&tunnel));
        let content = Content { tunnel, segment: 7, version, octets: vec![0].into(), reserved: Vec::new() };
        session.put(&content, Duration::ZERO)
    }

    fn advance(session: &mut Session) -> Segments {
        for _ in 0..3 {
            let _ = session.advance(true);
        }
        session.ready
    }

    /// I6: what ended while a node did not stand by for it is no part of the session that it has then.
    #[test]
    fn a_segment_that_a_standby_is_given_again_is_of_another_session() {
        let (mut session, mut numbers) = (Session::new(u64::MAX), BTreeSet::new());
        for _ in 0..3 {
            session.segments |= Segments::one(7);
            assert!(numbers.insert(session.number_of(7)));
            assert_eq!(session.number_of(8), session.number);
            session.forget(Segments::one(7));
        }
    }

    /// I6: a change leaves for the peer as soon as voters know that the standby is no heir. It is not one again without it,
    /// whether the change began before that was decided or after.
    #[test]
    fn what_nobody_waits_for_any_more_keeps_a_standby_from_being_an_heir() {
        for is_early in [true, false] {
            let (tunnel, segments, none) = (Name::new("site-a").unwrap(), Segments::one(7), BTreeMap::new());
            let mut session = Session::new(1);
            (session.segments, session.budget) = (segments, 1);
            session.enqueue(tunnel, 7, false);
            let number = send(&mut session, 1);
            session.acknowledge(number, Ok(()));
            session.judge(&tunnel, &none);
            assert_eq!(advance(&mut session), segments);
            if is_early {
                session.enqueue(tunnel, 7, true);
            }
            session.disconnect(4);
            if !is_early {
                session.enqueue(tunnel, 7, true);
            }
            assert_eq!(session.required(), segments, "voters may take it for an heir");
            assert!(session.let_leave(|_, _| true));
            assert_eq!(advance(&mut session), Segments::NONE);
            let number = send(&mut session, 2);
            assert_eq!(advance(&mut session), Segments::NONE);
            session.acknowledge(number, Ok(()));
            session.set_late(&tunnel, false);
            session.judge(&tunnel, &none);
            assert_eq!(advance(&mut session), segments);
        }
    }

    /// I6: a standby that is given a segment again has nothing of it, whatever it answers to what it was sent before.
    #[test]
    fn late_answers_are_of_the_copy_before() {
        for answer in [Ok(()), Err(Refusal::Full)] {
            let (tunnel, segments, none) = (Name::new("site-a").unwrap(), Segments::one(7), BTreeMap::new());
            let mut session = Session::new(1);
            (session.segments, session.budget) = (segments, 1_000);
            session.enqueue(tunnel, 7, false);
            let early = send(&mut session, 1);
            session.forget(segments);
            session.segments = segments;
            session.enqueue(tunnel, 7, false);
            let number = send(&mut session, 1);
            session.acknowledge(early, answer);
            session.judge(&tunnel, &none);
            assert_eq!(advance(&mut session), Segments::NONE);
            session.acknowledge(number, Ok(()));
            session.judge(&tunnel, &none);
            assert_eq!(advance(&mut session), segments);
        }
    }
}
