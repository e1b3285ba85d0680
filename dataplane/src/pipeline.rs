//! The packet's way, in the order in which it goes: read [`Pipeline::inbound`] and [`Pipeline::outbound`] from
//! the top.
//!
//! One pipeline belongs to one worker. A batch goes through in three steps: every packet is looked at and framed; the
//! crypto engine gets all of them at once; every packet is finished. Packets are transformed in place in the frame
//! that they arrived in; after start-up nothing here allocates, locks or makes a system call per packet, and every
//! packet that does not go on has a [`DropReason`].
// Per packet, a struct returned through memory costs more than the work that makes it (benches/pipeline.rs).
#![allow(clippy::inline_always)]

mod acquire;
mod answer;
mod around;
mod arriving;
mod egress;
pub mod flow_cache;
mod headers;
mod iv_supply;
mod policy;
mod sa_cache;
mod solicit;
mod tend;

use std::ops::Range;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use baton_sad::{Direction, Mode, SaHandle, SlotState, SlotView, Table};

use crate::capture::Tap;
use crate::counters::WorkerCounters;
use crate::crypto::{Engine, Outcome};
use crate::drop_reason::DropReason;
use crate::esp::tunnel;
use crate::events::{Event, EventSender};
use crate::io::{Frame, Packet, PacketIo, Side};
use crate::next_hop::NextHops;
use crate::packet::echo;
use crate::packet::esp::EspHeader;
use crate::packet::icmp::IcmpError;
use crate::packet::ip::{self, IpHeader};
use crate::packet::quoted::{QuotedError, QuotedEsp};
use crate::packet::tcp;
use crate::packet::transport::Flow;
use crate::spd::{Spd, Way};
use crate::worker::{Rings, WorkerOptions};

use acquire::Waiting;
use answer::AnswerLimit;
use arriving::Arriving;
use egress::Egress;
use flow_cache::{Decision, FlowCache};
use headers::{Arrival, FoundEsp, parse_ip};
use iv_supply::IvSupply;
use sa_cache::{Age, PreparedSa, SaCache};
use solicit::Solicitor;

/// One worker's pipeline.
pub struct Pipeline<I: PacketIo> {
    index: u16,
    workers: u16,
    clock: fn() -> u64,
    unix_clock: fn() -> u64,
    /// Monotonic ns at the beginning of this batch.
    now: u64,
    /// Unix seconds at the beginning of this batch.
    unix_seconds: u64,
    /// The table's count of changes in what enforces reservations, at the beginning of this batch.
    enforcement: u64,
    anti_spoofing: bool,
    table: Arc<Table>,
    spd: Cache<Arc<ArcSwap<Spd>>, Arc<Spd>>,
    hops: Cache<Arc<ArcSwap<NextHops>>, Arc<NextHops>>,
    engine: Engine,
    sas: SaCache,
    flows: FlowCache,
    ivs: IvSupply,
    egress: Egress,
    answers: AnswerLimit,
    waiting: Waiting,
    arriving: Arriving,
    solicitor: Solicitor,
    events: EventSender,
    rings: Arc<Rings>,
    counters: Arc<WorkerCounters>,
    tap: Arc<Tap>,
    /// Packets of this batch between their first and their last step; the vectors keep their memory.
    opening: Vec<InFlight<I::Buffer, Received>>,
    sealing: Vec<InFlight<I::Buffer, Sent>>,
}

/// A packet whose turn at the crypto engine comes or was.
struct InFlight<B, About> {
    packet: Packet<B>,
    flight: Flight<About>,
}

struct Flight<About> {
    handle: SaHandle,
    /// From SPI to ICV.
    esp: Range<usize>,
    sequence: u64,
    iv: u64,
    outcome: Outcome,
    about: About,
}

/// What the last step needs to know about a packet that came from the tunnel.
struct Received {
    outer: IpHeader,
    /// Where the outer IP header begins.
    start: usize,
    /// Source and destination, if it came in UDP.
    ports: Option<(u16, u16)>,
}

/// What the last step needs to know about a packet that goes into the tunnel.
struct Sent {
    inner: IpHeader,
}

/// A packet that goes on: where it lies in its buffer, and which way it leaves.
type Forward = (Range<usize>, egress::Way);

/// What the first step made of a packet.
enum Admitted<About> {
    /// It needs the engine.
    Protected(Flight<About>),
    /// A policy lets it pass in clear.
    Clear(Forward),
}

