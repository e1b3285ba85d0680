//! The responder's IKE_SA_INIT (RFC 7296 sections 1.2, 2.1, 2.6, 2.7).

use std::sync::Arc;
use std::time::Duration;

use super::algorithms::algorithms;
use super::auth_answer::{self, Half};
use super::core::{Cx, InitKey, Who};
use super::head::Head;
use super::ike_sa::IkeSa;
use super::init_sent::{Initialised, abilities, key_exchange, reassembles};
use super::intermediate::{self, Intermediates};
use super::message::{Message, flag, notify};
use super::mobility::Roaming;
use super::nat::{self, Nat};
use super::receive::Opened;
use super::redirect;
use super::resumption::Resumed;
use super::tunnel::Tunnel;
use super::window::Window;
use crate::configuration::{Childless, Connection, RemoteMethod};
use crate::crypto::{IkeKeys, IkeSuite, KeyShare, Role};
use crate::host::Path;
use crate::proposal::{Selected, select_ike};
use crate::wire::{
    self, CertificateEncoding, Datagram, ExchangeType, Flags, Header, NotifyType, Payload, Proposal,
    ProtocolId, TransformType,
};

/// We have answered an IKE_SA_INIT request. The peer is not authenticated.
pub(super) struct InitAnswered {
    pub(super) head: Head,
    pub(super) begun: Initialised,
    pub(super) spis: (u64, u64),
    pub(super) suite: IkeSuite,
    /// What was chosen, as it went over the wire: other connections may take it as well.
    pub(super) chosen: Proposal,
    /// Our key share, and the peer's public value; `None` if it was resumed, which has its keys already.
    agreement: Option<(KeyShare, Vec<u8>)>,
    peer_reassembles: bool,
    /// Where the request came from.
    pub(super) source: Path,
    is_proven: bool,
    pub(super) deadline: Duration,
    /// Computed when it is first needed, so that spoofed requests cost no key agreement.
    pub(super) sa: Option<IkeSa>,
}

/// An IKE_SA_INIT request.
pub(super) struct Request<'a> {
    pub(super) header: &'a Header,
    pub(super) octets: &'a [u8],
    pub(super) message: &'a Message,
    pub(super) path: Path,
    /// Whether it bears a cookie of ours.
    pub(super) is_proven: bool,
}

