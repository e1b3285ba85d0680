//! SAs as a worker uses them: prepared keys and compiled selectors, read once per (slot, generation).

use std::cell::Cell;
use std::net::IpAddr;

use baton_sad::{Lifetime, Mode, Sa, SaHandle, SlotState, SlotView, Table, TfcPadding, UdpEncapsulation};

use super::Stop;
use crate::crypto::{Engine, PreparedKey};
use crate::drop_reason::DropReason;
use crate::esp::payload::Layout;
use crate::esp::tunnel::OuterHeader;
use crate::events::SaName;
use crate::packet::icmp::IcmpError;
use crate::packet::ip::IpHeader;
use crate::packet::quoted::{LEAST_IPV4, LEAST_IPV6};
use crate::packet::transport::Flow;
use crate::packet::{ipv4, ipv6, udp};
use crate::replay::{Refused, Window};
use crate::spd::{Matcher, Way};

/// Entries looked at per turn after the table changed.
const SWEEP_STEP: usize = 64;
/// The least MTU of an IPv6 link (RFC 8200 section 5): a smaller one may not be told to an inner sender.
const IPV6_MINIMUM_MTU: usize = 1280;

/// One SA, ready for packets. Dropping it wipes its key.
#[derive(Debug)]
pub(super) struct PreparedSa {
    handle: SaHandle,
    pub(super) name: SaName,
    pub(super) key: PreparedKey,
    pub(super) layout: Layout,
    pub(super) mode: Mode,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) encapsulation: Option<UdpEncapsulation>,
    pub(super) segment: u8,
    pub(super) outer: OuterHeader,
    pub(super) clamp_mss: bool,
    selectors: Vec<Matcher>,
    replay_window: u16,
    path_mtu: u16,
    tfc_padding: TfcPadding,
    /// `None` if nothing bounds it.
    lifetime: Option<Lifetime>,
    /// Whether the soft bound, and the hard one, was told.
    told: [Cell<bool>; 2],
    granted: Granted,
    /// The highest authentic number at or below a floor that was looked at.
    examined: Cell<u64>,
}

/// Which bounds an SA has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Young,
    /// A soft one, for the first time.
    Soft,
    /// A hard one; whether for the first time.
    Hard {
        is_news: bool,
    },
}

impl PreparedSa {
    fn new(handle: SaHandle, sa: &Sa, engine: &Engine) -> Result<Self, DropReason> {
        let key = engine
            .prepare(sa.suite, sa.extended_sequence, sa.key.expose())
            .map_err(|_| DropReason::SaUnusable)?;
        Ok(Self {
            handle,
            name: SaName { direction: sa.direction, spi: sa.spi, reqid: sa.reqid },
            key,
            layout: Layout::new(sa.suite),
            mode: sa.mode,
            source: sa.source,
            destination: sa.destination,
            encapsulation: sa.encapsulation,
            segment: sa.segment,
            outer: OuterHeader::new(sa.source, sa.destination, sa.encapsulation, sa.dscp, sa.df)
                .ok_or(DropReason::SaUnusable)?,
            clamp_mss: sa.clamp_mss,
            selectors: sa.selectors.iter().filter_map(Matcher::new).collect(),
            replay_window: sa.replay_window,
            path_mtu: sa.path_mtu,
            tfc_padding: sa.tfc_padding,
            lifetime: (sa.lifetime != Lifetime::default()).then_some(sa.lifetime),
            told: Default::default(),
            granted: Granted::default(),
            examined: Cell::new(0),
        })
    }

    #[inline]
    pub(super) fn selects(&self, flow: &Flow, way: Way) -> bool {
        self.selectors.iter().any(|selector| selector.matches(flow, way))
    }

