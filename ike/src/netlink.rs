//! The frame of the kernel's messages about its network (netlink(7), rtnetlink(7)), for sockets that are opened while there
//! are privileges and read without any.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// The kernel fills no more octets in one go.
pub const BUFFER: usize = 64 << 10;
/// Octets of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// Octets of `struct rtattr`.
pub const ATTRIBUTE_HEADER: usize = 4;

/// A socket that does not block and is told what belongs to these groups (`RTMGRP_*`).
///
/// # Errors
/// If the kernel lacks netlink, or there are no file descriptors left.
pub fn open(groups: u32) -> io::Result<OwnedFd> {
    // Without a protocol it is NETLINK_ROUTE.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// A request for everything of a kind (`RTM_GET*`), whose own header has so many octets.
pub fn request_all(kind: u16, header: usize) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut octets = Vec::with_capacity(HEADER + header);
    octets.extend(((HEADER + header) as u32).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.resize(HEADER + header, 0);
    octets
}

/// The type and body of the first message, and what follows it.
pub fn message(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*octets.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*octets.get(4..)?.first_chunk()?);
    let body = octets.get(HEADER..length)?;
    Some((kind, body, octets.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The type and value of the first attribute, and what follows it.
pub fn attribute(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*octets.first_chunk()?));
    let kind = u16::from_ne_bytes(*octets.get(2..)?.first_chunk()?);
    let value = octets.get(ATTRIBUTE_HEADER..length)?;
    Some((kind, value, octets.get(length.next_multiple_of(4)..).unwrap_or_default()))
}
