//! IVs that are unique in the world (invariant I1): `node id (8) | epoch (24) | counter (32)`.
//!
//! The counter is node-wide and lives in the table; workers draw blocks from it. A crash wastes the
//! rest of a block. When the counter is used up, the epoch that was granted ahead takes over; no spare
//! epoch means that sending stops.

#[cfg(not(loom))]
mod block;
mod source;

#[cfg(not(loom))]
pub use block::IvBlock;
pub(crate) use source::IvSource;
#[cfg(not(loom))]
pub(crate) use source::MAX_EPOCH;
pub use source::{EpochState, IvError};
