//! Why AF_XDP sockets could not be opened, each with what to do about it.

use std::io;

use thiserror::Error;
use xsk_rs::socket::SocketCreateError;
use xsk_rs::umem::UmemCreateError;

use super::MAX_MTU;
use crate::io::socket::SocketError;
use crate::io::tun::TunError;

/// Why AF_XDP sockets could not be opened.
#[derive(Debug, Error)]
pub enum AfXdpError {
    /// The interface is not in this network namespace.
    #[error("there is no interface `{0}` in this network namespace; check the name with `ip link`")]
    NoSuchInterface(String),
    /// Outer and inner are one interface.
    #[error("`{0}` is given as both outer and inner interface; the two sides need one interface each")]
    SameInterface(String),
    /// An option that makes no sense.
    #[error("{0}")]
    Option(&'static str),
    /// Packets of the interface's MTU do not fit a frame.
    #[error(
        "interface `{interface}` has an MTU of {mtu} octets, but a frame takes packets of at most {MAX_MTU}; \
         lower it with `ip link set {interface} mtu {MAX_MTU}`"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its MTU in octets.
        mtu: u32,
    },
    /// A capability is missing.
    #[error(
        "not allowed to open AF_XDP sockets; run as root or grant CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"
    )]
    NotPermitted,
    /// The kernel was built without AF_XDP.
    #[error("this kernel has no AF_XDP sockets; use one built with CONFIG_XDP_SOCKETS")]
    NotSupported,
    /// Another socket holds the queue.
    #[error(
        "queue {queue} of interface `{interface}` is in use by another AF_XDP socket; stop the process that \
         holds it (`ss --xdp -p` shows it)"
    )]
    QueueBusy {
        /// The interface.
        interface: String,
        /// The queue's number.
        queue: u32,
    },
    /// The frames do not fit into memory.
    #[error(
        "no memory for {frames} packet frames ({source}); lower the number of frames, or raise the limit on \
         locked memory (`ulimit -l`)"
    )]
    Memory {
        /// Frames asked for.
        frames: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else the kernel refused.
    #[error("cannot open an AF_XDP socket on queue {queue} of interface `{interface}`: {source}")]
    Socket {
        /// The interface.
        interface: String,
        /// The queue's number.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The outer side's plain sockets.
    #[error(transparent)]
    Sockets(#[from] SocketError),
    /// The inner side's TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// A question about an interface was not answered.
    #[error("cannot read the properties of interface `{interface}`: {source}")]
    Interface {
        /// The interface.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The system error at the bottom of a chain of errors.
fn cause(error: &dyn std::error::Error) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

/// What both the memory's and a socket's creation may meet.
fn common(source: &io::Error) -> Option<AfXdpError> {
    match source.raw_os_error()? {
        libc::EPERM | libc::EACCES => Some(AfXdpError::NotPermitted),
        libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => Some(AfXdpError::NotSupported),
        _ => None,
    }
}

pub(super) fn of_memory(error: &UmemCreateError, frames: u32) -> AfXdpError {
    let source = cause(error);
    common(&source).unwrap_or(AfXdpError::Memory { frames, source })
}

pub(super) fn of_socket(error: &SocketCreateError, interface: &str, queue: u32) -> AfXdpError {
    let source = cause(error);
    let interface = interface.to_owned();
    match source.raw_os_error() {
        Some(libc::ENODEV) => AfXdpError::NoSuchInterface(interface),
        Some(libc::EBUSY) => AfXdpError::QueueBusy { interface, queue },
        _ => common(&source).unwrap_or(AfXdpError::Socket { interface, queue, source }),
    }
}

pub(super) fn of_interface(source: io::Error, interface: &str) -> AfXdpError {
    let interface = interface.to_owned();
    match source.raw_os_error() {
        Some(libc::ENODEV) => AfXdpError::NoSuchInterface(interface),
        _ => AfXdpError::Interface { interface, source },
    }
}
