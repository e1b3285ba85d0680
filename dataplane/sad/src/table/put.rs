//! PUT and removal.

use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::Table;
use super::read::read_own_counters;
use super::reserve::{Reservation, read_reservation};
use super::slots::Start;
use super::writer::{WriteError, Writer};
use crate::layout::{MAX_BATCH, header, slot};
use crate::publication::SETTLED;
use crate::sa::{Counters, Direction, Name, Sa, SaError, holds_key};
use crate::sequence;
use crate::slot::SaHandle;
use crate::sync::{Ordering, store};

/// How long a PUT that needs slots waits for the workers to let go of retired ones.
const SLOT_WAIT: Duration = Duration::from_millis(250);

/// What a PUT did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutReceipt {
    /// The installed SAs, in the order of the batch.
    pub handles: Vec<SaHandle>,
    /// How many of them replaced another.
    pub replaced: usize,
}

/// What a PUT may do to SAs that are installed already, with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PutKind {
    /// None goes back: the given edge is not below the installed one, floors included. Floors and reservations stay.
    #[default]
    Restore,
    /// A copy of what another node owns: of the given and the installed counters the higher ones stay, and floors and
    /// reservations do. For SAs whose segments this node does not own.
    Standby,
    /// The end of a planned move: the given counters are the final ones of the owner, and take the place of a floor that
    /// was raised for a takeover. They are not below what this node has itself sent or accepted.
    Move,
}

/// Why a PUT was refused. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PutError {
    /// An SA that cannot be.
    #[error("tunnel {name}, {direction}: {source}")]
    Invalid {
        /// Its tunnel.
        name: Name,
        /// Its direction.
        direction: Direction,
        /// What is wrong with it.
        source: SaError,
    },
    /// Two SAs of the batch have the same index key.
    #[error("two {direction} SAs have the same {} {key:#x}; install one of them", key_name(*direction))]
    Duplicate {
        /// Their direction.
        direction: Direction,
        /// Their SPI or reqid.
        key: u32,
    },
    /// Both directions of a tunnel have one key (I1).
    #[error("both directions of tunnel {0} have the same key; give each direction a key of its own")]
    SharedKey(Name),
    /// More SAs at once than can be installed atomically.
    #[error("{0} SAs are too many at once; install at most {MAX_BATCH}, one tunnel's always together")]
    TooMany(usize),
    /// The sequence would go back under the same key (I2, I3).
    #[error(
        "the installed {direction} SA of tunnel {name} is at sequence {installed}, the given one at {given}; \
         an SA never goes back: take a newer snapshot or rekey the tunnel"
    )]
    Older {
        /// Its tunnel.
        name: Name,
        /// Its direction.
        direction: Direction,
        /// The installed SA's edge.
        installed: u64,
        /// The given SA's edge.
        given: u64,
    },
    /// No room.
    #[error("the SA table is full ({0} SAs); remove some, or create it anew with a larger capacity")]
    Full(u32),
    /// A worker holds up the slots that removed SAs left.
    #[error(
        "worker {0} of the data plane does not let go of removed SAs; restart the data plane if it hangs"
    )]
    WorkerBusy(u16),
    /// The table cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn key_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "SPI",
        Direction::Outbound => "reqid",
    }
}

impl Table {
    /// Installs SAs, all or none: readers see all of the new ones from one instant on, and after a crash
    /// either all are installed or none (I5, I6). An SA with the direction and key of an installed one
    /// replaces it, counters included; to keep the counters use [`Self::update`].
    ///
    /// Freeze an SA before replacing it under the same key, or advance its counters: its worker may
    /// count on in the old slot until the end of its batch.
    ///
    /// An SA with another key than the one in its place starts with its edge as its reservation: where reservations
    /// are enforced, nothing is sent or accepted before more is reserved ([`Self::reserve`]).
    ///
    /// # Errors
    /// [`PutError`], and then nothing was changed.
    pub fn put(&self, batch: &[(Sa, Counters)]) -> Result<PutReceipt, PutError> {
        self.put_as(PutKind::Restore, batch)
    }

