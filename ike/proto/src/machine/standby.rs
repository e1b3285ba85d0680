//! Contexts of tunnels that other nodes own, as they come from there: kept at rest until this node has to go on with
//! them. A newer one takes the place of an older one, never the other way round.

use std::cmp::Ordering;
use std::net::IpAddr;

use thiserror::Error;

use super::Ike;
use super::child_sa::{Parts, policy_name};
use super::context::{Heading, Passed, RestoreError};
use super::core::{Cx, Id};
use super::dormant::Dormant;
use super::head::Head;
use super::inner;
use super::tunnel::Tunnel;
use super::up::Up;
use crate::host::{Host, Now, Output, TunnelName};

/// Why a context of another node's is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StandbyError {
    /// It could not be gone on with.
    #[error(transparent)]
    Unusable(#[from] RestoreError),
    /// There is a newer one.
    #[error("version {offered} of tunnel {tunnel} is older than version {present}, which is here")]
    Outdated {
        /// Whose it is.
        tunnel: TunnelName,
        /// That of the context.
        offered: u64,
        /// That of the one that stays.
        present: u64,
    },
    /// This node acts for it.
    #[error("tunnel {0} is in a segment that this node owns; give its segment up first")]
    Owned(TunnelName),
}

/// Whether a context is kept already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Already,
    NotYet,
}

/// Where a context belongs.
enum Place {
    New,
    /// It takes the place of that tunnel's older one.
    Over(Id),
    /// It is there.
    Same,
}

impl Ike {
    /// Keeps a context of a tunnel that another node owns, in the place of an older one. The same one again changes
    /// nothing.
    ///
    /// # Errors
    /// [`StandbyError`]: nothing was done.
    pub fn put_standby(
        &mut self,
        now: Now,
        context: &[u8],
        host: &mut dyn Host,
    ) -> Result<Heading, StandbyError> {
        let taken = self.take_standby(now, context, Kept::NotYet, host);
        self.core.counters.standby_taken += u64::from(taken.is_ok());
        self.core.counters.standby_refused += u64::from(taken.is_err());
        taken
    }

    /// The same, after a restart, with one that is kept already.
    ///
    /// # Errors
    /// [`StandbyError`]: nothing was done.
    pub fn restore_standby(
        &mut self,
        now: Now,
        context: &[u8],
        host: &mut dyn Host,
    ) -> Result<Heading, StandbyError> {
        self.take_standby(now, context, Kept::Already, host)
    }

    /// Forgets a tunnel that another node owned, and that is over there; whether it was here.
    ///
    /// # Errors
    /// [`StandbyError::Owned`]: this node has not heard yet that it acts for it no longer. Whoever took that for done
    /// would find the tunnel alive again in the next takeover, and its peer what it knows to be over.
    pub fn remove_standby(
        &mut self,
        now: Now,
        name: &str,
        host: &mut dyn Host,
    ) -> Result<bool, StandbyError> {
        let Some(id) = self.id_of_tunnel(name) else { return Ok(false) };
        if let Tunnel::Up(up) = &self.tunnels[&id].tunnel {
            if self.core.ownership.has(up.head.segment()) {
                return Err(StandbyError::Owned(up.head.name()));
            }
            // It has not fallen silent yet.
            self.doze(now, host, id);
        }
        if !matches!(self.tunnels[&id].tunnel, Tunnel::Dormant(_)) {
            return Ok(false);
        }
        self.handle(now, host, id, |tunnel, cx| {
            if let Tunnel::Dormant(dormant) = &tunnel {
                cx.install(Output::ForgetStandby { tunnel: dormant.head.name() });
                remove_policies(cx, &dormant.head, &dormant.policies);
            }
            None
        });
        self.core.release_addresses(id, now.monotonic);
        Ok(true)
    }

    fn take_standby(
        &mut self,
        now: Now,
        context: &[u8],
        kept: Kept,
        host: &mut dyn Host,
    ) -> Result<Heading, StandbyError> {
        let Passed { up, is_leased, .. } = self.read_context(now, context)?;
        let heading = Heading::of(&up);
        let (id, before) = match self.place(now, host, &heading)? {
            Place::New => (None, Vec::new()),
            Place::Over(id) => (Some(id), self.policies_of(id)),
            Place::Same => return Ok(heading),
        };
        self.forget_lingering(now, host, &up);
        self.check_free(&heading.tunnel, &up, id)?;
        let addresses = if is_leased { up.virtual_addresses.as_slice() } else { &[] };
        self.exchange_leases(now, id.unwrap_or(self.core.next_id), &up, addresses)?;
        let put = |cx: &mut Cx| {
            if kept == Kept::NotYet {
                let (tunnel, context) = (heading.tunnel.clone(), context.to_vec());
                cx.install(Output::StoreStandby { tunnel, context });
            }
            up.change_policies(cx, &before);
            Some(up.dormant(context.into()))
        };
        let id = match id {
            Some(id) => {
                self.handle(now, host, id, |_, cx| put(cx));
                id
            }
            None => self.begin(now, host, put),
        };
        if self.core.ownership.has(heading.segment) {
            self.core.ownership.settle_later(id);
        }
        Ok(heading)
    }

