//! The responder's IKE_SESSION_RESUME, and the IKE_AUTH that follows it (RFC 5723 sections 4.3.2 to 4.3.4).

use std::sync::Arc;

use super::session::Issue;
use super::{Presented, Resumed, Session};
use crate::configuration::{Childless, Connection, EapMethod, RemoteMethod, Unique};
use crate::crypto::{IkeSuite, ResumptionSecret, Role, TicketKey};
use crate::host::Path;
use crate::identity::Identity;
use crate::machine::auth_answer::{self, Accepted, Half, others, proved_alike};
use crate::machine::core::{Cx, Id};
use crate::machine::head::Head;
use crate::machine::ike_sa::IkeSa;
use crate::machine::init_answered::{InitAnswered, Request, candidates};
use crate::machine::init_sent::{fragmentation, reassembles};
use crate::machine::message::{Message, flag};
use crate::machine::mobility::Roaming;
use crate::machine::nat::{self, Nat};
use crate::machine::tunnel::Tunnel;
use crate::machine::window::Window;
use crate::proposal::accepts_ike;
use crate::wire::{self, ExchangeType, Flags, Header, Identification, NotifyType, Payload};

impl Request<'_> {
    /// Works on an IKE_SESSION_RESUME request that limits and cookies have let through.
    pub(in crate::machine) fn resume(&self, cx: &mut Cx, segment: u8) -> Option<Tunnel> {
        let ticket = self.message.notify(NotifyType::TICKET_OPAQUE);
        let (Some(ticket), Some(nonce)) = (ticket, &self.message.nonce) else {
            self.refuse(cx, NotifyType::INVALID_SYNTAX, &[]);
            return None;
        };
        let Some((connection, secret, resumed)) = self.open(cx, &ticket.data) else {
            cx.core.counters.tickets_refused += 1;
            self.refuse(cx, NotifyType::TICKET_NACK, &[]);
            return None;
        };
        let state = self.begin_resumed(cx, segment, (connection, &secret, resumed), nonce);
        Some(Tunnel::InitAnswered(Box::new(state)))
    }

    /// What the ticket says, if it is one of ours, good, not spent, and of a connection that would take the peer today.
    fn open(&self, cx: &Cx, ticket: &[u8]) -> Option<(Arc<Connection>, ResumptionSecret, Resumed)> {
        let (secret, contents) = TicketKey::open(cx.core.ticket_keys(), ticket).ok()?;
        let issue = Issue::decode(&contents)?;
        let resumed = issue.resumed()?;
        let Presented { id, until, .. } = resumed.presented?;
        if cx.now.unix >= until || cx.core.spent.has(&id) {
            return None;
        }
        let (named, suite) = ((issue.connection(), issue.method()), secret.suite());
        let connection = connection_for(cx, self.path, named, &resumed.session, suite)?;
        Some((connection, secret, resumed))
    }

    fn begin_resumed(
        &self,
        cx: &mut Cx,
        segment: u8,
        (connection, secret, resumed): (Arc<Connection>, &ResumptionSecret, Resumed),
        nonce: &[u8],
    ) -> InitAnswered {
        let spis = (self.header.initiator_spi, cx.ike_spi(segment));
        let nat = Nat::detect(self.message, self.header, self.path);
        let (number, path, roaming) = (cx.number(segment), self.path, Roaming::default());
        let head = Head { number, connection, path, nat, roaming };
        let our_nonce = cx.nonce();
        let flags = Flags { initiator: false, response: true };
        let header = Header { responder_spi: spis.1, flags, ..*self.header };
        let mut payloads = vec![Payload::Nonce(our_nonce.clone())];
        payloads.extend(nat::detection(cx, &header, head.path, &head.connection));
        payloads.extend(fragmentation(&head.connection));
        let takes_childless = head.connection.childless != Childless::Never;
        payloads.extend(takes_childless.then(|| flag(NotifyType::CHILDLESS_IKEV2_SUPPORTED)));
        let response = wire::emit(&header, &payloads);
        cx.transmit(self.path, std::slice::from_ref(&response));
        let keys = secret.resume((nonce, &our_nonce), spis);
        let mut sa = IkeSa::new(Role::Responder, spis, keys, Window::new(0, 1));
        sa.peer_reassembles = reassembles(&head.connection, self.message);
        InitAnswered::resumed(cx, self, head, (response, our_nonce), sa, resumed)
    }
}

/// The connection of that name and method, if it is there and would take the peer of a ticket today.
fn connection_for(
    cx: &Cx,
    path: Path,
    (name, method): (&str, &str),
    session: &Session,
    suite: IkeSuite,
) -> Option<Arc<Connection>> {
    let connection = candidates(cx, path).find(|connection| connection.name == name)?;
    let fits = is_alike(cx, path, connection, session)
        && connection.remote.method.keyword() == method
        && accepts_ike(&connection.ike_proposals, suite);
    fits.then(|| Arc::clone(connection))
}

