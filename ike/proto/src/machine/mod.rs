//! The protocol.

pub mod backoff;
pub mod window;
