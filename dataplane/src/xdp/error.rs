//! Why the filter could not be put in place, each with a remedy.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::shared::{LAYOUT, MAX_OWN_MACS, MAX_RULES};
use crate::io::Side;

/// Why the filter could not be installed, changed or removed.
#[derive(Debug, Error)]
pub enum XdpError {
    /// No such interface in this network namespace.
    #[error(
        "the {side} interface {interface} does not exist; create it or name another one in the configuration",
        side = side.name()
    )]
    NoInterface {
        /// Which side was meant.
        side: Side,
        /// The name that was looked for.
        interface: String,
    },
    /// An interface whose frames have no MAC address that tells whose they are.
    #[error(
        "the {side} interface {interface} has no Ethernet address of its own; use an Ethernet interface, not a \
         tunnel or the loopback",
        side = side.name()
    )]
    NoMac {
        /// Which side was meant.
        side: Side,
        /// The interface.
        interface: String,
    },
    /// The kernel does not tell an interface's MAC address.
    #[error(
        "the kernel does not tell the address of the {side} interface {interface}: {reason}; check that netlink \
         sockets (AF_NETLINK) are not forbidden to the data plane",
        side = side.name()
    )]
    MacUnknown {
        /// Which side was meant.
        side: Side,
        /// The interface.
        interface: String,
        /// The kernel's words.
        reason: String,
    },
    /// More own MAC addresses than the filter has room for.
    #[error(
        "{count} own MAC addresses on the {side} side are too many; the filter holds {MAX_OWN_MACS}, the \
         interface's own included",
        side = side.name()
    )]
    TooManyMacs {
        /// Which side was meant.
        side: Side,
        /// How many were given.
        count: usize,
    },
    /// More entries of the SPD about ourselves than the filter has room for.
    #[error(
        "{count} entries of the SPD about this host itself are too many; the filter holds {MAX_RULES}: join the \
         networks of `[[policy]]` sections, or let fewer of them have our own addresses as local ones"
    )]
    TooManyRules {
        /// How many are needed.
        count: usize,
    },
    /// No interface at all.
    #[error("there is neither an outer nor an inner interface to attach the XDP filter to; name one of them")]
    NoSide,
    /// One interface for both sides.
    #[error(
        "{0} is both the outer and the inner interface; the filter keeps ciphertext and plaintext apart by \
         interface, so name two (a VLAN interface will do)"
    )]
    OneInterface(String),
    /// The kernel refused for lack of capabilities.
    #[error(
        "{what}: the kernel denies it ({reason}); run as root, or give the data plane CAP_BPF, CAP_NET_ADMIN \
         and, to mount a bpffs, CAP_SYS_ADMIN"
    )]
    Privilege {
        /// What was tried.
        what: String,
        /// The kernel's words.
        reason: String,
    },
    /// The bpffs or a directory on it cannot be used.
    #[error(
        "the pin directory {path} cannot be used: {reason}; name a directory on a bpffs, such as \
         /sys/fs/bpf/baton",
        path = path.display()
    )]
    PinDirectory {
        /// The directory at fault.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// Pins of a release whose maps look different.
    #[error(
        "the filter pinned in {path} has map layout {found}, this release needs {LAYOUT}; remove it with \
         `baton-dataplane --uninstall` (protected traffic is then stopped by the prohibit routes alone) and \
         start again",
        path = path.display()
    )]
    Layout {
        /// The pin directory.
        path: PathBuf,
        /// The layout number that stands in the pinned config map.
        found: u32,
    },
    /// Pins that do not belong together.
    #[error(
        "the pins in {path} are not a whole filter: {reason}; remove them with `baton-dataplane --uninstall` \
         and start again",
        path = path.display()
    )]
    Damaged {
        /// The pin directory.
        path: PathBuf,
        /// What is missing or foreign.
        reason: String,
    },
    /// The configuration names another interface than the pinned link protects.
    #[error(
        "the {side} filter is pinned to the interface with index {pinned}, but the configuration names \
         {interface}; to move it, run `baton-dataplane --uninstall` and start again",
        side = side.name()
    )]
    OtherInterface {
        /// The side of the link.
        side: Side,
        /// Interface index that the link is attached to.
        pinned: u32,
        /// The interface that was asked for.
        interface: String,
    },
    /// The configuration has no interface for a side that a pinned link protects.
    #[error(
        "the {side} filter is pinned to the interface with index {pinned}, but the configuration wants none on that \
         side; to take it away, run `baton-dataplane --uninstall` and start again",
        side = side.name()
    )]
    Unwanted {
        /// The side of the link.
        side: Side,
        /// Interface index that the link is attached to.
        pinned: u32,
    },
    /// Somebody else's XDP program is there.
    #[error(
        "another XDP program is attached to {interface} ({reason}); remove it with \
         `ip link set dev {interface} xdp off`, or with the tool that attached it"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The kernel's words.
        reason: String,
    },
    /// Neither native nor generic mode works.
    #[error(
        "the XDP filter cannot be attached to {interface}: {reason}; use an interface that supports XDP and \
         an MTU that its driver allows with it"
    )]
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's words.
        reason: String,
    },
    /// The kernel's verifier or an old kernel refused the program.
    #[error("the kernel does not accept the XDP filter: {0}; Linux 6.1 or later is needed")]
    Load(String),
    /// A map could not be read or written.
    #[error("the filter's map `{map}` cannot be {what}: {reason}")]
    Map {
        /// Its name in `ebpf/maps.h`.
        map: &'static str,
        /// Read or changed.
        what: &'static str,
        /// The kernel's words.
        reason: String,
    },
}

impl XdpError {
    pub(super) fn pin_directory(path: &Path, error: &(dyn Error + 'static)) -> Self {
        if is_denied(error) {
            return Self::Privilege {
                what: format!("{} cannot be used", path.display()),
                reason: chain(error),
            };
        }
        Self::PinDirectory { path: path.to_owned(), reason: chain(error) }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    pub(super) fn load(error: &(dyn Error + 'static)) -> Self {
        // Not EACCES: that is the verifier's word for a program it dislikes.
        if os_error(error) == Some(libc::EPERM) {
            return Self::Privilege {
                what: "the XDP filter cannot be loaded".to_owned(),
                reason: chain(error),
            };
        }
        Self::Load(chain(error))
    }

    pub(super) fn attach(interface: &str, error: &(dyn Error + 'static)) -> Self {
        let (interface, reason) = (interface.to_owned(), chain(error));
        match os_error(error) {
            Some(libc::EBUSY | libc::EEXIST) => Self::Busy { interface, reason },
            Some(libc::EPERM | libc::EACCES) => {
                Self::Privilege { what: format!("the XDP filter cannot be attached to {interface}"), reason }
            }
            _ => Self::Attach { interface, reason },
        }
    }

    pub(super) fn map(map: &'static str, what: &'static str, error: &(dyn Error + 'static)) -> Self {
        Self::Map { map, what, reason: chain(error) }
    }
}

/// The kernel's error number at the end of a chain of causes.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error))
}

fn is_denied(error: &(dyn Error + 'static)) -> bool {
    matches!(os_error(error), Some(libc::EPERM | libc::EACCES))
}

/// An error and its causes in one line. Libraries often keep the kernel's own words in the last one.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error).map(ToString::to_string) {
        // Transparent wrappers repeat what they wrap.
        if !text.ends_with(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            write!(text, "{separator}{cause}").unwrap_or_default();
        }
    }
    text
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}
