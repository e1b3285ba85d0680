//! AF_XDP sockets as packet I/O: one socket per queue of the outer and the inner interface, all on one shared
//! frame memory (UMEM), spread over the workers. Each side may have another medium instead: the outer one plain
//! sockets ([`super::socket`]), the inner one a TUN device ([`super::tun`]). They work on the same frames, whose
//! memory is the process's own where no AF_XDP socket is left.
//!
//! A frame is always in exactly one place: a fill ring (the kernel receives into it), the pipeline, a transmit
//! ring until it comes back by the completion ring, or a free list. Frames belong to no worker: what one
//! received another may send or release.
//!
//! The XDP program is not loaded here: register [`AfXdpIo::sockets`] with the program that redirects to them.

pub(in crate::io) mod counters;
mod error;
mod ledger;
pub(in crate::io) mod pool;
mod port;
pub(in crate::io) mod system;
mod worker;
mod xsk_port;

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
use port::{Port, Store};
pub use system::FrameBuffer;
use system::{BindError, Buffers, FrameMemory, Rings};
pub use worker::{AfXdpIo, Waker};
use worker::{Outbox, Parts, Way};
use xsk_port::XskPort;

use crate::io::socket::{self, SocketOptions, SocketPort, Sockets};
use crate::io::tun::{self, TunOptions, TunPort};
use crate::io::{FRAME_SIZE, HEADROOM, Medium, Side, system as kernel};

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

/// The ciphertext side's medium.
#[derive(Clone, Debug)]
pub enum Outer {
    /// AF_XDP on the interface of that name.
    AfXdp(String),
    /// Plain sockets.
    Sockets(SocketOptions),
}

/// The plaintext side's medium.
#[derive(Clone, Debug)]
pub enum Inner {
    /// AF_XDP on the interface of that name.
    AfXdp(String),
    /// A TUN device.
    Tun(TunOptions),
}

impl<S: Into<String>> From<S> for Outer {
    fn from(interface: S) -> Self {
        Self::AfXdp(interface.into())
    }
}

impl<S: Into<String>> From<S> for Inner {
    fn from(interface: S) -> Self {
        Self::AfXdp(interface.into())
    }
}

impl From<SocketOptions> for Outer {
    fn from(options: SocketOptions) -> Self {
        Self::Sockets(options)
    }
}

impl From<TunOptions> for Inner {
    fn from(options: TunOptions) -> Self {
        Self::Tun(options)
    }
}

