//! CREATE_CHILD_SA for a pair in the place of another one (RFC 7296 sections 1.3.3, 2.8, 2.8.1, 2.25.1).

use std::time::Duration;

use super::child_offer::{Agreed, ChildOffer, Unusable, resolve};
use super::child_sa::{ChildSa, OUTBOUND_DELAY, Outbound, Parts, Stage};
use super::core::Cx;
use super::head::Wanted;
use super::message::{Message, flag};
use super::pending::Pending;
use super::tasks::Task;
use super::up::{Up, about};
use crate::host::DownReason;
use crate::selector::TrafficSelector;
use crate::wire::{ExchangeType, Notify, NotifyType, Payload};

/// For how long the initiator of a rekeying may take to delete the old pair; then we do.
const DELETE_TIME: Duration = Duration::from_secs(30);

/// Our request to rekey a pair.
pub(super) struct ChildRekeying {
    pub(super) offer: ChildOffer,
    /// The old pair, by our SPI.
    pub(super) old: u32,
    /// The pair that the peer's request to rekey the same one has made meanwhile.
    pub(super) rival: Option<Rival>,
}

/// What the peer's simultaneous request has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rival {
    /// Our SPI of the pair.
    pub(super) spi: u32,
    /// The lower one of its exchange's nonces.
    pub(super) lowest: Vec<u8>,
}

/// The lower nonce of an exchange (RFC 7296 section 2.8.1: as octets, and what ends first is lower).
pub(super) fn lowest(ours: &[u8], theirs: &[u8]) -> Vec<u8> {
    ours.min(theirs).to_vec()
}

impl Up {
    /// Puts a pair on the list of those to be rekeyed; whether it can be.
    pub(super) fn rekey_child(&mut self, spi: u32) -> bool {
        let is_live = self.children.iter().any(|child| child.inbound_spi == spi && child.is_live());
        is_live && !self.is_rekeying_child(spi) && self.tasks.add(Task::RekeyChild(spi))
    }

    fn is_rekeying_child(&self, spi: u32) -> bool {
        self.current().pending.iter().any(|(_, pending)| pending.rekeys(spi))
    }

    /// Asks for it, if it still is to be.
    pub(super) fn ask_child_rekey(&mut self, cx: &mut Cx, spi: u32) {
        let Some(old) = self.children.iter().find(|child| child.inbound_spi == spi && child.is_live()) else {
            return;
        };
        // All that is configured is offered again, and at least what the pair has (RFC 7296 section 2.9.2).
        let local = with(resolve(&old.child.local, &self.dynamic.local), &old.local);
        let remote = with(resolve(&old.child.remote, &self.dynamic.remote), &old.remote);
        let (child, reqid, mode) = (old.child.clone(), old.reqid, old.mode);
        let offer =
            ChildOffer::new(cx, self.head.segment(), &child, reqid, (local, remote)).with_key_exchange(cx);
        let offer = ChildOffer { mode, ..offer };
        self.send_child_rekey(cx, ChildRekeying { offer, old: spi, rival: None });
    }

    fn send_child_rekey(&mut self, cx: &mut Cx, rekeying: ChildRekeying) {
        let mut payloads = vec![about(NotifyType::REKEY_SA, rekeying.old)];
        payloads.extend(rekeying.offer.payloads());
        let old = rekeying.old;
        if !self.ask(cx, ExchangeType::CREATE_CHILD_SA, &payloads, Pending::RekeyChild(Box::new(rekeying))) {
            self.tasks.add(Task::RekeyChild(old));
        }
    }

    /// The answer.
    pub(super) fn on_child_rekeyed(&mut self, cx: &mut Cx, mut rekeying: ChildRekeying, message: &Message) {
        // The peer may have deleted it already, because it has lost.
        let rival = rekeying.rival.take();
        rekeying.rival = rival.filter(|rival| self.is_there_or_replaced(rival, &rekeying));
        let nonce = message.nonce.clone().unwrap_or_default();
        let nonces = (rekeying.offer.nonce.as_slice(), nonce.as_slice());
        match rekeying.offer.accept(cx, &self.sas[0].keys, message, nonces, (&self.head, &self.dynamic)) {
            Ok(agreed) => {
                let ours = lowest(nonces.0, nonces.1);
                match &rekeying.rival {
                    Some(rival) if ours < rival.lowest => self.lose(cx, &rekeying, agreed, rival.spi),
                    _ => self.replace(cx, &rekeying, agreed),
                }
            }
            Err(unusable) => self.on_rekey_refused(cx, rekeying, &unusable, message),
        }
    }

    /// Whether a rival can still win: it is there, or the peer has replaced it too before our answer arrived.
    fn is_there_or_replaced(&self, rival: &Rival, rekeying: &ChildRekeying) -> bool {
        let in_its_place = |other: &ChildSa| {
            other.reqid == rekeying.offer.reqid && other.inbound_spi != rekeying.old && other.is_live()
        };
        self.children.iter().any(|child| child.inbound_spi == rival.spi || in_its_place(child))
    }

