//! A worker: one pipeline on one packet I/O, turned by its thread.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use baton_sad::{SaHandle, Table, WorkerSlot};
use crossbeam::queue::ArrayQueue;

use crate::capture::Tap;
use crate::counters::WorkerCounters;
use crate::crypto::{Backend, EngineError};
use crate::events::Events;
use crate::io::{Frame, PacketIo, Side};
use crate::next_hop::{NextHops, ResolveRequests};
use crate::packet::announcement::Form;
use crate::pipeline::Pipeline;
use crate::spd::Spd;

/// Frames that wait in a worker's ring at most.
const RING: usize = 1024;

/// Commands that wait for a worker at most.
const COMMANDS: usize = 256;

/// How long a worker sleeps at most while packets wait for a lease.
const ARRIVING: Duration = Duration::from_millis(1);

/// What the control plane asks a worker to do, an SA's where it is about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a NAT keep-alive to the SA's peer (RFC 3948 section 4).
    KeepAlive(SaHandle),
    /// Send a dummy packet (RFC 4303 section 2.6).
    Dummy(SaHandle),
    /// Tell the link of a side that an address is at this node.
    Announce {
        /// The side.
        side: Side,
        /// The address.
        address: IpAddr,
        /// In which form.
        form: Form,
    },
}

impl Command {
    /// The worker of so many that does it.
    fn worker(self, workers: usize) -> usize {
        match self {
            Self::KeepAlive(handle) | Self::Dummy(handle) => handle.slot() as usize % workers,
            Self::Announce { .. } => 0,
        }
    }
}

/// One ring per worker, by which others hand it packets of SAs that it owns, and commands about them.
#[derive(Debug)]
pub struct Rings(Vec<Ring>);

struct Ring {
    frames: ArrayQueue<Frame>,
    commands: ArrayQueue<Command>,
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
        let ring = || Ring {
            frames: ArrayQueue::new(RING),
            commands: ArrayQueue::new(COMMANDS),
            wake: OnceLock::new(),
        };
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

    /// Gives a command to its worker. Whether there was room.
    pub fn command(&self, command: Command) -> bool {
        let ring = &self.0[command.worker(self.0.len())];
        let pushed = ring.commands.push(command).is_ok();
        if let Some(wake) = ring.wake.get() {
            wake();
        }
        pushed
    }

    fn pop_command(&self, owner: u16) -> Option<Command> {
        self.0.get(usize::from(owner))?.commands.pop()
    }

    fn pop(&self, owner: u16) -> Option<Frame> {
        self.0.get(usize::from(owner))?.frames.pop()
    }
}

/// Bounds on packets that wait for an SA which the control plane was asked for (RFC 4301 section 4.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireLimits {
    /// Nanoseconds that a packet waits.
    pub hold: u64,
    /// Packets that one worker holds at most.
    pub packets: usize,
    /// Nanoseconds between two requests for one SA.
    pub repeat: u64,
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
    /// Unix time in seconds, in which lifetimes end: [`unix_seconds`], or a test's own.
    pub unix_clock: fn() -> u64,
    /// Whether inner hosts may only use addresses to which a route leads on the inner side.
    pub anti_spoofing: bool,
    /// ICMP errors that are sent per second at most.
    pub errors_per_second: u32,
    /// How packets wait for SAs.
    pub acquire: AcquireLimits,
    /// Where the control plane hears of what happens.
    pub events: Arc<Events>,
}

/// `CLOCK_BOOTTIME` in ns: the clock of leases, the same in all processes. It goes on while the machine sleeps, so
/// that a lease does not outlive a suspension (I4).
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.unsigned_abs()
}

/// A worker on its I/O. The thread around it pins it, calls [`turn`](Self::turn) and, when there was nothing to do,
/// [`idle`](Self::idle).
#[derive(Debug)]
pub struct Worker<I: PacketIo> {
    index: u16,
    io: I,
    pipeline: Pipeline<I>,
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
    /// [`EngineError`] when the system gives no random octets.
    pub fn new(options: &WorkerOptions, io: I) -> Result<Self, EngineError> {
        let batch = || Vec::with_capacity(options.batch.max(1));
        let pipeline = Pipeline::new(options)?;
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
            let handed_over = batch.len();
            self.io.receive(side, batch);
            self.counters.count_received(side, &batch[handed_over..]);
            if batch.is_empty() {
                continue;
            }
            handled += batch.len();
            match side {
                Side::Outer => self.pipeline.inbound(&mut self.io, batch),
                Side::Inner => self.pipeline.outbound(&mut self.io, batch),
            }
        }
        while let Some(command) = self.rings.pop_command(self.index) {
            self.pipeline.obey(&mut self.io, command);
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
        let timeout = if self.pipeline.has_arriving() { timeout.min(ARRIVING) } else { timeout };
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
