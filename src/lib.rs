//! Baton's operator tool as a library, so that `src/bin/dpctl.rs` is a thin main and tests find the parts.
#![forbid(unsafe_code)]

pub mod dpctl;
