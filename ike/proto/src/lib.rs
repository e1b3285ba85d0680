//! IKEv2 (RFC 7296) without I/O: bytes, time and commands go in; datagrams, SAs, contexts and events come out.
//!
//! | module | what it knows |
//! |---|---|
//! | [`wire`] | octets: headers and payloads, nothing of keys |
//! | [`crypto`] | keys: they enter and leave it only sealed |
//! | [`proposal`] | algorithms by strongSwan's keywords, negotiated |
//! | [`identity`], [`auth`] | who the peer is, and the proof |
//! | [`eap`] | users, by passwords and certificates |
//! | [`selector`], [`pool`] | which traffic, which inner addresses |
//! | [`configuration`] | what the operator wants |
//! | [`machine`] | the protocol |
//!
//! No input makes this crate panic, allocate without bound or compute without bound.
#![forbid(unsafe_code)]

pub mod auth;
pub mod configuration;
pub mod crypto;
pub mod eap;
pub mod host;
pub mod identity;
pub mod machine;
pub mod pool;
pub mod proposal;
pub mod selector;
pub mod wire;

pub use host::{Command, CommandError, Event, Host, Now, Output, Path};
