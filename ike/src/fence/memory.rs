//! Keys stay in memory, and in ours.

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::{Fence, FenceError, refused};

pub(super) fn hide(fence: &mut Fence) -> Result<(), FenceError> {
    forbid_dumps()?;
    fence.in_force.push("no-dumps");
    match lock() {
        Ok(()) => fence.in_force.push("locked-memory"),
        Err(error) => fence.missing.push(format!(
            "memory cannot be locked ({error}), so that keys may reach swap; set LimitMEMLOCK=infinity, or switch swap off"
        )),
    }
    Ok(())
}

/// All memory, now and later. With a limit that would end in memory that is not to be had at all, once the capability
/// that passes over it is given up.
fn lock() -> Result<(), Errno> {
    if getrlimit(Resource::Memlock).current.is_some() {
        setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?;
    }
    // Pages as they are used: thread stacks and buffers are larger than what is in them.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}

/// Neither core files nor debuggers of the same user.
pub(super) fn forbid_dumps() -> Result<(), FenceError> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(refused("switch core files off"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("hide memory from debuggers"))
}
