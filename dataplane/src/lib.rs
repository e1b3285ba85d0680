//! Baton's data plane: ESP in worker threads, fed by any [`io::PacketIo`].

pub mod io;
pub mod next_hop;
pub mod prefix;
pub mod steering;
pub mod xdp;
