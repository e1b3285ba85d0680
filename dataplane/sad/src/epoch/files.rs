//! The files that epochs are remembered in, in steps that can fail or be the last one.

use std::any::Any;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::table::open_lock_file;

/// The few operations on files that durability is made of; tests have a file system of their own, in
/// which each may fail, or be the last before a crash.
pub trait EpochFiles: Debug + Send + Sync {
    /// The whole file; `None` if there is none.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Creates or truncates a file of mode 0600 and fills it.
    ///
    /// # Errors
    /// What the system says, such as that the disk is full.
    fn write(&self, path: &Path, octets: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to` by `from` atomically.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Locks out other processes until the guard is dropped.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any>>;
}

/// The machine's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

impl EpochFiles for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(octets) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        crash_point();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path)?;
        crash_point();
        file.write_all(octets)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        crash_point();
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        crash_point();
        fs::rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        crash_point();
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any>> {
        let file = open_lock_file(path)?;
        file.lock()?;
        Ok(Box::new(file))
    }
}

/// A place where a test may kill the process.
fn crash_point() {
    #[cfg(test)]
    crate::fault::step();
}
