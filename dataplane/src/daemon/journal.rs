//! The file that dynamic policies survive a restart in (I6): lines of JSON, each a change as a whole.
//!
//! A change is in the file before it has an effect. Appending a line takes a microsecond where rewriting 100,000
//! policies takes a second; a line that its writer died in has no newline, and was never in effect. When more of the
//! file is past than present, it is replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::private_file;
use crate::config::PolicySpec;

/// A larger file is none of ours.
const MAX_OCTETS: u64 = 512 << 20;
/// Growth beyond twice the size of what is in force, before the file is replaced.
const SLACK: u64 = 1 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    /// These are in force, in place of others of their names.
    Add(Vec<PolicySpec>),
    /// Those of these names are not.
    Remove(Vec<String>),
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Octets of whole lines in it.
    length: u64,
    /// A part of a line may stand behind these.
    is_torn: bool,
    /// What it is replaced at.
    limit: u64,
}

/// The changes in a file, in their order; none if there is no file.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] with the number of a line that is none.
pub(super) fn read(path: &Path) -> io::Result<Vec<Change>> {
    let text = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.len() > MAX_OCTETS => return Err(invalid("it is too large")),
        Ok(_) => fs::read(path)?,
    };
    let whole = text.iter().rposition(|octet| *octet == b'\n').map_or(0, |end| end + 1);
    let lines = text[..whole].split_inclusive(|octet| *octet == b'\n').enumerate();
    let parsed = lines.map(|(number, line)| {
        serde_json::from_slice(line).map_err(|error| invalid(&format!("line {}: {error}", number + 1)))
    });
    parsed.collect()
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl Journal {
    /// A file that says that these are in force, in place of what stands at `path`.
    pub(super) fn begin(path: &Path, policies: Vec<PolicySpec>) -> io::Result<Self> {
        let content = line(&Change::Add(policies))?;
        private_file::replace(path, &content)?;
        let file = OpenOptions::new().append(true).open(path)?;
        let length = content.len() as u64;
        Ok(Self { path: path.to_owned(), file, length, is_torn: false, limit: 2 * length + SLACK })
    }

    /// Adds a change; when it returns, a restart finds it.
    pub(super) fn append(&mut self, change: &Change) -> io::Result<()> {
        let line = line(change)?;
        self.mend()?;
        if let Err(error) = self.file.write_all(&line) {
            self.is_torn = true;
            // If not now, before the next one.
            let _ = self.mend();
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Takes away the part of a line that an append left that failed: it would spoil the next one, and with it the
    /// start of the next data plane.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Whether the file is still the one at its path.
    pub(super) fn is_in_place(&self) -> bool {
        let number = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let open = self.file.metadata().map(number).ok();
        open.is_some() && open == fs::symlink_metadata(&self.path).map(number).ok()
    }

    /// Whether it is time to [`begin`](Self::begin) anew.
    pub(super) fn is_long(&self) -> bool {
        self.length > self.limit
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn line(change: &Change) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(change)?;
    line.push(b'\n');
    Ok(line)
}
