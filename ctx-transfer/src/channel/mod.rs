//! The channel between members of a cluster: mutual TLS 1.3 inside QUIC (RFC 9000, RFC 9001).
//!
//! Two connections for each pair of members, on two ports: one for heartbeats alone, so that no bulk fill delays them,
//! and one for the rest. Of a pair, the member with the lower id calls. What arrives are whole messages of a [`Lane`]
//! from a [`NodeId`] whose certificate was checked; what they mean is not this module's business.
//!
//! A stranger gets nothing but, at most, one packet by which it has to prove its address (RFC 9000 section 8.1.2);
//! who is not at a member's address does not get that.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use baton_sad::NodeId;

use crate::cluster::{Lane, Role};

mod accept;
mod credentials;
mod dial;
mod endpoint;
mod identity;
mod link;
mod problem;
mod streams;
mod tls;
mod trust;

#[cfg(test)]
mod tests;

pub use credentials::{AUTHORITY, AUTHORITY_KEY, CERTIFICATE, Credentials, CredentialsError, KEY, name_of};
pub use endpoint::{Channel, ChannelError, Counted, Prepared, Sender, Settings};
pub use identity::{Identity, NotAMember};
pub use link::SendError;
pub use problem::{Alert, CertificateProblem, LinkProblem};

/// What kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Lane::Heartbeat`].
    Heartbeat,
    /// All other lanes.
    Bulk,
}

impl Kind {
    /// Its names in TLS (RFC 7301), one for each version of the messages that is spoken, the best first: who has none in
    /// common with us is refused by TLS.
    fn protocols(self, versions: &RangeInclusive<u8>) -> Vec<Vec<u8>> {
        let name = match self {
            Self::Heartbeat => "baton-heartbeat",
            Self::Bulk => "baton-contexts",
        };
        versions.clone().rev().map(|version| format!("{name}/{version}").into_bytes()).collect()
    }

    /// After how long without a packet a connection is given up, and how often one is sent for its own sake. Who is
    /// alive is not judged by these, but by heartbeats.
    fn patience(self) -> (Duration, Duration) {
        match self {
            Self::Heartbeat => (Duration::from_millis(500), Duration::from_millis(50)),
            Self::Bulk => (Duration::from_secs(1), Duration::from_millis(100)),
        }
    }
}

/// Of which connections a lane is part.
pub const fn kind_of(lane: Lane) -> Kind {
    match lane {
        Lane::Heartbeat => Kind::Heartbeat,
        Lane::Contexts | Lane::Control | Lane::Counters => Kind::Bulk,
    }
}

/// A member, as the configuration knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// What it is there for.
    pub role: Role,
    /// Where this kind of connection reaches it; it calls from there, too.
    pub address: SocketAddr,
}

/// What happens on the channel.
#[derive(Debug)]
pub enum Event {
    /// Messages can be sent to a member from now on.
    Connected(NodeId),
    /// No more; what was not sent yet is lost.
    Disconnected(NodeId, LinkProblem),
    /// A message.
    Message {
        /// Whose; its certificate says so.
        from: NodeId,
        /// How it came.
        lane: Lane,
        /// Its octets, [`Lane::most_octets`] at most.
        octets: Vec<u8>,
    },
}
