//! Which segments this node acts for (I4): what its host says, and when that changes.
//!
//! Tunnels of other segments are dormant (`dormant.rs`). When many change sides they do so in portions, so that
//! datagrams of the others are answered in between; one whose peer writes meanwhile is the next.

use std::collections::VecDeque;

use super::Ike;
use super::core::Id;
use super::tunnel::Tunnel;
use crate::host::{Host, Now, Owned};

/// Tunnels that change sides in one turn: some milliseconds of work.
const PORTION: usize = 32;

/// A segment, as far as it is this node's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    is_ours: bool,
    pub(super) term: u32,
    /// By how many packets the edges of its SAs were advanced when it was taken over unplanned.
    pub(super) advanced: Option<u64>,
    /// Its contexts may be older than what peers have heard.
    pub(super) is_stale: bool,
}

/// All segments, and what is to be done because they have changed.
pub(super) struct Ownership {
    shares: Box<[Share; 256]>,
    /// Tunnels that are to change sides.
    unsettled: VecDeque<Id>,
    /// Connections may have something to start in segments that are new.
    is_to_start: bool,
}

impl Default for Ownership {
    /// A gateway that is alone has all.
    fn default() -> Self {
        let share = Share { is_ours: true, term: 0, advanced: None, is_stale: false };
        Self { shares: Box::new([share; 256]), unsettled: VecDeque::new(), is_to_start: false }
    }
}

impl Ownership {
    pub(super) fn has(&self, segment: u8) -> bool {
        self.shares[usize::from(segment)].is_ours
    }

    pub(super) fn share(&self, segment: u8) -> Share {
        self.shares[usize::from(segment)]
    }

    /// The SAs of a segment were advanced after it was taken over.
    pub(super) fn advance(&mut self, segment: u8, packets: u64) {
        let share = &mut self.shares[usize::from(segment)];
        (share.advanced, share.is_stale) = (Some(share.advanced.unwrap_or(0).max(packets)), true);
    }

    /// Whether a tunnel waits to change sides.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty() || self.is_to_start
    }

    /// Lets a tunnel change sides when there is time.
    pub(super) fn settle_later(&mut self, id: Id) {
        self.unsettled.push_back(id);
    }

    /// Takes note of what is owned now; the segments that have changed.
    fn replace(&mut self, owned: &[Owned]) -> Vec<u8> {
        let mut changed = Vec::new();
        for segment in 0..=u8::MAX {
            let now = owned.iter().find(|owned| owned.segment == segment);
            let share = &mut self.shares[usize::from(segment)];
            if share.is_ours != now.is_some() {
                changed.push(segment);
                (share.is_ours, share.advanced) = (now.is_some(), now.and_then(|now| now.advanced));
                share.is_stale = now.is_some_and(|now| now.is_stale);
            }
            share.term = share.term.max(now.map_or(0, |now| now.term));
        }
        changed
    }
}

impl Ike {
    /// From now on this node acts for these segments and for no other; how many tunnels change sides because of that.
    ///
    /// Those of segments that it gains go on where their contexts left them, in portions, as
    /// [`Self::handle_timeout`] is called. Those of segments that it loses fall silent at once, without a word to their
    /// peers, and are dormant.
    pub fn own(&mut self, owned: &[Owned]) -> usize {
        let changed = self.core.ownership.replace(owned);
        let before = self.core.ownership.unsettled.len();
        for segment in &changed {
            let (first, last) = (u32::from(*segment) << 24, u32::from(*segment) << 24 | 0x00ff_ffff);
            let ids = self.core.index.numbers.range(first..=last).map(|(_, id)| *id);
            self.core.ownership.unsettled.extend(ids);
        }
        self.core.ownership.is_to_start |= !changed.is_empty();
        self.core.ownership.unsettled.len() - before
    }

    /// Whether the node acts for a tunnel now. If it is dormant it wakes up by that.
    pub(super) fn rouse(&mut self, now: Now, host: &mut dyn Host, id: Id) -> bool {
        let Some(slot) = self.tunnels.get(&id) else { return false };
        if !self.core.acts(host, slot.tunnel.head().segment()) {
            self.core.counters.foreign += 1;
            return false;
        }
        if matches!(slot.tunnel, Tunnel::Dormant(_)) {
            self.activate(now, host, id);
        }
        true
    }

    /// Lets a portion of tunnels change sides, and when all have, starts what the configuration wants in new segments.
    pub(super) fn settle_ownership(&mut self, now: Now, host: &mut dyn Host) {
        for _ in 0..PORTION {
            let Some(id) = self.core.ownership.unsettled.pop_front() else { break };
            let Some(slot) = self.tunnels.get(&id) else { continue };
            let is_ours = self.core.ownership.has(slot.tunnel.head().segment());
            match (&slot.tunnel, is_ours) {
                (Tunnel::Dormant(_), true) => self.activate(now, host, id),
                (Tunnel::Dormant(_), false) | (_, true) => {}
                (_, false) => self.doze(now, host, id),
            }
        }
        if self.core.ownership.unsettled.is_empty() && std::mem::take(&mut self.core.ownership.is_to_start) {
            self.start(now, host);
        }
    }
}
