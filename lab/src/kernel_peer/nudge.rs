//! Nudges for a user-mode kernel, so that no frame lies in its tap unread.
//!
//! The host's tap driver signals SIGIO before it wakes those who poll. A user-mode kernel asks epoll at the signal, and
//! on another processor it may ask too early: the frame is not seen until the next one arrives, and a lone echo's
//! answer counts as lost. One more SIGIO makes it look again, and costs nothing when there is nothing to see.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{LabError, Result};

/// Well below what any protocol here waits for an answer.
const INTERVAL: Duration = Duration::from_millis(20);

/// Nudges until it is dropped or the kernel ends.
#[derive(Debug)]
pub(super) struct Nudge(#[allow(dead_code, reason = "its end is what the thread waits for")] Sender<()>);

impl Nudge {
    /// Begins. `parent` is the process whose only child the kernel is.
    pub(super) fn start(parent: u32) -> Result<Self> {
        let kernel = pidfd_open(only_child(parent)?, PidfdFlags::empty())
            .map_err(|error| LabError::Unexpected(format!("cannot signal the kernel: {error}")))?;
        let (sender, ended) = channel();
        std::thread::Builder::new()
            .name("kernel-nudge".into())
            .spawn(
                move || {
                    while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) && nudge(&kernel) {}
                },
            )
            .map_err(LabError::io("start a thread"))?;
        Ok(Self(sender))
    }
}

/// Whether the kernel is still there.
fn nudge(kernel: &OwnedFd) -> bool {
    pidfd_send_signal(kernel, Signal::IO).is_ok()
}

fn only_child(parent: u32) -> Result<Pid> {
    let path = PathBuf::from(format!("/proc/{parent}/task/{parent}/children"));
    let children = std::fs::read_to_string(&path).map_err(LabError::path("read", &path))?;
    let mut pids = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    match (pids.next(), pids.next()) {
        (Some(pid), None) => Ok(pid),
        _ => {
            Err(LabError::Unexpected(format!("one child of process {parent} was expected, not `{children}`")))
        }
    }
}
