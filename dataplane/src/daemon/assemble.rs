//! Puts the workers together: filter, packet I/O, threads.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use baton_sad::Table;

use super::error::DaemonError;
use super::filter::Filter;
use super::gateway::WorkerShare;
use super::media::Media;
use super::threads::Workers;
use crate::capture::Tap;
use crate::config::{Config, InnerInterface};
use crate::counters::WorkerCounters;
use crate::crypto::Backend;
use crate::events::Events;
use crate::io::af_xdp::{AfXdpIo, AfXdpOptions, BusyPoll};
use crate::io::{Medium, PacketIo, Side};
use crate::next_hop::{NextHops, ResolveRequests};
use crate::spd::Spd;
use crate::worker::{AcquireLimits, Rings, Worker, WorkerOptions, monotonic_ns, unix_seconds};
use crate::xdp::FilterPolicies;

/// What the workers are made of.
pub(super) struct Plan<'a> {
    /// What the filter is to know of the policies.
    pub(super) policies: FilterPolicies,
    pub(super) config: &'a Config,
    pub(super) table: &'a Arc<Table>,
    pub(super) spd: &'a Arc<ArcSwap<Spd>>,
    pub(super) next_hops: &'a Arc<ArcSwap<NextHops>>,
    pub(super) resolve: Arc<ResolveRequests>,
    pub(super) tap: &'a Arc<Tap>,
    pub(super) events: &'a Arc<Events>,
    pub(super) rings: &'a Arc<Rings>,
}

/// How workers hold packets that wait for an SA.
pub(super) fn acquire(config: &Config) -> AcquireLimits {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    AcquireLimits {
        hold: nanoseconds(config.acquire.hold),
        packets: config.acquire.held_packets,
        repeat: nanoseconds(config.acquire.repeat),
    }
}

/// The configured crypto back end.
pub(super) fn backend(config: &Config) -> Backend {
    config.workers.crypto
}

/// Opens the packet I/O behind its filter, on the media that the configuration names or, where it leaves the choice to
/// us, on those that work here.
pub(super) fn open(plan: &Plan<'_>, media: &Media) -> Result<(Filter, Vec<AfXdpIo>), DaemonError> {
    open_on(plan, media).or_else(|error| match media.instead(plan.config, &error) {
        Some(other) => open_on(plan, &other),
        None => Err(error),
    })
}

fn open_on(plan: &Plan<'_>, media: &Media) -> Result<(Filter, Vec<AfXdpIo>), DaemonError> {
    let mut filter = Filter::install(plan.config, &plan.policies, media, &plan.next_hops.load())?;
    match open_behind(&mut filter, &io_options(plan.config, media)) {
        Ok(ios) => Ok((filter, ios)),
        Err(error) => {
            // Else it would drop what other media are to receive.
            filter.withdraw()?;
            Err(error)
        }
    }
}

fn open_behind(filter: &mut Filter, options: &AfXdpOptions) -> Result<Vec<AfXdpIo>, DaemonError> {
    let ios = AfXdpIo::open(options)?;
    for io in &ios {
        filter.register(io)?;
    }
    Ok(ios)
}

fn io_options(config: &Config, media: &Media) -> AfXdpOptions {
    let workers = config.workers.cores.len() as u16;
    let mut options = AfXdpOptions::new(media.outer.clone(), media.inner.clone(), workers);
    let time = config.workers.busy_poll;
    options.busy_poll = (!time.is_zero()).then_some(BusyPoll { time, budget: config.workers.batch as u16 });
    options
}

/// Queues served per side: those of AF_XDP, or one per worker.
pub(super) fn queues(ios: &[AfXdpIo]) -> [u32; 2] {
    Side::ALL.map(|side| {
        let sockets = ios.iter().flat_map(AfXdpIo::sockets).filter(|(of, ..)| *of == side).count();
        let is_bare = ios.iter().any(|io| io.medium(side) == Medium::Ip);
        if is_bare { ios.len() as u32 } else { sockets as u32 }
    })
}

/// Starts a worker on each I/O.
pub(super) fn start(plan: &Plan<'_>, ios: Vec<AfXdpIo>) -> Result<(Workers, Vec<WorkerShare>), DaemonError> {
    let mut workers = Workers::new();
    let mut shares = Vec::new();
    for ((index, io), core) in (0_u16..).zip(ios).zip(&plan.config.workers.cores) {
        let counters = Arc::new(WorkerCounters::default());
        let waker = io.waker();
        for side in Side::ALL {
            plan.tap.set_medium(side, io.medium(side));
        }
        plan.rings.on_packet(index, move || waker.wake());
        shares.push(WorkerShare { core: *core, counters: Arc::clone(&counters), io: io.counters() });
        workers.start(Worker::new(&plan.worker_options(index, counters), io)?, *core)?;
    }
    Ok((workers, shares))
}

impl Plan<'_> {
    fn worker_options(&self, index: u16, counters: Arc<WorkerCounters>) -> WorkerOptions {
        WorkerOptions {
            index,
            workers: self.config.workers.cores.len() as u16,
            table: Arc::clone(self.table),
            spd: Arc::clone(self.spd),
            next_hops: Arc::clone(self.next_hops),
            resolve: Arc::clone(&self.resolve),
            counters,
            rings: Arc::clone(self.rings),
            tap: Arc::clone(self.tap),
            crypto: backend(self.config),
            batch: self.config.workers.batch,
            clock: monotonic_ns,
            unix_clock: unix_seconds,
            // What comes from a TUN is the kernel's own traffic, or was routed by it.
            anti_spoofing: self.config.inner.anti_spoofing
                && matches!(self.config.inner.interface, InnerInterface::Device(_)),
            errors_per_second: self.config.icmp.errors_per_second,
            acquire: acquire(self.config),
            events: Arc::clone(self.events),
        }
    }
}
