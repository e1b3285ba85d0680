//! Skipping outbound sequence numbers of a live SA.

use thiserror::Error;

use super::writer::WriteError;
use super::{GetError, Table};
use crate::layout::slot;
use crate::sa::Direction;
use crate::sequence;
use crate::slot::state;
use crate::sync::Ordering;

/// Why no sequence numbers were skipped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SkipError {
    /// There is no such SA.
    #[error("there is no outbound SA of reqid {0:#x}")]
    NotFound(u32),
    /// Its counters must not change.
    #[error("the outbound SA of reqid {0:#x} is frozen; thaw it first")]
    Frozen(u32),
    /// None would be left.
    #[error(
        "skipping {by} sequence numbers of the outbound SA of reqid {reqid:#x}, which is at {edge}, would exhaust \
         them; rekey it"
    )]
    Exhausted {
        /// The SA's reqid.
        reqid: u32,
        /// Its last sequence number.
        edge: u64,
        /// How many were to be skipped.
        by: u64,
    },
    /// It cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The table cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Table {
    /// Skips `by` sequence numbers of an outbound SA, while its worker goes on sending: what it sends from now on is
    /// above the number given, which is `by` above the last one that it had taken before (RFC 6311 section 5.2). Holds
    /// whoever dies next, and for every GET from now on.
    ///
    /// Where reservations are enforced and the skip ends beyond the SA's, attention is asked for, and the SA sends again
    /// when more is reserved: no standby ever starts below a number that was sent (I2).
    ///
    /// # Errors
    /// [`SkipError::Exhausted`] if none would be left up to the SA's last one, and others: nothing was skipped.
    pub fn skip_sequence(&self, reqid: u32, by: u64) -> Result<u64, SkipError> {
        // Under the lock, so that it is neither replaced nor frozen meanwhile.
        let writer = self.write()?;
        let number = self.shared().resolve(Direction::Outbound, reqid).ok_or(SkipError::NotFound(reqid))?;
        if writer.state(number) == state::FROZEN {
            return Err(SkipError::Frozen(reqid));
        }
        let snapshot = self.get(Direction::Outbound, reqid)?.ok_or(SkipError::NotFound(reqid))?;
        let limit = if snapshot.sa.extended_sequence { u64::MAX } else { u64::from(u32::MAX) };
        let words = writer.words(number);
        let raised = sequence::skip(&words[slot::SEQUENCE], &words[slot::FLOOR], by, limit);
        let raised = raised.ok_or(SkipError::Exhausted { reqid, edge: snapshot.counters.sequence, by })?;
        if raised >= words[slot::RESERVED].load(Ordering::Acquire) {
            self.ask_for_attention(number);
        }
        Ok(raised)
    }
}
