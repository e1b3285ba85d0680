//! Packets that wait for an SA which the control plane was asked for (RFC 4301 section 4.4.1).

use super::{Direction, DropReason, Event, Flow, Frame, PacketIo, Pipeline};
use crate::worker::AcquireLimits;

/// Packets that wait for one SA at most: the first ones of a connection, no more.
const PER_REQID: usize = 16;

/// One of them, oldest first in [`Waiting`].
struct Held {
    frame: Frame,
    reqid: u32,
    since: u64,
    asked: u64,
}

/// The packets that wait.
pub(super) struct Waiting {
    held: Vec<Held>,
    limits: AcquireLimits,
    /// The table's change count when they were looked at last.
    looked_at: u64,
}

impl Waiting {
    pub(super) fn new(limits: AcquireLimits) -> Self {
        Self { held: Vec::with_capacity(limits.packets), limits, looked_at: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn of(&self, reqid: u32) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(move |held| held.reqid == reqid)
    }

    /// The place of the one that must go for another of `reqid`.
    fn victim(&self, reqid: u32) -> Option<usize> {
        if self.of(reqid).count() >= PER_REQID {
            self.held.iter().position(|held| held.reqid == reqid)
        } else if self.held.len() >= self.limits.packets {
            Some(0)
        } else {
            None
        }
    }
}

impl<I: PacketIo> Pipeline<I> {
    /// Holds a packet, asks for its SA, and drops the oldest where there are too many.
    #[cold]
    pub(super) fn wait_for_sa(&mut self, io: &mut I, frame: Frame, reqid: u32, flow: Flow) {
        let now = self.now;
        let asked = self.waiting.of(reqid).map(|held| held.asked).max();
        let asked = match asked.filter(|at| now.saturating_sub(*at) < self.waiting.limits.repeat) {
            Some(at) => at,
            None if self.events.send(Event::Acquire { reqid, flow }, now) => now,
            None => 0,
        };
        if self.waiting.limits.packets == 0 {
            return self.drop(io, frame, DropReason::NoSa);
        }
        if let Some(victim) = self.waiting.victim(reqid) {
            let victim = self.waiting.held.remove(victim).frame;
            self.drop(io, victim, DropReason::NoSa);
        }
        self.waiting.held.push(Held { frame, reqid, since: now, asked });
    }

    /// Sends what can be sent since the table changed, and drops what waited too long.
    #[cold]
    pub(super) fn retry_waiting(&mut self, io: &mut I) {
        let changes = self.table.change_count();
        let is_changed = changes != std::mem::replace(&mut self.waiting.looked_at, changes);
        let mut ready = Vec::new();
        let mut at = 0;
        while let Some(held) = self.waiting.held.get(at) {
            if self.now.saturating_sub(held.since) > self.waiting.limits.hold {
                let frame = self.waiting.held.remove(at).frame;
                self.drop(io, frame, DropReason::NoSa);
            } else if is_changed && self.table.lookup(Direction::Outbound, held.reqid).is_some() {
                ready.push(self.waiting.held.remove(at).frame);
            } else {
                at += 1;
            }
        }
        if !ready.is_empty() {
            self.outbound(io, &mut ready);
        }
    }
}
