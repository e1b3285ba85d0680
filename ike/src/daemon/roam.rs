//! Where this host is: the protocol is told when its addresses or routes change.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use baton_ike_proto::Command;
use tracing::{info, warn};

use super::turn::Loop;
use crate::clock;
use crate::sockets::Changes;

/// Changes come several at a time: an address goes, its routes go, others come.
const QUIET: Duration = Duration::from_millis(50);
/// A router's routes change all the time; all tunnels look at them no more often than this.
const PAUSE: Duration = Duration::from_millis(500);

/// Word of changes, and when to heed it.
#[derive(Debug, Default)]
pub(super) struct Roam {
    changes: Option<Changes>,
    /// Changes that were told wait until then (monotonic).
    due: Option<Duration>,
    last: Duration,
}

impl Roam {
    /// Opens what needs to be open before the fence. Without it tunnels do not follow changes of our addresses.
    pub(super) fn open() -> Self {
        let changes = Changes::open();
        if let Err(error) = &changes {
            warn!(%error, "changes of this host's addresses are not seen, and tunnels do not follow them");
        }
        Self { changes: changes.ok(), due: Some(Duration::ZERO), last: Duration::ZERO }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(AsFd::as_fd)
    }

    /// When there is something to do (monotonic).
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Takes note of what was told.
    pub(super) fn note(&mut self, now: Duration) {
        if self.changes.as_ref().is_some_and(Changes::take) {
            let due = (now + QUIET).max(self.last + PAUSE);
            self.due.get_or_insert(due);
        }
    }
}

impl Loop {
    /// Lets the protocol look where it is, if something has changed.
    pub(super) fn look_where_we_are(&mut self) {
        let now = clock::now().monotonic;
        if self.roam.due.is_none_or(|due| due > now) {
            return;
        }
        (self.roam.due, self.roam.last) = (None, now);
        match self.roam.changes.as_ref().map(Changes::addresses) {
            Some(Ok(mut addresses)) => {
                let inside = self.effects.inside_addresses();
                addresses.retain(|address| !inside.contains(address));
                self.node.set_addresses(addresses, inside);
            }
            Some(Err(error)) => warn!(%error, "the kernel does not tell this host's addresses"),
            None => return,
        }
        match self.command(Command::AddressesChanged) {
            Ok(0) | Err(_) => {}
            Ok(tunnels) => info!(tunnels, "addresses or routes have changed"),
        }
    }
}
