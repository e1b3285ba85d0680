//! AF_XDP sockets as packet I/O: one socket per queue of the outer and the inner interface, all on one shared
//! frame memory (UMEM), spread over the workers.
//!
//! A frame is always in exactly one place: a fill ring (the kernel receives into it), the pipeline, a transmit
//! ring until it comes back by the completion ring, or a free list. Frames belong to no worker: what one
//! received another may send or release.
//!
//! The XDP program is not loaded here: register [`AfXdpIo::sockets`] with the program that redirects to them.

mod counters;
mod error;
mod ledger;
mod pool;
mod port;
mod system;
mod worker;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use tracing::{info, warn};
use xsk_rs::config::{BindFlags, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};

pub use counters::{IoCounters, SideCounters};
pub use error::AfXdpError;
pub use ledger::Census;
use pool::{FreeFrames, Pool};
use port::Port;
pub use system::FrameBuffer;
use system::{BindError, Buffers, FrameMemory, Rings};
pub use worker::{AfXdpIo, Waker};
use worker::{Outbox, Parts, Way};

use crate::io::{FRAME_SIZE, HEADROOM, Side};

/// Octets of an Ethernet header without VLAN tag.
const ETHERNET_HEADER: u32 = 14;

/// The largest MTU, in octets, whose packets fit a frame together with the headroom in front, an Ethernet header
/// with VLAN tag, and what ESP puts behind (padding, trailer and ICV; RFC 4303 section 2).
pub const MAX_MTU: u32 = FRAME_SIZE as u32 - HEADROOM as u32 - ETHERNET_HEADER - 4 - 78;

/// Free frames that a worker keeps to itself when there are several.
const WORKER_FREE_FRAMES: u32 = 1024;

/// Frames that may wait for a worker that sends for others.
const OUTBOX: usize = 1024;

/// A queue may stay busy for a moment after its last socket was closed: the kernel tidies up later.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);

/// Busy polling: the worker itself drives the device's receive processing, instead of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long the kernel polls the device when a call finds nothing.
    pub time: Duration,
    /// Packets processed per call at most.
    pub budget: u16,
}

/// What to open.
#[derive(Clone, Debug)]
pub struct AfXdpOptions {
    /// The ciphertext side's interface.
    pub outer: String,
    /// The plaintext side's interface.
    pub inner: String,
    /// Number of workers; the queues are spread over them.
    pub workers: u16,
    /// Entries of each ring; a power of two.
    pub ring_size: u32,
    /// Frames in all; by default as many as all rings can hold, and some for the workers.
    pub frames: Option<u32>,
    /// Whether to try huge pages before ordinary ones.
    pub huge_pages: bool,
    /// Whether to try zero-copy mode before copy mode.
    pub zero_copy: bool,
    /// Busy polling, if wanted.
    pub busy_poll: Option<BusyPoll>,
}

impl AfXdpOptions {
    /// The usual options for two interfaces.
    pub fn new(outer: impl Into<String>, inner: impl Into<String>, workers: u16) -> Self {
        Self {
            outer: outer.into(),
            inner: inner.into(),
            workers,
            ring_size: 2048,
            frames: None,
            huge_pages: true,
            zero_copy: true,
            busy_poll: None,
        }
    }

    fn interface(&self, side: Side) -> &str {
        match side {
            Side::Outer => &self.outer,
            Side::Inner => &self.inner,
        }
    }

    fn check(&self) -> Result<(), AfXdpError> {
        if self.outer == self.inner {
            return Err(AfXdpError::SameInterface(self.outer.clone()));
        }
        if self.workers == 0 {
            return Err(AfXdpError::Option("no worker is configured; give at least one core"));
        }
        if !self.ring_size.is_power_of_two() {
            return Err(AfXdpError::Option("the ring size must be a power of two, for example 2048"));
        }
        Ok(())
    }
}

/// What is known of one interface before its sockets are opened.
#[derive(Clone, Copy, Debug)]
struct InterfaceQueues {
    receive: u32,
    transmit: u32,
}

