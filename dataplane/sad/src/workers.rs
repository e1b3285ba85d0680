//! The data plane's side: one data plane per table, and its workers.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use thiserror::Error;

use crate::layout::{MAX_WORKERS, header};
use crate::quiescence;
use crate::shared::Shared;
use crate::sync::{Ordering, store};
use crate::table::open_lock_file;

/// How long `attach` tries: whoever asks whether a data plane lives holds its lock for an instant.
const ATTACH_TRIES: u32 = 50;

/// Being the one data plane of a table. Ends with the process, or when dropped.
#[derive(Debug)]
pub struct DataplaneLease {
    _lock: File,
}

/// Why a data plane cannot use a table.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Another one does.
    #[error("the SA table {path} is in use by another data plane (process {pid}); stop that one first")]
    InUse {
        /// The table.
        path: PathBuf,
        /// The other's process id.
        pid: u64,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {path} for the data plane: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One worker's entry in the table; offline until it says otherwise, and again when dropped.
#[derive(Debug)]
pub struct WorkerSlot {
    shared: Arc<Shared>,
    index: usize,
}

impl WorkerSlot {
    pub(crate) fn register(shared: Arc<Shared>, index: u16) -> Self {
        let index = usize::from(index);
        assert!(index < MAX_WORKERS, "a table has room for {MAX_WORKERS} workers");
        let workers = shared.header(header::WORKERS);
        workers.fetch_max(index as u64 + 1, Ordering::SeqCst);
        quiescence::go_offline(shared.worker(index));
        Self { shared, index }
    }

    /// Between batches: the worker holds no [`crate::SlotView`] and goes by the state of its SAs anew.
    #[inline]
    pub fn quiescent(&self) {
        quiescence::pass(self.shared.worker(self.index), self.shared.header(header::GRACE_PERIOD));
    }

    /// Before it waits for packets: nobody waits for a worker that is offline.
    #[inline]
    pub fn offline(&self) {
        quiescence::go_offline(self.shared.worker(self.index));
    }

    /// Before it uses the table, first and after each [`Self::offline`].
    #[inline]
    pub fn online(&self) {
        quiescence::go_online(self.shared.worker(self.index), self.shared.header(header::GRACE_PERIOD));
    }
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        self.offline();
    }
}

/// Where the data plane's lock stands: a file beside the table.
#[derive(Debug)]
pub(crate) struct DataplaneLock {
    path: PathBuf,
}

impl DataplaneLock {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn attach(&self, shared: &Shared, table: &Path) -> Result<DataplaneLease, AttachError> {
        let failed = |source| AttachError::Lock { path: self.path.clone(), source };
        let lock = open_lock_file(&self.path).map_err(failed)?;
        for _ in 0..ATTACH_TRIES {
            match lock.try_lock() {
                Ok(()) => {
                    forget_workers(shared);
                    store(
                        shared.header(header::DATAPLANE_PID),
                        u64::from(std::process::id()),
                        Ordering::Relaxed,
                    );
                    return Ok(DataplaneLease { _lock: lock });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        let pid = shared.header_value(header::DATAPLANE_PID);
        Err(AttachError::InUse { path: table.to_owned(), pid })
    }

    /// Whether a data plane lives. If none does, the workers that a dead one left count as offline.
    pub(crate) fn alive(&self, shared: &Shared) -> bool {
        let Ok(lock) = open_lock_file(&self.path) else { return true };
        match lock.try_lock_shared() {
            Ok(()) => {
                // While we hold this no data plane can attach, so these are a dead one's.
                forget_workers(shared);
                false
            }
            Err(_) => true,
        }
    }
}

fn forget_workers(shared: &Shared) {
    for index in 0..(shared.header_value(header::WORKERS) as usize).min(MAX_WORKERS) {
        quiescence::go_offline(shared.worker(index));
    }
}

/// The first worker that may still use what was taken away before `period`.
pub(crate) fn first_busy(shared: &Shared, period: u64) -> Option<u16> {
    let workers = (shared.header(header::WORKERS).load(Ordering::SeqCst) as usize).min(MAX_WORKERS);
    (0..workers)
        .find(|index| !quiescence::has_passed(shared.worker(*index), period))
        .map(|index| index as u16)
}
