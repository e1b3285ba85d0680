//! What is due in a tunnel that stands, and the names that it is found by.

use std::time::Duration;

use super::child_sa::{OUTBOUND_DELAY, Outbound, Stage};
use super::claims::Claims;
use super::core::Cx;
use super::ike_sa::{Fate, IkeSa};
use super::mobility::Allowance;
use super::pending::Pending;
use super::requests::Sent;
use super::session::Session;
use super::tasks::Task;
use super::tunnel::Tunnel;
use super::unfinished::Unfinished;
use super::up::{KEEP_ALIVE, Up};
use crate::host::{DownReason, Output};

impl Up {
    /// When something is due (monotonic).
    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        if self.is_frozen {
            return None;
        }
        let requests = self.sas.iter().filter_map(|sa| sa.window.requests.next_due());
        let fates = self.sas.iter().filter_map(|sa| sa.fate.due());
        let children = self.children.iter().filter_map(super::child_sa::ChildSa::due);
        let remnants = self.remnants.iter().map(|(at, _)| *at);
        let own = [
            self.rekey_at,
            self.expires_at,
            self.keep_alive_at,
            self.liveness_at(),
            self.tasks.due(now),
            self.redirection.leave_at,
            self.resumption.renew_at,
            self.sas[0].synchronization.due(),
            self.session.as_ref().and_then(Session::due),
            self.mobility.as_ref().and_then(|mobility| mobility.allowance.as_ref()).map(Allowance::due),
        ];
        let unfinished = self.unfinished.iter().map(Unfinished::until);
        requests
            .chain(unfinished)
            .chain(fates)
            .chain(children)
            .chain(remnants)
            .chain(own.into_iter().flatten())
            .min()
    }

    /// When silence is long enough to ask (RFC 7296 section 2.4). While something is outstanding its repetitions ask.
    fn liveness_at(&self) -> Option<Duration> {
        let delay = self.head.connection.dpd_delay;
        let is_quiet = self.sas[0].fate == Fate::Lives
            && self.sas[0].pending.is_empty()
            && self.sas[0].synchronization.ongoing.is_none()
            && !self.tasks.has(&Task::Liveness);
        (is_quiet && !delay.is_zero()).then(|| self.heard.saturating_add(delay))
    }

    pub(super) fn on_timeout(mut self: Box<Self>, cx: &mut Cx) -> Option<Tunnel> {
        let now = cx.now.monotonic;
        if self.is_frozen {
            return Some(Tunnel::Up(self));
        }
        if self.repeat_requests(cx) == Sent::Enough || self.repeat_synchronization(cx) == Sent::Enough {
            cx.core.counters.unreachable += 1;
            let reason = self.ending.unwrap_or(DownReason::Unreachable);
            return self.end(cx, reason, None);
        }
        if self.expires_at.take_if(|at| *at <= now).is_some() && self.ending.is_none() {
            self.doom(DownReason::Expired);
            cx.store();
        }
        if self.redirection.leave_at.take_if(|at| *at <= now).is_some() && self.ending.is_none() {
            self.doom(DownReason::Redirected);
            cx.store();
        }
        self.on_session_due(cx);
        if self.liveness_at().is_some_and(|at| at <= now) {
            self.tasks.add(Task::Liveness);
        }
        self.on_ticket_due(cx);
        self.check_allowance(cx);
        self.on_children_due(cx);
        self.on_sas_due(cx);
        self.forget_unfinished(now);
        self.clear_remnants(cx);
        self.keep_alive(cx);
        // What is sent anew is stored; that something was repeated, or kept alive, is not worth it.
        self.pump(cx);
        Some(Tunnel::Up(self))
    }

    /// If requests on an IKE SA that was replaced are not answered, only that one is over.
    fn repeat_requests(&mut self, cx: &mut Cx) -> Sent {
        let ways = self.ways(cx);
        let current = self.sas[0].repeat(cx, &ways);
        let mut at = 1;
        while at < self.sas.len() {
            match self.sas[at].repeat(cx, &ways) {
                Sent::Again => at += 1,
                Sent::Enough => {
                    self.sas.remove(at);
                    cx.store();
                }
            }
        }
        self.note_probing(&ways);
        current
    }

    fn on_children_due(&mut self, cx: &mut Cx) {
        let now = cx.now.monotonic;
        for at in 0..self.children.len() {
            let child = &mut self.children[at];
            if child.due().is_some_and(|due| due <= now) {
                cx.store();
            }
            if child.expires_at.is_some_and(|at| at <= now) {
                child.expires_at = None;
                child.doom(DownReason::Expired);
            }
            if matches!(child.stage, Stage::Replaced(at) if at <= now) {
                child.stage = Stage::Doomed;
            }
            if child.rekey_at.is_some_and(|at| at <= now) {
                child.rekey_at = None;
                let spi = child.inbound_spi;
                self.rekey_child(spi);
            }
            if matches!(self.children[at].outbound, Outbound::Delayed(due, _) if due <= now) {
                self.on_outbound_due(cx, at);
            }
        }
    }

    /// The outbound half of a pair has waited long enough. While our own request to rekey the same pair is outstanding
    /// it goes on waiting: if the answer makes ours the one to use, that one may be in the table since before a
    /// restart, and an SA that was replaced must not come back (I2).
    pub(super) fn on_outbound_due(&mut self, cx: &mut Cx, at: usize) {
        let (spi, reqid) = (self.children[at].inbound_spi, self.children[at].reqid);
        let mut pending = self.sas.iter().flat_map(|sa| &sa.pending);
        if !pending.any(|(_, pending)| pending.rival() == Some(spi)) {
            self.use_successor(cx, reqid);
        } else if let Outbound::Delayed(due, _) = &mut self.children[at].outbound {
            *due = cx.now.monotonic + OUTBOUND_DELAY;
        }
    }

    fn on_sas_due(&mut self, cx: &mut Cx) {
        let now = cx.now.monotonic;
        if self.rekey_at.is_some_and(|at| at <= now) {
            self.rekey_at = None;
            self.tasks.add(Task::RekeyIke);
            cx.store();
        }
        let is_due = |sa: &IkeSa| sa.fate.due().is_some_and(|due| due <= now);
        if self.sas.iter().any(is_due) {
            cx.store();
        }
        self.sas.retain(|sa| !matches!(sa.fate, Fate::Gone(at) if at <= now));
        for sa in &mut self.sas {
            if matches!(sa.fate, Fate::AwaitsDelete(at) if at <= now) {
                sa.fate = Fate::Doomed;
            }
        }
    }

    fn clear_remnants(&mut self, cx: &mut Cx) {
        let now = cx.now.monotonic;
        let late: Vec<u32> = self.remnants.iter().filter(|(at, _)| *at <= now).map(|(_, spi)| *spi).collect();
        self.remnants.retain(|(at, _)| *at > now);
        if !late.is_empty() {
            for spi in &late {
                self.keep_inbound(cx, *spi);
            }
            cx.store();
            cx.then(Output::Remove { inbound: late, outbound: Vec::new() });
        }
    }

    fn keep_alive(&mut self, cx: &mut Cx) {
        if self.keep_alive_at.is_some_and(|at| at <= cx.now.monotonic) {
            cx.core.counters.keep_alives += 1;
            cx.then(Output::KeepAlive { path: self.head.path });
            self.keep_alive_at = Some(cx.now.monotonic + KEEP_ALIVE);
        }
    }

    /// The names by which it is found.
    pub(super) fn claims(&self) -> Claims {
        let offers = || self.sas.iter().flat_map(|sa| &sa.pending).filter_map(|(_, pending)| pending.offer());
        let mut esp_spis: Vec<u32> = self.children.iter().map(|child| child.inbound_spi).collect();
        esp_spis.extend(self.remnants.iter().map(|(_, spi)| *spi));
        esp_spis.extend(offers().map(|offer| offer.spi));
        esp_spis.extend(self.unfinished.iter().filter_map(|one| Some(one.child()?.inbound_spi)));
        let mut reqids: Vec<u32> = self.children.iter().map(|child| child.reqid).collect();
        reqids.extend(offers().map(|offer| offer.reqid));
        reqids.extend(self.unfinished.iter().filter_map(|one| Some(one.child()?.reqid)));
        let mut ike_spis = self.sas.iter().map(IkeSa::our_spi).collect::<Vec<_>>();
        ike_spis
            .extend(self.sas.iter().flat_map(|sa| &sa.pending).filter_map(|(_, pending)| pending.ike_spi()));
        ike_spis.extend(self.unfinished.iter().filter_map(Unfinished::ike_spi));
        let (number, peer) = (Some(self.head.number), Some(self.peers.proved().clone()));
        Claims { ike_spis, esp_spis, reqids, number, peer, ..Claims::default() }
    }
}

impl Pending {
    /// The same, to be changed.
    pub(super) fn offer_mut(&mut self) -> Option<&mut super::child_offer::ChildOffer> {
        match self.about_mut() {
            Self::NewChild(offer) => Some(offer),
            Self::RekeyChild(rekeying) => Some(&mut rekeying.offer),
            _ => None,
        }
    }

    /// The pair that the peer has made by rekeying the same one, by our SPI.
    fn rival(&self) -> Option<u32> {
        match self.about() {
            Self::RekeyChild(rekeying) => rekeying.rival.as_ref().map(|rival| rival.spi),
            _ => None,
        }
    }

    /// The pair of Child SAs that is asked for.
    pub(super) fn offer(&self) -> Option<&super::child_offer::ChildOffer> {
        match self.about() {
            Self::NewChild(offer) => Some(offer),
            Self::RekeyChild(rekeying) => Some(&rekeying.offer),
            _ => None,
        }
    }
}
