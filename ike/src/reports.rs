//! What threads tell the loop.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use baton_ike_proto::Command;

use crate::wake::Wake;

/// Reports that may wait; a thread with one more waits itself.
const ROOM: usize = 4096;

/// What a thread has to tell.
#[derive(Debug)]
pub(crate) enum Report {
    /// The data plane saw something that the protocol wants to know.
    Heard(Command),
    /// The data plane answers, or does no longer.
    DataPlane {
        /// Whether it does.
        is_there: bool,
    },
    /// Where a gateway is that is known by name.
    Found {
        /// Its name.
        name: String,
        /// All its addresses.
        addresses: Vec<IpAddr>,
    },
    /// The data plane does not take a policy.
    PolicyRefused {
        /// A sentence.
        problem: String,
        /// What the protocol is to know of it.
        failed: Option<Command>,
    },
}

/// A thread's end.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    sender: SyncSender<Report>,
    wake: Wake,
}

impl Reports {
    /// Both ends; `wake` wakes the loop.
    pub(crate) fn channel(wake: Wake) -> (Self, Receiver<Report>) {
        let (sender, receiver) = sync_channel(ROOM);
        (Self { sender, wake }, receiver)
    }

    /// Lets the loop look around.
    pub(crate) fn wake(&self) {
        self.wake.wake();
    }

    /// Tells the loop; false if there is none any more.
    pub(crate) fn send(&self, report: Report) -> bool {
        let sent = self.sender.send(report).is_ok();
        self.wake.wake();
        sent
    }
}
