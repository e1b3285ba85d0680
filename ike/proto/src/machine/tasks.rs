//! What a tunnel has to ask of its peer, one thing after the other (RFC 7296 sections 2.3 and 2.25).

use std::time::Duration;

use super::auth_sent::window_size;
use super::core::Cx;
use super::crash_detection;
use super::head::Wanted;
use super::ike_sa::Fate;
use super::pending::Pending;
use super::up::Up;
use crate::wire::{Delete, ExchangeType, GatewayIdentity, Payload, ProtocolId};

/// How long to wait when the host has no IV.
const NO_IV: Duration = Duration::from_millis(100);
/// Things that may wait; more are refused.
const MAX_TASKS: usize = 64;
/// The first pause after TEMPORARY_FAILURE; each is twice the one before (RFC 7296 section 2.25).
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Something to ask of the peer.
#[derive(Debug, Clone)]
pub(super) enum Task {
    /// A new pair of Child SAs.
    NewChild(Wanted),
    /// A pair in the place of the one with this SPI of ours.
    RekeyChild(u32),
    /// An IKE SA in the place of the present one.
    RekeyIke,
    /// The peer is to forget a pair that was agreed wrongly, by the SPI that we gave it.
    DeleteUnwanted(u32),
    /// How many requests we take at once.
    AnnounceWindow,
    /// Whether it lives.
    Liveness,
    /// The peer is to go to another gateway.
    Redirect(GatewayIdentity),
    /// Whether it receives where it says that it is.
    CheckRoutability,
    /// That our SAs have moved.
    UpdateAddresses,
    /// At which further addresses we are.
    AnnounceAddresses,
    /// That it skips sequence numbers.
    SynchronizeCounters,
    /// A ticket, to come back by.
    RequestTicket,
}

impl Task {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NewChild(a), Self::NewChild(b)) => a.child.name == b.child.name,
            (Self::RekeyChild(a), Self::RekeyChild(b))
            | (Self::DeleteUnwanted(a), Self::DeleteUnwanted(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// A task, and when it may be begun.
#[derive(Debug, Clone)]
struct Waiting {
    task: Task,
    not_before: Duration,
}

/// What waits, in its order.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks {
    waiting: Vec<Waiting>,
    /// TEMPORARY_FAILUREs in a row.
    failures: u32,
    /// Nothing can be sealed before.
    retry_at: Option<Duration>,
    /// Nothing is begun before, because many tunnels want to ask at once.
    quiet_until: Duration,
}

impl Tasks {
    /// Adds a task, unless it waits already; whether it was new and there was room.
    pub(super) fn add(&mut self, task: Task) -> bool {
        self.add_after(task, Duration::ZERO)
    }

    /// Adds a task before all others, unless it waits already.
    pub(super) fn add_first(&mut self, task: Task) {
        if self.add(task)
            && let Some(waiting) = self.waiting.pop()
        {
            self.waiting.insert(0, waiting);
        }
    }

    fn add_after(&mut self, task: Task, not_before: Duration) -> bool {
        let is_new = !self.waiting.iter().any(|waiting| waiting.task.is_same(&task));
        let has_room = self.waiting.len() < MAX_TASKS;
        if is_new && has_room {
            self.waiting.push(Waiting { task, not_before });
        }
        is_new && has_room
    }

    pub(super) fn remove(&mut self, task: &Task) {
        self.waiting.retain(|waiting| !waiting.task.is_same(task));
    }

    /// Whether it waits.
    pub(super) fn has(&self, task: &Task) -> bool {
        self.waiting.iter().any(|waiting| waiting.task.is_same(task))
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// What waits, in its order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.waiting.iter().map(|waiting| &waiting.task)
    }

    /// They are looked at again at once, but not before the present handler has finished.
    pub(super) fn soon(&mut self, now: Duration) {
        self.retry_at = Some(now);
    }

    /// None is begun before that time.
    pub(super) fn wait_until(&mut self, at: Duration) {
        (self.quiet_until, self.retry_at) = (at, Some(at));
    }

    /// An exchange has succeeded.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        let later = self.waiting.iter().map(|waiting| waiting.not_before).filter(|at| *at > now);
        let quiet = Some(self.quiet_until).filter(|at| *at > now);
        later.chain(self.retry_at).chain(quiet).min()
    }
}

impl Up {
    /// Sends requests for as long as the window is open and there is something to ask.
    pub(super) fn pump(&mut self, cx: &mut Cx) {
        self.tasks.retry_at = None;
        if self.is_frozen || self.tasks.quiet_until > cx.now.monotonic {
            return;
        }
        self.delete_doomed(cx);
        self.ask_about_path();
        while self.is_sendable(cx) && self.run_one(cx) {}
    }

