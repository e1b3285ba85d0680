//! What a hostile peer, inner host or stranger tries against the pipeline beyond malformed packets.

#[path = "../common/mod.rs"]
mod common;

mod carried;
mod crafted;
mod encapsulated;
mod limits;
mod policies;
mod whatever;

/// Octets of an untagged Ethernet header.
const ETH: usize = 14;
/// ESP's next header for IPv4.
const IPIP: u8 = 4;
