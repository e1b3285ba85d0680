//! What is claimed, gained and lost.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_sad::NodeId;

use super::Cluster;
use super::configuration::MAX_MEMBERS;
use super::output::{Cause, Output};
use super::preparation::Preparing;
use super::segments::{SEGMENTS, Segments};
use super::status::{Alarm, Notice};
use super::voter::SOME;
use super::wire::{Mark, TERMS, Vote};

/// What the voters say of a fresh claim, from whoever knows the segment's last owner best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    term: u64,
    sequence: u64,
    owner: Option<NodeId>,
    ready: bool,
}

/// What all voters together say of a fresh claim.
#[derive(Clone, Copy, Debug, Default)]
struct Testimony {
    best: Known,
    /// Voters that remember an owner, by their places in the configuration. One that has lost its memory knows nothing of
    /// what it promised before.
    remembering: u8,
    /// Voters that have said anything.
    heard: u8,
    /// The latest owners that they remember are several of one term: which was the last nobody knows.
    disputed: bool,
}

/// The claims of this node.
#[derive(Debug)]
pub(crate) struct Claims {
    /// Of all claims.
    pub(crate) term: u64,
    /// As it was sent last, and the first heartbeat in which it was.
    sent: (u64, u64),
    /// Held since before that, and not yet known to be granted under it by enough voters.
    unbacked: Segments,
    /// Those whose lease we have.
    pub(crate) held: Segments,
    leases: Vec<Duration>,
    /// What of it, and of what we had for a moment, has first to be made ready: its leases are not in the table, and it is
    /// not claimed again before that is done.
    pub(crate) preparing: Preparing,
    /// What this node, in this life, has had all contexts of: whatever voters say, it is an heir of nothing else.
    pub(crate) sound: Segments,
    /// Until when the SAs of what was taken over with counters that were not known to be high enough may wait for new keys:
    /// whoever it were moved to would not know of that (I2).
    rekeying: Vec<Duration>,
    /// Nothing is claimed before.
    listens_until: Duration,
    vacant_since: Vec<Option<Duration>>,
    /// Fresh claims, and since when.
    fresh_since: Vec<Option<Duration>>,
    known: Vec<Testimony>,
    /// The first heartbeat of each fresh claim: what voters said of earlier ones they may have forgotten since.
    asked: Vec<u64>,
    refused_at: u64,
    wake: Option<Duration>,
    pub(crate) last_took: Option<(Duration, Segments, Cause)>,
}

impl Claims {
    pub(crate) fn new(listens_until: Duration, sound: Segments) -> Self {
        Self {
            term: 0,
            sent: (0, 0),
            unbacked: Segments::NONE,
            held: Segments::NONE,
            preparing: Preparing::default(),
            sound,
            rekeying: vec![Duration::ZERO; SEGMENTS],
            leases: vec![Duration::ZERO; SEGMENTS],
            listens_until,
            vacant_since: vec![None; SEGMENTS],
            fresh_since: vec![None; SEGMENTS],
            known: vec![Testimony::default(); SEGMENTS],
            asked: vec![0; SEGMENTS],
            refused_at: 0,
            wake: None,
            last_took: None,
        }
    }

    pub(crate) fn listen_until(&mut self, until: Duration) {
        self.listens_until = self.listens_until.max(until);
        self.vacant_since.fill(None);
    }

    /// What must not be moved as planned now, and what nobody is an heir of.
    pub(crate) fn rekeying(&self, now: Duration) -> Segments {
        self.held.iter().filter(|segment| self.rekeying[usize::from(*segment)] > now).collect()
    }

    /// The end of the lease that ends first.
    pub(crate) fn next_lapse(&self) -> Option<Duration> {
        self.held.iter().map(|segment| self.leases[usize::from(segment)]).min()
    }

    pub(crate) fn listens_until(&self) -> Duration {
        self.listens_until
    }

    /// The leases of segments, by their ends.
    pub(crate) fn leases_of(&self, segments: Segments) -> BTreeMap<Duration, Segments> {
        let mut leases = BTreeMap::<Duration, Segments>::new();
        for segment in (segments & self.held).iter() {
            leases.entry(self.leases[usize::from(segment)]).or_default().insert(segment);
        }
        leases
    }

