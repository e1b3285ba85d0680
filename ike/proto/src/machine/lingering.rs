//! An IKE SA that is over, kept for a while to repeat its last answer (RFC 7296 section 2.1): without it a peer that
//! has not got the answer would have to give up by itself.

use std::time::Duration;

use super::core::{Cx, InitKey};
use super::head::Head;
use super::ike_sa::IkeSa;
use super::tunnel::Tunnel;
use crate::host::Path;
use crate::wire::Datagram;

/// As long as a peer with usual timers repeats a request at short intervals.
pub(super) const LINGER: Duration = Duration::from_secs(30);

/// An IKE SA that is over.
pub(super) struct Lingering {
    pub(super) head: Head,
    pub(super) sa: IkeSa,
    pub(super) until: Duration,
    /// The request that began it, if its peer was never authenticated: it counts as half-open still.
    pub(super) half_open: Option<(InitKey, bool)>,
}

impl Lingering {
    pub(super) fn begin(cx: &Cx, head: Head, sa: IkeSa) -> Tunnel {
        Tunnel::Lingering(Box::new(Self { head, sa, until: cx.now.monotonic + LINGER, half_open: None }))
    }

    /// The peer has failed to authenticate. Failing must not be a way around the limits of half-open IKE SAs.
    pub(super) fn refused(cx: &Cx, head: Head, sa: IkeSa, half_open: (InitKey, bool)) -> Tunnel {
        let (until, half_open) = (cx.now.monotonic + LINGER, Some(half_open));
        Tunnel::Lingering(Box::new(Self { head, sa, until, half_open }))
    }

    /// Repeats answers; whatever is new is ignored.
    pub(super) fn on_sealed(self: Box<Self>, cx: &mut Cx, path: Path, datagram: &Datagram) -> Tunnel {
        self.sa.answer_again(cx, path, datagram);
        Tunnel::Lingering(self)
    }
}
