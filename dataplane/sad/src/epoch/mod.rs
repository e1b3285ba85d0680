//! Epochs (invariant I1): numbers that a node never grants twice.
//!
//! A grant is above every earlier one, by a durable file and by a mark beside the table; it is at
//! least the clock, in units of 16 seconds since 2026, and at most [`LEAD`] units ahead of it. Each
//! rule covers what another cannot:
//! - the file: crashes and restarts of the machine, whatever the clock does;
//! - the mark (on tmpfs, so it lives until the machine stops): a file that was rolled back;
//! - the clock with its lead: a file that was rolled back, or a disk that was replaced, while the
//!   machine was off. What was granted before the machine started lies at most the lead above the
//!   clock of that time, so a grant after the start lies more than the lead above the start.
//!
//! All numbers are granted under a lock file, durably first, then marked, then used. A crash in
//! between wastes a number. When in doubt nothing is granted, and sending stops.

mod clock;
mod files;
mod record;

use std::io;
use std::path::{Path, PathBuf};

pub use clock::{EpochClock, SystemClock};
pub use files::{EpochFiles, SystemFiles};
use record::Record;
use thiserror::Error;

use crate::iv::{IvSource, MAX_EPOCH};
use crate::sa::NodeId;
use crate::table::Table;

/// Seconds in an epoch's unit.
pub const UNIT: i64 = 16;
/// How many units a grant may lie ahead of the clock.
pub const LEAD: i64 = 8;
/// 2026-01-01 00:00 UTC in seconds since 1970.
pub(crate) const START: i64 = 1_767_225_600;

/// Why no epoch was granted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EpochError {
    /// A file cannot be used.
    #[error("cannot {action} {path}, so that no epoch is granted and no IV can repeat: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error(
        "{0} is damaged, so that no epoch is granted and no IV can repeat; restore it, or remove it if the \
         clock was right at all times"
    )]
    Damaged(PathBuf),
    /// Another node's file.
    #[error(
        "{path} belongs to node {found}, this is node {node}; give each node a state directory of its own"
    )]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// The node in it.
        found: u8,
        /// This node.
        node: NodeId,
    },
    /// The clock is behind the last grant: it was set back, or had been wrong ahead. An alarm.
    #[error(
        "the clock is {behind} s behind the last epoch ({last}): it was set back or had been ahead; set it \
         right, or wait for it"
    )]
    ClockBehind {
        /// The last epoch granted.
        last: u32,
        /// Seconds until the clock allows the next one.
        behind: i64,
    },
    /// The clock was never set.
    #[error(
        "the clock says a time before 2026, so that no epoch can be told from an earlier one; set the clock"
    )]
    ClockUnset,
    /// Too soon after the last grants, or after the machine started.
    #[error("the next epoch can be granted in {0} s; it will be asked for again")]
    TooEarly(i64),
    /// The epoch was used up before it could stand by.
    #[error(
        "epoch {0} was granted and is no spare: another one was in use by then; it will be asked for again"
    )]
    NotSpare(u32),
    /// The numbers are used up (24 bits of 16 seconds last until July 2034), or the clock is years ahead.
    #[error("no epoch is left: the clock says a time after the last one; set the clock right")]
    Exhausted,
}

/// What [`Table::epoch_maintain`] found and did.
#[derive(Debug)]
pub struct EpochReport {
    /// The epoch in use.
    pub current: u32,
    /// The epoch granted ahead.
    pub spare: Option<u32>,
    /// Why there is no spare, if there is none: sending stops when the current epoch is used up.
    pub refused: Option<EpochError>,
    /// An alarm: the clock is so many seconds too far behind the last epoch for another one.
    pub clock_behind: Option<i64>,
}

/// Grants epochs to one node.
#[derive(Debug)]
pub struct EpochKeeper {
    file: PathBuf,
    mark: PathBuf,
    node: NodeId,
    clock: Box<dyn EpochClock>,
    files: Box<dyn EpochFiles>,
}

impl EpochKeeper {
    /// A keeper with the epoch file in `state` (a durable directory) and the mark in `runtime` (on
    /// tmpfs, where the table is).
    pub fn new(state: &Path, runtime: &Path, node: NodeId) -> Self {
        Self::with(state, runtime, node, Box::new(SystemClock), Box::new(SystemFiles))
    }

    /// A keeper with a clock and files of the caller's.
    pub fn with(
        state: &Path,
        runtime: &Path,
        node: NodeId,
        clock: Box<dyn EpochClock>,
        files: Box<dyn EpochFiles>,
    ) -> Self {
        Self { file: state.join("epoch"), mark: runtime.join("epoch-mark"), node, clock, files }
    }

    /// Grants an epoch: durable and marked when this returns, and never granted again.
    ///
    /// # Errors
    /// [`EpochError`]: nothing was granted.
    pub fn grant(&self) -> Result<u32, EpochError> {
        self.grant_above(0)
    }

