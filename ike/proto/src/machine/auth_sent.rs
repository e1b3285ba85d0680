//! The initiator's IKE_AUTH (RFC 7296 sections 1.2 and 2.15).

use super::auth_answer;
use super::child_offer::{ChildOffer, Dynamic, everything, resolve};
use super::core::Cx;
use super::crash_detection;
use super::eap_sent::AsUser;
use super::head::{Attempt, Head};
use super::ike_sa::IkeSa;
use super::init_sent::Initialised;
use super::inner;
use super::message::{Message, flag, notify};
use super::mobility::{self, Mobility};
use super::order::Order;
use super::pending::Pending;
use super::ppk::{self, Mixed};
use super::proof::{self, Proofs};
use super::receive::{Bad, Opened};
use super::redirect_follow;
use super::replay_counters;
use super::requests::Only;
use super::resumption;
use super::synchronization;
use super::tunnel::Tunnel;
use super::up::{Peers, Up};
use super::waiting;
use crate::configuration::{Childless, RemoteMethod, Unique};
use crate::crypto::Role;
use crate::host::DownReason;
use crate::identity::Identity;
use crate::wire::{CertificateEncoding, ExchangeType, Identification, NotifyType, Payload};

/// Our IKE_AUTH request is outstanding.
pub(super) struct AuthSent {
    pub(super) head: Head,
    pub(super) attempt: Attempt,
    pub(super) sa: IkeSa,
    pub(super) begun: Initialised,
    pub(super) local: Identity,
    /// `None` if the connection has no child, or it is to come later.
    pub(super) offer: Option<ChildOffer>,
    /// Keys that the request offers to use.
    ppk: Option<Mixed>,
    /// Where we are if EAP is to prove who we are.
    pub(super) as_user: Option<AsUser>,
    /// What the present request says.
    asked: Vec<Payload>,
}

impl AuthSent {
    /// Sends the request.
    pub(super) fn begin(
        cx: &mut Cx,
        head: Head,
        attempt: Attempt,
        sa: IkeSa,
        begun: Initialised,
    ) -> Option<Tunnel> {
        let local = match &begun.resumed {
            Some(resumed) => resumed.session.peers.local.clone(),
            None => cx.core.credentials.local_identity(&head.connection.local, head.path.local.ip()),
        };
        let prepared = is_childless(&head, &begun).and_then(|is_childless| {
            let is_mixed = begun.resumed.is_some();
            let ppk = if is_mixed { None } else { ppk::for_request(cx, &head.connection, &begun, &sa.keys)? };
            Ok((is_childless, ppk))
        });
        let (is_childless, ppk) = match prepared {
            Ok(prepared) => prepared,
            Err(problem) => return waiting::after_failure(cx, head, attempt, problem),
        };
        let nonce = begun.initiator_nonce.clone();
        let offer = if is_childless { None } else { first_offer(cx, &head, &attempt, nonce) };
        let (as_user, asked) = (None, Vec::new());
        let mut state = Box::new(Self { head, attempt, sa, begun, local, offer, ppk, as_user, asked });
        if state.begun.resumed.is_some() {
            return Some(state.begin_resumed(cx));
        }
        let connection = &state.head.connection;
        let begun = AsUser::of(&connection.local.method, connection.remote.method).and_then(|as_user| {
            state.as_user = as_user;
            state.payloads(cx)
        });
        match begun {
            Ok(payloads) => Some(state.ask(cx, payloads)),
            Err(problem) => state.fail(cx, problem),
        }
    }

    /// The next request of IKE_AUTH.
    pub(super) fn ask(mut self: Box<Self>, cx: &mut Cx, payloads: Vec<Payload>) -> Tunnel {
        self.asked = payloads;
        self.send(cx);
        Tunnel::AuthSent(self)
    }

    /// Without an IV the attempt waits as if the request had been lost.
    fn send(&mut self, cx: &mut Cx) {
        let Self { head, sa, asked, .. } = self;
        sa.request(
            cx,
            (head.path, &head.connection),
            (ExchangeType::IKE_AUTH, asked),
            Pending::Authentication,
        );
    }

