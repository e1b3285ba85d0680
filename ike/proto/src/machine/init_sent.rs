//! The initiator's IKE_SA_INIT (RFC 7296 sections 1.2, 2.6, 2.7).

use std::net::IpAddr;
use std::time::Duration;

use super::backoff;
use super::core::Cx;
use super::head::{Attempt, Head};
use super::ike_sa::IkeSa;
use super::intermediate::{IntermediateSent, Intermediates};
use super::message::{Message, flag, notify};
use super::mobility;
use super::nat::{self, Nat};
use super::ppk;
use super::redirect;
use super::resumption::Resumed;
use super::solve::puzzle_of_auth;
use super::tunnel::Tunnel;
use super::waiting;
use super::window::Window;
use crate::auth;
use crate::configuration::{Connection, Fragmentation};
use crate::crypto::{Group, IkeKeys, IkeSuite, KeyShare, Puzzle, Role};
use crate::host::{Output, Path};
use crate::proposal::{IkeProposal, accept_ike, offer_ike};
use crate::wire::{self, Datagram, ExchangeType, Flags, Header, Notify, NotifyType, Payload};

/// Answers that only ask for another request, before the attempt is given up: a cookie, another group, a cookie for
/// that, and the same once more because secrets change (RFC 7296 section 2.6.1).
const MAX_DETOURS: u32 = 5;

/// Our IKE_SA_INIT request is outstanding.
pub(super) struct InitSent {
    pub(super) head: Head,
    pub(super) attempt: Attempt,
    pub(super) spi: u64,
    share: KeyShare,
    pub(super) nonce: Vec<u8>,
    pub(super) cookie: Option<Vec<u8>>,
    /// Of the puzzle that came with the cookie.
    solution: Option<Vec<u8>>,
    pub(super) solving: Option<Solving>,
    /// As it went out: AUTH covers it (RFC 7296 section 2.15).
    request: Vec<u8>,
    repetitions: u32,
    pub(super) due: Duration,
    detours: u32,
}

/// A puzzle that is being solved.
pub(super) struct Solving {
    pub(super) puzzle: Puzzle,
    pub(super) zeros: u32,
    /// The answer that asks for it before IKE_AUTH, and how it came; otherwise it came with a cookie.
    pub(super) held: Option<(Vec<u8>, Path)>,
}

/// What IKE_SA_INIT leaves for IKE_AUTH.
pub(super) struct Initialised {
    /// As it went over the wire.
    pub(super) request: Vec<u8>,
    /// As it went over the wire.
    pub(super) response: Vec<u8>,
    pub(super) initiator_nonce: Vec<u8>,
    pub(super) responder_nonce: Vec<u8>,
    /// Hash algorithms of the signatures that the peer understands; empty without RFC 7427.
    pub(super) peer_hashes: Vec<u16>,
    /// Whether the peer asks for certificates.
    pub(super) certificates_asked: bool,
    /// Whether both sides use postquantum preshared keys (RFC 8784 section 3).
    pub(super) uses_ppk: bool,
    /// Whether the responder takes an IKE_AUTH without a Child SA (RFC 6023 section 3).
    pub(super) may_be_childless: bool,
    /// What the exchanges in between have said.
    pub(super) intermediates: Intermediates,
    /// Whether the peer, as initiator, can be sent to another gateway; and which one has sent it here.
    pub(super) takes_redirects: (bool, Option<IpAddr>),
    /// What came back, if it was IKE_SESSION_RESUME instead (RFC 5723).
    pub(super) resumed: Option<Resumed>,
}

/// What an IKE_SA_INIT response must have.
struct Answer {
    suite: IkeSuite,
    public: Vec<u8>,
    nonce: Vec<u8>,
}

impl InitSent {
    /// Sends the first request. The connection has at least one proposal.
    pub(super) fn begin(cx: &mut Cx, head: Head, attempt: Attempt) -> Tunnel {
        let spi = cx.ike_spi(head.segment());
        let group = preferred_group(&head.connection);
        let share = KeyShare::generate(group, &mut |octets| cx.host.random(octets));
        let nonce = cx.nonce();
        let (cookie, request) = (None, Vec::new());
        let mut state = Self {
            head,
            attempt,
            spi,
            share,
            nonce,
            cookie,
            solution: None,
            solving: None,
            request,
            repetitions: 0,
            due: cx.now.monotonic,
            detours: 0,
        };
        state.send(cx);
        Tunnel::InitSent(Box::new(state))
    }

    fn send(&mut self, cx: &mut Cx) {
        self.request = self.emit(cx);
        self.repetitions = 0;
        let wait = backoff::wait(&cx.core.configuration.retransmission, 0);
        self.due = cx.now.monotonic.saturating_add(wait);
        cx.transmit(self.head.path, std::slice::from_ref(&self.request));
    }

