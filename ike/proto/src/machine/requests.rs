//! Requests that are sent again.

use std::time::Duration;

use super::core::Cx;
use super::ike_sa::IkeSa;
use super::mobility::Ways;
use super::window::Due;
use crate::host::Path;

/// How long to wait when the host has no IV.
const NO_IV: Duration = Duration::from_millis(100);

/// What became of requests whose answers are late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// They were sent again.
    Again,
    /// They have been sent often enough: the peer is dead (RFC 7296 section 2.4).
    Enough,
}

/// What became of the only request of an IKE SA that does not stand yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Only {
    /// It could not be sealed, because there was no IV: it is to be sent now.
    Unsent,
    /// It was sent again, if it was due.
    Again,
    /// It has been sent often enough.
    Enough,
}

impl IkeSa {
    /// When the only request is to be sent again; soon if it could not be sealed.
    pub(super) fn only_due(&self, now: Duration) -> Duration {
        self.window.requests.next_due().unwrap_or(now + NO_IV)
    }

    /// Sends the only request again.
    pub(super) fn repeat_only(&mut self, cx: &mut Cx, path: Path) -> Only {
        match self.window.requests.next_due().map(|_| self.repeat(cx, &Ways::only(path))) {
            None => Only::Unsent,
            Some(Sent::Again) => Only::Again,
            Some(Sent::Enough) => Only::Enough,
        }
    }

    /// Sends again what is due: the very octets (RFC 7296 section 2.1).
    pub(super) fn repeat(&mut self, cx: &mut Cx, ways: &Ways) -> Sent {
        let configuration = std::sync::Arc::clone(&cx.core.configuration);
        while let Some(due) = self.window.requests.due(cx.now.monotonic, &configuration.retransmission) {
            match due {
                Due::Repeat { datagrams, repetition, .. } => {
                    cx.core.counters.retransmissions += 1;
                    cx.transmit(ways.path, datagrams);
                    for other in ways.others.iter().filter(|_| repetition >= ways.others_from) {
                        cx.transmit(*other, datagrams);
                    }
                }
                Due::GiveUp { .. } => return Sent::Enough,
            }
        }
        Sent::Again
    }
}
