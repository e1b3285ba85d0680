//! The last steps: next hop, Ethernet header, lease, transmit.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use baton_sad::Table;

use crate::capture::Tap;
use crate::counters::WorkerCounters;
use crate::drop_reason::DropReason;
use crate::io::{Frame, Medium, PacketIo, Side};
use crate::next_hop::{Due, HELD_IN_ALL, HeldPackets, Link, NextHop, NextHops, Outgoing, ResolveRequests};
use crate::packet::{ethernet, transport};
use crate::worker::WorkerOptions;

/// Remembered next hops per side; a power of two.
const REMEMBERED: usize = 256;

/// Frames ready for one side, each with the segment whose lease it needs.
#[derive(Debug)]
struct Ready {
    frames: Vec<Frame>,
    segments: Vec<Option<u8>>,
}

/// Which way a finished packet leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) side: Side,
    /// Where its route leads: the final destination, or the tunnel's other end.
    pub(super) destination: IpAddr,
    /// The segment whose lease must hold when it leaves.
    pub(super) segment: Option<u8>,
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
        let nothing = (IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), None);
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

    /// Sends the finished IP packet at `packet` in the frame's buffer as soon as its next hop is known.
    #[inline(always)]
    pub(super) fn send<I: PacketIo>(
        &mut self,
        io: &mut I,
        frame: Frame,
        packet: Range<usize>,
        way: Way,
        (hops, now): (&NextHops, u64),
    ) {
        if packet.len() > usize::from(hops.side(way.side).mtu) {
            return self.refuse(io, frame, DropReason::Oversized);
        }
        if io.medium(way.side) == Medium::Ip {
            return self.push(way.side, frame.with_packet(packet), way.segment);
        }
        if let Some(link) = self.remembered(way.side, way.destination) {
            return self.ready(io, frame, packet, way.side, way.segment, &link);
        }
        self.look_up(io, frame, packet, way, (hops, now));
    }

    #[inline(always)]
    fn remembered(&self, side: Side, destination: IpAddr) -> Option<Link> {
        let (address, link) = self.remembered[side.index()][place(destination)];
        link.filter(|_| address == destination)
    }

    #[cold]
    fn look_up<I: PacketIo>(
        &mut self,
        io: &mut I,
        frame: Frame,
        packet: Range<usize>,
        way: Way,
        (hops, now): (&NextHops, u64),
    ) {
        let Way { side, destination, segment } = way;
        // What has waited longer leaves first.
        if self.has_held() {
            self.release_due(io, hops, now);
        }
        match hops.lookup(side, destination) {
            NextHop::Known(link) => {
                self.remembered[side.index()][place(destination)] = (destination, Some(link));
                self.ready(io, frame, packet, side, segment, &link);
            }
            NextHop::Unresolved(neighbour) => {
                let frame = frame.with_packet(packet);
                let outgoing = Outgoing { frame, side, destination, segment };
                self.hold(io, outgoing, neighbour, now);
            }
            NextHop::None => self.refuse(io, frame, DropReason::NoRoute),
        }
    }

    /// Queues a frame that is complete from its Ethernet header on.
    #[inline(always)]
    pub(super) fn push(&mut self, side: Side, frame: Frame, segment: Option<u8>) {
        let ready = &mut self.ready[side.index()];
        ready.frames.push(frame);
        ready.segments.push(segment);
    }

    #[inline(always)]
    fn ready<I: PacketIo>(
        &mut self,
        io: &mut I,
        frame: Frame,
        packet: Range<usize>,
        side: Side,
        segment: Option<u8>,
        link: &Link,
    ) {
        let buffer = io.buffer(&frame);
        let is_ipv6 = buffer.get(packet.start).is_some_and(|first| first >> 4 == 6);
        let ethertype = if is_ipv6 { ethernet::IPV6 } else { ethernet::IPV4 };
        match ethernet::emit_before(buffer, packet.start, link, ethertype) {
            Some(start) => self.push(side, frame.with_packet(start..packet.end), segment),
            None => self.refuse(io, frame, DropReason::Oversized),
        }
    }

    #[cold]
    fn hold<I: PacketIo>(&mut self, io: &mut I, outgoing: Outgoing, neighbour: IpAddr, now: u64) {
        self.counters.held.add(1);
        if let Some(evicted) = self.held.hold(outgoing, neighbour, now, &self.resolve) {
            self.refuse(io, evicted, DropReason::HeldTooMany);
        }
    }

    #[cold]
    fn refuse<I: PacketIo>(&self, io: &mut I, frame: Frame, reason: DropReason) {
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
                Due::Resolved(Outgoing { frame, side, segment, .. }, link) => {
                    let packet = frame.range();
                    self.ready(io, frame, packet, side, segment, &link);
                }
                Due::Expired(frame) => self.refuse(io, frame, DropReason::HeldTooLong),
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
                for frame in frames.iter() {
                    self.tap.offer(side, &io.buffer(frame)[frame.range()]);
                }
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
    let bits = transport::bits(address);
    let folded = (bits >> 64) as u64 ^ bits as u64;
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % REMEMBERED
}
