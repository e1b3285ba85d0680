//! One socket: a port of one IP version, on one address or on all.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    set_socket_recv_buffer_size_force,
};
use socket2::{Domain, MsgHdr, SockAddr, SockFilter, Socket, Type};
use tracing::warn;

use super::address::write_source;
use super::system::set_option;
use super::{MARKER, SocketsError};

/// Octets that may wait in one socket: a second of a flood of small messages.
const BUFFER: usize = 4 << 20;

/// A data plane that begins at this very moment shares the port a moment later.
const BIND_TRIES: u32 = 10;
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// The mark of packets that policy routing into the data plane's TUN device leaves alone.
const MARK: u32 = baton_dataplane::divert::MARK;

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: Socket,
    /// Where it is bound, with the port that it got.
    pub(super) bound: SocketAddr,
    /// Whether messages have the non-ESP marker in front of them.
    pub(super) marked: bool,
}

impl Listener {
    /// `None` where the host lacks the IP version and all addresses of it are meant.
    pub(super) fn open(at: SocketAddr, marked: bool) -> Result<Option<Self>, SocketsError> {
        let domain = if at.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = match Socket::new(domain, Type::DGRAM.nonblocking(), None) {
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) && at.ip().is_unspecified() => {
                return Ok(None);
            }
            other => other.map_err(|source| SocketsError::Refused { at, source })?,
        };
        prepare(&socket, at, marked).map_err(|source| SocketsError::Refused { at, source })?;
        bind(&socket, at)?;
        let bound = socket.local_addr().ok().and_then(|name| name.as_socket()).unwrap_or(at);
        Ok(Some(Self { socket, bound, marked }))
    }

    /// Whether datagrams from our `local` leave through it.
    pub(super) fn serves(&self, local: SocketAddr, marked: bool) -> bool {
        let is_its_address = self.bound.ip() == local.ip()
            || (self.bound.ip().is_unspecified() && self.bound.is_ipv4() == local.is_ipv4());
        is_its_address && self.bound.port() == local.port() && self.marked == marked
    }

    /// Sends from `local`, with the marker in front if messages of this socket have it and `octets` are one.
    pub(super) fn send(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        octets: &[u8],
        is_message: bool,
    ) -> io::Result<()> {
        let scope = match remote {
            SocketAddr::V6(remote) => remote.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let marker = if self.marked && is_message { &MARKER[..] } else { &[] };
        let buffers = [IoSlice::new(marker), IoSlice::new(octets)];
        let (name, control) = (SockAddr::from(remote), write_source(local, scope));
        let message = MsgHdr::new().with_addr(&name).with_buffers(&buffers).with_control(&control);
        self.socket.sendmsg(&message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).map(drop)
    }
}

fn prepare(socket: &Socket, at: SocketAddr, marked: bool) -> io::Result<()> {
    if at.is_ipv4() {
        set_option(socket.as_fd(), (libc::IPPROTO_IP, libc::IP_PKTINFO), 1)?;
        // Large messages of the first exchange are fragmented below us, by whoever must (RFC 7296 section 2).
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?;
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        set_option(socket.as_fd(), (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO), 1)?;
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?;
        socket.set_freebind_v6(true)?;
    }
    if marked {
        socket.attach_filter(&messages_only())?;
    }
    if set_socket_recv_buffer_size_force(socket, BUFFER).is_err() {
        // What the kernel grants without the capability does too.
        let _ = socket.set_recv_buffer_size(BUFFER);
    }
    if let Err(error) = socket.set_mark(MARK) {
        warn!(%error, "IKE packets cannot be marked; peers within protected networks are not reached (CAP_NET_ADMIN)");
    }
    Ok(())
}

/// Lets nothing but IKE messages into the socket (RFC 3948 section 2.2): ESP in UDP is the data plane's, which may
/// get no more than a copy of it, and keep-alives are nobody's. The kernel shows the filter the UDP header first.
fn messages_only() -> [SockFilter; 4] {
    const UDP_HEADER: u32 = 8;
    let op = |code: u32, jt: u8, jf: u8, k: u32| SockFilter::new(code as u16, jt, jf, k);
    [
        // Of a datagram with less in it nothing is let in either.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, UDP_HEADER),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from_be_bytes(MARKER)),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

/// The data plane may have a socket on the port that receives nothing and steps back for whoever binds with
/// `SO_REUSEADDR`. Ours does not step back for another daemon: for that, the option is taken off again.
fn bind(socket: &Socket, at: SocketAddr) -> Result<(), SocketsError> {
    let refused = |source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => SocketsError::InUse(at),
        ErrorKind::PermissionDenied => SocketsError::NotPermitted(at),
        _ => SocketsError::Refused { at, source },
    };
    socket.set_reuse_address(true).map_err(refused)?;
    let mut tries = 0;
    while let Err(error) = socket.bind(&at.into()) {
        tries += 1;
        if error.kind() != ErrorKind::AddrInUse || tries >= BIND_TRIES {
            return Err(refused(error));
        }
        thread::sleep(BIND_PAUSE);
    }
    socket.set_reuse_address(false).map_err(refused)
}

/// All addresses of both IP versions.
pub(super) const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