impl InterfaceQueues {
    fn discover(interface: &str) -> Result<Self, AfXdpError> {
        let failed = |source| error::of_interface(source, interface);
        let mtu = system::mtu(interface).map_err(failed)?;
        if mtu > MAX_MTU {
            return Err(AfXdpError::MtuTooLarge { interface: interface.to_owned(), mtu });
        }
        let (receive, transmit) = system::queues(interface).map_err(failed)?;
        Ok(Self { receive, transmit })
    }
}

impl AfXdpIo {
    /// Opens a socket for every queue of both interfaces and deals them out: queue `q` goes to worker
    /// `q % workers`. A worker that gets no sending queue of a side hands its frames to one that has.
    ///
    /// # Errors
    /// [`AfXdpError`]; nothing stays open then.
    pub fn open(options: &AfXdpOptions) -> Result<Vec<Self>, AfXdpError> {
        options.check()?;
        let queues = [
            InterfaceQueues::discover(options.interface(Side::Outer))?,
            InterfaceQueues::discover(options.interface(Side::Inner))?,
        ];
        if options.zero_copy {
            match Opening::new(options, queues, BindFlags::XDP_ZEROCOPY).and_then(Opening::sockets) {
                Ok(opening) => return opening.workers("zero-copy"),
                Err(error) => info!(%error, "no zero-copy mode here; using copy mode"),
            }
        }
        Opening::new(options, queues, BindFlags::XDP_COPY)?.sockets()?.workers("copy")
    }
}

/// The sockets of all workers in the making.
struct Opening<'a> {
    options: &'a AfXdpOptions,
    queues: [InterfaceQueues; 2],
    mode: BindFlags,
    ports: Vec<Port>,
    memory: Arc<FrameMemory>,
}

impl<'a> Opening<'a> {
    fn new(
        options: &'a AfXdpOptions,
        queues: [InterfaceQueues; 2],
        mode: BindFlags,
    ) -> Result<Self, AfXdpError> {
        let sockets = queues[0].receive + queues[1].receive;
        let workers = u32::from(options.workers);
        let usual = sockets * 2 * options.ring_size + workers * WORKER_FREE_FRAMES;
        let memory = map_frames(options, options.frames.unwrap_or(usual).max(1))?;
        Ok(Self { options, queues, mode, ports: Vec::new(), memory: Arc::new(memory) })
    }

    fn sockets(mut self) -> Result<Self, AfXdpError> {
        let patience = Instant::now() + BUSY_PATIENCE;
        for side in Side::ALL {
            for queue in 0..self.queues[side.index()].receive {
                let rings = self.bind(side, queue, patience)?;
                let transmits = queue < self.queues[side.index()].transmit;
                let mut port = Port::new((side, queue), rings, transmits, self.options.ring_size);
                if let Some(busy_poll) = self.options.busy_poll
                    && let Err(error) = port.set_busy_poll(busy_poll)
                {
                    warn!(%error, side = side.name(), queue, "no busy polling on this socket; going on without");
                }
                self.ports.push(port);
            }
        }
        Ok(self)
    }