/// What to open.
#[derive(Clone, Debug)]
pub struct AfXdpOptions {
    /// The ciphertext side.
    pub outer: Outer,
    /// The plaintext side.
    pub inner: Inner,
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
    /// The usual options for two sides: names of interfaces, [`SocketOptions`] and [`TunOptions`] will do.
    pub fn new(outer: impl Into<Outer>, inner: impl Into<Inner>, workers: u16) -> Self {
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

    /// The interface, where a side has AF_XDP.
    fn interface(&self, side: Side) -> Option<&str> {
        match (side, &self.outer, &self.inner) {
            (Side::Outer, Outer::AfXdp(name), _) | (Side::Inner, _, Inner::AfXdp(name)) => Some(name),
            _ => None,
        }
    }

    /// The name of the interface or device of a side, whatever its medium.
    fn name(&self, side: Side) -> &str {
        match (side, &self.outer, &self.inner) {
            (Side::Outer, Outer::AfXdp(name), _) | (Side::Inner, _, Inner::AfXdp(name)) => name,
            (Side::Outer, Outer::Sockets(options), _) => &options.interface,
            (Side::Inner, _, Inner::Tun(options)) => &options.name,
        }
    }

    fn media(&self) -> [Medium; 2] {
        Side::ALL.map(|side| if self.interface(side).is_some() { Medium::Ethernet } else { Medium::Ip })
    }

    fn check(&self) -> Result<(), AfXdpError> {
        if self.name(Side::Outer) == self.name(Side::Inner) {
            return Err(AfXdpError::SameInterface(self.name(Side::Outer).to_owned()));
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct InterfaceQueues {
    receive: u32,
    transmit: u32,
}

impl InterfaceQueues {
    fn discover(interface: &str) -> Result<Self, AfXdpError> {
        let failed = |source| error::of_interface(source, interface);
        let mtu = kernel::mtu(interface).map_err(failed)?;
        if mtu > MAX_MTU {
            return Err(AfXdpError::MtuTooLarge { interface: interface.to_owned(), mtu });
        }
        let (receive, transmit) = kernel::queues(interface).map_err(failed)?;
        Ok(Self { receive, transmit })
    }
}

impl AfXdpIo {
    /// Opens a socket for every queue of both interfaces and deals them out: queue `q` goes to worker
    /// `q % workers`. A worker that gets no sending queue of a side hands its frames to one that has. Of other media
    /// every worker gets its own.
    ///
    /// # Errors
    /// [`AfXdpError`]; nothing stays open then.
    pub fn open(options: &AfXdpOptions) -> Result<Vec<Self>, AfXdpError> {
        options.check()?;
        let mut queues = [InterfaceQueues::default(); 2];
        for side in Side::ALL {
            if let Some(interface) = options.interface(side) {
                queues[side.index()] = InterfaceQueues::discover(interface)?;
            }
        }
        if queues == [InterfaceQueues::default(); 2] {
            return Opening::without_umem(options, queues)?.workers(None);
        }
        if options.zero_copy {
            match Opening::new(options, queues, BindFlags::XDP_ZEROCOPY).and_then(Opening::sockets) {
                Ok(opening) => return opening.workers(Some("zero-copy")),
                Err(error) => info!(%error, "no zero-copy mode here; using copy mode"),
            }
        }
        Opening::new(options, queues, BindFlags::XDP_COPY)?.sockets()?.workers(Some("copy"))
    }
}

/// The sockets of all workers in the making.
struct Opening<'a> {
    options: &'a AfXdpOptions,
    queues: [InterfaceQueues; 2],
    mode: BindFlags,
    ports: Vec<XskPort>,
    memory: Arc<FrameMemory>,
}

impl<'a> Opening<'a> {
    fn new(
        options: &'a AfXdpOptions,
        queues: [InterfaceQueues; 2],
        mode: BindFlags,
    ) -> Result<Self, AfXdpError> {
        let memory = map_frames(options, wanted_frames(options, queues))?;
        Ok(Self { options, queues, mode, ports: Vec::new(), memory: Arc::new(memory) })
    }

    /// For media that need none.
    fn without_umem(options: &'a AfXdpOptions, queues: [InterfaceQueues; 2]) -> Result<Self, AfXdpError> {
        let frames = wanted_frames(options, queues);
        let memory = FrameMemory::without_umem(NonZeroU32::new(frames).unwrap_or(NonZeroU32::MIN));
        let memory = memory.map_err(|source| AfXdpError::Memory { frames, source })?;
        Ok(Self { options, queues, mode: BindFlags::empty(), ports: Vec::new(), memory: Arc::new(memory) })
    }

    fn sockets(mut self) -> Result<Self, AfXdpError> {
        let patience = Instant::now() + BUSY_PATIENCE;
        for side in Side::ALL {
            let Some(interface) = self.options.interface(side) else { continue };
            for queue in 0..self.queues[side.index()].receive {
                let rings = self.bind(interface, queue, patience)?;
                let transmits = queue < self.queues[side.index()].transmit;
                let mut port = XskPort::new((side, queue), rings, transmits, self.options.ring_size);
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

    fn bind(&self, interface: &str, queue: u32, patience: Instant) -> Result<Rings, AfXdpError> {
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

    fn workers(self, mode: Option<&'static str>) -> Result<Vec<AfXdpIo>, AfXdpError> {
        if let Some(mode) = mode {
            info!(
                outer = %self.options.name(Side::Outer),
                outer_queues = self.queues[0].receive,
                inner = %self.options.name(Side::Inner),
                inner_queues = self.queues[1].receive,
                workers = self.options.workers,
                frames = self.memory.frames(),
                "AF_XDP sockets are open in {mode} mode"
            );
        }
        let mut workers = self.deal()?;
        for worker in &mut workers {
            for port in &mut worker.ports {
                if let Port::Xsk(port) = port {
                    port.refill(&mut worker.store.frames);
                }
            }
        }
        Ok(workers)
    }

    fn deal(self) -> Result<Vec<AfXdpIo>, AfXdpError> {
        let options = self.options;
        let count = usize::from(options.workers);
        let frames = self.memory.frames();
        let pool = Arc::new(Pool::new(frames as u32));
        let limit = if count == 1 { frames } else { WORKER_FREE_FRAMES as usize };
        let failed =
            |source| AfXdpError::Interface { interface: options.name(Side::Outer).to_owned(), source };
        let wakers: Vec<_> = (0..count).map(|_| Waker::new()).collect::<Result<_, _>>().map_err(failed)?;
        let mut hands = other_ports(options)?;
        for port in self.ports {
            hands[port.queue as usize % count].push(Port::Xsk(Box::new(port)));
        }
        let outboxes = outboxes(&hands, &wakers);
        let workers = hands.into_iter().zip(wakers).enumerate().map(|(index, (ports, waker))| {
            let way = |side: Side| way(&ports, &outboxes[side.index()], side, index);
            let mine = |side: Side| {
                let outbox = outboxes[side.index()].get(index);
                outbox.cloned().flatten()
            };
            let frames = FreeFrames::new(Arc::clone(&pool), limit);
            AfXdpIo::new(Parts {
                ways: Side::ALL.map(way),
                outboxes: Side::ALL.map(mine),
                ports,
                store: Store { frames, buffers: Buffers::new(Arc::clone(&self.memory)) },
                pool: Arc::clone(&pool),
                waker,
                media: options.media(),
            })
        });
        Ok(workers.collect())
    }
}

/// As many frames as all rings can hold, and some for each worker.
fn wanted_frames(options: &AfXdpOptions, queues: [InterfaceQueues; 2]) -> u32 {
    let sockets = queues[0].receive + queues[1].receive;
    let workers = u32::from(options.workers);
    let usual = sockets * 2 * options.ring_size + workers * WORKER_FREE_FRAMES;
    options.frames.unwrap_or(usual).max(1)
}

/// Every worker's ports of other media than AF_XDP.
fn other_ports(options: &AfXdpOptions) -> Result<Vec<Vec<Port>>, AfXdpError> {
    let mut hands: Vec<Vec<Port>> = (0..options.workers).map(|_| Vec::new()).collect();
    if let Outer::Sockets(options) = &options.outer {
        let all = socket::open(options, hands.len() as u16)?;
        let port = |sockets: Sockets| Port::Sockets(SocketPort::new(Side::Outer, sockets));
        hands.iter_mut().zip(all).for_each(|(hand, sockets)| hand.push(port(sockets)));
        info!(
            interface = %options.interface, ports = ?options.encapsulation_ports,
            "the outer side is on plain sockets: ESP takes the way through the kernel, which costs throughput"
        );
    }
    if let Inner::Tun(options) = &options.inner {
        let queues = tun::open_queues(options, hands.len() as u16)?;
        let port = |queue| Port::Tun(TunPort::new(Side::Inner, queue));
        hands.iter_mut().zip(queues).for_each(|(hand, queue)| hand.push(port(queue)));
        info!(device = %options.name, "the inner side is on a TUN device");
    }
    Ok(hands)
}

/// The first sending port of a side, if this worker has one.
fn sending_port(ports: &[Port], side: Side) -> Option<usize> {
    ports.iter().position(|port| port.side() == side && port.transmits())
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
