//! Whether the SA table that we map is still the one that the data plane uses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::DaemonError;
use super::error::file;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks at the file's identity.
#[derive(Debug)]
pub(super) struct TableWatch {
    path: PathBuf,
    identity: (u64, u64),
    looked: Instant,
}

impl TableWatch {
    /// Of a table that is mapped.
    pub(super) fn new(path: &Path) -> Result<Self, DaemonError> {
        let identity = identity(path).map_err(file("examine", path))?;
        Ok(Self { path: path.to_owned(), identity, looked: Instant::now() })
    }

    /// # Errors
    /// [`DaemonError::TableReplaced`]: what we install from then on nobody would see.
    pub(super) fn check(&mut self) -> Result<(), DaemonError> {
        if self.looked.elapsed() < PERIOD {
            return Ok(());
        }
        self.looked = Instant::now();
        match identity(&self.path) {
            Ok(found) if found == self.identity => Ok(()),
            _ => Err(DaemonError::TableReplaced(self.path.clone())),
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}