impl Request<'_> {
    /// Its sender.
    pub(super) fn key(&self) -> InitKey {
        (self.header.initiator_spi, self.path.remote)
    }

    /// Whether it has what its exchange is about.
    pub(super) fn is_whole(&self) -> bool {
        match self.header.exchange {
            ExchangeType::IKE_SESSION_RESUME => self.message.has(NotifyType::TICKET_OPAQUE),
            _ => self.message.proposals.is_some(),
        }
    }

    /// Answers with a notify alone, keeping nothing.
    pub(super) fn refuse(&self, cx: &mut Cx, kind: NotifyType, data: &[u8]) {
        self.refuse_with(cx, &[notify(kind, data)]);
    }

    /// The same with several.
    pub(super) fn refuse_with(&self, cx: &mut Cx, payloads: &[Payload]) {
        let header = Header { flags: Flags { initiator: false, response: true }, ..*self.header };
        cx.transmit(self.path, &[wire::emit(&header, payloads)]);
    }

    /// Works on a request that limits and cookies have let through.
    pub(super) fn answer(&self, cx: &mut Cx, segment: u8) -> Option<Tunnel> {
        if self.header.exchange == ExchangeType::IKE_SESSION_RESUME {
            return self.resume(cx, segment);
        }
        let Message { proposals: Some(offered), key_exchange: Some(public), nonce: Some(nonce), .. } =
            self.message
        else {
            self.refuse(cx, NotifyType::INVALID_SYNTAX, &[]);
            return None;
        };
        let Some((connection, selected)) = self.select(cx, offered) else {
            self.no_proposal(cx, offered);
            return None;
        };
        let group = selected.suite.group;
        if public.0 != group.id() {
            self.refuse(cx, NotifyType::INVALID_KE_PAYLOAD, &group.id().to_be_bytes());
            return None;
        }
        let state = self.begin(cx, segment, connection, selected, (&public.1, nonce));
        Some(Tunnel::InitAnswered(Box::new(state)))
    }

    /// The first connection between these addresses that accepts one of the peer's proposals. IKE_AUTH may turn to
    /// another one, when it is known who the peer is.
    fn select(&self, cx: &Cx, offered: &[Proposal]) -> Option<(Arc<Connection>, Selected<IkeSuite>)> {
        // Without IKE_INTERMEDIATE there is no place for additional key exchanges, and offers of them are passed over
        // (RFC 9370 section 2.2.1).
        let can_add = self.message.has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED);
        let offered = offered.iter().filter(|offer| can_add || !is_additional(offer));
        let offered: Vec<_> = offered.cloned().collect();
        candidates(cx, self.path).find_map(|connection| {
            let selected = select_ike(&connection.ike_proposals, &offered)?;
            Some((Arc::clone(connection), selected))
        })
    }

    fn no_proposal(&self, cx: &mut Cx, offered: &[Proposal]) {
        let connection = candidates(cx, self.path).next().map(Arc::clone);
        let (peer, ours) = (self.path.remote.ip(), self.path.local.ip());
        let problem = match &connection {
            Some(connection) => format!(
                "peer {peer} offers none of our IKE proposals: it offered {}; add one to connection {}'s proposals",
                algorithms(offered),
                connection.name,
            ),
            None => format!(
                "no connection is between our {ours} and peer {peer}; add one, or mend local_addrs and remote_addrs"
            ),
        };
        self.refuse(cx, NotifyType::NO_PROPOSAL_CHOSEN, &[]);
        cx.core.counters.ike_failed += 1;
        cx.failed(&Who { tunnel: None, connection, remote: self.path.remote }, problem);
    }

    fn begin(
        &self,
        cx: &mut Cx,
        segment: u8,
        connection: Arc<Connection>,
        selected: Selected<IkeSuite>,
        (public, nonce): (&[u8], &[u8]),
    ) -> InitAnswered {
        let share = KeyShare::generate(selected.suite.group, &mut |octets| cx.host.random(octets));
        let spis = (self.header.initiator_spi, cx.ike_spi(segment));
        let nat = Nat::detect(self.message, self.header, self.path);
        let (number, path, roaming) = (cx.number(segment), self.path, Roaming::default());
        let head = Head { number, connection, path, nat, roaming };
        let our_nonce = cx.nonce();
        let header = Header {
            responder_spi: spis.1,
            exchange: ExchangeType::IKE_SA_INIT,
            flags: Flags { initiator: false, response: true },
            ..*self.header
        };
        let uses_ppk = self.message.has(NotifyType::USE_PPK) && cx.core.credentials.has_postquantum_keys();
        let mut payloads = answer_payloads(cx, &header, &head, &selected.proposal, &share, &our_nonce);
        let has_additional = !selected.suite.additional.is_empty();
        payloads.extend(has_additional.then(|| flag(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED)));
        payloads.extend(uses_ppk.then(|| flag(NotifyType::USE_PPK)));
        let response = wire::emit(&header, &payloads);
        cx.transmit(self.path, std::slice::from_ref(&response));
        InitAnswered {
            begun: Initialised {
                request: self.octets.to_vec(),
                response,
                initiator_nonce: nonce.to_vec(),
                responder_nonce: our_nonce,
                peer_hashes: self.message.signature_hashes(),
                certificates_asked: false,
                uses_ppk,
                intermediates: Intermediates::default(),
                may_be_childless: head.connection.childless != Childless::Never,
                takes_redirects: (redirect::is_supported(self.message), redirect::origin(self.message)),
                resumed: None,
            },
            spis,
            suite: selected.suite,
            chosen: selected.proposal,
            agreement: Some((share, public.to_vec())),
            peer_reassembles: reassembles(&head.connection, self.message),
            source: self.path,
            is_proven: self.is_proven,
            deadline: cx.now.monotonic.saturating_add(cx.core.configuration.limits.half_open_timeout),
            sa: None,
            head,
        }
    }
}

/// Connections between these addresses, in the order of the configuration.
pub(super) fn candidates<'a>(cx: &'a Cx, path: Path) -> impl Iterator<Item = &'a Arc<Connection>> {
    cx.core.configuration.connections.iter().filter(move |connection| is_between(connection, path))
}

/// Whether a connection may go along `path`.
pub(super) fn is_between(connection: &Connection, path: Path) -> bool {
    let (local, remote) = (path.local.ip(), path.remote.ip());
    let has_local = connection.local_addresses.is_empty() || connection.local_addresses.contains(&local);
    let remotes = &connection.remote_addresses;
    let has_remote = remotes.is_empty() || remotes.iter().any(|set| (set.first..=set.last).contains(&remote));
    has_local && has_remote
}

/// Whether an offer has additional key exchanges, even such as may be left out.
fn is_additional(offer: &Proposal) -> bool {
    let places = TransformType::ADDKE1..=TransformType::ADDKE7;
    offer.transforms.iter().any(|transform| places.contains(&transform.kind))
}

fn answer_payloads(
    cx: &mut Cx,
    header: &Header,
    head: &Head,
    chosen: &Proposal,
    share: &KeyShare,
    nonce: &[u8],
) -> Vec<Payload> {
    let mut payloads = vec![
        Payload::SecurityAssociation(vec![chosen.clone()]),
        key_exchange(share),
        Payload::Nonce(nonce.to_vec()),
    ];
    payloads.extend(nat::detection(cx, header, head.path, &head.connection));
    let remote = &head.connection.remote;
    if remote.method == RemoteMethod::Signature && head.connection.send_certificate_request {
        let authorities = cx.core.credentials.certificate_request(remote);
        let encoding = CertificateEncoding::X509_SIGNATURE;
        payloads.push(Payload::CertificateRequest { encoding, authorities });
    }
    payloads.extend(abilities(&head.connection));
    let takes_childless = head.connection.childless != Childless::Never;
    payloads.extend(takes_childless.then(|| flag(NotifyType::CHILDLESS_IKEV2_SUPPORTED)));
    payloads
}

