//! What one SA is: the values that a PUT takes and a GET gives (RFC 4301 section 4.4.2.1).

mod codec;
mod counters;
mod identity;
mod key;
mod lifetime;
mod selector;
mod suite;

use std::net::IpAddr;

use thiserror::Error;

pub(crate) use codec::{decode, encode, fnv1a, holds_key, name_tag, spi_and_segment};
pub(crate) use counters::ring_index;
pub use counters::{Counters, ReplayWindow};
pub use identity::{ClusterId, Name, NodeId, Sender, Senders};
pub use key::Key;
pub use lifetime::{Bounds, Lifetime};
pub use selector::{AddressRange, Selector, Selectors};
pub use suite::{Encryption, Integrity, Suite};

/// Which way an SA's packets go, seen from this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the peer: indexed by our SPI.
    Inbound,
    /// To the peer: indexed by reqid, which names the policy's current outbound SA.
    Outbound,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

/// How the outer header's DSCP is made (RFC 4301 section 5.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DscpPolicy {
    /// Copied from the inner header.
    Copy,
    /// Always this value, 0..=63.
    Set(u8),
}

/// How the outer header's DF bit is made (RFC 4301 section 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DfPolicy {
    /// Copied from the inner header.
    Copy,
    /// Always set.
    Set,
    /// Always clear.
    Clear,
}

/// What an SA's packets carry (RFC 4301 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whole IP packets.
    Tunnel,
    /// What stands behind the IP header, between the outer addresses themselves.
    Transport,
}

/// ESP in UDP (RFC 3948).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpEncapsulation {
    /// Source port of its packets, not 0.
    pub source_port: u16,
    /// Destination port of its packets, not 0.
    pub destination_port: u16,
    /// Inbound: an authenticated packet from another address or port moves the peer there, as a NAT in front of it
    /// may (RFC 7296 section 2.23). False where we are behind the NAT ourselves.
    pub follows_peer: bool,
    /// Outbound: after so many idle seconds a keep-alive holds the NAT's mapping open (RFC 3948 section 4); 0 is off.
    pub keepalive_seconds: u16,
}

/// Traffic flow confidentiality: how far outbound payloads are padded (RFC 4303 section 2.7). Tunnel mode only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TfcPadding {
    /// Not at all.
    Off,
    /// To payloads of so many octets, 1..=65,534; longer ones stay as they are.
    To(u16),
    /// As far as the path MTU allows.
    PathMtu,
}

/// The configuration of one SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sa {
    /// The tunnel's name.
    pub name: Name,
    /// Which way its packets go.
    pub direction: Direction,
    /// The SPI in its packets, at least 256: ours if inbound, the peer's if outbound.
    pub spi: u32,
    /// The SPI of the tunnel's other direction; 0 if there is none.
    pub peer_spi: u32,
    /// Links policies and SAs; not 0.
    pub reqid: u32,
    /// What its packets carry.
    pub mode: Mode,
    /// The segment that the peer belongs to.
    pub segment: u8,
    /// How packets are protected.
    pub suite: Suite,
    /// The keying material: as long as the suite says.
    pub key: Key,
    /// Outer source address of its packets.
    pub source: IpAddr,
    /// Outer destination address of its packets.
    pub destination: IpAddr,
    /// ESP in UDP; `None` is IP protocol 50.
    pub encapsulation: Option<UdpEncapsulation>,
    /// The traffic selectors.
    pub selectors: Selectors,
    /// 64-bit sequence numbers (RFC 4303 section 2.2.1).
    pub extended_sequence: bool,
    /// Size of the replay window: 64..=4096, a multiple of 64.
    pub replay_window: u16,
    /// The outer DSCP.
    pub dscp: DscpPolicy,
    /// The outer DF bit.
    pub df: DfPolicy,
    /// The path MTU in octets; 0 means the interface's.
    pub path_mtu: u16,
    /// Whether the MSS of TCP connections in it is lowered to what fits (RFC 4459 section 3.2.4 names the need).
    pub clamp_mss: bool,
    /// How far payloads are padded.
    pub tfc_padding: TfcPadding,
    /// When it is to be replaced, and when it ends.
    pub lifetime: Lifetime,
    /// The nodes that have sent with this key.
    pub senders: Senders,
}