/// Whether the connection, as it is configured now, would take the peer of a ticket: nothing that it asks of a new tunnel
/// may be less in a resumed one, and whose secret was withdrawn is out.
fn is_alike(cx: &Cx, path: Path, connection: &Connection, session: &Session) -> bool {
    let Session { peers, ppk, authenticated } = session;
    let (credentials, moving) = (&cx.core.credentials, &connection.moving);
    let is_known = match connection.remote.method {
        RemoteMethod::PreSharedKey => credentials.shared_secret(&peers.local, &peers.remote).is_some(),
        RemoteMethod::Eap(EapMethod::MsChapV2) => {
            peers.user.as_ref().is_some_and(|user| credentials.password(&peers.local, user).is_some())
        }
        // Only the judge knows, and it has given the peer no ticket.
        RemoteMethod::Radius => false,
        _ => true,
    };
    let pattern = connection.remote.eap_identity.as_ref();
    let user_fits = match (&peers.user, pattern) {
        (Some(user), Some(pattern)) => pattern.matches(user).is_some(),
        _ => true,
    };
    let is_recent = moving.resumption_time.is_zero()
        || cx.now.unix < authenticated.saturating_add(moving.resumption_time);
    let local = credentials.local_identity(&connection.local, path.local.ip());
    moving.session_resumption
        && is_known
        && user_fits
        && is_recent
        && connection.remote.identity.matches(&peers.remote).is_some()
        && local == peers.local
        && ppk.as_ref().map_or(!connection.ppk.is_required, |ppk| has_key(cx, connection, ppk))
}

/// Whether the postquantum preshared key that was used could be used today.
fn has_key(cx: &Cx, connection: &Connection, ppk: &Identity) -> bool {
    let own = connection.ppk.identity.as_ref();
    own.is_none_or(|own| own == ppk) && cx.core.credentials.postquantum_key(ppk).is_some()
}

/// Works on the IKE_AUTH request that follows.
pub(in crate::machine) fn answer(
    cx: &mut Cx,
    mut half: Half,
    message_id: u32,
    message: &Message,
    resumed: Resumed,
) -> Tunnel {
    // The configuration may be another one since the ticket was opened.
    let Head { connection, path, .. } = &half.head;
    let named = (connection.name.as_str(), connection.remote.method.keyword());
    let connection = connection_for(cx, *path, named, &resumed.session, half.sa.keys.suite());
    let accepted = match connection {
        Some(connection) => {
            half.head.connection = connection;
            half.accept_resumed(cx, message, resumed)
        }
        None => Err("the peer's tunnel may no longer be resumed; it sets it up anew".to_owned()),
    };
    match accepted {
        Ok(accepted) => half.establish(cx, message_id, message, accepted),
        Err(problem) => auth_answer::reject(cx, half, (ExchangeType::IKE_AUTH, message_id), problem),
    }
}

impl Half {
    /// The peer has to be whom the ticket names, and to have its keys (RFC 5723 section 4.3.3).
    fn accept_resumed(&self, cx: &mut Cx, message: &Message, resumed: Resumed) -> Result<Accepted, String> {
        let Session { peers, .. } = &resumed.session;
        if !message.certificates.is_empty() {
            return Err("the peer resumes a tunnel and sends certificates; look at its log".to_owned());
        }
        self.proofs(None).verify_resumed(&peers.remote, message.initiator.as_ref(), message)?;
        if message.responder.is_some() && !is(message.responder.as_ref(), &peers.local) {
            return Err("the peer resumes a tunnel with somebody else; look at its log".to_owned());
        }
        let presented = resumed.presented.ok_or("the ticket is none of ours")?;
        if cx.core.spent.has(&presented.id) {
            return Err("the peer's ticket was used already; it sets the tunnel up anew".to_owned());
        }
        let replaced = self.replaced_by_ticket(cx, message, &presented, peers.proved())?;
        cx.core.spent.note(cx.now.unix, presented.id, presented.until);
        let our_id = auth_answer::our_id(&peers.local)?;
        let proof = self.proofs(None).prove_resumed(&our_id);
        let payloads = vec![Payload::IdentificationResponder(our_id), proof];
        let peers = peers.clone();
        Ok(Accepted { peers, payloads, replaced, ppk: None, resumed: Some(resumed), granted: None })
    }

    /// The tunnel that the ticket was given on, if it is still here, is over without a word (RFC 5723 section 4.3.4);
    /// and what `unique` and INITIAL_CONTACT say.
    fn replaced_by_ticket(
        &self,
        cx: &Cx,
        message: &Message,
        presented: &Presented,
        remote: &Identity,
    ) -> Result<Vec<Id>, String> {
        let connection = &self.head.connection;
        let others = others(cx, connection, remote);
        let index = &cx.core.index;
        let by_spi =
            [presented.spis.0, presented.spis.1].into_iter().find_map(|spi| index.ike_spis.get(&spi));
        let old = by_spi.or_else(|| index.numbers.get(&presented.number)).copied();
        let old = old.filter(|old| others.contains(old));
        let rest = || others.iter().copied().filter(|id| Some(*id) != old);
        let mut replaced = match connection.unique {
            Unique::Never => Vec::new(),
            _ if message.has(NotifyType::INITIAL_CONTACT) => proved_alike(cx, connection, remote),
            Unique::Keep if rest().next().is_some() => {
                return Err(format!(
                    "\"{remote}\" has another tunnel already, and unique = keep refuses one more"
                ));
            }
            Unique::Replace => rest().collect(),
            Unique::No | Unique::Keep => Vec::new(),
        };
        replaced.retain(|id| Some(*id) != old);
        replaced.extend(old);
        Ok(replaced)
    }
}

/// Whether an ID payload says that.
fn is(id: Option<&Identification>, identity: &Identity) -> bool {
    id.and_then(|id| Identity::from_wire(id).ok()).as_ref() == Some(identity)
}