    fn emit(&self, cx: &mut Cx) -> Vec<u8> {
        let flags = Flags { initiator: true, response: false };
        let (initiator_spi, exchange) = (self.spi, ExchangeType::IKE_SA_INIT);
        let header = Header { initiator_spi, responder_spi: 0, exchange, flags, message_id: 0 };
        // A cookie comes first, so that the responder need not read the rest (RFC 7296 section 2.6).
        let mut payloads: Vec<_> =
            self.cookie.iter().map(|data| notify(NotifyType::COOKIE, data.clone())).collect();
        payloads.extend(self.solution.clone().map(Payload::PuzzleSolution));
        payloads.push(Payload::SecurityAssociation(offer_ike(&self.head.connection.ike_proposals, &[])));
        payloads.push(key_exchange(&self.share));
        payloads.push(Payload::Nonce(self.nonce.clone()));
        payloads.extend(nat::detection(cx, &header, self.head.path, &self.head.connection));
        payloads.extend(abilities(&self.head.connection));
        let has_additional = self.head.connection.ike_proposals.iter().any(IkeProposal::has_additional);
        payloads.extend(has_additional.then(|| flag(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED)));
        payloads.extend(ppk::is_announced(cx, &self.head.connection).then(|| flag(NotifyType::USE_PPK)));
        payloads.extend(redirect::announcement(&self.head.connection, &self.attempt.detour));
        wire::emit(&header, &payloads)
    }

    /// A response to [`Self::spi`]. Nothing of it is authentic yet: what makes no sense is dropped, so that nobody who
    /// merely saw the request can end the attempt by noise.
    pub(super) fn on_response(
        self: Box<Self>,
        cx: &mut Cx,
        (header, octets): (&Header, &[u8]),
        message: &Message,
        path: Path,
    ) -> Option<Tunnel> {
        // The whole answer is there; nothing that comes now can be from who has sent it.
        if self.solving.as_ref().is_some_and(|solving| solving.held.is_some()) {
            return Some(Tunnel::InitSent(self));
        }
        if let Some(cookie) = message.notify(NotifyType::COOKIE).filter(|_| message.proposals.is_none()) {
            return self.on_cookie(cx, cookie, message.notify(NotifyType::PUZZLE));
        }
        if let Some(redirect) = message.notify(NotifyType::REDIRECT).filter(|_| message.proposals.is_none()) {
            return self.on_redirect(cx, &redirect.data);
        }
        if let Some(error) = message.error() {
            return self.on_error(cx, error);
        }
        match self.read(header, message) {
            Ok(Some(answer)) => match puzzle_of_auth(header, message, &answer.nonce) {
                Some(asked) => self.solve_for_auth(cx, asked, (octets.to_vec(), path)),
                None => self.proceed(cx, (header, octets), message, path, &answer, None),
            },
            Ok(None) => Some(Tunnel::InitSent(self)),
            Err(problem) => self.fail(cx, problem),
        }
    }

    /// RFC 7296 section 2.6: the same request with the cookie in front; and behind it the solution of the puzzle, if one
    /// came with it (RFC 8019 section 7.1.2).
    fn on_cookie(
        mut self: Box<Self>,
        cx: &mut Cx,
        cookie: &Notify,
        puzzle: Option<&Notify>,
    ) -> Option<Tunnel> {
        if !(1..=64).contains(&cookie.data.len()) || self.cookie.as_ref() == Some(&cookie.data) {
            return Some(Tunnel::InitSent(self));
        }
        self.cookie = Some(cookie.data.clone());
        self.solution = None;
        self.stop_solving(cx);
        let has_patience = self.detours < MAX_DETOURS;
        if puzzle.filter(|_| has_patience).is_some_and(|puzzle| self.begin_solving(cx, puzzle)) {
            self.detours += 1;
            return Some(Tunnel::InitSent(self));
        }
        self.detour(cx)
    }

