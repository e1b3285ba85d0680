//! The invariants of the design, tried on every suite in every shape that an SA may have.
//!
//! I5 is in `torn`, beside threads; I6 and I7 need processes and wires: `tests/invariants.rs` and `tests/no_leak.rs`
//! of the workspace.

#[path = "../common/mod.rs"]
mod common;

mod nonce;
mod ownership;
mod replay;
mod reservation;
mod sequence;
mod step;
mod torn;
mod unheard;
