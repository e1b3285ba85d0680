//! What goes wrong, as sentences, and the exit codes.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use baton_ctx_transfer::authority::{AuthorityError, InvitationError};
use baton_ctx_transfer::channel::CredentialsError;
use baton_ctx_transfer::private_file::PrivateFileError;
use baton_ctx_transfer::restore::RestoreError;
use baton_ctx_transfer::{OpenError, SealError};
use baton_dataplane::config::{ConfigErrors, SnapshotKeyError};
use baton_dataplane::control::{ClientError, Code, Daemon};
use baton_sad::{FreezeError, GetError, PutError, TableError, WriteError};
use thiserror::Error;

use super::import::ImportError;

/// The exit codes; `dpctl --help` and docs/DPCTL.md list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Refused or failed.
    Failed = 1,
    /// Wrong command line.
    Usage = 2,
    /// No such thing.
    NotFound = 3,
    /// No daemon.
    Unreachable = 4,
    /// A refused file.
    File = 5,
    /// No permission.
    Permission = 6,
    /// A refused configuration.
    Config = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DpctlError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The SA table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table belongs to another node.
    #[error(
        "the table {path} belongs to node {found} or to another cluster; use that gateway's configuration"
    )]
    OtherNode {
        /// The table.
        path: PathBuf,
        /// Its node.
        found: u8,
    },
    /// The control socket.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster key.
    #[error(transparent)]
    Key(#[from] SnapshotKeyError),
    /// There is no cluster key.
    #[error(
        "no key is configured to seal contexts; set [snapshot] key_file, or pass --clear-text to show the keys"
    )]
    NoKey,
    /// No such SA or tunnel.
    #[error("there is no SA or tunnel {0} here; `dpctl sa list` shows what there is")]
    NotFound(String),
    /// Only the cluster's daemon may say what a member owns.
    #[error(
        "this gateway is a member of a cluster and owns segments by leases, or two gateways might own one: start \
         baton-cluster, which takes what is free"
    )]
    OwnedByLeases,
    /// Nothing to take a snapshot of.
    #[error("no SA is installed here, so there is nothing to take a snapshot of")]
    Nothing,
    /// Binary on a terminal.
    #[error("a context is binary; write it to a file with -o FILE, or into a pipe")]
    Terminal,
    /// Reading a table entry.
    #[error(transparent)]
    Get(#[from] GetError),
    /// Freezing.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// Changing the table.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A file that is none of ours.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A context that must not be installed here.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A context of a tunnel that this gateway does not know.
    #[error(
        "tunnel {0} is not in this gateway's configuration; add it as it is on the gateway that it comes from"
    )]
    UnknownTunnel(String),
    /// A context of a tunnel that is another one here.
    #[error("tunnel {name} is another one here ({differences}); make both configurations agree")]
    Differs {
        /// The tunnel.
        name: String,
        /// In what.
        differences: String,
    },
    /// One file, one tunnel twice.
    #[error("the file holds tunnel {0} twice; take a new snapshot")]
    Twice(String),
    /// A file that is to be written.
    #[error(transparent)]
    Private(#[from] PrivateFileError),
    /// The cluster's certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A member's certificate.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// An invitation to a cluster.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// A gateway by itself.
    #[error("{0} has no [cluster], and this command is about one; docs/CONFIGURATION.md has the section")]
    NoCluster(PathBuf),
    /// Nobody has this number.
    #[error("[cluster] has no member {0}; add it to [[cluster.member]], on all members")]
    NoMember(u8),
    /// A signal.
    #[error("interrupted; SAs that were frozen are in use again, contexts that were installed stay")]
    Interrupted,
    /// Signal handlers.
    #[error("cannot prepare for signals: {0}; nothing was changed")]
    Signals(io::Error),
    /// A file of ours.
    #[error("cannot {action} {path}: {source}; check its directory, permissions and free space")]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A stream of events or log lines ended.
    #[error(
        "the {0} ended, or cut this reader off because it was too slow; start it again, perhaps with --kind"
    )]
    MonitorEnded(Daemon),
    /// The IKE daemon's part of a context is none.
    #[error(
        "the IKE daemon's context of {0} is damaged or too large; use dpctl and the daemon of one release"
    )]
    IkePart(String),
    /// A tunnel that was moved, and is still held.
    #[error(
        "the file is written, but {name} is still held here, frozen: {problem}. When it is restored elsewhere, \
         `dpctl ike release {name}`"
    )]
    NotReleased {
        /// The tunnel.
        name: String,
        /// Why.
        problem: String,
    },
    /// A tunnel whose SAs change all the time.
    #[error("the SAs of {0} change faster than they are read; try again, or use --move")]
    Restless(String),
    /// A context of a tunnel that goes on here.
    #[error("tunnel {0} stands here; it is restored only where it is not, or where it is frozen")]
    Stands(String),
    /// No connection of that name.
    #[error("there is no connection {0}; `dpctl conn list` shows what there is")]
    NoConnection(String),
    /// No child of that name.
    #[error("connection {connection} has no child {child}; `dpctl conn list --json` shows its children")]
    NoChild {
        /// The connection.
        connection: String,
        /// The child.
        child: String,
    },
    /// The peer refused, or does not answer.
    #[error("{what}: {problem}; `dpctl log` has what came before")]
    Negotiation {
        /// What was wanted.
        what: String,
        /// Why it is not so.
        problem: String,
    },
    /// No result in time.
    #[error("{what} after {seconds} s; it goes on, and `dpctl monitor` tells what becomes of it")]
    Late {
        /// What was wanted.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A live view without a terminal.
    #[error("a live view needs a terminal; use --once, or --json for programs")]
    NoTerminal,
    /// Neither a daemon nor a table.
    #[error("no data plane answers, and there is no SA table to look at: {0}")]
    NothingToSee(String),
    /// A swanctl.conf.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Standard output.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl DpctlError {
    /// For `map_err`.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Import(ImportError::File { source, .. })
                if source.kind() == ErrorKind::PermissionDenied =>
            {
                Exit::Permission
            }
            Self::Config(_)
            | Self::Key(_)
            | Self::Import(_)
            | Self::NoCluster(_)
            | Self::NoMember(_)
            | Self::Credentials(_) => Exit::Config,
            Self::NotFound(_)
            | Self::Nothing
            | Self::NoConnection(_)
            | Self::NoChild { .. }
            | Self::Freeze(FreezeError::NotFound { .. }) => Exit::NotFound,
            Self::Table(TableError::NotFound(_))
            | Self::Client(ClientError::NotReachable { .. })
            | Self::NothingToSee(_)
            | Self::MonitorEnded(_) => Exit::Unreachable,
            // What the disk, the table or a worker does is not the file's fault.
            Self::Open(OpenError::Io(_))
            | Self::Restore(
                RestoreError::Get(_)
                | RestoreError::Freeze(_)
                | RestoreError::Write(_)
                | RestoreError::Put(PutError::Full(_) | PutError::WorkerBusy(_) | PutError::Write(_)),
            ) => Exit::Failed,
            Self::Open(_)
            | Self::Restore(_)
            | Self::OwnedByLeases
            | Self::UnknownTunnel(_)
            | Self::Differs { .. }
            | Self::Stands(_)
            | Self::Invitation(InvitationError::Unreadable(_) | InvitationError::ForAnother { .. })
            | Self::Twice(_) => Exit::File,
            Self::Client(ClientError::Permission(_)) => Exit::Permission,
            Self::Client(ClientError::Refused(refusal)) if refusal.code == Code::NotFound => Exit::NotFound,
            Self::Terminal | Self::NoTerminal => Exit::Usage,
            Self::Table(TableError::System { source, .. })
            | Self::File { source, .. }
            | Self::Private(PrivateFileError::File { source, .. })
            | Self::Authority(
                AuthorityError::Read { source, .. }
                | AuthorityError::Directory { source, .. }
                | AuthorityError::Write(PrivateFileError::File { source, .. }),
            ) if source.kind() == ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Failed,
        }
    }

    /// Who reads our output went away: nobody is left to tell.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe)
    }
}
