//! RADIUS for an access server, without I/O: users are authenticated by EAP (RFC 2865, RFC 3579), their sessions are
//! accounted for (RFC 2866), and servers end or change them (RFC 5176).
//!
//! | module | what it knows |
//! |---|---|
//! | [`packet`], [`attribute`] | octets |
//! | [`secret`] | what is shared with a server, and everything that MD5 does with it |
//! | [`access`], [`accounting`] | what is asked and answered, typed |
//! | [`client`] | servers: which one is asked, again, and instead of which |
//! | [`authorization`] | what servers ask of us |
//!
//! RADIUS stands on MD5, which is broken. What is left of its protection is used to the full: an answer to a user's
//! conversation that has no Message-Authenticator is no answer (CVE-2024-3596).
//!
//! No input makes this crate panic, allocate without bound or compute without bound.
#![forbid(unsafe_code)]

pub mod access;
pub mod accounting;
pub mod attribute;
pub mod authorization;
pub mod client;
pub mod packet;
pub mod secret;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use secret::Secret;
