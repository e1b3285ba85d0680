//! The two calls to the kernel that have no safe wrapper.
#![allow(unsafe_code, reason = "socket options and message vectors without a safe wrapper")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::address::{CONTROL_OCTETS, NAME_OCTETS, read_destination, read_name};

/// Datagrams that one call receives at most.
const MESSAGES: usize = 32;
/// The longest UDP datagram fits.
const BUFFER_OCTETS: usize = 1 << 16;

/// Sets a socket option that is an integer.
pub(super) fn set_option(socket: BorrowedFd<'_>, (level, name): (i32, i32), value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` octets from `value`, which is borrowed for the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A control message's header wants its alignment.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_OCTETS]);

/// Where datagrams are received: the same memory for all sockets.
#[derive(Debug)]
pub struct Inbox {
    octets: Vec<u8>,
    names: [[u8; NAME_OCTETS]; MESSAGES],
    controls: [Control; MESSAGES],
    lengths: [Lengths; MESSAGES],
    count: usize,
}

/// What the kernel wrote of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    octets: usize,
    name: usize,
    control: usize,
}

/// A received datagram.
#[derive(Debug)]
pub(super) struct Received<'a> {
    /// Our address that it was sent to.
    pub(super) to: Option<IpAddr>,
    /// Who sent it.
    pub(super) from: Option<SocketAddr>,
    /// What was in it.
    pub(super) octets: &'a [u8],
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox {
    /// Room for [`MESSAGES`] datagrams.
    pub fn new() -> Self {
        Self {
            octets: vec![0; MESSAGES * BUFFER_OCTETS],
            names: [[0; NAME_OCTETS]; MESSAGES],
            controls: [Control([0; CONTROL_OCTETS]); MESSAGES],
            lengths: [Lengths::default(); MESSAGES],
            count: 0,
        }
    }

    /// Receives what is there, at most [`MESSAGES`] and `limit`, without waiting; says how many.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        self.count = 0;
        let count = limit.min(MESSAGES);
        // SAFETY: all-zero is a valid value of these plain C structures.
        let mut vectors: [libc::iovec; MESSAGES] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { std::mem::zeroed() };
        let buffers = self.octets.chunks_exact_mut(BUFFER_OCTETS);
        let rooms = buffers.zip(self.names.iter_mut().zip(&mut self.controls));
        for ((buffer, (name, control)), (vector, message)) in rooms.zip(vectors.iter_mut().zip(&mut messages))
        {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut message.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = name.as_mut_ptr().cast();
            header.msg_namelen = NAME_OCTETS as libc::socklen_t;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_OCTETS;
        }
        // SAFETY: each message points at a vector, a name and a control buffer that live across the call, with their
        // lengths, and each vector at a buffer of its own.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.count = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
        for (message, lengths) in messages[..self.count].iter().zip(&mut self.lengths) {
            *lengths = Lengths {
                octets: message.msg_len as usize,
                name: message.msg_hdr.msg_namelen as usize,
                control: message.msg_hdr.msg_controllen,
            };
        }
        Ok(self.count)
    }

    /// What the last call received.
    pub(super) fn received(&self) -> impl Iterator<Item = Received<'_>> {
        let buffers = self.octets.chunks_exact(BUFFER_OCTETS).zip(self.names.iter().zip(&self.controls));
        buffers.zip(&self.lengths).take(self.count).map(|((buffer, (name, control)), lengths)| Received {
            to: control.0.get(..lengths.control).and_then(read_destination),
            from: name.get(..lengths.name).and_then(read_name),
            octets: buffer.get(..lengths.octets).unwrap_or_default(),
        })
    }
}
