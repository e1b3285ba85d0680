//! Why the daemon could not start, or had to stop.

use std::io;
use std::path::{Path, PathBuf};

use baton_dataplane::config::{ConfigErrors, SnapshotKeyError};
use baton_dataplane::control::BindError;
use baton_sad::TableError;
use thiserror::Error;

use crate::credentials::CredentialProblems;
use crate::fence::FenceError;
use crate::radius::DaeError;
use crate::sockets::SocketsError;
use crate::store::StoreError;

/// Why the daemon could not start, or had to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Secrets and certificates.
    #[error(transparent)]
    Credentials(#[from] CredentialProblems),
    /// The cluster key.
    #[error(transparent)]
    Key(#[from] SnapshotKeyError),
    /// The SA table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table belongs to another node.
    #[error(
        "the SA table {path} belongs to node {found} or to another cluster; correct [node], or remove the table"
    )]
    OtherNode {
        /// The table.
        path: PathBuf,
        /// Its node.
        found: u8,
    },
    /// The table was removed or replaced while we used it.
    #[error("the SA table {0} was replaced; start baton-ike again, which sets the tunnels' SAs up anew")]
    TableReplaced(PathBuf),
    /// IKE's ports.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The port of [eap-radius.dae].
    #[error(transparent)]
    Dae(#[from] DaeError),
    /// The stored contexts.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] BindError),
    /// The fence.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// A signal came before the daemon was ready.
    #[error("stopped while waiting for the data plane's SA table")]
    Stopped,
    /// The system refused something else.
    #[error("cannot {action}: {source}; look at the system's limits")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file.
    #[error("cannot {action} {path}: {source}; check its directory and permissions")]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// For `map_err`.
pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> DaemonError {
    move |source| DaemonError::System { action, source: source.into() }
}

/// For `map_err`.
pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DaemonError {
    let path = path.to_owned();
    move |source| DaemonError::File { action, path, source }
}
