//! Users whose proof is judged elsewhere, by a RADIUS server: what the protocol asks its host, and what it tells of
//! their sessions.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{DownReason, Path, TunnelName};

/// Links an answer with its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub u64);

/// What a user says in EAP, for an authenticator elsewhere (RFC 3579). The answer comes by
/// [`crate::machine::Ike::judged`].
#[derive(Debug, Clone)]
pub struct Question {
    /// Of this question.
    pub id: QuestionId,
    /// What the tunnel is to be called.
    pub tunnel: TunnelName,
    /// Its connection.
    pub connection: String,
    /// Who the user says it is.
    pub user: Vec<u8>,
    /// Where both are.
    pub path: Path,
    /// What its session is to be called.
    pub session: String,
    /// Its EAP packet.
    pub eap: Vec<u8>,
    /// What the answer before this question said.
    pub thread: Option<Thread>,
}

/// Ties a question to the answer before it.
#[derive(Clone, PartialEq, Eq)]
pub struct Thread {
    /// Who has answered.
    pub server: String,
    /// What it wants to be told again (RFC 2865 section 5.24).
    pub state: Option<Vec<u8>>,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({})", self.server)
    }
}

/// What an authenticator elsewhere says.
#[derive(Debug)]
pub enum Judgement {
    /// The conversation goes on by this EAP packet.
    Continue {
        /// For the user.
        eap: Vec<u8>,
        /// For the next question.
        thread: Thread,
    },
    /// The user is who it says it is.
    Accept(Box<Grant>),
    /// It is not, or may not come in.
    Reject {
        /// For the user.
        eap: Option<Vec<u8>>,
        /// A sentence.
        problem: String,
    },
    /// Nobody knows; a sentence.
    Unknown(String),
}

/// What is granted to a user.
#[derive(Default, Clone)]
pub struct Grant {
    /// For the user.
    pub eap: Option<Vec<u8>>,
    /// The master session key (RFC 3748 section 7.10) of 64 octets, if the method gives one.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// Who the user is, if the authenticator says so.
    pub user: Option<Vec<u8>>,
    /// To be told in accounting.
    pub class: Vec<Vec<u8>>,
    /// After so long the session ends.
    pub session_timeout: Option<Duration>,
    /// Without traffic it ends after so long.
    pub idle_timeout: Option<Duration>,
    /// How often it is accounted for.
    pub interim_interval: Option<Duration>,
    /// Its inner addresses.
    pub addresses: Vec<IpAddr>,
    /// Name servers for it.
    pub dns: Vec<IpAddr>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// A user's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Acct-Session-Id: stays over rekeyings, restarts and moves.
    pub id: String,
    /// Who the user is, for those who account for it.
    pub user: Vec<u8>,
    /// What the authenticator wants to be told with it.
    pub class: Vec<Vec<u8>>,
    /// When it ends (unix time).
    pub ends: Option<Duration>,
    /// Without traffic it ends after so long.
    pub idle_timeout: Option<Duration>,
    /// How often it is accounted for.
    pub interim_interval: Option<Duration>,
}

/// What is told of a session, to be kept by somebody who bills it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Which tunnel it has.
    pub tunnel: TunnelName,
    /// Its connection.
    pub connection: String,
    /// Which session.
    pub session: SessionView,
    /// Where both are.
    pub path: Path,
    /// The user's inner addresses.
    pub virtual_addresses: Vec<IpAddr>,
    /// What has happened.
    pub moment: Moment,
    /// How long it has lasted.
    pub time: Duration,
    /// What it has carried.
    pub traffic: Traffic,
}

/// What has happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It begins.
    Start,
    /// It goes on.
    Interim,
    /// It is over.
    Stop(DownReason),
}

/// What SAs have carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// From the peer.
    pub inbound: Volume,
    /// To the peer.
    pub outbound: Volume,
}

/// An amount of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Volume {
    /// Octets, as the data plane's SAs count them.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
}

impl std::ops::AddAssign for Volume {
    fn add_assign(&mut self, other: Self) {
        self.octets = self.octets.saturating_add(other.octets);
        self.packets = self.packets.saturating_add(other.packets);
    }
}

/// Other rules for a session (RFC 5176): what is `None` stays; zero is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionChange {
    /// How long it may last from its beginning.
    pub timeout: Option<Duration>,
    /// How often it is accounted for.
    pub interim_interval: Option<Duration>,
}
