//! Being sent to another gateway (RFC 5685): in the answer to IKE_SA_INIT, in that to IKE_AUTH, or while the tunnel
//! stands. The new gateway has to be one that the configuration allows, and proves itself as the old one had to: the
//! connection stays the same.

use std::sync::Arc;

use super::Ike;
use super::auth_sent::AuthSent;
use super::core::{Cx, Id};
use super::head::{Attempt, Head, Wanted};
use super::init_sent::InitSent;
use super::message::Message;
use super::mobility::Roaming;
use super::nat::Nat;
use super::order::Order;
use super::pending::Pending;
use super::redirect::{self, Detour, LOOP_DETECT_PERIOD, MAX_REDIRECTS, Trail};
use super::resumption;
use super::tasks::Task;
use super::tunnel::Tunnel;
use super::up::Up;
use super::waiting::{self, path_between};
use crate::configuration::Connection;
use crate::host::{DownReason, Event, Host, Now, Path};
use crate::identity::Identity;
use crate::wire::{Delete, ExchangeType, GatewayIdentity, NotifyType, Payload, ProtocolId, Redirect};

/// Where a redirect leads, if we may follow it; otherwise a sentence.
fn permitted(cx: &mut Cx, head: &Head, trail: &mut Trail, gateway: &GatewayIdentity) -> Result<Path, String> {
    let (peer, name) = (head.peer(), &head.connection.name);
    let path = path_to(cx.host, &head.connection, gateway).ok_or_else(|| {
        format!(
            "peer {peer} sends us to gateway {gateway}, which is not allowed; if it should be, add it to follow_redirects of connection {name}"
        )
    })?;
    if trail.admit(cx.now.monotonic) {
        return Ok(path);
    }
    Err(format!(
        "peer {peer} sends us to gateway {gateway} after {MAX_REDIRECTS} redirects within {} s; end the loop on the gateways",
        LOOP_DETECT_PERIOD.as_secs()
    ))
}

/// Nobody is sent to itself.
fn path_to(host: &dyn Host, connection: &Connection, gateway: &GatewayIdentity) -> Option<Path> {
    let address = connection.moving.allowed(gateway)?;
    if host.local_addresses().contains(&address) {
        return None;
    }
    path_between(host, connection, address)
}

fn announce(cx: &mut Cx, head: &Head, gateway: &GatewayIdentity) {
    cx.core.counters.redirects_followed += 1;
    cx.event(Event::Redirected { tunnel: head.name(), gateway: gateway.to_string(), by_us: false });
}

impl InitSent {
    /// The answer to IKE_SA_INIT sends us elsewhere.
    pub(super) fn on_redirect(mut self: Box<Self>, cx: &mut Cx, data: &[u8]) -> Option<Tunnel> {
        let gateway = unprotected(cx, &self.head.connection, &self.nonce, data);
        let Some(gateway) = gateway else { return Some(Tunnel::InitSent(self)) };
        self.stop_solving(cx);
        let Self { head, attempt, .. } = *self;
        go_on(cx, head, attempt, &gateway)
    }
}

/// Where an answer that is not authentic sends us: only one with our nonce can be from somebody who saw the request
/// (RFC 5685 section 3).
pub(super) fn unprotected(
    cx: &mut Cx,
    connection: &Connection,
    nonce: &[u8],
    data: &[u8],
) -> Option<GatewayIdentity> {
    let redirect = Redirect::parse(data).ok().filter(|redirect| redirect.nonce == nonce);
    let redirect = redirect.filter(|_| !connection.moving.follow_redirects.is_empty());
    cx.core.counters.redirects_refused += u64::from(redirect.is_none());
    redirect.map(|redirect| redirect.gateway)
}

/// The attempt goes on at another gateway.
pub(super) fn go_on(
    cx: &mut Cx,
    head: Head,
    mut attempt: Attempt,
    gateway: &GatewayIdentity,
) -> Option<Tunnel> {
    match permitted(cx, &head, &mut attempt.detour.trail, gateway) {
        Ok(path) => {
            announce(cx, &head, gateway);
            attempt.detour.from = Some(head.peer());
            Some(resumption::begin(cx, Head { path, nat: Nat::default(), ..head }, attempt))
        }
        Err(problem) => {
            cx.core.counters.redirects_refused += 1;
            waiting::after_failure(cx, head, attempt, problem)
        }
    }
}

impl AuthSent {
    /// The peer has proved who it is: the tunnel stands, or is to stand elsewhere.
    pub(super) fn on_proved(
        self: Box<Self>,
        cx: &mut Cx,
        message: &Message,
        remote: Identity,
    ) -> Option<Tunnel> {
        match self.sent_to(message) {
            Some(gateway) => self.on_redirect(cx, &gateway),
            None => Some(self.establish(cx, message, remote)),
        }
    }

    /// Where the message sends us, if we go where we are sent.
    pub(super) fn sent_to(&self, message: &Message) -> Option<GatewayIdentity> {
        let is_follower = !self.head.connection.moving.follow_redirects.is_empty();
        redirect::read_sealed(message).filter(|_| is_follower)
    }

    /// The gateway has proved who it is and does not ask for our proof: there is no IKE SA that would have to be deleted
    /// (RFC 5685 section 6).
    pub(super) fn on_early_redirect(
        self: Box<Self>,
        cx: &mut Cx,
        gateway: &GatewayIdentity,
    ) -> Option<Tunnel> {
        let Self { head, attempt, .. } = *self;
        go_on(cx, head, attempt, gateway)
    }