    #[inline]
    pub(super) fn window<'t>(&self, slot: SlotView<'t>) -> Window<'t> {
        Window::new(slot, self.replay_window)
    }

    /// The number of a packet that the floor refuses, if it is worth opening to see who sent it: each once, and none
    /// below it later. The window's commit refuses it all the same (I3).
    ///
    /// # Errors
    /// What it was refused for.
    #[cold]
    #[inline(never)]
    pub(super) fn look_beneath(
        &self,
        slot: SlotView<'_>,
        low: u32,
        refused: Refused,
    ) -> Result<u64, Refused> {
        let beneath = || self.window(slot).beneath_floor(low, self.key.is_extended());
        let number = (refused == Refused::BelowFloor).then(beneath).flatten();
        number.filter(|number| *number > self.examined.get()).ok_or(refused)
    }

    /// Whether this authentic number is looked at for the first time; now it was.
    pub(super) fn is_first_look(&self, sequence: u64) -> bool {
        let is_first = sequence > self.examined.get();
        self.examined.set(sequence.max(self.examined.get()));
        is_first
    }

    /// The last sequence number that may be sent (RFC 4303 section 3.3.3).
    #[inline]
    pub(super) fn last_sequence(&self) -> u64 {
        if self.key.is_extended() { u64::MAX } else { u64::from(u32::MAX) }
    }

    /// The next sequence number to send (I2), while enforcement is at this count.
    ///
    /// # Errors
    /// [`DropReason::SequenceWrap`], or [`DropReason::ReservationOutbound`]: none is taken then.
    #[inline]
    pub(super) fn next_sequence(
        &self,
        table: &Table,
        slot: SlotView<'_>,
        enforcement: u64,
    ) -> Result<u64, DropReason> {
        match slot.next_sequence(1, self.granted.limit(enforcement)) {
            Some(sequence) => Ok(sequence),
            None => self.next_reserved(table, slot, enforcement),
        }
    }

    #[cold]
    #[inline(never)]
    fn next_reserved(&self, table: &Table, slot: SlotView<'_>, enforcement: u64) -> Result<u64, DropReason> {
        let last = self.last_sequence();
        let wanted = slot.sequence().checked_add(1).filter(|wanted| *wanted <= last);
        let wanted = wanted.ok_or(DropReason::SequenceWrap)?;
        let limit = table.grant(self.handle, self.segment, wanted).min(last);
        self.granted.remember(limit, enforcement);
        slot.next_sequence(1, limit).ok_or(DropReason::ReservationOutbound)
    }

    /// Whether an authenticated sequence number may be accepted (I3), while enforcement is at this count.
    ///
    /// # Errors
    /// [`DropReason::ReservationInbound`].
    #[inline]
    pub(super) fn check_reserved(
        &self,
        table: &Table,
        sequence: u64,
        enforcement: u64,
    ) -> Result<(), DropReason> {
        if sequence <= self.granted.limit(enforcement) {
            return Ok(());
        }
        self.look_for_reservation(table, sequence, enforcement)
    }

    #[cold]
    #[inline(never)]
    fn look_for_reservation(&self, table: &Table, sequence: u64, enforcement: u64) -> Result<(), DropReason> {
        let limit = table.grant(self.handle, self.segment, sequence);
        self.granted.remember(limit, enforcement);
        if sequence <= limit { Ok(()) } else { Err(DropReason::ReservationInbound) }
    }

    /// Which bounds the SA has reached (RFC 4301 section 4.4.2.1).
    #[inline]
    pub(super) fn age(&self, slot: SlotView<'_>, unix_seconds: u64) -> Age {
        let Some(lifetime) = &self.lifetime else { return Age::Young };
        let (octets, packets, sequence) = (slot.octets(), slot.packets(), slot.sequence());
        if lifetime.hard.are_reached(octets, packets, sequence, unix_seconds) {
            return Age::Hard { is_news: !self.told[1].replace(true) };
        }
        let is_soft = lifetime.soft.are_reached(octets, packets, sequence, unix_seconds);
        if is_soft && !self.told[0].replace(true) { Age::Soft } else { Age::Young }
    }

    /// An event could not be told: it is told later.
    #[cold]
    pub(super) fn untell(&self) {
        self.told.iter().for_each(|told| told.set(false));
    }

    /// Octets in front of ESP that the SA adds or shares: the outer IP header of tunnel mode, and UDP.
    #[inline]
    fn outer_overhead(&self, inner: &IpHeader) -> usize {
        match self.mode {
            Mode::Tunnel => self.outer.overhead(),
            Mode::Transport => {
                inner.insertion.offset + if self.encapsulation.is_some() { udp::HEADER } else { 0 }
            }
        }
    }

    /// The largest payload that fits the path, whose MTU is never believed to be below what every link of its family
    /// has: whoever could say less would leave no room for any packet.
    #[inline]
    pub(super) fn room(&self, slot: SlotView<'_>, inner: &IpHeader, interface: u16, now: u64) -> usize {
        let configured = if self.path_mtu == 0 { interface } else { self.path_mtu.min(interface) };
        let mtu = slot.learned_path_mtu(now).map_or(configured, |learned| learned.min(configured));
        let least = if self.destination.is_ipv6() { LEAST_IPV6 } else { LEAST_IPV4 };
        let mtu = mtu.max(least.min(interface));
        self.layout.largest_payload(usize::from(mtu).saturating_sub(self.outer_overhead(inner)))
    }

    /// A packet that does not fit the tunnel is answered if it has DF (in IPv6 every one has it), and dropped
    /// without an answer if not: RFC 4301 section 8.2.1 forbids the ICMP message then and wants fragments, which
    /// this gateway does not make.
    #[inline]
    pub(super) fn check_room(&self, inner: &IpHeader, room: usize) -> Result<(), Stop> {
        let shared = if self.mode == Mode::Transport { inner.insertion.offset } else { 0 };
        if inner.total_length - shared <= room {
            return Ok(());
        }
        if !inner.dont_fragment {
            return Err(DropReason::TooBig.into());
        }
        let fits = room + shared;
        let mtu = if inner.is_ipv6() { fits.max(IPV6_MINIMUM_MTU) } else { fits };
        Err(Stop::Answer(
            DropReason::TooBig,
            IcmpError::TooBig { mtu: u16::try_from(mtu).unwrap_or(u16::MAX) },
        ))
    }

    /// Octets of TFC padding for a payload of `length` (RFC 4303 section 2.7).
    #[inline]
    pub(super) fn tfc_padding(&self, length: usize, room: usize) -> usize {
        match self.tfc_padding {
            TfcPadding::Off => 0,
            TfcPadding::To(octets) => usize::from(octets).min(room).saturating_sub(length),
            TfcPadding::PathMtu => room.saturating_sub(length),
        }
    }

    /// The largest TCP segment that fits, options of TCP not counted (RFC 6691).
    #[inline]
    pub(super) fn largest_segment(&self, inner: &IpHeader, room: usize) -> u16 {
        let headers = if inner.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER } + TCP_HEADER;
        let shared = if self.mode == Mode::Transport { inner.insertion.offset } else { 0 };
        u16::try_from((room + shared).saturating_sub(headers)).unwrap_or(u16::MAX)
    }
}

