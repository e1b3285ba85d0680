//! Requests that are sent again.

use super::core::Cx;
use super::ike_sa::IkeSa;
use super::mobility::Ways;
use super::window::Due;

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