    /// RFC 5685 section 6: there is an IKE SA without Child SAs, which the initiator deletes. Nobody waits for the
    /// answer: the gateway ends it in time by itself.
    fn on_redirect(mut self: Box<Self>, cx: &mut Cx, gateway: &GatewayIdentity) -> Option<Tunnel> {
        let delete = [Payload::Delete(Delete { protocol: ProtocolId::IKE, spis: Vec::new() })];
        let way = (self.head.path, &*self.head.connection);
        self.sa.request(cx, way, (ExchangeType::INFORMATIONAL, &delete), Pending::Farewell);
        // A ticket that has brought us here was used.
        let Self { head, mut attempt, begun, .. } = *self;
        attempt.ticket = None;
        attempt.is_whole = begun.resumed.is_some();
        go_on(cx, head, attempt, gateway)
    }
}

impl Up {
    /// A request with REDIRECT (RFC 5685 section 5). The answer to it is empty, whether it is followed or not.
    pub(super) fn on_redirect(&mut self, cx: &mut Cx, message: &Message) {
        if !message.has(NotifyType::REDIRECT) {
            return;
        }
        let is_possible =
            self.redirection.is_follower && self.redirection.following.is_none() && !self.is_ending();
        let Some(gateway) = redirect::read_sealed(message).filter(|_| is_possible) else {
            cx.core.counters.redirects_refused += 1;
            return;
        };
        match permitted(cx, &self.head, &mut self.redirection.trail, &gateway) {
            Ok(path) => {
                announce(cx, &self.head, &gateway);
                self.redirection.following = Some(gateway);
                self.begin_successor(cx, path);
            }
            Err(problem) => {
                cx.core.counters.redirects_refused += 1;
                self.head.failed(cx, problem);
            }
        }
    }

    /// After a restart: the tunnel in the place of this one was not there yet, or would have ended it.
    pub(super) fn follow_again(&mut self, cx: &mut Cx) {
        let Some(gateway) = &self.redirection.following else { return };
        match path_to(cx.host, &self.head.connection, gateway) {
            Some(path) if !self.is_ending() && !self.is_frozen => self.begin_successor(cx, path),
            _ => self.redirection.following = None,
        }
    }

    /// Begins the tunnel that takes the place of this one.
    fn begin_successor(&self, cx: &mut Cx, path: Path) {
        let inside = self.own_addresses(cx);
        let detour =
            Detour { trail: self.redirection.trail.clone(), from: Some(self.head.peer()), old: Some(cx.id) };
        let ticket = self.ticket(cx.now.unix).map(Arc::new);
        let attempt = Attempt { wanted: self.carried(), detour, ticket, inside, ..Attempt::default() };
        let (nat, roaming) = (Nat::default(), Roaming::default());
        let head = Head { path, nat, roaming, ..self.head.clone() };
        cx.core.orders.push_back(Order::Follow { head, attempt });
    }

    /// The Child SAs that it has or is to have.
    fn carried(&self) -> Vec<Wanted> {
        let live = self.children.iter().filter(|child| child.is_live());
        let live = live.map(|child| Wanted { child: Arc::clone(&child.child), reqid: None });
        let waiting = self.tasks.iter().filter_map(|task| match task {
            Task::NewChild(wanted) => Some(wanted.clone()),
            _ => None,
        });
        let mut attempt = Attempt::default();
        attempt.add(live.chain(waiting).collect());
        attempt.wanted
    }
}

/// What becomes of the tunnel with the gateway that has sent us here when the new one does not come to stand.
/// Whether it is still there: then there is nothing to try again.
pub(super) fn gives_up(cx: &mut Cx, head: &Head, detour: &mut Detour) -> bool {
    let old = detour.old.take();
    let standing = cx.core.index.connections.get(&head.connection.name);
    let old = old.filter(|old| standing.is_some_and(|ids| ids.contains(old)));
    cx.core.orders.extend(old.map(|id| Order::Stay { id }));
    old.is_some()
}

impl Ike {
    /// Begins the tunnel in the place of another one, in the same segment.
    pub(super) fn follow(&mut self, now: Now, host: &mut dyn Host, head: Head, attempt: Attempt) {
        let most = self.core.configuration.limits.max_ike_sas;
        if self.tunnels.len() >= most {
            let old = attempt.detour.old;
            return old.into_iter().for_each(|old| self.stay(now, host, old));
        }
        self.begin(now, host, |cx| {
            let head = Head { number: cx.number(head.segment()), ..head };
            Some(resumption::begin(cx, head, attempt))
        });
    }

    /// The tunnel stays where it is.
    pub(super) fn stay(&mut self, now: Now, host: &mut dyn Host, id: Id) {
        self.with_tunnel(now, host, id, |tunnel, cx| {
            let Tunnel::Up(mut up) = tunnel else { return Some(tunnel) };
            up.redirection.following = None;
            Some(up.proceed(cx))
        });
    }
}

/// The old tunnel ends when the new one stands.
pub(super) fn settle(cx: &mut Cx, attempt: &Attempt) {
    let end = |id| Order::End { id, reason: DownReason::Redirected, silent: false };
    cx.core.orders.extend(attempt.detour.old.map(end));
}
