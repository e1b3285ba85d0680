//! The last steps: next hop, Ethernet header, lease, transmit.

use std::net::IpAddr;
use std::sync::Arc;

use baton_sad::Table;

use crate::capture::Tap;
use crate::counters::WorkerCounters;
use crate::drop_reason::DropReason;
use crate::io::{Frame, PacketIo, Side};
use crate::next_hop::{Due, HELD_IN_ALL, HeldPackets, Link, NextHop, NextHops, Outgoing, ResolveRequests};
use crate::packet::ethernet;
use crate::worker::WorkerOptions;

/// Remembered next hops per side; a power of two.
const REMEMBERED: usize = 256;

/// Frames ready for one side, each with the segment whose lease it needs.
#[derive(Debug)]
struct Ready {
    frames: Vec<Frame>,
    segments: Vec<Option<u8>>,
}

/// What leaves a worker.
#[derive(Debug)]
pub(super) struct Egress {
    ready: [Ready; 2],
    held: HeldPackets,
    remembered: [Vec<(IpAddr, Option<Link>)>; 2],
    generation: u64,
    resolve: Arc<ResolveRequests>,
    counters: Arc<WorkerCounters>,
    tap: Arc<Tap>,
}

impl Egress {
    pub(super) fn new(options: &WorkerOptions) -> Self {
        let room = options.batch + HELD_IN_ALL;
        let ready = || Ready { frames: Vec::with_capacity(room), segments: Vec::with_capacity(room) };
        let nothing = (IpAddr::from([0; 4]), None);
        Self {
            ready: [ready(), ready()],
            held: HeldPackets::default(),
            remembered: [vec![nothing; REMEMBERED], vec![nothing; REMEMBERED]],
            generation: 0,
            resolve: Arc::clone(&options.resolve),
            counters: Arc::clone(&options.counters),
            tap: Arc::clone(&options.tap),
        }
    }

    /// Forgets next hops of another snapshot.
    #[inline]
    pub(super) fn revalidate(&mut self, hops: &NextHops) {
        if self.generation != hops.generation() {
            self.generation = hops.generation();
            self.remembered.iter_mut().flatten().for_each(|(_, link)| *link = None);
        }
    }

    /// Sends a finished IP packet as soon as its next hop is known.
    #[inline]
    pub(super) fn send<I: PacketIo>(&mut self, io: &mut I, outgoing: Outgoing, hops: &NextHops, now: u64) {
        let mtu = hops.side(outgoing.side).mtu;
        if outgoing.frame.length > u32::from(mtu) {
            return self.drop(io, outgoing.frame, DropReason::Oversized);
        }
        match self.next_hop(outgoing.side, outgoing.destination, hops) {
            NextHop::Known(link) => self.ready(io, outgoing, &link),
            NextHop::Unresolved(neighbour) => self.hold(io, outgoing, neighbour, now),
            NextHop::None => self.drop(io, outgoing.frame, DropReason::NoRoute),
        }
    }

    #[inline]
    fn next_hop(&mut self, side: Side, destination: IpAddr, hops: &NextHops) -> NextHop {
        let entry = &mut self.remembered[side.index()][place(destination)];
        if let (address, Some(link)) = entry
            && *address == destination
        {
            return NextHop::Known(*link);
        }
        let found = hops.lookup(side, destination);
        if let NextHop::Known(link) = found {
            *entry = (destination, Some(link));
        }
        found
    }

    /// Queues a frame that is complete from its Ethernet header on.
    #[inline]
    pub(super) fn push(&mut self, side: Side, frame: Frame, segment: Option<u8>) {
        let ready = &mut self.ready[side.index()];
        ready.frames.push(frame);
        ready.segments.push(segment);
    }

    #[inline]
    fn ready<I: PacketIo>(&mut self, io: &mut I, outgoing: Outgoing, link: &Link) {
        let Outgoing { mut frame, side, segment, .. } = outgoing;
        let packet = frame.start;
        match ethernet::emit_before(io.buffer(&frame), packet as usize, link, ethernet::IPV4) {
            Some(start) => {
                frame.start = start as u32;
                frame.length += packet - frame.start;
                self.push(side, frame, segment);
            }
            None => self.drop(io, frame, DropReason::Oversized),
        }
    }

    #[cold]
    fn hold<I: PacketIo>(&mut self, io: &mut I, outgoing: Outgoing, neighbour: IpAddr, now: u64) {
        self.counters.held.add(1);
        if let Some(evicted) = self.held.hold(outgoing, neighbour, now, &self.resolve) {
            self.drop(io, evicted, DropReason::HeldTooMany);
        }
    }

    #[cold]
    fn drop<I: PacketIo>(&self, io: &mut I, frame: Frame, reason: DropReason) {
        self.counters.count_drop(reason);
        io.release(frame);
    }

    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready.iter().any(|ready| !ready.frames.is_empty())
    }

    /// Makes ready what waited for a neighbour that is known now, and drops what waited too long.
    pub(super) fn release_due<I: PacketIo>(&mut self, io: &mut I, hops: &NextHops, now: u64) {
        self.revalidate(hops);
        while let Some(due) = self.held.take_due(hops, now) {
            match due {
                Due::Resolved(outgoing, link) => self.ready(io, outgoing, &link),
                Due::Expired(frame) => self.drop(io, frame, DropReason::HeldTooLong),
            }
        }
    }

    /// Gives what is ready to the medium. Only frames whose segment's lease lasts beyond `now` leave (I4).
    pub(super) fn transmit<I: PacketIo>(&mut self, io: &mut I, table: &Table, now: u64) {
        for side in Side::ALL {
            self.drop_without_lease(io, side, table, now);
            let Ready { frames, segments } = &mut self.ready[side.index()];
            segments.clear();
            if frames.is_empty() {
                continue;
            }
            if self.tap.is_on() {
                frames.iter().for_each(|frame| self.tap.offer(side, &io.buffer(frame)[frame.range()]));
            }
            let counters = self.counters.side(side);
            counters.sent.add(frames.len() as u64);
            counters.sent_octets.add(frames.iter().map(|frame| u64::from(frame.length)).sum());
            io.transmit(side, frames);
        }
    }

    #[inline]
    fn drop_without_lease<I: PacketIo>(&mut self, io: &mut I, side: Side, table: &Table, now: u64) {
        let Ready { frames, segments } = &mut self.ready[side.index()];
        let mut last_good = None;
        let mut at = 0;
        while let Some(&segment) = segments.get(at) {
            let good =
                segment.is_none() || segment == last_good || segment.is_some_and(|s| table.lease(s) > now);
            if good {
                last_good = segment;
                at += 1;
            } else {
                segments.remove(at);
                self.counters.count_drop(DropReason::NotOwned);
                io.release(frames.remove(at));
            }
        }
    }
}

#[inline]
fn place(address: IpAddr) -> usize {
    let bits = match address {
        IpAddr::V4(a) => u64::from(a.to_bits()),
        IpAddr::V6(a) => (a.to_bits() ^ a.to_bits() >> 64) as u64,
    };
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % REMEMBERED
}
