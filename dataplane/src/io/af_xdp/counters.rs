//! What one worker's sockets received, sent and lost. Written by the worker, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::Side;

/// Counters of one worker on one side.
#[derive(Debug, Default)]
pub struct SideCounters {
    /// Frames received.
    pub received: AtomicU64,
    /// Frames given to the kernel to send.
    pub transmitted: AtomicU64,
    /// Frames dropped because the transmit ring, or the way to the worker that owns it, was full.
    pub transmit_ring_full: AtomicU64,
    /// Frames dropped because they were shorter than an Ethernet header (where frames are bare packets: an IP header)
    /// or reached out of their buffer.
    pub transmit_invalid: AtomicU64,
    /// Frames that the kernel took and dropped at once (the device's queue was full or the link was down), or found
    /// no route for.
    pub transmit_refused: AtomicU64,
    /// Packets that the kernel dropped because the receive ring was full.
    pub receive_ring_full: AtomicU64,
    /// Packets dropped because no frame was free to receive into.
    pub fill_ring_empty: AtomicU64,
    /// Packets dropped for another reason, such as being longer than a frame.
    pub receive_dropped: AtomicU64,
}

/// Counters of one worker.
#[derive(Debug, Default)]
pub struct IoCounters {
    sides: [SideCounters; 2],
}

impl IoCounters {
    /// The counters of one side.
    pub fn side(&self, side: Side) -> &SideCounters {
        &self.sides[side.index()]
    }

    /// Every counter with the operator's name for it.
    pub fn read(&self) -> impl Iterator<Item = (Side, &'static str, u64)> {
        Side::ALL.into_iter().flat_map(|side| self.side(side).read().map(move |(n, v)| (side, n, v)))
    }
}

impl SideCounters {
    fn read(&self) -> [(&'static str, u64); 8] {
        [
            ("received", &self.received),
            ("transmitted", &self.transmitted),
            ("transmit-ring-full", &self.transmit_ring_full),
            ("transmit-invalid", &self.transmit_invalid),
            ("transmit-refused", &self.transmit_refused),
            ("receive-ring-full", &self.receive_ring_full),
            ("fill-ring-empty", &self.fill_ring_empty),
            ("receive-dropped", &self.receive_dropped),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// Adds to a counter that only this thread writes.
#[inline]
pub(in crate::io) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}
