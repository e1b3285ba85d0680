//! Creating and opening the file. Whatever is not exactly our table is refused with a sentence.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use thiserror::Error;

use super::Table;
use super::memory::{boot, boot_id_path, is_in_memory};
use super::writer::WriterLock;
use crate::layout::{Layout, MAGIC, MAX_CAPACITY, VERSION, header};
use crate::mapping::Mapping;
use crate::sa::{ClusterId, NodeId};
use crate::shared::Shared;
use crate::sync::{Ordering, store};
use crate::workers::DataplaneLock;

/// What a new table is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableOptions {
    /// How many SAs fit: 1..=16,777,216. About 1.4 KiB of memory each, allocated at once.
    pub capacity: u32,
    /// The node that it belongs to.
    pub node: NodeId,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
}

/// Why a table cannot be created or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TableError {
    /// The system refused something.
    #[error("cannot {action} {path}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is none.
    #[error("there is no SA table at {0}; start baton-dataplane, which creates it")]
    NotFound(PathBuf),
    /// There is one already.
    #[error("an SA table exists at {0}; open it, or remove it if its SAs may be lost")]
    Exists(PathBuf),
    /// An impossible capacity.
    #[error("a table for {0} SAs is not possible; use a capacity from 1 to {MAX_CAPACITY}")]
    Capacity(u32),
    /// The memory for it is not there.
    #[error(
        "there is no room for the {octets} octets of {path}; give the file system more, or lower the capacity"
    )]
    NoRoom {
        /// The table.
        path: PathBuf,
        /// Its size.
        octets: u64,
    },
    /// Not an ordinary file.
    #[error("{0} is not an ordinary file, so it is not used as an SA table; remove it")]
    NotAFile(PathBuf),
    /// On a file system that outlives the machine's memory.
    #[error(
        "{0} is not on tmpfs, so that its IVs could be used again and its keys stay on a disk; set \
         runtime_directory to a tmpfs such as /run or /dev/shm"
    )]
    NotInMemory(PathBuf),
    /// A table that was made before the machine started.
    #[error(
        "{0} was made in another boot of this or another machine, so that its IVs could be used again; \
         remove it and rekey its tunnels"
    )]
    OtherBoot(PathBuf),
    /// Others may read or write it.
    #[error(
        "{path} has mode {mode:04o}, so that others may read its keys; use `chmod 600`, and rekey its tunnels"
    )]
    Permissions {
        /// The table.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else's file.
    #[error("{path} belongs to user {uid}, who could change its keys; remove it or correct its owner")]
    ForeignOwner {
        /// The table.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Another format.
    #[error("{0} is not an SA table; remove it or choose another path")]
    NotATable(PathBuf),
    /// A table of another release.
    #[error(
        "{path} is an SA table of version {found}, this program reads version {VERSION}; take snapshots with \
         the release that made it, remove it, and restore them"
    )]
    OtherVersion {
        /// The table.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// Cut short, or with sizes that do not fit together.
    #[error(
        "{path} is truncated or damaged ({octets} octets, {needs} expected); remove it and restore its SAs"
    )]
    Damaged {
        /// The table.
        path: PathBuf,
        /// Its size.
        octets: u64,
        /// The size that its header asks for.
        needs: u64,
    },
    /// A table of another node or cluster.
    #[error(
        "{path} belongs to node {found} of {cluster} cluster, this is node {node}; give each node a runtime \
         directory of its own, or remove the table if the node was renamed"
    )]
    OtherNode {
        /// The table.
        path: PathBuf,
        /// The node in it.
        found: u8,
        /// The node asked for.
        node: NodeId,
        /// "another" or "the same".
        cluster: &'static str,
    },
}

fn system<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> TableError + 'a {
    move |source| TableError::System { action, path: path.to_owned(), source }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a file to lock; it stays where it is for ever, so that nobody locks a deleted one.
