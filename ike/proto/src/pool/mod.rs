//! Inner addresses for peers (RFC 7296 section 2.19).
//!
//! In a cluster an address belongs to the segment that its last octet names ([`Slicing::BySegment`]), and a peer gets
//! one of its own segment: two gateways never give out the same one, and the address goes where the segment goes. A
//! pool then wants 256 addresses or more; one of fewer has none for some segments, which is [`PoolError::NoShare`].
//!
//! A peer that comes back gets what it had, as long as its lease is remembered; so does one that asks for an address
//! that is free. Memory grows with the addresses in use, not with the pool.

mod slice;
mod state;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::configuration::Pool;
use crate::identity::Identity;
use state::State;

/// How pools are shared among gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slicing {
    /// This gateway has them alone.
    #[default]
    Whole,
    /// A peer gets an address whose last octet is its segment.
    BySegment,
}

/// Why no address was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Not configured.
    #[error("there is no pool \"{0}\"; name one of [ike.pool]")]
    NoPool(String),
    /// All are in use.
    #[error("pool \"{pool}\" has no free address for segment {segment}; enlarge it")]
    Full {
        /// Its name.
        pool: String,
        /// The peer's segment.
        segment: u8,
    },
    /// None ends in the segment's number.
    #[error("pool \"{pool}\" has no address for segment {segment}; give it 256 addresses or more")]
    NoShare {
        /// Its name.
        pool: String,
        /// The peer's segment.
        segment: u8,
    },
    /// Somebody else has it.
    #[error("{0} is leased to another peer")]
    Taken(IpAddr),
}

/// What an operator wants to know of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// The lowest and the highest address.
    pub range: (IpAddr, IpAddr),
    /// Addresses that it has.
    pub size: u128,
    /// Those that peers have now.
    pub online: usize,
    /// Those that are kept for peers that are gone.
    pub offline: usize,
}

/// All pools.
#[derive(Debug, Default)]
pub struct Pools {
    pools: Vec<State>,
    /// Addresses that are of no pool, which somebody else has assigned: by whose they are, and how many tunnels of
    /// theirs have them.
    outside: HashMap<IpAddr, (Identity, u32)>,
}

impl Pools {
    /// These pools, with nothing leased.
    pub fn new(pools: &[Arc<Pool>], slicing: Slicing) -> Self {
        let pools = pools.iter().map(|pool| State::new(pool.clone(), slicing)).collect();
        Self { pools, outside: HashMap::new() }
    }

    /// Other pools in the place of these. Leases stay where the pool of that name still has the address.
    pub fn reconfigure(&mut self, pools: &[Arc<Pool>], slicing: Slicing) {
        let old = std::mem::replace(self, Self::new(pools, slicing));
        for state in old.pools {
            if let Some(new) = self.pools.iter_mut().find(|new| new.name() == state.name()) {
                new.inherit(state);
            }
        }
        for (address, (who, holders)) in old.outside {
            match self.pools.iter_mut().find(|state| state.contains(address)) {
                Some(state) => (0..holders).for_each(|_| state.take(address, &who)),
                None => {
                    self.outside.insert(address, (who, holders));
                }
            }
        }
    }

    /// An address for a peer of that segment: `wanted` if it may have it, otherwise what it had, otherwise another.
    ///
    /// # Errors
    /// If there is no such pool, or nothing left in it for that segment.
    pub fn lease(
        &mut self,
        pool: &str,
        segment: u8,
        who: &Identity,
        wanted: Option<IpAddr>,
        now: Duration,
    ) -> Result<IpAddr, PoolError> {
        let state = self.pools.iter_mut().find(|state| state.name() == pool);
        state.ok_or_else(|| PoolError::NoPool(pool.to_owned()))?.lease(segment, who, wanted, now)
    }

    /// Notes that a tunnel has these addresses, all or none, beside other tunnels of the same peer: one that was
    /// restored, or one whose user was assigned them by somebody else, of a pool or of none. An address is free when
    /// the last of them has ended.
    ///
    /// # Errors
    /// [`PoolError::Taken`] if somebody else has one.
    pub fn taken(&mut self, addresses: &[IpAddr], who: &Identity) -> Result<(), PoolError> {
        for address in addresses {
            let state = self.pools.iter().find(|state| state.contains(*address));
            let is_others = self.outside.get(address).is_some_and(|(other, _)| other != who);
            if is_others || state.is_some_and(|state| !state.may_take(*address, who)) {
                return Err(PoolError::Taken(*address));
            }
        }
        for address in addresses {
            if let Some(state) = self.pools.iter_mut().find(|state| state.contains(*address)) {
                state.take(*address, who);
            } else {
                self.outside.entry(*address).or_insert_with(|| (who.clone(), 0)).1 += 1;
            }
        }
        Ok(())
    }

    /// The peer does not need the address any more; it is kept for it for a while.
    pub fn release(&mut self, address: IpAddr, now: Duration) {
        if let Some(state) = self.pools.iter_mut().find(|state| state.contains(address)) {
            state.release(address, now);
        } else if let Some((_, holders)) = self.outside.get_mut(&address) {
            *holders = holders.saturating_sub(1);
            if *holders == 0 {
                self.outside.remove(&address);
            }
        }
    }

    /// The pool's configuration.
    pub fn get(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|state| state.name() == name).map(State::pool)
    }

    /// How full they are.
    pub fn status(&self) -> impl Iterator<Item = PoolStatus> {
        self.pools.iter().map(State::status)
    }

    /// Who has, or had, which address of a pool, and whether it is in use.
    pub fn leases(&self, name: &str) -> impl Iterator<Item = (IpAddr, &Identity, bool)> {
        self.pools.iter().filter(move |state| state.name() == name).flat_map(State::leases)
    }
}

#[cfg(test)]
mod tests;
