//! Counting of votes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use baton_sad::NodeId;

use super::Ownership;
use crate::cluster::configuration::MAX_MEMBERS;
use crate::cluster::segments::{SEGMENTS, Segments};

/// Requests that are remembered until their votes come.
const REQUESTS: usize = 64;

/// What a voter has promised.
#[derive(Debug)]
struct Promises {
    /// The request that was granted last, and when it left, per segment.
    requested: Vec<Option<(u64, Duration)>>,
    silent: bool,
}

#[derive(Debug)]
struct Ballot {
    /// What a promise is worth from the moment of its request.
    lease: Duration,
    claimed: Segments,
    requests: VecDeque<(u64, Duration)>,
    voters: BTreeMap<NodeId, Promises>,
}

impl Ballot {
    fn new(lease: Duration, voters: &BTreeSet<NodeId>) -> Self {
        let promises = || Promises { requested: vec![None; SEGMENTS], silent: true };
        let voters = voters.iter().map(|voter| (*voter, promises())).collect();
        Self { lease, claimed: Segments::NONE, requests: VecDeque::new(), voters }
    }

    /// Votes for requests that were under way say nothing of a later claim.
    fn release(&mut self, segments: Segments) {
        self.claimed -= segments;
        self.requests.clear();
        for promises in self.voters.values_mut() {
            for segment in segments.iter() {
                promises.requested[usize::from(segment)] = None;
            }
        }
    }

    fn sent(&mut self, now: Duration, sequence: u64) {
        if self.requests.len() == REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back((sequence, now));
    }

    /// A lease begins when its request left: the voter's promise begins later, and so ends later.
    fn granted(&mut self, voter: NodeId, sequence: u64, segments: Segments) {
        let request = self.requests.iter().find(|(number, _)| *number == sequence).copied();
        let (Some(request), Some(promises)) = (request, self.voters.get_mut(&voter)) else { return };
        for segment in (segments & self.claimed).iter() {
            let requested = &mut promises.requested[usize::from(segment)];
            *requested = (*requested).max(Some(request));
        }
    }

    /// The latest request that `enough` voters have granted or surpassed.
    fn backed(&self, segment: u8, enough: usize) -> Option<(u64, Duration)> {
        let place = usize::from(segment);
        // The smallest are those that have promised nothing.
        let mut requested = [None; MAX_MEMBERS];
        for (of, promises) in requested.iter_mut().zip(self.voters.values()) {
            *of = promises.requested[place];
        }
        let voters = self.voters.len().min(MAX_MEMBERS);
        requested[..voters].sort_unstable();
        requested[voters - enough]
    }

    fn until(&self, request: Option<(u64, Duration)>) -> Option<Duration> {
        request.map(|(_, at)| at + self.lease)
    }
}

/// More than half of all voters, one's own vote included (I4).
#[derive(Debug)]
pub struct Majority {
    ballot: Ballot,
}

impl Majority {
    /// `lease` is what is left of a lease when clocks run apart as far as they may.
    pub fn new(lease: Duration, voters: &BTreeSet<NodeId>) -> Self {
        Self { ballot: Ballot::new(lease, voters) }
    }

    fn enough(&self) -> usize {
        self.ballot.voters.len() / 2 + 1
    }
}

impl Ownership for Majority {
    fn claim(&mut self, segments: Segments) {
        self.ballot.claimed |= segments;
    }

    fn release(&mut self, segments: Segments) {
        self.ballot.release(segments);
    }

    fn claimed(&self) -> Segments {
        self.ballot.claimed
    }

    fn sent(&mut self, now: Duration, sequence: u64) {
        self.ballot.sent(now, sequence);
    }

    fn granted(&mut self, voter: NodeId, sequence: u64, segments: Segments) {
        self.ballot.granted(voter, sequence, segments);
    }

    fn silent(&mut self, _voter: NodeId, _silent: bool) {}

    fn deadline(&self, segment: u8, _held: bool) -> Option<Duration> {
        self.ballot.until(self.ballot.backed(segment, self.enough()))
    }

    fn backed(&self, segment: u8) -> Option<u64> {
        self.ballot.backed(segment, self.enough()).map(|(sequence, _)| sequence)
    }

    fn is_exclusive(&self) -> bool {
        true
    }
}

/// Two voters: a segment is gained with both votes, or alone when the other is silent; what is held stays held without
/// the other's vote. Availability comes first: both own everything while they are parted.
#[derive(Debug)]
pub struct PairWithoutWitness {
    ballot: Ballot,
    me: NodeId,
}

impl PairWithoutWitness {
    /// `lease` is what is left of a lease when clocks run apart as far as they may.
    pub fn new(lease: Duration, me: NodeId, voters: &BTreeSet<NodeId>) -> Self {
        Self { ballot: Ballot::new(lease, voters), me }
    }

    fn is_alone(&self) -> bool {
        self.ballot.voters.iter().all(|(id, voter)| *id == self.me || voter.silent)
    }

    fn enough(&self) -> usize {
        if self.is_alone() { 1 } else { 2 }
    }
}

impl Ownership for PairWithoutWitness {
    fn claim(&mut self, segments: Segments) {
        self.ballot.claimed |= segments;
    }

    fn release(&mut self, segments: Segments) {
        self.ballot.release(segments);
    }

    fn claimed(&self) -> Segments {
        self.ballot.claimed
    }

    fn sent(&mut self, now: Duration, sequence: u64) {
        self.ballot.sent(now, sequence);
    }

    fn granted(&mut self, voter: NodeId, sequence: u64, segments: Segments) {
        self.ballot.granted(voter, sequence, segments);
    }

    fn silent(&mut self, voter: NodeId, silent: bool) {
        if let Some(promises) = self.ballot.voters.get_mut(&voter) {
            promises.silent = silent;
        }
    }

    fn deadline(&self, segment: u8, held: bool) -> Option<Duration> {
        let own = || self.ballot.voters[&self.me].requested[usize::from(segment)];
        let enough = if held { own() } else { self.ballot.backed(segment, self.enough()) };
        self.ballot.until(enough)
    }

    fn backed(&self, segment: u8) -> Option<u64> {
        self.ballot.backed(segment, self.enough()).map(|(sequence, _)| sequence)
    }

    fn is_exclusive(&self) -> bool {
        false
    }
}