pub(crate) fn open_lock_file(path: &Path) -> io::Result<File> {
    private_file().create(true).truncate(false).open(path)
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    options.read(true).write(true).mode(0o600).custom_flags(no_links);
    options
}

impl Table {
    /// Creates a table: aside, then moved to its place, so that nobody sees half of one.
    ///
    /// # Errors
    /// [`TableError::Exists`] if there is one, [`TableError::NoRoom`] if memory is short, and others.
    pub fn create(path: &Path, options: &TableOptions) -> Result<Self, TableError> {
        if !(1..=MAX_CAPACITY).contains(&options.capacity) {
            return Err(TableError::Capacity(options.capacity));
        }
        let lock_path = with_suffix(path, ".lock");
        let lock = open_lock_file(&lock_path).map_err(system("open the lock file", &lock_path))?;
        // Against two that create at once. Released when the file is closed.
        lock.lock().map_err(system("lock", &lock_path))?;
        if path.symlink_metadata().is_ok() {
            return Err(TableError::Exists(path.to_owned()));
        }
        let aside = with_suffix(path, ".new");
        let shared = create_aside(&aside, options).inspect_err(|_| {
            let _ = fs::remove_file(&aside);
        })?;
        fs::rename(&aside, path).map_err(system("put in place", path))?;
        drop(lock);
        Self::assemble(path, shared)
    }

    /// Opens an existing table.
    ///
    /// # Errors
    /// [`TableError::NotFound`] if there is none, another one for each reason to refuse what is there.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let file = match private_file().open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TableError::NotFound(path.to_owned()));
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(TableError::NotAFile(path.to_owned()));
            }
            Err(error) => return Err(system("open", path)(error)),
        };
        let octets = check_file(&file, path)?;
        check_memory(&file, path)?;
        let layout = check_header(&file, path, octets)?;
        let mapping = Mapping::new(&file, layout.words).map_err(system("map", path))?;
        Self::assemble(path, Shared::new(mapping, layout))
    }

    /// Opens the table, or creates it if there is none. One of another capacity is kept as it is.
    ///
    /// # Errors
    /// Those of [`Self::open`] and [`Self::create`], and [`TableError::OtherNode`].
    pub fn open_or_create(path: &Path, options: &TableOptions) -> Result<Self, TableError> {
        let table = match Self::open(path) {
            Err(TableError::NotFound(_)) => match Self::create(path, options) {
                Err(TableError::Exists(_)) => Self::open(path)?,
                created => created?,
            },
            opened => opened?,
        };
        table.check_node(options)?;
        Ok(table)
    }

    fn assemble(path: &Path, shared: Shared) -> Result<Self, TableError> {
        let lock_path = with_suffix(path, ".lock");
        let lock = open_lock_file(&lock_path).map_err(system("open the lock file", &lock_path))?;
        Ok(Self {
            shared: Arc::new(shared),
            path: path.to_owned(),
            writer: WriterLock::new(lock),
            dataplane: DataplaneLock::new(with_suffix(path, ".dataplane")),
        })
    }

    fn check_node(&self, options: &TableOptions) -> Result<(), TableError> {
        let same_cluster = self.cluster() == options.cluster;
        if same_cluster && self.node() == options.node {
            return Ok(());
        }
        Err(TableError::OtherNode {
            path: self.path.clone(),
            found: self.node().get(),
            node: options.node,
            cluster: if same_cluster { "the same" } else { "another" },
        })
    }
}

