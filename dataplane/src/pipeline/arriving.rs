//! Packets of segments that are about to become this node's. In a planned move their old owner stops them some
//! milliseconds before their counters are here; what comes in between waits, and goes on as if it had come later.

use std::collections::VecDeque;

use baton_sad::Table;

use super::{DropReason, Frame, PacketIo, Pipeline, Side, Stop};

/// Packets that wait in one worker at most: no more than its pool can spare beside full rings. The latest count: the old
/// owner has handled the first ones.
const MOST: usize = 512;

/// The packets that wait, the oldest first, each with its segment.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    held: VecDeque<(Frame, u8)>,
}

/// What becomes of a packet that no SA can be used for now.
#[cold]
pub(super) fn stop(table: &Table, segment: u8, now: u64, reason: DropReason) -> Stop {
    // The lease again: it may have come since, and its hold is over then.
    let is_coming = || table.hold(segment) > now || table.lease(segment) > now;
    if reason == DropReason::NotOwned && is_coming() { Stop::Hold(segment) } else { reason.into() }
}

impl<I: PacketIo> Pipeline<I> {
    #[cold]
    pub(super) fn hold_arriving(&mut self, io: &mut I, frame: Frame, segment: u8) {
        self.counters.held_for_move.add(1);
        if self.arriving.held.len() >= MOST
            && let Some((oldest, _)) = self.arriving.held.pop_front()
        {
            self.drop(io, oldest, DropReason::NotOwned);
        }
        self.arriving.held.push_back((frame, segment));
    }

    /// Whether a lease may come by which packets leave, of which nobody tells a worker that sleeps.
    pub(crate) fn has_arriving(&self) -> bool {
        !self.arriving.held.is_empty()
    }

    /// Before anything that comes later: what has waited for a segment that is ours by now.
    #[inline]
    pub(super) fn release_arrived(&mut self, io: &mut I) {
        if !self.arriving.held.is_empty() {
            self.look_at_arriving(io);
        }
    }

    #[cold]
    fn look_at_arriving(&mut self, io: &mut I) {
        self.begin();
        let (table, now) = (&self.table, self.now);
        let is_ours = |segment: u8| table.lease(segment) > now;
        let is_over = |(_, segment): &(Frame, u8)| is_ours(*segment) || table.hold(*segment) <= now;
        if !self.arriving.held.iter().any(is_over) {
            return;
        }
        let held = std::mem::take(&mut self.arriving.held);
        let (over, rest): (VecDeque<_>, VecDeque<_>) = held.into_iter().partition(is_over);
        let (mut outer, mut inner, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for (frame, segment) in over {
            match frame.side {
                _ if !is_ours(segment) => lost.push(frame),
                Side::Outer => outer.push(frame),
                Side::Inner => inner.push(frame),
            }
        }
        for frame in lost {
            self.drop(io, frame, DropReason::NotOwned);
        }
        if !outer.is_empty() {
            self.inbound(io, &mut outer);
        }
        if !inner.is_empty() {
            self.outbound(io, &mut inner);
        }
        // Behind these whatever has begun to wait meanwhile.
        let later = std::mem::replace(&mut self.arriving.held, rest);
        self.arriving.held.extend(later);
    }
}