/// A packet that does not go on here.
#[derive(Debug)]
enum Stop {
    /// It ends here.
    Drop(DropReason),
    /// It ends here, and its sender hears of it.
    Answer(DropReason, IcmpError),
    /// This worker owns its SA.
    HandOver(u16),
    /// It waits for an SA of this reqid.
    Wait(u32, Flow),
    /// It waits until this segment is ours.
    Hold(u8),
}

impl<R: Into<DropReason>> From<R> for Stop {
    fn from(reason: R) -> Self {
        Self::Drop(reason.into())
    }
}

impl<I: PacketIo> Pipeline<I> {
    /// From the tunnel to the protected side: parse, SPI, SA, replay check, open, replay commit, inner selectors,
    /// forward (RFC 4301 section 5.2). Empties `batch`.
    pub fn inbound(&mut self, io: &mut I, batch: &mut Vec<Frame>) {
        self.release_arrived(io);
        self.begin_batch(batch);
        for frame in batch.drain(..) {
            let medium = io.medium(Side::Outer);
            let buffer = io.buffer(&frame);
            self.tap.offer(Side::Outer, &buffer[frame.range()]);
            let arrival = Arrival { frame: &frame, medium };
            let mut admitted = self.admit_inbound(&arrival, buffer);
            if matches!(admitted, Err(Stop::Drop(DropReason::SaUnusable))) {
                admitted = self.admit_inbound_again(&arrival, buffer);
            }
            match admitted {
                Ok(Admitted::Protected(flight)) => {
                    self.opening.push(InFlight { packet: io.lend(frame), flight });
                }
                Ok(Admitted::Clear(forward)) => self.forward(io, frame, forward),
                Err(stop) => self.stop(io, frame, &stop),
            }
        }
        self.open();
        let mut opening = std::mem::take(&mut self.opening);
        for InFlight { packet, flight } in opening.drain(..) {
            let frame = io.take_back(packet);
            match self.finish_inbound(io.buffer(&frame), &flight) {
                Ok(forward) => self.forward(io, frame, forward),
                Err(stop) => self.stop(io, frame, &stop),
            }
        }
        self.opening = opening;
        self.solicit(io);
        self.transmit(io);
    }

    /// From the protected side into the tunnel: parse, policy, SA, path MTU, sequence, IV, seal, lease check,
    /// forward (RFC 4301 section 5.1). Empties `batch`.
    pub fn outbound(&mut self, io: &mut I, batch: &mut Vec<Frame>) {
        self.release_arrived(io);
        self.begin_batch(batch);
        for frame in batch.drain(..) {
            let medium = io.medium(Side::Inner);
            let buffer = io.buffer(&frame);
            self.tap.offer(Side::Inner, &buffer[frame.range()]);
            let arrival = Arrival { frame: &frame, medium };
            let mut admitted = self.admit_outbound(&arrival, buffer);
            if matches!(admitted, Err(Stop::Drop(DropReason::SaUnusable))) {
                admitted = self.admit_outbound_again(&arrival, buffer);
            }
            match admitted {
                Ok(Admitted::Protected(flight)) => {
                    self.sealing.push(InFlight { packet: io.lend(frame), flight });
                }
                Ok(Admitted::Clear(forward)) => self.forward(io, frame, forward),
                Err(stop) => self.stop(io, frame, &stop),
            }
        }
        self.seal();
        self.finish_sealed(io);
        self.transmit(io);
    }

    /// The last step of everything that was sealed.
    fn finish_sealed(&mut self, io: &mut I) {
        let mut sealing = std::mem::take(&mut self.sealing);
        for InFlight { packet, flight } in sealing.drain(..) {
            let frame = io.take_back(packet);
            match self.finish_outbound(io.buffer(&frame), &flight) {
                Ok(forward) => self.forward(io, frame, forward),
                Err(reason) => self.drop(io, frame, reason),
            }
        }
        self.sealing = sealing;
    }

