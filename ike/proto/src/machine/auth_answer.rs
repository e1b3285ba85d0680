//! The responder's IKE_AUTH (RFC 7296 sections 1.2, 2.15, 2.21.2).

use std::sync::Arc;
use std::time::Duration;

use super::auth_sent::window_size;
use super::child_answer::{Asked, Granted, Refusal};
use super::core::{Cx, Id, InitKey};
use super::crash_detection;
use super::head::Head;
use super::ike_sa::IkeSa;
use super::init_answered::candidates;
use super::init_sent::Initialised;
use super::lingering::Lingering;
use super::message::{Message, flag, notify};
use super::mobility::{self, Mobility};
use super::order::Order;
use super::ppk::{self, Mixed};
use super::proof::{self, Proofs};
use super::receive::{Bad, Opened};
use super::replay_counters;
use super::resumption::{self, Resumed};
use super::synchronization;
use super::tunnel::Tunnel;
use super::up::{Peers, Up};
use super::{eap_answered, eap_elsewhere, session};
use crate::configuration::{Childless, Connection, RemoteMethod, Unique};
use crate::crypto::Role;
use crate::host::{DownReason, Moment};
use crate::identity::Identity;
use crate::proposal::select_ike;
use crate::wire::{ExchangeType, Identification, NotifyType, Payload, PayloadType, Proposal};

/// An IKE SA whose peer is not authenticated.
pub(super) struct Half {
    pub(super) head: Head,
    pub(super) begun: Initialised,
    pub(super) chosen: Proposal,
    pub(super) sa: IkeSa,
    /// The request that began it.
    pub(super) origin: (InitKey, bool),
    /// When the peer has to be authenticated (monotonic).
    pub(super) deadline: Duration,
}

/// Who the peer turned out to be, and who we are to it.
pub(super) struct Accepted {
    pub(super) peers: Peers,
    pub(super) payloads: Vec<Payload>,
    /// Tunnels that this one replaces.
    pub(super) replaced: Vec<Id>,
    /// Keys that are used from now on.
    pub(super) ppk: Option<Mixed>,
    /// What a ticket has brought back.
    pub(super) resumed: Option<Resumed>,
    /// What a user was granted who was judged elsewhere.
    pub(super) granted: Option<session::Granted>,
}

/// Works on the first sealed message of a half-open IKE SA.
pub(super) fn answer(cx: &mut Cx, mut half: Half, opened: Opened) -> Tunnel {
    let (message_id, request) = (opened.message_id, (opened.exchange, opened.message_id));
    if half.lacks_key_exchanges() {
        let problem = "the peer has left out a key exchange that was agreed on".to_owned();
        return refuse(cx, half, request, flag(NotifyType::INVALID_SYNTAX), problem);
    }
    let mut message = match opened.content {
        Ok(message) if opened.exchange == ExchangeType::IKE_AUTH => message,
        Err(Bad::Critical(kind)) => return critical(cx, half, request, kind),
        _ => return no_authentication(cx, half, request),
    };
    if mobility::speaks(&half.head.connection) && mobility::has_met_nat(&message, half.head.path) {
        let problem = format!("peer {} forbids NATs, and there is one", half.head.peer());
        return refuse(cx, half, request, flag(NotifyType::UNEXPECTED_NAT_DETECTED), problem);
    }
    if let Some(resumed) = half.begun.resumed.take() {
        return resumption::answer(cx, half, message_id, &message, resumed);
    }
    let peers = match half.recognize(cx, &message) {
        Ok(peers) => peers,
        Err(problem) => return reject(cx, half, request, problem),
    };
    match half.head.connection.remote.method {
        RemoteMethod::Eap(method) => {
            return eap_answered::begin(cx, half, (message_id, message), peers, method);
        }
        RemoteMethod::Radius => return eap_elsewhere::begin(cx, half, (message_id, message), peers),
        RemoteMethod::PreSharedKey | RemoteMethod::Signature => {}
    }
    match half.accept(cx, &mut message, peers) {
        Ok(accepted) => half.establish(cx, message_id, &message, accepted),
        Err(problem) => reject(cx, half, request, problem),
    }
}

/// The peer sent what cannot be ignored, and is not known.
pub(super) fn critical(cx: &mut Cx, half: Half, request: (ExchangeType, u32), kind: PayloadType) -> Tunnel {
    let refusal = notify(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, [kind.0]);
    let problem = format!("the peer sent a payload of type {kind}, which is critical and unknown");
    refuse(cx, half, request, refusal, problem)
}

/// The peer sent something else.
pub(super) fn no_authentication(cx: &mut Cx, half: Half, request: (ExchangeType, u32)) -> Tunnel {
    let refusal = flag(NotifyType::INVALID_SYNTAX);
    refuse(cx, half, request, refusal, "the peer sent something else than IKE_AUTH".to_owned())
}

