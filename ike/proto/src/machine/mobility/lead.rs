//! The end that leads: it has moved, says so, and finds another path when the present one is dead (RFC 4555 sections
//! 3.5, 3.6, 3.8 to 3.11).

use super::super::core::Cx;
use super::super::inbound::Verdict;
use super::super::message::{Message, flag};
use super::super::nat;
use super::super::pending::Pending;
use super::super::tasks::Task;
use super::super::up::Up;
use super::addresses;
use super::check::Check;
use crate::host::{DownReason, Path};
use crate::wire::{ExchangeType, NotifyType, Payload};

/// New requests after UNEXPECTED_NAT_DETECTED, before another path is tried (RFC 4555 section 3.9 asks for several).
const NAT_TRIES: u32 = 3;
/// Refusals of whatever kind in a row, before the tunnel ends.
const MAX_REFUSALS: u32 = 12;

/// UPDATE_SA_ADDRESSES, or a list of addresses, that is outstanding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::machine) struct Update {
    /// Whether the peer is told to move SAs, and not only of addresses.
    pub(in crate::machine) moves: bool,
    /// It shows whether the peer receives at an address of its own that we have not used yet.
    pub(in crate::machine) check: Check,
}

impl Up {
    /// Whether the addresses are ours to choose.
    pub(in crate::machine) fn leads(&self) -> bool {
        self.mobility.as_ref().is_some_and(|mobility| mobility.leads)
    }

    /// Our addresses or routes have changed.
    pub(in crate::machine) fn reconsider(&mut self, cx: &mut Cx) {
        let own = addresses::own(cx.host, &self.head.connection, self.head.path.local.ip());
        let Some(mobility) = &self.mobility else { return };
        let (leads, is_told) = (mobility.leads, mobility.announced == own);
        if !is_told {
            self.tasks.add(Task::AnnounceAddresses);
        }
        if leads {
            self.reconsider_path(cx);
        }
    }

    /// As long as the routes lead to the peer, they say from where. If they do not, another path may.
    fn reconsider_path(&mut self, cx: &mut Cx) {
        match self.present_path(cx.host) {
            Some(path) if path == self.head.path => {}
            Some(path) => self.move_along(cx, path),
            None => self.probe(),
        }
    }

    /// Asks whether the peer lives, along all paths at once.
    fn probe(&mut self) {
        if let Some(mobility) = &mut self.mobility {
            mobility.is_probing = true;
        }
        if self.current().pending.is_empty() {
            self.tasks.add(Task::Liveness);
        }
    }

    /// While all paths are tried, what is outstanding is sent at once.
    pub(super) fn hurry_probe(&mut self, cx: &Cx) {
        if self.mobility.as_ref().is_some_and(|mobility| mobility.is_probing) {
            self.sas.iter_mut().for_each(|sa| sa.window.requests.resume(cx.now.monotonic));
        }
    }

    /// Takes another path: what is outstanding goes along it, the peer is told, and the Child SAs follow, unless the
    /// peer's address is one at which it was not shown to receive.
    fn move_along(&mut self, cx: &mut Cx, path: Path) {
        let before = (self.head.path, self.head.nat);
        if path.remote != before.0.remote {
            self.head.roaming.held.get_or_insert(before);
        }
        self.change_path(cx, path);
        if self.head.roaming.held.is_none() {
            self.place_children(cx);
        }
        for sa in &mut self.sas {
            sa.window.requests.resume(cx.now.monotonic);
        }
    }

    /// UPDATE_SA_ADDRESSES, with the list of our addresses if the peer has another one.
    pub(in crate::machine) fn ask_update(&mut self, cx: &mut Cx) {
        let Some(mobility) = &self.mobility else { return };
        let check = Check::new(cx, mobility.changes);
        let (path, connection) = (self.head.path, std::sync::Arc::clone(&self.head.connection));
        let own = addresses::own(cx.host, &connection, path.local.ip());
        let mut payloads = vec![flag(NotifyType::UPDATE_SA_ADDRESSES)];
        payloads.extend(nat::detection(cx, &self.current().informational(), path, &connection));
        payloads.extend(addresses::forbids_nats(&connection).then(|| addresses::no_nats(path)));
        payloads.push(check.payload());
        if mobility.announced != own {
            payloads.extend(addresses::list(&own));
        }
        self.send_news(cx, &payloads, (own, Update { moves: true, check }), Task::UpdateAddresses);
    }

    /// The list alone (RFC 4555 section 3.6).
    pub(in crate::machine) fn ask_list(&mut self, cx: &mut Cx) {
        let Some(mobility) = &self.mobility else { return };
        let check = Check::new(cx, mobility.changes);
        let own = addresses::own(cx.host, &self.head.connection, self.head.path.local.ip());
        let payloads = addresses::list(&own);
        self.send_news(cx, &payloads, (own, Update { moves: false, check }), Task::AnnounceAddresses);
    }