    /// The first step of a packet from the outer side: everything that can be said without its key.
    #[inline(always)]
    fn admit_inbound(
        &mut self,
        arrival: &Arrival<'_>,
        buffer: &mut [u8],
    ) -> Result<Admitted<Received>, Stop> {
        let (outer, packet) = parse_ip(arrival, buffer)?;
        let Some(FoundEsp { range, ports }) = headers::find_esp(&outer, &buffer[packet.clone()])? else {
            return self.not_esp(&outer, packet, buffer).map(Admitted::Clear);
        };
        let esp = packet.start + range.start..packet.start + range.end;
        let header = EspHeader::parse(&buffer[esp.clone()])?;

        let handle = self.table.lookup(Direction::Inbound, header.spi).ok_or(DropReason::UnknownSpi)?;
        self.check_owner(handle)?;
        let slot = self.table.slot(handle).ok_or(DropReason::SaUnusable)?;
        let sa = self.sas.get(&self.table, &self.engine, handle)?;
        check_outer_addresses(sa, &outer, ports)?;
        check_usable(&self.table, slot, sa.segment, self.now)
            .map_err(|reason| arriving::stop(&self.table, sa.segment, self.now, reason))?;
        check_age(sa, slot, self.unix_seconds, &mut self.events, self.now)?;
        let sequence = sa
            .window(slot)
            .check(header.sequence, sa.key.is_extended())
            .or_else(|refused| sa.look_beneath(slot, header.sequence, refused))
            .inspect_err(|_| slot.add_replay_drops(1))?;
        let about = Received { outer, start: packet.start, ports };
        Ok(Admitted::Protected(Flight { handle, esp, sequence, iv: 0, outcome: Outcome::Pending, about }))
    }

    /// The SA was given another configuration between the lookup and its use. That is no reason to drop a packet, and no
    /// step before has left a trace.
    #[cold]
    #[inline(never)]
    fn admit_inbound_again(
        &mut self,
        arrival: &Arrival<'_>,
        buffer: &mut [u8],
    ) -> Result<Admitted<Received>, Stop> {
        self.admit_inbound(arrival, buffer)
    }

    /// As [`Self::admit_inbound_again`].
    #[cold]
    #[inline(never)]
    fn admit_outbound_again(
        &mut self,
        arrival: &Arrival<'_>,
        buffer: &mut [u8],
    ) -> Result<Admitted<Sent>, Stop> {
        self.admit_outbound(arrival, buffer)
    }

    /// The last step of a packet from the outer side: it was opened, or not.
    #[inline(always)]
    fn finish_inbound(&mut self, buffer: &mut [u8], flight: &Flight<Received>) -> Result<Forward, Stop> {
        let sa = self.sas.prepared(flight.handle).ok_or(DropReason::SaUnusable)?;
        let slot = self.table.slot_in_flight(flight.handle).ok_or(DropReason::SaUnusable)?;
        check_opened(flight.outcome, slot)?;
        // Again: the packets of this batch before it may have reached the bound.
        check_age(sa, slot, self.unix_seconds, &mut self.events, self.now)?;
        sa.check_reserved(&self.table, flight.sequence, self.enforcement)?;
        let is_newest = match sa.window(slot).commit(flight.sequence) {
            Ok(is_newest) => is_newest,
            Err(refused) => return Err(self.refuse(buffer, flight, refused)),
        };
        slot.touch(self.now);
        if is_newest {
            follow_peer(sa, &flight.about, &mut self.events, self.now);
        }

        let payload = sa.layout.unwrap(buffer, flight.esp.clone())?;
        let (inner, packet) = match sa.mode {
            Mode::Tunnel => headers::leave_tunnel(&payload, buffer)?,
            Mode::Transport => headers::leave_transport(&flight.about, &payload, buffer)?,
        };
        if sa.mode == Mode::Tunnel
            && tunnel::combine_ecn(
                &mut buffer[packet.clone()],
                inner.traffic_class,
                flight.about.outer.traffic_class,
            )?
        {
            self.counters.ecn_unexpected.add(1);
        }
        let flow = inner.flow(&buffer[packet.clone()]);
        if !sa.selects(&flow, Way::Inbound) {
            self.events.send(Event::SelectorViolation { spi: sa.name.spi, flow }, self.now);
            return Err(DropReason::Selectors.into());
        }
        slot.add_packets(1, packet.len() as u64);
        if self.solicitor.awaits_replies(self.now)
            && echo::is_reply(&inner, &buffer[packet.clone()], self.solicitor.token())
        {
            return Err(DropReason::EchoReply.into());
        }
        if sa.mode == Mode::Tunnel {
            if !inner.is_forwardable() {
                return Err(DropReason::NotForwardable.into());
            }
            if inner.hop_limit <= 1 {
                return Err(DropReason::TtlExpired.into());
            }
            ip::decrement_hop_limit(&mut buffer[packet.clone()]);
        }
        if sa.clamp_mss {
            let room = sa.room(slot, &inner, self.hops.load().side(Side::Outer).mtu, self.now);
            tcp::clamp_mss(&mut buffer[packet.clone()], &inner, sa.largest_segment(&inner, room));
        }
        Ok((packet, egress::Way { side: Side::Inner, destination: inner.destination(), segment: None }))
    }

