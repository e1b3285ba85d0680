//! The control socket of the cluster's daemon: its messages. docs/CONTROL.md shows each as JSON; a change of shape raises
//! [`baton_dataplane::control::PROTOCOL_VERSION`].

use serde::{Deserialize, Serialize};

mod events;
mod status;

pub use events::{Kind, Occurred};
pub use status::{
    CertificateStatus, ChannelStatus, LastTook, MemberEntry, StandbyEntry, StandbyWord, Status, TotalsEntry,
};

/// The longest request, in octets.
pub const MAX_REQUEST_OCTETS: usize = 1 << 16;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Answered by [`Status`].
    Status,
    /// For Prometheus; answered by [`Metrics`].
    Metrics,
    /// Take segments from their owners; answered by [`Done`].
    SegmentTake {
        /// 0..=255 each.
        segments: Vec<u8>,
    },
    /// Give segments to their standbys; answered by [`Done`].
    SegmentDrop {
        /// 0..=255 each.
        segments: Vec<u8>,
    },
    /// Move segments of this node to a certain one; answered by [`Done`].
    SegmentMove {
        /// 0..=255 each.
        segments: Vec<u8>,
        /// Its id.
        to: u8,
    },
    /// Every segment of this node to the node that it belongs to; answered by [`Done`].
    Balance,
    /// Give everything away and take nothing, or come back; answered by [`Done`].
    Maintenance {
        /// Whether it begins.
        on: bool,
    },
    /// Fill the standbys again from nothing; answered by [`Done`].
    Resync,
    /// Read certificates and configuration again; answered by [`Reloaded`].
    Reload,
    /// Hear what happens; answered by an empty object and then a [`Notice`](baton_dataplane::control::Notice) per line.
    Monitor(MonitorRequest),
}

/// What to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorRequest {
    /// Only these; all if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
}

/// A command was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Segments that it is about.
    pub concerned: u16,
}

/// What became of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is in force from now on.
    pub changed: Vec<String>,
    /// What needs a restart of the daemon, as sentences.
    pub needs_restart: Vec<String>,
}

/// The text format of Prometheus, version 0.0.4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// All of it.
    pub text: String,
}
