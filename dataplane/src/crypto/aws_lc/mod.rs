//! The back end on aws-lc-rs. Its contexts are flat memory that the library wipes when they are dropped.

mod aead;
mod cipher;
mod hmac;

pub(super) use aead::aead;
pub(super) use cipher::cipher;
pub(super) use hmac::Hmac;