    fn bind(&self, side: Side, queue: u32, patience: Instant) -> Result<Rings, AfXdpError> {
        let interface = self.options.interface(side);
        loop {
            let error = match Rings::bind(&self.memory, self.socket_config(), interface, queue) {
                Ok(rings) => return Ok(rings),
                Err(BindError::Create(error)) => error::of_socket(&error, interface, queue),
                Err(BindError::System(source)) => {
                    AfXdpError::Socket { interface: interface.to_owned(), queue, source }
                }
            };
            if !matches!(error, AfXdpError::QueueBusy { .. }) || Instant::now() > patience {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn socket_config(&self) -> SocketConfig {
        let size = ring_size(self.options.ring_size);
        SocketConfig::builder()
            .rx_queue_size(size)
            .tx_queue_size(size)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(self.mode | BindFlags::XDP_USE_NEED_WAKEUP)
            .build()
    }

    fn workers(self, mode: &'static str) -> Result<Vec<AfXdpIo>, AfXdpError> {
        let (options, frames) = (self.options, self.memory.frames());
        info!(
            outer = %options.outer,
            outer_queues = self.queues[0].receive,
            inner = %options.inner,
            inner_queues = self.queues[1].receive,
            workers = options.workers,
            frames,
            "AF_XDP sockets are open in {mode} mode"
        );
        let mut workers = self.deal()?;
        for worker in &mut workers {
            for port in &mut worker.ports {
                port.refill(&mut worker.frames);
            }
        }
        Ok(workers)
    }

    fn deal(self) -> Result<Vec<AfXdpIo>, AfXdpError> {
        let count = usize::from(self.options.workers);
        let frames = self.memory.frames();
        let pool = Arc::new(Pool::new(frames as u32));
        let limit = if count == 1 { frames } else { WORKER_FREE_FRAMES as usize };
        let wakers: Vec<_> = (0..count)
            .map(|_| Waker::new())
            .collect::<Result<_, _>>()
            .map_err(|source| AfXdpError::Interface { interface: self.options.outer.clone(), source })?;
        let mut hands: Vec<Vec<Port>> = (0..count).map(|_| Vec::new()).collect();
        for port in self.ports {
            hands[port.queue as usize % count].push(port);
        }
        let outboxes = outboxes(&hands, &wakers);
        let workers = hands.into_iter().zip(wakers).enumerate().map(|(index, (ports, waker))| {
            let way = |side: Side| way(&ports, &outboxes[side.index()], side, index);
            let mine = |side: Side| {
                let outbox = outboxes[side.index()].get(index);
                outbox.cloned().flatten()
            };
            AfXdpIo::new(Parts {
                ways: Side::ALL.map(way),
                outboxes: Side::ALL.map(mine),
                ports,
                frames: FreeFrames::new(Arc::clone(&pool), limit),
                pool: Arc::clone(&pool),
                buffers: Buffers::new(Arc::clone(&self.memory)),
                waker,
            })
        });
        Ok(workers.collect())
    }
}

/// The first sending port of a side, if this worker has one.
fn sending_port(ports: &[Port], side: Side) -> Option<usize> {
    ports.iter().position(|port| port.side == side && port.transmits)
}

/// For each side and worker an outbox, if the worker can send there and some other cannot.
fn outboxes(hands: &[Vec<Port>], wakers: &[Waker]) -> [Vec<Option<Arc<Outbox>>>; 2] {
    Side::ALL.map(|side| {
        let needed = hands.iter().any(|ports| sending_port(ports, side).is_none());
        let outbox = |(ports, waker): (&Vec<Port>, &Waker)| {
            let sends = needed && sending_port(ports, side).is_some();
            sends.then(|| Arc::new(Outbox { frames: ArrayQueue::new(OUTBOX), owner: waker.clone() }))
        };
        hands.iter().zip(wakers).map(outbox).collect()
    })
}

/// How worker `index` sends on `side`. Queue 0 of every interface sends and belongs to worker 0, so that there is
/// always an outbox for a worker that has no sending port itself.
fn way(ports: &[Port], outboxes: &[Option<Arc<Outbox>>], side: Side, index: usize) -> Way {
    if let Some(port) = sending_port(ports, side) {
        return Way::Port(port);
    }
    let senders: Vec<_> = outboxes.iter().flatten().collect();
    Way::Outbox(Arc::clone(senders[index % senders.len()]))
}

fn ring_size(size: u32) -> QueueSize {
    QueueSize::new(size).expect("the options were checked")
}

/// Maps the frames, in huge pages if wanted and there are any.
fn map_frames(options: &AfXdpOptions, wanted: u32) -> Result<FrameMemory, AfXdpError> {
    // Whole huge pages of 2 MiB.
    let frames = wanted.next_multiple_of(512);
    let count = NonZeroU32::new(frames).unwrap_or(NonZeroU32::MIN);
    let size = ring_size(options.ring_size);
    let config = UmemConfig::builder().fill_queue_size(size).comp_queue_size(size).build();
    let config = config.map_err(|_| AfXdpError::Option("the frame size does not suit this libxdp"))?;
    if options.huge_pages {
        match FrameMemory::new(config, count, true) {
            Ok(memory) => return Ok(memory),
            Err(error) => {
                info!(%error, frames, "no huge pages for packet frames (vm.nr_hugepages); using ordinary ones");
            }
        }
    }
    FrameMemory::new(config, count, false).map_err(|error| error::of_memory(&error, frames))
}
