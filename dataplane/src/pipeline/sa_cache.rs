//! SAs as a worker uses them: prepared keys and compiled selectors, read once per (slot, generation).

use std::net::IpAddr;

use baton_sad::{Integrity, Mode, Sa, SaHandle, SlotState, SlotView, Table};

use super::Stop;
use crate::crypto::Backend;
use crate::drop_reason::DropReason;
use crate::esp::payload::EspKey;
use crate::esp::tunnel::OuterHeader;
use crate::io::Side;
use crate::next_hop::NextHops;
use crate::packet::icmp::IcmpError;
use crate::packet::ip::IpHeader;
use crate::packet::transport::Flow;
use crate::replay::Window;
use crate::spd::{Matcher, Way};

/// Octets of the salt at the end of the keying material (RFC 4106 section 8.1).
const SALT: usize = 4;
/// Entries looked at per turn after the table changed.
const SWEEP_STEP: usize = 64;

/// One SA, ready for packets. Dropping it wipes its key.
#[derive(Debug)]
pub(super) struct PreparedSa {
    handle: SaHandle,
    pub(super) key: EspKey,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) segment: u8,
    pub(super) outer: OuterHeader,
    selectors: Vec<Matcher>,
    replay_window: u16,
    path_mtu: u16,
}

impl PreparedSa {
    fn new(handle: SaHandle, sa: &Sa, backend: Backend) -> Result<Self, DropReason> {
        let material = sa.key.expose();
        let (key, salt) = material.split_last_chunk::<SALT>().ok_or(DropReason::SaUnusable)?;
        if sa.suite.integrity() != Integrity::None || sa.mode != Mode::Tunnel || sa.encapsulation.is_some() {
            return Err(DropReason::SaUnusable);
        }
        if sa.destination.is_ipv6() {
            return Err(DropReason::SaUnusable);
        }
        let outer = OuterHeader::new(sa.source, sa.destination, sa.encapsulation, sa.dscp, sa.df)
            .ok_or(DropReason::SaUnusable)?;
        let icv = sa.suite.icv_length();
        let aead = backend.prepare(key, icv).map_err(|_| DropReason::SaUnusable)?;
        Ok(Self {
            handle,
            key: EspKey { spi: sa.spi, salt: *salt, icv, extended: sa.extended_sequence, aead },
            source: sa.source,
            destination: sa.destination,
            segment: sa.segment,
            outer,
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
        if self.key.extended { u64::MAX } else { u64::from(u32::MAX) }
    }

    /// A packet that does not fit the tunnel is answered if it has DF, and dropped without an answer if not:
    /// RFC 4301 section 8.2.1 forbids the ICMP message then and wants fragments, which this gateway does not
    /// make.
    #[inline]
    pub(super) fn check_path_mtu(&self, hops: &NextHops, inner: &IpHeader) -> Result<(), Stop> {
        let interface = hops.side(Side::Outer).mtu;
        let mtu = if self.path_mtu == 0 { interface } else { self.path_mtu.min(interface) };
        if self.outer.overhead() + self.key.sealed_length(inner.total_length) <= usize::from(mtu) {
            return Ok(());
        }
        if !inner.dont_fragment {
            return Err(DropReason::TooBig.into());
        }
        let largest = self.key.largest_payload(usize::from(mtu).saturating_sub(self.outer.overhead()));
        Err(Stop::Answer(DropReason::TooBig, IcmpError::TooBig { mtu: largest as u16 }))
    }
}

/// This worker's SAs, by slot.
#[derive(Debug)]
pub(super) struct SaCache {
    entries: Vec<Option<Box<PreparedSa>>>,
    workers: u32,
    backend: Backend,
    swept_for: u64,
    to_sweep: usize,
    /// The entry that was looked at last.
    position: usize,
}

impl SaCache {
    pub(super) fn new(table: &Table, workers: u16, backend: Backend) -> Self {
        let workers = u32::from(workers.max(1));
        let own = table.slots().div_ceil(workers);
        Self {
            entries: (0..own).map(|_| None).collect(),
            workers,
            backend,
            swept_for: 0,
            to_sweep: 0,
            position: 0,
        }
    }

    #[inline]
    pub(super) fn get(&mut self, table: &Table, handle: SaHandle) -> Result<&PreparedSa, DropReason> {
        let entry =
            self.entries.get_mut((handle.slot() / self.workers) as usize).ok_or(DropReason::SaUnusable)?;
        match entry {
            Some(sa) if sa.handle == handle => {}
            _ => *entry = Some(prepare(table, handle, self.backend)?),
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
fn prepare(table: &Table, handle: SaHandle, backend: Backend) -> Result<Box<PreparedSa>, DropReason> {
    let sa = table.read_config(handle).map_err(|_| DropReason::SaUnusable)?;
    PreparedSa::new(handle, &sa, backend).map(Box::new)
}
