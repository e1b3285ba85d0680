//! SAs that the peer has asked for by CREATE_CHILD_SA and whose additional key exchanges it is still to do (RFC 9370
//! section 2.2.4). They are not part of a context: a peer whose IKE_FOLLOWUP_KE meets nothing that it could go on with
//! is told so, and asks anew.

use std::time::Duration;

use super::child_rekey::lowest;
use super::child_sa::ChildSa;
use super::core::Cx;
use super::ike_rekey::IkeRival;
use super::ike_sa::Fate;
use super::message::{Message, flag, notify};
use super::up::Up;
use crate::crypto::{AdditionalSecrets, IkeSuite, KeyExchangeMethod, Role, Shared, answer_additional};
use crate::wire::{Notify, NotifyType, Payload};

/// So many of one tunnel; the oldest gives way.
const MAX_UNFINISHED: usize = 4;
/// For how long the peer may take from one exchange to the next: as long as its repetitions may.
const PATIENCE: Duration = Duration::from_mins(3);

/// An SA that the peer has asked for.
pub(super) struct Unfinished {
    what: What,
    /// SK(0); a pair of Child SAs without one has no additional ones either.
    shared: Option<Shared>,
    secrets: AdditionalSecrets,
    /// Of CREATE_CHILD_SA: the initiator's and ours.
    nonces: (Vec<u8>, Vec<u8>),
    methods: Vec<KeyExchangeMethod>,
    /// How many of them were done.
    done: usize,
    /// The IKE SA on which it was asked for, by our SPI, and what the next request names it by.
    place: (u64, Vec<u8>),
    until: Duration,
}

/// What it is to be.
pub(super) enum What {
    /// A pair of Child SAs; in the place of the one that this REKEY_SA names.
    Child(Box<ChildSa>, Option<Notify>),
    /// An IKE SA with these SPIs.
    Ike(IkeSuite, (u64, u64)),
}

impl What {
    fn methods(&self) -> Vec<KeyExchangeMethod> {
        match self {
            Self::Child(sa, _) => sa.suite.additional.iter().collect(),
            Self::Ike(suite, _) => suite.additional.iter().collect(),
        }
    }
}

impl Unfinished {
    pub(super) fn new(what: What, shared: Option<Shared>, nonces: (&[u8], &[u8])) -> Self {
        Self {
            methods: what.methods(),
            what,
            done: 0,
            shared,
            secrets: AdditionalSecrets::default(),
            nonces: (nonces.0.to_vec(), nonces.1.to_vec()),
            place: (0, Vec::new()),
            until: Duration::ZERO,
        }
    }

    /// When it is forgotten (monotonic).
    pub(super) fn until(&self) -> Duration {
        self.until
    }

    /// The pair of Child SAs that it is to be.
    pub(super) fn child(&self) -> Option<&ChildSa> {
        match &self.what {
            What::Child(sa, _) => Some(sa),
            What::Ike(..) => None,
        }
    }

    /// Our SPI of the IKE SA that it is to be.
    pub(super) fn ike_spi(&self) -> Option<u64> {
        match &self.what {
            What::Child(..) => None,
            What::Ike(_, (_, ours)) => Some(*ours),
        }
    }
}

impl Up {
    /// Goes on with an SA after its latest key exchange: it is put into force, or waits for the next one. `payloads` are
    /// the answer so far.
    pub(super) fn advance(
        &mut self,
        cx: &mut Cx,
        at: usize,
        mut unfinished: Unfinished,
        mut payloads: Vec<Payload>,
    ) -> Vec<Payload> {
        if unfinished.done == unfinished.methods.len() {
            return match self.finish(cx, at, unfinished) {
                Ok(()) => payloads,
                Err(refusal) => vec![refusal],
            };
        }
        let link = cx.random::<8>().to_vec();
        payloads.push(notify(NotifyType::ADDITIONAL_KEY_EXCHANGE, link.clone()));
        unfinished.place = (self.sas[at].our_spi(), link);
        unfinished.until = cx.now.monotonic.saturating_add(PATIENCE);
        if self.unfinished.len() >= MAX_UNFINISHED {
            self.unfinished.remove(0);
        }
        self.unfinished.push(unfinished);
        payloads
    }

