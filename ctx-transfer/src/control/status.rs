//! How the cluster is, as one member sees it.

use serde::{Deserialize, Serialize};

/// How the cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Release of the daemon.
    pub release: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// This member.
    pub node: u8,
    /// `node` or `witness`.
    pub role: String,
    /// The cluster's name.
    pub cluster: String,
    /// Segments that it owns.
    pub owned: Vec<u8>,
    /// The term of its claims.
    pub term: u64,
    /// Milliseconds until the first of its leases would end without a renewal.
    pub leased_ms: Option<u64>,
    /// `majority`: at most one owner is sure. `pair-without-witness`: availability comes first.
    pub rule: String,
    /// Whether it is in maintenance.
    pub maintenance: bool,
    /// Segments that are being moved.
    pub moving: Vec<u8>,
    /// Whether its data plane is there.
    pub data_plane: bool,
    /// Its sides whose interface has no link: `outer`, `inner`.
    pub no_link: Vec<String>,
    /// Whether heartbeats have real-time priority.
    pub real_time: bool,
    /// The other members.
    pub members: Vec<MemberEntry>,
    /// When and how segments came last.
    pub last_took: Option<LastTook>,
    /// Its certificate.
    pub certificate: CertificateStatus,
    /// What the channel has counted.
    pub channel: ChannelStatus,
    /// Since the start.
    pub totals: TotalsEntry,
    /// Times that an SA had used up what was reserved before more was.
    pub reservation_misses: u64,
    /// What keeps an intruder inside the process, by words.
    pub fence: Vec<String>,
    /// What needs an operator, as sentences; empty when all is well.
    pub alarms: Vec<String>,
    /// What an operator should know, and cannot or need not change, as sentences.
    pub notes: Vec<String>,
}

/// Another member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct MemberEntry {
    /// Its id.
    pub id: u8,
    /// `node` or `witness`.
    pub role: String,
    /// Whether its heartbeats are heard.
    pub alive: bool,
    /// Milliseconds since the last of them.
    pub heard_ms: Option<u64>,
    /// Its release, once it has said so.
    pub release: Option<String>,
    /// The version of the messages that both speak, while connected.
    pub protocol: Option<u8>,
    /// Whether both connections stand.
    pub connected: bool,
    /// Why not, as a sentence.
    pub problem: Option<String>,
    /// Segments that it owns.
    pub owns: Vec<u8>,
    /// Whether it is in maintenance.
    pub maintenance: bool,
    /// Whether it serves nobody for now: its data plane is away, or a link of it was a moment ago.
    pub idle: bool,
    /// As our standby.
    pub standby: StandbyEntry,
    /// Segments that it could take over from us without a loss.
    pub ready: Vec<u8>,
    /// Contexts on their way that it has not acknowledged.
    pub lag_contexts: u64,
    /// Packets whose numbers wait to be reserved there.
    pub lag_packets: u64,
    /// Milliseconds for which the oldest change or reservation is on its way.
    pub lag_ms: u64,
    /// Octets that wait to be sent to it.
    pub lag_octets: u64,
    /// Tunnels that it refuses, some of them, with the reasons.
    pub refused: Vec<(String, String)>,
}

/// How a standby stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyEntry {
    /// In a word.
    pub state: StandbyWord,
    /// Tunnels that it has, while it is filled.
    pub done: u64,
    /// Of so many.
    pub total: u64,
    /// Milliseconds since it is stale.
    pub stale_ms: u64,
}

/// How a standby stands, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StandbyWord {
    /// Not connected, or none.
    #[default]
    Absent,
    /// On its way.
    Filling,
    /// Has everything.
    Synced,
    /// Did not follow in time: what it takes over is rekeyed.
    Stale,
}

/// When and how segments came last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTook {
    /// Milliseconds ago.
    pub ago_ms: u64,
    /// Which.
    pub segments: Vec<u8>,
    /// `first`, `takeover` or `planned`.
    pub cause: String,
}

/// A member's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Whose it is.
    pub identity: String,
    /// Seconds since 1970 at which it ends.
    pub expires: u64,
    /// The same of the authority's.
    pub authority_expires: u64,
}

/// What the channel has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Calls from where no member is.
    pub strangers: u64,
    /// Calls that had to prove their address.
    pub retries: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Messages for which there was no room.
    pub dropped: u64,
}

/// Numbers since the start; the core's [`Totals`](crate::cluster::Totals).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as there")]
pub struct TotalsEntry {
    pub takeovers: u64,
    pub moves: u64,
    pub moves_failed: u64,
    pub yielded: u64,
    pub pauses: u64,
    pub lapses: u64,
    pub contexts: u64,
    pub fills: u64,
    pub refusals: u64,
    pub late: u64,
    pub reservations: u64,
    pub repeated_reservations: u64,
    pub stale: u64,
    pub rekeyed: u64,
    pub malformed: u64,
    pub disbelieved: u64,
}
