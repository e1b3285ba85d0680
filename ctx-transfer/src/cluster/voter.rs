//! A voter: promises segments to claimants by compare-and-swap, each for one lease (I4).
//!
//! A promise is renewed to its holder, or given to a new claimant at a higher term once the former one has lapsed or its
//! holder has signed the segment off. So no two claimants are promised a segment at the same time, and a term has one
//! holder for ever. A voter that has just started may have promised something before; it promises nothing to anybody
//! for one lease.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_sad::NodeId;

use super::configuration::MAX_MEMBERS;
use super::guards::Guards;
use super::output::Remembered;
use super::segments::{SEGMENTS, Segments};
use super::wire::{Heartbeat, Mark, Vote};

/// A heartbeat of which nobody knows which one it was.
pub(crate) const SOME: u64 = u64::MAX;

/// Members that could go on with a segment, without an order.
type Ready = [Option<NodeId>; MAX_MEMBERS];

/// Who could go on with a segment, as its owner said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heirs {
    /// The owner.
    owner: Option<NodeId>,
    /// Of the owner; 0 if none is known.
    term: u64,
    /// The owner's heartbeat.
    sequence: u64,
    /// The owner and its standbys in good order.
    ready: Ready,
    /// Somebody else may still take itself for one of them.
    doubted: bool,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    term: u64,
    /// A node, in one of its lives: another life needs a term of its own.
    holder: Option<(NodeId, u64)>,
    until: Duration,
    handed: Option<NodeId>,
    heirs: Heirs,
    /// The promise is to a claim that was not confirmed yet.
    fresh: bool,
    /// As of the last confirmed owner, while it is.
    before: Heirs,
    /// Who owns the segment without a promise of this voter, and its term: this member's own memory is no longer the last
    /// word then, and neither is that there is none.
    overheard: Option<(NodeId, u64)>,
}

/// The promises of one member.
#[derive(Debug)]
pub(crate) struct Voter {
    incarnation: u64,
    lease: Duration,
    /// Nothing is promised before.
    opens: Duration,
    slots: Vec<Slot>,
    heard: BTreeMap<NodeId, (u64, u64)>,
    /// Of this node's own segments: those of which somebody may not have heard who can go on with them.
    doubted: Segments,
    changed: bool,
    promises: bool,
}

impl Voter {
    pub(crate) fn new(now: Duration, incarnation: u64, lease: Duration) -> Self {
        Self {
            incarnation,
            lease,
            opens: now + lease,
            slots: vec![Slot::default(); SEGMENTS],
            heard: BTreeMap::new(),
            doubted: Segments::NONE,
            changed: false,
            promises: true,
        }
    }

    pub(crate) fn set_guards(&mut self, guards: Guards) {
        self.promises = guards.promises;
        if !guards.voters_pause {
            self.opens = Duration::ZERO;
        }
    }

    /// What was known before the process was started again: who owned a segment last can go on with it, unless somebody
    /// may have taken it over in between without a voter that knows of it (`unseen`: there is no witness).
    pub(crate) fn recall(&mut self, share: &Remembered, unseen: bool) {
        let owner = (share.intact && (!unseen || share.alone)).then_some(share.owner);
        for segment in share.segments.iter() {
            let slot = &mut self.slots[usize::from(segment)];
            if !share.intact && !share.alone {
                slot.overheard = Some((share.owner, share.term));
                continue;
            }
            slot.term = share.term;
            let is_whole = share.intact && !unseen;
            let ready = if is_whole { share.ready } else { ready_of(owner.into_iter()) };
            let (owner, term) = (Some(share.owner), share.term);
            // Of which heartbeat it is was not remembered. Other voters' memories of any must not prevail: heirs that they
            // name may have ceased to be heirs since (I2).
            slot.heirs = Heirs { owner, term, sequence: SOME, ready, doubted: false };
        }
    }

    /// The highest term that any segment of a set has here.
    pub(crate) fn highest_term(&self, segments: Segments) -> u64 {
        let slots = segments.iter().map(|segment| &self.slots[usize::from(segment)]);
        let overheard = |slot: &Slot| slot.overheard.map_or(0, |(_, term)| term);
        slots.map(|slot| slot.term.max(overheard(slot))).max().unwrap_or(0)
    }

