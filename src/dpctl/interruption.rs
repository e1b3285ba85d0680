//! Signals that ask to stop while stopping at once would leave SAs frozen.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::error::DpctlError;

/// Whether somebody asked to stop. The first signal is noted, the second one does what it always does: whoever insists
/// is not kept waiting for a reader that takes nothing.
pub(super) struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// From now on, until the process ends, INT, TERM and HUP are noted.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub(super) fn defer() -> io::Result<Self> {
        let noted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the default action is taken only if the flag was set before.
            flag::register_conditional_default(signal, Arc::clone(&noted))?;
            flag::register(signal, Arc::clone(&noted))?;
        }
        Ok(Self(noted))
    }

    /// # Errors
    /// [`DpctlError::Interrupted`] once a signal came.
    pub(super) fn check(&self) -> Result<(), DpctlError> {
        if self.0.load(Ordering::Relaxed) { Err(DpctlError::Interrupted) } else { Ok(()) }
    }
}
