//! The configuration of IKE: sections of the same TOML file that the data plane reads, validated whole with it.
//!
//! [`Config::load`] gives a configuration that can be used as it stands, or every problem of the file with its line,
//! its field and what to do. docs/CONFIGURATION.md describes each key, docs/SWANCTL.md compares them with swanctl's.

use std::path::Path;

use baton_dataplane::config::ConfigErrors;

mod model;

pub use model::{Authority, Config, CredentialSources, Daemon, SecretSource, SharedSecret};

impl Config {
    /// Reads and validates `path` whole, what the data plane reads in it included.
    ///
    /// # Errors
    /// Every problem of the file, in its order.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let _ = path;
        todo!()
    }
}
