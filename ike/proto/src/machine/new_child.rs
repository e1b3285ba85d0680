//! CREATE_CHILD_SA for a new pair (RFC 7296 section 1.3.1), and what it asks for at all.

use super::child_answer::{Asked, Granted};
use super::child_offer::{ChildOffer, Unusable, resolve};
use super::core::Cx;
use super::head::Wanted;
use super::ike_sa::Fate;
use super::message::{Message, flag};
use super::pending::Pending;
use super::tasks::Task;
use super::unfinished::{Unfinished, What};
use super::up::Up;
use crate::wire::{ExchangeType, Notify, NotifyType, Payload, ProtocolId};

impl Up {
    /// Asks for a new pair.
    pub(super) fn ask_new_child(&mut self, cx: &mut Cx, wanted: Wanted) {
        let Wanted { child, reqid } = wanted;
        let local = resolve(&child.local, &self.dynamic.local);
        let remote = resolve(&child.remote, &self.dynamic.remote);
        let segment = self.head.segment();
        let reqid = reqid.filter(|reqid| cx.claim_reqid(*reqid)).unwrap_or_else(|| cx.reqid(segment));
        let offer = ChildOffer::new(cx, segment, &child, reqid, (local, remote)).with_key_exchange(cx);
        self.send_new_child(cx, offer);
    }

    fn send_new_child(&mut self, cx: &mut Cx, offer: ChildOffer) {
        let payloads = offer.payloads();
        let wanted = offer.wanted();
        if !self.ask(cx, ExchangeType::CREATE_CHILD_SA, &payloads, Pending::NewChild(Box::new(offer))) {
            self.tasks.add(Task::NewChild(wanted));
        }
    }

    /// The answer to it.
    pub(super) fn on_new_child(&mut self, cx: &mut Cx, offer: ChildOffer, message: &Message) {
        let nonce = message.nonce.clone().unwrap_or_default();
        match offer.accept(
            cx,
            &self.sas[0].keys,
            message,
            (&offer.nonce, &nonce),
            (&self.head, &self.dynamic),
        ) {
            Ok(agreed) => self.add_child(cx, agreed),
            Err(Unusable::Refused(NotifyType::INVALID_KE_PAYLOAD)) => {
                match offer.with_other_group(cx, message) {
                    Ok(offer) => self.send_new_child(cx, offer),
                    Err(offer) => {
                        self.on_unusable(cx, &offer, &Unusable::Refused(NotifyType::INVALID_KE_PAYLOAD));
                    }
                }
            }
            Err(Unusable::Refused(NotifyType::TEMPORARY_FAILURE)) => {
                self.retry(cx, Task::NewChild(offer.wanted()));
            }
            Err(unusable) => self.on_unusable(cx, &offer, &unusable),
        }
    }

    /// A CREATE_CHILD_SA request: for an IKE SA, for a pair in the place of another one, or for a new pair.
    pub(super) fn answer_create_child(&mut self, cx: &mut Cx, at: usize, message: &Message) -> Vec<Payload> {
        let is_for_ike =
            message.proposals.iter().flatten().any(|proposal| proposal.protocol == ProtocolId::IKE);
        if is_for_ike {
            return self.answer_ike_rekey(cx, at, message);
        }
        let is_rekeying = self.sas[at].pending.iter().any(|(_, pending)| pending.is_ike_rekeying());
        if is_rekeying || self.sas[at].fate != Fate::Lives {
            return vec![flag(NotifyType::TEMPORARY_FAILURE)];
        }
        match message.notify(NotifyType::REKEY_SA) {
            Some(rekey) => self.answer_child_rekey(cx, at, rekey, message),
            None => self.answer_new_child(cx, at, message),
        }
    }

    fn answer_new_child(&mut self, cx: &mut Cx, at: usize, message: &Message) -> Vec<Payload> {
        if self.children.len() + self.unfinished.len() >= cx.core.configuration.limits.max_children {
            return vec![flag(NotifyType::NO_ADDITIONAL_SAS)];
        }
        self.grant_child(cx, at, message, None)
    }

    /// What the peer is granted, our nonce among the payloads, or why it is not. `replaces` is the place of the pair
    /// that is rekeyed and the peer's notification about it.
    pub(super) fn grant_child(
        &mut self,
        cx: &mut Cx,
        at: usize,
        message: &Message,
        replaces: Option<(usize, Notify)>,
    ) -> Vec<Payload> {
        let Some(initiator_nonce) = &message.nonce else { return vec![flag(NotifyType::INVALID_SYNTAX)] };
        let our_nonce = cx.nonce();
        let asked = Asked {
            head: &self.head,
            message,
            dynamic: &self.dynamic,
            is_first: false,
            replaces: replaces.as_ref().map(|(old, _)| &self.children[*old]),
        };
        match asked.grant(cx) {
            Ok(Granted { sa, shared, mut payloads }) => {
                let what = What::Child(Box::new(sa), replaces.map(|(_, rekey)| rekey));
                let unfinished = Unfinished::new(what, shared, (initiator_nonce, &our_nonce));
                payloads.insert(1, Payload::Nonce(our_nonce));
                self.advance(cx, at, unfinished, payloads)
            }
            Err(refusal) => vec![self.refused(cx, refusal)],
        }
    }
}
