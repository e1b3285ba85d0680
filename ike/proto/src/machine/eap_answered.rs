//! The responder's IKE_AUTH with EAP (RFC 7296 section 2.16, RFC 5998): we have proved who we are, or do so by the
//! method, and a user is asked for its proof.

use std::time::Duration;

use super::auth_answer::{self, Accepted, Half};
use super::core::Cx;
use super::eap_elsewhere::Elsewhere;
use super::message::Message;
use super::ppk;
use super::receive::{Bad, Opened};
use super::tunnel::Tunnel;
use super::up::Peers;
use crate::configuration::{EapMethod, LocalMethod};
use crate::eap::{Means, Msk, Server, Turn};
use crate::host::Path;
use crate::identity::Identity;
use crate::wire::{Datagram, ExchangeType, Identification, NotifyType, Payload};

/// Requests that one conversation may have: more than certificates in small fragments need.
pub(super) const MAX_ROUNDS: u32 = 64;
/// How long a wrong password is not answered.
const DELAY: Duration = Duration::from_secs(2);
/// How long to wait when the host has no IV.
pub(super) const NO_IV: Duration = Duration::from_millis(100);

/// A user is being asked. It is not authenticated.
pub(super) struct EapAnswered {
    pub(super) half: Half,
    pub(super) judge: Judge,
    /// The first request of IKE_AUTH: what the user asks for.
    first: Message,
    peers: Peers,
    our_id: Identification,
    /// Who the user is, and the key, once the method has ended well.
    pub(super) proved: Option<(Identity, Option<Msk>)>,
    rounds: u32,
    /// An answer that has to wait.
    held: Option<Held>,
    /// When to try again to tell what was judged elsewhere.
    pub(super) again: Option<Duration>,
}

/// Who judges the user's proof.
pub(super) enum Judge {
    /// We do.
    Here(Box<Server>),
    /// Somebody else.
    Elsewhere(Box<Elsewhere>),
}

/// An answer that has to wait until then.
struct Held {
    due: Duration,
    message_id: u32,
    payloads: Vec<Payload>,
}

/// Answers the first request of IKE_AUTH, which has no AUTH payload.
pub(super) fn begin(
    cx: &mut Cx,
    half: Half,
    (message_id, first): (u32, Message),
    peers: Peers,
    method: EapMethod,
) -> Tunnel {
    let (our_id, mut payloads) = match introduce(cx, &half, &first, &peers, method) {
        Ok(introduced) => introduced,
        Err(problem) => return auth_answer::reject(cx, half, request(message_id), problem),
    };
    let connection = &half.head.connection;
    let ours = (peers.local.clone(), connection.local.method.certificates());
    let (remote, claimed) = (connection.remote.clone(), peers.remote.clone());
    let (server, packet) = match cx.with_means(|means| Server::begin(means, method, ours, remote, claimed)) {
        Ok(begun) => begun,
        Err(problem) => return auth_answer::reject(cx, half, request(message_id), problem),
    };
    payloads.push(Payload::Eap(packet));
    let mut state = EapAnswered::new(half, Judge::Here(Box::new(server)), (first, peers, our_id));
    state.respond(cx, message_id, &payloads);
    Tunnel::EapAnswered(Box::new(state))
}

/// Who we are and, unless the method proves that, our proof.
fn introduce(
    cx: &mut Cx,
    half: &Half,
    first: &Message,
    peers: &Peers,
    method: EapMethod,
) -> Result<(Identification, Vec<Payload>), String> {
    if let LocalMethod::Eap(ours) = &half.head.connection.local.method {
        may_stand_alone(first, ours.method, method)?;
        let our_id = auth_answer::our_id(&peers.local)?;
        return Ok((our_id.clone(), vec![Payload::IdentificationResponder(our_id)]));
    }
    introduce_by_key(cx, half, peers)
}

/// Who we are, and our proof.
pub(super) fn introduce_by_key(
    cx: &Cx,
    half: &Half,
    peers: &Peers,
) -> Result<(Identification, Vec<Payload>), String> {
    let our_id = auth_answer::our_id(&peers.local)?;
    let (certificates, proof) = half.proofs(None).prove(cx, &peers.local, &peers.remote, &our_id)?;
    let mut payloads = vec![Payload::IdentificationResponder(our_id.clone())];
    payloads.extend(certificates);
    payloads.push(proof);
    Ok((our_id, payloads))
}

