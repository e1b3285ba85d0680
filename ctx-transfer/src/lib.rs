//! Contexts: all that is needed to continue one tunnel on another gateway.
//!
//! [`Context`] is the value, [`codec`](Context::encode) its CBOR form (docs/context.cddl), [`ContextWriter`] and
//! [`ContextReader`] the file or stream of them, sealed under the cluster key, and [`restore`] the rules by which
//! one is installed. Nothing here does I/O beyond the `Read` and `Write` that it is given.
#![forbid(unsafe_code)]

mod codec;
mod context;
mod envelope;
pub mod restore;
mod sa_codec;
#[cfg(test)]
mod tests;

pub use codec::{CodecError, MAX_CONTEXT};
pub use context::{Context, Kind, PolicyEntry, SaContext, Unknown};
pub use envelope::{ClusterKey, ContextReader, ContextWriter, FileError, Protection, WriteError};
