//! The packet's way, in the order in which it goes: read [`Pipeline::inbound`] and [`Pipeline::outbound`] from
//! the top.
//!
//! One pipeline belongs to one worker. Packets are transformed in place in the frame that they arrived in; after
//! start-up nothing here allocates, locks or makes a system call per packet, and every packet that does not go
//! on has a [`DropReason`].
// Per packet, a struct returned through memory costs more than the work that makes it (benches/pipeline.rs).
#![allow(clippy::inline_always)]

mod answer;
mod egress;
mod flow_cache;
mod iv_supply;
mod sa_cache;

use std::ops::Range;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use baton_sad::{Direction, SaHandle, SlotState, SlotView, Table};

use crate::capture::Tap;
use crate::counters::WorkerCounters;
use crate::crypto::{Engine, EngineError};
use crate::drop_reason::DropReason;
use crate::esp::payload::NO_NEXT_HEADER;
use crate::esp::tunnel;
use crate::io::{Frame, PacketIo, Side};
use crate::next_hop::NextHops;
use crate::packet::esp::EspHeader;
use crate::packet::ethernet::{self, EthernetHeader};
use crate::packet::icmp::IcmpError;
use crate::packet::ipv4::{self, Ipv4Header};
use crate::packet::transport::Flow;
use crate::spd::{Action, Spd, Way};
use crate::worker::{Rings, WorkerOptions};

use answer::AnswerLimit;
use egress::Egress;
use flow_cache::{Decision, FlowCache};
use iv_supply::IvSupply;
use sa_cache::SaCache;

/// One worker's pipeline.
pub struct Pipeline {
    index: u16,
    workers: u16,
    clock: fn() -> u64,
    /// Monotonic ns at the beginning of this batch.
    now: u64,
    table: Arc<Table>,
    spd: Cache<Arc<ArcSwap<Spd>>, Arc<Spd>>,
    hops: Cache<Arc<ArcSwap<NextHops>>, Arc<NextHops>>,
    engine: Engine,
    sas: SaCache,
    flows: FlowCache,
    ivs: IvSupply,
    egress: Egress,
    answers: AnswerLimit,
    rings: Arc<Rings>,
    counters: Arc<WorkerCounters>,
    tap: Arc<Tap>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("index", &self.index).finish_non_exhaustive()
    }
}

/// A packet that goes on: where it lies in its buffer, and which way it leaves.
type Forward = (Range<usize>, egress::Way);

/// A packet that does not go on here.
enum Stop {
    /// It ends here.
    Drop(DropReason),
    /// It ends here, and its sender hears of it.
    Answer(DropReason, IcmpError),
    /// This worker owns its SA.
    HandOver(u16),
}

impl<R: Into<DropReason>> From<R> for Stop {
    fn from(reason: R) -> Self {
        Self::Drop(reason.into())
    }
}

impl Pipeline {
    /// From the tunnel to the protected side: parse, SPI, SA, replay check, open, replay commit, inner selectors,
    /// forward (RFC 4301 section 5.2). Empties `batch`.
    pub fn inbound<I: PacketIo>(&mut self, io: &mut I, batch: &mut Vec<Frame>) {
        self.begin_batch(Side::Outer, batch);
        for frame in batch.drain(..) {
            let buffer = io.buffer(&frame);
            self.tap.offer(Side::Outer, &buffer[frame.range()]);
            match self.inbound_packet(&frame, buffer) {
                Ok((packet, way)) => self.egress.send(io, frame, packet, way, (self.hops.load(), self.now)),
                Err(stop) => self.stop(io, frame, &stop),
            }
        }
        self.transmit(io);
    }

