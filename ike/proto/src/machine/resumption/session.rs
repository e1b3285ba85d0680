//! What is in a ticket of ours, beside the keys (RFC 5723 section 6.1).

use std::time::Duration;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Presented, Resumed, Session, TICKET_ID, TicketId};
use crate::identity::Identity;
use crate::machine::up::{Peers, Up};
use crate::wire::Identification;

/// CBOR with integer keys. A reader passes over those that it does not know.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct Issue {
    /// Names the ticket.
    #[n(0)]
    id: ByteVec,
    /// How long it is good: seconds of unix time.
    #[n(1)]
    until: u64,
    #[n(2)]
    connection: String,
    /// Of the tunnel.
    #[n(3)]
    number: u32,
    /// The initiator's and the responder's.
    #[n(4)]
    spis: (u64, u64),
    /// Body of the initiator's ID payload.
    #[n(5)]
    initiator: ByteVec,
    /// Of the responder's.
    #[n(6)]
    responder: ByteVec,
    /// Body of an ID payload that says whom EAP has found the initiator to be.
    #[n(7)]
    user: Option<ByteVec>,
    /// Body of an ID payload: the postquantum preshared key in the keys.
    #[n(8)]
    ppk: Option<ByteVec>,
    /// How the initiator has proved who it is.
    #[n(9)]
    method: String,
    /// When: seconds of unix time.
    #[n(10)]
    authenticated: u64,
}

impl Issue {
    /// For the initiator of a tunnel.
    pub(super) fn of(up: &Up, id: TicketId, until: Duration, spi: u64) -> Self {
        let sa = up.sas.iter().find(|sa| sa.our_spi() == spi);
        Self {
            id: id.to_vec().into(),
            until: until.as_secs(),
            connection: up.head.connection.name.clone(),
            number: up.head.number,
            spis: sa.map_or((0, 0), |sa| (sa.initiator_spi, sa.responder_spi)),
            initiator: body(&up.peers.remote),
            responder: body(&up.peers.local),
            user: up.peers.user.as_ref().map(body),
            ppk: up.ppk.as_ref().map(body),
            method: up.head.connection.remote.method.keyword().to_owned(),
            authenticated: up.resumption.authenticated.as_secs(),
        }
    }

    /// Vectors take whatever is written: this cannot fail.
    pub(super) fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).unwrap_or_default()
    }

    /// As [`Self::encode`] wrote it. It is authentic, but maybe of another release.
    pub(super) fn decode(contents: &[u8]) -> Option<Self> {
        minicbor::decode(contents).ok()
    }

    pub(super) fn connection(&self) -> &str {
        &self.connection
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// What goes on, at the responder.
    pub(super) fn resumed(&self) -> Option<Resumed> {
        let id: TicketId = <[u8; TICKET_ID]>::try_from(self.id.as_slice()).ok()?;
        let optional = |body: &Option<ByteVec>| match body {
            Some(body) => identity(body).map(Some),
            None => Some(None),
        };
        let peers = Peers {
            local: identity(&self.responder)?,
            remote: identity(&self.initiator)?,
            user: optional(&self.user)?,
        };
        let authenticated = Duration::from_secs(self.authenticated);
        let session = Session { peers, ppk: optional(&self.ppk)?, authenticated };
        let until = Duration::from_secs(self.until);
        let presented = Presented { id, until, spis: self.spis, number: self.number };
        Some(Resumed { session, presented: Some(presented), addresses: Vec::new() })
    }
}

/// An identity that somebody has is no pattern.
pub(super) fn body(identity: &Identity) -> ByteVec {
    identity.to_wire().map(|id| id.body()).unwrap_or_default().into()
}

pub(super) fn identity(body: &[u8]) -> Option<Identity> {
    Identity::from_wire(&Identification::parse(body).ok()?).ok().filter(|identity| !identity.is_pattern())
}
