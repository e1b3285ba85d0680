//! The control socket: how the operator's tools talk to a running data plane.
//!
//! One JSON object per line in both directions over a Unix socket whose file permissions decide who may ask
//! (docs/CONTROL.md has every message). [`Server`] runs in threads of its own and never touches a packet. It serves any
//! [`Service`], so that every daemon speaks alike; the data plane answers through [`Handler`], tools ask through
//! [`Client`].

mod capture;
mod client;
mod cluster;
mod handler;
mod monitor;
mod protocol;
mod server;
mod service;

#[cfg(test)]
mod tests;

pub use capture::{CaptureNext, CaptureStream, CapturedPacket};
pub use client::{Client, ClientError};
pub use cluster::{
    Announce, AnnounceReport, ClusterAddress, ClusterReport, Override, OwnerMac, OwnerMacs, SharedSide,
};
pub use handler::{DataPlane, Handler};
pub use monitor::{
    Endpoint, FlowText, Happening, Heard, Kind, Listeners, Listening, MAX_LISTENERS, Notice, Occurrence,
    SaText,
};
pub use protocol::{
    CaptureRequest, CaptureSide, Code, Counter, Counters, DummyReport, Epoch, FreezeReport, InsideEntry,
    InsideReport, InterfaceStatus, MonitorRequest, PROTOCOL_VERSION, Policies, PolicyEntry, PolicyOrigin,
    PolicyReport, Refusal, ReloadReport, Request, Resolved, Segments, SelectorText, Status, WorkerStatus,
};
pub use server::{BindError, BoundSocket, MAX_CLIENTS, MAX_REQUEST_OCTETS, Server};
pub use service::{Conversation, Daemon, Next, Service};
