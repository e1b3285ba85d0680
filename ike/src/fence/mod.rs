//! The fence around the process, raised once everything that needs privileges is open: whoever takes the parser over
//! by a datagram finds no capability, few system calls, and few files.
//!
//! It is raised before the first thread is started, because all of it belongs to threads, and is inherited.

mod capabilities;
mod memory;
mod paths;
mod syscalls;
mod user;
mod violation;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use user::{User, UserError};

/// Why the fence does not stand; the daemon does not run without it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FenceError {
    /// A step that every kernel of these years can take.
    #[error("cannot {action}: {source}; the daemon does not run without its fence")]
    Refused {
        /// Which.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The user to become.
    #[error(transparent)]
    User(#[from] UserError),
    /// Landlock, where the kernel has it.
    #[error("cannot restrict file access: {0}; the daemon does not run without its fence")]
    Paths(#[from] landlock::RulesetError),
    /// The filter of system calls.
    #[error("cannot restrict system calls: {0}; the daemon does not run without its fence")]
    Calls(String),
}

fn refused<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> FenceError {
    move |source| FenceError::Refused { action, source: source.into() }
}

/// What stays allowed.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// Below these, files are read.
    pub readable: Vec<PathBuf>,
    /// Below these, files that are there are read and written.
    pub writable: Vec<PathBuf>,
    /// Below these, files come and go.
    pub owned: Vec<PathBuf>,
    /// Whom to become; `None` stays who started it.
    pub user: Option<User>,
}

/// What stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// What is in force, by words.
    pub in_force: Vec<&'static str>,
    /// What this system lacks, as sentences.
    pub missing: Vec<String>,
}

/// Keeps keys out of core files, out of other processes' reach and out of swap; as early as there could be keys.
///
/// # Errors
/// [`FenceError::Refused`].
pub fn hide_memory() -> Result<Fence, FenceError> {
    let mut fence = Fence::default();
    memory::hide(&mut fence)?;
    Ok(fence)
}

impl Fence {
    /// Raises the rest, for this thread and those that it starts.
    ///
    /// # Errors
    /// [`FenceError`].
    pub fn raise(mut self, gates: &Gates) -> Result<Self, FenceError> {
        capabilities::forget(gates.user.as_ref())?;
        // A change of user opens it to that user again.
        memory::forbid_dumps()?;
        self.in_force.push("capabilities");
        match paths::restrict(gates)? {
            paths::Landlock::Enforced => self.in_force.push("landlock"),
            paths::Landlock::InPart => {
                self.in_force.push("landlock");
                self.missing.push("this kernel's landlock restricts files in part only; a newer one does more".to_owned());
            }
            paths::Landlock::Missing => self.missing.push(
                "this kernel has no landlock, so that files are protected by permissions alone; enable it with lsm=landlock"
                    .to_owned(),
            ),
        }
        violation::announce().map_err(refused("catch forbidden system calls"))?;
        syscalls::restrict().map_err(|error| FenceError::Calls(error.to_string()))?;
        self.in_force.push("seccomp");
        Ok(self)
    }
}
