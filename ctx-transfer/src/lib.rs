//! Baton's context format: all that is needed to continue one tunnel elsewhere.
//!
//! A [`Context`] is a CBOR map with integer keys (docs/context.cddl); keys that this release does not know are kept
//! and written again. Contexts travel and rest in a sealed stream: [`ContextWriter`] and [`ContextReader`].
//! No input makes this crate panic, allocate without bound or recurse without bound.

// Allowed in one module, that asks for real-time priority.
#![deny(unsafe_code)]

pub mod authority;
mod cbor;
pub mod channel;
pub mod cluster;
pub mod collect;
pub mod config;
mod context;
pub mod control;
pub mod cxtp;
pub mod daemon;
mod decode;
mod encode;
mod envelope;
pub mod private_file;
pub mod restore;

#[cfg(test)]
mod tests;

pub use cbor::{CborError, Unknown};
pub use context::{Context, ContextSa, IkePart, Kind, MAX_PARTS, Origin, Policy, PolicyAction};
pub use decode::DecodeError;
pub use envelope::{
    ClusterKey, ContextReader, ContextWriter, FORMAT_VERSION, HEADER_OCTETS, MAX_RECORD_OCTETS, OpenError,
    OpenWith, SealError, SealWith,
};

/// Version of the map inside; a reader refuses any other.
pub const CONTEXT_VERSION: u64 = 2;
