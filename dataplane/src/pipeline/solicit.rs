//! Peers that are not heard after a takeover.
//!
//! The floor of a takeover refuses the peer's next packets (I3). A peer that only acknowledges a download, and now gets
//! nothing to acknowledge, would take minutes to send enough of them. So the first authentic packets that are refused
//! are looked at, never delivered, for the two hosts that talk; the one behind the peer gets echo requests by the tunnel, as if
//! the one here had sent them. Each reply is one more packet of the peer, and soon one is above the floor. Where nobody
//! answers, the control plane hears of it.
//!
//! Old packets that somebody recorded and sends again are authentic too, so what they cause is bounded: each number is
//! looked at once, a number below it no more; the requests of an SA lead it to its floor and no further, but for some
//! repetitions; and the requests of a worker have a rate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use baton_sad::{Mode, SaHandle, SlotState, Table};

use super::headers::{Arrival, leave_transport, leave_tunnel};
use super::{Admitted, Event, Flight, Frame, InFlight, PacketIo, Pipeline, Received, Side, Stop};
use crate::crypto::EngineError;
use crate::events::{RateLimit, SaName};
use crate::io::{HEADROOM, Medium};
use crate::next_hop::Link;
use crate::packet::echo::{self, Token};
use crate::packet::ethernet;
use crate::replay::Refused;
use crate::spd::Way;

/// SAs of a worker that are looked after at a time; more wait until some are heard.
const SAS: usize = 4096;
/// Requests without a reply yet, at first and at most: every reply makes it one more.
const FIRST_WINDOW: u64 = 16;
const LARGEST_WINDOW: u64 = 512;
/// Requests of one SA that are sent at once at most.
const AT_ONCE: u64 = 32;
/// How far below the floor requests are of use: farther, a new SA is sooner there.
const DEPTH: u64 = 1 << 16;
/// Requests per second of a worker, and at once.
const PER_SECOND: u64 = 50_000;
const BURST: u64 = 4_096;

const MILLISECOND: u64 = 1_000_000;
/// Between two looks at all of these SAs.
const LOOK: u64 = 50 * MILLISECOND;
/// Requests and replies may be lost: after so long without one more packet they are sent again, so many times.
const SILENCE: u64 = 200 * MILLISECOND;
const TRIES: u8 = 4;
/// Without a reply for so long, or unheard for so long in all, nobody will answer.
const PATIENCE: u64 = 1_000 * MILLISECOND;
const PATIENCE_IN_ALL: u64 = 5_000 * MILLISECOND;
/// After that its place is free for others, and replies are somebody else's.
const MEMORY: u64 = 10_000 * MILLISECOND;

/// An inbound SA whose authentic packets the floor refuses.
#[derive(Debug)]
struct Unheard {
    handle: SaHandle,
    name: SaName,
    /// The host here and the one behind the peer.
    ends: (IpAddr, IpAddr),
    floor: u64,
    /// The highest number that was refused.
    number: u64,
    /// The number that the peer reaches if all requests are answered.
    solicited: u64,
    window: u64,
    /// Monotonic ns: of the first refused packet, the last one with a higher number, and the last reply.
    since: u64,
    advanced: u64,
    replied: u64,
    tries: u8,
    told: bool,
}

/// What was seen of a refused packet.
#[derive(Debug)]
struct Sighting {
    handle: SaHandle,
    name: SaName,
    ends: (IpAddr, IpAddr),
    floor: u64,
    number: u64,
    is_reply: bool,
}

impl Unheard {
    fn new(seen: &Sighting, now: u64) -> Self {
        Self {
            handle: seen.handle,
            name: seen.name,
            ends: seen.ends,
            floor: seen.floor,
            number: seen.number,
            solicited: seen.number,
            window: FIRST_WINDOW,
            since: now,
            advanced: now,
            replied: now,
            tries: 0,
            told: false,
        }
    }

    fn advance(&mut self, seen: &Sighting, now: u64) {
        self.number = self.number.max(seen.number);
        self.solicited = self.solicited.max(self.number);
        (self.floor, self.ends, self.advanced, self.tries) = (seen.floor, seen.ends, now, 0);
        // A peer that sends by itself needs no more of them.
        if seen.is_reply {
            self.window = (self.window + 1).min(LARGEST_WINDOW);
            self.replied = now;
        }
    }

