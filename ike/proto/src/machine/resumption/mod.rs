//! Session resumption (RFC 5723): a tunnel whose IKE SA is lost comes back by a ticket, without a key exchange and
//! without asking for a proof again. The ticket is the responder's, sealed for itself and its cluster; the initiator
//! keeps it, and what it needs itself.
//!
//! | file | what it knows |
//! |---|---|
//! | `ticket.rs` | what an initiator keeps |
//! | `client.rs` | asking for tickets, and keeping them while the tunnel stands and when it is lost |
//! | `resume_sent.rs` | the initiator's IKE_SESSION_RESUME |
//! | `session.rs` | what is in a ticket of ours |
//! | `issue.rs` | giving tickets, and which are spent |
//! | `answer.rs` | the responder's IKE_SESSION_RESUME, and the IKE_AUTH that follows it |

mod answer;
mod client;
mod issue;
mod resume_sent;
mod session;
mod ticket;

use std::time::Duration;

pub(super) use answer::answer;
pub(super) use client::{begin, fall_back, request};
pub(super) use issue::Spent;
pub(super) use resume_sent::ResumeSent;
pub(super) use ticket::Ticket;

use super::up::Peers;
use crate::identity::Identity;

/// Octets that name the tickets of an IKE SA.
pub(super) const TICKET_ID: usize = 16;

/// The tickets that were given on one IKE SA: when one was used, or the IKE SA is over, all of them are void.
pub(super) type TicketId = [u8; TICKET_ID];

/// Who both ends have proved to be, and what else goes on with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) peers: Peers,
    /// The postquantum preshared key in the keys (RFC 8784).
    pub(super) ppk: Option<Identity>,
    /// When they have proved it (unix time).
    pub(super) authenticated: Duration,
}

/// What IKE_SESSION_RESUME has brought back.
#[derive(Debug, Clone)]
pub(super) struct Resumed {
    pub(super) session: Session,
    /// At the responder.
    pub(super) presented: Option<Presented>,
    /// Inner addresses that we had, at the initiator.
    pub(super) addresses: Vec<std::net::IpAddr>,
}

/// A ticket of ours that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Presented {
    pub(super) id: TicketId,
    /// How long it is good (unix time).
    pub(super) until: Duration,
    /// SPIs of the IKE SA that it was given on.
    pub(super) spis: (u64, u64),
    /// The number of that tunnel.
    pub(super) number: u32,
}

/// What a tunnel that stands has of resumption.
#[derive(Debug, Clone, Default)]
pub(super) struct Resumption {
    /// We began the tunnel and ask for tickets.
    pub(super) is_client: bool,
    /// It was set up by a ticket.
    pub(super) is_resumed: bool,
    /// When both ends have proved who they are (unix time).
    pub(super) authenticated: Duration,
    /// By what we come back if the tunnel is lost.
    pub(super) ticket: Option<Ticket>,
    /// When another one is asked for (monotonic).
    pub(super) renew_at: Option<Duration>,
    /// The peer has tickets of ours: their name, and how long the last is good (unix time).
    pub(super) issued: Option<(TicketId, Duration)>,
}
