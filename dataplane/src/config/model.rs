//! What a configuration says, section by section.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use baton_sad::{DfPolicy, DscpPolicy, Mode, NodeId, Suite, TfcPadding};
use serde::{Deserialize, Serialize};

use super::{Crypto, HashMode, Lifetimes, TrafficSelector};

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// This gateway.
    pub node: Node,
    /// The SA table.
    pub table: TableSection,
    /// The ciphertext side.
    pub outer: Outer,
    /// The plaintext side.
    pub inner: Inner,
    /// The threads that move packets.
    pub workers: Workers,
    /// Shares of the cluster's peers.
    pub segments: Segments,
    /// Sealing and restoring of contexts.
    pub snapshot: Snapshot,
    /// Path MTUs and ICMP.
    pub icmp: Icmp,
    /// Traffic that waits for an SA.
    pub acquire: Acquire,
    /// What is let through or dropped beside the tunnels, in the order of the file.
    pub exceptions: Vec<Exception>,
    /// Tunnels, in the order of the file.
    pub tunnels: Vec<Tunnel>,
    /// Where each name stands among `tunnels`: there may be 100,000.
    pub(super) positions: HashMap<String, usize>,
}

/// `[node]`: who this gateway is and where it keeps its state.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique in the cluster; part of every IV (I1).
    pub id: NodeId,
    /// The cluster's name; see [`Config::cluster_id`].
    pub cluster: String,
    /// Durable storage (epochs).
    pub state_directory: PathBuf,
    /// Memory file system: SA table, control socket.
    pub runtime_directory: PathBuf,
    /// A bpffs, for the pinned XDP links and maps.
    pub pin_directory: PathBuf,
}

/// `[table]`: the SA table.
#[derive(Clone, Debug)]
pub struct TableSection {
    /// SAs that it can hold, both directions counted, 2..=1,000,000.
    pub capacity: u32,
}

/// `[outer]`: the ciphertext side.
#[derive(Clone, Debug)]
pub struct Outer {
    /// Interface name.
    pub interface: String,
    /// Our addresses, to which peers send ESP; none is all that this host has, where sockets serve it.
    pub addresses: Vec<IpAddr>,
    /// How packets come from and go to the interface.
    pub io: OuterIo,
}

/// How packets come from and go to the outer interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OuterIo {
    /// AF_XDP where the kernel, the interface and our capabilities allow it, else a socket.
    #[default]
    Auto,
    /// AF_XDP, or no start.
    AfXdp,
    /// Sockets: slower, but they need no more than CAP_NET_ADMIN and CAP_NET_RAW.
    Socket,
}

/// `[inner]`: the plaintext side.
#[derive(Clone, Debug)]
pub struct Inner {
    /// Where plaintext comes from and goes to.
    pub interface: InnerInterface,
    /// Whether a packet whose source is not routed back by the inner side is dropped (RFC 3704 section 2.2).
    pub anti_spoofing: bool,
    /// A file of resolver settings that is to name the DNS servers of tunnels (resolv.conf(5)).
    pub resolv_conf: Option<PathBuf>,
}

/// The plaintext side's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InnerInterface {
    /// A network interface that is there.
    Device(String),
    /// A TUN interface that the data plane makes.
    Tun(String),
}

impl InnerInterface {
    /// The interface's name, whichever kind it is.
    pub fn name(&self) -> &str {
        match self {
            Self::Device(name) | Self::Tun(name) => name,
        }
    }
}

/// `[workers]`: the threads that move packets.
#[derive(Clone, Debug)]
pub struct Workers {
    /// One worker per entry, pinned to that CPU.
    pub cores: Vec<usize>,
    /// Packets per turn, 1..=256.
    pub batch: usize,
    /// How long a worker drives its device itself when there is nothing to do; zero: interrupts do.
    pub busy_poll: Duration,
    /// The AEAD's implementation.
    pub crypto: Crypto,
}

/// `[segments]`: how peers are shared among the gateways of a cluster.
#[derive(Clone, Debug)]
pub struct Segments {
    /// What ClusterIP's hash covers.
    pub hash: HashMode,
    /// Seed of that hash; equal on all nodes.
    pub seed: u32,
    /// Segments that a *new* table owns, a 256-bit set, bit 0 of word 0 = segment 0. An existing table knows.
    pub owned: [u64; 4],
    /// In a cluster (`[cluster]`) leases say what is owned, and nothing else may.
    pub by_leases: bool,
}

