//! Calls to the kernel that have no safe wrapper: interfaces, TUN devices, sockets that send and receive many
//! packets at once.
#![allow(unsafe_code, reason = "ioctls, socket options and message vectors without a safe wrapper")]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::next_hop::Mac;

/// A socket option's level and name.
pub(in crate::io) type SocketOption = (i32, i32);

/// Sets a socket option that is an integer.
pub(in crate::io) fn set_option(socket: BorrowedFd<'_>, option: SocketOption, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads one integer from `value`.
    unsafe { set_option_value(socket, option, &value) }
}

/// Reads a socket option that is an integer.
pub(in crate::io) fn option(socket: BorrowedFd<'_>, option: SocketOption) -> io::Result<i32> {
    // SAFETY: every pattern is an integer.
    unsafe { option_value(socket, option) }
}

/// # Safety
/// The kernel must take a `T` for this option.
unsafe fn set_option_value<T>(socket: BorrowedFd<'_>, option: SocketOption, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `length` octets from `value`.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), option.0, option.1, value, length) };
    checked(result)
}

/// # Safety
/// Every pattern of octets must be a `T`.
unsafe fn option_value<T>(socket: BorrowedFd<'_>, option: SocketOption) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets into `value`.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), option.0, option.1, value.as_mut_ptr().cast(), &raw mut length)
    };
    checked(result)?;
    // SAFETY: zero or written by the kernel, and any pattern is good.
    Ok(unsafe { value.assume_init() })
}

fn checked(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until a descriptor of the set is ready, at most for `timeout`. Interruptions end it early.
pub(in crate::io) fn poll(set: &mut [libc::pollfd], timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().min(3600).cast_signed(),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // SAFETY: the set and the timeout live across the call; no signal mask is given. Whatever goes wrong, the
    // worker looks at its rings and comes back.
    unsafe { libc::ppoll(set.as_mut_ptr(), set.len() as libc::nfds_t, &raw const timeout, std::ptr::null()) };
}

/// `struct ethtool_channels` (linux/ethtool.h).
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    command: u32,
    max: [u32; 4],
    receive: u32,
    transmit: u32,
    other: u32,
    combined: u32,
}

const ETHTOOL_GET_CHANNELS: u32 = 0x3c;

/// Receive and transmit queues of an interface; one each where the driver does not tell.
pub(in crate::io) fn queues(interface: &str) -> io::Result<(u32, u32)> {
    let mut channels = EthtoolChannels { command: ETHTOOL_GET_CHANNELS, ..EthtoolChannels::default() };
    let mut request = interface_request(interface)?;
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: the request points at `channels`, which lives across the call and is as large as the command says.
    match unsafe { interface_ioctl(libc::SIOCETHTOOL, &mut request) } {
        Ok(()) => Ok((
            (channels.receive + channels.combined).max(1),
            (channels.transmit + channels.combined).max(1),
        )),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok((1, 1)),
        Err(error) => Err(error),
    }
}

/// The MTU of an interface in octets.
pub(in crate::io) fn mtu(interface: &str) -> io::Result<u32> {
    let mut request = interface_request(interface)?;
    // SAFETY: this command only writes into the request itself, and then `ifru_mtu` is the field it wrote.
    unsafe {
        interface_ioctl(libc::SIOCGIFMTU, &mut request)?;
        Ok(request.ifr_ifru.ifru_mtu.max(0).cast_unsigned())
    }
}

/// Sets the MTU of an interface in octets.
pub(in crate::io) fn set_mtu(interface: &str, mtu: u32) -> io::Result<()> {
    let mut request = interface_request(interface)?;
    request.ifr_ifru.ifru_mtu = i32::try_from(mtu).unwrap_or(i32::MAX);
    // SAFETY: this command only reads the request itself.
    unsafe { interface_ioctl(libc::SIOCSIFMTU, &mut request) }
}

/// Sets an interface up.
pub(in crate::io) fn set_up(interface: &str) -> io::Result<()> {
    let mut request = interface_request(interface)?;
    // SAFETY: both commands only use the request itself, and the first wrote its flags.
    unsafe {
        interface_ioctl(libc::SIOCGIFFLAGS, &mut request)?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        interface_ioctl(libc::SIOCSIFFLAGS, &mut request)
    }
}

/// The number of an interface.
pub(in crate::io) fn index(interface: &str) -> io::Result<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(socket, interface)?)
}

/// Makes an open /dev/net/tun a queue of the device of that name, which comes to be if it is not there.
pub(in crate::io) fn attach_tun(tun: BorrowedFd<'_>, interface: &str, flags: i32) -> io::Result<()> {
    let mut request = interface_request(interface)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: this command only uses the request itself.
    checked(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// A setting of a TUN device that is passed by value.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) enum TunSetting {
    /// Whether the device outlives its last queue.
    Persistent(bool),
    /// What the kernel may leave to us (`TUN_F_*`).
    Offload(u32),
}

pub(in crate::io) fn set_tun(tun: BorrowedFd<'_>, setting: TunSetting) -> io::Result<()> {
    let (command, value) = match setting {
        TunSetting::Persistent(value) => (libc::TUNSETPERSIST, libc::c_ulong::from(value)),
        TunSetting::Offload(features) => (libc::TUNSETOFFLOAD, libc::c_ulong::from(features)),
    };
    // SAFETY: these commands take a value and touch no memory of ours.
    checked(unsafe { libc::ioctl(tun.as_raw_fd(), command, value) })
}

/// Sets the size of the header in front of every packet of a TUN device, in octets.
pub(in crate::io) fn set_tun_header(tun: BorrowedFd<'_>, octets: i32) -> io::Result<()> {
    // SAFETY: this command reads one integer.
    checked(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const octets) })
}

