//! SAs as a worker uses them: prepared keys and compiled selectors, read once per (slot, generation).

use std::net::{IpAddr, Ipv4Addr};

use baton_sad::{Mode, Sa, SaHandle, SlotState, SlotView, Table};

use super::Stop;
use crate::crypto::Engine;
use crate::drop_reason::DropReason;
use crate::esp::payload::EspKey;
use crate::esp::tunnel::OuterHeader;
use crate::io::Side;
use crate::next_hop::NextHops;
use crate::packet::icmp::IcmpError;
use crate::packet::ipv4::{self, Ipv4Header};
use crate::packet::transport::Flow;
use crate::replay::Window;
use crate::spd::{Matcher, Way};

/// Entries looked at per turn after the table changed.
const SWEEP_STEP: usize = 64;

/// One SA, ready for packets. Dropping it wipes its key.
#[derive(Debug)]
pub(super) struct PreparedSa {
    handle: SaHandle,
    pub(super) key: EspKey,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) segment: u8,
    pub(super) outer: OuterHeader,
    selectors: Vec<Matcher>,
    replay_window: u16,
    path_mtu: u16,
}

impl PreparedSa {
    fn new(handle: SaHandle, sa: &Sa, engine: &Engine) -> Result<Self, DropReason> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (sa.source, sa.destination) else {
            return Err(DropReason::SaUnusable);
        };
        if sa.mode != Mode::Tunnel || sa.encapsulation.is_some() {
            return Err(DropReason::SaUnusable);
        }
        let key = engine
            .prepare(sa.suite, sa.extended_sequence, sa.key.expose())
            .map_err(|_| DropReason::SaUnusable)?;
        Ok(Self {
            handle,
            key: EspKey { spi: sa.spi, key },
            source,
            destination,
            segment: sa.segment,
            outer: OuterHeader::new(source, destination, sa.dscp, sa.df),
            selectors: sa.selectors.iter().filter_map(Matcher::new).collect(),
            replay_window: sa.replay_window,
            path_mtu: sa.path_mtu,
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

    /// The last sequence number that may be sent (RFC 4303 section 3.3.3).
    #[inline]
    pub(super) fn last_sequence(&self) -> u64 {
        if self.key.key.is_extended() { u64::MAX } else { u64::from(u32::MAX) }
    }

    /// A packet that does not fit the tunnel is answered if it has DF, and dropped without an answer if not:
    /// RFC 4301 section 8.2.1 forbids the ICMP message then and wants fragments, which this gateway does not
    /// make.
    #[inline]
    pub(super) fn check_path_mtu(&self, hops: &NextHops, inner: &Ipv4Header) -> Result<(), Stop> {
        let interface = hops.side(Side::Outer).mtu;
        let mtu = if self.path_mtu == 0 { interface } else { self.path_mtu.min(interface) };
        if ipv4::HEADER + self.key.sealed_length(inner.total_length) <= usize::from(mtu) {
            return Ok(());
        }
        if !inner.dont_fragment() {
            return Err(DropReason::TooBig.into());
        }
        let largest = self.key.largest_payload(usize::from(mtu).saturating_sub(ipv4::HEADER));
        Err(Stop::Answer(DropReason::TooBig, IcmpError::FragmentationNeeded { mtu: largest as u16 }))
    }
}

/// This worker's SAs, by slot.
#[derive(Debug)]
pub(super) struct SaCache {
    entries: Vec<Option<Box<PreparedSa>>>,
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
        Self { entries: (0..own).map(|_| None).collect(), workers, swept_for: 0, to_sweep: 0, position: 0 }
    }

    #[inline]
    pub(super) fn get(
        &mut self,
        table: &Table,
        handle: SaHandle,
        engine: &Engine,
    ) -> Result<&PreparedSa, DropReason> {
        let entry =
            self.entries.get_mut((handle.slot() / self.workers) as usize).ok_or(DropReason::SaUnusable)?;
        match entry {
            Some(sa) if sa.handle == handle => {}
            _ => *entry = Some(prepare(table, handle, engine)?),
        }
        entry.as_deref().ok_or(DropReason::SaUnusable)
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
fn prepare(table: &Table, handle: SaHandle, engine: &Engine) -> Result<Box<PreparedSa>, DropReason> {
    let sa = table.read_config(handle).map_err(|_| DropReason::SaUnusable)?;
    PreparedSa::new(handle, &sa, engine).map(Box::new)
}
