//! The messages. docs/CONTROL.md shows each as JSON; a change of shape raises [`PROTOCOL_VERSION`].

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::cluster::{Announce, ClusterAddress, Override, OwnerMacs};
use super::monitor::Kind;
use crate::config::{ActionWord, Policy, PolicyAction, PolicyDirection, PolicySpec};

/// Version of the messages; a server refuses any other.
pub const PROTOCOL_VERSION: u32 = 1;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Answered by [`Status`].
    Status,
    /// Answered by [`Counters`].
    Counters,
    /// Answered by [`Policies`].
    Policies,
    /// Answered by [`Segments`].
    Segments,
    /// Become the owner of segments; answered by [`Segments`].
    SegmentTake {
        /// 0..=255 each.
        segments: Vec<u8>,
    },
    /// Stop being the owner of segments; answered by [`Segments`].
    SegmentDrop {
        /// 0..=255 each.
        segments: Vec<u8>,
    },
    /// Have the filter follow the leases that stand in the SA table now; answered by [`Segments`].
    SegmentFollow,
    /// Share addresses with other nodes; answered by [`ClusterReport`](super::ClusterReport).
    ClusterAddress(ClusterAddress),
    /// Learn where frames of other nodes' segments go; answered by [`ClusterReport`](super::ClusterReport).
    OwnerMacs(OwnerMacs),
    /// Put SPIs in another segment; answered by [`ClusterReport`](super::ClusterReport).
    Override(Override),
    /// Tell the links that addresses are here, once; answered by [`AnnounceReport`](super::AnnounceReport).
    Announce(Announce),
    /// Read the configuration again; answered by [`ReloadReport`].
    Reload,
    /// Stop using a tunnel's SAs; answered by [`FreezeReport`].
    Freeze {
        /// The tunnel.
        name: String,
    },
    /// Use a tunnel's SAs again; answered by [`FreezeReport`].
    Thaw {
        /// The tunnel.
        name: String,
    },
    /// Install policies, or replace those of these names: all of them or none. Answered by [`PolicyReport`].
    PolicyAdd {
        /// 1 to 1000.
        policies: Vec<PolicySpec>,
    },
    /// Remove policies that were installed by [`Self::PolicyAdd`]; answered by [`PolicyReport`].
    PolicyRemove {
        /// All of them or none.
        names: Vec<String>,
        /// Whether nothing may leave in clear to their networks from now on either (I7), until the data plane is
        /// uninstalled. If false, only networks that another policy protects stay closed.
        #[serde(default = "always")]
        keep_prohibited: bool,
    },
    /// Answered by [`InsideReport`].
    Inside,
    /// Be this inside, because of a tunnel, in the place of what it had; answered by [`InsideReport`].
    InsideSet(InsideEntry),
    /// Be inside no longer what these tunnels have said; answered by [`InsideReport`].
    InsideRemove {
        /// Those that have nothing are passed over.
        tunnels: Vec<String>,
    },
    /// Find out where a host is; answered by [`Resolved`].
    Resolve {
        /// Its name.
        name: String,
    },
    /// Send dummy packets (RFC 4303 section 2.6) in a tunnel; answered by [`DummyReport`].
    SendDummy {
        /// The tunnel.
        name: String,
        /// 1 to 200.
        count: u32,
    },
    /// Hear what happens; answered by an empty object and then a [`Notice`](super::Notice) per line until the
    /// connection closes.
    Monitor(MonitorRequest),
    /// Copy packets; answered by an empty object and then pcap octets until the connection closes.
    Capture(CaptureRequest),
}

fn always() -> bool {
    true
}

/// What to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorRequest {
    /// Only these; all if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
}

/// Which packets to copy. Absent filter fields let all pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// Which side of the gateway.
    pub side: CaptureSide,
    /// Source or destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// SPI of an ESP packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spi: Option<u32>,
    /// IP protocol number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Source or destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The capture ends after this many packets, 1..=1,000,000.
    pub limit: u32,
}