    /// The host has solved a puzzle, or given up, or has no time left.
    pub(super) fn solved(mut self: Box<Self>, cx: &mut Cx, solution: Option<Vec<u8>>) -> Option<Tunnel> {
        let Some(Solving { puzzle, zeros, held }) = self.solving.take() else {
            return Some(Tunnel::InitSent(self));
        };
        let keys = solution.filter(|keys| puzzle.judge(keys).is_some_and(|found| found >= zeros));
        let counters = &mut cx.core.counters;
        let counter =
            if keys.is_some() { &mut counters.puzzles_worked } else { &mut counters.puzzles_given_up };
        *counter += 1;
        let Some((octets, path)) = held else {
            self.solution = keys;
            self.send(cx);
            return Some(Tunnel::InitSent(self));
        };
        let answer = match wire::parse(&octets) {
            Ok(Datagram::Plain(header, payloads)) => Message::sort(payloads).ok().map(|m| (header, m)),
            _ => None,
        };
        if let (Some((header, message)), Some(keys)) = (answer, keys) {
            return match self.read(&header, &message) {
                Ok(Some(answer)) => self.proceed(cx, (&header, &octets), &message, path, &answer, Some(keys)),
                _ => Some(Tunnel::InitSent(self)),
            };
        }
        let peer = self.head.peer();
        let problem = format!(
            "peer {peer} wants a puzzle of {zeros} bits solved before IKE_AUTH, which takes too long; raise puzzle_time, or try when it is idle"
        );
        self.fail(cx, problem)
    }

    fn detour(mut self: Box<Self>, cx: &mut Cx) -> Option<Tunnel> {
        self.detours += 1;
        if self.detours > MAX_DETOURS {
            let peer = self.head.peer();
            return self
                .fail(cx, format!("peer {peer} keeps asking for other cookies or groups; look at its log"));
        }
        self.send(cx);
        Some(Tunnel::InitSent(self))
    }

    fn on_error(self: Box<Self>, cx: &mut Cx, error: &Notify) -> Option<Tunnel> {
        if error.kind == NotifyType::INVALID_KE_PAYLOAD {
            return self.on_other_group(cx, error);
        }
        let (peer, connection) = (self.head.peer(), &self.head.connection);
        let problem = match error.kind {
            NotifyType::NO_PROPOSAL_CHOSEN => format!(
                "peer {peer} accepts none of our IKE proposals ({}); add one of the peer's to connection {}'s proposals",
                proposals_text(connection),
                connection.name,
            ),
            kind => format!("peer {peer} refuses IKE_SA_INIT: {kind}; look at its log"),
        };
        self.fail(cx, problem)
    }

    /// RFC 7296 section 1.2: the same request with a key exchange of the group that the peer wants, if we offered it.
    fn on_other_group(mut self: Box<Self>, cx: &mut Cx, error: &Notify) -> Option<Tunnel> {
        let wanted = <[u8; 2]>::try_from(error.data.as_slice()).ok().map(u16::from_be_bytes);
        let group =
            wanted.and_then(Group::from_id).filter(|group| offers_group(&self.head.connection, *group));
        match group {
            Some(group) if group == self.share.group() => Some(Tunnel::InitSent(self)),
            Some(group) => {
                self.share = KeyShare::generate(group, &mut |octets| cx.host.random(octets));
                self.detour(cx)
            }
            None => {
                let (peer, name) = (self.head.peer(), &self.head.connection.name);
                let wanted = wanted.map_or("an unnamed group".to_owned(), |group| format!("group {group}"));
                let problem = format!(
                    "peer {peer} wants {wanted}, which connection {name} does not offer; add it to its proposals"
                );
                self.fail(cx, problem)
            }
        }
    }