    /// Requests that may be sent now: the last one's reply is the first packet above the floor.
    fn allowance(&self) -> u64 {
        let is_near = self.floor.saturating_sub(self.number) < DEPTH;
        let aim = self.number.saturating_add(self.window).min(self.floor.saturating_add(1));
        if is_near { aim.saturating_sub(self.solicited).min(AT_ONCE) } else { 0 }
    }

    /// Begins anew from what came, if requests seem to be lost.
    fn try_again(&mut self, now: u64) -> bool {
        let silent_since = self.advanced + SILENCE * u64::from(self.tries);
        let is_due = !self.told && self.tries < TRIES && now.saturating_sub(silent_since) >= SILENCE;
        if is_due {
            self.tries += 1;
            (self.solicited, self.window) = (self.number, FIRST_WINDOW);
        }
        is_due
    }

    /// Whether nobody will answer any more, and that is news.
    fn is_hopeless(&self, now: u64) -> bool {
        let since = |then: u64| now.saturating_sub(then);
        !self.told && (since(self.replied) >= PATIENCE || since(self.since) >= PATIENCE_IN_ALL)
    }

    /// Whether the SA is still there, and still not heard.
    fn is_one(&self, table: &Table, now: u64) -> bool {
        let slot = table.slot(self.handle);
        let is_unheard =
            slot.is_some_and(|slot| slot.state() != SlotState::Dead && slot.replay_top() <= slot.floor());
        is_unheard && !(self.told && now.saturating_sub(self.advanced) >= MEMORY)
    }
}

/// The unheard SAs of a worker.
#[derive(Debug)]
pub(super) struct Solicitor {
    /// By slot.
    sas: HashMap<u32, Unheard>,
    /// Slots of those that may want requests sent.
    due: Vec<u32>,
    token: Token,
    number: u16,
    limit: RateLimit,
    looked_at: u64,
    replies_until: u64,
}

impl Solicitor {
    pub(super) fn new() -> Result<Self, EngineError> {
        let mut token = Token::default();
        getrandom::fill(&mut token).map_err(EngineError::Random)?;
        Ok(Self {
            sas: HashMap::new(),
            due: Vec::new(),
            token,
            number: 0,
            limit: RateLimit::new(PER_SECOND, BURST),
            looked_at: 0,
            replies_until: 0,
        })
    }

    /// Whether replies to requests may come.
    #[inline]
    pub(super) fn awaits_replies(&self, now: u64) -> bool {
        now < self.replies_until
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    fn note(&mut self, seen: &Sighting, now: u64) {
        let slot = seen.handle.slot();
        let has_room = self.sas.len() < SAS;
        match self.sas.get_mut(&slot) {
            Some(unheard) if unheard.handle == seen.handle => unheard.advance(seen, now),
            Some(another) => *another = Unheard::new(seen, now),
            None if has_room => drop(self.sas.insert(slot, Unheard::new(seen, now))),
            None => return,
        }
        self.due.push(slot);
    }

    /// Looks at all of them now and then: forgets who is heard, tells of those whom nobody helps, tries others again.
    fn look(&mut self, table: &Table, now: u64, mut tell: impl FnMut(SaName) -> bool) {
        self.looked_at = now;
        self.sas.retain(|_, unheard| unheard.is_one(table, now));
        for (slot, unheard) in &mut self.sas {
            if unheard.is_hopeless(now) {
                unheard.told = tell(unheard.name);
            } else if unheard.try_again(now) {
                self.due.push(*slot);
            }
        }
    }

    /// The next SA that wants requests, and how many.
    fn next_due(&mut self) -> Option<(u32, u64)> {
        while let Some(slot) = self.due.pop() {
            let allowance = self.sas.get(&slot).map_or(0, Unheard::allowance);
            if allowance > 0 {
                return Some((slot, allowance));
            }
        }
        None
    }
}

impl<I: PacketIo> Pipeline<I> {
    /// An authentic packet is refused. One that the floor refuses is looked at before it is dropped.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse(&mut self, buffer: &mut [u8], flight: &Flight<Received>, refused: Refused) -> Stop {
        if let Some(slot) = self.table.slot_in_flight(flight.handle) {
            slot.add_replay_drops(1);
            let floor = slot.floor();
            let seen =
                (refused == Refused::BelowFloor).then(|| self.examine(buffer, flight, floor)).flatten();
            if let Some(seen) = seen {
                self.solicitor.note(&seen, self.now);
            }
        }
        refused.into()
    }

