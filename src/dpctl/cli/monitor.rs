//! `dpctl monitor`.

use baton_dataplane::control::Kind;
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
}

impl From<EventKind> for Kind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::SoftLimit => Self::SoftLimit,
            EventKind::HardLimit => Self::HardLimit,
            EventKind::Acquire => Self::Acquire,
            EventKind::PeerMoved => Self::PeerMoved,
            EventKind::PathMtu => Self::PathMtu,
            EventKind::SelectorViolation => Self::SelectorViolation,
            EventKind::Alarm => Self::Alarm,
            EventKind::SegmentsChanged => Self::SegmentsChanged,
            EventKind::Reload => Self::Reload,
            EventKind::PoliciesChanged => Self::PoliciesChanged,
        }
    }
}
