//! Freezing: the counters of a frozen SA are final when `freeze` returns, and nothing beyond them is reserved any more.

use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::writer::WriteError;
use super::{GetError, Snapshot, Table};
use crate::layout::slot;
use crate::sa::Direction;
use crate::sequence;
use crate::slot::{SaHandle, state};
use crate::sync::{Ordering, store};
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
    /// Somebody replaced, removed or thawed one meanwhile, or froze it as well.
    #[error("the {direction} SA {key:#x} was changed or thawed while it was being frozen; try again")]
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

/// An SA to freeze, and its state word while it is frozen: this freeze's or that of an earlier one.
struct Target {
    key: (Direction, u32),
    handle: SaHandle,
    state: u64,
}

/// A freeze under way. Its number is that of its grace period, which no other freeze has.
struct Freezing {
    targets: Vec<Target>,
    period: u64,
}

impl Table {
    /// Freezes SAs and gives their final state: when this returns, every worker has stopped using them.
    /// Workers of a dead data plane, and idle ones, are not waited for. `timeout` counts from the call.
    ///
    /// # Errors
    /// [`FreezeError::WorkerBusy`] names the worker that did not stop within `timeout`.
    pub fn freeze(&self, keys: &[(Direction, u32)], timeout: Duration) -> Result<Vec<Snapshot>, FreezeError> {
        let start = Instant::now();
        let freezing = self.start_freezing(keys, timeout)?;
        let result = self.finish_freezing(&freezing, start, timeout);
        if result.is_err() {
            // Without the lock, so that nothing stays frozen because somebody else holds it.
            let own = state::frozen_by(freezing.period);
            for target in &freezing.targets {
                self.swap_state(target, own, if target.state == own { state::LIVE } else { target.state });
            }
        }
        result
    }

    /// Returns when every worker has finished what it was doing when this was called: what was changed before
    /// is seen by all of them from then on.
    ///
    /// # Errors
    /// [`FreezeError::WorkerBusy`] names the worker that did not finish within `timeout`.
    pub fn wait_until_quiescent(&self, timeout: Duration) -> Result<(), FreezeError> {
        let start = Instant::now();
        let period = self.write_within(timeout)?.start_grace_period();
        self.wait_for_workers(period, start, timeout)
            .map_err(|worker| FreezeError::WorkerBusy { worker, timeout })
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

    fn start_freezing(&self, keys: &[(Direction, u32)], timeout: Duration) -> Result<Freezing, FreezeError> {
        let writer = self.write_within(timeout)?;
        let own = state::frozen_by(writer.next_grace_period());
        let find = |&(direction, key): &(Direction, u32)| {
            let number = self.shared().resolve(direction, key);
            let number = number.ok_or(FreezeError::NotFound { direction, key })?;
            let frozen = writer.state(number) == state::FROZEN;
            let state = if frozen { writer.state_word(number) } else { own };
            Ok(Target { key: (direction, key), handle: writer.handle(number), state })
        };
        let targets = keys.iter().map(find).collect::<Result<Vec<_>, FreezeError>>()?;
        for target in targets.iter().filter(|target| target.state == own) {
            writer.set_state(target.handle.slot, own);
        }
        Ok(Freezing { targets, period: writer.start_grace_period() })
    }

    fn finish_freezing(
        &self,
        freezing: &Freezing,
        start: Instant,
        timeout: Duration,
    ) -> Result<Vec<Snapshot>, FreezeError> {
        let waited = self.wait_for_workers(freezing.period, start, timeout);
        waited.map_err(|worker| FreezeError::WorkerBusy { worker, timeout })?;
        freezing.targets.iter().for_each(|target| self.take_back_reservation(target));
        let snapshots: Result<Vec<_>, _> = freezing.targets.iter().map(|t| self.frozen_snapshot(t)).collect();
        // None was thawed since; those that an earlier freeze froze are from now on this one's, so that they
        // stay frozen if that one fails.
        for target in &freezing.targets {
            if !self.swap_state(target, target.state, state::frozen_by(freezing.period)) {
                let (direction, key) = target.key;
                return Err(FreezeError::Changed { direction, key });
            }
        }
        snapshots
    }

    /// Who gets the SA next goes on from its counters, not from what was reserved: this node may use nothing of that
    /// again, if it ever comes back to the SA (I2, I3). No worker uses it now, and nobody reserves for it.
    fn take_back_reservation(&self, target: &Target) {
        let Some(words) = self.shared().slot(target.handle.slot) else { return };
        let edge = sequence::edge(&words[slot::SEQUENCE], &words[slot::FLOOR]);
        for word in [slot::RESERVED, slot::MARK] {
            store(&words[word], edge, Ordering::Release);
        }
    }

    /// Changes the state of a target's slot, if it is still what it was; whether it was.
    fn swap_state(&self, target: &Target, from: u64, to: u64) -> bool {
        #[cfg(test)]
        crate::fault::step();
        let words = self.shared().slot(target.handle.slot);
        words.is_some_and(|words| {
            words[slot::STATE].compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    /// Waits until every worker has passed a quiescent point, or gives the one that has not.
    fn wait_for_workers(&self, period: u64, start: Instant, timeout: Duration) -> Result<(), u16> {
        let begin = Instant::now();
        for round in 0_u32.. {
            let Some(worker) = first_busy(self.shared(), period) else { return Ok(()) };
            if start.elapsed() >= timeout {
                return Err(worker);
            }
            if round.is_multiple_of(64) && !self.dataplane.alive(self.shared()) {
                return Ok(());
            }
            // A batch takes microseconds: do not sleep through the first ones.
            if begin.elapsed() < Duration::from_micros(50) {
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
