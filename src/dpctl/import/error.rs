//! Why a swanctl.conf cannot be converted at all.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::text::Fault;
use super::{MAX_FILES, MAX_OCTETS};

/// Why a swanctl.conf cannot be converted at all.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}; name a text file in UTF-8 that this user may read")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is broken.
    #[error("{}:{line}: {fault}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: u32,
        /// What is wrong.
        fault: Fault,
    },
    /// A file includes itself.
    #[error("{}:{line}: this includes a file that is being read already; break the loop of includes", file.display())]
    Loop {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: u32,
    },
    /// An include that nothing can be found by.
    #[error("{}:{line}: this is no usable pattern of file names; write one such as conf.d/*.conf", file.display())]
    Pattern {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: u32,
    },
    /// There are too many.
    #[error("more than {MAX_FILES} files are included; convert them in parts")]
    TooManyFiles,
    /// There is too much.
    #[error("the files are longer than {MAX_OCTETS} octets or have too many settings; convert them in parts")]
    TooLong,
    /// References make more of it than there is memory for.
    #[error(
        "the sections inherit too much from one another; let them refer to fewer sections, or break a loop of references"
    )]
    TooMuchInherited,
    /// Nothing tells where this gateway is.
    #[error("no connection names a single local address; name the gateway's with --address")]
    NoAddress,
    /// What was converted is refused for a reason that no option has.
    #[error("what was converted is refused: {0}; convert its connections one by one")]
    Refused(String),
}

impl ImportError {
    /// For `map_err`.
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}
