//! The configuration: one TOML file, validated whole.
//!
//! [`Config::load`] either gives a configuration that can be used as it stands, or every problem of the file with
//! its line, its field and what to do ([`ConfigErrors`]). docs/CONFIGURATION.md describes each key.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_sad::{ClusterId, DfPolicy, DscpPolicy, NodeId, Suite};
use zeroize::Zeroizing;

pub use crate::crypto::Backend as Crypto;
use crate::prefix::Prefix;
pub use crate::steering::HashMode;

mod check;
mod keys;
mod problem;
mod reader;
mod sa;
mod sections;
mod tunnel;

#[cfg(test)]
mod tests;

pub use keys::{SnapshotKey, SnapshotKeyError};
pub use problem::{ConfigErrors, Problem};
pub use sa::{Policy, cluster_id_of};

/// Where daemons and `dpctl` look when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/baton/baton.toml";

/// A configuration file larger than this is refused; 100,000 tunnels fit.
const MAX_FILE_OCTETS: u64 = 64 << 20;

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
    /// Tunnels, in the order of the file.
    pub tunnels: Vec<Tunnel>,
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
    /// Our addresses, to which peers send ESP.
    pub addresses: Vec<IpAddr>,
}

/// `[inner]`: the plaintext side.
#[derive(Clone, Debug)]
pub struct Inner {
    /// Interface name.
    pub interface: String,
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
}

/// `[snapshot]`: sealing and restoring of contexts.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// File of the cluster key; without one, contexts can only be written in clear.
    pub key_file: Option<PathBuf>,
    /// How far both edges of a copy are advanced when it is restored, in packets.
    pub advance: u64,
}

/// `[[tunnel]]`: a peer, what is protected towards it, and how.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Unique name, 1..=32 octets of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: IpAddr,
    /// Networks behind us.
    pub local_selectors: Vec<Prefix>,
    /// Networks behind the peer.
    pub remote_selectors: Vec<Prefix>,
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
    /// The peer to us; absent together with `outbound` while the tunnel waits for a restore.
    pub inbound: Option<StaticSa>,
    /// We to the peer.
    pub outbound: Option<StaticSa>,
}

/// An SA with a key from the configuration.
#[derive(Clone, Debug)]
pub struct StaticSa {
    /// Above 255 (RFC 4303, section 2.1).
    pub spi: u32,
    /// Raw keying material: key, then salt.
    pub key: baton_sad::Key,
}

impl Config {
    /// Reads and validates `path` whole, the key files it names included.
    ///
    /// # Errors
    /// Every problem of the file, in its order.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = read_bounded(path)?;
        let private = fs::metadata(path).is_ok_and(|m| is_private(&m));
        Self::parse_as(&text, path, private)
    }

    /// Validates `text` as if it stood in `path`, which need not exist; key files are read relative to its
    /// directory. Inline keys are accepted only if `private` says that nobody else can read the file.
    ///
    /// # Errors
    /// Every problem of the text, in its order.
    pub fn parse_as(text: &str, path: &Path, private: bool) -> Result<Self, ConfigErrors> {
        let source = reader::Source::new(path, text);
        let document = source.document();
        if source.has_problems() {
            // What can be recovered from broken syntax would only complain about its own gaps.
            return Err(ConfigErrors::new(source.into_problems()));
        }
        let config = sections::read(&source, &document, private);
        if let Some(config) = &config {
            check::across_tunnels(&source, &config.tunnels, &config.places);
        }
        match config {
            Some(read) if !source.has_problems() => Ok(read.into_config(path)),
            _ => Err(ConfigErrors::new(source.into_problems())),
        }
    }

    /// The SA table's file.
    pub fn table_path(&self) -> PathBuf {
        self.node.runtime_directory.join("sa-table")
    }

    /// The data plane's control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.node.runtime_directory.join("control.sock")
    }

    /// The cluster's number: the first 56 bits of SHA-256 of its name.
    pub fn cluster_id(&self) -> ClusterId {
        cluster_id_of(&self.node.cluster)
    }

    /// The tunnel of that name.
    pub fn tunnel(&self, name: &str) -> Option<&Tunnel> {
        self.tunnels.iter().find(|t| t.name == name)
    }

    /// What leaves by a tunnel, in the order of the file: the SPD's entries.
    pub fn policies(&self) -> Vec<Policy> {
        self.tunnels.iter().map(Tunnel::policy).collect()
    }

    /// Every remote network, once: nothing to these may leave in clear (I7).
    pub fn protected_prefixes(&self) -> Vec<Prefix> {
        self.inner_prefixes().into_iter().map(|(prefix, _)| prefix).collect()
    }

    /// Every remote network, once, with the segment whose owner forwards to it.
    pub fn inner_prefixes(&self) -> Vec<(Prefix, u8)> {
        let of = |t: &Tunnel| t.remote_selectors.iter().map(|p| (*p, t.segment)).collect::<Vec<_>>();
        self.tunnels.iter().flat_map(of).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The file's text. It may hold keys, so it is wiped when dropped.
fn read_bounded(path: &Path) -> Result<Zeroizing<String>, ConfigErrors> {
    let refuse = |message: String, remedy: &str| ConfigErrors::of_file(path, message, remedy);
    let length = fs::metadata(path)
        .map_err(|e| refuse(format!("cannot be read: {e}"), "name the file with --config FILE"))?
        .len();
    if length > MAX_FILE_OCTETS {
        return Err(refuse(format!("{length} octets are too many"), "a configuration has at most 64 MiB"));
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(|e| {
        refuse(format!("cannot be read: {e}"), "it must be a text file in UTF-8 that this user may read")
    })
}

/// Neither group nor others may do anything with the file.
fn is_private(metadata: &fs::Metadata) -> bool {
    let others = metadata.permissions().mode() & 0o077;
    others == 0
}
