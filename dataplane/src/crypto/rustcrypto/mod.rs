//! The back end on RustCrypto's crates. Their `zeroize` features wipe round keys, hash keys and hash states.

mod aead;
mod authenticator;
mod cipher;

pub(super) use aead::aead;
pub(super) use authenticator::Authenticator;
pub(super) use cipher::cipher;
