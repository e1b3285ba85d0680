//! Waking the loop from other threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

/// Something to wait for beside sockets (eventfd(2)).
#[derive(Clone, Debug)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// A new one.
    ///
    /// # Errors
    /// If there are no file descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Wakes whoever waits, now or when it next does.
    pub fn wake(&self) {
        // Fails only when it is so full of wakes that nobody could miss it.
        let _ = write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Takes back all wakes so far.
    pub fn clear(&self) {
        let _ = read(&*self.0, &mut [0; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