/// Binds a packet socket to an interface and an EtherType, from which moment on it receives.
pub(in crate::io) fn bind_packet(socket: BorrowedFd<'_>, interface: u32, ethertype: u16) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = interface.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` octets from `address`.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

/// Has an interface take in frames for a MAC address, as long as a packet socket is open.
pub(in crate::io) fn add_membership(socket: BorrowedFd<'_>, interface: u32, mac: Mac) -> io::Result<()> {
    let kind = if mac.is_group() { libc::PACKET_MR_MULTICAST } else { libc::PACKET_MR_UNICAST };
    let mut request = libc::packet_mreq {
        mr_ifindex: interface.cast_signed(),
        mr_type: kind.cast_unsigned() as u16,
        mr_alen: mac.0.len() as u16,
        mr_address: [0; 8],
    };
    request.mr_address[..mac.0.len()].copy_from_slice(&mac.0);
    // SAFETY: this option takes that structure.
    unsafe { set_option_value(socket, (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP), &request) }
}

/// Sets the program by which a group of packet sockets divides packets (packet(7), `PACKET_FANOUT_CBPF`).
pub(in crate::io) fn set_fanout_program(
    socket: BorrowedFd<'_>,
    program: &mut [libc::sock_filter],
) -> io::Result<()> {
    let value = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the option takes this structure; the kernel copies the program during the call.
    unsafe { set_option_value(socket, (libc::SOL_PACKET, libc::PACKET_FANOUT_DATA), &value) }
}

/// Sets the filter of a socket; the one before, if any, is replaced at once.
pub(in crate::io) fn set_filter(socket: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let value = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: as above.
    unsafe { set_option_value(socket, (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), &value) }
}

/// Packets that a packet socket dropped for want of room since this was asked last.
pub(in crate::io) fn packet_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: two integers: packets and drops.
    let [_, drops] =
        unsafe { option_value::<[u32; 2]>(socket, (libc::SOL_PACKET, libc::PACKET_STATISTICS))? };
    Ok(drops)
}

/// Packets that one call receives or sends at most.
pub(in crate::io) const MESSAGES: usize = 32;

/// One received packet.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::io) struct Received {
    pub(in crate::io) octets: usize,
    /// The packet was longer than its buffer.
    pub(in crate::io) is_truncated: bool,
}

/// Receives a packet into each of the first buffers, without waiting. Returns how many.
pub(in crate::io) fn receive_packets(
    socket: BorrowedFd<'_>,
    buffers: &mut [IoSliceMut<'_>],
    received: &mut [Received; MESSAGES],
) -> io::Result<usize> {
    let count = buffers.len().min(MESSAGES);
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { std::mem::zeroed() };
    for (message, buffer) in messages.iter_mut().zip(buffers.iter_mut()) {
        // `IoSliceMut` has the layout of `iovec` (std's documentation).
        message.msg_hdr.msg_iov = std::ptr::from_mut(buffer).cast();
        message.msg_hdr.msg_iovlen = 1;
    }
    let socket = socket.as_raw_fd();
    // SAFETY: each of the first `count` messages points at one buffer that is borrowed for the call.
    let result = unsafe {
        libc::recvmmsg(socket, messages.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT, std::ptr::null_mut())
    };
    let got = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    for (message, received) in messages[..got].iter().zip(received) {
        received.octets = message.msg_len as usize;
        received.is_truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
    }
    Ok(got)
}

/// A destination as the kernel takes it.
#[derive(Clone, Copy)]
#[repr(C)]
union Destination {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Destination {
    /// `interface` is the scope of a link-local address (RFC 4007 section 11).
    fn new(address: IpAddr, interface: u32) -> (Self, usize) {
        // SAFETY: all-zero is a valid value of these plain C structures.
        let mut destination: Self = unsafe { std::mem::zeroed() };
        match address {
            IpAddr::V4(address) => {
                destination.v4.sin_family = libc::AF_INET as u16;
                destination.v4.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
                (destination, size_of::<libc::sockaddr_in>())
            }
            IpAddr::V6(address) => {
                let scope = if address.is_unicast_link_local() { interface } else { 0 };
                destination.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: 0,
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.octets() },
                    sin6_scope_id: scope,
                };
                (destination, size_of::<libc::sockaddr_in6>())
            }
        }
    }
}

/// Sends packets to their destinations, without waiting. Returns how many went before one was refused; the error
/// is that of the first.
pub(in crate::io) fn send_packets(
    socket: BorrowedFd<'_>,
    packets: &[(IoSlice<'_>, IpAddr)],
    interface: u32,
) -> io::Result<usize> {
    let count = packets.len().min(MESSAGES);
    // SAFETY: all-zero is a valid value of these plain C structures.
    let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut destinations: [Destination; MESSAGES] = unsafe { std::mem::zeroed() };
    for ((packet, address), (message, destination)) in
        packets.iter().zip(messages.iter_mut().zip(&mut destinations))
    {
        let length;
        (*destination, length) = Destination::new(*address, interface);
        message.msg_hdr.msg_name = std::ptr::from_mut(destination).cast();
        message.msg_hdr.msg_namelen = length as libc::socklen_t;
        // `IoSlice` has the layout of `iovec` (std's documentation), and sending only reads.
        message.msg_hdr.msg_iov = std::ptr::from_ref(packet).cast_mut().cast();
        message.msg_hdr.msg_iovlen = 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: each of the first `count` messages points at a destination and a packet that live across the call.
    let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as u32, flags) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn interface_request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// # Safety
/// What `command` reads and writes through the request must be valid.
unsafe fn interface_ioctl(command: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: passed on to the caller.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), command, std::ptr::from_mut(request)) })
}