impl Sa {
    /// The number under which the index of its direction finds this SA.
    pub fn index_key(&self) -> u32 {
        match self.direction {
            Direction::Inbound => self.spi,
            Direction::Outbound => self.reqid,
        }
    }

    /// Checks what the types alone do not ensure.
    ///
    /// # Errors
    /// The first rule that the SA breaks.
    pub fn validate(&self) -> Result<(), SaError> {
        if self.spi < 256 {
            return Err(SaError::ReservedSpi(self.spi));
        }
        if self.reqid == 0 {
            return Err(SaError::ZeroReqid);
        }
        if self.key.len() != self.suite.key_length() {
            let (suite, needs) = (self.suite, self.suite.key_length());
            return Err(SaError::KeyLength { suite, needs, has: self.key.len() });
        }
        if !matches!(self.replay_window, 64..=4096) || !self.replay_window.is_multiple_of(64) {
            return Err(SaError::ReplayWindow(self.replay_window));
        }
        if self.source.is_ipv4() != self.destination.is_ipv4() {
            return Err(SaError::OuterFamilies);
        }
        if self.encapsulation.is_some_and(|udp| udp.source_port == 0 || udp.destination_port == 0) {
            return Err(SaError::EncapsulationPort);
        }
        if self.tfc_padding != TfcPadding::Off && self.mode == Mode::Transport {
            return Err(SaError::TransportPadding);
        }
        if matches!(self.tfc_padding, TfcPadding::To(0 | u16::MAX)) {
            return Err(SaError::TfcPadding);
        }
        self.lifetime.validate()?;
        match self.dscp {
            DscpPolicy::Set(value) if value > 63 => Err(SaError::Dscp(value)),
            _ => Ok(()),
        }
    }
}

/// Why a value cannot be part of an SA.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SaError {
    /// SPIs 0..=255 are reserved (RFC 4303 section 2.1).
    #[error("SPI {0:#x} is reserved; use 0x100 or above")]
    ReservedSpi(u32),
    /// A reqid of 0 names nothing.
    #[error("reqid 0 is not allowed; give the tunnel a reqid from 1 up")]
    ZeroReqid,
    /// Too much or too little keying material.
    #[error("{suite} needs {needs} octets of keying material (salt included), not {has}")]
    KeyLength {
        /// The suite.
        suite: Suite,
        /// Octets that it needs.
        needs: usize,
        /// Octets that were given.
        has: usize,
    },
    /// More keying material than a slot holds.
    #[error("keying material of {0} octets is too long; at most 104 fit")]
    KeyTooLong(usize),
    /// An unusable window size.
    #[error("a replay window of {0} is not possible; use a multiple of 64 from 64 to 4096")]
    ReplayWindow(u16),
    /// Outer addresses of two families.
    #[error("the outer source and destination are of different IP versions; give both of one version")]
    OuterFamilies,
    /// UDP port 0.
    #[error("ESP in UDP needs ports other than 0; 4500 is the usual one")]
    EncapsulationPort,
    /// TFC padding needs the inner packet's own length field.
    #[error("TFC padding is possible in tunnel mode only; switch it off for this SA")]
    TransportPadding,
    /// A TFC length outside of what can be.
    #[error("payloads can be padded to 1 to 65534 octets")]
    TfcPadding,
    /// A soft limit that would never be reached.
    #[error("a soft limit lies above its hard limit; put it below, so that a new SA is there in time")]
    SoftAboveHard,
    /// A DSCP beyond six bits.
    #[error("DSCP {0} does not exist; use 0 to 63")]
    Dscp(u8),
    /// An unusable name.
    #[error("a tunnel's name has 1 to 32 octets, not {0}")]
    NameLength(usize),
    /// A range whose end is before its start, or of two families.
    #[error("{0} is not a range of addresses; give the lower end first, both of one IP version")]
    AddressRange(String),
    /// A selector of two families.
    #[error(
        "a selector's local and remote addresses are of different IP versions; use one selector for each"
    )]
    SelectorFamilies,
    /// An empty port range.
    #[error("port range {0}-{1} is empty; give the lower port first")]
    PortRange(u16, u16),
    /// No selector, or too many.
    #[error("an SA has 1 to 4 selectors, not {0}")]
    SelectorCount(usize),
    /// Too many senders.
    #[error("an SA remembers at most 8 senders, not {0}; rekey the tunnel to start afresh")]
    SenderCount(usize),
}
