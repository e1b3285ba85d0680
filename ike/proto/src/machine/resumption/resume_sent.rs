//! The initiator's IKE_SESSION_RESUME (RFC 5723 section 4.3.2).

use std::sync::Arc;
use std::time::Duration;

use super::client::fall_back;
use super::{Resumed, Ticket};
use crate::crypto::Role;
use crate::host::Path;
use crate::machine::auth_sent::AuthSent;
use crate::machine::backoff;
use crate::machine::core::Cx;
use crate::machine::head::{Attempt, Head};
use crate::machine::ike_sa::IkeSa;
use crate::machine::init_sent::{Initialised, fragmentation, reassembles, settle_path};
use crate::machine::intermediate::Intermediates;
use crate::machine::message::{Message, notify};
use crate::machine::nat;
use crate::machine::redirect;
use crate::machine::redirect_follow;
use crate::machine::tunnel::Tunnel;
use crate::machine::window::Window;
use crate::wire::{self, ExchangeType, Flags, Header, NotifyType, Payload};

/// Repetitions before the attempt goes on with IKE_SA_INIT: a responder that does not know the exchange is silent.
const MAX_REPETITIONS: u32 = 2;
/// Answers that only ask for a cookie, before the ticket is given up.
const MAX_COOKIES: u32 = 3;

/// Our IKE_SESSION_RESUME request is outstanding.
pub(in crate::machine) struct ResumeSent {
    pub(in crate::machine) head: Head,
    pub(in crate::machine) attempt: Attempt,
    pub(in crate::machine) spi: u64,
    ticket: Arc<Ticket>,
    nonce: Vec<u8>,
    cookie: Option<Vec<u8>>,
    /// As it went out: AUTH covers it.
    request: Vec<u8>,
    repetitions: u32,
    pub(in crate::machine) due: Duration,
    cookies: u32,
}

impl ResumeSent {
    pub(super) fn begin(cx: &mut Cx, head: Head, attempt: Attempt, ticket: Arc<Ticket>) -> Tunnel {
        let (spi, nonce) = (cx.ike_spi(head.segment()), cx.nonce());
        let (cookie, request, due) = (None, Vec::new(), cx.now.monotonic);
        let mut state =
            Self { head, attempt, spi, ticket, nonce, cookie, request, repetitions: 0, due, cookies: 0 };
        state.send(cx);
        Tunnel::ResumeSent(Box::new(state))
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
        let (initiator_spi, exchange) = (self.spi, ExchangeType::IKE_SESSION_RESUME);
        let header = Header { initiator_spi, responder_spi: 0, exchange, flags, message_id: 0 };
        let mut payloads: Vec<_> =
            self.cookie.iter().map(|data| notify(NotifyType::COOKIE, data.clone())).collect();
        payloads.push(Payload::Nonce(self.nonce.clone()));
        payloads.push(notify(NotifyType::TICKET_OPAQUE, self.ticket.opaque.clone()));
        payloads.extend(nat::detection(cx, &header, self.head.path, &self.head.connection));
        payloads.extend(fragmentation(&self.head.connection));
        payloads.extend(redirect::announcement(&self.head.connection, &self.attempt.detour));
        wire::emit(&header, &payloads)
    }

    /// A response to [`Self::spi`]. Nothing of it is authentic yet: what makes no sense is dropped, and the worst that
    /// a forged one does is that the tunnel is set up in full.
    pub(in crate::machine) fn on_response(
        self: Box<Self>,
        cx: &mut Cx,
        (header, octets): (&Header, &[u8]),
        message: &Message,
        path: Path,
    ) -> Option<Tunnel> {
        if let Some(nonce) = message.nonce.as_ref().filter(|_| header.responder_spi != 0) {
            return self.proceed(cx, (header, octets), message, path, nonce);
        }
        if let Some(cookie) = message.notify(NotifyType::COOKIE) {
            return Some(self.on_cookie(cx, &cookie.data));
        }
        if let Some(redirect) = message.notify(NotifyType::REDIRECT) {
            return self.on_redirect(cx, &redirect.data);
        }
        let is_refused = message.has(NotifyType::TICKET_NACK) || message.error().is_some();
        Some(if is_refused { self.fall_back(cx) } else { Tunnel::ResumeSent(self) })
    }

    fn on_cookie(mut self: Box<Self>, cx: &mut Cx, cookie: &[u8]) -> Tunnel {
        if !(1..=64).contains(&cookie.len()) || self.cookie.as_deref() == Some(cookie) {
            return Tunnel::ResumeSent(self);
        }
        self.cookies += 1;
        if self.cookies > MAX_COOKIES {
            return self.fall_back(cx);
        }
        self.cookie = Some(cookie.to_vec());
        self.send(cx);
        Tunnel::ResumeSent(self)
    }

    /// The other gateway may know the ticket as well: it is not used yet.
    fn on_redirect(self: Box<Self>, cx: &mut Cx, data: &[u8]) -> Option<Tunnel> {
        let gateway = redirect_follow::unprotected(cx, &self.head.connection, &self.nonce, data);
        let Some(gateway) = gateway else { return Some(Tunnel::ResumeSent(self)) };
        let Self { head, attempt, .. } = *self;
        redirect_follow::go_on(cx, head, attempt, &gateway)
    }

    fn proceed(
        self: Box<Self>,
        cx: &mut Cx,
        (header, octets): (&Header, &[u8]),
        message: &Message,
        path: Path,
        responder_nonce: &[u8],
    ) -> Option<Tunnel> {
        let Self { mut head, attempt, spi, ticket, nonce, request, .. } = *self;
        let spis = (spi, header.responder_spi);
        let keys = ticket.secret.resume((&nonce, responder_nonce), spis);
        let mut sa = IkeSa::new(Role::Initiator, spis, keys, Window::new(1, 0));
        sa.peer_reassembles = reassembles(&head.connection, message);
        settle_path(&mut head, message, header, path);
        let (session, addresses) = (ticket.session.clone(), ticket.addresses.clone());
        let begun = Initialised {
            request,
            response: octets.to_vec(),
            initiator_nonce: nonce,
            responder_nonce: responder_nonce.to_vec(),
            peer_hashes: Vec::new(),
            certificates_asked: false,
            uses_ppk: false,
            may_be_childless: message.has(NotifyType::CHILDLESS_IKEV2_SUPPORTED),
            intermediates: Intermediates::default(),
            takes_redirects: (false, None),
            resumed: Some(Resumed { session, presented: None, addresses }),
        };
        AuthSent::begin(cx, head, attempt, sa, begun)
    }

    fn fall_back(self: Box<Self>, cx: &mut Cx) -> Tunnel {
        let Self { head, attempt, .. } = *self;
        fall_back(cx, head, attempt)
    }

    /// Sends the request again. Silence does not say that the ticket is of no use: the next attempt tries it again.
    pub(in crate::machine) fn on_timeout(mut self: Box<Self>, cx: &mut Cx) -> Tunnel {
        let retransmission = &cx.core.configuration.retransmission;
        let is_enough = self.repetitions >= MAX_REPETITIONS;
        if is_enough || !backoff::may_repeat(retransmission, self.repetitions) {
            let Self { head, mut attempt, .. } = *self;
            attempt.is_whole = true;
            return super::begin(cx, head, attempt);
        }
        self.repetitions += 1;
        self.due = cx.now.monotonic.saturating_add(backoff::wait(retransmission, self.repetitions));
        cx.core.counters.retransmissions += 1;
        cx.transmit(self.head.path, std::slice::from_ref(&self.request));
        Tunnel::ResumeSent(self)
    }
}
