//! What the handler of one tunnel asks to be done with others, or later.

use super::core::Id;
use super::head::{Attempt, Head, Wanted};
use crate::configuration::Connection;
use crate::host::{DownReason, Path};
use std::sync::Arc;

/// Something to be done when the present handler has finished.
pub(super) enum Order {
    /// End a tunnel, telling the peer or not.
    End { id: Id, reason: DownReason, silent: bool },
    /// Set up Child SAs again that ended unasked.
    Again { connection: Arc<Connection>, path: Path, attempt: Attempt },
    /// Set up a tunnel in the place of one whose peer has sent us elsewhere.
    Follow { head: Head, attempt: Attempt },
    /// That did not come to stand: the other one stays.
    Stay { id: Id },
    /// Let traffic set up a Child SA again.
    Trap { connection: Arc<Connection>, wanted: Wanted, path: Path },
}
