//! What happens, for monitors: the protocol's events in words that stay.

use std::net::{IpAddr, SocketAddr};

use baton_dataplane::control::Occurrence;
use baton_ike_proto::Event;
use baton_ike_proto::host::{DownReason, Path};
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Occurred {
    /// A tunnel stands: the peer is authenticated.
    IkeUp {
        /// Which.
        tunnel: String,
        /// Its connection.
        connection: String,
        /// Who the peer is.
        remote_identity: String,
        /// Where.
        path: PathText,
        /// Inner addresses that the peer was given, or that we were given.
        virtual_addresses: Vec<IpAddr>,
        /// DNS servers that the peer has told us of.
        #[serde(default)]
        dns: Vec<IpAddr>,
    },
    /// A tunnel was set up by a ticket (RFC 5723); `ike-up` follows.
    Resumed {
        /// Which.
        tunnel: String,
        /// Whether we have presented the ticket.
        by_us: bool,
    },
    /// A tunnel is over.
    IkeDown {
        /// Which.
        tunnel: String,
        /// Why.
        reason: DownWord,
    },
    /// An IKE SA was replaced by one with new keys.
    IkeRekeyed {
        /// Which.
        tunnel: String,
        /// As `0x2a00000000000001`.
        initiator_spi: String,
        /// As `initiator_spi`.
        responder_spi: String,
    },
    /// A pair of Child SAs stands.
    ChildUp {
        /// In which tunnel.
        tunnel: String,
        /// Its configured name.
        child: String,
        /// Our SPI, as `0x2a000001`.
        inbound_spi: String,
        /// The peer's SPI.
        outbound_spi: String,
        /// The SPI of ours that it replaces.
        replaces: Option<String>,
    },
    /// A pair of Child SAs is over.
    ChildDown {
        /// In which tunnel.
        tunnel: String,
        /// Its configured name.
        child: String,
        /// Our SPI.
        inbound_spi: String,
    },
    /// An exchange failed.
    Failed {
        /// In which tunnel, if there is one already.
        tunnel: Option<String>,
        /// Which connection, if that is known.
        connection: Option<String>,
        /// Where the peer is.
        remote: SocketAddr,
        /// A sentence: which, why and what to do.
        problem: String,
    },
    /// A peer was sent to another gateway, or has sent us (RFC 5685).
    Redirected {
        /// Which tunnel.
        tunnel: String,
        /// Where to: an address or a name.
        gateway: String,
        /// Whether we have sent the peer.
        by_us: bool,
    },
    /// The peer is reached at another address or port.
    PathChanged {
        /// Which tunnel.
        tunnel: String,
        /// Before.
        from: PathText,
        /// Now.
        to: PathText,
    },
    /// This node acts for other segments than before: tunnels have fallen silent here, or have woken up.
    SegmentsChanged {
        /// How many it acts for.
        segments: u64,
    },
    /// Something wants an operator, or does no longer.
    Alarm {
        /// False when it is over.
        raised: bool,
        /// A sentence with what to do.
        alarm: String,
    },
}

/// The kinds of [`Occurred`], to choose among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // As in `Occurred`.
pub enum Kind {
    IkeUp,
    Resumed,
    IkeDown,
    IkeRekeyed,
    ChildUp,
    ChildDown,
    Failed,
    Redirected,
    PathChanged,
    SegmentsChanged,
    Alarm,
}

impl Occurrence for Occurred {
    type Kind = Kind;

    fn kind(&self) -> Kind {
        match self {
            Self::IkeUp { .. } => Kind::IkeUp,
            Self::Resumed { .. } => Kind::Resumed,
            Self::IkeDown { .. } => Kind::IkeDown,
            Self::IkeRekeyed { .. } => Kind::IkeRekeyed,
            Self::ChildUp { .. } => Kind::ChildUp,
            Self::ChildDown { .. } => Kind::ChildDown,
            Self::Failed { .. } => Kind::Failed,
            Self::Redirected { .. } => Kind::Redirected,
            Self::PathChanged { .. } => Kind::PathChanged,
            Self::SegmentsChanged { .. } => Kind::SegmentsChanged,
            Self::Alarm { .. } => Kind::Alarm,
        }
    }
}

