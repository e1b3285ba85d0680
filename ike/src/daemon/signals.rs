//! Signals as something to wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// TERM, INT.
    Stop,
    /// HUP.
    Reload,
}

/// The signals that came.
#[derive(Debug)]
pub(super) struct Signals {
    stop: UnixStream,
    reload: UnixStream,
}

impl Signals {
    /// From now on these signals end or interrupt nothing.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self { stop: caught(&[SIGTERM, SIGINT])?, reload: caught(&[SIGHUP])? })
    }

    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.stop.as_fd(), self.reload.as_fd()]
    }

    /// What came since this was asked last; an end before everything else.
    pub(super) fn take(&self) -> Option<Asked> {
        let came = |mut stream: &UnixStream| matches!(stream.read(&mut [0; 64]), Ok(1..));
        match () {
            () if came(&self.stop) => Some(Asked::Stop),
            () if came(&self.reload) => Some(Asked::Reload),
            () => None,
        }
    }
}

fn caught(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}
