//! What both sides want (RFC 7296 section 2.9).

use super::{TrafficSelector, range};

/// Pairs of one local with one remote selector that an SA of Baton's data plane has at most.
pub const MAX_PAIRS: usize = 4;
/// Selectors of one side that are considered. A peer may offer 255 for each that is configured.
const MAX_CONSIDERED: usize = 32;

/// The selectors of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides<'a> {
    /// On our side.
    pub local: &'a [TrafficSelector],
    /// On the peer's side.
    pub remote: &'a [TrafficSelector],
}

/// What a responder agrees to: selectors that each have a partner, at most [`MAX_PAIRS`] pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowed {
    /// On our side.
    pub local: Vec<TrafficSelector>,
    /// On the peer's side.
    pub remote: Vec<TrafficSelector>,
    /// There was more that both want than one Child SA carries: the peer may ask for another one
    /// (ADDITIONAL_TS_POSSIBLE).
    pub more_possible: bool,
}

/// What of the offer is configured; `None` is TS_UNACCEPTABLE. The first of either side of the offer is the
/// initiator's first choice, often the very packet that made it ask: what is left of it stays, whatever has to go.
pub fn narrow(configured: Sides<'_>, offered: Sides<'_>) -> Option<Narrowed> {
    let (local, local_left) = common(configured.local, offered.local);
    let (remote, remote_left) = common(configured.remote, offered.remote);
    let mut chosen = Narrowed { local: vec![], remote: vec![], more_possible: local_left || remote_left };
    for (i, j) in by_preference(local.len(), remote.len()) {
        if local[i].pairs_with(&remote[j]) {
            chosen.add(&local[i], &remote[j]);
        }
    }
    (!chosen.local.is_empty()).then_some(chosen)
}

/// How many pairs of a local with a remote selector packets can match.
pub fn pairs(sides: Sides<'_>) -> usize {
    sides.local.iter().map(|a| sides.remote.iter().filter(|b| a.pairs_with(b)).count()).sum()
}

/// Whether a responder's answer is part of what it was offered, and not nothing.
pub fn is_subset(answer: &[TrafficSelector], offered: &[TrafficSelector]) -> bool {
    let is_offered = |one: &TrafficSelector| offered.iter().any(|whole| whole.covers(one));
    !answer.is_empty() && answer.iter().all(is_offered)
}

impl Narrowed {
    /// Adds a pair if it fits.
    fn add(&mut self, local: &TrafficSelector, remote: &TrafficSelector) {
        let before = (self.local.len(), self.remote.len());
        if !self.local.contains(local) {
            self.local.push(local.clone());
        }
        if !self.remote.contains(remote) {
            self.remote.push(remote.clone());
        }
        if pairs(Sides { local: &self.local, remote: &self.remote }) > MAX_PAIRS {
            self.local.truncate(before.0);
            self.remote.truncate(before.1);
            self.more_possible = true;
        }
    }
}

/// The first choices with each other, then ever later ones.
fn by_preference(locals: usize, remotes: usize) -> Vec<(usize, usize)> {
    let mut all: Vec<_> = (0..locals).flat_map(|i| (0..remotes).map(move |j| (i, j))).collect();
    all.sort_by_key(|(i, j)| (*i.max(j), i + j));
    all
}

/// What one side of the offer and of the configuration have in common, in the offer's order, and whether that is not
/// all.
fn common(configured: &[TrafficSelector], offered: &[TrafficSelector]) -> (Vec<TrafficSelector>, bool) {
    let mut found = Vec::new();
    for wanted in offered {
        for part in configured.iter().filter_map(|ours| ours.intersection(wanted)) {
            if found.len() == MAX_CONSIDERED {
                return (found, true);
            }
            if range::is_installable(part.first, part.last) {
                merge(&mut found, part);
            }
        }
    }
    (found, false)
}

/// Adds a selector unless another one covers it; what it covers itself makes room for it, in the first one's place.
fn merge(found: &mut Vec<TrafficSelector>, part: TrafficSelector) {
    if found.iter().any(|other| other.covers(&part)) {
        return;
    }
    let place = found.iter().position(|other| part.covers(other)).unwrap_or(found.len());
    found.retain(|other| !part.covers(other));
    found.insert(place, part);
}
