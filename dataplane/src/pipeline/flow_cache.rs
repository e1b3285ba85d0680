//! What the policies said about recent flows.

use baton_sad::SaHandle;

use crate::drop_reason::DropReason;
use crate::packet::transport::Flow;

/// 4,096 entries. Two flows that meet in one entry displace each other.
const PLACE_BITS: u32 = 12;

/// What becomes of a flow's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Protect(SaHandle),
    Bypass,
    Drop(DropReason),
}

/// Never stale: an answer holds for one SPD generation and one state of the SA table's index only.
#[derive(Debug)]
pub(super) struct FlowCache {
    entries: Vec<Option<Entry>>,
    valid_for: (u64, u64),
    stamp: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    flow: Flow,
    stamp: u64,
    decision: Decision,
}

impl Default for FlowCache {
    fn default() -> Self {
        Self { entries: vec![None; 1 << PLACE_BITS], valid_for: (0, 0), stamp: 0 }
    }
}

impl FlowCache {
    /// Forgets everything if policies or SAs changed since the last batch.
    pub(super) fn revalidate(&mut self, spd_generation: u64, sa_changes: u64) {
        if self.valid_for != (spd_generation, sa_changes) {
            self.valid_for = (spd_generation, sa_changes);
            self.stamp += 1;
        }
    }

    #[inline]
    pub(super) fn get(&self, flow: &Flow) -> Option<Decision> {
        let entry = self.entries[flow.place(PLACE_BITS)].as_ref()?;
        (entry.stamp == self.stamp && entry.flow == *flow).then_some(entry.decision)
    }

    #[inline]
    pub(super) fn put(&mut self, flow: &Flow, decision: Decision) {
        self.entries[flow.place(PLACE_BITS)] = Some(Entry { flow: *flow, stamp: self.stamp, decision });
    }
}
