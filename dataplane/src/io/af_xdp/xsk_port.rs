//! One AF_XDP socket: its rings, and what its worker keeps about them.

use std::time::Duration;

use rustix::io::Errno;
use xsk_rs::umem::frame::FrameDesc;

use super::counters::{SideCounters, add};
use super::ledger::Holder;
use super::pool::FreeFrames;
use super::system::Rings;
use super::{BusyPoll, ETHERNET_HEADER};
use crate::io::{FRAME_SIZE, Frame, Side, system};

/// Descriptors moved by one call.
const CHUNK: usize = 64;

/// The kernel's copy-mode transmit path sends at most this many packets per call.
const TRANSMIT_BUDGET: u32 = 32;

/// One socket, bound to one queue of one interface, used by one worker.
#[derive(Debug)]
pub(super) struct XskPort {
    pub(super) side: Side,
    pub(super) queue: u32,
    pub(super) rings: Rings,
    /// Whether the queue can send too.
    pub(super) transmits: bool,
    busy_poll: bool,
    /// Entries of the fill ring that are free for certain.
    fill_room: u32,
    unsubmitted: bool,
    /// Packets that the kernel has not taken out of the transmit ring.
    pending: u32,
    /// Frames given to the transmit ring and not completed.
    in_flight: u32,
    scratch: [FrameDesc; CHUNK],
}

impl XskPort {
    pub(super) fn new((side, queue): (Side, u32), rings: Rings, transmits: bool, ring_size: u32) -> Self {
        Self {
            side,
            queue,
            rings,
            transmits,
            busy_poll: false,
            fill_room: ring_size,
            unsubmitted: false,
            pending: 0,
            in_flight: 0,
            scratch: [FrameDesc::default(); CHUNK],
        }
    }

    /// Turns on busy polling (Documentation/networking/napi.rst, "Busy polling").
    pub(super) fn set_busy_poll(&mut self, options: BusyPoll) -> std::io::Result<()> {
        let microseconds = i32::try_from(options.time.as_micros()).unwrap_or(i32::MAX);
        for (name, value) in [
            (libc::SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, microseconds),
            (libc::SO_BUSY_POLL_BUDGET, i32::from(options.budget)),
        ] {
            system::set_option(self.rings.fd(), (libc::SOL_SOCKET, name), value)?;
        }
        self.busy_poll = options.time > Duration::ZERO;
        Ok(())
    }

    /// Appends received frames to `batch`, within its capacity.
    pub(super) fn receive(&mut self, batch: &mut Vec<Frame>, frames: &FreeFrames) -> usize {
        let mut received = 0;
        while batch.len() < batch.capacity() {
            let wanted = (batch.capacity() - batch.len()).min(CHUNK);
            let got = self.rings.receive(&mut self.scratch[..wanted]);
            for descriptor in &self.scratch[..got] {
                batch.push(frame_of(descriptor, self.side));
                frames.pass(number_of(descriptor), Holder::Fill, Holder::User);
            }
            self.fill_room += got as u32;
            received += got;
            if got < wanted {
                break;
            }
        }
        received
    }

    /// Queues packets for sending; those that do not fit are released and counted.
    pub(super) fn transmit(
        &mut self,
        batch: &mut Vec<Frame>,
        frames: &mut FreeFrames,
        counters: &SideCounters,
    ) {
        let mut sent = 0;
        for frame in batch.drain(..) {
            if !is_sendable(&frame) {
                add(&counters.transmit_invalid, 1);
                frames.release(&frame);
                continue;
            }
            match self.rings.transmit(frame) {
                Ok(number) => {
                    frames.pass(number, Holder::User, Holder::Transmit);
                    sent += 1;
                }
                Err(frame) => {
                    add(&counters.transmit_ring_full, 1);
                    frames.release(&frame);
                }
            }
        }
        self.in_flight += sent;
        self.unsubmitted |= sent > 0;
        add(&counters.transmitted, u64::from(sent));
    }

    /// Submits, kicks, harvests and refills.
    pub(super) fn flush(&mut self, frames: &mut FreeFrames, counters: &SideCounters) {
        if self.unsubmitted || self.pending > 0 {
            self.unsubmitted = false;
            self.pending = self.rings.submit();
            self.kick(frames, counters);
        }
        self.harvest(frames);
        self.refill(frames);
        if self.busy_poll || (self.fill_room == 0 && self.rings.fill_needs_wakeup()) {
            self.rings.kick_receive();
        }
    }

    /// Calls the kernel until it has taken all packets, within a bound: what remains is tried at the next flush.
    fn kick(&mut self, frames: &mut FreeFrames, counters: &SideCounters) {
        let mut calls = self.pending / TRANSMIT_BUDGET + 2;
        while calls > 0 && self.pending > 0 && self.rings.transmit_needs_wakeup() {
            calls -= 1;
            let before = self.pending;
            let result = self.rings.kick_transmit();
            self.pending = self.rings.submit();
            match result {
                // One packet was taken and dropped; the rest waits for the next call.
                Err(Errno::BUSY) => add(&counters.transmit_refused, 1),
                // The budget of one call is used up, or there is no room for completions.
                Err(Errno::AGAIN) if self.pending < before => {}
                Err(Errno::AGAIN) if self.harvest(frames) > 0 => {}
                // No memory, no room, or the link is down: later.
                Err(_) => break,
                Ok(()) => {}
            }
        }
    }

    fn harvest(&mut self, frames: &mut FreeFrames) -> usize {
        let mut harvested = 0;
        while self.in_flight > 0 {
            let got = self.rings.complete(&mut self.scratch);
            for descriptor in &self.scratch[..got] {
                frames.give_back(number_of(descriptor), Holder::Transmit);
            }
            self.in_flight -= got as u32;
            harvested += got;
            if got < CHUNK {
                break;
            }
        }
        harvested
    }

    /// Gives the kernel free frames to receive into, as many as fit.
    pub(super) fn refill(&mut self, frames: &mut FreeFrames) {
        while self.fill_room > 0 {
            let room = self.rings.fill_room(self.fill_room.min(CHUNK as u32)) as usize;
            let mut numbers = [0; CHUNK];
            let taken = frames.take(&mut numbers[..room], Holder::Fill);
            if taken == 0 {
                break;
            }
            self.rings.fill(&numbers[..taken]);
            self.fill_room -= taken as u32;
        }
    }

    /// Whether packets wait for the kernel to take them.
    pub(super) fn is_blocked(&self) -> bool {
        self.unsubmitted || self.pending > 0
    }
}

/// The kernel skips descriptors that it thinks wrong, and would never give their frames back.
fn is_sendable(frame: &Frame) -> bool {
    frame.length >= ETHERNET_HEADER && frame.range().end <= FRAME_SIZE
}

fn number_of(descriptor: &FrameDesc) -> u32 {
    (descriptor.addr() / FRAME_SIZE) as u32
}

fn frame_of(descriptor: &FrameDesc, side: Side) -> Frame {
    let start = descriptor.addr() % FRAME_SIZE;
    Frame {
        index: (descriptor.addr() - start) as u64,
        start: start as u32,
        length: descriptor.lengths().data() as u32,
        side,
    }
}