    /// From the protected side into the tunnel: parse, policy, SA, path MTU, sequence, IV, seal, lease check,
    /// forward (RFC 4301 section 5.1). Empties `batch`.
    pub fn outbound<I: PacketIo>(&mut self, io: &mut I, batch: &mut Vec<Frame>) {
        self.begin_batch(Side::Inner, batch);
        for frame in batch.drain(..) {
            let buffer = io.buffer(&frame);
            self.tap.offer(Side::Inner, &buffer[frame.range()]);
            match self.outbound_packet(&frame, buffer) {
                Ok((packet, way)) => self.egress.send(io, frame, packet, way, (self.hops.load(), self.now)),
                Err(stop) => self.stop(io, frame, &stop),
            }
        }
        self.transmit(io);
    }

    #[inline(always)]
    fn inbound_packet(&mut self, frame: &Frame, buffer: &mut [u8]) -> Result<Forward, Stop> {
        let outer = Outer::parse(frame, buffer)?;
        let handle = self.table.lookup(Direction::Inbound, outer.esp.spi).ok_or(DropReason::UnknownSpi)?;
        self.check_owner(handle)?;
        let slot = self.table.slot(handle).ok_or(DropReason::SaUnusable)?;
        let sa = self.sas.get(&self.table, handle, &self.engine)?;
        if outer.header.source != sa.source || outer.header.destination != sa.destination {
            return Err(DropReason::OuterAddress.into());
        }
        check_usable(&self.table, slot, sa.segment, self.now)?;

        let window = sa.window(slot);
        let sequence = window
            .check(outer.esp.sequence, sa.key.key.is_extended())
            .inspect_err(|_| slot.add_replay_drops(1))?;
        let payload = sa
            .key
            .open(&mut self.engine, buffer, outer.range, sequence)
            .inspect_err(|_| slot.add_integrity_failures(1))?;
        window.commit(sequence);

        check_next_header(payload.next_header)?;
        let inner =
            Ipv4Header::parse(&buffer[payload.range.clone()]).map_err(|_| DropReason::InnerMalformed)?;
        // What follows the packet is traffic flow confidentiality padding (RFC 4303 section 2.7).
        let packet = payload.range.start..payload.range.start + inner.total_length;
        if tunnel::combine_ecn(&mut buffer[packet.clone()], inner.traffic_class, outer.header.traffic_class)?
        {
            self.counters.ecn_unexpected.add(1);
        }
        let flow = Flow::of(&inner, &buffer[packet.clone()]);
        if !sa.selects(&flow, Way::Inbound) {
            return Err(DropReason::Selectors.into());
        }
        slot.add_packets(1, packet.len() as u64);
        if inner.ttl <= 1 {
            return Err(DropReason::TtlExpired.into());
        }
        ipv4::decrement_ttl(&mut buffer[packet.clone()]);
        Ok((packet, egress::Way { side: Side::Inner, destination: inner.destination, segment: None }))
    }

    #[inline(always)]
    fn outbound_packet(&mut self, frame: &Frame, buffer: &mut [u8]) -> Result<Forward, Stop> {
        let (inner, packet) = parse_ipv4(frame, buffer)?;
        let flow = Flow::of(&inner, &buffer[packet.clone()]);
        let handle = match self.decide(&flow)? {
            Decision::Protect(handle) => handle,
            Decision::Bypass => return self.bypass(buffer, &inner, packet),
            Decision::Drop(reason) => return Err(reason.into()),
        };
        self.check_owner(handle)?;
        let slot = self.table.slot(handle).ok_or(DropReason::SaUnusable)?;
        let sa = self.sas.get(&self.table, handle, &self.engine)?;
        check_usable(&self.table, slot, sa.segment, self.now)?;
        if inner.ttl <= 1 {
            return Err(Stop::Answer(DropReason::TtlExpired, IcmpError::TimeExceeded));
        }
        sa.check_path_mtu(self.hops.load(), &inner)?;
        ipv4::decrement_ttl(&mut buffer[packet.clone()]);

        let sequence = slot.next_sequence(1, sa.last_sequence()).ok_or(DropReason::SequenceWrap)?;
        let iv = self.ivs.next(&self.table)?;
        let length = packet.len() as u64;
        let esp = sa.key.seal(&mut self.engine, buffer, packet, ipv4::IPIP, (sequence, iv))?;
        slot.add_packets(1, length);
        // The IV's lower half is as unique as 16 bits can be among all packets of this node (RFC 6864).
        let start = sa.outer.emit_before(buffer, esp.start, esp.len(), &inner, iv as u16)?;
        let packet = start..esp.end;
        Ok((
            packet,
            egress::Way { side: Side::Outer, destination: sa.destination, segment: Some(sa.segment) },
        ))
    }

