//! A tunnel of a segment that another node owns: its context at rest, and the names that it has taken. It has no timers,
//! says nothing and answers nothing.
//!
//! When its segment becomes this node's, it goes on where the context left it. Nothing is sent by that alone: whatever
//! it has to ask waits for a time of its own ([`super::pace`]), and what would be due in all tunnels at once is spread.

use std::time::Duration;

use super::Ike;
use super::claims::Claims;
use super::context::remove_orphans;
use super::core::{Cx, Id};
use super::head::Head;
use super::ownership::Share;
use super::pace::{ASKING, REKEYING};
use super::tunnel::Tunnel;
use super::up::{KEEP_ALIVE, Up};
use crate::host::{DownReason, Event, Host, Now};

/// What is to be renewed within so much time is renewed at some time in it, so that not all tunnels of a dead gateway
/// are rekeyed in the same second.
const SPREAD: Duration = Duration::from_mins(1);

/// A tunnel at rest.
pub(super) struct Dormant {
    pub(super) head: Head,
    pub(super) version: u64,
    pub(super) context: Box<[u8]>,
    pub(super) claims: Claims,
    /// The numbers of its policies.
    pub(super) policies: Vec<u32>,
}

impl Up {
    /// At rest, under its present context.
    fn rest(&self, cx: &mut Cx) -> Tunnel {
        let context = self.context(cx).into_boxed_slice();
        let tunnel = self.dormant(context);
        self.move_out(cx);
        cx.core.counters.dozed += 1;
        tunnel
    }

    /// A tunnel at rest with that context.
    pub(super) fn dormant(&self, context: Box<[u8]>) -> Tunnel {
        let connection = Some(self.head.connection.name.clone());
        let live = self.children.iter().filter(|child| child.is_live());
        let mut policies: Vec<u32> = live.map(|child| child.reqid).collect();
        policies.sort_unstable();
        policies.dedup();
        Tunnel::Dormant(Box::new(Dormant {
            head: self.head.clone(),
            version: self.version,
            context,
            claims: Claims { connection, ..self.claims() },
            policies,
        }))
    }

    /// Goes on with what another node has left.
    fn awake(&mut self, cx: &mut Cx, share: Share) {
        cx.core.counters.activated += 1;
        self.is_frozen = false;
        self.settle_in(cx);
        self.follow_again(cx);
        self.reconsider(cx);
        let packets = share.advanced.unwrap_or(0);
        let wants = if share.is_stale { self.is_behind(packets) } else { self.is_ahead(packets) };
        if wants {
            // Whoever takes over from us goes on with that.
            cx.store();
        }
        self.spread(cx);
        if self.has_to_ask() {
            let interval = if share.is_stale { REKEYING } else { ASKING };
            let slot = cx.core.pace.slot(cx.now.monotonic, interval);
            self.wait_until(slot);
        }
    }

    /// Both edges of its SAs were advanced: the peer skips as many sequence numbers, if it knows how. Message IDs are
    /// right, and what is outstanding is better asked again than anew: the peer may have done it.
    fn is_ahead(&mut self, packets: u64) -> bool {
        self.note_gap(packets);
        self.begin_counters()
    }

    /// The same, and the context may not know the latest exchanges.
    pub(super) fn wants_agreement(&mut self, packets: u64) -> bool {
        self.note_gap(packets);
        self.begin_synchronization(Duration::ZERO)
    }

    /// The same, and SAs may have used more numbers (I2), or accepted more (I3), than is known here: once both ends agree
    /// about Message IDs, they replace the keys.
    fn is_behind(&mut self, packets: u64) -> bool {
        let agrees = self.wants_agreement(packets);
        self.rekey_all() || agrees
    }

    fn note_gap(&mut self, packets: u64) {
        if self.can_synchronize_counters {
            self.children.iter_mut().for_each(|child| child.gap = child.gap.saturating_add(packets));
        }
    }

    fn has_to_ask(&self) -> bool {
        let is_asking = |sa: &super::ike_sa::IkeSa| {
            sa.window.requests.next_due().is_some() || sa.synchronization.ongoing.is_some()
        };
        self.sas.iter().any(is_asking) || self.tasks.iter().next().is_some() || self.is_ending()
    }