    pub(crate) fn wake(&self) -> Option<Duration> {
        self.wake
    }

    /// `place` is the voter's in the configuration.
    pub(crate) fn note_vote(&mut self, place: usize, vote: &Vote) {
        self.refused_at = self.refused_at.max(vote.highest);
        for mark in &vote.marks {
            for segment in (mark.segments & vote.granted).iter() {
                let place_of = usize::from(segment);
                if self.fresh_since[place_of].is_none() || vote.sequence < self.asked[place_of] {
                    continue;
                }
                let ready = mark.ready.contains(segment);
                let Mark { owner, term, sequence, .. } = *mark;
                let testimony = &mut self.known[usize::from(segment)];
                let (known, best) = (Known { term, sequence, owner, ready }, testimony.best);
                let rivals = known.term == best.term && known.owner != best.owner;
                testimony.disputed = rivals || testimony.disputed && known.term <= best.term;
                // Of which heartbeat a voter speaks that was started again nobody knows: both have to agree.
                let unordered = best.term == term && (best.sequence == SOME || sequence == SOME);
                testimony.best = best.max(known);
                testimony.best.ready &= !unordered || best.ready && ready;
                testimony.heard |= 1 << place;
                if term > 0 {
                    testimony.remembering |= 1 << place;
                }
            }
        }
    }

    /// The term leaves in a heartbeat.
    pub(crate) fn send_term(&mut self, sequence: u64) {
        if self.sent.0 != self.term {
            (self.sent, self.unbacked) = ((self.term, sequence), self.held);
        }
    }

    fn forget(&mut self, segments: Segments) {
        self.held -= segments;
        for segment in segments.iter().map(usize::from) {
            self.leases[segment] = Duration::ZERO;
            self.rekeying[segment] = Duration::ZERO;
            self.fresh_since[segment] = None;
            self.known[segment] = Testimony::default();
            self.vacant_since[segment] = None;
        }
    }
}

/// Above all that is known. At the end of all terms it stays there, and claims find no votes.
pub(crate) fn next_term(known: u64) -> u64 {
    known.saturating_add(1).min(TERMS - 1)
}

impl Cluster {
    /// Claims what nobody else claims, each segment after the time that belongs to this node's place among those who
    /// could: whoever has its contexts at once, the others one dead time after the other.
    pub(crate) fn consider_claims(&mut self) {
        self.claims.wake = None;
        if !self.may_claim() {
            return;
        }
        self.give_up_hopeless();
        let vacant = self.vacant();
        if vacant.is_empty() {
            return;
        }
        let (shares, known) = (self.shares(), self.tunnels.held_segments());
        // What was signed off to us waits for nobody, and comes as a whole, as it was staged. Whether we could go on with it
        // otherwise the voters may not have heard yet.
        let handed = self.handed_by_peers();
        let is_due = |segment: &u8| handed.contains(*segment) || self.is_due(*segment, known, &shares);
        let due: Segments = vacant.iter().filter(is_due).collect();
        if !due.is_empty() {
            self.claim(due);
        }
    }

    fn may_claim(&mut self) -> bool {
        if self.now < self.claims.listens_until {
            self.claims.wake = Some(self.claims.listens_until);
            return false;
        }
        self.is_node() && self.is_able() && !self.maintenance
    }

    fn vacant(&mut self) -> Segments {
        let ours = self.ownership.claimed() | self.moves.signed_off() | self.claims.preparing.segments;
        let taken = self.peers.values().fold(ours, |taken, peer| taken | peer.claims() | peer.handed());
        let taken = taken - self.handed_by_peers();
        let vacant = Segments::ALL - taken;
        for segment in 0..=u8::MAX {
            let since = &mut self.claims.vacant_since[usize::from(segment)];
            *since = vacant.contains(segment).then(|| since.unwrap_or(self.now));
        }
        vacant
    }

    /// What others have signed off to us and nobody has claimed since.
    fn handed_by_peers(&self) -> Segments {
        let claimed = self.peers.values().fold(self.ownership.claimed(), |all, peer| all | peer.claims());
        let handed = self.peers.keys().fold(Segments::NONE, |all, id| all | self.handed_to_us(*id));
        handed - claimed
    }

