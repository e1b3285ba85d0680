//! The writer lock: one process at a time, one thread of it, and never longer than it lives.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::{self, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::Table;
use crate::layout::header;
use crate::shared::Shared;
use crate::sync::{Ordering, add_single_writer, fence, store};
use crate::workers::DataplaneLock;

/// Why the table cannot be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The lock file cannot be locked.
    #[error("cannot lock the SA table for writing: {0}")]
    Lock(#[from] io::Error),
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
        let file = self.writer.file.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        }
        Ok(self.writer(file))
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
