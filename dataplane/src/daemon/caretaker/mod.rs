//! What the data plane's main thread does for SAs beside their packets: it acts on what workers saw, sends NAT
//! keep-alives, notices SAs whose time is over, and tells whoever listens.
//!
//! Everything here is bounded per call, so that a flood of events or a million SAs cost the main thread a share of
//! its time and never all of it. Time comes from outside, so that tests make their own.

mod alarms;
mod path_mtu;
mod peers;
mod rounds;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_sad::{Direction, Sa, SaHandle, SlotState, Table};
use tracing::{info, warn};

use crate::control::{FlowText, Happening, Listeners, SaText};
use crate::events::{Event, Events, RateLimit, SaName};
use crate::packet::transport::Flow;
use crate::spd::{Action, Spd};
use crate::worker::Rings;

pub(super) use alarms::DropAlarms;
use peers::Moves;
use rounds::Rounds;

/// Events of workers that one call deals with at most.
const EVENTS: usize = 256;
/// Of these, changes of the SA table (each takes its lock), and as many searches for an SA by its peer's SPI (each
/// reads four octets per slot). Peers and routers tell again what was not heeded.
const COSTLY_EVENTS: usize = 16;

/// What the world is like at a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    /// Monotonic ns, as in leases.
    pub(super) now: u64,
    /// Unix time in seconds, as in lifetimes.
    pub(super) unix_seconds: u64,
    /// The policies in force.
    pub(super) spd: &'a Spd,
    /// MTU of the outer interface.
    pub(super) outer_mtu: u16,
    /// Seconds for which a learned path MTU is believed.
    pub(super) learned_mtu_seconds: u64,
    /// This host's own addresses: no peer is there.
    pub(super) own_addresses: &'a [IpAddr],
}

/// What the caretaker did, for `dpctl counters`.
#[derive(Debug, Default)]
pub(super) struct Counts {
    moved: AtomicU64,
    moves_refused: AtomicU64,
    path_mtus: AtomicU64,
    path_mtus_refused: AtomicU64,
    keep_alives: AtomicU64,
    keep_alives_late: AtomicU64,
    unheeded: AtomicU64,
    unheard: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// Name, value and meaning of each.
    pub(super) fn read(&self) -> [(&'static str, u64, &'static str); 8] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("peers-moved", value(&self.moved), "Peers behind a NAT that were followed to another place."),
            ("moves-refused", value(&self.moves_refused), "Moves that came too often or led nowhere."),
            (
                "path-mtus-learned",
                value(&self.path_mtus),
                "Path MTUs that routers told and that were believed.",
            ),
            (
                "path-mtus-refused",
                value(&self.path_mtus_refused),
                "ICMP errors about no packet of ours, or too small.",
            ),
            (
                "keep-alives",
                value(&self.keep_alives),
                "NAT keep-alives that workers were asked for (RFC 3948).",
            ),
            (
                "keep-alives-late",
                value(&self.keep_alives_late),
                "Those that found no room and were asked for later.",
            ),
            (
                "events-unheeded",
                value(&self.unheeded),
                "Moves and path MTUs beyond what is acted on at once.",
            ),
            (
                "floor-rekeys",
                value(&self.unheard),
                "SAs that want a rekey because their peer was not heard after a takeover.",
            ),
        ]
    }
}

/// The caretaker of one data plane.
#[derive(Debug)]
pub(super) struct Caretaker {
    table: Arc<Table>,
    events: Arc<Events>,
    rings: Arc<Rings>,
    listeners: Arc<Listeners>,
    counts: Arc<Counts>,
    rounds: Rounds,
    moves: Moves,
    violation_log: RateLimit,
    violations_not_logged: u64,
}

