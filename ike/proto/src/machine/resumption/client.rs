//! The initiator's tickets: asked for in IKE_AUTH and whenever the keys are others or the ticket grows old (RFC 5723
//! section 4.1), kept with the tunnel, and kept without it once the peer is lost.

use std::sync::Arc;
use std::time::Duration;

use super::resume_sent::ResumeSent;
use super::ticket::{Ticket, received};
use super::{Resumed, Session};
use crate::configuration::Connection;
use crate::host::{DownReason, Event, Output};
use crate::machine::core::{Core, Cx};
use crate::machine::head::{Attempt, Head};
use crate::machine::init_sent::InitSent;
use crate::machine::message::{Message, flag};
use crate::machine::pending::Pending;
use crate::machine::tasks::Task;
use crate::machine::tunnel::Tunnel;
use crate::machine::up::Up;
use crate::wire::{ExchangeType, NotifyType, Payload};

/// A gateway that promises a ticket for later (TICKET_ACK) is asked again after so long.
const LATER: Duration = Duration::from_mins(1);

/// Begins an attempt: by a ticket if there is one for the connection, or else by IKE_SA_INIT.
pub(in crate::machine) fn begin(cx: &mut Cx, head: Head, attempt: Attempt) -> Tunnel {
    match ticket_for(cx, &head, &attempt) {
        Some(ticket) => ResumeSent::begin(cx, head, attempt, ticket),
        None => InitSent::begin(cx, head, attempt),
    }
}

fn ticket_for(cx: &mut Cx, head: &Head, attempt: &Attempt) -> Option<Arc<Ticket>> {
    if attempt.is_whole {
        return None;
    }
    let kept = cx.core.tickets.get(&head.connection.name);
    let ticket = Arc::clone(attempt.ticket.as_ref().or(kept)?);
    let (unix, address) = (cx.now.unix, head.path.local.ip());
    if ticket.is_usable(unix, &head.connection, &cx.core.credentials, address) {
        return Some(ticket);
    }
    drop_ticket(cx, &head.connection);
    None
}

/// The ticket was of no use, or nobody knows what became of it: the same attempt goes on with IKE_SA_INIT.
pub(in crate::machine) fn fall_back(cx: &mut Cx, head: Head, mut attempt: Attempt) -> Tunnel {
    cx.core.counters.resumptions_failed += 1;
    drop_ticket(cx, &head.connection);
    attempt.ticket = None;
    attempt.is_whole = true;
    InitSent::begin(cx, head, attempt)
}

/// It was used, or is of no use: a ticket serves once (RFC 5723 section 4.3.1).
fn drop_ticket(cx: &mut Cx, connection: &Connection) {
    if cx.core.tickets.remove(&connection.name).is_some() {
        cx.install(Output::KeepTicket { connection: connection.name.clone(), ticket: None });
    }
}

/// TICKET_REQUEST, if the connection is to have tickets.
pub(in crate::machine) fn request(connection: &Connection) -> Option<Payload> {
    connection.moving.session_resumption.then(|| flag(NotifyType::TICKET_REQUEST))
}

impl Core {
    /// Whether a connection is configured to be resumed.
    pub(in crate::machine) fn resumes(&self, name: &str) -> bool {
        let mut connections = self.configuration.connections.iter();
        connections.any(|connection| connection.name == name && connection.moving.session_resumption)
    }

    /// Forgets tickets of connections that are no longer configured, or no longer to be resumed.
    pub(in crate::machine) fn forget_tickets(&mut self) {
        let gone: Vec<String> = self.tickets.keys().filter(|name| !self.resumes(name)).cloned().collect();
        for connection in gone {
            self.tickets.remove(&connection);
            self.outputs.push_back(Output::KeepTicket { connection, ticket: None });
        }
    }
}

impl Up {
    /// We began the tunnel: what its first answer says of tickets, and how it was set up.
    pub(in crate::machine) fn begin_as_client(
        &mut self,
        cx: &mut Cx,
        resumed: Option<&Resumed>,
        message: &Message,
    ) {
        self.resumption.is_client = self.head.connection.moving.session_resumption;
        self.resumption.authenticated = resumed.map_or(cx.now.unix, |resumed| resumed.session.authenticated);
        if resumed.is_some() {
            self.note_resumed(cx, true);
        }
        drop_ticket(cx, &self.head.connection);
        self.take_ticket(cx, 0, message);
    }

