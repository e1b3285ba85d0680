//! The messages. A change of shape raises [`baton_dataplane::control::PROTOCOL_VERSION`].

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::cluster::{ContextListRequest, OwnedSegment};
use super::events::Kind;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Answered by [`Status`].
    Status,
    /// Answered by [`baton_dataplane::control::Counters`].
    Counters,
    /// The configured connections; answered by [`Connections`].
    ConnList,
    /// The tunnels; answered by [`IkeList`].
    IkeList(IkeListRequest),
    /// One tunnel, with its Child SAs; answered by [`IkeEntry`].
    IkeShow {
        /// The tunnel's name.
        name: String,
    },
    /// Set up a connection, or one of its Child SAs; answered by [`Done`] as soon as it is begun. What becomes of it is
    /// told to monitors.
    Initiate {
        /// The connection's name.
        connection: String,
        /// One of its children; absent is all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        child: Option<String>,
    },
    /// End tunnels or Child SAs, telling the peer; answered by [`Done`].
    Terminate {
        /// Which.
        target: TargetText,
    },
    /// Replace keys; answered by [`Done`] as soon as it is begun.
    Rekey {
        /// Of which.
        target: TargetText,
        /// Which keys.
        #[serde(default)]
        what: RekeyWhat,
    },
    /// Send peers to another gateway (RFC 5685); answered by [`Done`] as soon as they are told.
    Redirect {
        /// Which tunnels; absent is all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<TargetText>,
        /// Where to: an address, or a domain name that the peers know.
        gateway: String,
    },
    /// Agree with peers about Message IDs after a failover (RFC 6311); answered by [`Done`] as soon as it is begun.
    Synchronize {
        /// Which tunnels.
        target: TargetText,
    },
    /// Read configuration, secrets and certificates again; answered by [`Reloaded`].
    Reload,
    /// Say nothing more for a tunnel until it is thawed or released (RFC 4067 section 2); answered by [`Done`].
    Freeze {
        /// The tunnel's name.
        name: String,
    },
    /// Go on with a frozen tunnel; answered by [`Done`].
    Thaw {
        /// The tunnel's name.
        name: String,
        /// By how many packets both edges of its SAs were advanced meanwhile.
        #[serde(default, skip_serializing_if = "is_zero")]
        advanced: u64,
    },
    /// Forget a frozen tunnel without a word to its peer: it is on another gateway now. Answered by [`Done`].
    Release {
        /// The tunnel's name.
        name: String,
    },
    /// A tunnel's IKE part, its keys sealed; answered by [`ContextAnswer`].
    ContextGet {
        /// The tunnel's name.
        name: String,
    },
    /// Keep contexts of tunnels that other nodes own, in the place of older ones; answered by
    /// [`StandbyAnswer`](super::StandbyAnswer).
    StandbyPut {
        /// As `context-get` gave them there: hexadecimal digits.
        contexts: Vec<String>,
    },
    /// Forget tunnels that other nodes owned and that are over; answered by [`Done`].
    StandbyRemove {
        /// Their names.
        names: Vec<String>,
    },
    /// The contexts that are here; answered by [`ContextList`](super::ContextList).
    ContextList(ContextListRequest),
    /// Act for these segments and for no other from now on; answered by [`Done`]: how many tunnels wake up or fall silent.
    Own {
        /// All that this node owns.
        segments: Vec<OwnedSegment>,
    },
    /// Act no more for these segments, which are about to become another node's, until they come back with another term
    /// or are thawed; answered by [`ContextList`](super::ContextList) of their tunnels, which do not change any more.
    FreezeSegments {
        /// Which.
        segments: Vec<u8>,
    },
    /// Go on with frozen segments; answered by [`Done`]: how many tunnels wake up.
    ThawSegments {
        /// Which.
        segments: Vec<u8>,
    },
    /// The edges of all SAs of these segments were advanced: agree with the peers about what comes next (RFC 6311), a few
    /// at a time; answered by [`Done`].
    Advance {
        /// Which.
        segments: Vec<u8>,
        /// By how many packets.
        packets: u64,
    },
    /// Replace the keys of the Child SAs of tunnels, a few at a time; answered by [`Done`].
    RekeyTunnels {
        /// Their names.
        names: Vec<String>,
    },
    /// Take a tunnel over from another gateway. Its SAs are in the table already. Answered by [`RestoreAnswer`].
    Restore {
        /// As `context-get` gave it: hexadecimal digits.
        context: String,
        /// By how many packets both edges of its SAs were advanced, because it is a copy. Then both ends agree about what
        /// comes next, if they know how (RFC 6311).
        #[serde(default, skip_serializing_if = "is_zero")]
        advanced: u64,
    },
    /// Hear what happens; answered by an empty object and then a notice of an [`Occurred`](super::Occurred) per line
    /// until the connection closes.
    Monitor(MonitorRequest),
    /// Read the log; answered by an empty object and then a [`LogLine`] per line.
    Log(LogRequest),
}

