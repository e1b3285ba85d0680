//! What the filter is told.

use std::net::IpAddr;
use std::path::PathBuf;

use aya::programs::xdp::XdpMode;

use super::shared;
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
