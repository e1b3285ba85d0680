//! What is wrong with a configuration file, told so that it can be repaired without a manual.

use std::fmt;
use std::path::{Path, PathBuf};

/// One problem of a configuration: where it stands, what is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: PathBuf,
    /// Line, counted from 1.
    pub line: usize,
    /// Column, counted from 1 in characters.
    pub column: usize,
    /// Path of the field, e.g. `tunnel.site-a.inbound.spi`; empty where the whole file is meant.
    pub field: String,
    /// What is wrong; never holds key material.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}\n    Remedy: {}", self.message, self.remedy)
    }
}

/// Everything that is wrong with a configuration, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| (p.line, p.column));
        Self { problems }
    }

    /// A problem of the file as such (absent, unreadable, not text).
    pub(super) fn of_file(file: &Path, message: String, remedy: &str) -> Self {
        Self::new(vec![Problem {
            file: file.to_owned(),
            line: 1,
            column: 1,
            field: String::new(),
            message,
            remedy: remedy.to_owned(),
        }])
    }

    /// All problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.problems.len() {
            1 => f.write_str("1 problem in the configuration; it was not used"),
            n => write!(f, "{n} problems in the configuration; it was not used"),
        }
    }
}

impl std::error::Error for ConfigErrors {}