fn create_aside(path: &Path, options: &TableOptions) -> Result<Shared, TableError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(system("remove the rest of an earlier try,", path)(error));
        }
        _ => {}
    }
    let file = private_file().create_new(true).open(path).map_err(system("create", path))?;
    check_memory(&file, path)?;
    let boot = this_boot()?;
    let layout = Layout::new(options.capacity);
    // All pages now: a store to a page that tmpfs cannot provide later would kill the process.
    fallocate(&file, FallocateFlags::empty(), 0, layout.octets()).map_err(|error| match error {
        rustix::io::Errno::NOSPC | rustix::io::Errno::FBIG | rustix::io::Errno::NOMEM => {
            TableError::NoRoom { path: path.to_owned(), octets: layout.octets() }
        }
        error => system("allocate", path)(error.into()),
    })?;
    let mapping = Mapping::new(&file, layout.words).map_err(system("map", path))?;
    let shared = Shared::new(mapping, layout);
    write_header(&shared, options, boot);
    Ok(shared)
}

fn write_header(shared: &Shared, options: &TableOptions, boot: u64) {
    let layout = shared.layout();
    let owner = u64::from(options.node.get()) << 56 | options.cluster.get();
    for (word, value) in [
        (header::VERSION, VERSION),
        (header::FILE_WORDS, layout.words as u64),
        (header::CAPACITY, u64::from(layout.capacity)),
        (header::SLOTS, u64::from(layout.slots)),
        (header::BOOT, boot),
        (header::INDEX_ENTRIES, layout.index_entries as u64),
        (header::OWNER, owner),
        // 0 says offline in a worker's word.
        (header::GRACE_PERIOD, 1),
        (header::MAGIC, MAGIC),
    ] {
        store(shared.header(word), value, Ordering::Release);
    }
}

/// Checks kind, owner and mode; gives the size in octets.
fn check_file(file: &File, path: &Path) -> Result<u64, TableError> {
    let metadata = file.metadata().map_err(system("look at", path))?;
    if !metadata.is_file() {
        return Err(TableError::NotAFile(path.to_owned()));
    }
    let uid = metadata.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(TableError::ForeignOwner { path: path.to_owned(), uid });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TableError::Permissions { path: path.to_owned(), mode });
    }
    Ok(metadata.len())
}

fn check_memory(file: &File, path: &Path) -> Result<(), TableError> {
    let in_memory = is_in_memory(file).map_err(system("find the file system of", path))?;
    if in_memory { Ok(()) } else { Err(TableError::NotInMemory(path.to_owned())) }
}

fn this_boot() -> Result<u64, TableError> {
    boot().map_err(system("read", boot_id_path()))
}

/// Reads the identity with plain reads first: nothing is mapped that might end too early.
fn check_header(file: &File, path: &Path, octets: u64) -> Result<Layout, TableError> {
    use std::os::unix::fs::FileExt;
    let mut identity = [0; 64];
    if octets < identity.len() as u64 {
        return Err(TableError::NotATable(path.to_owned()));
    }
    file.read_exact_at(&mut identity, 0).map_err(system("read", path))?;
    let word = |i: usize| {
        let mut octets = [0; 8];
        octets.copy_from_slice(&identity[i * 8..][..8]);
        u64::from_ne_bytes(octets)
    };
    if word(header::MAGIC) != MAGIC {
        return Err(TableError::NotATable(path.to_owned()));
    }
    if word(header::VERSION) != VERSION {
        return Err(TableError::OtherVersion { path: path.to_owned(), found: word(header::VERSION) });
    }
    let needs = word(header::FILE_WORDS).saturating_mul(8);
    let damaged = TableError::Damaged { path: path.to_owned(), octets, needs };
    let Ok(capacity @ 1..=MAX_CAPACITY) = u32::try_from(word(header::CAPACITY)) else { return Err(damaged) };
    let layout = Layout::new(capacity);
    let fits = word(header::FILE_WORDS) == layout.words as u64
        && word(header::SLOTS) == u64::from(layout.slots)
        && word(header::INDEX_ENTRIES) == layout.index_entries as u64
        && word(header::OWNER) >> 56 != 0
        && octets == layout.octets();
    if !fits {
        return Err(damaged);
    }
    if word(header::BOOT) != this_boot()? {
        return Err(TableError::OtherBoot(path.to_owned()));
    }
    Ok(layout)
}