    /// Asks nothing before that time.
    pub(super) fn wait_until(&mut self, slot: Duration) {
        self.tasks.wait_until(slot);
        for sa in &mut self.sas {
            sa.window.requests.resume(slot);
            sa.synchronization.wait_until(slot);
        }
    }

    /// Spreads what would be due in all tunnels at once, or has become due while nobody acted for them. The peer was
    /// not silent meanwhile, we were.
    fn spread(&mut self, cx: &mut Cx) {
        let now = cx.now.monotonic;
        let mut by_chance =
            |time: Duration| now + Duration::from_millis(cx.random_below(time.as_millis() as u64));
        self.heard = by_chance(self.head.connection.dpd_delay);
        self.keep_alive_at = self.keep_alive_at.map(|_| by_chance(KEEP_ALIVE));
        let renewals = self.children.iter_mut().map(|child| (&mut child.rekey_at, &mut child.expires_at));
        let own = (&mut self.rekey_at, &mut self.expires_at);
        for (renewal, end) in renewals.chain([own]) {
            spread_renewal(now, renewal, end, &mut by_chance);
        }
        if let Some(session) = &mut self.session {
            session.spread(&mut by_chance);
        }
        let renewal = &mut self.resumption.renew_at;
        *renewal = renewal.map(|at| if at < now + SPREAD { by_chance(SPREAD) } else { at });
    }
}

/// What is to be renewed soon, at some time; and it does not end before that has had its time.
fn spread_renewal(
    now: Duration,
    renewal: &mut Option<Duration>,
    end: &mut Option<Duration>,
    by_chance: &mut impl FnMut(Duration) -> Duration,
) {
    if let Some(at) = renewal.as_mut().filter(|at| **at < now + SPREAD) {
        *at = by_chance(SPREAD);
        *end = end.map(|end| end.max(now + 2 * SPREAD));
    }
}

impl Ike {
    /// Goes on with a dormant tunnel.
    pub(super) fn activate(&mut self, now: Now, host: &mut dyn Host, id: Id) {
        let Some(Tunnel::Dormant(dormant)) = self.tunnels.get(&id).map(|slot| &slot.tunnel) else { return };
        let share = self.core.ownership.share(dormant.head.segment());
        match self.read_dormant(now, dormant) {
            Ok((up, orphans)) => self.handle(now, host, id, |_, cx| {
                let mut up = up;
                remove_orphans(cx, orphans);
                up.awake(cx, share);
                Some(Tunnel::Up(Box::new(up)))
            }),
            Err(error) => {
                let who = dormant.head.who();
                self.stateless(now, host, |cx| cx.failed(&who, format!("nobody can go on with it: {error}")));
            }
        }
        self.end_if_unconfigured(now, host, id);
    }

    /// The configuration may have changed while it was at rest.
    fn end_if_unconfigured(&mut self, now: Now, host: &mut dyn Host, id: Id) {
        let Some(Tunnel::Up(up)) = self.tunnels.get(&id).map(|slot| &slot.tunnel) else { return };
        if self.configured(&up.head.connection.name).is_none() {
            self.handle(now, host, id, |tunnel, cx| tunnel.terminate(cx, DownReason::Reconfigured, false));
        }
    }

    /// Another node acts for a tunnel from now on: it is kept at rest, or forgotten if its peer is not authenticated.
    /// Nobody is told.
    pub(super) fn doze(&mut self, now: Now, host: &mut dyn Host, id: Id) {
        self.handle(now, host, id, |mut tunnel, cx| {
            if let Tunnel::InitSent(state) = &mut tunnel {
                state.stop_solving(cx);
            }
            match tunnel {
                Tunnel::Up(up) => Some(up.rest(cx)),
                other if other.is_alive() => {
                    cx.event(Event::IkeDown { tunnel: other.head().name(), reason: DownReason::Moved });
                    None
                }
                _ => None,
            }
        });
    }
}