    /// The first step of a packet from the inner side: all of it but the engine's work.
    #[inline(always)]
    fn admit_outbound(&mut self, arrival: &Arrival<'_>, buffer: &mut [u8]) -> Result<Admitted<Sent>, Stop> {
        let (inner, packet) = parse_ip(arrival, buffer)?;
        let flow = inner.flow(&buffer[packet.clone()]);
        let handle = match self.decide(&flow)? {
            Decision::Protect(handle) => handle,
            Decision::Bypass => return self.bypass(buffer, &inner, packet).map(Admitted::Clear),
            Decision::HandOver(handle) => return Err(Stop::HandOver(owner(handle, self.workers))),
            Decision::NoSa { reqid } => return Err(Stop::Wait(reqid, flow)),
            Decision::Outside(_) => return Err(DropReason::Selectors.into()),
            Decision::Drop(reason) => return Err(reason.into()),
        };
        let slot = self.table.slot(handle).ok_or(DropReason::SaUnusable)?;
        let sa = self.sas.get(&self.table, &self.engine, handle)?;
        check_usable(&self.table, slot, sa.segment, self.now)
            .map_err(|reason| arriving::stop(&self.table, sa.segment, self.now, reason))?;
        check_age(sa, slot, self.unix_seconds, &mut self.events, self.now)?;
        check_carried(sa, &inner)?;
        let room = sa.room(slot, &inner, self.hops.load().side(Side::Outer).mtu, self.now);
        sa.check_room(&inner, room)?;
        if sa.mode == Mode::Tunnel {
            if inner.hop_limit <= 1 {
                return Err(Stop::Answer(DropReason::TtlExpired, IcmpError::TimeExceeded));
            }
            ip::decrement_hop_limit(&mut buffer[packet.clone()]);
        }
        if sa.clamp_mss {
            tcp::clamp_mss(&mut buffer[packet.clone()], &inner, sa.largest_segment(&inner, room));
        }

        let sequence = sa.next_sequence(&self.table, slot, self.enforcement)?;
        let iv = self.ivs.next(&self.table)?;
        slot.add_packets(1, packet.len() as u64);
        slot.touch(self.now);
        let header = EspHeader { spi: sa.name.spi, sequence: sequence as u32 };
        let esp = match sa.mode {
            Mode::Tunnel => headers::enter_tunnel(sa, header, &inner, (packet, room), buffer)?,
            Mode::Transport => headers::enter_transport(sa, header, &inner, packet, buffer)?,
        };
        let about = Sent { inner };
        Ok(Admitted::Protected(Flight { handle, esp, sequence, iv, outcome: Outcome::Pending, about }))
    }

    /// The last step of a packet from the inner side: it was sealed.
    #[inline(always)]
    fn finish_outbound(&mut self, buffer: &mut [u8], flight: &Flight<Sent>) -> Result<Forward, DropReason> {
        let sa = self.sas.prepared(flight.handle).ok_or(DropReason::SaUnusable)?;
        if flight.outcome != Outcome::Done {
            return Err(DropReason::SaUnusable);
        }
        let packet = headers::finish_outer(sa, flight, buffer)?;
        let (destination, segment) = (sa.destination, Some(sa.segment));
        Ok((packet, egress::Way { side: Side::Outer, destination, segment }))
    }

    /// What is neither ESP nor ESP in UDP: a router's word about our ESP, or clear traffic that a policy must allow
    /// (RFC 4301 section 5.2 step 3).
    #[cold]
    fn not_esp(
        &mut self,
        header: &IpHeader,
        packet: Range<usize>,
        buffer: &mut [u8],
    ) -> Result<Forward, Stop> {
        if let Ok(Some(quoted)) = QuotedEsp::parse(&buffer[packet.clone()], header) {
            if let QuotedError::TooBig { mtu } = quoted.error {
                let EspHeader { spi, sequence } = quoted.esp;
                let destination = quoted.destination;
                self.events.send(Event::TooBig { spi, sequence, destination, mtu }, self.now);
            }
            return Err(DropReason::IcmpHeeded.into());
        }
        match self.decide_clear(&header.flow(&buffer[packet.clone()]))? {
            Decision::Bypass => self.bypass_inbound(buffer, header, packet),
            Decision::Drop(reason) => Err(reason.into()),
            _ => Err(DropReason::Unprotected.into()),
        }
    }

