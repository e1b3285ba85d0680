//! The protocol.

pub mod backoff;
pub mod configuration_payload;
pub mod cookies;
pub mod fragments;
pub mod half_open;
pub mod window;
