//! The workers' threads: pinned to their cores, turning, and asleep when there is nothing to do. And the one that follows
//! leases.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use tracing::warn;

use super::error::{DaemonError, io_error};
use super::gateway::Gateway;
use super::ownership;
use crate::io::PacketIo;
use crate::worker::Worker;

/// Turns without a packet before a worker sleeps: a burst's next packets often follow at once, and a sleep costs
/// a system call and a wake-up.
const IDLE_TURNS: u32 = 16;

/// How long a worker sleeps at most: what it must look after by itself (held packets, a stop) may wait so long.
const NAP: Duration = Duration::from_millis(20);

/// The running threads.
pub(super) struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(super) fn new() -> Self {
        Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() }
    }

    /// Starts the next worker on `core`.
    pub(super) fn start<I: PacketIo + 'static>(
        &mut self,
        worker: Worker<I>,
        core: usize,
    ) -> Result<(), DaemonError> {
        let stop = Arc::clone(&self.stop);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{}", self.threads.len()))
            .spawn(move || work(worker, core, &stop))
            .map_err(io_error("start a thread of", std::path::Path::new("the data plane")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// A worker whose thread ended by itself.
    pub(super) fn first_dead(&self) -> Option<u16> {
        self.threads.iter().position(JoinHandle::is_finished).map(|index| index as u16)
    }

    /// Ends all threads.
    pub(super) fn stop(self) {
        drop(self);
    }
}

/// However the daemon ends: as long as a worker runs, the table's lease must be held.
impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The thread that keeps the filter in line with the leases.
pub(super) struct LeaseFollower {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LeaseFollower {
    pub(super) fn start(gateway: &Arc<Gateway>) -> Result<Self, DaemonError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (gateway, told) = (Arc::clone(gateway), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("leases".to_owned())
            .spawn(move || ownership::follow_leases(&gateway.table, &gateway.ownership, &told))
            .map_err(io_error("start a thread of", std::path::Path::new("the data plane")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for LeaseFollower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn work<I: PacketIo>(mut worker: Worker<I>, core: usize, stop: &AtomicBool) {
    pin(core);
    let mut idle = 0;
    while !stop.load(Ordering::Relaxed) {
        if worker.turn() > 0 {
            idle = 0;
        } else if idle < IDLE_TURNS {
            idle += 1;
            std::hint::spin_loop();
        } else {
            worker.idle(NAP);
        }
    }
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        warn!(core, %error, "a worker cannot be pinned to its core; it runs on any ([workers] cores)");
    }
}