    /// Whether a node could go on with a segment without a loss.
    pub(crate) fn is_ready(&self, segment: u8, node: NodeId) -> bool {
        let slot = &self.slots[usize::from(segment)];
        slot.heirs.ready.contains(&Some(node)) && slot.overheard.is_none()
    }

    /// Whether somebody has owned a segment since what this voter remembers of it.
    pub(crate) fn has_overheard(&self, segment: u8) -> bool {
        self.slots[usize::from(segment)].overheard.is_some()
    }

    /// Whether nobody but its last owner could have gone on with a segment.
    pub(crate) fn was_alone(&self, segment: u8) -> bool {
        self.slots[usize::from(segment)].before.is_alone()
    }

    /// Notes of which of its segments this node's next own heartbeat does not yet tell somebody who the heirs are.
    pub(crate) fn doubt(&mut self, segments: Segments) {
        self.doubted = segments;
    }

    /// Answers a heartbeat; `None` if a later one was answered before.
    pub(crate) fn handle(&mut self, now: Duration, from: NodeId, beat: &Heartbeat) -> Option<Vote> {
        let last = self.heard.get(&from);
        if last.is_some_and(|(life, sequence)| *life == beat.incarnation && *sequence >= beat.sequence) {
            return None;
        }
        self.heard.insert(from, (beat.incarnation, beat.sequence));
        self.sign_off(from, beat);
        let mut vote = Vote {
            incarnation: self.incarnation,
            of: beat.incarnation,
            sequence: beat.sequence,
            ..Vote::default()
        };
        for segment in beat.claims.iter() {
            self.decide(now, from, beat, segment, &mut vote);
        }
        Some(vote)
    }

    fn sign_off(&mut self, from: NodeId, beat: &Heartbeat) {
        for (to, segments) in &beat.handed {
            for segment in (*segments - beat.claims).iter() {
                let slot = &mut self.slots[usize::from(segment)];
                if slot.holder == Some((from, beat.incarnation)) {
                    slot.handed = Some(*to);
                }
            }
        }
    }

    fn decide(&mut self, now: Duration, from: NodeId, beat: &Heartbeat, segment: u8, vote: &mut Vote) {
        let slot = &mut self.slots[usize::from(segment)];
        let holds = slot.holder == Some((from, beat.incarnation)) && slot.handed.is_none();
        let holds = holds || slot.was_promised(from, beat, segment);
        let renews = holds && beat.term >= slot.term;
        let open = slot.until <= now || slot.handed == Some(from);
        let open = open || !self.promises;
        let granted = now >= self.opens && (renews || open && beat.term > slot.term);
        if !granted || !slot.note(from, beat, segment, vote) {
            let is_free = slot.until <= now && beat.incarnation != self.incarnation;
            self.changed |= is_free && slot.overhear(from, beat, segment);
            vote.highest = vote.highest.max(slot.term);
            return;
        }
        // Others have not granted a renewal under a higher term yet. Whoever owns the segment by their votes may have that
        // same term: in what is remembered it is ours only when enough of them have granted it.
        let unbacked = renews && beat.incarnation == self.incarnation && !beat.fresh.contains(segment);
        let term = if unbacked { slot.heirs.term } else { beat.term };
        let doubted = beat.incarnation == self.incarnation && self.doubted.contains(segment);
        self.changed |= slot.confirm(from, beat, term, segment, doubted);
        slot.term = beat.term;
        slot.holder = Some((from, beat.incarnation));
        slot.handed = None;
        slot.until = now + self.lease;
        vote.granted.insert(segment);
    }

    /// Enough voters have granted this node segments under its present term.
    pub(crate) fn back(&mut self, segments: Segments, term: u64) {
        for segment in segments.iter() {
            let slot = &mut self.slots[usize::from(segment)];
            let is_ours = slot.holder.is_some_and(|(_, life)| life == self.incarnation) && !slot.fresh;
            if is_ours && slot.heirs.term < term && slot.term == term {
                (slot.heirs.term, slot.before.term) = (term, term);
                self.changed = true;
            }
        }
    }

    /// A node gives up what it was promised here: only for its own vote, which cannot be late.
    pub(crate) fn release(&mut self, node: NodeId, segments: Segments) {
        for segment in segments.iter() {
            let slot = &mut self.slots[usize::from(segment)];
            if slot.holder.is_some_and(|(holder, _)| holder == node) {
                slot.until = Duration::ZERO;
            }
        }
    }