    /// As [`Self::put`], where this is more than a restore.
    ///
    /// # Errors
    /// [`PutError`], and then nothing was changed.
    pub fn put_as(&self, kind: PutKind, batch: &[(Sa, Counters)]) -> Result<PutReceipt, PutError> {
        check_batch(batch)?;
        if batch.is_empty() {
            return Ok(PutReceipt::default());
        }
        self.write()?.put(kind, batch)
    }

    /// Removes SAs and wipes their keys; gives how many were there.
    ///
    /// # Errors
    /// If the table cannot be changed.
    pub fn remove(&self, keys: &[(Direction, u32)]) -> Result<usize, WriteError> {
        let writer = self.write()?;
        writer.begin();
        writer.reclaim(keys.len());
        let removed: Vec<u32> = keys.iter().filter_map(|key| writer.remove(*key)).collect();
        if !removed.is_empty() {
            writer.finish_retired(&removed);
        }
        writer.end();
        Ok(removed.len())
    }
}

fn check_batch(batch: &[(Sa, Counters)]) -> Result<(), PutError> {
    if batch.len() > MAX_BATCH {
        return Err(PutError::TooMany(batch.len()));
    }
    for (i, (sa, _)) in batch.iter().enumerate() {
        sa.validate().map_err(|source| PutError::Invalid {
            name: sa.name,
            direction: sa.direction,
            source,
        })?;
        for (other, _) in &batch[..i] {
            if other.direction == sa.direction && other.index_key() == sa.index_key() {
                return Err(PutError::Duplicate { direction: sa.direction, key: sa.index_key() });
            }
            if other.reqid == sa.reqid && other.direction != sa.direction && other.key == sa.key {
                return Err(PutError::SharedKey(sa.name));
            }
        }
    }
    Ok(())
}

