//! What is seen at one moment.

use std::time::Duration;

use baton_dataplane::control::{Counter, Status};
use baton_ike::control::{IkeEntry, Status as IkeStatus};
use baton_sad::Direction;

/// All that is seen at one moment; what could not be asked is a sentence instead.
pub(super) struct Sample {
    /// On the monotonic clock.
    pub(super) at: Duration,
    pub(super) sas: Result<Vec<SaSample>, String>,
    pub(super) data_plane: Result<DataPlane, String>,
    /// `None` where there is no IKE daemon and never was one.
    pub(super) ike: Option<Result<IkeDaemon, String>>,
}

/// An SA with what it has counted.
#[derive(Clone)]
pub(super) struct SaSample {
    pub(super) tunnel: String,
    pub(super) direction: Direction,
    pub(super) spi: u32,
    pub(super) segment: u8,
    pub(super) remote: String,
    pub(super) frozen: bool,
    pub(super) packets: u64,
    pub(super) octets: u64,
    /// Replayed, too old, or of a wrong integrity check value.
    pub(super) refused: u64,
}

/// The data plane's answers.
#[derive(Clone)]
pub(super) struct DataPlane {
    pub(super) status: Status,
    pub(super) drops: Vec<Counter>,
    pub(super) owned: Vec<u8>,
}

/// The IKE daemon's answers.
#[derive(Clone)]
pub(super) struct IkeDaemon {
    pub(super) status: IkeStatus,
    /// As far as they are known: a part of them is asked for each time.
    pub(super) tunnels: Vec<IkeEntry>,
}