impl CaptureRequest {
    /// The most packets of one capture.
    pub const MAX_LIMIT: u32 = 1_000_000;
}

/// A side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureSide {
    /// The outer side: ESP.
    Encrypted,
    /// The inner side: plaintext.
    Decrypted,
}

/// How the data plane is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Release of the data plane.
    pub release: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Node id.
    pub node: u8,
    /// The cluster's name.
    pub cluster: String,
    /// Ciphertext side.
    pub outer: InterfaceStatus,
    /// Plaintext side.
    pub inner: InterfaceStatus,
    /// One per worker.
    pub workers: Vec<WorkerStatus>,
    /// Installed SAs, both directions counted.
    pub sas: u64,
    /// SAs that fit.
    pub capacity: u64,
    /// Number of owned segments, 0..=256.
    pub owned_segments: u16,
    /// Where the IVs come from (I1).
    pub epoch: Epoch,
    /// What needs an operator, as sentences; empty when all is well.
    pub alarms: Vec<String>,
}

/// An interface under XDP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub interface: String,
    /// `native` or `generic`.
    pub xdp_mode: String,
    /// Queues served.
    pub queues: u32,
    /// MTU in octets.
    pub mtu: u32,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// From 0.
    pub index: u16,
    /// The CPU it is pinned to.
    pub core: u32,
    /// Packets opened and forwarded.
    pub inbound_packets: u64,
    /// Packets sealed and forwarded.
    pub outbound_packets: u64,
    /// Packets dropped, for all reasons.
    pub drops: u64,
}

/// The epochs of I1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// In use; absent while none was granted.
    pub current: Option<u32>,
    /// Granted ahead; absent means that sending stops when the current one is used up.
    pub spare: Option<u32>,
}

/// All counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// In a stable order.
    pub counters: Vec<Counter>,
}

/// One counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// What counts, e.g. `drop`, `worker`, `xdp-outer`, `xdp-inner`.
    pub group: String,
    /// Its name within the group, in kebab case.
    pub name: String,
    /// Since the start of the data plane.
    pub value: u64,
    /// A sentence for people; may be empty.
    #[serde(default)]
    pub meaning: String,
}

/// The SPD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// In the order in which they are consulted.
    pub policies: Vec<PolicyEntry>,
}

/// One entry of the SPD (RFC 4301, section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEntry {
    /// The tunnel's name, or its own.
    pub name: String,
    /// What happens to a packet.
    pub action: ActionWord,
    /// Which packets.
    #[serde(default)]
    pub direction: PolicyDirection,
    /// The lowest is tried first.
    #[serde(default)]
    pub priority: u32,
    /// Where it comes from.
    pub origin: PolicyOrigin,
    /// Links to the outbound SA; 0 unless protected.
    pub reqid: u32,
    /// Segment whose owner forwards; 0 unless protected.
    pub segment: u8,
    /// Any of these covers the packet.
    pub selectors: Vec<SelectorText>,
}

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyOrigin {
    /// The configuration.
    Configured,
    /// The control socket.
    Dynamic,
}

/// What became of policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Names of those that are new, or took the place of another of that name.
    pub added: Vec<String>,
    /// Names of those that are gone.
    pub removed: Vec<String>,
    /// Number of those that were in force as they were asked for.
    pub unchanged: u64,
}

/// What became of a request for dummy packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DummyReport {
    /// Packets that the SA's worker was asked for; fewer than wanted if it has much to do.
    pub asked: u32,
}

/// A traffic selector for people and scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectorText {
    /// `first-last`, or a prefix where it is one.
    pub local: String,
    /// As `local`.
    pub remote: String,
    /// IP protocol number; absent = any.
    pub protocol: Option<u8>,
    /// `first-last`; absent = any.
    pub local_ports: Option<String>,
    /// `first-last`; absent = any.
    pub remote_ports: Option<String>,
}

