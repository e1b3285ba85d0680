//! Return routability (RFC 4555 section 3.7): whether the peer receives at its new address, before it gets a whole
//! tunnel's traffic there.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::super::core::Cx;
use super::super::inbound::Verdict;
use super::super::message::{Message, notify};
use super::super::pending::Pending;
use super::super::tasks::Task;
use super::super::up::Up;
use crate::host::{DownReason, Output};
use crate::wire::{ExchangeType, NotifyType, Payload};

/// A request with a cookie that nobody knows who has not received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::machine) struct Check {
    pub(in crate::machine) cookie: Vec<u8>,
    /// [`super::Mobility::changes`] when it was sent: if there were more since, its repetitions have gone to several
    /// addresses, and its answer does not say which one has received it.
    pub(in crate::machine) changes: u32,
}

impl Check {
    /// With a new cookie.
    pub(super) fn new(cx: &mut Cx, changes: u32) -> Self {
        Self { cookie: cx.random::<32>().to_vec(), changes }
    }

    pub(super) fn payload(&self) -> Payload {
        notify(NotifyType::COOKIE2, self.cookie.clone())
    }

    pub(super) fn is_answered_by(&self, message: &Message) -> bool {
        let answer = message.notify(NotifyType::COOKIE2);
        answer.is_some_and(|answer| verify_slices_are_equal(&answer.data, &self.cookie).is_ok())
    }
}

impl Up {
    /// Asks for the cookie back.
    pub(in crate::machine) fn ask_routability(&mut self, cx: &mut Cx) {
        let Some(mobility) = &self.mobility else { return };
        let check = Check::new(cx, mobility.changes);
        let payload = check.payload();
        if !self.ask(cx, ExchangeType::INFORMATIONAL, &[payload], Pending::Routability(check)) {
            self.tasks.add(Task::CheckRoutability);
        }
    }

    /// The answer. If it has another cookie, somebody answers who has not received it: the IKE SA is closed.
    pub(in crate::machine) fn on_routability(
        &mut self,
        cx: &mut Cx,
        check: &Check,
        message: &Message,
    ) -> Verdict {
        let Some(mobility) = &self.mobility else { return Verdict::Stays };
        if !check.is_answered_by(message) {
            return self.on_wrong_cookie(cx);
        }
        if check.changes == mobility.changes {
            self.settle_here(cx);
        }
        Verdict::Stays
    }

    pub(super) fn on_wrong_cookie(&mut self, cx: &mut Cx) -> Verdict {
        let problem = format!(
            "peer {} answers for an address at which it does not receive; the tunnel ends",
            self.head.peer()
        );
        self.head.failed(cx, problem);
        cx.core.counters.mobike_unproven += 1;
        Verdict::Over(DownReason::Failed)
    }

    /// The present path leads to the peer: its Child SAs may use it.
    pub(super) fn settle_here(&mut self, cx: &mut Cx) {
        self.confirm();
        if self.head.roaming.held.take().is_some() {
            self.place_children(cx);
        }
    }

    pub(super) fn confirm(&mut self) {
        if let Some(mobility) = &mut self.mobility {
            mobility.confirmed = mobility.changes;
            mobility.allowance = None;
        }
    }

    /// What is still to be asked about the present path waits, or is outstanding; also if it was outstanding on an IKE SA
    /// that is gone.
    pub(in crate::machine) fn ask_about_path(&mut self) {
        let Some(mobility) = self.mobility.as_ref().filter(|m| m.confirmed != m.changes) else { return };
        let is_it = |pending: &Pending| match pending {
            Pending::Routability(check) => !mobility.leads && check.changes == mobility.changes,
            Pending::Update(update) => update.moves && update.check.changes == mobility.changes,
            _ => false,
        };
        let task = if mobility.leads { Task::UpdateAddresses } else { Task::CheckRoutability };
        let is_asked = self.sas.iter().flat_map(|sa| &sa.pending).any(|(_, pending)| is_it(pending));
        if !is_asked {
            self.tasks.add_first(task);
        }
    }

    /// Has the Child SAs in tunnel mode go where [`super::super::head::Head::ends`] says.
    pub(super) fn place_children(&mut self, cx: &mut Cx) {
        let children = self.children.iter().filter(|child| child.mode == crate::configuration::Mode::Tunnel);
        let (inbound, outbound) = children.map(|child| (child.inbound_spi, child.reqid)).unzip();
        cx.install(Output::MovePeer { inbound, outbound, ends: self.head.ends() });
        cx.store();
    }
}