    /// Who talks to whom, if the packet is one that would have been delivered.
    fn examine(&self, buffer: &mut [u8], flight: &Flight<Received>, floor: u64) -> Option<Sighting> {
        let sa = self.sas.prepared(flight.handle).filter(|sa| sa.is_first_look(flight.sequence))?;
        let payload = sa.layout.unwrap(buffer, flight.esp.clone()).ok()?;
        let (inner, packet) = match sa.mode {
            Mode::Tunnel => leave_tunnel(&payload, buffer),
            Mode::Transport => leave_transport(&flight.about, &payload, buffer),
        }
        .ok()?;
        let octets = &buffer[packet];
        let is_right = inner.is_forwardable() && sa.selects(&inner.flow(octets), Way::Inbound);
        is_right.then(|| Sighting {
            handle: flight.handle,
            name: sa.name,
            ends: (inner.destination(), inner.source()),
            floor,
            number: flight.sequence,
            is_reply: echo::is_reply(&inner, octets, self.solicitor.token()),
        })
    }

    /// Sends the requests that are due.
    #[inline]
    pub(super) fn solicit(&mut self, io: &mut I) {
        if !self.solicitor.due.is_empty() {
            self.send_requests(io);
        }
    }

    #[cold]
    fn send_requests(&mut self, io: &mut I) {
        self.solicitor.replies_until = self.now.saturating_add(MEMORY);
        while let Some((slot, allowance)) = self.solicitor.next_due() {
            let room = self.sealing.capacity() as u64;
            let sent =
                (0..allowance.min(room)).take_while(|_| self.request(io, slot).is_some()).count() as u64;
            self.counters.floor_solicited.add(sent);
            if let Some(unheard) = self.solicitor.sas.get_mut(&slot) {
                unheard.solicited += sent;
            }
            self.seal();
            self.finish_sealed(io);
            self.transmit(io);
        }
    }

    /// One request on its way through the policies, as if the host here had sent it.
    fn request(&mut self, io: &mut I, slot: u32) -> Option<()> {
        let ends = self.solicitor.sas.get(&slot)?.ends;
        if !self.solicitor.limit.admit(self.now) {
            return None;
        }
        let frame = io.allocate()?;
        let medium = io.medium(Side::Inner);
        let Some(range) = self.write_request(io.buffer(&frame), ends, medium) else {
            io.release(frame);
            return None;
        };
        let frame = Frame { side: Side::Inner, ..frame.with_packet(range) };
        match self.admit_outbound(&Arrival { frame: &frame, medium }, io.buffer(&frame)) {
            Ok(Admitted::Protected(flight)) => {
                self.sealing.push(InFlight { packet: io.lend(frame), flight });
                Some(())
            }
            Err(stop @ Stop::HandOver(_)) => {
                self.stop(io, frame, &stop);
                Some(())
            }
            // Nothing that the peer sent makes this gateway send in clear, ask for an SA or answer its own request.
            Ok(Admitted::Clear(_)) | Err(_) => {
                io.release(frame);
                None
            }
        }
    }

    /// With a link header where other workers expect one.
    fn write_request(
        &mut self,
        buffer: &mut [u8],
        ends: (IpAddr, IpAddr),
        medium: Medium,
    ) -> Option<Range<usize>> {
        let number = self.solicitor.number;
        self.solicitor.number = number.wrapping_add(1);
        let packet = echo::emit_request(buffer, HEADROOM, ends, number, &self.solicitor.token)?;
        if medium == Medium::Ip {
            return Some(packet);
        }
        let mac = self.hops.load().side(Side::Inner).mac;
        let link = Link { destination: mac, source: mac, vlan: None };
        let kind = if ends.0.is_ipv6() { ethernet::IPV6 } else { ethernet::IPV4 };
        ethernet::emit_before(buffer, packet.start, &link, kind).map(|start| start..packet.end)
    }

    /// Once per turn.
    #[inline]
    pub(super) fn look_after_unheard(&mut self, io: &mut I) {
        if !self.solicitor.sas.is_empty() {
            self.look_at_unheard(io);
        }
    }

    #[cold]
    fn look_at_unheard(&mut self, io: &mut I) {
        let now = (self.clock)();
        if now.saturating_sub(self.solicitor.looked_at) < LOOK {
            return;
        }
        self.begin();
        let Self { solicitor, events, table, .. } = self;
        solicitor.look(table, now, |name| events.send(Event::Unheard(name), now));
        self.solicit(io);
    }
}
