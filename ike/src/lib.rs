//! The IKEv2 daemon of Baton: sockets, timers, stored contexts and the fence around the protocol, which is
//! [`baton_ike_proto`].

pub mod alarms;
pub mod clock;
pub mod config;
pub mod control;
pub mod counters;
pub mod credentials;
pub mod daemon;
pub mod effects;
pub mod fence;
pub mod host;
pub mod log;
mod names;
pub mod netlink;
mod radius;
mod replication;
mod reports;
pub mod sockets;
pub mod store;
mod wake;
mod watch;
pub mod wrap_key;