    fn place(&mut self, now: Now, host: &mut dyn Host, heading: &Heading) -> Result<Place, StandbyError> {
        let Some(id) = self.core.index.numbers.get(&heading.number).copied() else { return Ok(Place::New) };
        let is_dormant = |ike: &Self| matches!(ike.tunnels[&id].tunnel, Tunnel::Dormant(_));
        if self.tunnels[&id].tunnel.head().name() != heading.tunnel {
            return Err(RestoreError::Present(heading.tunnel.clone()).into());
        }
        if !is_dormant(self) && self.core.ownership.has(heading.segment) {
            return Err(StandbyError::Owned(heading.tunnel.clone()));
        }
        if !is_dormant(self) {
            self.doze(now, host, id);
        }
        match self.tunnels.get(&id).map(|slot| &slot.tunnel) {
            Some(Tunnel::Dormant(present)) => present.replaced_by(id, heading),
            _ => Ok(Place::New),
        }
    }

    /// What is over here, and is kept to repeat its last answer, goes on at its owner, who answers.
    fn forget_lingering(&mut self, now: Now, host: &mut dyn Host, up: &Up) {
        let spis = up.claims().ike_spis;
        let ids: Vec<Id> = spis.iter().filter_map(|spi| self.core.index.ike_spis.get(spi).copied()).collect();
        for id in ids {
            if self.tunnels.get(&id).is_some_and(|slot| matches!(slot.tunnel, Tunnel::Lingering(_))) {
                self.handle(now, host, id, |_, _| None);
            }
        }
    }

    fn policies_of(&self, id: Id) -> Vec<u32> {
        match &self.tunnels[&id].tunnel {
            Tunnel::Dormant(dormant) => dormant.policies.clone(),
            _ => Vec::new(),
        }
    }

    /// The inner addresses of a tunnel are these from now on, or what they were.
    fn exchange_leases(
        &mut self,
        now: Now,
        id: Id,
        up: &Up,
        addresses: &[IpAddr],
    ) -> Result<(), StandbyError> {
        let before = self.core.leases.remove(&id);
        if !addresses.is_empty()
            && let Err(problem) = inner::retake(&mut self.core, id, up.peers.proved(), addresses)
        {
            self.core.leases.extend(before.map(|before| (id, before)));
            return Err(RestoreError::Address(up.head.name(), problem).into());
        }
        for address in before.into_iter().flatten() {
            self.core.pools.release(address, now.monotonic);
        }
        Ok(())
    }

    /// The contexts that are here: of tunnels that stand, those of other nodes included; and whether this node owns
    /// it.
    pub fn headings(&self) -> impl Iterator<Item = (Heading, bool)> {
        self.tunnels.values().filter_map(|slot| match &slot.tunnel {
            Tunnel::Up(up) => Some((Heading::of(up), true)),
            Tunnel::Dormant(dormant) => Some((Heading::new(&dormant.head, dormant.version), false)),
            _ => None,
        })
    }

    /// SPIs of ours and reqids of Child SAs of other nodes' tunnels.
    pub fn standby_numbers(&self) -> impl Iterator<Item = (&[u32], &[u32])> {
        self.tunnels.values().filter_map(|slot| match &slot.tunnel {
            Tunnel::Dormant(dormant) => Some((&dormant.claims.esp_spis[..], &dormant.claims.reqids[..])),
            _ => None,
        })
    }
}

impl Dormant {
    fn replaced_by(&self, id: Id, heading: &Heading) -> Result<Place, StandbyError> {
        match heading.version.cmp(&self.version) {
            Ordering::Greater => Ok(Place::Over(id)),
            Ordering::Equal => Ok(Place::Same),
            Ordering::Less => {
                let (tunnel, offered) = (heading.tunnel.clone(), heading.version);
                Err(StandbyError::Outdated { tunnel, offered, present: self.version })
            }
        }
    }
}

impl Up {
    /// Its policies are put into force, and those that it had and has no longer are not any more.
    fn change_policies(&self, cx: &mut Cx, before: &[u32]) {
        let live = self.children.iter().filter(|child| child.is_live());
        for child in live.clone().filter(|child| !before.contains(&child.reqid)) {
            cx.install(child.install(cx, &self.head, Parts::POLICY, None));
        }
        let is_gone = |reqid: &&u32| !live.clone().any(|child| child.reqid == **reqid);
        remove_policies(cx, &self.head, &before.iter().filter(is_gone).copied().collect::<Vec<_>>());
    }
}

/// Whether nothing may leave in clear where they led (I7) is the owner's business, which may have ended them by
/// command; until it says so, nothing may.
fn remove_policies(cx: &mut Cx, head: &Head, reqids: &[u32]) {
    let names: Vec<_> = reqids.iter().map(|reqid| policy_name(&head.connection.name, *reqid)).collect();
    if !names.is_empty() {
        cx.then(Output::RemovePolicies { names, keep_prohibited: head.connection.fails_closed });
    }
}
