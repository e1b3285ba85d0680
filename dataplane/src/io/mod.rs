//! Where frames come from and go to: one trait, several media.
//!
//! The pipeline only knows [`PacketIo`]. AF_XDP sockets, a pool in memory (tests and benches) and pcap files
//! stand behind it, so that what runs without privileges is the very code that runs on a network card.

pub mod af_xdp;
pub mod membership;
pub mod memory;
pub mod pcap;
pub mod socket;
mod system;
pub mod tun;

use std::ops::{DerefMut, Range};
use std::time::Duration;

/// Octets of one frame buffer, head- and tailroom included.
pub const FRAME_SIZE: usize = 4096;

/// Octets kept free in front of a received packet, so that outer headers are written in place.
pub const HEADROOM: usize = 256;

/// The two sides of the gateway (RFC 4301 section 3.1: the boundary between protected and unprotected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The ciphertext side.
    Outer,
    /// The plaintext side.
    Inner,
}

impl Side {
    /// Both sides, in the order in which their indices run.
    pub const ALL: [Self; 2] = [Self::Outer, Self::Inner];

    /// 0 for outer, 1 for inner: the index of this side in an array of two.
    pub const fn index(self) -> usize {
        match self {
            Self::Outer => 0,
            Self::Inner => 1,
        }
    }

    /// The operator's word for this side.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
        }
    }

    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Outer => Self::Inner,
            Self::Inner => Self::Outer,
        }
    }
}

/// One packet buffer, owned by whoever holds the value: it is moved, never copied, and goes back by
/// [`PacketIo::transmit`] or [`PacketIo::release`]. Plain data, so that it can pass a ring between workers
/// that share a pool.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its pool: transmit or release it"]
pub struct Frame {
    /// Where the buffer lies: the UMEM address of its first octet, or its number in a memory pool.
    pub(crate) index: u64,
    /// Offset of the Ethernet header in the buffer, in octets.
    pub start: u32,
    /// Octets from the Ethernet header to the end of the packet.
    pub length: u32,
    /// The side on which it was received.
    pub side: Side,
}

impl Frame {
    /// The same frame with its packet elsewhere in the buffer. A new value, not a change in place: to write single
    /// fields and then move the whole costs the processor a stalled load per packet.
    #[inline]
    pub(crate) fn with_packet(self, range: Range<usize>) -> Self {
        let length = range.end.saturating_sub(range.start) as u32;
        Self { index: self.index, start: range.start as u32, length, side: self.side }
    }

    /// The octets of the packet within its whole buffer.
    #[inline]
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An Ethernet header; the sender names the next hop's link address.
    Ethernet,
    /// The IP header itself; the kernel routes what is sent.
    Ip,
}

/// A frame together with its buffer, so that many can be worked on at once. Made by [`PacketIo::lend`]; the buffer
/// is nobody else's until [`PacketIo::take_back`].
#[derive(Debug)]
#[must_use = "a packet that is dropped is lost to its pool: take it back"]
pub struct Packet<B> {
    /// The whole buffer, head- and tailroom included.
    pub buffer: B,
    /// Offset of the packet in the buffer, in octets.
    pub start: u32,
    /// Octets of the packet.
    pub length: u32,
    /// The side on which it was received.
    pub side: Side,
}

impl<B: DerefMut<Target = [u8]>> Packet<B> {
    /// The octets of the packet within its whole buffer.
    #[inline]
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }

    /// Declares the packet to be elsewhere in the buffer.
    #[inline]
    pub fn set_range(&mut self, range: Range<usize>) {
        self.length = range.end.saturating_sub(range.start) as u32;
        self.start = range.start as u32;
    }

    /// The packet; empty if it reaches out of its buffer.
    #[inline]
    pub fn octets(&self) -> &[u8] {
        self.buffer.get(self.range()).unwrap_or_default()
    }
}

/// Whether a bare packet begins with a whole IP header: the least that the kernel wants of what it is given.
pub(crate) fn is_ip_packet(packet: &[u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet.len() >= crate::packet::ipv4::HEADER,
        Some(6) => packet.len() >= crate::packet::ipv6::HEADER,
        _ => false,
    }
}

/// A source and sink of frames for one worker. All methods belong to the hot path: an implementation
/// allocates nothing. With rings it makes system calls only in [`flush`](Self::flush) and [`wait`](Self::wait);
/// without, also in [`receive`](Self::receive) and [`transmit`](Self::transmit).
pub trait PacketIo: Send {
    /// A lent buffer of [`FRAME_SIZE`] octets.
    type Buffer: DerefMut<Target = [u8]> + Send;

    /// What frames of `side` begin with, received and sent alike.
    fn medium(&self, side: Side) -> Medium {
        let _ = side;
        Medium::Ethernet
    }

    /// Appends received frames of `side` to `batch` up to its capacity, which never grows. Returns how many.
    fn receive(&mut self, side: Side, batch: &mut Vec<Frame>) -> usize;

    /// The whole buffer of `frame`, head- and tailroom included; the packet is at [`Frame::range`].
    fn buffer(&mut self, frame: &Frame) -> &mut [u8];

    /// Parts with the buffer of `frame`, so that several are at hand at once. All must be taken back before the
    /// I/O ends.
    fn lend(&mut self, frame: Frame) -> Packet<Self::Buffer>;

    /// The opposite of [`lend`](Self::lend), on any I/O of the same pool.
    fn take_back(&mut self, packet: Packet<Self::Buffer>) -> Frame;

    /// Sends all `frames` on `side` and empties the vector. Frames that find no room are released and counted
    /// by the implementation.
    fn transmit(&mut self, side: Side, frames: &mut Vec<Frame>);

    /// A free frame with the usual headroom and length 0, or `None` when the pool is empty.
    fn allocate(&mut self) -> Option<Frame>;

    /// Gives a frame back to the pool.
    fn release(&mut self, frame: Frame);

    /// Prepares a frame to be moved to another worker on the same pool. Nothing to do where the memory is
    /// mapped by all of them.
    fn hand_over(&mut self, frame: &Frame) {
        let _ = frame;
    }

    /// Kicks transmit rings, harvests completions and refills: once per turn of a worker.
    fn flush(&mut self);

    /// Sleeps until something may be received, at most for `timeout`.
    fn wait(&mut self, timeout: Duration);
}
