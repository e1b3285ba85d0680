//! What can go wrong while a lab is built or used.

use std::io;
use std::path::Path;

/// A result of the lab.
pub type Result<T> = std::result::Result<T, LabError>;

/// A sentence for the person who ran the test or the demo.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A command ended with an error, or could not be started.
    #[error("`{command}` failed: {detail}")]
    Command {
        /// The command line as a person would type it.
        command: String,
        /// What it said on stderr, or why it did not start.
        detail: String,
    },
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was attempted, as the end of a sentence.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Something that was waited for did not happen.
    #[error("{what} did not happen within {seconds} s{detail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// What is known instead, such as the end of a log.
        detail: String,
    },
    /// The machine lacks something that the lab needs.
    #[error("{0}")]
    Missing(String),
    /// An answer was not what it had to be.
    #[error("{0}")]
    Unexpected(String),
}

impl LabError {
    /// Wraps an I/O error with what was attempted.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
        let what = what.into();
        move |source| LabError::Io { what, source }
    }

    /// Wraps an I/O error on a path with what was attempted.
    pub fn path(what: &str, path: &Path) -> impl FnOnce(io::Error) -> LabError {
        Self::io(format!("{what} {}", path.display()))
    }
}