impl From<&baton_sad::Selector> for SelectorText {
    fn from(selector: &baton_sad::Selector) -> Self {
        let ports = |p: &std::ops::RangeInclusive<u16>| {
            (*p != (0..=u16::MAX)).then(|| format!("{}-{}", p.start(), p.end()))
        };
        Self {
            local: range_text(&selector.local),
            remote: range_text(&selector.remote),
            protocol: selector.protocol,
            local_ports: ports(&selector.local_ports),
            remote_ports: ports(&selector.remote_ports),
        }
    }
}

/// The prefix that a range is, or the range.
fn range_text(range: &baton_sad::AddressRange) -> String {
    let bits = |a: IpAddr| match a {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let width = if range.start().is_ipv4() { 32 } else { 128 };
    let differing = bits(range.start()) ^ bits(range.end());
    let host = 128 - differing.leading_zeros();
    let is_prefix = differing.count_ones() == host && bits(range.start()) & differing == 0;
    if is_prefix { format!("{}/{}", range.start(), width - host) } else { range.to_string() }
}

impl PolicyEntry {
    /// A policy that comes from there.
    pub fn new(policy: &Policy, origin: PolicyOrigin) -> Self {
        let (action, reqid, segment) = match policy.action {
            PolicyAction::Protect { reqid, segment } => (ActionWord::Protect, reqid, segment),
            PolicyAction::Bypass => (ActionWord::Bypass, 0, 0),
            PolicyAction::Discard => (ActionWord::Discard, 0, 0),
        };
        let selectors = policy.selectors.iter().map(SelectorText::from).collect();
        let (name, direction, priority) = (policy.name.clone(), policy.direction, policy.priority);
        Self { name, action, direction, priority, origin, reqid, segment, selectors }
    }
}

/// What the peer of a tunnel has given this host, whose inner side is a TUN device (RFC 7296 section 2.19).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsideEntry {
    /// The tunnel, 1 to 32 octets.
    pub tunnel: String,
    /// Addresses on the TUN device, 16 at most.
    pub addresses: Vec<IpAddr>,
    /// DNS servers to ask, 16 at most.
    pub dns: Vec<IpAddr>,
}

/// Who this host is inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsideReport {
    /// What tunnels have, in the order in which they came.
    pub tunnels: Vec<InsideEntry>,
    /// What of it could not be brought about, as sentences; it is tried again.
    pub problems: Vec<String>,
}

/// Where a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Its addresses; none if there is no such host.
    pub addresses: Vec<IpAddr>,
}

/// Ownership of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    /// Owned ones, ascending.
    pub owned: Vec<u8>,
    /// Hash mode of the configuration.
    pub hash: String,
    /// Its seed.
    pub seed: u32,
}

impl Segments {
    /// The members of a 256-bit set, ascending.
    pub fn members(set: &[u64; 4]) -> Vec<u8> {
        (0..=255_u8).filter(|s| set[usize::from(*s) / 64] >> (s % 64) & 1 == 1).collect()
    }
}

/// What a reload changed, by tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// New tunnels.
    pub added: Vec<String>,
    /// Tunnels that are gone.
    pub removed: Vec<String>,
    /// Tunnels with another policy or SA.
    pub changed: Vec<String>,
    /// Number of tunnels that stayed as they were.
    pub unchanged: u64,
    /// Changes that wait for a restart, as sentences.
    pub needs_restart: Vec<String>,
    /// Tunnels that could not be brought in line, as sentences.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// What a freeze or thaw did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeReport {
    /// SAs that changed state.
    pub sas: u64,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Refusal {
    /// A refusal with its remedy.
    pub fn new(code: Code, message: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), remedy: remedy.to_string() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.remedy)
    }
}

impl std::error::Error for Refusal {}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Not a request of this protocol.
    BadRequest,
    /// Another protocol version.
    UnsupportedVersion,
    /// Too many clients, or a capture runs already.
    Busy,
    /// No such tunnel.
    NotFound,
    /// Refused in this state; nothing was changed.
    Refused,
    /// Something that should work did not.
    Internal,
}
