//! Why the daemon could not start, or had to stop.

use std::io;
use std::path::{Path, PathBuf};

use baton_sad::{
    AttachError, EpochError, FreezeError, GetError, PutError, TableError, UpdateError, WriteError,
};
use thiserror::Error;

use super::policies::PoliciesError;
use crate::config::ConfigErrors;
use crate::control::BindError;
use crate::crypto::EngineError;
use crate::io::af_xdp::AfXdpError;
use crate::io::pcap::PcapError;
use crate::io::tun::TunError;
use crate::netlink::NetlinkError;
use crate::prohibit::ProhibitError;
use crate::xdp::XdpError;

/// Why the daemon could not start, or had to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The SA table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Another data plane uses the table.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// No epoch, so no IV (I1).
    #[error("no packet can be sent without an epoch: {0}")]
    Epoch(#[from] EpochError),
    /// An SA cannot be installed.
    #[error(transparent)]
    Put(#[from] PutError),
    /// An SA cannot be updated.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// An SA cannot be frozen.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// Configured SAs cannot be installed.
    #[error("{0}")]
    StaticSas(String),
    /// An installed SA cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The table cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The filter.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// The sockets.
    #[error(transparent)]
    AfXdp(#[from] AfXdpError),
    /// Routes and neighbours.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The prohibit routes.
    #[error(transparent)]
    Prohibit(#[from] ProhibitError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] BindError),
    /// The policies of the control socket.
    #[error(transparent)]
    Policies(#[from] PoliciesError),
    /// A capture file.
    #[error(transparent)]
    Pcap(#[from] PcapError),
    /// A worker's crypto cannot start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// The TUN device that was just made is gone.
    #[error("the TUN device {name} is gone again ({source}); does something else remove it?")]
    TunIndex {
        /// Its name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An interface that is not there.
    #[error(
        "the {side} interface {name} does not exist; create it, or correct [{side}] interface (`ip link` lists them)"
    )]
    NoInterface {
        /// `outer` or `inner`.
        side: &'static str,
        /// The configured name.
        name: String,
    },
    /// An interface went away under the sockets.
    #[error("the {0} interface was removed; start the data plane again when it is back: no SA is lost")]
    InterfaceGone(&'static str),
    /// A directory in which others may write.
    #[error(
        "{0} belongs to or can be written by others, who could put their own files there; chown and chmod 700 it"
    )]
    OpenDirectory(PathBuf),
    /// The netlink thread ended.
    #[error(
        "routes and neighbours are not followed any more; see the message above, and start the data plane again"
    )]
    Blind,
    /// A worker's thread ended.
    #[error("worker {0} died; see its message above. Start the data plane again: no SA is lost")]
    WorkerDied(u16),
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}; check the directory's existence, permissions and free space")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// For `map_err`.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::Io { action, path: path.to_owned(), source }
}
