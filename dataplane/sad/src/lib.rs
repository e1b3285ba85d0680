//! Baton's SA table in shared memory.
//!
//! A table is a file on tmpfs that several processes map: the data plane whose workers use the SAs,
//! and whoever installs, reads or moves them. Everything in it is 64-bit atomic words. Reading takes
//! no lock and stops nobody; writing takes a lock that dies with its process, and whoever takes it
//! next completes or undoes what a dead writer left.
//!
//! | invariant | kept by |
//! |---|---|
//! | I1 nonce | [`EpochKeeper`] and [`Table::iv_block`] |
//! | I2, I3 sequence and replay | [`SlotView`]'s counters, [`Table::freeze`], [`Table::skip_sequence`], [`Counters::advance`]; between nodes [`Table::reserve`] and [`Table::raise_floors`] |
//! | I4 ownership | [`Table::lease`] |
//! | I5 torn | a sequence lock per slot, and one commit word per PUT |
//! | I6 durable | the file, and recovery |

// Under loom only the part of the code is built that shares memory without locks.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(loom))]
mod epoch;
#[cfg(all(test, not(loom)))]
mod fault;
mod index;
mod iv;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
mod ownership;
mod publication;
mod quiescence;
mod reservation;
#[cfg(not(loom))]
mod sa;
mod seqlock;
mod sequence;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod slot;
mod sync;
#[cfg(not(loom))]
mod table;
#[cfg(not(loom))]
mod workers;

#[cfg(not(loom))]
pub use epoch::{
    EpochClock, EpochError, EpochFiles, EpochKeeper, EpochReport, LEAD, SystemClock, SystemFiles, UNIT,
};
#[cfg(not(loom))]
pub use iv::{EpochState, IvBlock, IvError};
#[cfg(not(loom))]
pub use layout::{MAX_BATCH, MAX_WORKERS, REPLAY_WORDS};
#[cfg(not(loom))]
pub use ownership::{NOT_OWNED, OWNED};
#[cfg(not(loom))]
pub use sa::{
    AddressRange, Bounds, ClusterId, Counters, DfPolicy, Direction, DscpPolicy, Encryption, Integrity, Key,
    Lifetime, Mode, Name, NodeId, ReplayWindow, Sa, SaError, Selector, Selectors, Sender, Senders, Suite,
    TfcPadding, UdpEncapsulation,
};
#[cfg(not(loom))]
pub use slot::{SaHandle, SlotState, SlotView};
#[cfg(not(loom))]
pub use table::{
    ConfigError, Edge, Floor, FreezeError, GetError, PutError, PutKind, PutReceipt, Reservation, Reserve,
    SaKey, SkipError, Snapshot, Table, TableError, TableOptions, UpdateError, WriteError,
};
#[cfg(not(loom))]
pub use workers::{AttachError, DataplaneLease, WorkerSlot};

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
