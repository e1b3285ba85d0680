//! The outer side on plain sockets, where AF_XDP is not to be had: in a container with CAP_NET_RAW and
//! CAP_NET_ADMIN only, or on an interface whose driver does not take a program.
//!
//! Receiving: packet sockets (packet(7)) on the outer interface, one per IP version and worker, with a filter for
//! what is ours ([`filter`]). Raw IP sockets would not do: those for IPv6 keep the IP header, and with it what ECN
//! and outer address checks need, to themselves. Packet sockets give the whole packet of either version, ESP
//! and UDP-encapsulated ESP by one way, before the host's packet filter: as AF_XDP does.
//!
//! A packet socket gets a copy. The kernel goes on with the original, and would tell the peer that nobody is there.
//! So there is somebody ([`guard`]): a raw socket for ESP, which makes the kernel content (it sends "protocol
//! unreachable" only if no raw socket took the packet), and a UDP socket on each encapsulation port that nobody
//! else has. Both have a filter that discards everything. The UDP socket steps back for an IKE daemon:
//! whoever binds the port after it with `SO_REUSEADDR` gets the datagrams, and if the port is taken already, there is
//! no need for one. IKE is never taken from the kernel.
//!
//! What the XDP program also does, and this medium does not: it keeps packets in clear that claim to come from behind a
//! tunnel (RFC 4301 section 5.2) from the kernel. Sockets cannot; reverse path filtering (`net.ipv4.conf.*.rp_filter`),
//! with the protected prefixes routed to the inner side, or a rule of the host's packet filter can.
//!
//! Sending: raw sockets with the IP header included (raw(7)), one per IP version and worker. The kernel routes the
//! packets. It neither applies a path MTU of its own nor fragments below the interface's MTU: what a
//! tunnel's path takes is the pipeline's business. They have the mark that passes by our own routing rule
//! ([`crate::divert`], [`crate::prohibit`]): a peer's address may lie within a network that it protects, as every address does within
//! 0.0.0.0/0, and ESP that is led into the TUN device would be sealed again without end.

mod filter;
mod guard;
mod port;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tracing::info;

use filter::Family;
use guard::Guards;
pub(in crate::io) use port::SocketPort;

use super::af_xdp::MAX_MTU;
use super::system;
use crate::prohibit::MARK;

/// Where UDP-encapsulated ESP arrives (RFC 3948 section 2.1).
pub const ENCAPSULATION_PORT: u16 = 4500;

/// Octets that may wait in one socket: the kernel's limits on what processes ask for are made for streams.
const BUFFER: usize = 8 << 20;

/// Which packets are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// The interface on which they arrive.
    pub interface: String,
    /// Our outer addresses; with none, ESP to any address of this host is taken.
    pub addresses: Vec<IpAddr>,
    /// UDP ports on which encapsulated ESP arrives.
    pub encapsulation_ports: Vec<u16>,
}

impl SocketOptions {
    /// The usual options: ESP, and encapsulated ESP on port 4500.
    pub fn new(interface: impl Into<String>, addresses: Vec<IpAddr>) -> Self {
        Self { interface: interface.into(), addresses, encapsulation_ports: vec![ENCAPSULATION_PORT] }
    }
}

/// Why the outer side's sockets cannot be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The interface is not in this network namespace.
    #[error("there is no interface `{0}` in this network namespace; check the name with `ip link`")]
    NoSuchInterface(String),
    /// A capability is missing.
    #[error("not allowed to open raw and packet sockets; run as root or grant CAP_NET_RAW and CAP_NET_ADMIN")]
    NotPermitted,
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
    /// Anything else the kernel refused.
    #[error("the kernel refused to {action}: {source}")]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn refused(action: &'static str) -> impl Fn(io::Error) -> SocketError {
    move |source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => SocketError::NotPermitted,
        _ => SocketError::Refused { action, source },
    }
}

/// The sockets of one worker.
#[derive(Debug)]
pub(in crate::io) struct Sockets {
    receivers: Arc<Receivers>,
    senders: [Option<Socket>; 2],
    interface: u32,
    /// As long as anybody receives, somebody is there for the kernel.
    _guards: Arc<Guards>,
}