/// The peer is not who it says it is: one answer for an unknown identity and a wrong proof (RFC 7296 section 2.21.2).
pub(super) fn reject(cx: &mut Cx, half: Half, request: (ExchangeType, u32), problem: String) -> Tunnel {
    cx.core.counters.authentication_failed += 1;
    refuse(cx, half, request, flag(NotifyType::AUTHENTICATION_FAILED), problem)
}

/// Answers by an error alone. The IKE SA is over; the answer is kept for repetitions of the request.
pub(super) fn refuse(
    cx: &mut Cx,
    half: Half,
    request: (ExchangeType, u32),
    refusal: Payload,
    problem: String,
) -> Tunnel {
    close(cx, half, request, &[refusal], problem)
}

/// The IKE SA is over, after this answer.
pub(super) fn close(
    cx: &mut Cx,
    half: Half,
    request: (ExchangeType, u32),
    answer: &[Payload],
    problem: String,
) -> Tunnel {
    let Half { head, mut sa, origin, .. } = half;
    sa.respond(cx, (head.path, &head.connection), request, answer);
    cx.core.counters.ike_failed += 1;
    head.failed(cx, problem);
    Lingering::refused(cx, head, sa, origin)
}

impl Half {
    /// Who the peer says it is, and who we are to it, by the connection that fits both best.
    fn recognize(&mut self, cx: &mut Cx, message: &Message) -> Result<Peers, String> {
        let id = message.initiator.as_ref().ok_or("the peer does not say who it is")?;
        let remote = proof::identity(id)?;
        self.begun.certificates_asked = message.asks_for_x509();
        let Some(connection) = self.connection(cx, message, &remote)? else {
            return Err(self.unknown(cx, message, &remote));
        };
        self.head.connection = connection;
        let local =
            cx.core.credentials.local_identity(&self.head.connection.local, self.head.path.local.ip());
        Ok(Peers { local, remote, user: None })
    }

    /// With the IKE SA's keys, or with those of a postquantum preshared key.
    pub(super) fn proofs<'a>(&'a self, ppk: Option<&'a Mixed>) -> Proofs<'a> {
        let keys = ppk.map_or(&self.sa.keys, |ppk| &ppk.keys);
        Proofs { head: &self.head, keys, begun: &self.begun, role: Role::Responder }
    }

    /// The keys for a proof of the peer.
    pub(super) fn ppk(&self, cx: &Cx, message: &mut Message) -> Result<Option<Mixed>, String> {
        ppk::of_request(cx, &self.head.connection, &self.begun, &self.sa.keys, message)
    }

    /// The peer's proof, and our own.
    fn accept(&self, cx: &mut Cx, message: &mut Message, peers: Peers) -> Result<Accepted, String> {
        let Peers { local, remote, .. } = &peers;
        let id = message.initiator.clone().ok_or("the peer does not say who it is")?;
        let ppk = self.ppk(cx, message)?;
        let proofs = self.proofs(ppk.as_ref());
        proofs.verify(cx, local, remote, &id, message)?;
        let our_id = our_id(local)?;
        let (certificates, authentication) = proofs.prove(cx, local, remote, &our_id)?;
        let mut payloads = vec![Payload::IdentificationResponder(our_id)];
        payloads.extend(certificates);
        payloads.push(authentication);
        payloads.extend(ppk::agreed(ppk.as_ref()));
        let replaced = self.replaced(cx, message, remote)?;
        Ok(Accepted { peers, payloads, replaced, ppk, resumed: None, granted: None })
    }

    /// The connection that fits both identities best, among those between these addresses that accept what
    /// IKE_SA_INIT has chosen.
    fn connection(
        &self,
        cx: &Cx,
        message: &Message,
        remote: &Identity,
    ) -> Result<Option<Arc<Connection>>, String> {
        let asked = message.responder.as_ref().map(proof::identity).transpose()?;
        let mut best: Option<((u8, u8), &Arc<Connection>)> = None;
        for connection in candidates(cx, self.head.path) {
            let fit = self.fit(connection, message, asked.as_ref(), remote);
            if let Some(fit) = fit.filter(|fit| best.is_none_or(|(most, _)| *fit > most)) {
                best = Some((fit, connection));
            }
        }
        Ok(best.map(|(_, connection)| Arc::clone(connection)))
    }