/// RFC 5998 section 3: without AUTH and certificates of ours, if the peer has said that it agrees, and the method
/// proves both ends.
fn may_stand_alone(first: &Message, ours: EapMethod, theirs: EapMethod) -> Result<(), String> {
    if ours != theirs || !ours.stands_alone() {
        return Err(
            "the method does not prove both ends, and local.auth names nothing else; set it".to_owned()
        );
    }
    if !first.has(NotifyType::EAP_ONLY_AUTHENTICATION) {
        return Err(
            "the peer wants another proof of us than EAP (RFC 5998), and local.auth names none; set it"
                .to_owned(),
        );
    }
    Ok(())
}

/// A request of IKE_AUTH.
pub(super) fn request(message_id: u32) -> (ExchangeType, u32) {
    (ExchangeType::IKE_AUTH, message_id)
}

/// Whether an INFORMATIONAL request says that there is to be no IKE SA.
fn is_end(message: &Message) -> bool {
    message.has(NotifyType::AUTHENTICATION_FAILED) || !message.deletes.is_empty()
}

impl EapAnswered {
    pub(super) fn new(
        half: Half,
        judge: Judge,
        (first, peers, our_id): (Message, Peers, Identification),
    ) -> Self {
        Self { half, judge, first, peers, our_id, proved: None, rounds: 0, held: None, again: None }
    }

    pub(super) fn respond(&mut self, cx: &mut Cx, message_id: u32, payloads: &[Payload]) {
        let Half { head, sa, .. } = &mut self.half;
        sa.respond(cx, (head.path, &head.connection), (ExchangeType::IKE_AUTH, message_id), payloads);
    }

    /// What claims to be another request of IKE_AUTH.
    pub(super) fn on_sealed(mut self: Box<Self>, cx: &mut Cx, path: Path, datagram: &Datagram) -> Tunnel {
        match self.half.sa.receive(cx, path, datagram) {
            Some(opened) if !opened.is_response => {
                self.half.head.path = path;
                self.on_request(cx, opened)
            }
            _ => Tunnel::EapAnswered(self),
        }
    }

    fn on_request(mut self: Box<Self>, cx: &mut Cx, opened: Opened) -> Tunnel {
        let Opened { exchange, message_id, content, .. } = opened;
        self.rounds += 1;
        let message = match content {
            Ok(message) if exchange == ExchangeType::IKE_AUTH => message,
            Ok(message) if exchange == ExchangeType::INFORMATIONAL && is_end(&message) => {
                return self.given_up(cx, message_id);
            }
            Err(Bad::Critical(kind)) => {
                return auth_answer::critical(cx, self.half, request(message_id), kind);
            }
            _ => return auth_answer::no_authentication(cx, self.half, request(message_id)),
        };
        if self.rounds > MAX_ROUNDS {
            let problem = "the user's EAP conversation does not come to an end; look at its log".to_owned();
            return auth_answer::reject(cx, self.half, request(message_id), problem);
        }
        match (self.proved.take(), &message.eap) {
            (Some((user, key)), _) => self.finish(cx, message_id, message, (user, key.as_ref())),
            (None, Some(packet)) if message.authentication.is_none() => self.converse(cx, message_id, packet),
            (None, _) => {
                let problem = "the peer breaks off EAP before it has proved who it is".to_owned();
                auth_answer::reject(cx, self.half, request(message_id), problem)
            }
        }
    }

    /// The peer does not want our part of the conversation, and has not said so in EAP (RFC 7296 section 2.21.2).
    fn given_up(self, cx: &mut Cx, message_id: u32) -> Tunnel {
        cx.core.counters.authentication_failed += 1;
        let problem = match &self.judge {
            Judge::Here(server) => server.given_up(),
            Judge::Elsewhere(elsewhere) => elsewhere.given_up(),
        };
        auth_answer::close(cx, self.half, (ExchangeType::INFORMATIONAL, message_id), &[], problem)
    }