    pub(super) fn note_resumed(&mut self, cx: &mut Cx, by_us: bool) {
        self.resumption.is_resumed = true;
        cx.core.counters.resumed += 1;
        cx.event(Event::Resumed { tunnel: self.head.name(), by_us });
    }

    /// What a protected message says of tickets (RFC 5723 section 4.2). One that belongs to keys that were replaced is
    /// of no use.
    fn take_ticket(&mut self, cx: &Cx, at: usize, message: &Message) {
        if !self.resumption.is_client {
            return;
        }
        let given = message.notify(NotifyType::TICKET_LT_OPAQUE).and_then(|notify| received(&notify.data));
        match given {
            Some((opaque, lifetime)) if at == 0 => {
                let session = Session {
                    peers: self.peers.clone(),
                    ppk: self.ppk.clone(),
                    authenticated: self.resumption.authenticated,
                };
                self.resumption.ticket = Some(Ticket {
                    opaque,
                    secret: self.sas[0].keys.resumption_secret(),
                    session,
                    addresses: Vec::new(),
                    until: cx.now.unix.saturating_add(lifetime),
                });
                self.resumption.renew_at = Some(cx.now.monotonic.saturating_add(lifetime * 3 / 4));
            }
            Some(_) => self.want_ticket(),
            None if message.has(NotifyType::TICKET_ACK) => {
                self.resumption.renew_at = Some(cx.now.monotonic.saturating_add(LATER));
            }
            None => {}
        }
    }

    fn want_ticket(&mut self) {
        self.tasks.add(Task::RequestTicket);
    }

    /// The keys are others: a ticket with the old ones is void (RFC 5723 section 6.2).
    pub(in crate::machine) fn renew_ticket(&mut self, cx: &mut Cx) {
        self.revoke_issued(cx);
        if self.resumption.is_client {
            self.resumption.ticket = None;
            self.resumption.renew_at = None;
            self.want_ticket();
        }
    }

    /// The ticket grows old.
    pub(in crate::machine) fn on_ticket_due(&mut self, cx: &Cx) {
        if self.resumption.renew_at.take_if(|at| *at <= cx.now.monotonic).is_some() {
            self.want_ticket();
        }
    }

    /// Asks for another one (RFC 5723 section 4.1).
    pub(in crate::machine) fn ask_ticket(&mut self, cx: &mut Cx) {
        let payloads: Vec<Payload> = request(&self.head.connection).into_iter().collect();
        if self.resumption.is_client && !payloads.is_empty() {
            self.ask(cx, ExchangeType::INFORMATIONAL, &payloads, Pending::Ticket);
        }
    }

    /// The answer to that.
    pub(in crate::machine) fn on_ticket(&mut self, cx: &Cx, at: usize, message: &Message) {
        self.take_ticket(cx, at, message);
    }

    /// The ticket, with what the tunnel has now.
    pub(in crate::machine) fn ticket(&self, unix: Duration) -> Option<Ticket> {
        let ticket = self.resumption.ticket.clone().filter(|ticket| unix < ticket.until)?;
        Some(Ticket { addresses: self.virtual_addresses.clone(), ..ticket })
    }

    /// The tunnel is over. If the peer was lost its ticket is kept; if either end has ended it, it is void (RFC 5723
    /// section 6.2), and so are those that the peer has.
    pub(in crate::machine) fn leave_ticket(&mut self, cx: &mut Cx, reason: DownReason) {
        match reason {
            DownReason::Unreachable | DownReason::Crashed => {
                if let Some(ticket) = self.ticket(cx.now.unix) {
                    let connection = self.head.connection.name.clone();
                    let kept = Some(cx.seal_ticket(&connection, &ticket));
                    cx.install(Output::KeepTicket { connection: connection.clone(), ticket: kept });
                    cx.core.tickets.insert(connection, Arc::new(ticket));
                }
            }
            DownReason::Moved | DownReason::Redirected => {}
            _ => self.revoke_issued(cx),
        }
    }
}
