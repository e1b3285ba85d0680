//! What the policies said about recent flows.

use baton_sad::SaHandle;

use crate::drop_reason::DropReason;
use crate::packet::transport::Flow;

/// Entries; a power of two. Two flows that meet in one entry displace each other.
const ENTRIES: usize = 4096;

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
        Self { entries: vec![None; ENTRIES], valid_for: (0, 0), stamp: 0 }
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
        let entry = self.entries[place(flow)].as_ref()?;
        (entry.stamp == self.stamp && entry.flow == *flow).then_some(entry.decision)
    }

    #[inline]
    pub(super) fn put(&mut self, flow: &Flow, decision: Decision) {
        self.entries[place(flow)] = Some(Entry { flow: *flow, stamp: self.stamp, decision });
    }
}

/// Not a secret: who makes flows collide makes them slower, by one SPD lookup each.
#[inline]
fn place(flow: &Flow) -> usize {
    let addresses = u64::from(flow.source.to_bits()) << 32 | u64::from(flow.destination.to_bits());
    let (a, b) = flow.ports.unwrap_or((0, 0));
    let rest = u64::from(a) << 32 | u64::from(b) << 8 | u64::from(flow.protocol);
    let mixed = (addresses ^ rest.rotate_left(21)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 52) as usize % ENTRIES
}
