//! One queue of a TUN device: packets are read into frames, super-packets by way of a buffer of their own.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::{Errno, readv, writev};

use super::coalesce::Run;
use super::segment::{HEADER, OffloadHeader, Segmentation, complete_checksum};
use crate::io::af_xdp::counters::add;
use crate::io::af_xdp::pool::FreeFrames;
use crate::io::af_xdp::system::{Buffers, FrameBuffer};
use crate::io::af_xdp::{MAX_MTU, SideCounters};
use crate::io::{Frame, HEADROOM, Packet, Side, is_ip_packet};

/// Octets of a packet that a frame takes, so that there is room for ESP around it.
const ROOM: usize = MAX_MTU as usize;

/// Octets of a super-packet at most: IPv6's header and a payload whose length fits its field.
const SUPER_PACKET: usize = 40 + 65535;

/// Packets that are looked at together, to be written as one where possible.
const LENT: usize = 64;

/// One queue, used by one worker.
#[derive(Debug)]
pub(in crate::io) struct TunPort {
    pub(in crate::io) side: Side,
    queue: OwnedFd,
    /// The super-packet that is being segmented.
    whole: Box<[u8]>,
    segmentation: Option<Segmentation>,
    /// Somebody removed the device, which does not come back.
    is_gone: bool,
    /// Buffers lent for the time of one call.
    lent: Vec<Packet<FrameBuffer>>,
    /// Packets dropped for want of a frame, and those that contradicted themselves.
    drops: [AtomicU64; 2],
}

/// What became of an attempt to read.
enum Read {
    Frame(Frame),
    /// That many octets are in the frame.
    Packet(usize),
    /// The rest is in `segmentation`.
    SuperPacket,
    Dropped,
    Nothing,
}

impl TunPort {
    pub(in crate::io) fn new(side: Side, queue: OwnedFd) -> Self {
        let whole = vec![0; SUPER_PACKET].into_boxed_slice();
        Self {
            side,
            queue,
            whole,
            segmentation: None,
            is_gone: false,
            lent: Vec::with_capacity(LENT),
            drops: Default::default(),
        }
    }

    pub(in crate::io) fn raw_fd(&self) -> RawFd {
        self.queue.as_raw_fd()
    }

    /// Whether segments wait that no descriptor announces.
    pub(in crate::io) fn has_work(&self) -> bool {
        self.segmentation.is_some()
    }

    /// Whether the descriptor announces nothing but that there is no device any more, and that without end.
    pub(in crate::io) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Packets lost because no frame was free, and for other reasons.
    pub(in crate::io) fn drops(&self) -> [u64; 2] {
        [self.drops[0].load(Ordering::Relaxed), self.drops[1].load(Ordering::Relaxed)]
    }

    /// Appends packets to `batch`, within its capacity. Segments that find no room there wait for the next call. No more
    /// is read than there is room for, even if all of it is dropped: else, with no frame free, a sender that is as
    /// fast as this would keep the worker here, and its frames from coming free.
    pub(in crate::io) fn receive(
        &mut self,
        batch: &mut Vec<Frame>,
        frames: &mut FreeFrames,
        buffers: &mut Buffers,
    ) -> usize {
        let before = batch.len();
        let mut reads = batch.capacity() - before;
        while batch.len() < batch.capacity() {
            if self.segmentation.is_some() {
                match self.next_segment(frames, buffers) {
                    Some(frame) => batch.push(frame),
                    None => self.segmentation = None,
                }
                continue;
            }
            if reads == 0 {
                break;
            }
            reads -= 1;
            match self.read(frames, buffers) {
                Read::Frame(frame) => batch.push(frame),
                Read::Packet(_) | Read::SuperPacket | Read::Dropped => {}
                Read::Nothing => break,
            }
        }
        batch.len() - before
    }

    fn next_segment(&mut self, frames: &mut FreeFrames, buffers: &mut Buffers) -> Option<Frame> {
        let segmentation = self.segmentation.as_mut()?;
        if segmentation.is_done() {
            return None;
        }
        let Some(frame) = frames.allocate(self.side) else {
            add(&self.drops[0], segmentation.remaining() as u64);
            return None;
        };
        let into = &mut buffers.get(&frame)[HEADROOM..HEADROOM + ROOM];
        if let Some(length) = segmentation.write_next(&self.whole, into) {
            return Some(frame.with_packet(HEADROOM..HEADROOM + length));
        }
        frames.release(&frame);
        None
    }

