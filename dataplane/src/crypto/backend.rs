//! Which library computes.

use std::str::FromStr;

use thiserror::Error;

/// Which library computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// AWS libcrypto by aws-lc-rs: run-time dispatch to the CPU's best.
    #[default]
    AwsLc,
    /// RustCrypto's crates: portable Rust.
    RustCrypto,
}

/// Not the name of a back end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a crypto back end; choose `aws-lc` or `rustcrypto`")]
pub struct UnknownBackend(String);

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        match name {
            "aws-lc" => Ok(Self::AwsLc),
            "rustcrypto" => Ok(Self::RustCrypto),
            _ => Err(UnknownBackend(name.to_owned())),
        }
    }
}
