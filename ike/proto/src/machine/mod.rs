//! The protocol.

pub mod backoff;
pub mod cookies;
pub mod fragments;
pub mod half_open;
pub mod window;