    /// The policy's decision about a flow: from the cache, or from SPD and SAD (RFC 4301 section 5.1).
    #[inline]
    fn decide(&mut self, flow: &Flow) -> Result<Decision, Stop> {
        if let Some(decision) = self.flows.get(flow) {
            return Ok(decision);
        }
        let decision = self.decide_anew(flow)?;
        self.flows.put(flow, decision);
        Ok(decision)
    }

    fn decide_anew(&mut self, flow: &Flow) -> Result<Decision, Stop> {
        let Some(policy) = self.spd.load().lookup(flow) else {
            return Ok(Decision::Drop(DropReason::NoPolicy));
        };
        let reqid = match policy.action {
            Action::Protect { reqid } => reqid,
            Action::Bypass => return Ok(Decision::Bypass),
            Action::Discard => return Ok(Decision::Drop(DropReason::PolicyDiscard)),
        };
        let Some(handle) = self.table.lookup(Direction::Outbound, reqid) else {
            return Ok(Decision::Drop(DropReason::NoSa));
        };
        self.check_owner(handle)?;
        let sa = self.sas.get(&self.table, handle, &self.engine)?;
        let selected = sa.selects(flow, Way::Outbound);
        Ok(if selected { Decision::Protect(handle) } else { Decision::Drop(DropReason::Selectors) })
    }

    /// A packet that a policy lets out in clear.
    #[inline(always)]
    fn bypass(
        &mut self,
        buffer: &mut [u8],
        header: &Ipv4Header,
        packet: Range<usize>,
    ) -> Result<Forward, Stop> {
        if header.ttl <= 1 {
            return Err(Stop::Answer(DropReason::TtlExpired, IcmpError::TimeExceeded));
        }
        ipv4::decrement_ttl(&mut buffer[packet.clone()]);
        self.counters.bypassed.add(1);
        Ok((packet, egress::Way { side: Side::Outer, destination: header.destination, segment: None }))
    }

    /// Each SA has one worker, so that its sequence numbers and window have one writer.
    #[inline]
    fn check_owner(&self, handle: SaHandle) -> Result<(), Stop> {
        if self.workers == 1 {
            return Ok(());
        }
        let owner = (handle.slot() % u32::from(self.workers)) as u16;
        if owner == self.index { Ok(()) } else { Err(Stop::HandOver(owner)) }
    }
}

/// The SA takes part, and so does this node (I4).
#[inline]
fn check_usable(table: &Table, slot: SlotView<'_>, segment: u8, now: u64) -> Result<(), DropReason> {
    match slot.state() {
        SlotState::Live => {}
        SlotState::Frozen => return Err(DropReason::SaFrozen),
        SlotState::Dead => return Err(DropReason::SaUnusable),
    }
    if table.lease(segment) > now { Ok(()) } else { Err(DropReason::NotOwned) }
}

/// An ESP packet's headers.
struct Outer {
    header: Ipv4Header,
    esp: EspHeader,
    /// From SPI to ICV.
    range: Range<usize>,
}

impl Outer {
    #[inline(always)]
    fn parse(frame: &Frame, buffer: &[u8]) -> Result<Self, DropReason> {
        let (header, packet) = parse_ipv4(frame, buffer)?;
        // UDP-encapsulated ESP will branch here.
        if header.protocol != ipv4::ESP {
            return Err(DropReason::NotEsp);
        }
        if header.is_fragment() {
            return Err(DropReason::Fragment);
        }
        let range = packet.start + header.header_length..packet.end;
        let esp = EspHeader::parse(&buffer[range.clone()])?;
        Ok(Self { header, esp, range })
    }
}

