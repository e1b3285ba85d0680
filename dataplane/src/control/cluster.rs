//! What the cluster daemon tells the data plane about addresses that are shared and about the other nodes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::next_hop::Mac;
use crate::xdp::Resolution;

/// The addresses that this node shares with others, in the place of those before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterAddress {
    /// Who tells the neighbours their MAC address.
    pub resolution: Resolution,
    /// On the outer side.
    #[serde(default)]
    pub outer: SharedSide,
    /// On the inner side.
    #[serde(default)]
    pub inner: SharedSide,
}

/// Of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedSide {
    /// 64 at most.
    pub addresses: Vec<IpAddr>,
    /// The MAC address that all nodes share, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// Where frames of segments that other nodes own go, in the place of what was known before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerMacs {
    /// The owners; frames of segments that none of them has are dropped.
    pub owners: Vec<OwnerMac>,
    /// The MAC addresses of all other nodes on both sides, 512 at most: what they send on is not sent on again.
    pub members: Vec<Mac>,
}

/// One owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerMac {
    /// What it owns.
    pub segments: Vec<u8>,
    /// Its MAC address on the outer side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer: Option<Mac>,
    /// Its MAC address on the inner side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<Mac>,
}

/// SPIs whose top octet is not their segment: those of a single tunnel that was moved to the owner of another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Of inbound ESP SAs.
    #[serde(default)]
    pub esp: Vec<u32>,
    /// Our halves of IKE SAs' SPIs.
    #[serde(default)]
    pub ike: Vec<u64>,
    /// Their segment from now on; absent or null, what their top octets say.
    #[serde(default)]
    pub segment: Option<u8>,
}

/// Addresses to be announced as being at this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// On the outer side, 64 at most.
    #[serde(default)]
    pub outer: Vec<IpAddr>,
    /// On the inner side, 64 at most.
    #[serde(default)]
    pub inner: Vec<IpAddr>,
}

/// The sides of which a filter does what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// `outer`, `inner`; a side that AF_XDP does not serve has no filter.
    pub filtered: Vec<String>,
}

/// What was announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceReport {
    /// Frames that a worker was given to send.
    pub frames: u32,
}
