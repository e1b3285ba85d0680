//! One worker's outer sockets: many packets per call, straight into frames and out of them.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{FAMILIES, OuterFilter, Sockets};
use crate::io::af_xdp::SideCounters;
use crate::io::af_xdp::counters::add;
use crate::io::af_xdp::pool::FreeFrames;
use crate::io::af_xdp::system::{Buffers, FrameBuffer};
use crate::io::system::{self, MESSAGES, Received};
use crate::io::{FRAME_SIZE, Frame, HEADROOM, Packet, Side, is_ip_packet};
use crate::packet::{ipv4, ipv6};

/// The sockets, used by one worker.
#[derive(Debug)]
pub(in crate::io) struct SocketPort {
    pub(in crate::io) side: Side,
    sockets: Sockets,
    /// Buffers lent for the time of one call.
    lent: Vec<Packet<FrameBuffer>>,
    /// Packets that the kernel dropped for want of room, and what was longer than a frame.
    drops: [AtomicU64; 2],
}

impl SocketPort {
    pub(in crate::io) fn new(side: Side, sockets: Sockets) -> Self {
        Self { side, sockets, lent: Vec::with_capacity(MESSAGES), drops: Default::default() }
    }

    /// The sockets to wait for.
    pub(in crate::io) fn raw_fds(&self) -> [RawFd; 2] {
        let [v4, v6] = &self.sockets.receivers.sockets;
        [v4.as_raw_fd(), v6.as_raw_fd()]
    }

    pub(in crate::io) fn filter(&self) -> OuterFilter {
        OuterFilter(Arc::clone(&self.sockets.receivers))
    }

    /// Packets lost because the sockets were full, and for other reasons.
    pub(in crate::io) fn drops(&self) -> [u64; 2] {
        let news = self.sockets.receivers.sockets.iter().map(|socket| system::packet_drops(socket.as_fd()));
        add(&self.drops[0], news.map(|drops| u64::from(drops.unwrap_or(0))).sum());
        [self.drops[0].load(Ordering::Relaxed), self.drops[1].load(Ordering::Relaxed)]
    }

    /// Appends received packets to `batch`, within its capacity.
    pub(in crate::io) fn receive(
        &mut self,
        batch: &mut Vec<Frame>,
        frames: &mut FreeFrames,
        buffers: &mut Buffers,
    ) -> usize {
        let before = batch.len();
        for family in 0..FAMILIES.len() {
            loop {
                let wanted = (batch.capacity() - batch.len()).min(MESSAGES);
                if self.receive_some(family, wanted, batch, (frames, buffers)) < wanted || wanted == 0 {
                    break;
                }
            }
        }
        batch.len() - before
    }

    /// Receives from one socket by one call. Returns how many packets came.
    fn receive_some(
        &mut self,
        family: usize,
        wanted: usize,
        batch: &mut Vec<Frame>,
        (frames, buffers): (&mut FreeFrames, &mut Buffers),
    ) -> usize {
        let free = std::iter::from_fn(|| frames.allocate(self.side)).take(wanted);
        self.lent.extend(free.map(|frame| buffers.lend_packet(frame)));
        let mut received = [Received::default(); MESSAGES];
        let got = self.receive_into_lent(family, &mut received);
        for (index, packet) in self.lent.drain(..).enumerate() {
            let frame = buffers.take_packet_back(packet);
            let whole = index < got && !received[index].is_truncated;
            if whole {
                batch.push(frame.with_packet(HEADROOM..HEADROOM + received[index].octets));
            } else {
                add(&self.drops[1], u64::from(index < got));
                frames.release(&frame);
            }
        }
        got
    }

    fn receive_into_lent(&mut self, family: usize, received: &mut [Received; MESSAGES]) -> usize {
        let mut slices: [IoSliceMut<'_>; MESSAGES] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let count = self.lent.len();
        for (slice, packet) in slices.iter_mut().zip(&mut self.lent) {
            *slice = IoSliceMut::new(&mut packet.buffer[HEADROOM..FRAME_SIZE]);
        }
        let socket = &self.sockets.receivers.sockets[family];
        // What can go wrong besides an empty socket is that the link is down.
        system::receive_packets(socket.as_fd(), &mut slices[..count], received).unwrap_or(0)
    }

    /// Sends packets; those that the kernel does not take are released and counted.
    pub(in crate::io) fn transmit(
        &mut self,
        batch: &mut Vec<Frame>,
        frames: &mut FreeFrames,
        buffers: &mut Buffers,
        counters: &SideCounters,
    ) {
        while !batch.is_empty() {
            let some = batch.len().min(MESSAGES);
            self.lent.extend(batch.drain(..some).map(|frame| buffers.lend_packet(frame)));
            for family in 0..FAMILIES.len() {
                self.send_lent(family, counters);
            }
            let invalid = self.lent.iter().filter(|packet| destination(packet.octets()).is_none());
            add(&counters.transmit_invalid, invalid.count() as u64);
            for packet in self.lent.drain(..) {
                frames.release(&buffers.take_packet_back(packet));
            }
        }
    }

    /// Sends the lent packets of one family.
    fn send_lent(&self, family: usize, counters: &SideCounters) {
        let mut messages = [(IoSlice::new(&[]), IpAddr::V4(Ipv4Addr::UNSPECIFIED)); MESSAGES];
        let mut count = 0;
        for packet in &self.lent {
            if let Some(to) = destination(packet.octets())
                && FAMILIES[family].owns(&to)
            {
                messages[count] = (IoSlice::new(packet.octets()), to);
                count += 1;
            }
        }
        self.send(family, &messages[..count], counters);
    }

    fn send(&self, family: usize, mut messages: &[(IoSlice<'_>, IpAddr)], counters: &SideCounters) {
        let Some(socket) = &self.sockets.senders[family] else {
            return add(&counters.transmit_refused, messages.len() as u64);
        };
        while !messages.is_empty() {
            match system::send_packets(socket.as_fd(), messages, self.sockets.interface) {
                Ok(sent) => {
                    add(&counters.transmitted, sent as u64);
                    messages = &messages[sent..];
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return add(&counters.transmit_ring_full, messages.len() as u64);
                }
                // No route, or too long for the interface: the first packet's trouble alone.
                Err(_) => {
                    add(&counters.transmit_refused, 1);
                    messages = &messages[1..];
                }
            }
        }
    }
}

/// Where a packet wants to go.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    if !is_ip_packet(packet) {
        return None;
    }
    match packet[0] >> 4 {
        4 => packet[..ipv4::HEADER][16..].first_chunk().map(|octets| Ipv4Addr::from_octets(*octets).into()),
        _ => packet[..ipv6::HEADER][24..].first_chunk().map(|octets| Ipv6Addr::from_octets(*octets).into()),
    }
}
