//! `dpctl monitor`.

use baton_dataplane::control as data_plane;
use baton_ike::control as ike;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(in crate::dpctl) struct MonitorOptions {
    /// Only this kind; may be given several times.
    #[arg(long, value_enum)]
    pub(in crate::dpctl) kind: Vec<EventKind>,
    /// End after so many events.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::dpctl) count: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::dpctl) enum EventKind {
    /// An SA should be rekeyed.
    SoftLimit,
    /// An SA is used no more.
    HardLimit,
    /// Traffic waits for an SA.
    Acquire,
    /// A peer behind a NAT is elsewhere now.
    PeerMoved,
    /// A router told of a smaller MTU.
    PathMtu,
    /// A packet does not belong into its tunnel.
    SelectorViolation,
    /// An alarm came or went.
    Alarm,
    /// This gateway owns other segments.
    SegmentsChanged,
    /// The configuration was read again.
    Reload,
    /// Policies were added or removed.
    PoliciesChanged,
    /// A tunnel stands: its peer is authenticated.
    IkeUp,
    /// A tunnel is over.
    IkeDown,
    /// An IKE SA has new keys.
    IkeRekeyed,
    /// A pair of Child SAs stands.
    ChildUp,
    /// A pair of Child SAs is over.
    ChildDown,
    /// A negotiation failed.
    Failed,
    /// A peer is reached at another address or port.
    PathChanged,
}

impl EventKind {
    /// The data plane's kind, if it tells of it.
    pub(in crate::dpctl) fn of_data_plane(self) -> Option<data_plane::Kind> {
        use data_plane::Kind;
        Some(match self {
            Self::SoftLimit => Kind::SoftLimit,
            Self::HardLimit => Kind::HardLimit,
            Self::Acquire => Kind::Acquire,
            Self::PeerMoved => Kind::PeerMoved,
            Self::PathMtu => Kind::PathMtu,
            Self::SelectorViolation => Kind::SelectorViolation,
            Self::Alarm => Kind::Alarm,
            Self::SegmentsChanged => Kind::SegmentsChanged,
            Self::Reload => Kind::Reload,
            Self::PoliciesChanged => Kind::PoliciesChanged,
            _ => return None,
        })
    }

    /// The IKE daemon's kind, if it tells of it.
    pub(in crate::dpctl) fn of_ike(self) -> Option<ike::Kind> {
        use ike::Kind;
        Some(match self {
            Self::IkeUp => Kind::IkeUp,
            Self::IkeDown => Kind::IkeDown,
            Self::IkeRekeyed => Kind::IkeRekeyed,
            Self::ChildUp => Kind::ChildUp,
            Self::ChildDown => Kind::ChildDown,
            Self::Failed => Kind::Failed,
            Self::PathChanged => Kind::PathChanged,
            Self::SegmentsChanged => Kind::SegmentsChanged,
            Self::Alarm => Kind::Alarm,
            _ => return None,
        })
    }
}