    /// What is to be remembered, if it has changed since it was asked last.
    pub(crate) fn changes(&mut self) -> Option<Vec<Remembered>> {
        std::mem::take(&mut self.changed).then(|| {
            let mut shares = BTreeMap::<(NodeId, u64, bool, bool, Ready), Segments>::new();
            let nobody = Ready::default();
            for (segment, slot) in self.slots.iter().enumerate() {
                let (term, heirs) = (slot.heirs.term, &slot.heirs);
                let share = match (heirs.owner, slot.overheard) {
                    (Some(owner), None) => (owner, term, heirs.is_intact(), heirs.is_alone(), heirs.ready),
                    (Some(owner), Some(_)) => (owner, term, false, true, nobody),
                    (None, Some((owner, term))) => (owner, term, false, false, nobody),
                    (None, None) => continue,
                };
                shares.entry(share).or_default().insert(segment as u8);
            }
            let share = |((owner, term, intact, alone, ready), segments)| Remembered {
                segments,
                owner,
                term,
                intact,
                alone,
                ready,
            };
            shares.into_iter().map(share).collect()
        })
    }
}

impl Slot {
    /// Says what is known about a fresh claim; `false` if there is no room to say it.
    fn note(&self, from: NodeId, beat: &Heartbeat, segment: u8, vote: &mut Vote) -> bool {
        if !beat.fresh.contains(segment) {
            return true;
        }
        let known = if self.is_unconfirmed_claim_of(from) { self.before } else { self.heirs };
        let Some(mark) = mark_of(&mut vote.marks, &known) else { return false };
        mark.segments.insert(segment);
        // After somebody else has owned it without this voter, nobody is an heir for all it knows.
        if known.ready.contains(&Some(from)) && self.overheard.is_none() {
            mark.ready.insert(segment);
        }
        true
    }

    /// Whether a node has claimed the segment, and nobody knows whether it got it.
    fn is_unconfirmed_claim_of(&self, node: NodeId) -> bool {
        self.fresh && self.heirs.owner == Some(node)
    }

    /// Whether this voter has promised the segment, before it was started again, to a node that has owned it ever since: the
    /// same life of it, for another one would have needed a higher term.
    fn was_promised(&self, from: NodeId, beat: &Heartbeat, segment: u8) -> bool {
        let recalled =
            self.holder.is_none() && self.heirs.owner == Some(from) && self.heirs.term == self.term;
        let still_owns = !beat.fresh.contains(segment) && beat.term == self.term;
        recalled && still_owns && self.overheard.is_none_or(|(owner, _)| owner == from)
    }

    /// Somebody owns the segment, who is promised nothing here: this voter has just started, or remembers a higher term.
    /// What its owner puts here meanwhile, and what it uses, would else be taken for nobody's, or for what it was when this
    /// node owned it (I2, I3). Others are not told: one that has lost its memory must not seem to have one. Says whether
    /// that is new.
    fn overhear(&mut self, from: NodeId, beat: &Heartbeat, segment: u8) -> bool {
        let owner = Some((from, beat.term));
        !beat.fresh.contains(segment) && std::mem::replace(&mut self.overheard, owner) != owner
    }

    /// Notes who can go on from now on, and says whether that changes what is to be remembered. After a fresh claim
    /// nobody else can go on without a rekey: the claimant may have had its lease and died before it could say so. The
    /// claimant itself can if it could before.
    fn confirm(&mut self, from: NodeId, beat: &Heartbeat, term: u64, segment: u8, doubted: bool) -> bool {
        let fresh = beat.fresh.contains(segment);
        // What nobody can go on with leaves nothing to doubt.
        let doubted = doubted && !fresh && !beat.rekeying.contains(segment);
        if fresh && !self.is_unconfirmed_claim_of(from) {
            self.before = self.heirs;
        }
        let ready = if fresh || beat.rekeying.contains(segment) {
            Ready::default()
        } else {
            let heirs = beat.heirs.iter().filter(|(_, share)| share.contains(segment));
            ready_of(std::iter::once(from).chain(heirs.map(|(node, _)| *node)))
        };
        let known = self.heirs;
        self.heirs = Heirs { owner: Some(from), term, sequence: beat.sequence, ready, doubted };
        let mut is_news = false;
        if !fresh {
            self.before = self.heirs;
            is_news = self.overheard.take().is_some();
        }
        self.fresh = fresh;
        let told = |heirs: Heirs| (heirs.owner, heirs.term, heirs.ready, heirs.is_alone());
        is_news || told(known) != told(self.heirs)
    }
}