impl Writer<'_> {
    fn put(&self, kind: PutKind, batch: &[(Sa, Counters)]) -> Result<PutReceipt, PutError> {
        let olds = self.check_installed(kind, batch)?;
        let replaced: Vec<u32> = olds.iter().filter_map(|old| *old).collect();
        let added = (batch.len() - replaced.len()) as u64;
        let capacity = self.shared.layout().capacity;
        if self.value(header::INSTALLED) + added > u64::from(capacity) {
            return Err(PutError::Full(capacity));
        }
        let transaction = self.begin();
        if let Err(error) = self.make_available(batch.len()) {
            self.end();
            return Err(error);
        }
        let news = self.fill_all(kind, transaction, batch, &olds);
        self.swap_index(batch, &news);
        self.set(header::COMMITTED, transaction);
        self.add(header::INSTALLED, added);
        self.settle(&news);
        for old in &replaced {
            self.retire(*old);
        }
        self.finish_retired_or_count(&replaced);
        self.end();
        let handles = news.iter().map(|number| self.handle(*number)).collect();
        Ok(PutReceipt { handles, replaced: replaced.len() })
    }

    /// The slots that the batch replaces; refuses to take a sequence back under the same key.
    fn check_installed(&self, kind: PutKind, batch: &[(Sa, Counters)]) -> Result<Vec<Option<u32>>, PutError> {
        batch
            .iter()
            .map(|(sa, counters)| {
                let old = self.shared.resolve(sa.direction, sa.index_key());
                old.map_or(Ok(()), |number| self.check_newer(kind, number, sa, counters)).map(|()| old)
            })
            .collect()
    }

    fn check_newer(&self, kind: PutKind, number: u32, sa: &Sa, counters: &Counters) -> Result<(), PutError> {
        let words = self.words(number);
        let installed = match kind {
            PutKind::Restore => sequence::edge(&words[slot::SEQUENCE], &words[slot::FLOOR]),
            PutKind::Move => words[slot::SEQUENCE].load(Ordering::Acquire),
            PutKind::Standby => return Ok(()),
        };
        let given = counters.edge();
        if given < installed && holds_key(&words[slot::CONFIG..], &sa.key) {
            return Err(PutError::Older { name: sa.name, direction: sa.direction, installed, given });
        }
        Ok(())
    }

    /// Frees retired slots until `wanted` can be taken, waiting for workers if it must.
    pub(super) fn make_available(&self, wanted: usize) -> Result<(), PutError> {
        let mut busy = self.reclaim(wanted);
        if self.available() >= wanted {
            return Ok(());
        }
        let deadline = Instant::now() + SLOT_WAIT;
        loop {
            if busy.is_some() {
                self.dataplane.alive(self.shared);
            }
            busy = self.reclaim(wanted);
            match busy {
                _ if self.available() >= wanted => return Ok(()),
                Some(worker) if Instant::now() >= deadline => return Err(PutError::WorkerBusy(worker)),
                Some(_) => thread::sleep(Duration::from_micros(100)),
                None if self.value(header::RETIRED_HEAD) == 0 => {
                    return Err(PutError::Full(self.shared.layout().capacity));
                }
                None => {}
            }
        }
    }

    fn fill_all(
        &self,
        kind: PutKind,
        transaction: u64,
        batch: &[(Sa, Counters)],
        olds: &[Option<u32>],
    ) -> Vec<u32> {
        let fill = |((sa, counters), old): (&(Sa, Counters), &Option<u32>)| {
            // `make_available` has seen that there are enough.
            let number = self.allocate()?;
            let start = self.start_of(kind, *old, sa, counters);
            self.fill(number, transaction, *old, sa, &start);
            Some(number)
        };
        batch.iter().zip(olds).filter_map(fill).collect()
    }

    /// What the new slot of an SA begins with: the given counters, and what stays of the same SA in the old slot.
    fn start_of(&self, kind: PutKind, old: Option<u32>, sa: &Sa, counters: &Counters) -> Start {
        let fresh = Start::new(counters.clone());
        let old = old.map(|number| self.words(number));
        let Some(words) = old.filter(|words| holds_key(&words[slot::CONFIG..], &sa.key)) else {
            return fresh;
        };
        let reservation = Reservation { wanted: 0, ..read_reservation(words) };
        match kind {
            PutKind::Move => fresh,
            PutKind::Restore => Start { reservation, ..fresh },
            PutKind::Standby => {
                let used = words[slot::SEQUENCE].load(Ordering::Acquire);
                let is_ahead = used > counters.edge();
                let counters = if is_ahead { read_own_counters(words, sa) } else { fresh.counters };
                Start { counters, reservation }
            }
        }
    }

    fn swap_index(&self, batch: &[(Sa, Counters)], news: &[u32]) {
        for ((sa, _), number) in batch.iter().zip(news) {
            self.shared.index(sa.direction).set(sa.index_key(), *number);
        }
    }

    /// From here on readers need not look at the commit word for these slots.
    fn settle(&self, news: &[u32]) {
        for number in news {
            store(&self.words(*number)[slot::TRANSACTION], SETTLED, Ordering::Release);
        }
    }

    fn remove(&self, (direction, key): (Direction, u32)) -> Option<u32> {
        let number = self.shared.resolve(direction, key)?;
        self.shared.index(direction).remove(key);
        self.retire(number);
        self.add(header::INSTALLED, 1_u64.wrapping_neg());
        Some(number)
    }

    fn finish_retired_or_count(&self, retired: &[u32]) {
        if retired.is_empty() {
            self.add(header::CHANGE_COUNT, 1);
        } else {
            self.finish_retired(retired);
        }
    }

    /// Tells the workers, and queues the slots for when they have heard it.
    fn finish_retired(&self, retired: &[u32]) {
        self.add(header::CHANGE_COUNT, 1);
        let period = self.start_grace_period();
        for number in retired {
            self.queue_retired(*number, period);
        }
    }

    pub(super) fn handle(&self, number: u32) -> SaHandle {
        SaHandle { slot: number, generation: self.words(number)[slot::GENERATION].load(Ordering::Relaxed) }
    }
}
