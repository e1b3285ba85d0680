//! IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4): the additional key exchanges of an SA that CREATE_CHILD_SA has begun. It
//! stands when the last of them is done, and is made by what CREATE_CHILD_SA has said.

use super::core::Cx;
use super::inbound::Verdict;
use super::message::{Message, notify};
use super::pending::Pending;
use super::receive::Chain;
use super::up::Up;
use crate::configuration::Connection;
use crate::crypto::{AdditionalMethods, AdditionalSecrets, AdditionalShare, KeyExchangeMethod};
use crate::proposal::{accept_esp, accept_ike};
use crate::wire::{self, ExchangeType, Notify, NotifyType, Payload};

/// The link to what an exchange goes on with is the peer's; longer ones have no use.
const MAX_LINK: usize = 1024;

/// Our request for the next key exchange of an SA.
pub(super) struct FollowUp {
    /// What CREATE_CHILD_SA asked for, with the secrets so far.
    pub(super) about: Pending,
    /// The payloads of its answer.
    pub(super) answer: Chain,
    pub(super) share: AdditionalShare,
    /// How many were done before.
    pub(super) done: u32,
}

impl Pending {
    /// What an SA is asked for by, also if its additional key exchanges are being done.
    pub(super) fn about(&self) -> &Self {
        match self {
            Self::FollowUp(follow_up) => &follow_up.about,
            own => own,
        }
    }

    /// The same, to be changed.
    pub(super) fn about_mut(&mut self) -> &mut Self {
        match self {
            Self::FollowUp(follow_up) => &mut follow_up.about,
            own => own,
        }
    }

    /// Additional key exchanges that an answer has chosen; none if it has refused, or is wrong, which its own handler
    /// finds.
    fn methods(&self, connection: &Connection, message: &Message) -> AdditionalMethods {
        let answer = message.proposals.as_deref().filter(|_| message.error().is_none()).unwrap_or_default();
        let methods = match self {
            Self::RekeyIke(_) => {
                accept_ike(&connection.ike_proposals, answer).ok().map(|suite| suite.additional)
            }
            other => other.offer().and_then(|offer| {
                let suite = accept_esp(&offer.child.esp_proposals, answer, true).ok()?;
                Some(suite.additional)
            }),
        };
        methods.unwrap_or_default()
    }

    /// The secrets of additional key exchanges so far.
    pub(super) fn secrets(&self) -> Option<&AdditionalSecrets> {
        match self {
            Self::RekeyIke(rekeying) => Some(&rekeying.additional),
            other => other.offer().map(|offer| &offer.additional),
        }
    }

    /// The same, to be changed.
    pub(super) fn secrets_mut(&mut self) -> Option<&mut AdditionalSecrets> {
        match self {
            Self::RekeyIke(rekeying) => Some(&mut rekeying.additional),
            other => other.offer_mut().map(|offer| &mut offer.additional),
        }
    }
}

/// An answer that refuses, in the words of CREATE_CHILD_SA. What a peer has forgotten is asked anew (RFC 9370 section
/// 2.2.4).
fn refusal(kind: NotifyType) -> Message {
    let kind = if kind == NotifyType::STATE_NOT_FOUND { NotifyType::TEMPORARY_FAILURE } else { kind };
    Message { notifies: vec![Notify::new(kind, Vec::new())], ..Message::default() }
}

fn link(message: &Message) -> Option<&[u8]> {
    let notify = message.notify(NotifyType::ADDITIONAL_KEY_EXCHANGE)?;
    Some(&notify.data[..]).filter(|link| link.len() <= MAX_LINK)
}

impl Up {
    /// The answer to CREATE_CHILD_SA: the SA stands, or its first additional key exchange is begun.
    pub(super) fn on_created(
        &mut self,
        cx: &mut Cx,
        at: usize,
        pending: Pending,
        (message, chain): (&Message, Chain),
    ) -> Verdict {
        let method = pending.methods(&self.head.connection, message).iter().next();
        match method {
            None => self.conclude(cx, at, pending, message),
            Some(method) => self.follow_up(cx, at, (pending, chain, 0), (method, link(message))),
        }
        Verdict::Stays
    }

    /// What CREATE_CHILD_SA has said is done.
    fn conclude(&mut self, cx: &mut Cx, at: usize, pending: Pending, message: &Message) {
        match pending {
            Pending::NewChild(offer) => self.on_new_child(cx, *offer, message),
            Pending::RekeyChild(rekeying) => self.on_child_rekeyed(cx, *rekeying, message),
            Pending::RekeyIke(rekeying) => self.on_ike_rekeyed(cx, at, *rekeying, message),
            _ => {}
        }
    }

    /// Asks for the next key exchange. If that cannot be sent now all of it is asked anew, later.
    fn follow_up(
        &mut self,
        cx: &mut Cx,
        at: usize,
        (about, answer, done): (Pending, Chain, u32),
        (method, link): (KeyExchangeMethod, Option<&[u8]>),
    ) {
        let Some(link) = link.map(<[u8]>::to_vec) else {
            return self.conclude(cx, at, about, &refusal(NotifyType::INVALID_SYNTAX));
        };
        let share = AdditionalShare::generate(method, &mut |octets| cx.host.random(octets));
        let can_send = self.sas[at].window.requests.sendable().is_ok() && self.sas[at].can_seal(cx);
        let Some(share) = share.ok().filter(|_| can_send) else {
            return self.conclude(cx, at, about, &refusal(NotifyType::TEMPORARY_FAILURE));
        };
        let payloads = [
            Payload::KeyExchange { group: method.id(), data: share.public().to_vec() },
            notify(NotifyType::ADDITIONAL_KEY_EXCHANGE, link),
        ];
        let pending = Pending::FollowUp(Box::new(FollowUp { about, answer, share, done }));
        self.ask_on(cx, at, ExchangeType::IKE_FOLLOWUP_KE, &payloads, pending);
    }

    /// The answer to it.
    pub(super) fn on_followed_up(&mut self, cx: &mut Cx, at: usize, follow_up: FollowUp, message: &Message) {
        let FollowUp { mut about, answer, share, done } = follow_up;
        let public = message.key_exchange.as_ref().filter(|(id, _)| *id == share.method().id());
        let shared = public.and_then(|(_, public)| share.agree(public).ok());
        let (Some(shared), None) = (shared, message.error()) else {
            let kind = message.error().map_or(NotifyType::INVALID_SYNTAX, |error| error.kind);
            return self.conclude(cx, at, about, &refusal(kind));
        };
        if let Some(secrets) = about.secrets_mut() {
            secrets.push(&shared);
            cx.core.counters.additional_key_exchanges += 1;
        }
        // It was read before, when it came.
        let first = wire::parse_chain(answer.0, &answer.1).ok().and_then(|all| Message::sort(all).ok());
        let first = first.unwrap_or_default();
        let done = done + 1;
        match about.methods(&self.head.connection, &first).iter().nth(done as usize) {
            Some(method) => self.follow_up(cx, at, (about, answer, done), (method, link(message))),
            None => self.conclude(cx, at, about, &first),
        }
    }
}
