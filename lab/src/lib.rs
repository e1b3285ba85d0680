//! Network namespaces, traffic, sniffers and gateways for Baton's end-to-end tests, demo and benchmarks.
//!
//! Everything that a [`Lab`] makes (namespaces, mounts, processes) is noted in a run directory before it
//! exists, so that one function removes it all: on drop, on Ctrl-C, and, for a run that was killed, at the
//! start of the next one. Nothing here touches the machine's own interfaces: all links live inside
//! namespaces named `baton-*`.

pub mod charon;
pub mod command;
pub mod content;
pub mod control;
pub mod error;
pub mod esp;
pub mod flood;
pub mod freeradius;
pub mod gateway;
pub mod http;
mod ike;
pub mod inject;
pub mod kernel_peer;
pub mod lab;
pub mod members;
pub mod namespace;
pub mod negotiation;
pub mod peer_site;
pub mod ping;
pub mod pki;
pub mod probe;
pub mod process;
pub mod requirements;
pub mod road;
pub mod run_directory;
pub mod scapy;
pub mod shape;
pub mod site;
pub mod sniffer;
pub mod topology;

pub use charon::{Charon, CharonSpec};
pub use error::{LabError, Result};
pub use gateway::{Gateway, GatewaySpec, SaSpec, TunnelSpec};
pub use lab::Lab;
pub use members::{ClusterSpec, Members};
pub use namespace::Namespace;
pub use peer_site::PeerSite;
pub use process::Process;
pub use sniffer::{Captured, Direction, Recorder, Sniffer};
