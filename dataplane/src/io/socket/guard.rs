//! Sockets that receive nothing, and by their being there keep the kernel from answering peers that nobody listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use socket2::{Domain, Socket, Type};
use tracing::info;

use super::filter::{self, Family};
use super::{FAMILIES, SocketError, is_missing_family, raw_socket, refused};
use crate::io::system;
use crate::packet::ipv4::ESP;

/// The sockets; one set serves all workers.
#[derive(Debug)]
pub(super) struct Guards {
    _sockets: Vec<Socket>,
}

impl Guards {
    pub(super) fn open(ports: &[u16]) -> Result<Self, SocketError> {
        let mut sockets = Vec::new();
        for family in FAMILIES {
            sockets.extend(raw_socket(family, i32::from(ESP))?);
            for port in ports {
                sockets.extend(udp_guard(family, *port)?);
            }
        }
        Ok(Self { _sockets: sockets })
    }
}

/// A UDP socket on a port; `None` where it is taken, or the host lacks the family.
fn udp_guard(family: Family, port: u16) -> Result<Option<Socket>, SocketError> {
    let (domain, any) = match family {
        Family::V4 => (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Family::V6 => (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = match Socket::new(domain, Type::DGRAM, None) {
        Ok(socket) => socket,
        Err(error) if is_missing_family(&error, family) => return Ok(None),
        Err(error) => return Err(refused("open a UDP socket")(error)),
    };
    if family == Family::V6 {
        socket.set_only_v6(true).map_err(refused("divide IP versions"))?;
    }
    system::set_filter(socket.as_fd(), &mut filter::nothing()).map_err(refused("filter packets"))?;
    match socket.bind(&SocketAddr::new(any, port).into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
            info!(port, "another process has the UDP port for encapsulated ESP, and keeps IKE on it");
            return Ok(None);
        }
        Err(error) => return Err(refused("bind the UDP port for encapsulated ESP")(error)),
    }
    // Only now: with it, the bind would have succeeded beside another process and taken its datagrams.
    socket.set_reuse_address(true).map_err(refused("share the UDP port"))?;
    Ok(Some(socket))
}
