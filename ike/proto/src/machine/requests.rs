//! Requests that are sent again.

use super::core::Cx;
use super::ike_sa::IkeSa;
use super::window::Due;
use crate::host::Path;

/// What became of requests whose answers are late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// They were sent again.
    Again,
    /// They have been sent often enough: the peer is dead (RFC 7296 section 2.4).
    Enough,
}

impl IkeSa {
    /// Sends again what is due: the very octets (RFC 7296 section 2.1).
    pub(super) fn repeat(&mut self, cx: &mut Cx, path: Path) -> Sent {
        let configuration = std::sync::Arc::clone(&cx.core.configuration);
        while let Some(due) = self.window.requests.due(cx.now.monotonic, &configuration.retransmission) {
            match due {
                Due::Repeat { datagrams, .. } => {
                    cx.core.counters.retransmissions += 1;
                    cx.transmit(path, datagrams);
                }
                Due::GiveUp { .. } => return Sent::Enough,
            }
        }
        Sent::Again
    }
}
