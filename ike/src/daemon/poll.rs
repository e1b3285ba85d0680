//! Waiting for sockets, signals, threads and timers at once (epoll(7)).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{CreateFlags, Event, EventData, EventFlags, add, create, wait};

/// Descriptors that are told of at once; the others are told of next time.
const AT_ONCE: usize = 64;

/// What is waited for.
pub(super) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(AT_ONCE) })
    }

    /// From now on this one, under a number.
    pub(super) fn watch(&self, descriptor: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        Ok(add(&self.epoll, descriptor, EventData::new_u64(number), EventFlags::IN)?)
    }

    /// The numbers of those that are ready; none after `limit`, or if a signal came between.
    pub(super) fn wait(&mut self, limit: Duration) -> io::Result<Vec<u64>> {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        self.events.clear();
        match wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&limit)) {
            Ok(_) => Ok(self.events.iter().map(|event| event.data.u64()).collect()),
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}
