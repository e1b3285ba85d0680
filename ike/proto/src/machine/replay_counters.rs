//! Sequence numbers after a failover (RFC 6311 section 5.2). A gateway that goes on with the SAs of an older copy takes
//! nothing up to an edge that is ahead of where the peer may be, because it may have been taken before. It asks the peer
//! to skip as many numbers on all Child SAs as the edge is ahead. Where the peer cannot, they are rekeyed: new ones
//! begin anew at both ends.

use super::Ike;
use super::child_sa::{ChildSa, Outbound};
use super::core::Cx;
use super::message::{Message, flag, notify};
use super::pending::Pending;
use super::tasks::Task;
use super::up::Up;
use crate::configuration::Connection;
use crate::host::{CommandError, Host, Now, Output};
use crate::wire::{ExchangeType, NotifyType, Payload, ReplayCounterSync};

/// What IKE_AUTH says of it (RFC 6311 section 4).
pub(super) fn announcement(connection: &Connection) -> Option<Payload> {
    let is_on = connection.moving.replay_counter_sync;
    is_on.then(|| flag(NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED))
}

/// Whether both sides have said so.
pub(super) fn is_agreed(connection: &Connection, message: &Message) -> bool {
    connection.moving.replay_counter_sync && message.has(NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED)
}

impl Up {
    /// Skips what the peer asks for, on all Child SAs, if it asks. It is done before the answer leaves: a peer that is
    /// not answered asks again, and numbers that are skipped twice are not used twice.
    pub(super) fn skip_as_asked(&mut self, cx: &mut Cx, message: &Message) {
        let asked = message.notify(NotifyType::IPSEC_REPLAY_COUNTER_SYNC);
        let asked = asked.filter(|_| self.can_synchronize_counters);
        let Some(asked) = asked.and_then(|notify| ReplayCounterSync::parse(&notify.data).ok()) else {
            return;
        };
        // What waits to be sent by begins at 1, and the peer expects more there as well.
        for at in 0..self.children.len() {
            if matches!(self.children[at].outbound, Outbound::Delayed(..)) {
                self.on_outbound_due(cx, at);
            }
        }
        let mut reqids: Vec<u32> =
            self.children.iter().filter(|child| child.is_installed()).map(|child| child.reqid).collect();
        reqids.sort_unstable();
        reqids.dedup();
        cx.core.counters.counter_synchronizations += 1;
        if !reqids.is_empty() && asked.numbers() > 0 {
            cx.install(Output::SkipSequence { reqids, numbers: asked.numbers() });
        }
    }

    /// An IKE SA is on its way out, and with it perhaps a request that nobody has heard.
    pub(super) fn ask_counters_again(&mut self) {
        let mut pending = self.sas.iter().flat_map(|sa| &sa.pending);
        if pending.any(|(_, pending)| matches!(pending, Pending::Counters)) {
            self.tasks.add(Task::SynchronizeCounters);
        }
    }

    /// By how much the edge of the Child SA that is furthest ahead is.
    fn gap(&self) -> u64 {
        self.children.iter().map(|child| child.gap).max().unwrap_or(0)
    }

    /// What the peer is asked to skip; `None` if it need not, cannot, or if that cannot be said: either all Child SAs
    /// have extended sequence numbers or none has (RFC 6311 section 6.4).
    pub(super) fn wanted_skip(&self) -> Option<ReplayCounterSync> {
        let (gap, is_extended) = (self.gap(), self.children.first()?.suite.extended_sequence);
        let is_uniform = self.children.iter().all(|child| child.suite.extended_sequence == is_extended);
        if gap == 0 || !is_uniform || !self.can_synchronize_counters {
            return None;
        }
        if is_extended {
            Some(ReplayCounterSync::Extended(gap))
        } else {
            u32::try_from(gap).ok().map(ReplayCounterSync::Short)
        }
    }

    /// The peer has agreed to go on. What it was not asked to skip is begun anew.
    pub(super) fn on_counters(&mut self, was_asked: bool) {
        // It has grown since, by another takeover. Numbers that are skipped twice do no harm.
        if was_asked && self.tasks.has(&Task::SynchronizeCounters) {
            return;
        }
        for at in 0..self.children.len() {
            let child = &mut self.children[at];
            let (gap, spi) =
                (if was_asked { std::mem::take(&mut child.gap) } else { child.gap }, child.inbound_spi);
            if gap > 0 && !was_asked {
                self.rekey_child(spi);
            }
        }
    }

    /// Asks for nothing else (RFC 6311 section 5, case 2): Message IDs are right.
    pub(super) fn ask_counters(&mut self, cx: &mut Cx) {
        match self.wanted_skip() {
            Some(skip) => {
                let payloads = [payload(skip)];
                self.ask(cx, ExchangeType::INFORMATIONAL, &payloads, Pending::Counters);
            }
            None => self.on_counters(false),
        }
    }

    /// Both edges of its SAs were advanced when they were put into the table.
    fn note_advance(&mut self, cx: &mut Cx, packets: u64) {
        for child in &mut self.children {
            child.gap = child.gap.saturating_add(packets);
        }
        cx.store();
        self.synchronize(cx);
    }

    /// Whether it is to be asked for by itself.
    pub(super) fn begin_counters(&mut self) -> bool {
        let is_wanted = self.can_synchronize_counters && self.gap() > 0;
        is_wanted && self.tasks.add(Task::SynchronizeCounters)
    }
}

/// What asks for it.
pub(super) fn payload(skip: ReplayCounterSync) -> Payload {
    notify(NotifyType::IPSEC_REPLAY_COUNTER_SYNC, skip.emit())
}

impl ChildSa {
    /// Whether an outbound SA of its reqid is in the table.
    fn is_installed(&self) -> bool {
        matches!(self.outbound, Outbound::Installed)
    }
}

impl Ike {
    /// A tunnel was restored from a copy, and both edges of its SAs advanced: both ends agree about what comes next, if
    /// they know how.
    pub(super) fn advanced(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        name: &str,
        packets: u64,
    ) -> Result<usize, CommandError> {
        self.with_named(now, host, name, |mut up, cx| {
            if packets > 0 && !up.is_ending() {
                up.note_advance(cx, packets);
            }
            Some(up.proceed(cx))
        })
    }
}