/// The receiving sockets of one worker.
#[derive(Debug)]
struct Receivers {
    sockets: [Socket; 2],
    ports: Vec<u16>,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Changes which packets a worker's sockets take, while it runs.
#[derive(Clone, Debug)]
pub struct OuterFilter(Arc<Receivers>);

impl OuterFilter {
    /// Takes ESP to these addresses from now on.
    ///
    /// # Errors
    /// [`SocketError::Refused`]; one IP version may have the new filter then and the other the old.
    pub fn set_addresses(&self, addresses: &[IpAddr]) -> Result<(), SocketError> {
        self.0.set_addresses(addresses)
    }
}

impl Receivers {
    fn set_addresses(&self, addresses: &[IpAddr]) -> Result<(), SocketError> {
        for (family, socket) in FAMILIES.into_iter().zip(&self.sockets) {
            let mut program = filter::ours(family, addresses, &self.ports);
            system::set_filter(socket.as_fd(), &mut program).map_err(refused("filter packets"))?;
        }
        Ok(())
    }
}

/// Opens the sockets of this many workers.
pub(super) fn open(options: &SocketOptions, workers: u16) -> Result<Vec<Sockets>, SocketError> {
    let interface = check_interface(&options.interface)?;
    let guards = Arc::new(Guards::open(&options.encapsulation_ports)?);
    let mut groups = [None; 2];
    let mut all = Vec::new();
    for _ in 0..workers {
        let mut receiver = |index: usize| receiver(FAMILIES[index], interface, workers, &mut groups[index]);
        let sockets = [receiver(0)?, receiver(1)?];
        let receivers = Arc::new(Receivers { sockets, ports: options.encapsulation_ports.clone() });
        let senders = [sender(Family::V4)?, sender(Family::V6)?];
        all.push(Sockets { receivers, senders, interface, _guards: Arc::clone(&guards) });
    }
    // Until now they took nothing: a socket that is not in its group yet would take what is another's.
    for sockets in &all {
        sockets.receivers.set_addresses(&options.addresses)?;
    }
    if all.iter().any(|sockets| sockets.senders[1].is_none()) {
        info!("this host has no IPv6; the outer side has IPv4 only");
    }
    Ok(all)
}

fn check_interface(interface: &str) -> Result<u32, SocketError> {
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENODEV) => SocketError::NoSuchInterface(interface.to_owned()),
        _ => refused("describe the interface")(source),
    };
    let index = system::index(interface).map_err(failed)?;
    let mtu = system::mtu(interface).map_err(failed)?;
    if mtu > MAX_MTU {
        return Err(SocketError::MtuTooLarge { interface: interface.to_owned(), mtu });
    }
    Ok(index)
}

/// A packet socket in the group of all workers' for this family; `group` is the group's number once there is one.
fn receiver(
    family: Family,
    interface: u32,
    workers: u16,
    group: &mut Option<i32>,
) -> Result<Socket, SocketError> {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).map_err(refused("open a packet socket"))?;
    system::set_filter(socket.as_fd(), &mut filter::nothing()).map_err(refused("filter packets"))?;
    let ethertype = match family {
        Family::V4 => crate::packet::ethernet::IPV4,
        Family::V6 => crate::packet::ethernet::IPV6,
    };
    system::bind_packet(socket.as_fd(), interface, ethertype).map_err(refused("bind a packet socket"))?;
    enlarge_receive_buffer(&socket);
    if workers > 1 {
        join(&socket, family, group).map_err(refused("divide packets among workers"))?;
    }
    Ok(socket)
}

fn join(socket: &Socket, family: Family, group: &mut Option<i32>) -> io::Result<()> {
    const FANOUT: system::SocketOption = (libc::SOL_PACKET, libc::PACKET_FANOUT);
    let by_program = (libc::PACKET_FANOUT_CBPF << 16).cast_signed();
    if let Some(group) = *group {
        return system::set_option(socket.as_fd(), FANOUT, by_program | group);
    }
    let unique = (libc::PACKET_FANOUT_FLAG_UNIQUEID << 16).cast_signed();
    system::set_option(socket.as_fd(), FANOUT, by_program | unique)?;
    *group = Some(system::option(socket.as_fd(), FANOUT)? & 0xffff);
    system::set_fanout_program(socket.as_fd(), &mut filter::by_spi(family))
}

/// A raw socket that sends packets as they are, or `None` where the host lacks the family.
fn sender(family: Family) -> Result<Option<Socket>, SocketError> {
    let Some(socket) = raw_socket(family, libc::IPPROTO_RAW)? else { return Ok(None) };
    let probe = match family {
        Family::V4 => {
            socket.set_header_included_v4(true).map_err(refused("send IPv4 headers"))?;
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
        }
        Family::V6 => {
            socket.set_header_included_v6(true).map_err(refused("send IPv6 headers"))?;
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
        }
    };
    system::set_option(socket.as_fd(), (probe.0, probe.1), probe.2)
        .map_err(refused("leave the path MTU to us"))?;
    let mark = (libc::SOL_SOCKET, libc::SO_MARK);
    system::set_option(socket.as_fd(), mark, MARK.cast_signed()).map_err(refused("mark ESP packets"))?;
    enlarge_send_buffer(&socket);
    Ok(Some(socket))
}

/// A raw socket that receives nothing.
fn raw_socket(family: Family, protocol: i32) -> Result<Option<Socket>, SocketError> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = match Socket::new(domain, Type::RAW, Some(Protocol::from(protocol))) {
        Ok(socket) => socket,
        Err(error) if is_missing_family(&error, family) => return Ok(None),
        Err(error) => return Err(refused("open a raw socket")(error)),
    };
    system::set_filter(socket.as_fd(), &mut filter::nothing()).map_err(refused("filter packets"))?;
    Ok(Some(socket))
}

fn is_missing_family(error: &io::Error, family: Family) -> bool {
    family == Family::V6 && error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// Beyond the limit if allowed; what the kernel grants otherwise does too.
fn enlarge_receive_buffer(socket: &Socket) {
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER);
    }
}

fn enlarge_send_buffer(socket: &Socket) {
    if sockopt::set_socket_send_buffer_size_force(socket, BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER);
    }
}
