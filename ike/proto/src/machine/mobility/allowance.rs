//! What a peer that is trusted to say where it is gets there before it has shown that it receives (RFC 4555 section 3.7):
//! little enough that it is no weapon against whoever is there.

use std::time::Duration;

use super::super::core::Cx;
use super::super::nat::Nat;
use super::super::up::Up;
use crate::configuration::{Mode, Routability};
use crate::host::Path;

/// Octets of inner packets that follow at once. What is sent between two looks may come on top.
const OCTETS: u64 = 4 << 20;
/// For how long at most.
const TIME: Duration = Duration::from_secs(2);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// What is left to be sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) struct Allowance {
    /// Where the peer was shown to receive, and the NATs there.
    pub(in crate::machine) before: (Path, Nat),
    /// What the Child SAs had sent.
    octets: u64,
    /// Until then (monotonic).
    end: Duration,
    /// When it is looked at.
    due: Duration,
}

impl Allowance {
    /// Of an earlier process: nobody knows how much of it is left.
    pub(in crate::machine) fn spent(before: (Path, Nat)) -> Self {
        Self { before, octets: 0, end: Duration::ZERO, due: Duration::ZERO }
    }

    pub(in crate::machine) fn due(&self) -> Duration {
        self.due
    }
}

impl Up {
    /// The traffic follows the peer, or waits until it has shown that it receives there. There is one allowance for
    /// however many places until one is proven.
    pub(super) fn hold_or_allow(&mut self, cx: &mut Cx, before: (Path, Nat)) {
        let trusts = self.head.connection.mobike.is_some_and(|mobike| mobike.check == Routability::After);
        if !trusts || self.head.roaming.held.is_some() {
            self.head.roaming.held.get_or_insert(before);
            return;
        }
        let (octets, now) = (self.octets_sent(cx), cx.now.monotonic);
        if let Some(mobility) = &mut self.mobility {
            let (end, due) = (now.saturating_add(TIME), now.saturating_add(PAUSE));
            mobility.allowance.get_or_insert(Allowance { before, octets, end, due });
        }
    }

    fn octets_sent(&self, cx: &Cx) -> u64 {
        let children = self.children.iter().filter(|child| child.mode == Mode::Tunnel);
        let sent = children.map(|child| cx.host.outbound_volume(child.reqid, child.outbound_spi).octets);
        sent.fold(0, u64::saturating_add)
    }

    /// What was to be sent at most is sent: from now on the traffic waits.
    pub(in crate::machine) fn check_allowance(&mut self, cx: &mut Cx) {
        let now = cx.now.monotonic;
        let allowance = self.mobility.as_ref().and_then(|mobility| mobility.allowance);
        let Some(allowance) = allowance.filter(|allowance| allowance.due <= now) else { return };
        let is_spent = allowance.end <= now || self.octets_sent(cx).saturating_sub(allowance.octets) > OCTETS;
        if let Some(mobility) = &mut self.mobility {
            let later = Allowance { due: now.saturating_add(PAUSE), ..allowance };
            mobility.allowance = Some(later).filter(|_| !is_spent);
        }
        if is_spent {
            cx.core.counters.mobike_held += 1;
            self.head.roaming.held.get_or_insert(allowance.before);
            self.place_children(cx);
        }
    }
}