    fn is_due(&mut self, segment: u8, known: Segments, shares: &[(Segments, Vec<NodeId>)]) -> bool {
        let since = self.claims.vacant_since[usize::from(segment)].unwrap_or(self.now);
        let due = since + self.config.dead_time() * self.place(segment, known, shares);
        if due > self.now {
            self.claims.wake = Some(self.claims.wake.map_or(due, |wake| wake.min(due)));
        }
        due <= self.now
    }

    /// 0 for a node that can go on with a segment without a loss; then whoever has contexts of it at all.
    fn place(&self, segment: u8, known: Segments, shares: &[(Segments, Vec<NodeId>)]) -> u32 {
        if self.voter.is_ready(segment, self.config.me) && self.sound().contains(segment) {
            return 0;
        }
        if known.contains(segment) {
            return 1;
        }
        let ring = shares.iter().find(|(share, _)| share.contains(segment)).map(|(_, ring)| ring);
        let position = ring.and_then(|ring| ring.iter().position(|node| *node == self.config.me));
        2 + position.unwrap_or(MAX_MEMBERS) as u32
    }

    /// The nodes that are alive, in the order in which they are meant to own a segment.
    pub(crate) fn ring(&self, segment: u8) -> Vec<NodeId> {
        let shares = self.shares().into_iter();
        shares.into_iter().find(|(share, _)| share.contains(segment)).map_or(Vec::new(), |(_, ring)| ring)
    }

    /// The even split of all segments, each share with its ring.
    pub(crate) fn shares(&self) -> Vec<(Segments, Vec<NodeId>)> {
        let mut nodes: Vec<NodeId> = self.config.nodes().iter().map(|node| node.id).collect();
        let count = nodes.len();
        let mut shares = Vec::with_capacity(count);
        for home in 0..count {
            let share = (0..=u8::MAX).filter(|segment| usize::from(*segment) * count / SEGMENTS == home);
            let ring = nodes.iter().copied().filter(|node| self.is_available(*node)).collect();
            shares.push((share.collect(), ring));
            nodes.rotate_left(1);
        }
        shares
    }

    fn is_available(&self, node: NodeId) -> bool {
        let peer = self.peers.get(&node);
        let takes = |peer: &super::peer::Peer| !peer.beat.maintenance && !peer.beat.idle;
        peer.map_or(!self.maintenance && self.is_able(), |peer| peer.is_alive() && takes(peer))
    }

    fn claim(&mut self, segments: Segments) {
        let known = self.voter.highest_term(segments).max(self.claims.refused_at);
        self.claims.term = self.claims.term.max(next_term(known));
        for segment in segments.iter().map(usize::from) {
            self.claims.fresh_since[segment] = Some(self.now);
            self.claims.known[segment] = Testimony::default();
            self.claims.asked[segment] = self.sequence + 1;
        }
        self.ownership.claim(segments);
        self.beat();
    }

    /// A claim that finds no votes blocks others: it is given up for a while. One that was refused for its term gets a
    /// higher one.
    fn give_up_hopeless(&mut self) {
        let fresh = self.ownership.claimed() - self.claims.held;
        let patience = self.config.lease * 2;
        let since = |segment: &u8| self.claims.fresh_since[usize::from(*segment)].unwrap_or(self.now);
        let hopeless: Segments = fresh.iter().filter(|s| since(s) + patience < self.now).collect();
        if !hopeless.is_empty() {
            self.alarm(Alarm::NoMajority, true);
            self.lose(hopeless);
            let place = self.config.nodes().iter().position(|node| node.id == self.config.me);
            self.claims.listen_until(self.now + self.config.dead_time() * (1 + place.unwrap_or(0) as u32));
        } else if !self.ownership.claimed().is_empty() && self.claims.refused_at >= self.claims.term {
            // What is held, too: a voter that remembers a higher term would else refuse it for ever.
            self.claims.term = next_term(self.claims.refused_at);
        }
    }

    /// What is held under the present term by enough votes.
    pub(crate) fn note_backed(&mut self) {
        let since = Some(self.claims.sent.1);
        let unbacked = (self.claims.unbacked & self.claims.held).iter();
        let backed = unbacked.filter(|segment| self.ownership.backed(*segment) >= since).collect();
        self.voter.back(backed, self.claims.sent.0);
        self.claims.unbacked -= backed;
    }