/// `[snapshot]`: sealing and restoring of contexts.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// File of the cluster key; without one, contexts can only be written in clear.
    pub key_file: Option<PathBuf>,
    /// How far both edges of a copy are advanced when it is restored, in packets.
    pub advance: u64,
}

/// `[icmp]`: what is learned from ICMP errors, and how many are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// How long a path MTU that an ICMP error told is believed, 300 s and up (RFC 1191 section 6.3).
    pub learned_mtu: Duration,
    /// Errors that one worker sends in a second at most, 0..=100,000 (RFC 1812 section 4.3.2.8).
    pub errors_per_second: u32,
}

/// `[acquire]`: traffic that a policy protects while there is no SA for it (RFC 4301 section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// How long its first packets wait for an SA.
    pub hold: Duration,
    /// Packets that one worker holds at most, 0..=4096.
    pub held_packets: usize,
    /// A policy asks for an SA once in this time at most.
    pub repeat: Duration,
}

/// `[[tunnel]]`: a peer, what is protected towards it, and how.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Unique name, 1..=32 octets of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// What its packets carry.
    pub mode: Mode,
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address, of the same family.
    pub remote: IpAddr,
    /// ESP in UDP; `None` is IP protocol 50.
    pub encapsulation: Option<Encapsulation>,
    /// Traffic behind us.
    pub local_selectors: Vec<TrafficSelector>,
    /// Traffic behind the peer.
    pub remote_selectors: Vec<TrafficSelector>,
    /// Its policies' place among all: the lowest is tried first.
    pub priority: u32,
    /// Algorithms.
    pub suite: Suite,
    /// Links policy and SAs; equal on all nodes; not 0.
    pub reqid: u32,
    /// The segment that the tunnel belongs to.
    pub segment: u8,
    /// Packets, 64..=4096, a multiple of 64.
    pub replay_window: u16,
    /// 64-bit sequence numbers (RFC 4304).
    pub extended_sequence: bool,
    /// DSCP of the outer header.
    pub dscp: DscpPolicy,
    /// Don't-fragment bit of the outer header.
    pub df: DfPolicy,
    /// Octets of the largest outer packet; 0 = the outer interface's MTU.
    pub path_mtu: u16,
    /// Whether the MSS of TCP connections in it is lowered to what fits.
    pub clamp_mss: bool,
    /// How far outbound payloads are padded.
    pub tfc_padding: TfcPadding,
    /// How long its SAs may be used.
    pub lifetimes: Lifetimes,
    /// The peer to us; absent together with `outbound` while the tunnel waits for a restore.
    pub inbound: Option<StaticSa>,
    /// We to the peer.
    pub outbound: Option<StaticSa>,
}

/// ESP in UDP (RFC 3948). Our port is always 4500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// The peer's port as we see it: a NAT in front of it may have changed it.
    pub remote_port: u16,
    /// An authenticated packet from another address or port moves the peer there.
    pub follows_peer: bool,
    /// Seconds of silence after which we send a keep-alive (RFC 3948 section 4); 0 is never.
    pub keepalive_seconds: u16,
}

/// An SA with a key from the configuration.
#[derive(Clone, Debug)]
pub struct StaticSa {
    /// Above 255 (RFC 4303, section 2.1).
    pub spi: u32,
    /// Raw keying material: cipher key, salt, integrity key, each where the suite has one.
    pub key: baton_sad::Key,
}

/// `[[policy]]`: traffic that is let through in clear, or dropped, whatever the tunnels say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Unique among policies and tunnels.
    pub name: String,
    /// Bypass or discard.
    pub action: ExceptionAction,
    /// Which packets are meant.
    pub direction: PolicyDirection,
    /// Its place among all policies: the lowest is tried first.
    pub priority: u32,
    /// The inner side's addresses.
    pub local_selectors: Vec<TrafficSelector>,
    /// The outer side's addresses.
    pub remote_selectors: Vec<TrafficSelector>,
}

/// What an exception does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionAction {
    /// Forwards in clear.
    Bypass {
        /// The segment whose owner does it, where no tunnel's network says that.
        segment: u8,
    },
    /// Drops.
    Discard,
}

/// The packets that a policy is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyDirection {
    /// Both of the others.
    #[default]
    Both,
    /// From the inner to the outer side.
    Out,
    /// From the outer to the inner side.
    In,
}
