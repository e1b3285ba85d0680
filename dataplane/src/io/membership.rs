//! Having a network card let in frames for a MAC address that is not its own.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::system;
use crate::next_hop::Mac;

/// An interface takes in what is addressed to a MAC address, as long as this lives.
#[derive(Debug)]
pub struct Membership {
    /// The kernel forgets the address with the socket, which itself receives nothing: it has no protocol.
    _socket: OwnedFd,
}

impl Membership {
    /// Lets frames for `mac`, a group's or not, in at `interface` (packet(7), `PACKET_ADD_MEMBERSHIP`).
    ///
    /// # Errors
    /// What the kernel says: `CAP_NET_RAW` is missing, or there is no such interface.
    pub fn join(interface: &str, mac: Mac) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        system::add_membership(socket.as_fd(), system::index(interface)?, mac)?;
        Ok(Self { _socket: socket })
    }
}