    /// Ours takes the old one's place: both halves, and then the old one is deleted.
    fn replace(&mut self, cx: &mut Cx, rekeying: &ChildRekeying, (child, keys): Agreed) {
        let old = self.child_mut(rekeying.old);
        let has_same = old.as_ref().is_some_and(|old| old.local == child.local && old.remote == child.remote);
        if let Some(old) = old {
            old.stage = Stage::Doomed;
        }
        if let Some(rival) = rekeying.rival.as_ref().and_then(|rival| self.child_mut(rival.spi)) {
            // The peer has made it and is to delete it (RFC 7296 section 2.8.1).
            rival.stage = Stage::Replaced(cx.now.monotonic + DELETE_TIME);
        }
        // Nothing older may take the new one's place in the table, as one whose turn had not come yet.
        let older = self.children.iter_mut().filter(|other| other.reqid == child.reqid);
        let delayed = older.filter(|other| matches!(other.outbound, Outbound::Delayed(..)));
        delayed.for_each(|other| other.outbound = Outbound::Unused);
        let parts = if has_same { Parts::BOTH } else { Parts::ALL };
        self.keep_outbound_of(cx, child.reqid);
        cx.install(child.install(cx, &self.head, parts, Some(&keys)));
        cx.core.counters.children_rekeyed += 1;
        self.tasks.succeeded();
        self.announce_child(cx, &child, Some(rekeying.old));
        self.children.push(child);
    }

    /// The peer's takes the old one's place, and the peer deletes that. Ours is deleted by us; until then packets by
    /// it are accepted.
    fn lose(&mut self, cx: &mut Cx, rekeying: &ChildRekeying, (mut child, keys): Agreed, rival: u32) {
        child.stage = Stage::Doomed;
        child.outbound = Outbound::Unused;
        cx.install(child.install(cx, &self.head, Parts::INBOUND, Some(&keys)));
        self.children.push(child);
        self.yield_to(cx, rekeying.old, rival);
    }

    /// The pair that the peer has made takes the old one's place.
    fn yield_to(&mut self, cx: &mut Cx, old: u32, rival: u32) {
        let until = cx.now.monotonic + DELETE_TIME;
        if let Some(old) = self.child_mut(old).filter(|old| old.is_live()) {
            old.stage = Stage::Replaced(until);
        }
        cx.core.counters.children_rekeyed += 1;
        if let Some(at) = self.children.iter().position(|child| child.inbound_spi == rival) {
            let child = self.children.remove(at);
            self.announce_child(cx, &child, Some(old));
            self.children.push(child);
        }
    }

    fn on_rekey_refused(
        &mut self,
        cx: &mut Cx,
        rekeying: ChildRekeying,
        unusable: &Unusable,
        message: &Message,
    ) {
        if *unusable == Unusable::Gone {
            return self.on_replacement_gone(cx, &rekeying);
        }
        if let Unusable::Refused(kind) = unusable {
            match (*kind, &rekeying.rival) {
                (NotifyType::INVALID_KE_PAYLOAD, None) => {
                    return self.rekey_with_group(cx, rekeying, message);
                }
                // The peer had begun before it saw ours, and has finished.
                (_, Some(rival)) => return self.yield_to(cx, rekeying.old, rival.spi),
                (NotifyType::TEMPORARY_FAILURE, None) => {
                    return self.retry(cx, Task::RekeyChild(rekeying.old));
                }
                (NotifyType::CHILD_SA_NOT_FOUND, None) => return self.on_child_not_found(cx, rekeying.old),
                _ => {}
            }
        }
        // The old pair serves until its end; then it is set up anew, if it is to be.
        self.on_unusable(cx, &rekeying.offer, unusable);
    }

    /// The pair that was to take the old one's place is gone already; to the peer the old one is replaced.
    fn on_replacement_gone(&mut self, cx: &mut Cx, rekeying: &ChildRekeying) {
        match &rekeying.rival {
            Some(rival) => self.yield_to(cx, rekeying.old, rival.spi),
            None => self.child_mut(rekeying.old).into_iter().for_each(|old| old.stage = Stage::Doomed),
        }
        self.on_unusable(cx, &rekeying.offer, &Unusable::Gone);
    }

    fn rekey_with_group(&mut self, cx: &mut Cx, rekeying: ChildRekeying, message: &Message) {
        let ChildRekeying { offer, old, rival } = rekeying;
        match offer.with_other_group(cx, message) {
            Ok(offer) => self.send_child_rekey(cx, ChildRekeying { offer, old, rival }),
            Err(offer) => self.on_unusable(cx, &offer, &Unusable::Refused(NotifyType::INVALID_KE_PAYLOAD)),
        }
    }

