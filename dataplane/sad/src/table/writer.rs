//! The writer lock: one process at a time, one thread of it, and never longer than it lives.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::{self, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::Table;
use super::open::with_suffix;
use crate::layout::header;
use crate::shared::Shared;
use crate::sync::{Ordering, add_single_writer, fence, store};
use crate::workers::DataplaneLock;

/// How long the writer lock is waited for. A change takes microseconds, so that whoever holds the lock for
/// this long was stopped, and who waits for it may have a lease to keep.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_micros(50);

/// Why the table cannot be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The lock file cannot be locked.
    #[error("cannot lock the SA table for writing: {0}")]
    Lock(#[from] io::Error),
    /// Somebody else holds the lock, and does not let go of it.
    #[error(
        "somebody else has been changing the SA table for {waited:?}; try again, and if it lasts, stop the \
         process that `lslocks` shows for {lock}"
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// A lock file (`flock`, which the kernel releases when its holder dies) and a mutex, because the
/// threads of one process share the file.
#[derive(Debug)]
pub(crate) struct WriterLock {
    file: Mutex<File>,
}

impl WriterLock {
    pub(crate) fn new(file: File) -> Self {
        Self { file: Mutex::new(file) }
    }
}

/// The right to change the table, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(super) shared: &'a Shared,
    pub(super) dataplane: &'a DataplaneLock,
    file: MutexGuard<'a, File>,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // Cannot fail on a file that is locked; if it did, the next closing of the file releases it.
        let _ = self.file.unlock();
    }
}

impl Table {
    /// Takes the writer lock, and completes or undoes what a writer left that died with it.
    pub(crate) fn write(&self) -> Result<Writer<'_>, WriteError> {
        self.write_within(LOCK_WAIT)
    }

    /// The same for a caller that waits no longer than `limit`.
    pub(super) fn write_within(&self, limit: Duration) -> Result<Writer<'_>, WriteError> {
        let (start, limit) = (Instant::now(), limit.min(LOCK_WAIT));
        loop {
            // Polled, because neither a mutex nor `flock` has an end to its waiting.
            if let Some(file) = self.try_lock()? {
                return Ok(self.writer(file));
            }
            let waited = start.elapsed();
            if waited >= limit {
                return Err(WriteError::Busy { lock: with_suffix(&self.path, ".lock"), waited });
            }
            thread::sleep(LOCK_POLL);
        }
    }

    /// Repairs the table if its last writer died inside a change, so that nobody sees half of it for long;
    /// gives whether that was so. Never waits: one load when nobody is inside a change, and nothing is done
    /// while a writer lives.
    ///
    /// # Errors
    /// If the lock file cannot be locked.
    pub fn recover_if_abandoned(&self) -> Result<bool, WriteError> {
        if self.shared.header_value(header::INTENT) == 0 {
            return Ok(false);
        }
        let Some(file) = self.try_lock()? else { return Ok(false) };
        // The change may have ended in between; under the lock nobody else announces one.
        let abandoned = self.shared.header_value(header::INTENT) != 0;
        drop(self.writer(file));
        Ok(abandoned)
    }

    /// The writer lock, if nobody else has it.
    fn try_lock(&self) -> Result<Option<MutexGuard<'_, File>>, WriteError> {
        let file = match self.writer.file.try_lock() {
            Ok(file) => file,
            Err(sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(sync::TryLockError::WouldBlock) => return Ok(None),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn writer<'a>(&'a self, file: MutexGuard<'a, File>) -> Writer<'a> {
        let writer = Writer { shared: &self.shared, dataplane: &self.dataplane, file };
        if writer.value(header::INTENT) != 0 {
            writer.recover();
        }
        writer
    }
}

impl Writer<'_> {
    pub(super) fn value(&self, word: usize) -> u64 {
        self.shared.header_value(word)
    }

    pub(super) fn set(&self, word: usize, value: u64) {
        store(self.shared.header(word), value, Ordering::Release);
    }

    pub(super) fn add(&self, word: usize, by: u64) {
        add_single_writer(self.shared.header(word), by);
    }

    /// Announces a change: from here to [`Self::end`] a dead writer's work is completed or undone.
    pub(crate) fn begin(&self) -> u64 {
        let transaction = self.value(header::TRANSACTION) + 1;
        // In this order: who reads the number and then no intent knows that this transaction is over.
        self.set(header::INTENT, transaction);
        self.set(header::TRANSACTION, transaction);
        // Nothing of the change before its announcement.
        fence(Ordering::Release);
        transaction
    }

    pub(crate) fn end(&self) {
        self.set(header::INTENT, 0);
    }
}
