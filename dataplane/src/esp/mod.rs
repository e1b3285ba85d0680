//! ESP in tunnel mode (RFC 4303) with AES-GCM (RFC 4106): the payload's transformation in place, and what both
//! ends do to the headers (RFC 4301 section 5.1.2, RFC 6040).
//!
//! `| outer IPv4 20 | SPI 4, sequence 4 | IV 8 | inner packet | padding, pad length, next header | ICV |`
// Per packet, a struct returned through memory costs more than the work that makes it (benches/pipeline.rs).
#![allow(clippy::inline_always)]

pub mod payload;
pub mod transport;
pub mod tunnel;
