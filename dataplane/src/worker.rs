//! A worker: one pipeline on one packet I/O, turned by its thread.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use baton_sad::{Table, WorkerSlot};
use crossbeam::queue::ArrayQueue;

use crate::capture::Tap;
use crate::counters::WorkerCounters;
use crate::crypto::{Backend, EngineError};
use crate::io::{Frame, PacketIo, Side};
use crate::next_hop::{NextHops, ResolveRequests};
use crate::pipeline::Pipeline;
use crate::spd::Spd;

/// Frames that wait in a worker's ring at most.
const RING: usize = 1024;

/// One ring per worker, by which others hand it packets of SAs that it owns.
#[derive(Debug)]
pub struct Rings(Vec<Ring>);

struct Ring {
    frames: ArrayQueue<Frame>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("waiting", &self.frames.len()).finish_non_exhaustive()
    }
}

impl Rings {
    /// Rings for this many workers.
    pub fn new(workers: u16) -> Arc<Self> {
        let ring = || Ring { frames: ArrayQueue::new(RING), wake: OnceLock::new() };
        Arc::new(Self((0..workers.max(1)).map(|_| ring()).collect()))
    }

    /// Sets how `owner` is woken when a packet comes into its ring: called in another worker's thread, it
    /// must not block. Only the first call counts.
    pub fn on_packet(&self, owner: u16, wake: impl Fn() + Send + Sync + 'static) {
        if let Some(ring) = self.0.get(usize::from(owner)) {
            let _ = ring.wake.set(Box::new(wake));
        }
    }

    /// # Errors
    /// The frame, when the ring is full.
    pub(crate) fn push(&self, owner: u16, frame: Frame) -> Result<(), Frame> {
        let Some(ring) = self.0.get(usize::from(owner)) else { return Err(frame) };
        ring.frames.push(frame)?;
        // Always: whether the ring was empty before says nothing about whether its worker sleeps by now.
        if let Some(wake) = ring.wake.get() {
            wake();
        }
        Ok(())
    }

    fn pop(&self, owner: u16) -> Option<Frame> {
        self.0.get(usize::from(owner))?.frames.pop()
    }
}

/// What a worker works with.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Which worker this is: 0 to `workers - 1`.
    pub index: u16,
    /// How many there are: SA slots are divided among them.
    pub workers: u16,
    /// The SA table.
    pub table: Arc<Table>,
    /// The policies in force.
    pub spd: Arc<ArcSwap<Spd>>,
    /// The next hops in force.
    pub next_hops: Arc<ArcSwap<NextHops>>,
    /// Where missing neighbours are asked for.
    pub resolve: Arc<ResolveRequests>,
    /// What this worker counts.
    pub counters: Arc<WorkerCounters>,
    /// The rings of all workers.
    pub rings: Arc<Rings>,
    /// The capture tap of all workers.
    pub tap: Arc<Tap>,
    /// The crypto back end.
    pub crypto: Backend,
    /// Packets per batch.
    pub batch: usize,
    /// Monotonic time in ns, in which leases are measured: [`monotonic_ns`], or a test's own.
    pub clock: fn() -> u64,
}

/// `CLOCK_BOOTTIME` in ns: the clock of leases, the same in all processes. It goes on while the machine sleeps, so
/// that a lease does not outlive a suspension (I4).
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A worker on its I/O. The thread around it pins it, calls [`turn`](Self::turn) and, when there was nothing to do,
/// [`idle`](Self::idle).
#[derive(Debug)]
pub struct Worker<I: PacketIo> {
    index: u16,
    io: I,
    pipeline: Pipeline,
    rings: Arc<Rings>,
    counters: Arc<WorkerCounters>,
    slot: WorkerSlot,
    batches: [Vec<Frame>; 2],
    limit: usize,
}

impl<I: PacketIo> Worker<I> {
    /// Registers the worker with the table; its data plane is attached already.
    ///
    /// # Errors
    /// [`EngineError`] when the crypto engine cannot start.
    pub fn new(options: &WorkerOptions, io: I) -> Result<Self, EngineError> {
        let pipeline = Pipeline::new(options)?;
        let batch = || Vec::with_capacity(options.batch.max(1));
        let slot = options.table.register_worker(options.index);
        slot.online();
        Ok(Self {
            index: options.index,
            io,
            pipeline,
            rings: Arc::clone(&options.rings),
            counters: Arc::clone(&options.counters),
            slot,
            batches: [batch(), batch()],
            limit: options.batch.max(1),
        })
    }

    /// One round: what others handed over, then a batch from each side. Returns how many packets were handled.
    pub fn turn(&mut self) -> usize {
        let mut handled = 0;
        self.take_handed_over();
        for side in Side::ALL {
            let batch = &mut self.batches[side.index()];
            self.io.receive(side, batch);
            if batch.is_empty() {
                continue;
            }
            handled += batch.len();
            match side {
                Side::Outer => self.pipeline.inbound(&mut self.io, batch),
                Side::Inner => self.pipeline.outbound(&mut self.io, batch),
            }
        }
        self.pipeline.maintain(&mut self.io);
        self.io.flush();
        // Between batches the worker holds nothing from the table (I5).
        self.slot.quiescent();
        self.counters.busy_turns.add(u64::from(handled > 0));
        handled
    }

    fn take_handed_over(&mut self) {
        for _ in 0..=self.limit / 2 {
            let Some(frame) = self.rings.pop(self.index) else { return };
            self.batches[frame.side.index()].push(frame);
        }
    }

    /// Sleeps until something may be there, at most for `timeout`. An idle worker holds up no change of the table.
    pub fn idle(&mut self, timeout: Duration) {
        self.slot.offline();
        self.io.wait(timeout);
        self.slot.online();
    }

    /// The I/O, for its own counters and for tests.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    /// Ends the worker and gives its I/O back.
    pub fn into_io(self) -> I {
        self.slot.offline();
        self.io
    }
}
