//! What baton-cluster says and hears: contexts of tunnels that other nodes own, which segments this one owns, and on the
//! socket of its own how far its standbys are.

use serde::{Deserialize, Serialize};

/// Entries of a [`ContextList`] at most; what is left is asked for again.
pub const MAX_CONTEXTS_LISTED: usize = 5000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(word: &bool) -> bool {
    !*word
}

/// A segment that this node owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnedSegment {
    /// Which.
    pub segment: u8,
    /// Of its ownership: each owner has a higher one than the owner before.
    pub term: u32,
    /// If it was taken over unplanned: by how many packets at most the edges of its SAs were advanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced: Option<u64>,
    /// Peers may have heard of exchanges that its contexts here do not know.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale: bool,
}

/// What became of contexts that were put, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyAnswer {
    /// One for each.
    pub results: Vec<StandbyResult>,
}

/// What became of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyResult {
    /// Whose it is; absent if it cannot be read.
    pub name: Option<String>,
    /// The version that is here now.
    pub version: Option<u64>,
    /// Why it was not taken; absent if it was, or was there.
    pub problem: Option<String>,
}

/// Which contexts to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextListRequest {
    /// Only those whose names come after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only those of these segments; all if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<u8>,
}

/// Contexts, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextList {
    /// [`MAX_CONTEXTS_LISTED`] at most.
    pub contexts: Vec<ContextEntry>,
    /// Whether there are others after them.
    pub more: bool,
}

/// A context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextEntry {
    /// The tunnel.
    pub name: String,
    /// Its segment.
    pub segment: u8,
    /// The version of its context.
    pub version: u64,
    /// Whether another node acts for it.
    pub standby: bool,
}

/// A tunnel and the version of its context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelVersion {
    /// The tunnel.
    pub name: String,
    /// Its segment.
    pub segment: u8,
    /// Above that of every context of this tunnel before.
    pub version: u64,
}

/// What baton-ike tells on its socket for replication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicationNotice {
    /// A tunnel of ours is new, or has another context.
    Changed(TunnelVersion),
    /// It is over.
    Deleted(TunnelVersion),
}

/// What baton-cluster answers there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicationReply {
    /// The standbys have this version of a tunnel or a newer one, or nobody is to wait for them.
    Replicated {
        /// The tunnel.
        name: String,
        /// The version.
        version: u64,
    },
    /// They have all: what changes from now on is waited for.
    CaughtUp,
}
