//! What a context has of session resumption (RFC 5723), and tickets of peers that were lost, which have no tunnel.

use std::sync::Arc;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::numbers::{Impossible, addresses, from_time, monotonic, texts, time, unix};
use super::read::{Keys, ReadError, identity};
use super::restore::{RestoreError, envelope};
use super::stored::{Envelope, Time};
use super::write::{body, encode};
use super::{VERSION, associated};
use crate::crypto::SealedState as _;
use crate::host::Now;
use crate::machine::Ike;
use crate::machine::core::Cx;
use crate::machine::resumption::{Resumption, Session, Ticket, TicketId};
use crate::machine::up::Peers;

/// The kind of a request, or of something that waits to be one, that asks for a ticket.
pub(super) const TICKET: u8 = 65;

/// What a tunnel has of it.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredResumption {
    #[n(0)]
    is_client: bool,
    #[n(1)]
    is_resumed: bool,
    #[n(2)]
    authenticated: Time,
    #[n(3)]
    ticket: Option<StoredTicket>,
    #[n(4)]
    renew_at: Option<Time>,
    /// The name of our tickets that the peer has, and how long the last is good.
    #[n(5)]
    issued: Option<(ByteVec, Time)>,
}

/// A ticket of the peer's. Its secret is the last of the sealed keys.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredTicket {
    #[n(0)]
    opaque: ByteVec,
    /// Bodies of ID payloads: ours, the peer's.
    #[n(1)]
    local: ByteVec,
    #[n(2)]
    remote: ByteVec,
    #[n(3)]
    ppk: Option<ByteVec>,
    #[n(4)]
    authenticated: Time,
    #[n(5)]
    addresses: Vec<String>,
    #[n(6)]
    until: Time,
    /// Of a ticket without a tunnel.
    #[n(7)]
    connection: Option<String>,
}

pub(super) fn stored_resumption(now: Now, resumption: &Resumption) -> StoredResumption {
    let issued = resumption.issued.map(|(id, until)| (id.to_vec().into(), unix(until)));
    StoredResumption {
        is_client: resumption.is_client,
        is_resumed: resumption.is_resumed,
        authenticated: unix(resumption.authenticated),
        ticket: resumption.ticket.as_ref().map(|ticket| stored_ticket(ticket, None)),
        renew_at: resumption.renew_at.map(|at| time(now, at)),
        issued,
    }
}

fn stored_ticket(ticket: &Ticket, connection: Option<&str>) -> StoredTicket {
    let Session { peers, ppk, authenticated } = &ticket.session;
    StoredTicket {
        opaque: ticket.opaque.clone().into(),
        local: body(&peers.local),
        remote: body(&peers.remote),
        ppk: ppk.as_ref().map(body),
        authenticated: unix(*authenticated),
        addresses: texts(&ticket.addresses),
        until: unix(ticket.until),
        connection: connection.map(ToOwned::to_owned),
    }
}

/// None is of an earlier release, which knew nothing of it.
pub(super) fn resumption(
    now: Now,
    stored: Option<&StoredResumption>,
    keys: &mut Keys,
) -> Result<Resumption, ReadError> {
    let Some(stored) = stored else { return Ok(Resumption::default()) };
    let id = |id: &ByteVec| TicketId::try_from(id.as_slice()).map_err(|_| Impossible("a ticket's name"));
    let issued = stored.issued.as_ref().map(|(name, until)| id(name).map(|id| (id, from_time(*until))));
    Ok(Resumption {
        is_client: stored.is_client,
        is_resumed: stored.is_resumed,
        authenticated: from_time(stored.authenticated),
        ticket: stored.ticket.as_ref().map(|stored| ticket(stored, keys)).transpose()?,
        renew_at: stored.renew_at.map(|at| monotonic(now, at)),
        issued: issued.transpose()?,
    })
}

fn ticket(stored: &StoredTicket, keys: &mut Keys) -> Result<Ticket, ReadError> {
    let peers = Peers { local: identity(&stored.local)?, remote: identity(&stored.remote)?, user: None };
    let ppk = stored.ppk.as_ref().map(|ppk| identity(ppk)).transpose()?;
    Ok(Ticket {
        opaque: stored.opaque.to_vec(),
        secret: keys.next()?,
        session: Session { peers, ppk, authenticated: from_time(stored.authenticated) },
        addresses: addresses(&stored.addresses)?,
        until: from_time(stored.until),
    })
}

impl Cx<'_> {
    /// A ticket of a connection whose tunnel was lost, as [`Ike::restore_ticket`] takes it.
    pub(in crate::machine) fn seal_ticket(&mut self, connection: &str, ticket: &Ticket) -> Vec<u8> {
        let public = encode(&stored_ticket(ticket, Some(connection)));
        let Cx { host, core, .. } = self;
        let random = &mut |octets: &mut [u8]| host.random(octets);
        let sealed = ticket.secret.seal_state(&core.wrap, &associated(0, &public), random).into();
        encode(&Envelope { version: VERSION, public: public.into(), sealed: vec![sealed] })
    }
}

impl Ike {
    /// Takes back a ticket that [`crate::Output::KeepTicket`] gave to be kept; the name of its connection. One that is
    /// too old, or of a connection that is no longer configured, is passed over: `None`.
    ///
    /// # Errors
    /// [`RestoreError`]: it is of no use.
    pub fn restore_ticket(&mut self, now: Now, kept: &[u8]) -> Result<Option<String>, RestoreError> {
        let envelope = envelope(kept)?;
        let stored: StoredTicket =
            minicbor::decode(&envelope.public).map_err(|_| RestoreError::Damaged("a field"))?;
        let connection = stored.connection.clone().ok_or(RestoreError::Damaged("the connection"))?;
        let mut keys = Keys {
            wrap: &self.core.wrap,
            public: &envelope.public,
            sealed: envelope.sealed.iter().enumerate(),
        };
        let ticket = ticket(&stored, &mut keys)?;
        if ticket.until <= now.unix || !self.core.resumes(&connection) {
            return Ok(None);
        }
        self.core.tickets.insert(connection.clone(), Arc::new(ticket));
        Ok(Some(connection))
    }
}
