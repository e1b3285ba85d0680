//! The control socket of the IKE daemon: `RUNTIME_DIRECTORY/ike.sock`, in the frame of the data plane's
//! ([`baton_dataplane::control`]). docs/CONTROL.md shows each message as JSON.

mod cluster;
mod events;
mod protocol;

pub use cluster::{
    ContextEntry, ContextList, ContextListRequest, MAX_CONTEXTS_LISTED, OwnedSegment, ReplicationNotice,
    ReplicationReply, StandbyAnswer, StandbyResult, TunnelVersion,
};
pub use events::{DownWord, Kind, Occurred, PathText};
pub(crate) use events::{esp_spi, ike_spi};
pub use protocol::{
    ChildConfiguration, ChildEntry, ConnectionEntry, Connections, ContextAnswer, Done, IkeEntry, IkeList,
    IkeListRequest, LogLine, LogRequest, MonitorRequest, RadiusServerStatus, RekeyWhat, Reloaded, Request,
    RestoreAnswer, SelectorsText, SessionText, Status, TargetText,
};

/// A request line longer than this is refused: a context in hexadecimal digits fits.
pub const MAX_REQUEST_OCTETS: usize = 1 << 20;

/// Tunnels in one answer at most; what is left is asked for again.
pub const MAX_LISTED: usize = 1000;

/// The socket's name below the runtime directory.
pub const SOCKET: &str = "ike.sock";

pub use crate::replication::SOCKET as REPLICATION_SOCKET;