/// Which tunnels to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IkeListRequest {
    /// Only those of this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Only those whose names come after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorRequest {
    /// Only these; all if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
}

/// Which lines of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// The last so many that are kept, 0..=10,000.
    pub lines: usize,
    /// Whether to go on with lines as they come, until the connection closes.
    #[serde(default)]
    pub follow: bool,
}

/// What a request is about. Exactly one of `connection`, `tunnel`, `child` and `spi` decides; `connection` may also
/// narrow `child`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TargetText {
    /// All tunnels of a connection.
    Connection(String),
    /// One tunnel.
    Tunnel(String),
    /// All Child SAs of that configured name.
    Child {
        /// Of this connection; absent is all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
        /// The configured name.
        name: String,
    },
    /// The Child SA with this SPI of ours.
    Spi(u32),
}

/// Whose keys to replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RekeyWhat {
    /// Those of the Child SAs.
    #[default]
    Child,
    /// Those of the IKE SA.
    Ike,
}

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Release of the daemon.
    pub release: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Node id.
    pub node: u8,
    /// The cluster's name.
    pub cluster: String,
    /// Where it listens, as `0.0.0.0:500`.
    pub listening: Vec<String>,
    /// Whether the data plane answers.
    pub data_plane: bool,
    /// IKE SAs of which the peer is authenticated.
    pub established: u64,
    /// IKE SAs of which it is not yet.
    pub half_open: u64,
    /// Tunnels that other nodes act for, and that this one could go on with.
    #[serde(default)]
    pub standby: u64,
    /// Pairs of Child SAs.
    pub children: u64,
    /// Configured connections.
    pub connections: u64,
    /// Policies that the data plane has not confirmed yet.
    pub policies_pending: u64,
    /// What keeps the process from doing harm: `capabilities`, `seccomp`, `landlock`, each if it is in force.
    pub fence: Vec<String>,
    /// What needs an operator, as sentences; empty when all is well.
    pub alarms: Vec<String>,
    /// The RADIUS servers, in the order of their names.
    #[serde(default)]
    pub radius: Vec<RadiusServerStatus>,
    /// Records of sessions that no RADIUS server has taken yet.
    #[serde(default)]
    pub radius_records_pending: u64,
}

/// A RADIUS server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RadiusServerStatus {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// `usable`, or `dead` while it is passed over because it has not answered.
    pub authentication: String,
    /// As `authentication`; absent if sessions are not accounted for.
    pub accounting: Option<String>,
    /// Questions about users.
    pub requests: u64,
    /// Users accepted.
    pub accepts: u64,
    /// Users refused.
    pub rejects: u64,
    /// Questions and records that it has not answered.
    pub timeouts: u64,
    /// Answers that were dropped: with a wrong authenticator, or without Message-Authenticator.
    pub bad_authenticators: u64,
    /// Records of sessions that it has taken.
    pub records_taken: u64,
}

/// The session of a user that a RADIUS server has judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionText {
    /// Acct-Session-Id.
    pub id: String,
    /// User-Name.
    pub user: String,
    /// Class, in hexadecimal digits.
    pub class: Vec<String>,
    /// Seconds until it ends; absent is never.
    pub remaining_seconds: Option<u64>,
    /// Without traffic it ends after so many seconds; absent is never.
    pub idle_timeout_seconds: Option<u64>,
    /// It is accounted for every so many seconds; absent: at its beginning and end alone.
    pub interim_seconds: Option<u64>,
}

/// The configured connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// In the order of the file.
    pub connections: Vec<ConnectionEntry>,
}

/// A configured connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionEntry {
    /// Its name.
    pub name: String,
    /// Our addresses; empty is any.
    pub local_addresses: Vec<String>,
    /// The peer's; empty is anywhere.
    pub remote_addresses: Vec<String>,
    /// As whom we show up; `%any` is as the certificate or address says.
    pub local_identity: String,
    /// As whom the peer has to.
    pub remote_identity: String,
    /// `psk`, `pubkey`, `eap-mschapv2`, `eap-tls` or `eap-radius`.
    pub local_authentication: String,
    /// As `local_authentication`.
    pub remote_authentication: String,
    /// As in the configuration.
    pub ike_proposals: Vec<String>,
    /// Names of pools.
    pub pools: Vec<String>,
    /// Its children.
    pub children: Vec<ChildConfiguration>,
    /// Tunnels that stand or are being set up.
    pub tunnels: u64,
}

/// A configured Child SA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildConfiguration {
    /// Its name.
    pub name: String,
    /// `tunnel` or `transport`.
    pub mode: String,
    /// Traffic behind us.
    pub local_selectors: Vec<String>,
    /// Traffic behind the peer.
    pub remote_selectors: Vec<String>,
    /// As in the configuration.
    pub esp_proposals: Vec<String>,
    /// `none`, `trap`, `start` or `trap|start`.
    pub start_action: String,
}

/// Tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkeList {
    /// By name.
    pub tunnels: Vec<IkeEntry>,
    /// Whether there are more: ask for those after the last of these.
    pub more: bool,
}

/// A tunnel: an IKE SA and its Child SAs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkeEntry {
    /// Its name.
    pub name: String,
    /// Its connection.
    pub connection: String,
    /// `connecting`, `established`, `rekeying`, `deleting` and the like.
    pub state: String,
    /// Ours in its first exchange: `initiator` or `responder`.
    pub role: String,
    /// As `0x2a00000000000001`.
    pub initiator_spi: String,
    /// As `initiator_spi`.
    pub responder_spi: String,
    /// Our end.
    pub local: Option<SocketAddr>,
    /// The peer's end.
    pub remote: Option<SocketAddr>,
    /// As whom we showed up.
    pub local_identity: String,
    /// As whom the peer did; empty while it has not.
    pub remote_identity: String,
    /// Which user it has proved to be by EAP; empty without.
    pub eap_identity: String,
    /// The session of the user, if a RADIUS server has judged it.
    #[serde(default)]
    pub session: Option<SessionText>,
    /// Algorithms by keywords, as `aes128gcm16-prfsha256-x25519`.
    pub proposal: String,
    /// The identity of the postquantum preshared key in its keys (RFC 8784); empty if there is none.
    pub ppk: String,
    /// The segment.
    pub segment: u8,
    /// Whether it is frozen.
    pub frozen: bool,
    /// Whether a NAT stands in front of us.
    pub nat_local: bool,
    /// Whether one stands in front of the peer.
    pub nat_remote: bool,
    /// Seconds since the peer was authenticated; absent before.
    pub established_seconds: Option<u64>,
    /// Seconds until its keys are replaced; absent is never.
    pub rekey_seconds: Option<u64>,
    /// Inner addresses that were given to the peer, or to us.
    pub virtual_addresses: Vec<IpAddr>,
    /// DNS servers that the peer has told us of.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// What was agreed beyond RFC 7296, as `redirect`; `resumed` is that it was set up by a ticket.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Seconds for which the ticket is good by which it comes back, ours or the peer's; absent if there is none.
    #[serde(default)]
    pub ticket_seconds: Option<u64>,
    /// Where the peer says that it is besides (RFC 4555 section 3.4).
    #[serde(default)]
    pub further_addresses: Vec<IpAddr>,
    /// Its Child SAs.
    pub children: Vec<ChildEntry>,
}

/// A pair of Child SAs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEntry {
    /// Its configured name.
    pub name: String,
    /// `installing`, `installed`, `rekeying`, `deleting` and the like.
    pub state: String,
    /// Links it with its policy.
    pub reqid: u32,
    /// Our SPI, as `0x2a000001`.
    pub inbound_spi: String,
    /// The peer's SPI.
    pub outbound_spi: String,
    /// `tunnel` or `transport`.
    pub mode: String,
    /// Algorithms by keywords.
    pub proposal: String,
    /// The traffic.
    pub selectors: SelectorsText,
    /// Seconds until its keys are replaced; absent is never.
    pub rekey_seconds: Option<u64>,
    /// Packets from the peer; absent if the SA is not in the table.
    pub inbound_packets: Option<u64>,
    /// Octets of inner packets from the peer.
    pub inbound_octets: Option<u64>,
    /// Packets to the peer.
    pub outbound_packets: Option<u64>,
    /// Octets of inner packets to the peer.
    pub outbound_octets: Option<u64>,
}

/// Traffic selectors as `10.1.0.0/16[tcp/443]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectorsText {
    /// Behind us.
    pub local: Vec<String>,
    /// Behind the peer.
    pub remote: Vec<String>,
}

/// What a request for a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// How many tunnels or Child SAs it concerns.
    pub concerned: u64,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// New connections.
    pub added: Vec<String>,
    /// Connections that are gone; their tunnels end.
    pub removed: Vec<String>,
    /// Connections that are others: tunnels that stand stay, new negotiations follow them.
    pub changed: Vec<String>,
    /// Number of connections that stayed as they were.
    pub unchanged: u64,
    /// Changes that wait for a restart, as sentences.
    pub needs_restart: Vec<String>,
}

/// A tunnel's IKE part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextAnswer {
    /// The tunnel.
    pub name: String,
    /// Hexadecimal digits; its keys are sealed.
    pub context: String,
    /// Its segment.
    #[serde(default)]
    pub segment: u8,
    /// Above that of every context of this tunnel before.
    #[serde(default)]
    pub version: u64,
}

/// A tunnel that was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreAnswer {
    /// Its name, which is as it was.
    pub name: String,
}

/// A line of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// As on standard error, without the newline.
    pub line: String,
}
