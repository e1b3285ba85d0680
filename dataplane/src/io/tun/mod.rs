//! The protected side on a TUN device: the kernel of this host routes plaintext into the gateway and out of it.
//!
//! The device has a queue per worker. Packets pass with an offload header: from the kernel as TCP and UDP
//! super-packets and with checksums left to the device ([`segment`]), to the kernel with consecutive TCP segments
//! joined ([`coalesce`]).
//!
//! The device is persistent. When the data plane ends, however it ends, the device stays with its addresses and
//! routes, and the kernel drops what is routed to it: plaintext does not find another way out (I7). A data plane
//! that starts takes the device as it is. [`remove`] takes it away.

mod coalesce;
mod port;
mod segment;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use thiserror::Error;

pub(in crate::io) use port::TunPort;

use super::af_xdp::MAX_MTU;
use super::system::{self, TunSetting};

/// The size of the offload header as the kernel takes it.
const HEADER_OCTETS: i32 = segment::HEADER.cast_signed() as i32;

const DEVICE: &str = "/dev/net/tun";

/// What the kernel may leave to us; first with UDP segmentation, which kernels before 6.2 do not offer.
const OFFLOADS: [u32; 3] = {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    [tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6, tcp, libc::TUN_F_CSUM]
};

/// A TUN device to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunOptions {
    /// The device's name. It is made if there is none.
    pub name: String,
    /// Its MTU in octets; `None` leaves it as it is (1500 for a new device).
    pub mtu: Option<u32>,
}

/// Why a TUN device cannot be used.
#[derive(Debug, Error)]
pub enum TunError {
    /// Not a name for an interface.
    #[error("`{0}` cannot be the name of an interface; give 1 to 15 letters, digits, `-`, `_` or `.`")]
    Name(String),
    /// No TUN driver.
    #[error(
        "{DEVICE} cannot be opened ({0}); load the driver (`modprobe tun`), or give the container the device"
    )]
    Driver(io::Error),
    /// A capability is missing.
    #[error("not allowed to set up the TUN device `{0}`; run as root or grant CAP_NET_ADMIN")]
    NotPermitted(String),
    /// A device of that name exists, but of another kind.
    #[error(
        "interface `{0}` exists, but is no TUN device with several queues; choose another name, or remove it \
         (`ip link del {0}`) so that the data plane makes it"
    )]
    AnotherKind(String),
    /// Packets of the MTU do not fit a frame.
    #[error(
        "the TUN device `{name}` has an MTU of {mtu} octets, but a frame takes packets of at most {MAX_MTU}; lower it"
    )]
    MtuTooLarge {
        /// The device.
        name: String,
        /// Its MTU in octets.
        mtu: u32,
    },
    /// Anything else the kernel refused.
    #[error("the kernel refused to {action} the TUN device `{name}`: {source}")]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// The device.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Makes sure that the device exists, has the MTU and is up, so that addresses and routes can be given to it before
/// workers attach. Does nothing to one that is as it should be.
///
/// # Errors
/// [`TunError`].
pub fn prepare(options: &TunOptions) -> Result<(), TunError> {
    attach(options).map(drop)
}

/// Removes the device of that name, with its addresses and routes. Returns whether there was one.
///
/// # Errors
/// [`TunError`]; a device of another kind is left alone.
pub fn remove(name: &str) -> Result<bool, TunError> {
    check_name(name)?;
    if system::index(name).is_err() {
        return Ok(false);
    }
    let queue = open_queue(name)?;
    system::set_tun(queue.as_fd(), TunSetting::Persistent(false)).map_err(refused("remove", name))?;
    Ok(true)
}

/// Attaches this many queues.
pub(super) fn open_queues(options: &TunOptions, count: u16) -> Result<Vec<OwnedFd>, TunError> {
    let first = attach(options)?;
    let mut queues = vec![first];
    for _ in 1..count {
        queues.push(open_queue(&options.name)?);
    }
    Ok(queues)
}

fn attach(options: &TunOptions) -> Result<OwnedFd, TunError> {
    let name = &options.name;
    check_name(name)?;
    let queue = open_queue(name)?;
    system::set_tun(queue.as_fd(), TunSetting::Persistent(true)).map_err(refused("keep", name))?;
    if let Some(mtu) = options.mtu {
        check_mtu(name, mtu)?;
        system::set_mtu(name, mtu).map_err(refused("set the MTU of", name))?;
    }
    check_mtu(name, system::mtu(name).map_err(refused("tell the MTU of", name))?)?;
    system::set_up(name).map_err(refused("set up", name))?;
    Ok(queue)
}

fn check_mtu(name: &str, mtu: u32) -> Result<(), TunError> {
    if mtu > MAX_MTU {
        return Err(TunError::MtuTooLarge { name: name.to_owned(), mtu });
    }
    Ok(())
}

/// The kernel would take `%d` in a name for a number of its own choice.
fn check_name(name: &str) -> Result<(), TunError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..16).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != "..";
    if is_name { Ok(()) } else { Err(TunError::Name(name.to_owned())) }
}

fn open_queue(name: &str) -> Result<OwnedFd, TunError> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let queue = open(DEVICE, flags, Mode::empty()).map_err(|error| TunError::Driver(error.into()))?;
    let kind = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    system::attach_tun(queue.as_fd(), name, kind).map_err(refused("attach to", name))?;
    system::set_tun_header(queue.as_fd(), HEADER_OCTETS).map_err(refused("set the header of", name))?;
    let offload = |features: &u32| system::set_tun(queue.as_fd(), TunSetting::Offload(*features)).is_ok();
    // A kernel that offers none of these does all the work itself.
    let _ = OFFLOADS.iter().any(offload);
    Ok(queue)
}

fn refused(action: &'static str, name: &str) -> impl Fn(io::Error) -> TunError {
    let name = name.to_owned();
    move |source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TunError::NotPermitted(name.clone()),
        Some(libc::EINVAL | libc::EEXIST) if action == "attach to" => TunError::AnotherKind(name.clone()),
        _ => TunError::Refused { action, name: name.clone(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_read_otherwise_are_refused() {
        for name in ["", "tun%d", "a/b", "..", "with space", "sixteen-letters-"] {
            assert!(matches!(check_name(name), Err(TunError::Name(_))), "{name}");
        }
        assert!(check_name("baton-inner0").is_ok());
    }
}