/// The two ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathText {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

impl From<&Path> for PathText {
    fn from(path: &Path) -> Self {
        Self { local: path.local, remote: path.remote }
    }
}

/// Why a tunnel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DownWord {
    /// We were told to.
    Command,
    /// The peer deleted it.
    Peer,
    /// The peer does not answer.
    Unreachable,
    /// The same peer has set up another one.
    Replaced,
    /// Its lifetime is over and it was not renewed.
    Expired,
    /// Its connection is no longer configured.
    Reconfigured,
    /// It is on another gateway now.
    Moved,
    /// It did not get as far as standing.
    Failed,
    /// It goes on at another gateway.
    Redirected,
    /// The peer has lost it, and proved so.
    Crashed,
    /// Its user's session has lasted as long as it may.
    SessionTimeout,
    /// Its user's session was without traffic for too long.
    Idle,
}

impl From<DownReason> for DownWord {
    fn from(reason: DownReason) -> Self {
        match reason {
            DownReason::Command => Self::Command,
            DownReason::Peer => Self::Peer,
            DownReason::Unreachable => Self::Unreachable,
            DownReason::Replaced => Self::Replaced,
            DownReason::Expired => Self::Expired,
            DownReason::Reconfigured => Self::Reconfigured,
            DownReason::Moved => Self::Moved,
            DownReason::Redirected => Self::Redirected,
            DownReason::Crashed => Self::Crashed,
            DownReason::SessionTimeout => Self::SessionTimeout,
            DownReason::Idle => Self::Idle,
            // Reasons to come are failures until they have a word.
            _ => Self::Failed,
        }
    }
}

/// An SPI of ESP as people read it.
pub(crate) fn esp_spi(spi: u32) -> String {
    format!("{spi:#010x}")
}

/// An SPI of IKE as people read it.
pub(crate) fn ike_spi(spi: u64) -> String {
    format!("{spi:#018x}")
}

impl Occurred {
    /// An event of the protocol; `None` for those that have no word yet.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::IkeUp { tunnel, connection, remote, path, virtual_addresses, dns } => Self::IkeUp {
                tunnel: tunnel.to_string(),
                connection: connection.clone(),
                remote_identity: remote.to_string(),
                path: path.into(),
                virtual_addresses: virtual_addresses.clone(),
                dns: dns.clone(),
            },
            Event::Resumed { tunnel, by_us } => Self::Resumed { tunnel: tunnel.to_string(), by_us: *by_us },
            Event::IkeDown { tunnel, reason } => {
                Self::IkeDown { tunnel: tunnel.to_string(), reason: (*reason).into() }
            }
            Event::IkeRekeyed { tunnel, spis: (initiator, responder) } => Self::IkeRekeyed {
                tunnel: tunnel.to_string(),
                initiator_spi: ike_spi(*initiator),
                responder_spi: ike_spi(*responder),
            },
            Event::ChildUp { tunnel, child, inbound_spi, outbound_spi, replaces } => Self::ChildUp {
                tunnel: tunnel.to_string(),
                child: child.clone(),
                inbound_spi: esp_spi(*inbound_spi),
                outbound_spi: esp_spi(*outbound_spi),
                replaces: replaces.map(esp_spi),
            },
            Event::ChildDown { tunnel, child, inbound_spi } => Self::ChildDown {
                tunnel: tunnel.to_string(),
                child: child.clone(),
                inbound_spi: esp_spi(*inbound_spi),
            },
            Event::Failed { tunnel, connection, remote, problem } => Self::Failed {
                tunnel: tunnel.as_ref().map(ToString::to_string),
                connection: connection.clone(),
                remote: *remote,
                problem: problem.clone(),
            },
            Event::Redirected { tunnel, gateway, by_us } => {
                Self::Redirected { tunnel: tunnel.to_string(), gateway: gateway.clone(), by_us: *by_us }
            }
            Event::PathChanged { tunnel, from, to } => {
                Self::PathChanged { tunnel: tunnel.to_string(), from: from.into(), to: to.into() }
            }
            _ => return None,
        })
    }
}
