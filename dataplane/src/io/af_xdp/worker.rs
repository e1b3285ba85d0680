//! One worker's ports behind the I/O trait.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use super::counters::{IoCounters, add};
use super::ledger::Census;
use super::pool::Pool;
use super::port::{Port, Store};
use super::system::FrameBuffer;
use crate::io::socket::OuterFilter;
use crate::io::{Frame, Medium, Packet, PacketIo, Side, system};

/// Flushes between two looks at the kernel's drop counters.
const STATISTICS_PERIOD: u32 = 4096;

/// How long a worker rests whose device was removed.
const GONE_PAUSE: Duration = Duration::from_millis(10);

/// Ends another worker's [`PacketIo::wait`]: after a frame was put into its hand-over ring, or to stop it.
#[derive(Clone, Debug)]
pub struct Waker(Arc<WakerState>);

#[derive(Debug)]
struct WakerState {
    event: OwnedFd,
    /// A signal is on its way, so that a busy worker costs its wakers no system calls.
    signalled: AtomicBool,
}

impl Waker {
    pub(super) fn new() -> std::io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(WakerState { event, signalled: AtomicBool::new(false) })))
    }

    /// Wakes the worker. What was written before this call is seen by the worker after its wait.
    pub fn wake(&self) {
        if !self.0.signalled.swap(true, Ordering::AcqRel) {
            // Only a full counter could refuse, and then the worker is awake.
            let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
        }
    }

    /// Takes the signal back. First the event: a wake before the flag falls finds its worker awake, and one after
    /// it writes again. The other way round, this could eat the event of a wake that leaves its flag standing.
    fn clear(&self) {
        let _ = rustix::io::read(&self.0.event, &mut [0; 8]);
        self.0.signalled.swap(false, Ordering::AcqRel);
    }
}

/// Where workers that own no sending queue of a side put their frames.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) frames: ArrayQueue<Frame>,
    pub(super) owner: Waker,
}

/// How a worker sends on one side.
#[derive(Debug)]
pub(super) enum Way {
    /// By its own port of that number.
    Port(usize),
    /// By another worker.
    Outbox(Arc<Outbox>),
}

/// One worker's sockets: its share of the queues of both interfaces, or of what stands in for one of them.
#[derive(Debug)]
pub struct AfXdpIo {
    pub(super) ports: Vec<Port>,
    pub(super) ways: [Way; 2],
    /// What other workers want this one to send, per side.
    pub(super) outboxes: [Option<Arc<Outbox>>; 2],
    pub(super) store: Store,
    pub(super) pool: Arc<Pool>,
    pub(super) counters: Arc<IoCounters>,
    pub(super) waker: Waker,
    media: [Medium; 2],
    poll_set: Vec<libc::pollfd>,
    outgoing: Vec<Frame>,
    next_port: usize,
    flushes: u32,
}

/// The parts of a worker that [`AfXdpIo::new`] puts together.
pub(super) struct Parts {
    pub(super) ports: Vec<Port>,
    pub(super) ways: [Way; 2],
    pub(super) outboxes: [Option<Arc<Outbox>>; 2],
    pub(super) store: Store,
    pub(super) pool: Arc<Pool>,
    pub(super) waker: Waker,
    pub(super) media: [Medium; 2],
}

