//! One pool and who has what of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::slice::{Bits, Slice, address, bits};
use super::{PoolError, PoolStatus, Slicing};
use crate::configuration::Pool;
use crate::identity::Identity;

/// Addresses that are kept for peers that are gone; beyond, those longest gone are free at once.
const MAX_OFFLINE: usize = 65_536;

#[derive(Debug)]
pub(super) struct State {
    pool: Arc<Pool>,
    slicing: Slicing,
    /// By segment; those that were asked for.
    slices: HashMap<u8, Slice>,
    leases: HashMap<Bits, Lease>,
    /// What is kept for whom.
    kept: HashMap<Identity, Vec<Bits>>,
    offline: usize,
    /// Tells leases apart that ended at the same time.
    serial: u64,
}

#[derive(Debug)]
struct Lease {
    who: Identity,
    /// Tunnels that have it: more than one after a crash between a tunnel and the one that takes its place.
    holders: u32,
    /// When it ended, and as the how manieth.
    ended: Option<(Duration, u64)>,
}

impl State {
    pub(super) fn new(pool: Arc<Pool>, slicing: Slicing) -> Self {
        let (slices, leases, kept) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { pool, slicing, slices, leases, kept, offline: 0, serial: 0 }
    }

    pub(super) fn name(&self) -> &str {
        &self.pool.name
    }

