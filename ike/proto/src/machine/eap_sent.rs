//! The initiator's IKE_AUTH as a user, by EAP (RFC 7296 section 2.16, RFC 5998).

use super::auth_answer;
use super::auth_sent::AuthSent;
use super::core::Cx;
use super::eap_answered::MAX_ROUNDS;
use super::message::Message;
use super::tunnel::Tunnel;
use crate::configuration::{EapUser, LocalMethod, RemoteMethod};
use crate::eap::{Msk, Peer, Reply};
use crate::identity::Identity;
use crate::wire::{Identification, Payload};

const ONLY_INITIATORS: &str = "only an initiator is a user: with EAP as remote.auth the peer has to initiate";

/// Where we are as a user.
pub(super) enum AsUser {
    /// The responder has not said who it is yet.
    Begun(EapUser),
    /// It asks for our proof.
    Asked(Responder, Box<Peer>, u32),
    /// It has accepted us, and is to show that it has the same key.
    Accepted(Responder, Option<Msk>),
}

/// Who the responder says it is: proved, unless EAP is to do that.
pub(super) struct Responder {
    identity: Identity,
    id: Identification,
}

impl AsUser {
    /// As the connection says; a sentence if it can have no users.
    pub(super) fn of(local: &LocalMethod, remote: RemoteMethod) -> Result<Option<Self>, String> {
        match (local, remote) {
            (_, RemoteMethod::Radius) => Err(ONLY_INITIATORS.to_owned()),
            (LocalMethod::Eap(user), RemoteMethod::Eap(method))
                if user.method != method || !method.stands_alone() =>
            {
                Err("remote.auth names an EAP method that does not prove both ends; set it to pubkey or psk"
                    .to_owned())
            }
            (LocalMethod::Eap(user), _) => Ok(Some(Self::Begun(user.clone()))),
            (_, RemoteMethod::Eap(_)) => Err(ONLY_INITIATORS.to_owned()),
            _ => Ok(None),
        }
    }
}

impl AuthSent {
    /// A response while we are a user.
    pub(super) fn on_user_answer(
        mut self: Box<Self>,
        cx: &mut Cx,
        stage: AsUser,
        message: &Message,
    ) -> Option<Tunnel> {
        let has_more = message.authentication.is_some() || message.eap.is_some();
        if let Some(error) = message.error().filter(|_| !has_more) {
            let problem = self.refused(error.kind);
            return self.fail(cx, problem);
        }
        match stage {
            AsUser::Begun(user) => match self.responder(cx, message) {
                Ok(responder) => {
                    let is_proved = message.authentication.is_some();
                    if let Some(gateway) = self.sent_to(message).filter(|_| is_proved) {
                        return self.on_early_redirect(cx, &gateway);
                    }
                    let remote = self.head.connection.remote.clone();
                    let peer = Peer::new(user, &self.local, responder.identity.clone(), remote);
                    self.converse(cx, responder, Box::new(peer), 0, message)
                }
                Err(problem) => self.reject(cx, problem),
            },
            AsUser::Asked(responder, peer, rounds) => self.converse(cx, responder, peer, rounds, message),
            AsUser::Accepted(Responder { identity, id }, key) => {
                let accepted = self
                    .take_keys(message)
                    .and_then(|()| self.proofs().verify_by_key(Some(&id), key.as_ref(), message));
                match accepted {
                    Ok(()) => self.on_proved(cx, message, identity),
                    Err(problem) => self.reject(cx, problem),
                }
            }
        }
    }

    /// Who the responder is. Its proof comes before ours, or with it.
    fn responder(&self, cx: &Cx, message: &Message) -> Result<Responder, String> {
        let is_by_eap = self.head.connection.remote.method.is_eap();
        let identity = match &message.authentication {
            None if is_by_eap => self.claimed(message)?,
            // Whose key is mixed in is said only with our proof (RFC 8784 section 3).
            _ => self.verify(cx, &self.plain_proofs(), message)?,
        };
        let id = message.responder.clone().ok_or("the peer does not say who it is")?;
        Ok(Responder { identity, id })
    }

    fn converse(
        mut self: Box<Self>,
        cx: &mut Cx,
        responder: Responder,
        mut peer: Box<Peer>,
        rounds: u32,
        message: &Message,
    ) -> Option<Tunnel> {
        let Some(packet) = message.eap.as_ref().filter(|_| rounds < MAX_ROUNDS) else {
            let problem = "the peer does not ask for our proof by EAP, or does not come to an end of it; compare auth of both sides";
            return self.reject(cx, problem.to_owned());
        };
        match cx.with_means(|means| peer.handle(means, packet)) {
            Reply::Answer(answer) => {
                self.as_user = Some(AsUser::Asked(responder, peer, rounds + 1));
                Some(self.ask(cx, vec![Payload::Eap(answer)]))
            }
            Reply::Success(key) => match self.last_payloads(key.as_ref()) {
                Ok(payloads) => {
                    self.as_user = Some(AsUser::Accepted(responder, key));
                    Some(self.ask(cx, payloads))
                }
                Err(problem) => self.fail(cx, problem),
            },
            Reply::Failure(problem) => {
                cx.core.counters.authentication_failed += 1;
                self.fail(cx, problem)
            }
            Reply::Refusal(problem) => self.reject(cx, problem),
        }
    }

    /// That we have the key of the conversation.
    fn last_payloads(&self, key: Option<&Msk>) -> Result<Vec<Payload>, String> {
        let id = auth_answer::our_id(&self.local)?;
        let mut payloads = vec![self.proofs().prove_by_key(&id, key)];
        payloads.extend(self.ppk_payloads(|proofs| Ok(proofs.prove_by_key(&id, key)))?);
        Ok(payloads)
    }
}
