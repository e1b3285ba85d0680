//! What happens in the cluster, for monitors.

use baton_dataplane::control::Occurrence;
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Occurred {
    /// Segments are ours now.
    Took {
        /// Which.
        segments: Vec<u8>,
        /// `first`, `takeover` or `planned`.
        cause: String,
    },
    /// Segments are not ours any more.
    Lost {
        /// Which.
        segments: Vec<u8>,
    },
    /// A partition is over, and the other node keeps these.
    Yielded {
        /// Which.
        segments: Vec<u8>,
        /// To whom.
        to: u8,
    },
    /// A planned move has ended.
    Moved {
        /// Which.
        segments: Vec<u8>,
        /// To whom.
        to: u8,
        /// Whether they are there now; otherwise they stayed.
        done: bool,
    },
    /// A standby has everything.
    Filled {
        /// Which.
        member: u8,
    },
    /// This node was stopped for longer than its leases, and gave everything up.
    Paused {
        /// For how long, in milliseconds.
        milliseconds: u64,
    },
    /// A change of a tunnel left before its standby had it.
    Late {
        /// The tunnel.
        tunnel: String,
    },
    /// A member has sent what cannot be read.
    Malformed {
        /// Which.
        member: u8,
    },
    /// A member can be reached.
    Connected {
        /// Which.
        member: u8,
    },
    /// It cannot be reached any more.
    Disconnected {
        /// Which.
        member: u8,
        /// Why, as a sentence.
        problem: String,
    },
    /// A state that needs an operator begins or ends.
    Alarm {
        /// Whether it begins.
        raised: bool,
        /// A sentence.
        alarm: String,
    },
}

/// The kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "as the occurrences that they are of")]
pub enum Kind {
    Took,
    Lost,
    Yielded,
    Moved,
    Filled,
    Paused,
    Late,
    Malformed,
    Connected,
    Disconnected,
    Alarm,
}

impl Occurrence for Occurred {
    type Kind = Kind;

    fn kind(&self) -> Kind {
        match self {
            Self::Took { .. } => Kind::Took,
            Self::Lost { .. } => Kind::Lost,
            Self::Yielded { .. } => Kind::Yielded,
            Self::Moved { .. } => Kind::Moved,
            Self::Filled { .. } => Kind::Filled,
            Self::Paused { .. } => Kind::Paused,
            Self::Late { .. } => Kind::Late,
            Self::Malformed { .. } => Kind::Malformed,
            Self::Connected { .. } => Kind::Connected,
            Self::Disconnected { .. } => Kind::Disconnected,
            Self::Alarm { .. } => Kind::Alarm,
        }
    }
}
