//! What the filter is told.

use std::net::IpAddr;
use std::path::PathBuf;

use aya::programs::xdp::XdpMode;
use serde::{Deserialize, Serialize};

use super::shared;
use crate::next_hop::Mac;
use crate::prefix::Prefix;
use crate::steering::{HashMode, LocalRule, Network};

/// What [`super::Attachment::install`] needs to know.
#[derive(Clone, Debug)]
pub struct XdpOptions {
    /// Name of the interface on the ciphertext side; `None` if its packets do not come by XDP.
    pub outer: Option<String>,
    /// Name of the interface on the plaintext side; `None` as with `outer`.
    pub inner: Option<String>,
    /// Where maps and links are pinned. If it does not lie on a bpffs, one is mounted.
    pub pin_directory: PathBuf,
    /// Which fields find the segment of a packet that has no SPI of ours.
    pub hash_mode: HashMode,
    /// Seed of that hash; equal on all nodes.
    pub hash_seed: u32,
    /// Our own addresses to which peers send IPsec.
    pub outer_addresses: Vec<IpAddr>,
    /// The addresses whose traffic is the kernel's: all of this node's own, the outer ones too. More can follow by
    /// [`super::Attachment::set_inner_local`].
    pub inner_addresses: Vec<IpAddr>,
    /// What the policies say.
    pub policies: FilterPolicies,
}

/// The SPD as far as the filter needs it, to tell what the data plane shall decide about, and which node's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterPolicies {
    /// Remote networks of tunnels, with the segments of their owners.
    pub protected: Vec<(Prefix, u8)>,
    /// Remote networks of bypass policies, with the segments whose owners forward to and from them.
    pub bypassed: Vec<(Prefix, u8)>,
    /// The SPD for packets that arrive in clear, in its order, where it could permit one to ourselves.
    pub local: Vec<LocalRule>,
}

/// Who tells the neighbours which MAC address an address has that this node shares with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// The kernel, with the interface's own.
    #[default]
    Kernel,
    /// The filter, with the shared one.
    SharedMac,
    /// Nobody here: another node attracts the address.
    Silent,
}

/// What is known of the other nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    /// Of the owner of each segment, by side; all zeros where that is this node or is not known.
    pub macs: [Box<[Mac; 256]>; 2],
    /// Of all other nodes, on either side: what they sent on is not sent on again.
    pub members: Vec<Mac>,
}

impl Default for Owners {
    fn default() -> Self {
        let nobody = || Box::new([Mac::default(); 256]);
        Self { macs: [nobody(), nobody()], members: Vec::new() }
    }
}

/// A network of the filter's, and what it is to know of it from now on; nothing if that is no policy's any more.
pub type NetworkChange = (Prefix, Option<Network>);

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the network stack, behind the driver: works everywhere, slower.
    Generic,
}

impl AttachMode {
    /// The operator's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    pub(super) const fn to_note(self) -> u32 {
        match self {
            Self::Native => shared::ATTACHED_NATIVE,
            Self::Generic => shared::ATTACHED_GENERIC,
        }
    }

    pub(super) const fn from_note(note: u32) -> Self {
        if note == shared::ATTACHED_GENERIC { Self::Generic } else { Self::Native }
    }

    pub(super) const fn flags(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}
