//! Which of our addresses the kernel would send from.

use std::net::{IpAddr, SocketAddr};

use rustix::net::{connect, connect_unspec, getsockname};
use socket2::{Domain, Socket, Type};

/// Any port but 0: nothing is sent.
const PORT: u16 = 500;

/// Sockets that ask the kernel for routes; they never send and nobody knows their ports.
#[derive(Debug)]
pub struct Routes([Option<Socket>; 2]);

impl Routes {
    /// Opens them.
    pub fn open() -> Self {
        Self([Domain::IPV4, Domain::IPV6].map(|domain| {
            let socket = Socket::new(domain, Type::DGRAM, None).ok()?;
            // As messages go. Without the capability, those have no mark either.
            let _ = socket.set_mark(baton_dataplane::divert::MARK);
            Some(socket)
        }))
    }

    /// The address from which this host sends to `peer`; `None` without a route.
    pub fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        let socket = self.0[usize::from(peer.is_ipv6())].as_ref()?;
        // Otherwise the address of the last answer would be kept.
        connect_unspec(socket).ok()?;
        connect(socket, &SocketAddr::new(peer, PORT)).ok()?;
        let name = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
        (!name.ip().is_unspecified()).then_some(name.ip())
    }
}
