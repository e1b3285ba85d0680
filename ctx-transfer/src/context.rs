//! What a context holds.

use std::fmt;

use baton_sad::{Counters, Name, Sa, Selectors, Sender};
use ciborium::Value;

/// Whether the counters in a context are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The SAs were frozen before they were read: whoever installs the context continues exactly there (I2, I3).
    Move,
    /// The SAs went on after they were read: both edges advance by an explicit amount when it is installed, and I2
    /// and I3 are not promised.
    Copy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Move => "move",
            Self::Copy => "copy",
        })
    }
}

/// Fields of a later release: kept, and written again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unknown(pub(crate) Vec<(i64, Value)>);

impl Unknown {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One SA with its counters.
#[derive(Clone, Debug, PartialEq)]
pub struct SaContext {
    /// Its configuration, key included.
    pub sa: Sa,
    /// Its counters when it was read.
    pub counters: Counters,
    /// What a later release added.
    pub unknown: Unknown,
}

/// An SPD entry of the tunnel (RFC 4301 section 4.4.1): what matches is protected by the SAs of `reqid`.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyEntry {
    /// Links the policy with its SAs.
    pub reqid: u32,
    /// Whose traffic it is.
    pub selectors: Selectors,
    /// What a later release added.
    pub unknown: Unknown,
}

/// All that is needed to continue one tunnel elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// Whether its counters are final.
    pub kind: Kind,
    /// The tunnel's name.
    pub name: Name,
    /// Which node it was read on.
    pub origin: Sender,
    /// When it was read: seconds since 1970.
    pub taken_at: u64,
    /// The tunnel's Child SAs, both directions: 1 to 64.
    pub sas: Vec<SaContext>,
    /// The tunnel's SPD entries.
    pub policies: Vec<PolicyEntry>,
    /// What a later release added: the IKE part, for one, is bytes that only the IKE daemon looks into.
    pub unknown: Unknown,
}
