//! UDP: where IKE messages come in and go out (RFC 7296 section 2.23, RFC 3948).
//!
//! On the first port a message stands by itself; on the second, which it shares with ESP in UDP, four zero octets
//! stand in front of it. ESP and keep-alives that reach the second port are not let in: the data plane has taken its
//! copy before the kernel looked at them. An answer leaves from the address that was asked, whichever of ours that is.

mod address;
mod changes;
mod listener;
mod route;
mod system;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use baton_ike_proto::Path;
use thiserror::Error;

pub use changes::Changes;
use listener::{ANY, Listener};
pub use route::Routes;
pub use system::Inbox;

/// What stands in front of messages where ESP could (RFC 3948 section 2.2).
const MARKER: [u8; 4] = [0; 4];
/// RFC 3948 section 2.3.
const KEEP_ALIVE: [u8; 1] = [0xff];

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Our addresses; empty is all.
    pub addresses: Vec<IpAddr>,
    /// Port of plain messages; 500 unless both peers agree on another.
    pub port: u16,
    /// Port of messages with the marker, and of ESP in UDP: 4500.
    pub nat_port: u16,
}

/// Why IKE's ports are not to be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketsError {
    /// Somebody else has it.
    #[error("UDP {0} is in use by another process; stop that IKE daemon (`ss -lupn` shows it)")]
    InUse(SocketAddr),
    /// Low ports want a capability.
    #[error("not allowed to bind UDP {0}; run as root, or grant CAP_NET_BIND_SERVICE")]
    NotPermitted(SocketAddr),
    /// Anything else.
    #[error("cannot listen on UDP {at}: {source}; check the addresses in [ike] listen")]
    Refused {
        /// Where.
        at: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Neither IPv4 nor IPv6.
    #[error("this host has neither IPv4 nor IPv6; bring a network up")]
    NoFamily,
}

/// All sockets.
#[derive(Debug)]
pub struct Sockets {
    listeners: Vec<Listener>,
}

/// What a round of receiving found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// IKE messages.
    pub messages: usize,
    /// Datagrams that were none, or came from nowhere.
    pub ignored: usize,
    /// Whether there may be more.
    pub more: bool,
}

impl Sockets {
    /// Binds all of them.
    ///
    /// # Errors
    /// [`SocketsError`].
    pub fn open(listening: &Listening) -> Result<Self, SocketsError> {
        let addresses = if listening.addresses.is_empty() { &ANY[..] } else { &listening.addresses };
        let mut listeners = Vec::new();
        for address in addresses {
            for (port, marked) in [(listening.port, false), (listening.nat_port, true)] {
                listeners.extend(Listener::open((*address, port).into(), marked)?);
            }
        }
        if listeners.is_empty() {
            return Err(SocketsError::NoFamily);
        }
        Ok(Self { listeners })
    }

    /// What to wait for, by the numbers that [`Self::receive`] takes.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(|listener| listener.socket.as_fd())
    }

    /// Where it listens.
    pub fn bound(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|listener| listener.bound)
    }

    /// Hands over what socket `number` has received: at most `limit` datagrams, so that a flood on one of them leaves
    /// time for everything else.
    pub fn receive(
        &self,
        number: usize,
        inbox: &mut Inbox,
        limit: usize,
        mut take: impl FnMut(Path, &[u8]),
    ) -> Round {
        let mut round = Round::default();
        let Some(listener) = self.listeners.get(number) else { return round };
        // Errors are of datagrams that we sent (ICMP), or there is nothing.
        let count = inbox.receive(listener.socket.as_fd(), limit).unwrap_or(0);
        for received in inbox.received() {
            match message(listener, &received) {
                Some((path, octets)) => {
                    take(path, octets);
                    round.messages += 1;
                }
                None => round.ignored += 1,
            }
        }
        round.more = count > 0;
        round
    }

    /// Sends a message; nobody waits for a socket that is full.
    ///
    /// # Errors
    /// What the system says; to the protocol it is a loss like any other.
    pub fn transmit(&self, path: &Path, message: &[u8]) -> io::Result<()> {
        self.sender(path)?.send(path.local.ip(), path.remote, message, true)
    }

    /// Sends a NAT keep-alive.
    ///
    /// # Errors
    /// As [`Self::transmit`].
    pub fn keep_alive(&self, path: &Path) -> io::Result<()> {
        self.sender(path)?.send(path.local.ip(), path.remote, &KEEP_ALIVE, false)
    }

    fn sender(&self, path: &Path) -> io::Result<&Listener> {
        let found = self.listeners.iter().find(|listener| listener.serves(path.local, path.marked));
        found.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
    }
}

/// The message in a datagram, and its way.
fn message<'r>(listener: &Listener, received: &system::Received<'r>) -> Option<(Path, &'r [u8])> {
    let octets = if listener.marked { received.octets.strip_prefix(&MARKER)? } else { received.octets };
    let local = SocketAddr::new(received.to?, listener.bound.port());
    let remote = received.from.filter(|from| from.port() != 0)?;
    Some((Path { local, remote, marked: listener.marked }, octets))
}

#[cfg(test)]
mod tests;