    /// Looks at what the votes are worth now: leases grow, and fresh claims become ours.
    pub(crate) fn update_leases(&mut self) {
        let mut renewed = BTreeMap::<Duration, Segments>::new();
        let mut gained = Segments::NONE;
        for segment in self.ownership.claimed().iter() {
            let held = self.claims.held.contains(segment);
            let lease = self.claims.leases[usize::from(segment)];
            let until = self.ownership.deadline(segment, held);
            let Some(until) = until.filter(|until| *until > self.now.max(lease)) else { continue };
            if !held && !self.is_told(segment) {
                continue;
            }
            self.claims.leases[usize::from(segment)] = until;
            if self.moves.frozen().contains(segment) && self.guards.freeze_first {
                continue;
            }
            renewed.entry(until).or_default().insert(segment);
            if !held {
                gained.insert(segment);
            }
        }
        if !gained.is_empty() {
            self.gain(gained);
        }
        for (until, segments) in renewed {
            let segments = segments - self.unprepared();
            if !segments.is_empty() {
                self.outputs.push_back(Output::SetLease { segments, until });
            }
        }
    }

    /// Whether nobody has owned a segment since a member signed it off to us: each sign-off raises its term, so what it
    /// owned before has a lower one.
    pub(crate) fn is_signed_off(&self, segment: u8, by: NodeId) -> bool {
        let known = self.claims.known[usize::from(segment)].best;
        let term = self.peers.get(&by).map_or(0, |peer| peer.beat.term);
        self.handed_to_us(by).contains(segment) && known.owner == Some(by) && known.term < term
    }

    /// What this node could go on with, for all it knows itself: a tunnel that is over and could not be removed would go on,
    /// too.
    fn sound(&self) -> Segments {
        self.claims.sound - self.tunnels.unswept()
    }

    /// Whether the votes that could make a segment ours said who had it before. A promise of an earlier claim may come late.
    fn is_told(&self, segment: u8) -> bool {
        let heard = self.claims.known[usize::from(segment)].heard.count_ones() as usize;
        heard >= if self.ownership.is_exclusive() { self.config.members.len() / 2 + 1 } else { 1 }
    }

    /// Whether enough voters remember that this node could go on with a segment. Without a witness one's own memory has to
    /// do, unless the other could have taken the segment over in the meantime.
    fn is_vouched(&self, segment: u8) -> bool {
        let known = self.claims.known[usize::from(segment)];
        let remembering = known.remembering.count_ones() as usize;
        let enough = if self.ownership.is_exclusive() {
            remembering > self.config.members.len() / 2
        } else {
            let own = known.best.owner == Some(self.config.me);
            remembering == 2 || !own || self.voter.was_alone(segment)
        };
        known.best.ready && !known.disputed && enough && !self.voter.has_overheard(segment)
    }

    fn gain(&mut self, segments: Segments) {
        let known = |segment: &u8| self.claims.known[usize::from(*segment)];
        let overheard = |segment: &u8| self.voter.has_overheard(*segment);
        let is_first = |segment: &u8| known(segment).best.term == 0 && !overheard(segment);
        let first: Segments = segments.iter().filter(is_first).collect();
        let ready: Segments = segments.iter().filter(|segment| self.is_vouched(*segment)).collect();
        let unready = segments - (ready & self.sound());
        let (planned, commits) = self.commit(segments);
        let stale = unready - first - planned;
        self.tunnels.gained |= segments;
        self.claims.held |= segments;
        self.claims.sound |= segments;
        for segment in segments.iter().map(usize::from) {
            self.claims.fresh_since[segment] = None;
            self.claims.known[segment] = Testimony::default();
        }
        self.alarm(Alarm::NoMajority, false);
        self.remember();
        if !stale.is_empty() {
            self.totals.rekeyed += stale.len() as u64;
            let until = self.now + self.config.settle * 10;
            stale.iter().for_each(|segment| self.claims.rekeying[usize::from(segment)] = until);
        }
        self.outputs.extend(commits);
        self.prepare(planned);
        let unprepared = planned | self.prepare_takeover(segments - planned, stale);
        self.outputs.push_back(Output::Enforce { segments, enforced: false });
        self.took(first - unprepared, Cause::First);
        self.took(segments - first - unprepared, Cause::Takeover);
        self.next_tending = self.now;
        // Whoever decides after us must know that we have had them.
        self.next_beat = self.now;
    }

