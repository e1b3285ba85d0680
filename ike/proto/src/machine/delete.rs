//! Deletion of IKE and Child SAs (RFC 7296 sections 1.4.1 and 2.25).

use std::time::Duration;

use super::child_offer::ChildOffer;
use super::child_sa::{ChildSa, Outbound, Parts, Stage, policy_name};
use super::core::Cx;
use super::head::{Attempt, Wanted};
use super::ike_sa::Fate;
use super::inbound::Verdict;
use super::lingering::{LINGER, Lingering};
use super::order::Order;
use super::pending::Pending;
use super::tunnel::Tunnel;
use super::up::Up;
use crate::configuration::{Child, EndAction};
use crate::host::{DownReason, Event, Output};
use crate::wire::{Delete, ExchangeType, Payload, ProtocolId};

/// For how long the inbound half of a rekeyed pair stays in the table, for packets that are late.
const LATE_PACKETS: Duration = Duration::from_secs(5);
/// A tunnel that stood for so long was worth to be set up.
const LASTING: Duration = Duration::from_mins(1);
/// As many of them may be there at once.
const MAX_REMNANTS: usize = 64;
/// IKE SAs that are gone and still answer that they are.
const MAX_GONE: usize = 4;

impl Up {
    /// A request to delete Child SAs that went with the IKE SA on which it was outstanding is made again on the one
    /// that has taken its place; that the peer knows nothing of them any more is an answer as well.
    fn doom_again(&mut self) {
        let pending = self.sas.iter().flat_map(|sa| &sa.pending).map(|(_, pending)| pending);
        let spis = pending.filter_map(|pending| match pending {
            Pending::DeleteChildren(spis) => Some(spis),
            _ => None,
        });
        let asked: Vec<u32> = spis.flatten().copied().collect();
        let is_lost =
            |child: &&mut ChildSa| child.stage == Stage::Deleting && !asked.contains(&child.inbound_spi);
        self.children.iter_mut().filter(is_lost).for_each(|child| child.stage = Stage::Doomed);
    }

    /// Asks the peer to delete what is to be deleted.
    pub(super) fn delete_doomed(&mut self, cx: &mut Cx) {
        self.doom_again();
        for at in 0..self.sas.len() {
            if self.sas[at].fate == Fate::Doomed {
                let delete = Payload::Delete(Delete { protocol: ProtocolId::IKE, spis: Vec::new() });
                if self.ask_on(cx, at, ExchangeType::INFORMATIONAL, &[delete], Pending::DeleteIke) {
                    self.sas[at].fate = Fate::Deleting;
                }
            }
        }
        let doomed = |child: &&mut ChildSa| child.stage == Stage::Doomed;
        let spis: Vec<u32> = self.children.iter_mut().filter(doomed).map(|child| child.inbound_spi).collect();
        if self.current().fate != Fate::Lives || spis.is_empty() {
            return;
        }
        let delete = Payload::Delete(Delete { protocol: ProtocolId::ESP, spis: spis.clone() });
        if self.ask(cx, ExchangeType::INFORMATIONAL, &[delete], Pending::DeleteChildren(spis)) {
            let doomed = self.children.iter_mut().filter(|child| child.stage == Stage::Doomed);
            doomed.for_each(|child| child.stage = Stage::Deleting);
        }
    }

    /// The peer deletes one of the IKE SAs, and with the one that is used all (RFC 7296 section 1.4.1). If it is
    /// another one, it was rekeyed.
    pub(super) fn on_ike_delete(&mut self, cx: &mut Cx, at: usize) -> Verdict {
        let spi = self.sas[at].our_spi();
        if at == 0 && !self.succeed(cx) {
            return Verdict::Over(self.ending.unwrap_or(DownReason::Peer));
        }
        let until = cx.now.monotonic + LINGER;
        if let Some(sa) = self.sas.iter_mut().find(|sa| sa.our_spi() == spi) {
            sa.fate = Fate::Gone(until);
            sa.pending.clear();
            sa.window.requests.abandon();
        }
        self.forget_gone(cx.now.monotonic);
        Verdict::Stays
    }

    /// Of IKE SAs that are gone only the last few are kept: the peer may yet repeat its request to delete them.
    fn forget_gone(&mut self, now: Duration) {
        let mut gone: Vec<&mut Duration> = self.sas.iter_mut().filter_map(|sa| sa.fate.gone()).collect();
        gone.sort_unstable();
        let most = gone.len().saturating_sub(MAX_GONE);
        gone.into_iter().take(most).for_each(|until| *until = now);
    }

