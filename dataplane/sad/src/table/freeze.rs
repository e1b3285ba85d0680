//! Freezing: the counters of a frozen SA are final when `freeze` returns.

use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::writer::WriteError;
use super::{GetError, Snapshot, Table};
use crate::sa::Direction;
use crate::slot::{SaHandle, state};
use crate::workers::first_busy;

/// Why SAs were not frozen. Those that were not frozen before are not frozen now.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// There is no such SA.
    #[error("there is no {direction} SA {key:#x} to freeze")]
    NotFound {
        /// Its direction.
        direction: Direction,
        /// Its SPI or reqid.
        key: u32,
    },
    /// A worker did not confirm in time that it stopped using them.
    #[error(
        "worker {worker} of the data plane did not stop within {timeout:?}; restart the data plane if it hangs"
    )]
    WorkerBusy {
        /// The worker's index.
        worker: u16,
        /// How long it was given.
        timeout: Duration,
    },
    /// Somebody replaced or removed one meanwhile.
    #[error("the {direction} SA {key:#x} was replaced or removed while it was being frozen; try again")]
    Changed {
        /// Its direction.
        direction: Direction,
        /// Its SPI or reqid.
        key: u32,
    },
    /// It cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The table cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// An SA to freeze, and whether it was frozen before.
struct Target {
    key: (Direction, u32),
    handle: SaHandle,
    was_frozen: bool,
}

impl Table {
    /// Freezes SAs and gives their final state: when this returns, every worker has stopped using them.
    /// Workers of a dead data plane, and idle ones, are not waited for.
    ///
    /// # Errors
    /// [`FreezeError::WorkerBusy`] names the worker that did not stop within `timeout`.
    pub fn freeze(&self, keys: &[(Direction, u32)], timeout: Duration) -> Result<Vec<Snapshot>, FreezeError> {
        let (targets, period) = self.start_freezing(keys)?;
        let result = match self.wait_for_workers(period, timeout) {
            Ok(()) => targets.iter().map(|target| self.frozen_snapshot(target)).collect(),
            Err(worker) => Err(FreezeError::WorkerBusy { worker, timeout }),
        };
        if result.is_err() {
            let thawed: Vec<_> = targets.iter().filter(|t| !t.was_frozen).map(|t| t.key).collect();
            self.thaw(&thawed)?;
        }
        result
    }

    /// Returns when every worker has finished what it was doing when this was called: what was changed before
    /// is seen by all of them from then on.
    ///
    /// # Errors
    /// [`FreezeError::WorkerBusy`] names the worker that did not finish within `timeout`.
    pub fn wait_until_quiescent(&self, timeout: Duration) -> Result<(), FreezeError> {
        let period = self.write()?.start_grace_period();
        self.wait_for_workers(period, timeout).map_err(|worker| FreezeError::WorkerBusy { worker, timeout })
    }

    /// Lets workers use SAs again; gives how many were frozen.
    ///
    /// # Errors
    /// If the table cannot be changed.
    pub fn thaw(&self, keys: &[(Direction, u32)]) -> Result<usize, WriteError> {
        let writer = self.write()?;
        let numbers = keys.iter().filter_map(|(direction, key)| self.shared().resolve(*direction, *key));
        let frozen: Vec<u32> = numbers.filter(|number| writer.state(*number) == state::FROZEN).collect();
        for number in &frozen {
            writer.set_state(*number, state::LIVE);
        }
        Ok(frozen.len())
    }

    fn start_freezing(&self, keys: &[(Direction, u32)]) -> Result<(Vec<Target>, u64), FreezeError> {
        let writer = self.write()?;
        let find = |&(direction, key): &(Direction, u32)| {
            let number = self.shared().resolve(direction, key);
            let number = number.ok_or(FreezeError::NotFound { direction, key })?;
            let was_frozen = writer.state(number) == state::FROZEN;
            Ok(Target { key: (direction, key), handle: writer.handle(number), was_frozen })
        };
        let targets = keys.iter().map(find).collect::<Result<Vec<_>, FreezeError>>()?;
        for target in &targets {
            writer.set_state(target.handle.slot, state::FROZEN);
        }
        Ok((targets, writer.start_grace_period()))
    }

    /// Waits until every worker has passed a quiescent point, or gives the one that has not.
    fn wait_for_workers(&self, period: u64, timeout: Duration) -> Result<(), u16> {
        let start = Instant::now();
        for round in 0_u32.. {
            let Some(worker) = first_busy(self.shared(), period) else { return Ok(()) };
            let waited = start.elapsed();
            if waited >= timeout {
                return Err(worker);
            }
            if round.is_multiple_of(64) && !self.dataplane.alive(self.shared()) {
                return Ok(());
            }
            // A batch takes microseconds: do not sleep through the first ones.
            if waited < Duration::from_micros(50) {
                std::hint::spin_loop();
            } else {
                thread::sleep(Duration::from_micros(20));
            }
        }
        Ok(())
    }

    fn frozen_snapshot(&self, target: &Target) -> Result<Snapshot, FreezeError> {
        let (direction, key) = target.key;
        match self.get(direction, key)? {
            Some(snapshot) if snapshot.frozen && snapshot.handle == target.handle => Ok(snapshot),
            _ => Err(FreezeError::Changed { direction, key }),
        }
    }
}