    /// How well a connection fits: by what the peer calls us, then by who it is.
    fn fit(
        &self,
        connection: &Connection,
        message: &Message,
        asked: Option<&Identity>,
        remote: &Identity,
    ) -> Option<(u8, u8)> {
        // Who has no proof yet wants to be asked for one by EAP, and nobody else may (RFC 7296 section 2.16).
        let is_alike = match (&message.authentication, connection.remote.method) {
            (None, method) => method.is_eap(),
            (Some((kind, _)), RemoteMethod::PreSharedKey) => *kind == proof::SHARED_KEY,
            (Some((kind, _)), RemoteMethod::Signature) => *kind != proof::SHARED_KEY,
            (Some(_), RemoteMethod::Eap(_) | RemoteMethod::Radius) => false,
        };
        if !is_alike {
            return None;
        }
        select_ike(&connection.ike_proposals, std::slice::from_ref(&self.chosen))?;
        let ours = match asked {
            Some(asked) => connection.local.identity.matches(asked)?,
            None => 0,
        };
        Some((ours, connection.remote.identity.matches(remote)?))
    }

    fn unknown(&self, cx: &Cx, message: &Message, remote: &Identity) -> String {
        let names: Vec<_> =
            candidates(cx, self.head.path).map(|connection| connection.name.as_str()).collect();
        let asked = message.responder.as_ref().and_then(|id| proof::identity(id).ok());
        let asked = asked.map_or(String::new(), |asked| format!(" that asks for \"{asked}\""));
        format!(
            "no connection accepts peer \"{remote}\"{asked} with its way to authenticate; mend remote.id, local.id or auth of {}",
            names.join(" or "),
        )
    }

    /// Which tunnels of the same peer this one replaces (RFC 7296 section 2.4 and `unique`).
    pub(super) fn replaced(&self, cx: &Cx, message: &Message, remote: &Identity) -> Result<Vec<Id>, String> {
        let connection = &self.head.connection;
        let others = others(cx, connection, remote);
        match connection.unique {
            Unique::Never => Ok(Vec::new()),
            // To the peer there are no others. That is believed of tunnels for which it would have had to give the same
            // proof: who knows a secret that fits any identity must not end those of certificates.
            _ if message.has(NotifyType::INITIAL_CONTACT) => Ok(proved_alike(cx, connection, remote)),
            Unique::No => Ok(Vec::new()),
            Unique::Keep if !others.is_empty() => {
                Err(format!("\"{remote}\" has a tunnel already, and unique = keep refuses another one"))
            }
            Unique::Keep | Unique::Replace => Ok(others),
        }
    }

    pub(super) fn establish(
        self,
        cx: &mut Cx,
        message_id: u32,
        message: &Message,
        accepted: Accepted,
    ) -> Tunnel {
        let Self { head, begun, mut sa, origin: ((_, source), _), .. } = self;
        let Accepted { peers, mut payloads, replaced, ppk, resumed, granted } = accepted;
        let ppk = ppk.map(|Mixed { keys, identity }| {
            sa.keys = keys;
            identity
        });
        sa.window.requests.set_limit(message.window_size().unwrap_or(1));
        sa.window.responses.set_limit(head.connection.window);
        payloads.extend(window_size(head.connection.window));
        // Nobody is there to be told (RFC 7296 section 2.4, RFC 5723 section 4.3.4).
        let is_first = message.has(NotifyType::INITIAL_CONTACT) || resumed.is_some();
        // They may have the very address that this one is to have.
        for id in &replaced {
            cx.core.release_addresses(*id, cx.now.monotonic);
        }
        let ends =
            replaced.into_iter().map(|id| Order::End { id, reason: DownReason::Replaced, silent: is_first });
        cx.core.orders.extend(ends);
        sa.take_token(message);
        payloads.extend(crash_detection::token(cx, sa.role, (sa.initiator_spi, sa.responder_spi)));
        let mut up = Up::new(cx, head, sa, peers);
        up.can_synchronize = synchronization::is_agreed(&up.head.connection, message);
        payloads.extend(synchronization::announcement(&up.head.connection).filter(|_| up.can_synchronize));
        up.can_synchronize_counters = replay_counters::is_agreed(&up.head.connection, message);
        let counters = replay_counters::announcement(&up.head.connection);
        payloads.extend(counters.filter(|_| up.can_synchronize_counters));
        up.ppk = ppk;
        up.begin_as_server(cx, resumed);
        // Where it has received our IKE_SA_INIT response; where its IKE_AUTH says that it comes from proves nothing.
        up.dynamic.remote = vec![source.ip()];
        let (can_send, from) = begun.takes_redirects;
        up.redirection.can_send = can_send;
        if let Some(redirect) = up.redirect_at_once(cx, from) {
            payloads.push(redirect);
            up.announce(cx);
            up.respond(cx, 0, (ExchangeType::IKE_AUTH, message_id), &payloads);
            cx.store();
            return Tunnel::Up(Box::new(up));
        }
        payloads.extend(up.begin_session(cx, granted));
        payloads.extend(up.answer_ticket_request(cx, 0, message));
        payloads.extend(up.speak_mobike(cx, message));
        let given = up.give_addresses(cx, message);
        up.announce(cx);
        match given {
            Ok(reply) => {
                payloads.extend(reply);
                payloads.extend(up.grant_first(
                    cx,
                    message,
                    (&begun.initiator_nonce, &begun.responder_nonce),
                ));
            }
            Err(refusal) => {
                // Nor may it have the traffic of its outer address instead, by asking later.
                up.dynamic.remote.clear();
                payloads.push(up.refused(cx, refusal));
            }
        }
        up.respond(cx, 0, (ExchangeType::IKE_AUTH, message_id), &payloads);
        up.account(cx, Moment::Start);
        cx.store();
        Tunnel::Up(Box::new(up))
    }
}