    /// The peer deletes Child SAs, by the SPIs that it receives with. The answer has the SPIs of the other halves;
    /// what we are deleting ourselves is left out of it (RFC 7296 sections 1.4.1 and 2.25.1).
    pub(super) fn on_child_deletes(&mut self, cx: &mut Cx, spis: &[u32]) -> Vec<u32> {
        let mut paired = Vec::new();
        for spi in spis {
            let Some(at) = self.children.iter().position(|child| child.outbound_spi == *spi) else {
                self.offers().for_each(|offer| offer.note_gone(*spi));
                continue;
            };
            let child = self.children.remove(at);
            if child.stage != Stage::Deleting {
                paired.push(child.inbound_spi);
            }
            if matches!(child.outbound, Outbound::Installed) {
                // The peer has what takes its place, and receives by that.
                self.use_successor(cx, child.reqid);
            }
            let reason = child.ending.unwrap_or(DownReason::Peer);
            self.on_child_gone(cx, child, reason);
        }
        paired
    }

    /// The pairs that we have asked for.
    fn offers(&mut self) -> impl Iterator<Item = &mut ChildOffer> {
        self.sas.iter_mut().flat_map(|sa| &mut sa.pending).filter_map(|(_, pending)| pending.offer_mut())
    }

    /// The peer has answered our request to delete Child SAs.
    pub(super) fn on_children_deleted(&mut self, cx: &mut Cx, spis: &[u32]) {
        for spi in spis {
            if let Some(at) = self.children.iter().position(|child| child.inbound_spi == *spi) {
                let child = self.children.remove(at);
                let reason = child.ending.unwrap_or(DownReason::Expired);
                self.on_child_gone(cx, child, reason);
            }
        }
    }

    /// A pair is gone at both ends. If another one has its reqid, that one has taken its place: packets on their way
    /// by the old one may still come.
    pub(super) fn on_child_gone(&mut self, cx: &mut Cx, mut child: ChildSa, reason: DownReason) {
        self.keep_outbound(cx, &mut child);
        if self.children.iter().any(|other| other.reqid == child.reqid) {
            self.keep_for_late_packets(cx, child.inbound_spi);
            cx.then(Output::Remove {
                inbound: Vec::new(),
                outbound: vec![(child.reqid, child.outbound_spi)],
            });
            return;
        }
        self.keep_inbound(cx, child.inbound_spi);
        cx.then(child.removal());
        self.withdraw(cx, &child, reason);
        self.after_end(cx, vec![child], reason);
    }

    /// A peer that rekeys without end has no more of them than this.
    fn keep_for_late_packets(&mut self, cx: &mut Cx, spi: u32) {
        if self.remnants.len() >= MAX_REMNANTS {
            let (_, oldest) = self.remnants.remove(0);
            self.keep_inbound(cx, oldest);
            cx.then(Output::Remove { inbound: vec![oldest], outbound: Vec::new() });
        }
        self.remnants.push((cx.now.monotonic + LATE_PACKETS, spi));
    }

    /// The outbound half that waited for this.
    pub(super) fn use_successor(&mut self, cx: &mut Cx, reqid: u32) {
        let waits = |child: &ChildSa| child.reqid == reqid && matches!(child.outbound, Outbound::Delayed(..));
        let Some(at) = self.children.iter().position(waits) else { return };
        self.keep_outbound_of(cx, reqid);
        let Outbound::Delayed(_, keys) =
            std::mem::replace(&mut self.children[at].outbound, Outbound::Installed)
        else {
            return;
        };
        cx.install(self.children[at].install(cx, &self.head, Parts::OUTBOUND, Some(&keys)));
    }

    /// The policy of a pair that is gone, and word of it. Nothing may leave in clear where it led (I7), unless the
    /// operator has ended it. One that traps traffic stays.
    fn withdraw(&self, cx: &mut Cx, child: &ChildSa, reason: DownReason) {
        if cx.core.traps.get(child.reqid).is_none() {
            let names = vec![policy_name(&self.head.connection.name, child.reqid)];
            let keep_prohibited = cx.core.closed.note(&self.head, child, reason);
            cx.then(Output::RemovePolicies { names, keep_prohibited });
        }
        cx.event(Event::ChildDown {
            tunnel: self.head.name(),
            child: child.child.name.clone(),
            inbound_spi: child.inbound_spi,
        });
    }