    /// Reads a packet: what fits into a frame, the rest to where it belongs in the whole.
    fn read(&mut self, frames: &mut FreeFrames, buffers: &mut Buffers) -> Read {
        let Some(frame) = frames.allocate(self.side) else { return self.read_in_vain() };
        let room = &mut buffers.get(&frame)[HEADROOM..HEADROOM + ROOM];
        let mut header = [0; HEADER];
        let rest = &mut self.whole[ROOM..];
        let mut vector = [&mut header[..], room, rest].map(IoSliceMut::new);
        let read = match readv(&self.queue, &mut vector) {
            Ok(octets) => self.sort(octets.saturating_sub(HEADER), OffloadHeader::parse(header), room),
            Err(error) => self.failed(error),
        };
        if let Read::Packet(length) = read {
            return Read::Frame(frame.with_packet(HEADROOM..HEADROOM + length));
        }
        frames.release(&frame);
        read
    }

    /// What was read: a packet in `room`, or a super-packet that began there.
    fn sort(&mut self, length: usize, header: OffloadHeader, room: &mut [u8]) -> Read {
        if !header.is_super_packet() {
            let packet = room.get_mut(..length).filter(|packet| is_ip_packet(packet));
            let completed = packet.and_then(|packet| complete_checksum(header, packet));
            return if completed.is_some() { Read::Packet(length) } else { self.unusable() };
        }
        let front = length.min(ROOM);
        self.whole[..front].copy_from_slice(&room[..front]);
        let whole = self.whole.get(..length);
        self.segmentation = whole.and_then(|packet| Segmentation::new(header, packet, ROOM));
        if self.segmentation.is_some() { Read::SuperPacket } else { self.unusable() }
    }

    /// Without a free frame, packets must still be taken from the kernel: the device would stay readable, and its
    /// worker awake.
    fn read_in_vain(&mut self) -> Read {
        match rustix::io::read(&self.queue, &mut self.whole[..]) {
            Ok(_) => {
                add(&self.drops[0], 1);
                Read::Dropped
            }
            Err(error) => self.failed(error),
        }
    }

    fn unusable(&self) -> Read {
        add(&self.drops[1], 1);
        Read::Dropped
    }

    fn failed(&mut self, error: Errno) -> Read {
        match error {
            Errno::AGAIN | Errno::INTR => {}
            Errno::BADFD => self.is_gone = true,
            _ => add(&self.drops[1], 1),
        }
        Read::Nothing
    }

    /// Writes packets to the device, consecutive TCP segments as one. Of other packets the kernel is asked to look
    /// at the checksums itself: they come from the other end of the connection, and only that may vouch for them.
    pub(in crate::io) fn transmit(
        &mut self,
        batch: &mut Vec<Frame>,
        frames: &mut FreeFrames,
        buffers: &mut Buffers,
        counters: &SideCounters,
    ) {
        while !batch.is_empty() {
            let some = batch.len().min(LENT);
            self.lent.extend(batch.drain(..some).map(|frame| buffers.lend_packet(frame)));
            let mut packets = &self.lent[..];
            while let Some((first, rest)) = packets.split_first() {
                let joined = self.write_run(first.octets(), rest, counters);
                packets = &rest[joined..];
            }
            for packet in self.lent.drain(..) {
                frames.release(&buffers.take_packet_back(packet));
            }
        }
    }

    /// Writes a packet together with those behind it that go with it. Returns how many these were.
    fn write_run(&self, first: &[u8], rest: &[Packet<FrameBuffer>], counters: &SideCounters) -> usize {
        if !is_ip_packet(first) {
            add(&counters.transmit_invalid, 1);
            return 0;
        }
        let run = Run::start(first).map(|mut run| {
            let _ = rest.iter().take_while(|packet| run.join(first, packet.octets())).count();
            run
        });
        let joined = run.map_or(0, |run| run.packets() - 1);
        let result = match run.filter(|_| joined > 0) {
            Some(run) => self.write_joined(run, first, &rest[..joined]),
            None => writev(&self.queue, &[IoSlice::new(&[0; HEADER]), IoSlice::new(first)]),
        };
        let counter = match result {
            Ok(_) => &counters.transmitted,
            Err(Errno::AGAIN) => &counters.transmit_ring_full,
            Err(_) => &counters.transmit_refused,
        };
        add(counter, 1 + joined as u64);
        joined
    }

    fn write_joined(&self, mut run: Run, first: &[u8], rest: &[Packet<FrameBuffer>]) -> Result<usize, Errno> {
        let start = run.payload_start();
        let (offload, headers) = run.headers();
        let mut vector = [IoSlice::new(&[]); LENT + 2];
        vector[0] = IoSlice::new(&offload);
        vector[1] = IoSlice::new(headers);
        let payloads = std::iter::once(first).chain(rest.iter().map(Packet::octets));
        for (slice, packet) in vector[2..].iter_mut().zip(payloads) {
            *slice = IoSlice::new(&packet[start..]);
        }
        writev(&self.queue, &vector[..rest.len() + 3])
    }
}