    /// An IKE_FOLLOWUP_KE request.
    pub(super) fn answer_follow_up(&mut self, cx: &mut Cx, at: usize, message: &Message) -> Vec<Payload> {
        let Some(mut unfinished) = self.take_unfinished(at, message) else {
            return vec![flag(NotifyType::STATE_NOT_FOUND)];
        };
        let method = unfinished.methods[unfinished.done];
        let public = message.key_exchange.as_ref().filter(|(id, _)| *id == method.id());
        let answer = public.and_then(|(_, public)| {
            answer_additional(method, public, &mut |octets| cx.host.random(octets)).ok()
        });
        let Some((data, shared)) = answer else { return vec![flag(NotifyType::INVALID_SYNTAX)] };
        unfinished.secrets.push(&shared);
        unfinished.done += 1;
        cx.core.counters.additional_key_exchanges += 1;
        let payload = Payload::KeyExchange { group: method.id(), data };
        self.advance(cx, at, unfinished, vec![payload])
    }

    fn take_unfinished(&mut self, at: usize, message: &Message) -> Option<Unfinished> {
        let link = &message.notify(NotifyType::ADDITIONAL_KEY_EXCHANGE)?.data;
        let spi = self.sas[at].our_spi();
        let is_it = |one: &Unfinished| (one.place.0, &one.place.1) == (spi, link);
        let place = self.unfinished.iter().position(is_it)?;
        Some(self.unfinished.remove(place))
    }

    /// Puts it into force, if that is still possible: meanwhile the same may have come to stand otherwise.
    fn finish(&mut self, cx: &mut Cx, at: usize, unfinished: Unfinished) -> Result<(), Payload> {
        let Unfinished { what, shared, secrets, nonces, .. } = unfinished;
        match what {
            What::Child(sa, replaces) => {
                let old = self.may_have_child(at, replaces.as_ref())?;
                let agreed = (shared.as_ref(), &secrets);
                let keys =
                    self.sas[at].keys.child_keys_additionally(&sa.suite, (&nonces.0, &nonces.1), agreed);
                match old {
                    Some(old) => self.add_replacement(cx, old, (*sa, keys), lowest(&nonces.0, &nonces.1)),
                    None => self.add_child(cx, (*sa, keys)),
                }
            }
            What::Ike(suite, spis) => {
                let shared = shared.filter(|_| self.may_rekey_ike(at));
                let shared = shared.ok_or_else(|| flag(NotifyType::TEMPORARY_FAILURE))?;
                let agreed = (&shared, &secrets);
                let keys = self.sas[at].keys.rekey_additionally(suite, agreed, (&nonces.0, &nonces.1), spis);
                let sa = self.next_sa(at, Role::Responder, spis, keys);
                let rival = IkeRival { spi: spis.1, lowest: lowest(&nonces.0, &nonces.1) };
                self.add_ike_replacement(cx, at, sa, rival);
            }
        }
        Ok(())
    }

    /// The place of the pair that is replaced, if one is; the refusal if it can no longer be, or the IKE SA is not to
    /// have new ones.
    fn may_have_child(&self, at: usize, replaces: Option<&Notify>) -> Result<Option<usize>, Payload> {
        let is_rekeying = self.sas[at].pending.iter().any(|(_, pending)| pending.is_ike_rekeying());
        if is_rekeying || self.sas[at].fate != Fate::Lives {
            return Err(flag(NotifyType::TEMPORARY_FAILURE));
        }
        replaces.map(|rekey| self.to_rekey(at, rekey)).transpose()
    }

    /// Forgets those that the peer does not go on with.
    pub(super) fn forget_unfinished(&mut self, now: Duration) {
        self.unfinished.retain(|one| one.until > now);
    }
}