    /// `None` is noise.
    fn read(&self, header: &Header, message: &Message) -> Result<Option<Answer>, String> {
        let (Some(proposals), Some((group, public)), Some(nonce)) =
            (&message.proposals, &message.key_exchange, &message.nonce)
        else {
            return Ok(None);
        };
        if header.responder_spi == 0 || *group != self.share.group().id() {
            return Ok(None);
        }
        let suite = accept_ike(&self.head.connection.ike_proposals, proposals).map_err(|error| {
            format!("peer {} answers IKE_SA_INIT with what we did not offer: {error}", self.head.peer())
        })?;
        if suite.group != self.share.group() {
            return Ok(None);
        }
        if !suite.additional.is_empty() && !message.has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED) {
            let peer = self.head.peer();
            return Err(format!(
                "peer {peer} has chosen additional key exchanges and cannot do them; look at its log"
            ));
        }
        Ok(Some(Answer { suite, public: public.clone(), nonce: nonce.clone() }))
    }

    fn proceed(
        mut self: Box<Self>,
        cx: &mut Cx,
        (header, octets): (&Header, &[u8]),
        message: &Message,
        path: Path,
        answer: &Answer,
        solution: Option<Vec<u8>>,
    ) -> Option<Tunnel> {
        let Ok(shared) = self.share.agree(&answer.public) else { return Some(Tunnel::InitSent(self)) };
        self.stop_solving(cx);
        let spis = (self.spi, header.responder_spi);
        let keys = IkeKeys::derive(answer.suite, &self.nonce, &answer.nonce, &shared, spis.0, spis.1);
        let mut sa = IkeSa::new(Role::Initiator, spis, keys, Window::new(1, 0));
        let Self { mut head, attempt, nonce, request, .. } = *self;
        sa.solution = solution.map(Payload::PuzzleSolution);
        sa.peer_reassembles = reassembles(&head.connection, message);
        settle_path(&mut head, message, header, path);
        let begun = Initialised {
            request,
            response: octets.to_vec(),
            initiator_nonce: nonce,
            responder_nonce: answer.nonce.clone(),
            peer_hashes: message.signature_hashes(),
            certificates_asked: message.asks_for_x509(),
            uses_ppk: ppk::is_announced(cx, &head.connection) && message.has(NotifyType::USE_PPK),
            may_be_childless: message.has(NotifyType::CHILDLESS_IKEV2_SUPPORTED),
            intermediates: Intermediates::default(),
            takes_redirects: (false, None),
            resumed: None,
        };
        IntermediateSent::begin(cx, head, attempt, sa, begun)
    }

    pub(super) fn on_timeout(mut self: Box<Self>, cx: &mut Cx) -> Option<Tunnel> {
        // The puzzle takes too long: the cookie alone has to do.
        if self.solving.is_some() {
            cx.then(Output::StopSolving { spi: self.spi });
            return self.solved(cx, None);
        }
        let retransmission = &cx.core.configuration.retransmission;
        if !backoff::may_repeat(retransmission, self.repetitions) {
            let peer = self.head.path.remote;
            let problem =
                format!("peer {peer} does not answer IKE_SA_INIT; see that it runs and UDP reaches it");
            return self.fail(cx, problem);
        }
        self.repetitions += 1;
        self.due = cx.now.monotonic.saturating_add(backoff::wait(retransmission, self.repetitions));
        cx.core.counters.retransmissions += 1;
        cx.transmit(self.head.path, std::slice::from_ref(&self.request));
        Some(Tunnel::InitSent(self))
    }

    pub(super) fn fail(mut self: Box<Self>, cx: &mut Cx, problem: String) -> Option<Tunnel> {
        self.stop_solving(cx);
        let Self { head, attempt, .. } = *self;
        waiting::after_failure(cx, head, attempt, problem)
    }
}

/// What the first response says of the way that it has come along, and where the next request goes.
pub(super) fn settle_path(head: &mut Head, message: &Message, header: &Header, path: Path) {
    head.nat = Nat::detect(message, header, path);
    head.path = Path { local: path.local, ..head.path };
    // Who may move does so before there is a NAT that it would have to move for (RFC 4555 section 3.3).
    let may_roam = mobility::speaks(&head.connection) && message.has(NotifyType::NAT_DETECTION_SOURCE_IP);
    if head.nat.is_there() || head.connection.force_encapsulation || may_roam {
        head.path = nat::floated(head.path);
    }
}

/// KE with our public value.
pub(super) fn key_exchange(share: &KeyShare) -> Payload {
    Payload::KeyExchange { group: share.group().id(), data: share.public().to_vec() }
}

/// What we can, as both roles' IKE_SA_INIT says it: fragments (RFC 7383 section 2.3), hashes of signatures (RFC 7427
/// section 4).
pub(super) fn abilities(connection: &Connection) -> Vec<Payload> {
    let hashes: Vec<u8> = auth::signature_hash_algorithms().into_iter().flat_map(u16::to_be_bytes).collect();
    let hashes = notify(NotifyType::SIGNATURE_HASH_ALGORITHMS, hashes);
    std::iter::once(hashes).chain(fragmentation(connection)).collect()
}

/// That we take fragments (RFC 7383 section 2.3).
pub(super) fn fragmentation(connection: &Connection) -> Option<Payload> {
    (connection.fragmentation != Fragmentation::No).then(|| flag(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED))
}

/// Whether both sides have announced fragmentation (RFC 7383 section 2.3).
pub(super) fn reassembles(connection: &Connection, message: &Message) -> bool {
    connection.fragmentation != Fragmentation::No && message.has(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED)
}

pub(super) fn preferred_group(connection: &Connection) -> Group {
    connection
        .ike_proposals
        .iter()
        .find_map(|proposal| proposal.groups().first().copied())
        .unwrap_or(Group::Curve25519)
}

pub(super) fn offers_group(connection: &Connection, group: Group) -> bool {
    connection.ike_proposals.iter().any(|proposal| proposal.groups().contains(&group))
}

/// As an operator writes them.
pub(super) fn proposals_text(connection: &Connection) -> String {
    let texts: Vec<_> = connection.ike_proposals.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
