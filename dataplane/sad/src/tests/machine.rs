//! A machine whose disk, clock and power fail on demand, for the tests of epochs (I1).

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use super::node;
use crate::iv::IvSource;
use crate::{EpochClock, EpochFiles, EpochKeeper, fault};

/// 2026-06-01.
pub(super) const NOW: i64 = 1_780_272_000;

/// A machine: disk, tmpfs, and a clock that may be wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    /// What programs see.
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    /// What is there after the power failed: contents that were synced, under names that were.
    pub(super) durable: BTreeMap<PathBuf, Vec<u8>>,
    pub(super) synced: BTreeMap<PathBuf, Vec<u8>>,
    /// Earlier states of the disk, to roll back to.
    pub(super) history: Vec<BTreeMap<PathBuf, Vec<u8>>>,
    pub(super) clock: i64,
    pub(super) since_boot: i64,
    /// The operation that fails next, counted down; 0 is none.
    pub(super) fail_in: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Machine>>);

impl Shared {
    pub(super) fn at(clock: i64, since_boot: i64) -> Self {
        let machine = Self::default();
        (machine.lock().clock, machine.lock().since_boot) = (clock, since_boot);
        machine
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn keeper(&self) -> EpochKeeper {
        let (clock, files) = (Box::new(self.clone()), Box::new(self.clone()));
        EpochKeeper::with(Path::new("/disk"), Path::new("/tmpfs"), node(2), clock, files)
    }

    /// One operation: a step at which the process may die, and which may fail.
    fn operation(&self) -> io::Result<MutexGuard<'_, Machine>> {
        fault::step();
        let mut machine = self.lock();
        if machine.fail_in > 0 {
            machine.fail_in -= 1;
            if machine.fail_in == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        Ok(machine)
    }

    /// The disk as it was at an earlier time.
    pub(super) fn roll_back(&self, choice: usize) {
        let mut machine = self.lock();
        if machine.history.is_empty() {
            return;
        }
        let earlier = machine.history[choice % machine.history.len()].clone();
        machine.files.retain(|path, _| !path.starts_with("/disk"));
        machine.files.extend(earlier.clone());
        machine.synced.extend(earlier.clone());
        machine.durable = earlier;
    }

    /// The power fails, and comes back after some seconds. What was not synced may be there or not.
    pub(super) fn reboot(&self, seconds: i64, keep_unsynced: bool) {
        let mut machine = self.lock();
        machine.files.retain(|path, _| path.starts_with("/disk"));
        if !keep_unsynced {
            machine.files = machine.durable.clone();
        }
        machine.clock += seconds;
        machine.since_boot = 20;
    }

    pub(super) fn pass(&self, seconds: i64) {
        let mut machine = self.lock();
        machine.clock += seconds;
        machine.since_boot += seconds;
    }
}

impl EpochClock for Shared {
    fn unix_seconds(&self) -> i64 {
        self.lock().clock
    }
    fn seconds_since_boot(&self) -> i64 {
        self.lock().since_boot
    }
}

impl EpochFiles for Shared {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.operation()?.files.get(path).cloned())
    }
    fn write(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        // Truncated first; then full, or dead.
        self.operation()?.files.insert(path.to_owned(), Vec::new());
        let half = octets[..octets.len() / 2].to_vec();
        self.operation()?.files.insert(path.to_owned(), half);
        self.operation()?.files.insert(path.to_owned(), octets.to_vec());
        Ok(())
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.operation()?;
        let octets = machine.files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        machine.synced.insert(path.to_owned(), octets);
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.operation()?;
        let octets = machine.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        machine.files.insert(to.to_owned(), octets);
        if let Some(synced) = machine.synced.remove(from) {
            machine.synced.insert(to.to_owned(), synced);
        }
        Ok(())
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.operation()?;
        if path == Path::new("/disk") {
            let before = machine.durable.clone();
            machine.history.push(before);
            let names = machine.files.keys().filter(|name| name.starts_with(path)).cloned();
            let durable = names.collect::<Vec<_>>().into_iter();
            machine.durable = durable
                .map(|name| (name.clone(), machine.synced.get(&name).cloned().unwrap_or_default()))
                .collect();
        }
        Ok(())
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any>> {
        Ok(Box::new(()))
    }
}

/// The two words of a table that IVs come from.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) iv: AtomicU64,
    pub(super) spare: AtomicU64,
}

impl Words {
    pub(super) fn source(&self) -> IvSource<'_> {
        IvSource { word: &self.iv, spare: &self.spare }
    }

    /// Draws nearly all that is left of the epoch, to come to the next one.
    pub(super) fn draw_the_rest(&self) -> Option<(u32, u32, u32)> {
        let left = self.source().state().remaining;
        let count = u32::try_from(left.saturating_sub(3)).unwrap_or(u32::MAX);
        self.draw(count)
    }

    pub(super) fn draw(&self, count: u32) -> Option<(u32, u32, u32)> {
        self.source().take(count).ok().map(|(epoch, first)| (epoch, first, count))
    }
}
