//! Files for their owner only, that appear whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file is not there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PrivateFileError {
    /// Something else stands where it is to be written.
    #[error("{0} is there and is not a regular file; name another one, or leave -o out to write to a pipe")]
    NotAFile(PathBuf),
    /// The system refuses.
    #[error("cannot {action} {path}: {source}; check its directory, permissions and free space")]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    move |source| PrivateFileError::File { action, path: path.to_owned(), source }
}

/// A file for its owner only that appears whole or not at all.
pub struct PrivateFile<'a> {
    path: &'a Path,
    aside: PathBuf,
    /// What is written to, beside its place.
    pub file: File,
    published: bool,
}

impl<'a> PrivateFile<'a> {
    /// Begins one.
    ///
    /// # Errors
    /// [`PrivateFileError`].
    pub fn create(path: &'a Path) -> Result<Self, PrivateFileError> {
        // To be renamed over, /dev/null would become a file, and a link would be replaced, not what it names.
        if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(PrivateFileError::NotAFile(path.to_owned()));
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let aside = PathBuf::from(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&aside).map_err(failed("create", &aside))?;
        Ok(Self { path, aside, file, published: false })
    }

    /// Writes to it.
    ///
    /// # Errors
    /// [`PrivateFileError::File`].
    pub fn write_all(&mut self, octets: &[u8]) -> Result<(), PrivateFileError> {
        self.file.write_all(octets).map_err(failed("write", self.path))
    }

    /// Puts it in its place, on the disk for good. What fails to get there is not left in that place either.
    ///
    /// # Errors
    /// [`PrivateFileError::File`].
    pub fn publish(mut self) -> Result<(), PrivateFileError> {
        self.file.sync_all().map_err(failed("write", self.path))?;
        fs::rename(&self.aside, self.path).map_err(failed("put in place", self.path))?;
        self.published = true;
        // The name is in the directory, which is written by itself.
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced =
            File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
        synced.map_err(|error| {
            let _ = fs::remove_file(self.path);
            failed("write", self.path)(error)
        })
    }
}

impl Drop for PrivateFile<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.aside);
        }
    }
}