impl InitAnswered {
    /// By a ticket: what is said of the IKE SA is said, and its keys are there.
    pub(super) fn resumed(
        cx: &Cx,
        request: &Request,
        head: Head,
        (response, responder_nonce): (Vec<u8>, Vec<u8>),
        sa: IkeSa,
        resumed: Resumed,
    ) -> Self {
        let message = request.message;
        let begun = Initialised {
            request: request.octets.to_vec(),
            response,
            initiator_nonce: message.nonce.clone().unwrap_or_default(),
            responder_nonce,
            peer_hashes: Vec::new(),
            certificates_asked: false,
            uses_ppk: false,
            intermediates: Intermediates::default(),
            may_be_childless: head.connection.childless != Childless::Never,
            takes_redirects: (redirect::is_supported(message), redirect::origin(message)),
            resumed: Some(resumed),
        };
        let chosen =
            Proposal { number: 1, protocol: ProtocolId::IKE, spi: Vec::new(), transforms: Vec::new() };
        Self {
            head,
            begun,
            spis: (sa.initiator_spi, sa.responder_spi),
            suite: sa.keys.suite(),
            chosen,
            agreement: None,
            peer_reassembles: sa.peer_reassembles,
            source: request.path,
            is_proven: request.is_proven,
            deadline: cx.now.monotonic.saturating_add(cx.core.configuration.limits.half_open_timeout),
            sa: Some(sa),
        }
    }

    /// The request that began it, and whether its source was proven.
    pub(super) fn half_open(&self) -> (InitKey, bool) {
        ((self.spis.0, self.source.remote), self.is_proven)
    }

    /// The same request again: the same answer (RFC 7296 section 2.1).
    pub(super) fn repeat(&self, cx: &mut Cx, octets: &[u8], path: Path) -> bool {
        let is_same = self.begun.request == octets;
        if is_same {
            cx.core.counters.repeated_requests += 1;
            cx.transmit(path, std::slice::from_ref(&self.begun.response));
        }
        is_same
    }

    /// What claims to be the IKE_AUTH request.
    pub(super) fn on_sealed(
        mut self: Box<Self>,
        cx: &mut Cx,
        path: Path,
        datagram: &Datagram,
    ) -> Option<Tunnel> {
        if self.sa.is_none() {
            let agreement = self.agreement.as_ref();
            let Some(shared) = agreement.and_then(|(share, public)| share.agree(public).ok()) else {
                let problem = format!("peer {} sent an impossible public value", self.head.peer());
                self.head.failed(cx, problem);
                return None;
            };
            let Initialised { initiator_nonce, responder_nonce, .. } = &self.begun;
            let keys = IkeKeys::derive(
                self.suite,
                initiator_nonce,
                responder_nonce,
                &shared,
                self.spis.0,
                self.spis.1,
            );
            let mut sa = IkeSa::new(Role::Responder, self.spis, keys, Window::new(0, 1));
            sa.peer_reassembles = self.peer_reassembles;
            self.sa = Some(sa);
        }
        let opened = self.sa.as_mut().and_then(|sa| sa.receive(cx, path, datagram));
        match opened {
            Some(opened) => self.on_request(cx, path, opened),
            None => Some(Tunnel::InitAnswered(self)),
        }
    }

    fn on_request(mut self: Box<Self>, cx: &mut Cx, path: Path, opened: Opened) -> Option<Tunnel> {
        // The initiator floats to the port for NATs with this request (RFC 7296 section 2.23).
        self.head.path = path;
        if opened.exchange == ExchangeType::IKE_INTERMEDIATE {
            return self.on_intermediate(cx, &opened);
        }
        Some(auth_answer::answer(cx, self.half()?, opened))
    }

    fn half(self) -> Option<Half> {
        let origin = self.half_open();
        let Self { head, begun, chosen, sa: Some(sa), deadline, .. } = self else { return None };
        Some(Half { head, begun, chosen, sa, origin, deadline })
    }

    /// Afterwards all is as before, but for the keys: its deadline and its place among the half-open ones are those of
    /// IKE_SA_INIT.
    fn on_intermediate(mut self: Box<Self>, cx: &mut Cx, opened: &Opened) -> Option<Tunnel> {
        let sa = self.sa.as_mut()?;
        match intermediate::answer(cx, &self.head, &mut self.begun, sa, opened) {
            Ok(()) => Some(Tunnel::InitAnswered(self)),
            Err(problem) => {
                let request = (opened.exchange, opened.message_id);
                let refusal = flag(NotifyType::INVALID_SYNTAX);
                Some(auth_answer::refuse(cx, self.half()?, request, refusal, problem))
            }
        }
    }
}