/// The limit that [`Table::grant`] told last: up to it the table is not looked at.
#[derive(Debug)]
struct Granted {
    limit: Cell<u64>,
    /// The count of enforcement that it was told at; none at first.
    enforcement: Cell<u64>,
}

impl Default for Granted {
    fn default() -> Self {
        Self { limit: Cell::new(0), enforcement: Cell::new(u64::MAX) }
    }
}

impl Granted {
    #[inline]
    fn limit(&self, enforcement: u64) -> u64 {
        if self.enforcement.get() == enforcement { self.limit.get() } else { 0 }
    }

    fn remember(&self, limit: u64, enforcement: u64) {
        self.limit.set(limit);
        self.enforcement.set(enforcement);
    }
}

/// Octets of a TCP header without options.
const TCP_HEADER: usize = 20;

/// This worker's SAs, by slot.
#[derive(Debug)]
pub(super) struct SaCache {
    entries: Vec<Option<Box<PreparedSa>>>,
    /// What had its place taken in this batch by another configuration of the same SA: packets of this batch that were
    /// admitted before are finished with it.
    #[expect(clippy::vec_box, reason = "moved here as it is: a key that is copied is there twice")]
    replaced: Vec<Box<PreparedSa>>,
    workers: u32,
    swept_for: u64,
    to_sweep: usize,
    /// The entry that was looked at last.
    position: usize,
}

impl SaCache {
    pub(super) fn new(table: &Table, workers: u16) -> Self {
        let workers = u32::from(workers.max(1));
        let own = table.slots().div_ceil(workers);
        Self {
            entries: (0..own).map(|_| None).collect(),
            replaced: Vec::new(),
            workers,
            swept_for: 0,
            to_sweep: 0,
            position: 0,
        }
    }

    /// Before each batch.
    #[inline]
    pub(super) fn begin_batch(&mut self) {
        self.replaced.clear();
    }

    #[inline]
    pub(super) fn get(
        &mut self,
        table: &Table,
        engine: &Engine,
        handle: SaHandle,
    ) -> Result<&PreparedSa, DropReason> {
        let entry =
            self.entries.get_mut((handle.slot() / self.workers) as usize).ok_or(DropReason::SaUnusable)?;
        match entry {
            Some(sa) if sa.handle == handle => {}
            _ => self.replaced.extend(entry.replace(prepare(table, engine, handle)?)),
        }
        entry.as_deref().ok_or(DropReason::SaUnusable)
    }

    /// What [`get`](Self::get) prepared in this batch.
    #[inline]
    pub(super) fn prepared(&self, handle: SaHandle) -> Option<&PreparedSa> {
        let entry = self.entries.get((handle.slot() / self.workers) as usize)?;
        let present = entry.as_deref().filter(|sa| sa.handle == handle);
        present.or_else(|| self.prepared_before(handle))
    }

    #[cold]
    fn prepared_before(&self, handle: SaHandle) -> Option<&PreparedSa> {
        self.replaced.iter().map(|sa| &**sa).find(|sa| sa.handle == handle)
    }

    /// Wipes the keys of SAs that are gone: all entries once, a few per turn, after each change of the table.
    pub(super) fn sweep(&mut self, table: &Table) {
        let changes = table.change_count();
        if changes != self.swept_for {
            self.swept_for = changes;
            self.to_sweep = self.entries.len();
        }
        // Round and round from where it was, so that steady changes do not keep it from any entry.
        let step = SWEEP_STEP.min(self.to_sweep);
        self.to_sweep -= step;
        for _ in 0..step {
            self.position = (self.position + 1) % self.entries.len();
            let entry = &mut self.entries[self.position];
            let is_gone =
                |sa: &PreparedSa| table.slot(sa.handle).is_none_or(|slot| slot.state() == SlotState::Dead);
            if entry.as_deref().is_some_and(is_gone) {
                *entry = None;
            }
        }
    }
}

/// Once per SA, so it may allocate.
#[cold]
fn prepare(table: &Table, engine: &Engine, handle: SaHandle) -> Result<Box<PreparedSa>, DropReason> {
    let sa = table.read_config(handle).map_err(|_| DropReason::SaUnusable)?;
    PreparedSa::new(handle, &sa, engine).map(Box::new)
}
