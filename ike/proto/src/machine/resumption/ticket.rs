//! What an initiator keeps to come back: the responder's ticket, SK_d, and who both ends are (RFC 5723 section 4.2).

use std::net::IpAddr;
use std::time::Duration;

use super::Session;
use crate::auth::Credentials;
use crate::configuration::Connection;
use crate::crypto::ResumptionSecret;
use crate::proposal::accepts_ike;
use crate::wire::{MAX_TICKET, TicketWithLifetime};

/// What an initiator keeps.
#[derive(Clone)]
pub(in crate::machine) struct Ticket {
    /// The responder's, which nobody else can read.
    pub(in crate::machine) opaque: Vec<u8>,
    pub(in crate::machine) secret: ResumptionSecret,
    pub(in crate::machine) session: Session,
    /// Inner addresses that we had.
    pub(in crate::machine) addresses: Vec<IpAddr>,
    /// How long it is good (unix time).
    pub(in crate::machine) until: Duration,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket of {} octets until {} s", self.opaque.len(), self.until.as_secs())
    }
}

/// The ticket in the data of TICKET_LT_OPAQUE, and how long it is good from now on; `None` if there is none that could
/// be presented.
pub(super) fn received(data: &[u8]) -> Option<(Vec<u8>, Duration)> {
    let TicketWithLifetime { lifetime, ticket } = TicketWithLifetime::parse(data).ok()?;
    let is_usable = lifetime > 0 && (1..=MAX_TICKET).contains(&ticket.len());
    is_usable.then(|| (ticket, Duration::from_secs(lifetime.into())))
}

impl Ticket {
    /// Whether it is good still, for a connection as it is configured now: nothing that the connection asks of a new
    /// tunnel may be less in a resumed one.
    pub(super) fn is_usable(
        &self,
        unix: Duration,
        connection: &Connection,
        credentials: &Credentials,
        address: IpAddr,
    ) -> bool {
        let Session { peers, ppk, .. } = &self.session;
        unix < self.until
            && connection.moving.session_resumption
            && connection.remote.identity.matches(&peers.remote).is_some()
            && credentials.local_identity(&connection.local, address) == peers.local
            && accepts_ike(&connection.ike_proposals, self.secret.suite())
            && *ppk == connection.ppk.identity.clone().filter(|_| ppk.is_some())
            && (ppk.is_some() || !connection.ppk.is_required)
    }
}