impl Caretaker {
    pub(super) fn new(
        table: Arc<Table>,
        events: Arc<Events>,
        rings: Arc<Rings>,
        listeners: Arc<Listeners>,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            table,
            events,
            rings,
            listeners,
            counts,
            rounds: Rounds::default(),
            moves: Moves::default(),
            // RFC 4301 section 5.2 wants violations logged; a flood of them must not fill the disk.
            violation_log: RateLimit::new(1, 10),
            violations_not_logged: 0,
        }
    }

    /// What there is to do at this moment: many times a second.
    pub(super) fn tend(&mut self, present: &Present<'_>) {
        let (mut moves, mut path_mtus) = (0, 0);
        for _ in 0..EVENTS {
            let Some(event) = self.events.next() else { break };
            // Apart, so that forged ICMP errors do not keep peers from being followed.
            let (done, most) = match event {
                Event::PeerMoved { .. } => (&mut moves, COSTLY_EVENTS),
                Event::TooBig { .. } => (&mut path_mtus, COSTLY_EVENTS.min(self.rounds.searches())),
                _ => (&mut 0, usize::MAX),
            };
            *done += 1;
            if *done > most {
                count(&self.counts.unheeded);
            } else if self.heed(&event, present).is_break() {
                // Somebody holds the table's lock: to wait for it once is enough.
                moves = COSTLY_EVENTS;
            }
        }
        self.go_round(present);
    }

    /// Breaks where it waited in vain for the SA table.
    fn heed(&mut self, event: &Event, present: &Present<'_>) -> ControlFlow<()> {
        match *event {
            Event::SoftLimit(name) => self.limit_reached(name, rounds::SOFT),
            Event::HardLimit(name) => self.limit_reached(name, rounds::HARD),
            Event::Unheard(name) => self.limit_reached(name, rounds::UNHEARD),
            Event::Acquire { reqid, flow } => self.acquire(reqid, &flow, present.spd),
            Event::PeerMoved { spi, address, port } => {
                return self.peer_moved(spi, address, port, present);
            }
            Event::TooBig { spi, sequence, destination, mtu } => {
                self.too_big((spi, destination), sequence, mtu, present);
            }
            Event::SelectorViolation { spi, flow } => self.selector_violation(spi, &flow, present.now),
        }
        ControlFlow::Continue(())
    }

    /// A worker says so; the rounds may have noticed it before.
    fn limit_reached(&mut self, name: SaName, limit: u8) {
        let key = match name.direction {
            Direction::Inbound => name.spi,
            Direction::Outbound => name.reqid,
        };
        let Some(handle) = self.table.lookup(name.direction, key) else { return };
        let Ok(sa) = self.table.read_config(handle) else { return };
        // Else its successor is installed already.
        if sa.spi == name.spi && self.rounds.is_news(handle, &sa, limit) {
            self.tell_limit(&sa, limit);
        }
    }

    fn tell_limit(&self, sa: &Sa, limit: u8) {
        let text = describe(sa);
        self.listeners.tell(match limit {
            rounds::SOFT => Happening::SoftLimit(text),
            rounds::UNHEARD => {
                count(&self.counts.unheard);
                info!(
                    tunnel = %sa.name, spi = sa.spi,
                    "the peer is not heard after a takeover, and no host behind it answers an echo request; a rekey helps"
                );
                Happening::SoftLimit(text)
            }
            _ => {
                warn!(tunnel = %sa.name, spi = sa.spi, "a hard limit of the SA is reached; it is used no more until a rekey");
                Happening::HardLimit(text)
            }
        });
    }

    fn acquire(&self, reqid: u32, flow: &Flow, spd: &Spd) {
        let policy = spd.outbound(flow).filter(|policy| policy.action == Action::Protect { reqid });
        // Else the policy is gone, and nobody wants its SA.
        let Some(policy) = policy else { return };
        let (policy, flow) = (policy.name.clone(), FlowText::from(flow));
        self.listeners.tell(Happening::Acquire { policy, reqid, flow });
    }

    /// The audit record of RFC 4301 section 5.2: the SPI, and the selectors of the packet.
    fn selector_violation(&mut self, spi: u32, flow: &Flow, now: u64) {
        let Some(sa) = self.inbound(spi) else { return };
        if self.violation_log.admit(now) {
            let more = std::mem::take(&mut self.violations_not_logged);
            warn!(
                tunnel = %sa.name, spi = format_args!("{spi:#010x}"), packet = ?flow, more,
                "a packet came out of the tunnel that its selectors do not allow; compare both ends' selectors"
            );
        } else {
            self.violations_not_logged += 1;
        }
        self.listeners.tell(Happening::SelectorViolation { sa: describe(&sa), flow: flow.into() });
    }

    /// Whether this node uses the SA: it is not being moved, and its segment is ours (I4).
    fn is_ours(&self, handle: SaHandle, segment: u8, now: u64) -> bool {
        let is_live = self.table.slot(handle).is_some_and(|slot| slot.state() == SlotState::Live);
        is_live && self.table.lease(segment) > now
    }

    fn inbound(&self, spi: u32) -> Option<Sa> {
        self.config(self.table.lookup(Direction::Inbound, spi)?)
    }

    fn config(&self, handle: SaHandle) -> Option<Sa> {
        self.table.read_config(handle).ok()
    }
}

fn describe(sa: &Sa) -> SaText {
    SaText::new(sa.name.as_str(), sa.direction, sa.spi, sa.reqid)
}