    fn send_news(
        &mut self,
        cx: &mut Cx,
        payloads: &[Payload],
        (own, update): (Vec<std::net::IpAddr>, Update),
        task: Task,
    ) {
        if !self.ask(cx, ExchangeType::INFORMATIONAL, payloads, Pending::Update(update)) {
            self.tasks.add_first(task);
        } else if let Some(mobility) = &mut self.mobility {
            mobility.announced = own;
        }
    }

    /// The answer, which came along `path`. If the path has changed since, another update is on its way, or will be.
    pub(in crate::machine) fn on_updated(
        &mut self,
        cx: &mut Cx,
        (at, path): (usize, Path),
        update: &Update,
        message: &Message,
    ) -> Verdict {
        let Some(mobility) = &mut self.mobility else { return Verdict::Stays };
        if !update.moves || update.check.changes != mobility.changes {
            return Verdict::Stays;
        }
        if message.has(NotifyType::UNEXPECTED_NAT_DETECTED) {
            return self.on_unexpected_nat(cx);
        }
        if message.has(NotifyType::UNACCEPTABLE_ADDRESSES) {
            mobility.refusals += 1;
            return self.avoid(cx, "the peer does not accept the addresses");
        }
        mobility.refusals = 0;
        if !update.check.is_answered_by(message) {
            return self.on_wrong_cookie(cx);
        }
        self.confirm();
        let nat = self.detected(message, path, at);
        let (was_held, has_changed) = (self.head.roaming.held.take().is_some(), nat != self.head.nat);
        self.set_nat(cx, nat);
        self.note_seen(message);
        if was_held || has_changed {
            self.place_children(cx);
        }
        Verdict::Stays
    }

    /// NATs are forbidden, and there is one: or somebody has changed one packet, so that it is tried again.
    fn on_unexpected_nat(&mut self, cx: &mut Cx) -> Verdict {
        let Some(mobility) = &mut self.mobility else { return Verdict::Stays };
        mobility.refusals += 1;
        if mobility.refusals % NAT_TRIES != 0 {
            self.tasks.add_first(Task::UpdateAddresses);
            return Verdict::Stays;
        }
        self.avoid(cx, "there is a NAT, which mobike_nats = false forbids, between")
    }

    /// The present path will not do: the next one, each in its turn, or the end if there is none.
    fn avoid(&mut self, cx: &mut Cx, why: &str) -> Verdict {
        let path = self.head.path;
        let problem = format!("{why} {} to {}", path.local, path.remote);
        self.head.failed(cx, problem);
        let refusals = self.mobility.as_ref().map_or(0, |mobility| mobility.refusals);
        let others = self.other_paths(cx.host);
        match others.get(refusals as usize % others.len().max(1)) {
            Some(next) if refusals < MAX_REFUSALS => {
                self.move_along(cx, *next);
                Verdict::Stays
            }
            _ => Verdict::Over(DownReason::Unreachable),
        }
    }

    /// NAT detection for a request that asks whether the peer lives: if we are behind a NAT, the answer tells whether
    /// it has given us another address (RFC 4555 section 3.8).
    pub(in crate::machine) fn liveness_payloads(&self, cx: &mut Cx) -> Vec<Payload> {
        if !self.leads() || !self.head.nat.ours {
            return Vec::new();
        }
        nat::detection(cx, &self.current().informational(), self.head.path, &self.head.connection).to_vec()
    }

    /// The answer to it. The peer is told to follow if it sees us elsewhere than before, or if we do not know where it
    /// did.
    pub(in crate::machine) fn on_lives(&mut self, message: &Message) {
        let before = self.mobility.as_ref().and_then(|mobility| mobility.seen.clone());
        let now = self.note_seen(message);
        if self.leads() && self.head.nat.ours && now.is_some() && now != before {
            self.tasks.add_first(Task::UpdateAddresses);
        }
    }

    /// Takes note of how the peer sees our address.
    fn note_seen(&mut self, message: &Message) -> Option<Vec<u8>> {
        let seen = message.notify(NotifyType::NAT_DETECTION_DESTINATION_IP)?.data.clone();
        self.mobility.as_mut()?.seen = Some(seen.clone());
        Some(seen)
    }

    /// An answer came along another path than the one that we use. While all are tried, this is the one that works.
    pub(in crate::machine) fn on_answer_along(&mut self, cx: &mut Cx, path: Path) {
        let is_probing = self.mobility.as_ref().is_some_and(|mobility| mobility.is_probing);
        if !is_probing || !self.leads() {
            return;
        }
        if path == self.head.path {
            self.mobility.iter_mut().for_each(|mobility| mobility.is_probing = false);
        } else if self.other_paths(cx.host).contains(&path) {
            self.move_along(cx, path);
        }
    }
}
