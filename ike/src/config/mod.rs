//! The configuration of IKE: sections of the same TOML file that the data plane reads, validated whole with it.
//!
//! [`Config::load`] gives a configuration that can be used as it stands, or every problem of the file with its line,
//! its field and what to do. docs/CONFIGURATION.md describes each key, docs/SWANCTL.md compares them with swanctl's.

use std::path::Path;

use baton_dataplane::config::reader::{Section, Source};
use baton_dataplane::config::{self as gateway, ConfigErrors};

mod authentication;
mod check;
mod child;
mod connection;
mod daemon;
mod field;
mod lifetime;
mod model;
mod moving;
mod pool;
mod radius;
mod sections;
mod trust;

#[cfg(test)]
mod tests;

pub use model::{
    Config, CredentialSources, Dae, Daemon, Radius, RadiusServer, SecretKind, SecretSource, SharedSecret,
};

impl Config {
    /// Reads and validates `path` whole, what the data plane reads in it included. Credentials are not read:
    /// [`crate::credentials::load`] does.
    ///
    /// # Errors
    /// Every problem of the file, in its order.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let (text, private) = gateway::read_text(path)?;
        Self::parse_as(&text, path, private)
    }

    /// Validates `text` as if it stood in `path`, which need not exist; relative file names start at its directory.
    /// Inline secrets are accepted only if `private` says that nobody else can read the file.
    ///
    /// # Errors
    /// Every problem of the text, in its order.
    pub fn parse_as(text: &str, path: &Path, private: bool) -> Result<Self, ConfigErrors> {
        let source = Source::new(path, text);
        let document = source.document();
        if source.has_problems() {
            // What can be recovered from broken syntax would only complain about its own gaps.
            return Err(source.into_errors());
        }
        let gateway = gateway::Config::read(&source, &document, private);
        let root = Section::root(&source, &document);
        match (sections::read(&root, gateway.as_ref(), private), gateway) {
            (Some(read), Some(gateway)) if !source.has_problems() => Ok(read.into_config(gateway)),
            _ => Err(source.into_errors()),
        }
    }
}
