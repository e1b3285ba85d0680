//! INFORMATIONAL requests about addresses (RFC 4555 sections 3.5 to 3.9), as whoever gets them answers.

use super::super::core::Cx;
use super::super::init_answered::is_between;
use super::super::message::{Message, flag, notify};
use super::super::nat::{self, Nat};
use super::super::up::{KEEP_ALIVE, Up};
use super::addresses::{self, has_list, has_met_nat};
use crate::host::{Event, Path};
use crate::wire::{NotifyType, Payload};

/// Which of the two kinds of news is the newest.
const UPDATE: usize = 0;
const LIST: usize = 1;

impl Up {
    /// Whether a request is to be worked on now: who changes addresses without end asks again later.
    pub(in crate::machine) fn admits(&mut self, cx: &mut Cx, message: &Message) -> bool {
        let Some(mobility) = self.mobility.as_mut().filter(|_| is_news(message)) else { return true };
        let is_admitted = mobility.rate.admit(cx.now.monotonic);
        cx.core.counters.mobike_limited += u64::from(!is_admitted);
        is_admitted
    }

    /// What a request on the IKE SA at that place, along that path, says of addresses; the answer to it.
    pub(in crate::machine) fn on_addresses(
        &mut self,
        cx: &mut Cx,
        path: Path,
        (at, message_id): (usize, u32),
        message: &Message,
    ) -> Vec<Payload> {
        if self.mobility.is_none() {
            return Vec::new();
        }
        let mut payloads = Vec::new();
        if has_met_nat(message, path) {
            payloads.push(flag(NotifyType::UNEXPECTED_NAT_DETECTED));
        } else {
            let request = (self.sas[at].our_spi(), message_id);
            if has_list(message) && self.is_newest(LIST, at, request) {
                self.take_list(cx, message);
            }
            let updates = message.has(NotifyType::UPDATE_SA_ADDRESSES);
            if updates && self.follows() && self.is_newest(UPDATE, at, request) {
                payloads.extend(self.on_update(cx, path, at, message));
            }
            payloads.extend(self.detection(cx, path, at, message));
        }
        payloads.extend(addresses::cookie(message).map(|cookie| notify(NotifyType::COOKIE2, cookie)));
        payloads
    }

    fn follows(&self) -> bool {
        self.mobility.as_ref().is_some_and(|mobility| !mobility.leads)
    }

    /// Whether nothing newer of the kind was heeded (RFC 4555 section 3.5); then this one is the newest. What comes by
    /// an IKE SA that was replaced is older than all that came by its successor.
    fn is_newest(&mut self, kind: usize, at: usize, (spi, message_id): (u64, u32)) -> bool {
        let current = self.sas[0].our_spi();
        let Some(mobility) = &mut self.mobility else { return false };
        let is_newest = match mobility.newest[kind] {
            Some((before, id)) if before == spi => message_id > id,
            Some((before, _)) => at == 0 || before != current,
            None => true,
        };
        if is_newest {
            mobility.newest[kind] = Some((spi, message_id));
        }
        is_newest
    }

    fn take_list(&mut self, cx: &mut Cx, message: &Message) {
        if let Some(mobility) = &mut self.mobility {
            mobility.additional = addresses::read(message);
            cx.store();
        }
    }

    /// NAT detection of the answer, if the request has it (RFC 4555 section 3.8).
    fn detection(&self, cx: &mut Cx, path: Path, at: usize, message: &Message) -> Vec<Payload> {
        if !message.has(NotifyType::NAT_DETECTION_SOURCE_IP) {
            return Vec::new();
        }
        nat::detection(cx, &self.sas[at].informational(), path, &self.head.connection).to_vec()
    }

    /// UPDATE_SA_ADDRESSES: the peer is where its request has come from, and we are where it has gone to.
    fn on_update(&mut self, cx: &mut Cx, path: Path, at: usize, message: &Message) -> Option<Payload> {
        if !is_between(&self.head.connection, path) || !addresses::is_host(path.remote.ip()) {
            let problem = format!(
                "peer {} wants to move to {}, where its connection must not be; widen remote_addrs and local_addrs if it may",
                self.head.peer(),
                path.remote
            );
            self.head.failed(cx, problem);
            return Some(flag(NotifyType::UNACCEPTABLE_ADDRESSES));
        }
        cx.core.counters.mobike_updates += 1;
        let nat = self.detected(message, path, at);
        if (path, nat) != (self.head.path, self.head.nat) {
            self.follow_to(cx, path, nat);
        }
        None
    }

    /// The NATs on the path that the message has come along, as far as it says. Without the marker there is no ESP in
    /// UDP, whatever stands there.
    pub(super) fn detected(&self, message: &Message, path: Path, at: usize) -> Nat {
        match message.has(NotifyType::NAT_DETECTION_SOURCE_IP) {
            true if path.marked => Nat::detect(message, &self.sas[at].informational(), path),
            true => Nat::default(),
            false => self.head.nat,
        }
    }

    /// From now on IKE goes there, and the Child SAs too, once the peer is shown to receive there, if it is not the
    /// address at which it does already.
    fn follow_to(&mut self, cx: &mut Cx, path: Path, nat: Nat) {
        let before = (self.head.path, self.head.nat);
        let was_confirmed = self.mobility.as_ref().is_some_and(|m| m.confirmed == m.changes);
        let is_new = path.remote != before.0.remote;
        if is_new {
            self.hold_or_allow(cx, before);
        }
        // Back where it was shown to receive.
        let allowance = self.mobility.as_ref().and_then(|mobility| mobility.allowance);
        let shown = self.head.roaming.held.or(allowance.map(|allowance| allowance.before));
        let proven = shown.filter(|(shown, _)| shown.remote == path.remote);
        if proven.is_some() {
            self.head.roaming.held = None;
        }
        self.change_path(cx, path);
        self.set_nat(cx, nat);
        if proven.is_some() || (!is_new && was_confirmed) {
            self.confirm();
        }
        // What is outstanding keeps what is to be asked from being sent.
        self.sas.iter_mut().for_each(|sa| sa.window.requests.resume(cx.now.monotonic));
        if self.head.roaming.held.is_none() {
            self.place_children(cx);
        }
    }

    /// Another path for what we send from now on.
    pub(super) fn change_path(&mut self, cx: &mut Cx, to: Path) {
        let from = std::mem::replace(&mut self.head.path, to);
        if let Some(mobility) = &mut self.mobility {
            mobility.changes = mobility.changes.wrapping_add(1);
            mobility.is_probing = false;
        }
        cx.core.counters.path_changes += 1;
        cx.store();
        if from != to {
            cx.event(Event::PathChanged { tunnel: self.head.name(), from, to });
        }
    }

    pub(super) fn set_nat(&mut self, cx: &mut Cx, nat: Nat) {
        self.head.nat = nat;
        let keeps_alive = self.keep_alive_at.is_some();
        if keeps_alive != nat.ours {
            self.keep_alive_at = nat.ours.then(|| cx.now.monotonic + KEEP_ALIVE);
        }
    }
}

fn is_news(message: &Message) -> bool {
    message.has(NotifyType::UPDATE_SA_ADDRESSES) || has_list(message)
}
