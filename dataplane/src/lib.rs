//! Baton's data plane: ESP in worker threads, fed by any [`io::PacketIo`].

pub mod config;
pub mod control;
pub mod crypto;
pub mod io;
pub mod next_hop;
pub mod packet;
pub mod prefix;
pub mod replay;