    /// The tunnel is over. The IKE SA with the SPI `answered`, if any, has to repeat its last answer for a while.
    pub(super) fn end(
        mut self: Box<Self>,
        cx: &mut Cx,
        reason: DownReason,
        answered: Option<u64>,
    ) -> Option<Tunnel> {
        let reason = self.end_reason(reason);
        if reason == DownReason::Moved {
            self.sas.iter().for_each(|sa| cx.core.elsewhere.note(sa.our_spi()));
        }
        self.stop_session(cx, reason);
        let children = std::mem::take(&mut self.children);
        // First of all: whoever dies in between must not come back with a tunnel that has no SAs. SAs without a tunnel
        // are found and removed.
        self.leave_ticket(cx, reason);
        cx.install(Output::Forget { tunnel: self.head.name(), version: self.version + 1 });
        self.remove_from_table(cx, &children);
        let mut reqids = Vec::new();
        for child in &children {
            if !reqids.contains(&child.reqid) {
                reqids.push(child.reqid);
                self.withdraw(cx, child, reason);
            }
        }
        self.move_out(cx);
        cx.event(Event::IkeDown { tunnel: self.head.name(), reason });
        cx.core.release_addresses(cx.id, cx.now.monotonic);
        self.after_end(cx, children, reason);
        let at = self.sas.iter().position(|sa| Some(sa.our_spi()) == answered)?;
        let sa = self.sas.swap_remove(at);
        Some(Lingering::begin(cx, self.head, sa))
    }

    /// A peer that was sent elsewhere, or has sent us, leaves because of that.
    fn end_reason(&self, reason: DownReason) -> DownReason {
        let is_redirected = self.redirection.was_sent || self.redirection.following.is_some();
        if reason == DownReason::Peer && is_redirected { DownReason::Redirected } else { reason }
    }

    fn remove_from_table(&mut self, cx: &mut Cx, children: &[ChildSa]) {
        let late = self.remnants.drain(..).map(|(_, spi)| spi);
        let inbound: Vec<u32> = children.iter().map(|child| child.inbound_spi).chain(late).collect();
        let outbound: Vec<_> = children.iter().map(|child| (child.reqid, child.outbound_spi)).collect();
        if !inbound.is_empty() {
            cx.install(Output::Remove { inbound, outbound });
        }
    }

    /// What `close_action` and `dpd_action` ask for, and traps, which wait for traffic again.
    fn after_end(&self, cx: &mut Cx, children: Vec<ChildSa>, reason: DownReason) {
        let mut attempt = self.next_attempt(cx, reason);
        for child in children {
            let trap = cx.core.traps.reqid_of(&self.head.connection.name, &child.child.name);
            let wanted = Wanted { child: child.child, reqid: trap };
            let action = self.action(&wanted.child, reason);
            if trap.is_some() || action == EndAction::Trap {
                let (connection, path) = (self.head.connection.clone(), self.head.path);
                cx.core.orders.push_back(Order::Trap { connection, wanted: wanted.clone(), path });
            }
            if action == EndAction::Start {
                attempt.add(vec![wanted]);
            }
        }
        if !attempt.wanted.is_empty() {
            let (connection, path) = (self.head.connection.clone(), self.head.path);
            cx.core.orders.push_back(Order::Again { connection, path, attempt });
        }
    }

    /// How the tunnel is set up again: at another address than the one where nobody answers any more, and not at once if
    /// it ended soon after it stood, for the second time or more: the peer may do so for ever.
    fn next_attempt(&self, cx: &Cx, reason: DownReason) -> Attempt {
        let is_gone = matches!(reason, DownReason::Unreachable | DownReason::Crashed);
        let mut peers = self.head.connection.peers();
        let present = peers.position(|peer| peer == self.head.peer()).filter(|_| is_gone);
        let has_lasted = cx.now.unix.saturating_sub(self.established) >= LASTING;
        Attempt {
            turn: present.map_or(0, |present| present + 1),
            short_lived: if has_lasted { 0 } else { self.short_lived.saturating_add(1) },
            inside: self.own_addresses(cx),
            ..Attempt::default()
        }
    }

    fn action(&self, child: &Child, reason: DownReason) -> EndAction {
        match reason {
            _ if self.ending.is_some_and(|ending| ending == DownReason::Command) => EndAction::None,
            DownReason::Peer | DownReason::Expired => child.close_action,
            DownReason::Unreachable | DownReason::Crashed => child.dpd_action,
            _ => EndAction::None,
        }
    }
}