impl Heirs {
    /// Whether the owner itself could go on.
    fn is_intact(&self) -> bool {
        self.owner.is_some() && self.ready.contains(&self.owner)
    }

    fn is_alone(&self) -> bool {
        self.ready.iter().flatten().count() < 2 && !self.doubted
    }
}

fn ready_of(nodes: impl Iterator<Item = NodeId>) -> Ready {
    let mut ready = Ready::default();
    for (place, node) in ready.iter_mut().zip(nodes) {
        *place = Some(node);
    }
    ready
}

fn mark_of<'a>(marks: &'a mut Vec<Mark>, known: &Heirs) -> Option<&'a mut Mark> {
    let (owner, term, sequence) = (known.owner, known.term, known.sequence);
    let place =
        marks.iter().position(|mark| (mark.owner, mark.term, mark.sequence) == (owner, term, sequence));
    if place.is_none() && marks.len() < MAX_MEMBERS {
        marks.push(Mark { owner, term, sequence, segments: Segments::NONE, ready: Segments::NONE });
        return marks.last_mut();
    }
    place.map(|at| &mut marks[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1;
    const OTHER: u64 = 2;

    fn id(number: u8) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn beat(incarnation: u64, sequence: u64, term: u64, fresh: bool) -> Heartbeat {
        let claims = Segments::one(7);
        let fresh = if fresh { claims } else { Segments::NONE };
        Heartbeat { incarnation, sequence, term, claims, fresh, ..Heartbeat::default() }
    }

    /// Segment 7 under term 5.
    fn remembered(owner: NodeId, alone: bool) -> Remembered {
        let ready = ready_of([Some(owner), (!alone).then(|| id(3))].into_iter().flatten());
        Remembered { segments: Segments::one(7), owner, term: 5, intact: true, alone, ready }
    }

    /// With a witness, which may have been started again just before the owner died. A pair without one could not know.
    #[test]
    fn heirs_are_remembered_over_a_start_where_nobody_can_own_unseen() {
        for unseen in [false, true] {
            let mut voter = Voter::new(Duration::ZERO, US, Duration::from_millis(30));
            voter.recall(&remembered(id(2), false), unseen);
            assert_eq!(voter.is_ready(7, id(3)), !unseen);
        }
    }

    /// The last owner, and its term, as a claimant is told.
    fn testimony(voter: &mut Voter, now: Duration) -> (Option<NodeId>, u64) {
        let vote = voter.handle(now, id(2), &beat(OTHER, 1, 9, true)).unwrap();
        (vote.marks[0].owner, vote.marks[0].term)
    }

    /// A node that nobody hears any more raises its term for other segments. Somebody else may own this one under the same
    /// term by then.
    #[test]
    fn a_term_is_remembered_when_enough_voters_have_granted_it() {
        for backed in [false, true] {
            let lease = Duration::from_millis(30);
            let mut voter = Voter::new(Duration::ZERO, US, lease);
            let now = Duration::from_millis(100);
            for (sequence, term, fresh) in [(1, 4, true), (2, 4, false), (3, 5, false)] {
                let vote = voter.handle(now, id(1), &beat(US, sequence, term, fresh)).unwrap();
                assert!(vote.granted.contains(7));
            }
            if backed {
                voter.back(Segments::one(7), 5);
            }
            let term = if backed { 5 } else { 4 };
            assert_eq!(testimony(&mut voter, now + lease), (Some(id(1)), term));
        }
    }

    /// I2: what an owner puts here while this voter is closed is not nobody's, even if the process is started again. Other
    /// voters' claimants are not told of what is only hearsay.
    #[test]
    fn an_owner_is_overheard_before_anything_is_promised() {
        const THIRD: u64 = 3;
        let lease = Duration::from_millis(30);
        let mut voter = Voter::new(Duration::ZERO, US, lease);
        let now = Duration::from_millis(10);
        assert!(voter.handle(now, id(3), &beat(THIRD, 1, 3, true)).unwrap().granted.is_empty());
        assert!(!voter.has_overheard(7), "it is only a claim");
        assert!(voter.handle(now, id(3), &beat(THIRD, 2, 3, false)).unwrap().granted.is_empty());
        assert!(voter.has_overheard(7));
        let mut again = Voter::new(Duration::ZERO, US, lease);
        voter.changes().unwrap().iter().for_each(|share| again.recall(share, true));
        for voter in [&mut voter, &mut again] {
            assert!(voter.has_overheard(7));
            assert_eq!(voter.highest_term(Segments::one(7)), 3);
        }
        assert_eq!(testimony(&mut voter, now + lease), (None, 0));
        assert!(again.handle(now + lease, id(3), &beat(THIRD, 3, 3, false)).unwrap().granted.contains(7));
        assert!(!again.has_overheard(7), "it is promised now");
    }

    /// I2: an owner that remembers a higher term than the one after it has, and does not grant that, is no longer the last.
    #[test]
    fn an_owner_that_is_refused_is_overheard() {
        let mut voter = Voter::new(Duration::ZERO, US, Duration::from_millis(30));
        let owner = id(1);
        voter.recall(&remembered(owner, true), true);
        assert!(voter.is_ready(7, owner));
        let now = Duration::from_millis(100);
        assert!(voter.handle(now, id(2), &beat(OTHER, 1, 5, false)).unwrap().granted.is_empty());
        assert!(!voter.is_ready(7, owner));
        let mut again = Voter::new(Duration::ZERO, US, Duration::from_millis(30));
        voter.changes().unwrap().iter().for_each(|share| again.recall(share, true));
        assert!(!again.is_ready(7, owner));
    }

    /// Else an owner would miss the vote of each member that was started again for as long as it owns the segment.
    #[test]
    fn a_promise_is_renewed_after_a_start() {
        let lease = Duration::from_millis(30);
        for (node, term, fresh, granted) in [(2, 5, false, true), (2, 5, true, false), (3, 5, false, false)] {
            let mut voter = Voter::new(Duration::ZERO, US, lease);
            voter.recall(&remembered(id(2), false), false);
            let early = voter.handle(Duration::ZERO, id(node), &beat(OTHER, 1, term, fresh)).unwrap();
            assert!(early.granted.is_empty(), "another may be promised it by a former life");
            let vote = voter.handle(lease, id(node), &beat(OTHER, 2, term, fresh)).unwrap();
            assert_eq!(vote.granted.contains(7), granted, "{node} {fresh}");
        }
    }

    /// I6: what a stale takeover knows too little of it knows too little of in another life, too.
    #[test]
    fn nobody_is_an_heir_of_what_is_being_rekeyed() {
        let mut voter = Voter::new(Duration::ZERO, US, Duration::from_millis(30));
        let now = Duration::from_millis(100);
        voter.handle(now, id(1), &beat(US, 1, 4, true)).unwrap();
        voter.doubt(Segments::one(7));
        for (sequence, rekeying) in [(2, true), (3, false)] {
            let rekeying = if rekeying { Segments::one(7) } else { Segments::NONE };
            voter.handle(now, id(1), &Heartbeat { rekeying, ..beat(US, sequence, 4, false) }).unwrap();
            assert_eq!(voter.is_ready(7, id(1)), rekeying.is_empty());
            let remembered = voter.changes().unwrap()[0];
            assert_eq!((remembered.owner, remembered.intact), (id(1), rekeying.is_empty()));
            assert_ne!(rekeying.is_empty(), remembered.alone, "there is nothing to doubt");
        }
    }

    /// Without a witness: who has not heard that it is no heir may have gone on.
    #[test]
    fn an_owner_is_not_alone_while_somebody_else_may_take_itself_for_an_heir() {
        for doubted in [false, true] {
            let mut voter = Voter::new(Duration::ZERO, US, Duration::from_millis(30));
            let now = Duration::from_millis(100);
            voter.doubt(if doubted { Segments::one(7) } else { Segments::NONE });
            for (sequence, fresh) in [(1, true), (2, false)] {
                voter.handle(now, id(1), &beat(US, sequence, 4, fresh)).unwrap();
            }
            assert_eq!(voter.was_alone(7), !doubted);
            assert_eq!(voter.changes().unwrap()[0].alone, !doubted);
        }
    }
}
