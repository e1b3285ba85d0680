//! The part of a pool that one segment has: every 256th address, or all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// An address as a number.
pub(super) type Bits = u128;

/// Those that were given out before, and those that never were.
#[derive(Debug)]
pub(super) struct Slice {
    /// From here on nothing was given out but what somebody asked for; `None` is behind the end.
    next: Option<Bits>,
    last: Bits,
    step: Bits,
    /// Below `next` and free.
    free: BTreeSet<Bits>,
    /// Kept for peers that are gone, the longest gone first.
    offline: BTreeMap<(Duration, u64), Bits>,
}

impl Slice {
    /// The addresses `first`, `first + step`, ... up to `last`.
    pub(super) fn new(first: Bits, last: Bits, step: Bits) -> Self {
        let next = Some(first).filter(|first| *first <= last);
        Self { next, last, step, free: BTreeSet::new(), offline: BTreeMap::new() }
    }

    /// A free address; `is_leased` knows those that are not, or were not, ours to choose.
    pub(super) fn take(&mut self, is_leased: impl Fn(Bits) -> bool) -> Option<Bits> {
        if let Some(freed) = self.free.pop_first() {
            return Some(freed);
        }
        // Each address is passed by once in the slice's life.
        while let Some(candidate) = self.next {
            self.next = candidate.checked_add(self.step).filter(|next| *next <= self.last);
            if !is_leased(candidate) {
                return Some(candidate);
            }
        }
        None
    }

    /// It is in use: no longer free.
    pub(super) fn remove(&mut self, address: Bits) {
        self.free.remove(&address);
    }

    /// Nobody has it, and it is kept for nobody.
    pub(super) fn give_back(&mut self, address: Bits) {
        if self.next.is_none_or(|next| address < next) {
            self.free.insert(address);
        }
    }

    pub(super) fn keep(&mut self, since: Duration, serial: u64, address: Bits) {
        self.offline.insert((since, serial), address);
    }

    /// It is kept no longer, because its peer is back.
    pub(super) fn unkeep(&mut self, since: Duration, serial: u64) {
        self.offline.remove(&(since, serial));
    }

    /// Which one has been kept for the longest time, and since when.
    pub(super) fn longest_kept(&self) -> Option<(Duration, Bits)> {
        self.offline.first_key_value().map(|((since, _), address)| (*since, *address))
    }
}

pub(super) fn bits(address: IpAddr) -> Bits {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// An address of the same family as another one.
pub(super) fn address(family: IpAddr, bits: Bits) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4((bits as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}
