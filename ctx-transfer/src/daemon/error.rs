//! Why the daemon could not start, or had to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use baton_dataplane::config::{ConfigErrors, SnapshotKeyError};
use baton_dataplane::control::BindError;
use baton_ike::fence::FenceError;
use thiserror::Error;

use crate::channel::{ChannelError, CredentialsError};
use crate::cluster::ConfigurationError;

/// Why the daemon could not start, or had to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The configuration.
    #[error("{0}")]
    Config(ConfigErrors),
    /// The core does not like it.
    #[error("[cluster]: {0}")]
    Cluster(#[from] ConfigurationError),
    /// A gateway by itself.
    #[error("{0} has no [cluster]; a gateway by itself needs no baton-cluster")]
    NoCluster(PathBuf),
    /// `--witness` for a node.
    #[error("[cluster] says that this member is a node; leave --witness out, or correct its `role`")]
    NotAWitness,
    /// No `--witness` for a witness.
    #[error("[cluster] says that this member is a witness; start it with --witness, or correct its `role`")]
    IsAWitness,
    /// Certificates.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Another member's.
    #[error(
        "the certificate here is for {found}, and this is {own}; correct [node] and [cluster], or join again"
    )]
    OtherIdentity {
        /// Whose it is.
        found: String,
        /// Who we are.
        own: String,
    },
    /// The cluster key.
    #[error(transparent)]
    Key(#[from] SnapshotKeyError),
    /// There is no cluster key.
    #[error(
        "no key is configured to seal contexts, which the nodes of a cluster share; set [snapshot] key_file"
    )]
    NoKey,
    /// The ports between members.
    #[error(
        "cannot listen at UDP {address}: {source}; correct this member's `address` in [cluster], or end what uses it"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The port of metrics.
    #[error("cannot listen at TCP {address}: {source}; correct [cluster] metrics, or end what uses it")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The runtime directory.
    #[error("cannot make {path}: {source}; check [node] runtime_directory and permissions")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The channel.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] BindError),
    /// The fence.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// The system refused something else.
    #[error("cannot {action}: {source}; look at the system's limits")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl DaemonError {
    /// Whether the configuration, or a file that it names, is to blame.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Cluster(_)
                | Self::NoCluster(_)
                | Self::NotAWitness
                | Self::IsAWitness
                | Self::Credentials(_)
                | Self::OtherIdentity { .. }
                | Self::Key(_)
                | Self::NoKey
        )
    }
}

/// For `map_err`.
pub(super) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> DaemonError {
    move |source| DaemonError::System { action, source: source.into() }
}