    /// The peer has no such pair: it is gone here as well, and a new one is asked for (RFC 7296 section 2.25.1).
    fn on_child_not_found(&mut self, cx: &mut Cx, spi: u32) {
        let Some(at) = self.children.iter().position(|child| child.inbound_spi == spi) else { return };
        let child = self.children.remove(at);
        let wanted = Wanted { child: child.child.clone(), reqid: None };
        let is_needed = child.is_live() && self.children.iter().all(|other| other.reqid != child.reqid);
        self.on_child_gone(cx, child, DownReason::Expired);
        if is_needed {
            self.tasks.add(Task::NewChild(wanted));
        }
    }

    /// The peer asks to rekey the pair that it receives with by this SPI.
    pub(super) fn answer_child_rekey(
        &mut self,
        cx: &mut Cx,
        at: usize,
        rekey: &Notify,
        message: &Message,
    ) -> Vec<Payload> {
        let old = match self.to_rekey(at, rekey) {
            Ok(old) => old,
            Err(refusal) => return vec![refusal],
        };
        // Those that were replaced count until the peer has deleted them, or it could have any number.
        let present = self.children.len() + self.unfinished.len();
        if present >= cx.core.configuration.limits.max_children.saturating_mul(2) {
            return vec![flag(NotifyType::TEMPORARY_FAILURE)];
        }
        self.grant_child(cx, at, message, Some((old, rekey.clone())))
    }

    /// The place of the pair that the peer receives with by this SPI, if it can be rekeyed now.
    pub(super) fn to_rekey(&self, at: usize, rekey: &Notify) -> Result<usize, Payload> {
        let spi = rekey.esp_spi();
        let old = self.children.iter().position(|child| Some(child.outbound_spi) == spi);
        // What the peer has made and we have not heard of yet cannot be rekeyed yet.
        let may_come = self.sas[at].pending.iter().any(|(_, pending)| pending.offer().is_some());
        match old {
            Some(old) if self.is_latest(&self.children[old]) => Ok(old),
            None if !may_come => {
                let not_found = NotifyType::CHILD_SA_NOT_FOUND;
                Err(Payload::Notify(Notify { kind: not_found, data: Vec::new(), ..rekey.clone() }))
            }
            _ => Err(flag(NotifyType::TEMPORARY_FAILURE)),
        }
    }

    /// Whether no other pair is in its place: there may have been one that the peer did not hear of, and has had us
    /// delete (RFC 6311 section 8.3).
    fn is_latest(&self, child: &ChildSa) -> bool {
        let has_successor =
            || self.children.iter().any(|other| other.is_live() && other.reqid == child.reqid);
        child.is_live() || matches!(child.stage, Stage::Replaced(_)) && !has_successor()
    }

    /// The inbound half before the answer; the outbound one when the peer can receive by it.
    pub(super) fn add_replacement(
        &mut self,
        cx: &mut Cx,
        old: usize,
        (mut child, keys): Agreed,
        lowest: Vec<u8>,
    ) {
        let now = cx.now.monotonic;
        let old = &mut self.children[old];
        let old_spi = old.inbound_spi;
        let has_same = old.local == child.local && old.remote == child.remote;
        let parts = Parts { policy: !has_same, ..Parts::INBOUND };
        cx.install(child.install(cx, &self.head, parts, Some(&keys)));
        child.outbound = Outbound::Delayed(now + OUTBOUND_DELAY, keys);
        let rival = Rival { spi: child.inbound_spi, lowest };
        let mut ours = self.sas.iter_mut().flat_map(|sa| &mut sa.pending);
        let collision = ours.find_map(|(_, pending)| pending.child_rekeying(old_spi));
        if let Some(collision) = collision {
            collision.rival = Some(rival);
            cx.core.counters.collisions += 1;
        } else {
            old.stage = Stage::Replaced(now + DELETE_TIME);
            cx.core.counters.children_rekeyed += 1;
            self.announce_child(cx, &child, Some(old_spi));
        }
        self.children.push(child);
    }

    fn child_mut(&mut self, spi: u32) -> Option<&mut ChildSa> {
        self.children.iter_mut().find(|child| child.inbound_spi == spi)
    }
}

impl Pending {
    /// Our request to rekey that pair.
    fn child_rekeying(&mut self, spi: u32) -> Option<&mut ChildRekeying> {
        match self.about_mut() {
            Self::RekeyChild(rekeying) if rekeying.old == spi => Some(rekeying),
            _ => None,
        }
    }

    fn rekeys(&self, spi: u32) -> bool {
        matches!(self.about(), Self::RekeyChild(rekeying) if rekeying.old == spi)
    }
}

/// Selectors, and those of the present pair that they do not cover.
fn with(mut configured: Vec<TrafficSelector>, present: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let missing = present.iter().filter(|selector| !configured.iter().any(|other| other.covers(selector)));
    let missing: Vec<_> = missing.cloned().collect();
    configured.extend(missing);
    configured
}
