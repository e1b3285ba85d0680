//! Free frames: a list per worker, and a shared pool that evens them out, since a frame that one worker
//! received may be sent, and so completed, by another.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::ledger::{Census, Holder, Ledger};
use crate::io::{FRAME_SIZE, Frame, HEADROOM, Side};

/// Frames moved between a worker's list and the pool at once.
const EXCHANGE: usize = 256;

/// What all workers share about frames.
#[derive(Debug)]
pub(super) struct Pool {
    free: ArrayQueue<u32>,
    ledger: Ledger,
}

impl Pool {
    /// A pool of `frames` free frames.
    pub(super) fn new(frames: u32) -> Self {
        let free = ArrayQueue::new(frames as usize);
        for number in 0..frames {
            let _ = free.push(number);
        }
        Self { free, ledger: Ledger::new(frames as usize) }
    }

    pub(super) fn census(&self) -> Option<Census> {
        self.ledger.census()
    }
}

/// One worker's free frames. The one used last is used first again: it is still in the cache.
#[derive(Debug)]
pub(in crate::io) struct FreeFrames {
    local: Vec<u32>,
    limit: usize,
    pool: Arc<Pool>,
}

impl FreeFrames {
    /// With one worker all frames may be in its list; with several each keeps at most `limit`.
    pub(super) fn new(pool: Arc<Pool>, limit: usize) -> Self {
        Self { local: Vec::with_capacity(limit + 1), limit, pool }
    }

    /// Notes a change of hands of a frame that is not free before nor after.
    #[inline]
    pub(super) fn pass(&self, number: u32, from: Holder, to: Holder) {
        self.pool.ledger.pass(number, from, to);
    }

    /// Takes free frames for `holder`. Returns how many there were.
    pub(super) fn take(&mut self, into: &mut [u32], holder: Holder) -> usize {
        let mut taken = 0;
        for slot in into {
            let Some(number) = self.pop() else { break };
            self.pass(number, Holder::Free, holder);
            *slot = number;
            taken += 1;
        }
        taken
    }

    fn pop(&mut self) -> Option<u32> {
        if self.local.is_empty() {
            let wanted = EXCHANGE.min(self.limit);
            self.local.extend(std::iter::from_fn(|| self.pool.free.pop()).take(wanted));
        }
        self.local.pop()
    }

    /// Takes back a frame that `holder` is done with.
    pub(super) fn give_back(&mut self, number: u32, holder: Holder) {
        self.pass(number, holder, Holder::Free);
        if self.local.len() >= self.limit {
            let surplus = self.local.len().saturating_sub(EXCHANGE.min(self.limit));
            // The pool has room for all frames there are.
            for number in self.local.drain(surplus..) {
                let _ = self.pool.free.push(number);
            }
        }
        self.local.push(number);
    }

    /// A free frame with the usual headroom, for the pipeline or a medium that fills it for the pipeline.
    pub(in crate::io) fn allocate(&mut self, side: Side) -> Option<Frame> {
        let number = self.pop()?;
        self.pass(number, Holder::Free, Holder::User);
        let index = u64::from(number) * FRAME_SIZE as u64;
        Some(Frame { index, start: HEADROOM as u32, length: 0, side })
    }

    /// Takes back a frame from the pipeline.
    pub(in crate::io) fn release(&mut self, frame: &Frame) {
        self.give_back((frame.index as usize / FRAME_SIZE) as u32, Holder::User);
    }
}

impl Drop for FreeFrames {
    fn drop(&mut self) {
        for number in self.local.drain(..) {
            let _ = self.pool.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_flow_between_workers_and_none_is_lost() {
        let pool = Arc::new(Pool::new(2048));
        let mut a = FreeFrames::new(Arc::clone(&pool), 512);
        let mut b = FreeFrames::new(Arc::clone(&pool), 512);
        // `a` only takes, `b` only gives back.
        for _ in 0..100 {
            let mut numbers = [0; 64];
            assert_eq!(a.take(&mut numbers, Holder::User), 64);
            for number in numbers {
                b.give_back(number, Holder::User);
            }
            assert!(b.local.len() <= 512);
        }
        drop((a, b));
        let mut all: Vec<_> = std::iter::from_fn(|| pool.free.pop()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..2048).collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_pool_gives_what_it_has() {
        let mut frames = FreeFrames::new(Arc::new(Pool::new(10)), 512);
        let mut numbers = [0; 64];
        assert_eq!(frames.take(&mut numbers, Holder::Fill), 10);
        assert_eq!(frames.take(&mut numbers, Holder::Fill), 0);
    }
}