    /// With the keys that the request offers to use.
    pub(super) fn proofs(&self) -> Proofs<'_> {
        let keys = self.ppk.as_ref().map_or(&self.sa.keys, |ppk| &ppk.keys);
        Proofs { keys, ..self.plain_proofs() }
    }

    /// With the keys that IKE_SA_INIT has given.
    pub(super) fn plain_proofs(&self) -> Proofs<'_> {
        Proofs { head: &self.head, keys: &self.sa.keys, begun: &self.begun, role: Role::Initiator }
    }

    /// Which key our proof has in it, and, if it may be left out, the proof without (RFC 8784 section 3).
    pub(super) fn ppk_payloads(
        &self,
        prove: impl FnOnce(&Proofs) -> Result<Payload, String>,
    ) -> Result<Vec<Payload>, String> {
        let Some(ppk) = &self.ppk else { return Ok(Vec::new()) };
        let mut payloads: Vec<_> = ppk.identification().into_iter().collect();
        if !self.head.connection.ppk.is_required
            && let Payload::Authentication { data, .. } = prove(&self.plain_proofs())?
        {
            payloads.push(notify(NotifyType::NO_PPK_AUTH, data));
        }
        Ok(payloads)
    }

    /// A ticket whose identity cannot be said does not exist.
    fn begin_resumed(self: Box<Self>, cx: &mut Cx) -> Tunnel {
        if let Ok(payloads) = self.payloads(cx) {
            return self.ask(cx, payloads);
        }
        let Self { head, attempt, .. } = *self;
        resumption::fall_back(cx, head, attempt)
    }

    fn payloads(&self, cx: &mut Cx) -> Result<Vec<Payload>, String> {
        let connection = &self.head.connection;
        let remote = &connection.remote;
        let id = auth_answer::our_id(&self.local)?;
        let proof = self.first_proof(cx, &id)?;
        let resumed = self.begun.resumed.as_ref();
        let mut payloads = vec![Payload::IdentificationInitiator(id)];
        payloads.extend(proof);
        payloads.extend(self.is_initial_contact(cx).then(|| flag(NotifyType::INITIAL_CONTACT)));
        let asks = remote.method == RemoteMethod::Signature && connection.send_certificate_request;
        if asks && resumed.is_none() {
            payloads.push(certificate_request(cx, &self.head));
        }
        payloads.extend(remote.identity.to_wire().map(Payload::IdentificationResponder));
        payloads.extend(crash_detection::token(
            cx,
            Role::Initiator,
            (self.sa.initiator_spi, self.sa.responder_spi),
        ));
        payloads.extend(synchronization::announcement(connection));
        payloads.extend(replay_counters::announcement(connection));
        payloads.extend(inner::request(
            &self.head,
            resumed.map_or(&self.attempt.inside, |resumed| &resumed.addresses),
        ));
        payloads.extend(resumption::request(connection));
        payloads.extend(self.offer.iter().flat_map(ChildOffer::first_payloads));
        payloads.extend(window_size(connection.window));
        payloads.extend(self.speaks_mobike(cx).0);
        Ok(payloads)
    }

    /// That we speak RFC 4555, and at which further addresses we are.
    fn speaks_mobike(&self, cx: &Cx) -> (Vec<Payload>, Vec<std::net::IpAddr>) {
        let Head { connection, path, .. } = &self.head;
        if !mobility::speaks(connection) {
            return Default::default();
        }
        mobility::announcement(cx.host, connection, *path, true)
    }

    /// Certificates and AUTH, or nothing: so a user asks to be asked (RFC 7296 section 2.16), and says whether EAP may
    /// be the responder's only proof as well (RFC 5998 section 3).
    fn first_proof(&self, cx: &Cx, id: &Identification) -> Result<Vec<Payload>, String> {
        let remote = &self.head.connection.remote;
        if self.begun.resumed.is_some() {
            return Ok(vec![self.proofs().prove_resumed(id)]);
        }
        if self.as_user.is_some() {
            let is_by_eap = remote.method.is_eap();
            return Ok(is_by_eap.then(|| flag(NotifyType::EAP_ONLY_AUTHENTICATION)).into_iter().collect());
        }
        let prove = |proofs: &Proofs| proofs.prove(cx, &self.local, &remote.identity, id);
        let (mut payloads, proof) = prove(&self.proofs())?;
        payloads.push(proof);
        payloads.extend(self.ppk_payloads(|proofs| Ok(prove(proofs)?.1))?);
        Ok(payloads)
    }

    /// Whether this will be the only IKE SA with that peer (RFC 7296 section 2.4).
    fn is_initial_contact(&self, cx: &Cx) -> bool {
        let remote = &self.head.connection.remote.identity;
        let is_known = cx.core.index.peers.contains_key(remote);
        self.head.connection.unique != Unique::Never && !remote.is_pattern() && !is_known
    }

    /// The response.
    pub(super) fn on_message(mut self: Box<Self>, cx: &mut Cx, opened: Opened) -> Option<Tunnel> {
        // Nobody may ask anything of an IKE SA whose initiator has not been answered. What the peer asks too early, or
        // what has overtaken its answer, it asks again.
        if !opened.is_response {
            self.sa.window.responses.forget(opened.message_id);
            return Some(Tunnel::AuthSent(self));
        }
        if opened.exchange != ExchangeType::IKE_AUTH {
            return Some(Tunnel::AuthSent(self));
        }
        self.sa.take_pending(opened.message_id);
        match opened.content {
            Ok(message) => self.on_answer(cx, &message),
            Err(Bad::Critical(kind)) => {
                self.fail(cx, format!("the peer answers IKE_AUTH with unknown payload {kind}"))
            }
            Err(Bad::Syntax) => {
                self.fail(cx, "the peer answers IKE_AUTH with a malformed message".to_owned())
            }
        }
    }

    fn on_answer(mut self: Box<Self>, cx: &mut Cx, message: &Message) -> Option<Tunnel> {
        if let Some(resumed) = self.begun.resumed.clone() {
            return self.on_resumed_answer(cx, message, &resumed.session.peers.remote);
        }
        if let Some(stage) = self.as_user.take() {
            return self.on_user_answer(cx, stage, message);
        }
        match (&message.authentication, message.error()) {
            (None, Some(error)) => {
                let problem = self.refused(error.kind);
                self.fail(cx, problem)
            }
            _ => match self.take_keys(message).and_then(|()| self.verify(cx, &self.proofs(), message)) {
                Ok(remote) => self.on_proved(cx, message, remote),
                Err(problem) => self.reject(cx, problem),
            },
        }
    }

    /// Whoever answers otherwise than the peer of the ticket would is answered by a whole new attempt.
    fn on_resumed_answer(
        self: Box<Self>,
        cx: &mut Cx,
        message: &Message,
        remote: &Identity,
    ) -> Option<Tunnel> {
        let proved = match (&message.authentication, message.error()) {
            (None, Some(error)) => Err(self.refused(error.kind)),
            _ => self.proofs().verify_resumed(remote, message.responder.as_ref(), message),
        };
        match proved {
            Ok(()) => self.on_proved(cx, message, remote.clone()),
            Err(problem) => self.fail(cx, problem),
        }
    }

    pub(super) fn refused(&self, kind: NotifyType) -> String {
        let (peer, local) = (self.head.peer(), &self.local);
        let ppk = if self.ppk.is_some() { ", and the postquantum preshared key," } else { "" };
        match kind {
            NotifyType::AUTHENTICATION_FAILED => format!(
                "peer {peer} does not accept us as \"{local}\"; compare identities and secrets or certificates{ppk} with the peer's, and look at its log"
            ),
            kind => format!("peer {peer} refuses IKE_AUTH: {kind}; look at its log"),
        }
    }

    /// The keys that the answer is proved with and the IKE SA goes on with.
    pub(super) fn take_keys(&mut self, message: &Message) -> Result<(), String> {
        let offered = self.ppk.take();
        self.ppk = ppk::of_response(&self.head.connection, offered, message)?;
        Ok(())
    }

    /// Who the responder says it is, if that is whom the connection is with.
    pub(super) fn claimed(&self, message: &Message) -> Result<Identity, String> {
        let id = message.responder.as_ref().ok_or("the peer does not say who it is")?;
        let remote = proof::identity(id)?;
        let expected = &self.head.connection.remote.identity;
        if expected.matches(&remote).is_none() {
            return Err(format!(
                "the peer is \"{remote}\" and not \"{expected}\"; mend remote.id of connection {}",
                self.head.connection.name
            ));
        }
        Ok(remote)
    }

    pub(super) fn verify(&self, cx: &Cx, proofs: &Proofs, message: &Message) -> Result<Identity, String> {
        let remote = self.claimed(message)?;
        let id = message.responder.as_ref().ok_or("the peer does not say who it is")?;
        proofs.verify(cx, &self.local, &remote, id, message)?;
        Ok(remote)
    }

    /// Tells the peer that it has not proved who it is (RFC 7296 section 2.21.2).
    pub(super) fn reject(mut self: Box<Self>, cx: &mut Cx, problem: String) -> Option<Tunnel> {
        cx.core.counters.authentication_failed += 1;
        let payloads = [flag(NotifyType::AUTHENTICATION_FAILED)];
        let Self { head, sa, .. } = &mut *self;
        let way = (head.path, &*head.connection);
        sa.request(cx, way, (ExchangeType::INFORMATIONAL, &payloads), Pending::Farewell);
        self.fail(cx, problem)
    }

    pub(super) fn fail(self: Box<Self>, cx: &mut Cx, problem: String) -> Option<Tunnel> {
        let Self { head, attempt, begun, .. } = *self;
        if begun.resumed.is_some() {
            head.failed(cx, problem);
            return Some(resumption::fall_back(cx, head, attempt));
        }
        waiting::after_failure(cx, head, attempt, problem)
    }

    pub(super) fn establish(self: Box<Self>, cx: &mut Cx, message: &Message, remote: Identity) -> Tunnel {
        let announced = self.speaks_mobike(cx).1;
        let Self { head, attempt, mut sa, begun, local, offer, ppk, .. } = *self;
        let ppk = ppk.map(|Mixed { keys, identity }| {
            sa.keys = keys;
            identity
        });
        sa.window.requests.set_limit(message.window_size().unwrap_or(1));
        sa.window.responses.set_limit(head.connection.window);
        if head.connection.unique == Unique::Replace {
            let others = auth_answer::others(cx, &head.connection, &remote).into_iter();
            let end = |id| Order::End { id, reason: DownReason::Replaced, silent: false };
            cx.core.orders.extend(others.map(end));
        }
        sa.take_token(message);
        redirect_follow::settle(cx, &attempt);
        let mut up = Up::new(cx, head, sa, Peers { local, remote, user: None });
        let resumed = begun.resumed.as_ref();
        up.ppk = ppk.or_else(|| resumed?.session.ppk.clone());
        up.begin_as_client(cx, resumed, message);
        up.can_synchronize = synchronization::is_agreed(&up.head.connection, message);
        up.can_synchronize_counters = replay_counters::is_agreed(&up.head.connection, message);
        up.redirection.is_follower = !up.head.connection.moving.follow_redirects.is_empty();
        up.redirection.trail = attempt.detour.trail.clone();
        if mobility::speaks(&up.head.connection) && message.has(NotifyType::MOBIKE_SUPPORTED) {
            up.roam(Mobility::begin(true, message, announced));
        }
        up.want(attempt.wanted.iter().skip(usize::from(offer.is_some())).cloned());
        up.short_lived = attempt.short_lived;
        up.take_addresses(cx, message);
        up.announce(cx);
        if let Some(offer) = offer {
            let nonces = (begun.initiator_nonce.as_slice(), begun.responder_nonce.as_slice());
            up.on_first_child(cx, &offer, message, nonces);
        }
        Box::new(up).proceed(cx)
    }

    /// Sends the request again, or gives up.
    pub(super) fn on_timeout(mut self: Box<Self>, cx: &mut Cx) -> Option<Tunnel> {
        match self.sa.repeat_only(cx, self.head.path) {
            Only::Unsent => {
                self.send(cx);
                Some(Tunnel::AuthSent(self))
            }
            Only::Again => Some(Tunnel::AuthSent(self)),
            Only::Enough => {
                let problem = format!(
                    "peer {} does not answer IKE_AUTH; large messages may be lost on the way: set fragmentation = force",
                    self.head.peer()
                );
                self.fail(cx, problem)
            }
        }
    }
}