    pub(super) const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = (self.pool.first, self.pool.last);
        address.is_ipv4() == first.is_ipv4() && first <= address && address <= last
    }

    pub(super) fn lease(
        &mut self,
        segment: u8,
        who: &Identity,
        wanted: Option<IpAddr>,
        now: Duration,
    ) -> Result<IpAddr, PoolError> {
        if self.share(segment).is_none() {
            return Err(PoolError::NoShare { pool: self.name().to_owned(), segment });
        }
        let slice = self.slice_of(segment);
        self.expire(slice, now);
        let chosen = self.choose(slice, who, wanted);
        let chosen = chosen.ok_or_else(|| PoolError::Full { pool: self.name().to_owned(), segment })?;
        self.begin(slice, chosen, who);
        Ok(address(self.pool.first, chosen))
    }

    fn choose(&mut self, slice: u8, who: &Identity, wanted: Option<IpAddr>) -> Option<Bits> {
        let wanted = wanted.filter(|wanted| self.contains(*wanted)).map(bits);
        let may_have = |state: &Self, at: Bits| {
            state.slice_with(at) == slice
                && state.leases.get(&at).is_none_or(|lease| lease.ended.is_some() && lease.who == *who)
        };
        let had = self.kept.get(who).into_iter().flatten().copied();
        let preferred = wanted.into_iter().chain(had).find(|at| may_have(self, *at));
        preferred.or_else(|| self.any_free(slice))
    }

    /// One that nobody has; if there is none, the one whose peer has been gone for the longest time.
    fn any_free(&mut self, slice: u8) -> Option<Bits> {
        let leases = &self.leases;
        let free = self.slices.get_mut(&slice)?.take(|at| leases.contains_key(&at));
        free.or_else(|| {
            let (_, oldest) = self.slices.get(&slice)?.longest_kept()?;
            self.end_keeping(slice, oldest);
            Some(oldest)
        })
    }

    /// Whether nobody else has it.
    pub(super) fn may_take(&self, address: IpAddr, who: &Identity) -> bool {
        self.leases.get(&bits(address)).is_none_or(|lease| lease.ended.is_some() || lease.who == *who)
    }

    /// One more tunnel of a peer has it.
    pub(super) fn take(&mut self, address: IpAddr, who: &Identity) {
        let at = bits(address);
        if let Some(lease) = self.leases.get_mut(&at).filter(|lease| lease.ended.is_none()) {
            lease.holders = lease.holders.saturating_add(1);
            return;
        }
        let slice = self.slice_with(at);
        self.make_slice(slice);
        self.begin(slice, at, who);
    }

    pub(super) fn release(&mut self, address: IpAddr, now: Duration) {
        let at = bits(address);
        let slice = self.slice_with(at);
        let Some(lease) = self.leases.get_mut(&at).filter(|lease| lease.ended.is_none()) else { return };
        lease.holders = lease.holders.saturating_sub(1);
        if lease.holders > 0 {
            return;
        }
        self.serial += 1;
        let ended = (now, self.serial);
        lease.ended = Some(ended);
        self.kept.entry(lease.who.clone()).or_default().push(at);
        self.offline += 1;
        self.slices.entry(slice).and_modify(|slice| slice.keep(ended.0, ended.1, at));
        self.expire(slice, now);
    }

    /// Somebody has the address from now on.
    fn begin(&mut self, slice: u8, at: Bits, who: &Identity) {
        self.end_keeping(slice, at);
        self.leases.insert(at, Lease { who: who.clone(), holders: 1, ended: None });
        self.slices.entry(slice).and_modify(|slice| slice.remove(at));
    }

    /// Those whose time is over, and those that are too many.
    fn expire(&mut self, slice: u8, now: Duration) {
        let lease_time = self.pool.lease_time;
        while let Some((since, at)) = self.slices.get(&slice).and_then(Slice::longest_kept) {
            if self.offline <= MAX_OFFLINE && now.saturating_sub(since) < lease_time {
                return;
            }
            self.end_keeping(slice, at);
        }
    }

    /// Forgets who had an address that nobody has.
    fn end_keeping(&mut self, slice: u8, at: Bits) {
        let Some(Lease { who, ended: Some((since, serial)), .. }) = self.leases.get(&at) else { return };
        let slice = self.slices.get_mut(&slice);
        if let Some(slice) = slice {
            slice.unkeep(*since, *serial);
            slice.give_back(at);
        }
        if let Some(kept) = self.kept.get_mut(who) {
            kept.retain(|other| *other != at);
            if kept.is_empty() {
                self.kept.remove(who);
            }
        }
        self.leases.remove(&at);
        self.offline -= 1;
    }

    /// The slice of a segment, which is there from now on.
    fn slice_of(&mut self, segment: u8) -> u8 {
        let slice = if self.slicing == Slicing::Whole { 0 } else { segment };
        self.make_slice(slice);
        slice
    }

    fn make_slice(&mut self, slice: u8) {
        let (first, step) = self.share(slice).unwrap_or((Bits::MAX, 1));
        let last = bits(self.pool.last);
        self.slices.entry(slice).or_insert_with(|| Slice::new(first, last, step));
    }

    /// The slice that an address is part of.
    const fn slice_with(&self, at: Bits) -> u8 {
        match self.slicing {
            Slicing::Whole => 0,
            Slicing::BySegment => at as u8,
        }
    }

    /// The first address of a segment, and how far it is to the next one; `None` if it has none.
    fn share(&self, segment: u8) -> Option<(Bits, Bits)> {
        let (first, last) = (bits(self.pool.first), bits(self.pool.last));
        let (own, step) = match self.slicing {
            Slicing::Whole => (first, 1),
            Slicing::BySegment => (first.checked_add(u128::from(segment.wrapping_sub(first as u8)))?, 256),
        };
        (own <= last && self.contains(self.pool.last)).then_some((own, step))
    }

    /// Takes over what is leased in an earlier state of the pool.
    pub(super) fn inherit(&mut self, old: Self) {
        let mut leases: Vec<_> = old.leases.into_iter().collect();
        leases.sort_by_key(|(_, lease)| lease.ended);
        for (at, lease) in leases {
            let address = address(old.pool.first, at);
            if self.contains(address) {
                (0..lease.holders.max(1)).for_each(|_| self.take(address, &lease.who));
                lease.ended.into_iter().for_each(|(since, _)| self.release(address, since));
            }
        }
    }

    pub(super) fn status(&self) -> PoolStatus {
        let range = (self.pool.first, self.pool.last);
        let size = bits(range.1).saturating_sub(bits(range.0)).saturating_add(1);
        let online = self.leases.len() - self.offline;
        PoolStatus { name: self.name().to_owned(), range, size, online, offline: self.offline }
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = (IpAddr, &Identity, bool)> {
        let lease = |(at, lease): (&Bits, _)| (address(self.pool.first, *at), lease);
        self.leases.iter().map(lease).map(|(at, lease): (_, &Lease)| (at, &lease.who, lease.ended.is_none()))
    }
}