/// Who we are, as a payload.
pub(super) fn our_id(local: &Identity) -> Result<Identification, String> {
    local
        .to_wire()
        .ok_or_else(|| format!("\"{local}\" is a pattern and cannot be our identity; set local.id"))
}

/// Other tunnels of a connection with the same peer.
pub(super) fn others(cx: &Cx, connection: &Connection, remote: &Identity) -> Vec<Id> {
    let of_connection = cx.core.index.connections.get(&connection.name);
    let is_of = |id: &&Id| **id != cx.id && of_connection.is_some_and(|ids| ids.contains(*id));
    cx.core.index.peers.get(remote).into_iter().flatten().filter(is_of).copied().collect()
}

/// Tunnels of connections that ask the same proof of the same peer.
pub(super) fn proved_alike(cx: &Cx, connection: &Connection, remote: &Identity) -> Vec<Id> {
    let ask_the_same = |other: &&Arc<Connection>| {
        let (ours, others) = (&connection.remote, &other.remote);
        let same_proof = (ours.method, &ours.authorities, &ours.certificates)
            == (others.method, &others.authorities, &others.certificates);
        other.name == connection.name
            || (same_proof && other.local == connection.local && ours.identity == others.identity)
    };
    let connections = cx.core.configuration.connections.iter().filter(ask_the_same);
    connections.flat_map(|connection| others(cx, connection, remote)).collect()
}

impl Up {
    /// Whether IKE_AUTH asks for a pair, and may or has to (RFC 6023 section 3).
    fn first_child(&self, message: &Message) -> Result<bool, Refusal> {
        let asks = message.proposals.is_some()
            || message.initiator_selectors.is_some()
            || message.responder_selectors.is_some();
        let (peer, name) = (self.head.peer(), &self.head.connection.name);
        match (self.head.connection.childless, asks) {
            (Childless::Force, true) => Err(Refusal::new(
                NotifyType::NO_ADDITIONAL_SAS,
                format!(
                    "peer {peer} asks for a Child SA with the IKE SA, and connection {name} has childless = force; set childless there, or prefer here"
                ),
            )),
            (Childless::Never, false) => Err(Refusal::new(
                NotifyType::INVALID_SYNTAX,
                format!(
                    "peer {peer} asks for no Child SA with the IKE SA, and connection {name} has childless = never; set it to allow"
                ),
            )),
            (_, asks) => Ok(asks),
        }
    }

    /// If the peer speaks RFC 4555, so do we.
    fn speak_mobike(&mut self, cx: &Cx, message: &Message) -> Vec<Payload> {
        let Head { connection, path, .. } = &self.head;
        if !mobility::speaks(connection) || !message.has(NotifyType::MOBIKE_SUPPORTED) {
            return Vec::new();
        }
        let (payloads, announced) = mobility::announcement(cx.host, connection, *path, false);
        self.roam(Mobility::begin(false, message, announced));
        payloads
    }

    /// The pair of Child SAs that IKE_AUTH asks for, or why not: the IKE SA stands in either case (RFC 7296 section
    /// 2.21.2).
    fn grant_first(&mut self, cx: &mut Cx, message: &Message, nonces: (&[u8], &[u8])) -> Vec<Payload> {
        match self.first_child(message) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(refusal) => return vec![self.refused(cx, refusal)],
        }
        let asked =
            Asked { head: &self.head, message, dynamic: &self.dynamic, is_first: true, replaces: None };
        match asked.grant(cx) {
            Ok(Granted { sa, shared, payloads }) => {
                let keys = self.sas[0].keys.child_keys(&sa.suite, nonces.0, nonces.1, shared.as_ref());
                self.add_child(cx, (sa, keys));
                payloads
            }
            Err(refusal) => vec![self.refused(cx, refusal)],
        }
    }
}