    #[inline]
    fn check_owner(&self, handle: SaHandle) -> Result<(), Stop> {
        let owner = owner(handle, self.workers);
        if owner == self.index { Ok(()) } else { Err(Stop::HandOver(owner)) }
    }
}

/// Each SA has one worker, so that its sequence numbers and window have one writer.
#[inline]
fn owner(handle: SaHandle, workers: u16) -> u16 {
    if workers == 1 { 0 } else { (handle.slot() % u32::from(workers)) as u16 }
}

/// The packet came to where the SA's packets come, from its peer. A peer behind a NAT may come from elsewhere; what it
/// sent says whether it is the peer. Whether it sends ESP in UDP or not, it may choose for each packet, NAT or none
/// (RFC 7296 section 2.23).
#[inline]
fn check_outer_addresses(
    sa: &PreparedSa,
    outer: &IpHeader,
    ports: Option<(u16, u16)>,
) -> Result<(), DropReason> {
    // Both ends may move (RFC 4555), and what was sent before says nothing of where they are now: the integrity check
    // says whose it is.
    if sa.source.is_unspecified() {
        let is_possible = ports.is_none_or(|(source, _)| source != 0);
        return if is_possible { Ok(()) } else { Err(DropReason::OuterAddress) };
    }
    let is_between = outer.is_between(sa.source, sa.destination);
    let is_right = match (sa.encapsulation, ports) {
        (_, None) => is_between,
        // To port 4500, or it would not have been found to be ESP.
        (None, Some((source, _))) => is_between && source != 0,
        (Some(udp), Some((source, destination))) => {
            let is_ours = outer.destination() == sa.destination && destination == udp.destination_port;
            let is_from_peer = is_between && source == udp.source_port;
            // The outer source is not authenticated: nobody is to lead us to a group, to ourselves or to no port at all.
            let may_be_peer = udp.follows_peer && outer.is_forwardable() && source != 0;
            is_ours && (is_from_peer || may_be_peer)
        }
    };
    if is_right { Ok(()) } else { Err(DropReason::OuterAddress) }
}

/// Tells when an authentic packet, the newest so far, came from another place than the SA's peer. Only the newest: an
/// old one that somebody held back and sent from elsewhere moves nothing.
#[inline]
fn follow_peer(sa: &PreparedSa, about: &Received, events: &mut EventSender, now: u64) {
    if let (Some(udp), Some((port, _))) = (sa.encapsulation, about.ports)
        && udp.follows_peer
        && (about.outer.source() != sa.source || port != udp.source_port)
    {
        events.send(Event::PeerMoved { spi: sa.name.spi, address: about.outer.source(), port }, now);
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

/// Whether such a packet goes into the SA: what a router may forward into a tunnel (RFC 1812 section 5.3.7); whole
/// packets between the SA's own ends into transport mode (RFC 4303 section 3.1.1, RFC 4301 section 4.1).
#[inline]
fn check_carried(sa: &PreparedSa, inner: &IpHeader) -> Result<(), DropReason> {
    match sa.mode {
        Mode::Tunnel if !inner.is_forwardable() => Err(DropReason::NotForwardable),
        Mode::Transport if inner.is_fragment() => Err(DropReason::Fragment),
        Mode::Transport if !inner.is_between(sa.source, sa.destination) => Err(DropReason::Selectors),
        Mode::Tunnel | Mode::Transport => Ok(()),
    }
}

/// An SA at a hard bound carries nothing more; at a soft one the control plane hears of it.
#[inline]
fn check_age(
    sa: &PreparedSa,
    slot: SlotView<'_>,
    unix_seconds: u64,
    events: &mut EventSender,
    now: u64,
) -> Result<(), DropReason> {
    let (event, result) = match sa.age(slot, unix_seconds) {
        Age::Young => return Ok(()),
        Age::Soft => (Event::SoftLimit(sa.name), Ok(())),
        Age::Hard { is_news: false } => return Err(DropReason::LifetimeOver),
        Age::Hard { is_news: true } => (Event::HardLimit(sa.name), Err(DropReason::LifetimeOver)),
    };
    if !events.send(event, now) {
        sa.untell();
    }
    result
}

#[inline]
fn check_opened(outcome: Outcome, slot: SlotView<'_>) -> Result<(), DropReason> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::BadIcv => {
            slot.add_integrity_failures(1);
            Err(DropReason::BadIcv)
        }
        Outcome::Malformed => Err(DropReason::EspLength),
        Outcome::Pending => Err(DropReason::SaUnusable),
    }
}