    pub(crate) fn took(&mut self, segments: Segments, cause: Cause) {
        if segments.is_empty() {
            return;
        }
        if matches!(cause, Cause::Takeover | Cause::Stale) {
            self.totals.takeovers += segments.len() as u64;
        }
        self.claims.last_took = Some((self.now, segments, cause));
        self.outputs.push_back(Output::Took { segments, cause });
        self.notice(Notice::Took(segments, cause));
    }

    /// A lease has ended without a renewal: the data plane has stopped by itself.
    pub(crate) fn let_lapse(&mut self) {
        let lapsed: Segments = self
            .claims
            .held
            .iter()
            .filter(|segment| self.claims.leases[usize::from(*segment)] <= self.now)
            .collect();
        if !lapsed.is_empty() {
            self.totals.lapses += 1;
            self.lose(lapsed);
            self.claims.listen_until(self.now + self.config.dead_time());
        }
    }

    /// Segments are not ours any more, and not claimed any more.
    pub(crate) fn lose(&mut self, segments: Segments) {
        let segments = segments & self.ownership.claimed();
        let held = segments & self.claims.held;
        if segments.is_empty() {
            return;
        }
        self.ownership.release(segments);
        self.claims.forget(segments);
        if !held.is_empty() {
            self.outputs.push_back(Output::SetLease { segments: held, until: Duration::ZERO });
            if !(held & self.claims.preparing.segments).is_empty() {
                self.outputs.push_back(Output::EndHold { segments: held });
            }
            self.outputs.push_back(Output::Lost { segments: held });
            self.tunnels.take_gained();
            self.stop_waiting(held);
            self.tunnels.yield_up(held);
            self.reservations.yield_up(held);
            self.replicas.sessions.values_mut().for_each(|session| session.abandon(held));
            self.stop_enforcing(held);
            self.notice(Notice::Lost(held));
        }
        // Only now is our own promise to ourselves void: the leases in the table are dropped before a vote leaves.
        self.voter.release(self.config.me, segments);
    }

    /// What our own vote has to outlive the process is given out before it has effects.
    pub(crate) fn remember(&mut self) {
        if let Some(remembered) = self.voter.changes() {
            self.outputs.push_back(Output::Remember(remembered));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(sequence: u64, owner: u8, term: u64, of: u64) -> Vote {
        let (granted, owner) = (Segments::one(7), NodeId::new(owner));
        let mark = Mark { owner, term, sequence: of, segments: granted, ready: granted };
        Vote { sequence, granted, marks: vec![mark], ..Vote::default() }
    }

    fn claimed(sequence: u64) -> Claims {
        let mut claims = Claims::new(Duration::ZERO, Segments::NONE);
        (claims.fresh_since[7], claims.asked[7]) = (Some(Duration::ZERO), sequence);
        claims
    }

    /// I6: a voter may have lost its memory since.
    #[test]
    fn votes_of_an_earlier_claim_are_no_testimony() {
        let mut claims = claimed(5);
        claims.note_vote(0, &vote(4, 2, 3, 9));
        assert_eq!((claims.known[7].heard, claims.known[7].remembering), (0, 0));
        claims.note_vote(1, &vote(5, 2, 3, 9));
        assert_eq!((claims.known[7].heard, claims.known[7].remembering), (2, 2));
    }

    /// I2: voters that have heard different owners of one term do not say which was the last.
    #[test]
    fn owners_of_one_term_dispute_the_testimony_until_a_later_one_is_known() {
        let mut claims = claimed(5);
        for (voter, owner, term, is_disputed) in
            [(0, 2, 3, false), (1, 4, 3, true), (0, 4, 2, true), (2, 4, 6, false)]
        {
            claims.note_vote(voter, &vote(5, owner, term, 9));
            assert_eq!(claims.known[7].disputed, is_disputed, "{owner} of {term}");
        }
    }
}