/// The IPv4 packet in a frame, checked, and where it lies without the link's padding.
#[inline(always)]
fn parse_ipv4(frame: &Frame, buffer: &[u8]) -> Result<(Ipv4Header, Range<usize>), DropReason> {
    let octets = buffer.get(frame.range()).ok_or(DropReason::Oversized)?;
    let link = EthernetHeader::parse(octets)?;
    if link.ethertype != ethernet::IPV4 {
        return Err(DropReason::NotIpv4);
    }
    let header = Ipv4Header::parse(&octets[link.length..])?;
    let start = frame.start as usize + link.length;
    Ok((header, start..start + header.total_length))
}

/// What this SA carries: IPv4, and dummies that end here.
#[inline]
fn check_next_header(next_header: u8) -> Result<(), DropReason> {
    match next_header {
        ipv4::IPIP => Ok(()),
        NO_NEXT_HEADER => Err(DropReason::Dummy),
        _ => Err(DropReason::NextHeader),
    }
}

/// Around the packets: what happens once per batch, and what becomes of a packet in the end.
impl Pipeline {
    /// A pipeline for the worker that `options` describe.
    ///
    /// # Errors
    /// [`EngineError`] when the crypto engine cannot start.
    pub fn new(options: &WorkerOptions) -> Result<Self, EngineError> {
        Ok(Self {
            index: options.index,
            workers: options.workers.max(1),
            clock: options.clock,
            now: (options.clock)(),
            table: Arc::clone(&options.table),
            spd: Cache::new(Arc::clone(&options.spd)),
            hops: Cache::new(Arc::clone(&options.next_hops)),
            engine: Engine::new(options.crypto)?,
            sas: SaCache::new(&options.table, options.workers),
            flows: FlowCache::default(),
            ivs: IvSupply::default(),
            egress: Egress::new(options),
            answers: AnswerLimit::default(),
            rings: Arc::clone(&options.rings),
            counters: Arc::clone(&options.counters),
            tap: Arc::clone(&options.tap),
        })
    }

    fn begin_batch(&mut self, side: Side, batch: &[Frame]) {
        if batch.is_empty() {
            return;
        }
        self.now = (self.clock)();
        let changes = self.table.change_count();
        self.flows.revalidate(self.spd.load().generation(), changes);
        self.egress.revalidate(self.hops.load());
        let counters = self.counters.side(side);
        counters.received.add(batch.len() as u64);
        counters.received_octets.add(batch.iter().map(|frame| u64::from(frame.length)).sum());
    }

    #[inline]
    fn stop<I: PacketIo>(&mut self, io: &mut I, frame: Frame, stop: &Stop) {
        match *stop {
            Stop::Drop(reason) => {
                self.counters.count_drop(reason);
                io.release(frame);
            }
            Stop::Answer(reason, error) => {
                self.counters.count_drop(reason);
                self.answer(io, frame, error);
            }
            Stop::HandOver(owner) => {
                io.hand_over(&frame);
                match self.rings.push(owner, frame) {
                    Ok(()) => self.counters.handed_over.add(1),
                    Err(frame) => {
                        self.counters.count_drop(DropReason::RingFull);
                        io.release(frame);
                    }
                }
            }
        }
    }

    fn transmit<I: PacketIo>(&mut self, io: &mut I) {
        if self.egress.has_ready() {
            // The clock again: this is the moment at which the lease must hold (I4).
            self.egress.transmit(io, &self.table, (self.clock)());
        }
    }

    /// Once per turn: sends what waited for a neighbour that answered, drops what waited too long, and wipes keys
    /// of SAs that are gone.
    pub fn maintain<I: PacketIo>(&mut self, io: &mut I) {
        self.sas.sweep(&self.table);
        if self.egress.has_held() {
            self.now = (self.clock)();
            self.egress.release_due(io, self.hops.load(), self.now);
            self.transmit(io);
        }
    }
}
