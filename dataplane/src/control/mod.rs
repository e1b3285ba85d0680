//! The control socket: how `dpctl` and the other daemons speak to the data plane (docs/CONTROL.md).
//!
//! A Unix stream socket in the runtime directory, mode 0600: its permissions decide who may. Requests and answers
//! are single lines of JSON that carry a version. What only reads the SA table, or changes it atomically, does not
//! come this way: it works on the shared table itself, whether or not a data plane runs.

mod client;
mod protocol;
mod server;

pub use client::{Client, ClientError};
pub use protocol::{
    CaptureRequest, CaptureSide, CountersReport, Counted, InterfaceReport, PolicyReport, Refusal, Request, SegmentSet,
    SegmentSetError, SegmentsReport, StatusReport, VERSION, VerdictReport, WorkerReport,
};
pub use server::{CapturedFrame, Captures, Handler, Server, ServerError};

use std::path::{Path, PathBuf};

/// Where the socket of a gateway with this runtime directory is.
pub fn socket_path(runtime_directory: &Path) -> PathBuf {
    runtime_directory.join("control.sock")
}