    fn converse(mut self: Box<Self>, cx: &mut Cx, message_id: u32, packet: &[u8]) -> Tunnel {
        let Judge::Here(server) = &mut self.judge else {
            return self.pass_on(cx, message_id, packet);
        };
        match cx.with_means(|means| server.handle(means, packet)) {
            Turn::Ask(packet) => self.respond(cx, message_id, &[Payload::Eap(packet)]),
            Turn::AskLater(packet) => {
                let due = cx.now.monotonic.saturating_add(DELAY);
                self.held = Some(Held { due, message_id, payloads: vec![Payload::Eap(packet)] });
            }
            Turn::Success { packet, user, key } => {
                self.proved = Some((user, key));
                self.respond(cx, message_id, &[Payload::Eap(packet)]);
            }
            Turn::Failure { packet, problem } => {
                cx.core.counters.authentication_failed += 1;
                return auth_answer::refuse(
                    cx,
                    self.half,
                    request(message_id),
                    Payload::Eap(packet),
                    problem,
                );
            }
        }
        Tunnel::EapAnswered(self)
    }

    /// The last request: both ends show that they have the key of the conversation, which binds it to this IKE SA and
    /// to the identities that were told in it.
    fn finish(
        mut self: Box<Self>,
        cx: &mut Cx,
        message_id: u32,
        mut message: Message,
        (user, key): (Identity, Option<&Msk>),
    ) -> Tunnel {
        match self.judge(cx, &mut message, user, key) {
            Ok(accepted) => {
                let granted = match &mut self.judge {
                    Judge::Here(_) => None,
                    Judge::Elsewhere(elsewhere) => elsewhere.granted(),
                };
                self.half.establish(cx, message_id, &self.first, Accepted { granted, ..accepted })
            }
            Err(problem) => auth_answer::reject(cx, self.half, request(message_id), problem),
        }
    }

    fn judge(
        &self,
        cx: &Cx,
        message: &mut Message,
        user: Identity,
        key: Option<&Msk>,
    ) -> Result<Accepted, String> {
        let ppk = self.half.ppk(cx, message)?;
        let proofs = self.half.proofs(ppk.as_ref());
        proofs.verify_by_key(self.first.initiator.as_ref(), key, message)?;
        let mut payloads = vec![proofs.prove_by_key(&self.our_id, key)];
        payloads.extend(ppk::agreed(ppk.as_ref()));
        let replaced = self.half.replaced(cx, &self.first, &user)?;
        let peers = Peers { user: Some(user), ..self.peers.clone() };
        Ok(Accepted { peers, payloads, replaced, ppk, resumed: None, granted: None })
    }

    /// When something is due: an answer, or the end (RFC 7296 section 2.6).
    pub(super) fn due(&self) -> Duration {
        let held = self.held.as_ref().map(|held| held.due);
        [held, self.again].into_iter().flatten().min().unwrap_or(self.half.deadline).min(self.half.deadline)
    }

    pub(super) fn on_timeout(mut self: Box<Self>, cx: &mut Cx) -> Option<Tunnel> {
        if cx.now.monotonic >= self.half.deadline {
            cx.core.counters.ike_failed += 1;
            let peer = &self.peers.remote;
            let problem = format!("user \"{peer}\" has not proved who it is in time; look at its log");
            self.half.head.failed(cx, problem);
            return None;
        }
        if self.again.is_some_and(|at| at <= cx.now.monotonic) {
            return Some(self.tell_kept(cx));
        }
        match self.held.take() {
            Some(held) if !self.half.sa.can_seal(cx) => {
                let due = cx.now.monotonic.saturating_add(NO_IV);
                self.held = Some(Held { due, ..held });
            }
            Some(Held { message_id, payloads, .. }) => self.respond(cx, message_id, &payloads),
            None => {}
        }
        Some(Tunnel::EapAnswered(self))
    }
}

impl Cx<'_> {
    /// Lets a conversation of EAP go on.
    pub(super) fn with_means<T>(&mut self, work: impl FnOnce(&mut Means) -> T) -> T {
        let Self { host, core, now, .. } = self;
        let random = &mut |octets: &mut [u8]| host.random(octets);
        work(&mut Means { credentials: &core.credentials, random, unix: now.unix })
    }
}
