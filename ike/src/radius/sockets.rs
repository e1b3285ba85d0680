//! UDP to servers: a socket for each port that the client sends from, opened when it first does, inside of the fence.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use baton_radius::client::{Port, Service, Settings};
use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
use socket2::{Domain, Socket, Type};
use tracing::debug;

/// Longer than any packet of RADIUS.
const BUFFER: usize = 4097;
/// Datagrams of one socket in a turn.
const DATAGRAMS: usize = 64;

/// All of them.
pub(super) struct Sockets {
    /// Ready when one of them is.
    epoll: OwnedFd,
    open: HashMap<Port, UdpSocket>,
}

impl Sockets {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: create(CreateFlags::CLOEXEC)?, open: HashMap::new() })
    }

    /// Servers are others now.
    pub(super) fn close(&mut self) {
        self.open.clear();
    }

    /// What cannot be sent is lost, and repeated like all that is lost.
    pub(super) fn send(&mut self, settings: &Settings, port: Port, datagram: &[u8]) {
        let sent = self.socket(settings, port).and_then(|socket| socket.send(datagram));
        if let Err(error) = sent {
            debug!(?port, %error, "a datagram to a RADIUS server cannot be sent");
        }
    }

    fn socket(&mut self, settings: &Settings, port: Port) -> io::Result<&UdpSocket> {
        if !self.open.contains_key(&port) {
            let server = settings.servers.get(port.server).ok_or(io::ErrorKind::NotFound)?;
            let number = match port.service {
                Service::Authentication => server.auth_port,
                Service::Accounting => server.acct_port,
            };
            let socket = connect(SocketAddr::new(server.address, number))?;
            add(&self.epoll, &socket, EventData::new_u64(0), EventFlags::IN)?;
            self.open.insert(port, socket);
        }
        self.open.get(&port).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Hands over what has come. An error is of something that we sent (ICMP), or there is nothing.
    pub(super) fn receive(&self, mut take: impl FnMut(Port, &[u8])) {
        let mut buffer = [0; BUFFER];
        for (port, socket) in &self.open {
            for _ in 0..DATAGRAMS {
                match socket.recv(&mut buffer) {
                    Ok(length) => take(*port, &buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => break,
                }
            }
        }
    }
}

/// The kernel lets in what comes from there alone. The port is the kernel's choice, at random.
fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

impl AsFd for Sockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