impl AfXdpIo {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { ports, ways, outboxes, store, pool, waker, media } = parts;
        let sockets = ports.iter().flat_map(Port::raw_fds);
        let poll_set = std::iter::once(waker.0.event.as_raw_fd())
            .chain(sockets)
            .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
            .collect();
        Self {
            ports,
            ways,
            outboxes,
            store,
            pool,
            counters: Arc::default(),
            waker,
            media,
            poll_set,
            outgoing: Vec::with_capacity(64),
            next_port: 0,
            flushes: 0,
        }
    }

    /// The sockets to be registered in the XSK map: side, queue, file descriptor.
    pub fn sockets(&self) -> impl Iterator<Item = (Side, u32, BorrowedFd<'_>)> {
        let ports = self.ports.iter().filter_map(Port::as_xsk);
        ports.map(|port| (port.side, port.queue, port.rings.fd()))
    }

    /// The filter of the outer side's plain sockets, where it is on such.
    pub fn outer_filter(&self) -> Option<OuterFilter> {
        self.ports.iter().find_map(|port| match port {
            Port::Sockets(port) => Some(port.filter()),
            _ => None,
        })
    }

    /// A handle by which other threads end this worker's [`PacketIo::wait`].
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// This worker's counters, readable while it runs.
    pub fn counters(&self) -> Arc<IoCounters> {
        Arc::clone(&self.counters)
    }

    /// Where the frames of all workers are; `None` in release builds, which do not keep account.
    pub fn census(&self) -> Option<Census> {
        self.pool.census()
    }

    /// Reads the kernel's drop counters into [`AfXdpIo::counters`].
    pub fn refresh_counters(&self) {
        for side in Side::ALL {
            let sum = self
                .ports
                .iter()
                .filter(|port| port.side() == side)
                .filter_map(Port::drops)
                .fold([0; 3], |sum, port| [sum[0] + port[0], sum[1] + port[1], sum[2] + port[2]]);
            let counters = self.counters.side(side);
            counters.receive_ring_full.store(sum[0], Ordering::Relaxed);
            counters.fill_ring_empty.store(sum[1], Ordering::Relaxed);
            counters.receive_dropped.store(sum[2], Ordering::Relaxed);
        }
    }

    /// Sends what other workers left here.
    fn empty_outboxes(&mut self) {
        for side in Side::ALL {
            let (Some(outbox), Way::Port(port)) = (&self.outboxes[side.index()], &self.ways[side.index()])
            else {
                continue;
            };
            let room = self.outgoing.capacity();
            self.outgoing.extend(std::iter::from_fn(|| outbox.frames.pop()).take(room));
            let counters = self.counters.side(side);
            self.ports[*port].transmit(&mut self.outgoing, &mut self.store, counters);
        }
    }

    /// Whether this worker has work that no descriptor would announce.
    fn has_work(&self) -> bool {
        self.outboxes.iter().flatten().any(|outbox| !outbox.frames.is_empty())
            || self.ports.iter().any(Port::has_work)
    }
}

impl PacketIo for AfXdpIo {
    type Buffer = FrameBuffer;

    #[inline]
    fn medium(&self, side: Side) -> Medium {
        self.media[side.index()]
    }

    fn receive(&mut self, side: Side, batch: &mut Vec<Frame>) -> usize {
        // Another port comes first each time, so that a full queue does not starve the others.
        self.next_port = self.next_port.wrapping_add(1);
        let count = self.ports.len();
        let mut received = 0;
        for offset in 0..count {
            let port = &mut self.ports[(self.next_port + offset) % count];
            if port.side() == side {
                received += port.receive(batch, &mut self.store);
            }
        }
        add(&self.counters.side(side).received, received as u64);
        received
    }

    fn buffer(&mut self, frame: &Frame) -> &mut [u8] {
        self.store.buffers.get(frame)
    }

    #[inline]
    fn lend(&mut self, frame: Frame) -> Packet<FrameBuffer> {
        self.store.buffers.lend_packet(frame)
    }

    #[inline]
    fn take_back(&mut self, packet: Packet<FrameBuffer>) -> Frame {
        self.store.buffers.take_packet_back(packet)
    }

    fn transmit(&mut self, side: Side, frames: &mut Vec<Frame>) {
        let counters = self.counters.side(side);
        match &self.ways[side.index()] {
            Way::Port(port) => self.ports[*port].transmit(frames, &mut self.store, counters),
            Way::Outbox(outbox) => {
                for frame in frames.drain(..) {
                    if let Err(frame) = outbox.frames.push(frame) {
                        add(&counters.transmit_ring_full, 1);
                        self.store.frames.release(&frame);
                    }
                }
                outbox.owner.wake();
            }
        }
    }

    fn allocate(&mut self) -> Option<Frame> {
        self.store.frames.allocate(Side::Inner)
    }

    fn release(&mut self, frame: Frame) {
        self.store.frames.release(&frame);
    }

    fn flush(&mut self) {
        self.empty_outboxes();
        for port in &mut self.ports {
            port.flush(&mut self.store, self.counters.side(port.side()));
        }
        self.flushes = self.flushes.wrapping_add(1);
        if self.flushes.is_multiple_of(STATISTICS_PERIOD) {
            self.refresh_counters();
        }
    }

    fn wait(&mut self, timeout: Duration) {
        // Packets that the kernel would not take yet are tried again soon: no descriptor tells when.
        let blocked = self.ports.iter().any(Port::is_blocked);
        let timeout = if blocked { timeout.min(Duration::from_millis(1)) } else { timeout };
        if self.ports.iter().any(Port::is_gone) {
            // The daemon hears of it and ends; until then nobody shall burn a core.
            std::thread::sleep(timeout.min(GONE_PAUSE));
        } else if !self.has_work() {
            system::poll(&mut self.poll_set, timeout);
        }
        self.waker.clear();
        self.refresh_counters();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
