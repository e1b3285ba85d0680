//! Baton's data plane: ESP in worker threads, fed by any [`io::PacketIo`].
//!
//! The packet's way stands in [`pipeline`]; [`daemon`] is the process around it.

pub mod capture;
pub mod config;
pub mod control;
pub mod counters;
pub mod crypto;
pub mod daemon;
pub mod divert;
pub mod drop_reason;
pub mod esp;
pub mod events;
pub mod io;
pub mod netlink;
pub mod next_hop;
pub mod own_address;
pub mod packet;
pub mod pipeline;
pub mod prefix;
pub mod prohibit;
pub mod replay;
pub mod resolv_conf;
pub mod resolver;
pub mod spd;
pub mod steering;
pub mod worker;
pub mod xdp;