    /// The peer cannot do it now (RFC 7296 section 2.25): again after a pause, of which a part is by chance, so that
    /// two ends that are in each other's way get out of it.
    pub(super) fn retry(&mut self, cx: &mut Cx, task: Task) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.tasks.failures.min(5)).min(LONGEST_RETRY);
        let pause = pause / 2 + Duration::from_millis(cx.random_below(pause.as_millis() as u64));
        self.tasks.failures = self.tasks.failures.saturating_add(1);
        self.tasks.add_after(task, cx.now.monotonic + pause);
    }

    /// Whether a task may be begun: the current IKE SA lives, its window is open, and both ends agree about Message IDs.
    fn is_sendable(&mut self, cx: &mut Cx) -> bool {
        let sa = self.current();
        let is_closed = sa.window.requests.sendable().is_err() || sa.synchronization.ongoing.is_some();
        if sa.fate != Fate::Lives || is_closed || self.tasks.retry_at.is_some() {
            return false;
        }
        let can_seal = self.tasks.waiting.is_empty() || self.sas[0].can_seal(cx);
        if !can_seal {
            self.tasks.retry_at = Some(cx.now.monotonic + NO_IV);
        }
        can_seal
    }

    /// Begins the first task that may be begun.
    fn run_one(&mut self, cx: &mut Cx) -> bool {
        let now = cx.now.monotonic;
        let ready = self.tasks.waiting.iter().position(|waiting| waiting.not_before <= now);
        match ready.filter(|at| self.may_begin(&self.tasks.waiting[*at].task)) {
            Some(at) => {
                let Waiting { task, .. } = self.tasks.waiting.remove(at);
                self.run(cx, task);
                true
            }
            None => false,
        }
    }

    /// The IKE SA is not rekeyed while Child SAs are made, rekeyed or deleted, nor the other way round (RFC 7296
    /// section 2.25.2).
    fn may_begin(&self, task: &Task) -> bool {
        let mut pending = self.current().pending.iter().map(|(_, pending)| pending);
        match task {
            Task::RekeyIke => {
                !pending.any(|pending| pending.is_about_children() || pending.is_ike_rekeying())
            }
            Task::NewChild(_) | Task::RekeyChild(_) | Task::DeleteUnwanted(_) => {
                !pending.any(Pending::is_ike_rekeying)
            }
            Task::AnnounceWindow
            | Task::Liveness
            | Task::Redirect(_)
            | Task::CheckRoutability
            | Task::UpdateAddresses
            | Task::AnnounceAddresses
            | Task::SynchronizeCounters
            | Task::RequestTicket => true,
        }
    }

    fn run(&mut self, cx: &mut Cx, task: Task) {
        match task {
            Task::NewChild(wanted) => self.ask_new_child(cx, wanted),
            Task::RekeyChild(spi) => self.ask_child_rekey(cx, spi),
            Task::RekeyIke => self.ask_ike_rekey(cx),
            Task::DeleteUnwanted(spi) => {
                let delete = Payload::Delete(Delete { protocol: ProtocolId::ESP, spis: vec![spi] });
                self.ask(cx, ExchangeType::INFORMATIONAL, &[delete], Pending::DeleteChildren(vec![spi]));
            }
            Task::AnnounceWindow => self.announce_window(cx),
            Task::Redirect(gateway) => self.send_redirect(cx, &gateway),
            Task::Liveness if self.current().pending.is_empty() => {
                let payloads = self.liveness_payloads(cx);
                self.ask(cx, ExchangeType::INFORMATIONAL, &payloads, Pending::Liveness);
            }
            Task::Liveness => {}
            Task::CheckRoutability => self.ask_routability(cx),
            Task::UpdateAddresses => self.ask_update(cx),
            Task::AnnounceAddresses => self.ask_list(cx),
            Task::SynchronizeCounters => self.ask_counters(cx),
            Task::RequestTicket => self.ask_ticket(cx),
        }
    }

    /// Windows begin anew with an IKE SA (RFC 7296 section 2.8).
    fn announce_window(&mut self, cx: &mut Cx) {
        let window = self.head.connection.window;
        self.sas[0].window.responses.set_limit(window);
        let mut payloads: Vec<Payload> = window_size(window).into_iter().collect();
        // SPIs are others, and so is the token (RFC 6290 section 4.3).
        let sa = &self.sas[0];
        payloads.extend(crash_detection::token(cx, sa.role, (sa.initiator_spi, sa.responder_spi)));
        if !payloads.is_empty() {
            self.ask(cx, ExchangeType::INFORMATIONAL, &payloads, Pending::Liveness);
        }
    }

    /// Sends a request on the current IKE SA.
    pub(super) fn ask(
        &mut self,
        cx: &mut Cx,
        exchange: ExchangeType,
        payloads: &[Payload],
        pending: Pending,
    ) -> bool {
        self.ask_on(cx, 0, exchange, payloads, pending)
    }

    /// Sends a request on one of its IKE SAs.
    pub(super) fn ask_on(
        &mut self,
        cx: &mut Cx,
        at: usize,
        exchange: ExchangeType,
        payloads: &[Payload],
        pending: Pending,
    ) -> bool {
        let Self { head, sas, .. } = self;
        let is_sent = sas[at].request(cx, (head.path, &head.connection), (exchange, payloads), pending);
        let is_open = sas[at].window.requests.sendable().is_ok();
        if !is_sent && is_open {
            self.tasks.retry_at = Some(cx.now.monotonic + NO_IV);
        }
        is_sent
    }
}
