//! What a worker counts: written by that worker only, read by anyone at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::drop_reason::{COUNT, DropReason};
use crate::io::{Frame, Side};

/// A counter with one writer: an addition is a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Packets and octets (of IP packets) in and out on one side.
#[derive(Debug, Default)]
pub struct SideCounters {
    /// Packets received.
    pub received: Counter,
    /// Octets of received frames.
    pub received_octets: Counter,
    /// Packets given to the medium.
    pub sent: Counter,
    /// Octets of frames given to the medium.
    pub sent_octets: Counter,
}

/// The counters of one worker, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    drops: [Counter; COUNT],
    sides: [SideCounters; 2],
    /// ECN combinations that RFC 6040 calls unexpected, forwarded.
    pub ecn_unexpected: Counter,
    /// ICMP errors sent back to inner senders.
    pub icmp_sent: Counter,
    /// ICMP errors not sent because of the rate limit.
    pub icmp_suppressed: Counter,
    /// Packets handed to the worker that owns their SA.
    pub handed_over: Counter,
    /// Packets that had to wait for a neighbour.
    pub held: Counter,
    /// Packets that waited for a segment which was about to become this node's.
    pub held_for_move: Counter,
    /// Packets forwarded in clear because a policy says bypass.
    pub bypassed: Counter,
    /// Echo requests to hosts behind peers that were not heard after a takeover.
    pub floor_solicited: Counter,
    /// Turns of the worker's loop that found something to do.
    pub busy_turns: Counter,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            drops: std::array::from_fn(|_| Counter::default()),
            sides: Default::default(),
            ecn_unexpected: Counter::default(),
            icmp_sent: Counter::default(),
            icmp_suppressed: Counter::default(),
            handed_over: Counter::default(),
            held: Counter::default(),
            held_for_move: Counter::default(),
            bypassed: Counter::default(),
            floor_solicited: Counter::default(),
            busy_turns: Counter::default(),
        }
    }
}

impl WorkerCounters {
    /// Counts one drop.
    #[inline]
    pub fn count_drop(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Counts what came in.
    #[inline]
    pub fn count_received(&self, side: Side, frames: &[Frame]) {
        let counters = self.side(side);
        counters.received.add(frames.len() as u64);
        counters.received_octets.add(frames.iter().map(|frame| u64::from(frame.length)).sum());
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }

    /// All reasons with their counts.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().map(|reason| (*reason, self.dropped(*reason)))
    }

    /// Traffic of one side.
    #[inline]
    pub fn side(&self, side: Side) -> &SideCounters {
        &self.sides[side.index()]
    }

    /// Everything but the drops and the sides, by name.
    pub fn events(&self) -> [(&'static str, u64); 9] {
        [
            ("ecn-unexpected", self.ecn_unexpected.get()),
            ("icmp-sent", self.icmp_sent.get()),
            ("icmp-suppressed", self.icmp_suppressed.get()),
            ("handed-over", self.handed_over.get()),
            ("held", self.held.get()),
            ("held-for-move", self.held_for_move.get()),
            ("bypassed", self.bypassed.get()),
            ("floor-solicited", self.floor_solicited.get()),
            ("busy-turns", self.busy_turns.get()),
        ]
    }
}