/// Whether the first Child SA is set up after the IKE SA (RFC 6023); a sentence if it has to be and cannot.
fn is_childless(head: &Head, begun: &Initialised) -> Result<bool, String> {
    match head.connection.childless {
        Childless::Allow | Childless::Never => Ok(false),
        Childless::Prefer => Ok(begun.may_be_childless),
        Childless::Force if begun.may_be_childless => Ok(true),
        Childless::Force => Err(format!(
            "peer {} takes no IKE SA without a Child SA, and connection {} has childless = force; set it to prefer",
            head.peer(),
            head.connection.name
        )),
    }
}

fn first_offer(cx: &mut Cx, head: &Head, attempt: &Attempt, nonce: Vec<u8>) -> Option<ChildOffer> {
    let wanted = attempt.wanted.first()?;
    let asked = &head.connection.virtual_addresses;
    let dynamic = Dynamic { local: vec![head.path.local.ip()], remote: vec![head.peer()] };
    let is_dynamic = wanted.child.local.iter().all(crate::selector::ConfiguredSelector::is_dynamic);
    let local = if is_dynamic && !asked.is_empty() {
        everything(asked)
    } else {
        resolve(&wanted.child.local, &dynamic.local)
    };
    let remote = resolve(&wanted.child.remote, &dynamic.remote);
    let reqid =
        wanted.reqid.filter(|reqid| cx.claim_reqid(*reqid)).unwrap_or_else(|| cx.reqid(head.segment()));
    Some(ChildOffer {
        nonce,
        is_first: true,
        ..ChildOffer::new(cx, head.segment(), &wanted.child, reqid, (local, remote))
    })
}

/// CERTREQ with the authorities that we trust.
pub(super) fn certificate_request(cx: &Cx, head: &Head) -> Payload {
    let authorities = cx.core.credentials.certificate_request(&head.connection.remote);
    Payload::CertificateRequest { encoding: CertificateEncoding::X509_SIGNATURE, authorities }
}

/// SET_WINDOW_SIZE, unless it is what everybody expects (RFC 7296 section 2.3).
pub(super) fn window_size(window: u32) -> Option<Payload> {
    (window > 1).then(|| notify(NotifyType::SET_WINDOW_SIZE, window.to_be_bytes()))
}
