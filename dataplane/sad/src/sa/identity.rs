//! Names: of tunnels, nodes and clusters.

use std::fmt;
use std::num::NonZeroU8;
use std::ops::Deref;

use super::SaError;

/// The id of a node within its cluster, 1..=255; it stands in every IV that the node makes (I1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NonZeroU8);

impl NodeId {
    /// `None` for 0, which is reserved.
    pub const fn new(id: u8) -> Option<Self> {
        match NonZeroU8::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a cluster, 56 bits: the first seven octets of the SHA-256 of its name, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(u64);

impl ClusterId {
    /// Takes the low 56 bits.
    pub const fn new(id: u64) -> Self {
        Self(id & 0x00ff_ffff_ffff_ffff)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A tunnel's name: 1..=32 octets of UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    octets: [u8; Self::MAX],
    length: u8,
}

impl Name {
    /// The longest name, in octets.
    pub const MAX: usize = 32;

    /// # Errors
    /// [`SaError::NameLength`] if it is empty or too long.
    pub fn new(name: &str) -> Result<Self, SaError> {
        if !(1..=Self::MAX).contains(&name.len()) {
            return Err(SaError::NameLength(name.len()));
        }
        let mut octets = [0; Self::MAX];
        octets[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { octets, length: name.len() as u8 })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let octets = &self.octets[..usize::from(self.length)];
        std::str::from_utf8(octets).unwrap_or("?")
    }
}

impl TryFrom<&str> for Name {
    type Error = SaError;
    fn try_from(name: &str) -> Result<Self, SaError> {
        Self::new(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A node of a cluster that has sent with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id there.
    pub node: NodeId,
}

/// The nodes that have sent with a key, at most 8 (I1: a node of another cluster whose id stands here
/// rekeys before it sends).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Senders(Vec<Sender>);

impl Senders {
    /// The most that an SA remembers.
    pub const MAX: usize = 8;

    /// # Errors
    /// [`SaError::SenderCount`] if there are more than 8.
    pub fn new(senders: Vec<Sender>) -> Result<Self, SaError> {
        if senders.len() > Self::MAX {
            return Err(SaError::SenderCount(senders.len()));
        }
        Ok(Self(senders))
    }

    /// Adds a sender unless it is there.
    ///
    /// # Errors
    /// [`SaError::SenderCount`] if there are 8 others.
    pub fn insert(&mut self, sender: Sender) -> Result<(), SaError> {
        if self.0.contains(&sender) {
            return Ok(());
        }
        if self.0.len() == Self::MAX {
            return Err(SaError::SenderCount(Self::MAX + 1));
        }
        self.0.push(sender);
        Ok(())
    }

    /// Whether a node of *another* cluster with this id has sent with the key: then this node's IVs
    /// could repeat that node's, and it has to rekey before it sends.
    pub fn forbid(&self, sender: Sender) -> bool {
        self.0.iter().any(|s| s.node == sender.node && s.cluster != sender.cluster)
    }
}

impl Deref for Senders {
    type Target = [Sender];
    fn deref(&self) -> &[Sender] {
        &self.0
    }
}