    /// The same, above an epoch that is known from elsewhere: a table may outlive both files.
    fn grant_above(&self, floor: u32) -> Result<u32, EpochError> {
        let lock = self.file.with_extension("lock");
        let _guard = self.files.lock(&lock).map_err(|source| failed("lock", &lock, source))?;
        let last = self.read(&self.file)?.max(self.read(&self.mark)?).max(floor);
        let epoch = choose(last, self.clock.unix_seconds(), self.clock.seconds_since_boot())?;
        let text = Record::new(self.node, epoch).to_text();
        self.replace(&self.file, &text)?;
        self.replace(&self.mark, &text)?;
        Ok(epoch)
    }

    /// The epoch that a file remembers; 0 if there is no file.
    fn read(&self, path: &Path) -> Result<u32, EpochError> {
        let octets = self.files.read(path).map_err(|source| failed("read", path, source))?;
        let Some(octets) = octets else { return Ok(0) };
        let record = Record::parse(&octets).ok_or_else(|| EpochError::Damaged(path.to_owned()))?;
        if record.node != self.node.get() {
            let (path, found, node) = (path.to_owned(), record.node, self.node);
            return Err(EpochError::OtherNode { path, found, node });
        }
        Ok(record.epoch)
    }

    /// Replaces a file so that after a crash of the machine it is the old one or the new one, and the
    /// new one if this returned.
    fn replace(&self, path: &Path, text: &str) -> Result<(), EpochError> {
        let aside = path.with_extension("new");
        let directory = path.parent().unwrap_or(Path::new("."));
        self.files.write(&aside, text.as_bytes()).map_err(|source| failed("write", &aside, source))?;
        self.files.sync_file(&aside).map_err(|source| failed("sync", &aside, source))?;
        self.files.rename(&aside, path).map_err(|source| failed("replace", path, source))?;
        self.files.sync_directory(directory).map_err(|source| failed("sync", directory, source))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> EpochError {
    EpochError::File { action, path: path.to_owned(), source }
}

/// How many seconds the clock is too far behind an epoch that was granted: grants never pass the limit,
/// so the clock was set back, or had been ahead.
fn behind(last: u32, now: i64) -> Option<i64> {
    let seconds = START + (i64::from(last) - LEAD) * UNIT - now;
    (seconds > 0).then_some(seconds)
}

/// The number to grant after `last` at this time.
pub(crate) fn choose(last: u32, now: i64, since_boot: i64) -> Result<u32, EpochError> {
    let unit = |seconds: i64| (seconds - START).div_euclid(UNIT);
    if now < START {
        return Err(EpochError::ClockUnset);
    }
    let limit = unit(now) + LEAD;
    let after_boot = unit(now - since_boot) + LEAD + 1;
    let after_last = i64::from(last) + 1;
    let epoch = after_last.max(unit(now)).max(after_boot).max(1);
    // When the clock will have come far enough.
    let wait = START + (epoch - LEAD) * UNIT - now;
    match u32::try_from(epoch) {
        Ok(epoch) if epoch > MAX_EPOCH => Err(EpochError::Exhausted),
        Ok(epoch) if i64::from(epoch) <= limit => Ok(epoch),
        Ok(_) if behind(last, now).is_some() => Err(EpochError::ClockBehind { last, behind: wait }),
        Ok(_) => Err(EpochError::TooEarly(wait)),
        Err(_) => Err(EpochError::Exhausted),
    }
}

impl Table {
    /// Gives the table its first epoch if it has none, and a spare one if it has none. The data plane
    /// calls this when it starts, and every few seconds.
    ///
    /// # Errors
    /// Why the table has no epoch at all. A missing spare alone is in the report.
    pub fn epoch_maintain(&self, keeper: &EpochKeeper) -> Result<EpochReport, EpochError> {
        maintain(self.iv_source(), keeper)
    }
}

pub(crate) fn maintain(source: IvSource<'_>, keeper: &EpochKeeper) -> Result<EpochReport, EpochError> {
    if source.state().current.is_none() {
        source.install(keeper.grant()?);
    }
    let refused = match source.state().spare {
        Some(_) => None,
        None => grant_spare(source, keeper).err(),
    };
    let state = source.state();
    let current = state.current.unwrap_or(0);
    let clock_behind = behind(state.spare.unwrap_or(current), keeper.clock.unix_seconds());
    Ok(EpochReport { current, spare: state.spare, refused, clock_behind })
}

fn grant_spare(source: IvSource<'_>, keeper: &EpochKeeper) -> Result<(), EpochError> {
    // An epoch at or below the one in use would be granted for nothing, again and again.
    let epoch = keeper.grant_above(source.state().current.unwrap_or(0))?;
    source.install(epoch);
    source.state().spare.map(|_| ()).ok_or(EpochError::NotSpare(epoch))
}
