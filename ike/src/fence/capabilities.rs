//! No capability, and none to come (capabilities(7)).

use rustix::thread::{
    CapabilitiesSecureBits as Bits, CapabilitySet, CapabilitySets, capabilities,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs,
};

use super::user::User;
use super::{FenceError, refused};

/// Being root is nothing special, and what would keep capabilities over a change of user is off for good.
const SECURE_BITS: Bits = Bits::NO_ROOT
    .union(Bits::NO_ROOT_LOCKED)
    .union(Bits::KEEP_CAPS_LOCKED)
    .union(Bits::NO_CAP_AMBIENT_RAISE)
    .union(Bits::NO_CAP_AMBIENT_RAISE_LOCKED);

const NONE: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// Gives all of them up, and becomes the user.
pub(super) fn forget(user: Option<&User>) -> Result<(), FenceError> {
    // Whatever is executed gains nothing by being set-user-ID or having file capabilities.
    set_no_new_privs(true).map_err(refused("forbid new privileges"))?;
    let held = capabilities(None).map_err(refused("read capabilities"))?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        bound()?;
    }
    if let Some(user) = user {
        user.become_it()?;
    }
    // Old kernels have no ambient set, and without a permitted set it is empty.
    let _ = clear_ambient_capability_set();
    set_capabilities(None, NONE).map_err(refused("give up capabilities"))?;
    let left = capabilities(None).map_err(refused("read capabilities"))?;
    if left != NONE {
        let source = std::io::Error::other("some are left");
        return Err(FenceError::Refused { action: "give up capabilities", source });
    }
    Ok(())
}

/// Without the capability for it there is no need: what is not held cannot come back, with no new privileges.
fn bound() -> Result<(), FenceError> {
    for (_, capability) in CapabilitySet::all().iter_names() {
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(refused("lower the bounding set")(error)),
        }
    }
    set_capabilities_secure_bits(SECURE_BITS).map_err(refused("set the secure bits"))
}
