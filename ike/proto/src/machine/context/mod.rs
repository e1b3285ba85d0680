//! A tunnel at rest: all that is needed to go on with it after a restart or on another gateway.
//!
//! # Format
//! CBOR (RFC 8949) with integer keys. The outer map is
//!
//! | key | what |
//! |---|---|
//! | 0 | version of this format, [`VERSION`]; a reader refuses others |
//! | 1 | octets: the tunnel, itself CBOR as [`stored::Stored`] has it |
//! | 2 | array of octets: sealed keys, in the order in which the tunnel refers to them |
//!
//! Each key is sealed under the wrap key with the version, its place in the array and the octets of key 1 as
//! associated data: neither can a key be moved, nor anything that it belongs to be changed. In the order of the IKE SAs:
//! SK_* of the IKE SA, then the private values of its outstanding requests (RFC 7296 section 2.12); then, in the order
//! of the Child SAs, keys of those whose outbound half is not installed yet; then SK_d, if the tunnel has a ticket to be
//! resumed by (RFC 5723). All other keys of Child SAs are in the SA table.
//!
//! Addresses are text, identities and selectors as RFC 7296 writes them; times are seconds and nanoseconds of unix
//! time. Outstanding requests and kept answers are there octet for octet. Fields that a reader does not know are passed
//! over.

#[cfg(test)]
mod documentation;
mod moving;
mod numbers;
mod read;
mod restore;
mod resumption;
mod session;
mod stored;
mod write;

pub use restore::{Heading, RestoreError, Restoring, heading};
pub(super) use restore::{Passed, remove_orphans};

/// The version of the format.
pub const VERSION: u32 = 1;
/// A context is never longer; a tunnel with the most of everything is far below.
const MAX_CONTEXT: usize = 16 << 20;

/// What binds a sealed key to its place and to what it belongs to.
fn associated(place: usize, public: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(public.len() + 12);
    octets.extend_from_slice(&VERSION.to_be_bytes());
    octets.extend_from_slice(&(place as u64).to_be_bytes());
    octets.extend_from_slice(public);
    octets
}
