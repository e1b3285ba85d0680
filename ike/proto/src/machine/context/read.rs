//! A tunnel that stands, from its context.

use std::sync::Arc;
use std::time::Duration;

use minicbor::bytes::ByteVec;

use super::numbers::{self, Impossible, addresses, from_time, monotonic, selectors, suite};
use super::stored::{
    Stored, StoredChild, StoredIkeSa, StoredMobility, StoredOffer, StoredPath, StoredPending, StoredTask,
};
use super::{associated, moving, resumption, session};
use crate::configuration::{Child, Connection, Mode};
use crate::crypto::{
    AdditionalSecrets, AdditionalShare, ChildKeys, IkeKeys, KeyShare, OpenStateError, Role, SealedState,
    WrapKey,
};
use crate::host::{Now, Path};
use crate::identity::Identity;
use crate::machine::child_offer::{ChildOffer, Dynamic};
use crate::machine::child_rekey::{ChildRekeying, Rival};
use crate::machine::child_sa::{ChildSa, Outbound, Stage};
use crate::machine::follow_up::FollowUp;
use crate::machine::head::{Head, Wanted};
use crate::machine::ike_rekey::{IkeRekeying, IkeRival};
use crate::machine::ike_sa::{Fate, IkeSa};
use crate::machine::mobility::{Allowance, Check, Mobility, Roaming, Update};
use crate::machine::nat::Nat;
use crate::machine::pending::Pending;
use crate::machine::tasks::{Task, Tasks};
use crate::machine::up::{KEEP_ALIVE, Peers, Up};
use crate::wire::{Identification, PayloadType};

/// Why a context is none.
#[derive(Debug)]
pub(super) enum ReadError {
    Impossible(Impossible),
    Keys(OpenStateError),
}

impl From<Impossible> for ReadError {
    fn from(impossible: Impossible) -> Self {
        Self::Impossible(impossible)
    }
}

impl From<OpenStateError> for ReadError {
    fn from(error: OpenStateError) -> Self {
        Self::Keys(error)
    }
}

/// The sealed keys, taken one after the other.
pub(super) struct Keys<'a> {
    pub(super) wrap: &'a WrapKey,
    pub(super) public: &'a [u8],
    pub(super) sealed: std::iter::Enumerate<std::slice::Iter<'a, ByteVec>>,
}

impl Keys<'_> {
    pub(super) fn next<T: SealedState>(&mut self) -> Result<T, ReadError> {
        let (place, sealed) = self.sealed.next().ok_or(Impossible("a key, which is not there"))?;
        Ok(T::open_state(self.wrap, &associated(place, self.public), sealed)?)
    }
}

/// A pair of Child SAs by our SPI, reqid and the peer's SPI.
pub(in crate::machine) type Orphan = (u32, u32, u32);

/// What a tunnel is made from.
pub(super) struct Reader<'a> {
    pub(super) now: Now,
    pub(super) connection: Arc<Connection>,
    pub(super) keys: Keys<'a>,
    /// Pairs whose child is no longer configured.
    pub(super) orphans: Vec<Orphan>,
}

impl Reader<'_> {
    pub(super) fn up(&mut self, stored: &Stored) -> Result<Up, ReadError> {
        let now = self.now;
        let nat = Nat { ours: stored.nat.0, peers: stored.nat.1 };
        let (connection, path) = (Arc::clone(&self.connection), numbers::path(&stored.path)?);
        let sas: Vec<IkeSa> = stored.sas.iter().map(|sa| self.sa(sa)).collect::<Result<_, _>>()?;
        if sas.first().is_none_or(|sa| matches!(sa.fate, Fate::Gone(_) | Fate::Undecided)) {
            return Err(Impossible("a tunnel without an IKE SA").into());
        }
        let children = self.children(&stored.children)?;
        let at = |time: Option<super::stored::Time>| time.map(|time| monotonic(now, time));
        Ok(Up {
            head: Head { number: stored.number, connection, path, nat, roaming: roaming(stored)? },
            peers: Peers {
                local: identity(&stored.local)?,
                remote: identity(&stored.remote)?,
                user: stored.user.as_ref().map(|user| identity(user)).transpose()?,
            },
            sas,
            children,
            tasks: self.tasks(&stored.tasks),
            dynamic: Dynamic {
                local: addresses(&stored.dynamic_local)?,
                remote: addresses(&stored.dynamic_remote)?,
            },
            mobility: stored.mobility.as_ref().map(mobility).transpose()?,
            virtual_addresses: addresses(&stored.virtual_addresses)?,
            remnants: stored.remnants.iter().map(|(at, spi)| (monotonic(now, *at), *spi)).collect(),
            established: from_time(stored.established),
            rekey_at: at(stored.rekey_at),
            expires_at: at(stored.expires_at),
            heard: now.monotonic,
            keep_alive_at: nat.ours.then(|| now.monotonic + KEEP_ALIVE),
            ending: stored.ending.map(numbers::reason).transpose()?,
            is_frozen: false,
            unfinished: Vec::new(),
            ppk: stored.ppk.as_ref().map(|body| identity(body)).transpose()?,
            short_lived: stored.short_lived.unwrap_or(0),
            version: stored.version.unwrap_or(0),
            can_synchronize: stored.can_synchronize.unwrap_or(false),
            can_synchronize_counters: stored.can_synchronize_counters.unwrap_or(false),
            session: stored.session.as_ref().map(|stored| session::read(now, stored)).transpose()?,
            dns: addresses(stored.dns.as_deref().unwrap_or_default())?,
            redirection: moving::redirection(now, stored.redirection.as_ref())?,
            resumption: resumption::resumption(now, stored.resumption.as_ref(), &mut self.keys)?,
        })
    }

    fn sa(&mut self, stored: &StoredIkeSa) -> Result<IkeSa, ReadError> {
        let keys = self.keys.next::<IkeKeys>()?;
        let spis = (stored.initiator_spi, stored.responder_spi);
        let mut sa = IkeSa::new(role(stored.is_initiator), spis, keys, stored.window.clone());
        sa.peer_reassembles = stored.peer_reassembles;
        sa.peer_token = moving::token(stored)?;
        sa.synchronization = moving::synchronization(stored);
        sa.fate = numbers::fate(self.now, stored.fate, stored.fate_at)?;
        for pending in &stored.pending {
            sa.pending.push((pending.message_id, self.pending(pending)?));
        }
        sa.window.requests.resume(self.now.monotonic);
        Ok(sa)
    }

    fn pending(&mut self, stored: &StoredPending) -> Result<Pending, ReadError> {
        let mut about = self.created(stored)?;
        let Some((first, payloads, done)) = &stored.follow_up else { return Ok(about) };
        let secrets = about.secrets_mut().ok_or(Impossible("what a request is about"))?;
        *secrets = self.keys.next::<AdditionalSecrets>()?;
        let share = self.keys.next::<AdditionalShare>()?;
        let answer = (PayloadType(*first), payloads.to_vec().into());
        Ok(Pending::FollowUp(Box::new(FollowUp { about, answer, share, done: *done })))
    }

    fn created(&mut self, stored: &StoredPending) -> Result<Pending, ReadError> {
        let lacks = Impossible("what a request is about");
        Ok(match stored.kind {
            0 => Pending::Liveness,
            1 => Pending::DeleteIke,
            2 => Pending::DeleteChildren(stored.spis.clone()),
            3 => Pending::NewChild(Box::new(self.offer(stored.offer.as_ref().ok_or(lacks)?)?)),
            4 => {
                let offer = self.offer(stored.offer.as_ref().ok_or(lacks)?)?;
                let rival = stored.rival.as_ref();
                let rival = rival.map(|(spi, lowest)| Rival { spi: *spi as u32, lowest: lowest.to_vec() });
                Pending::RekeyChild(Box::new(ChildRekeying { offer, old: stored.old.ok_or(lacks)?, rival }))
            }
            5 => {
                let share = self.keys.next::<KeyShare>()?;
                let rival = stored.rival.as_ref();
                let rival = rival.map(|(spi, lowest)| IkeRival { spi: *spi, lowest: lowest.to_vec() });
                let nonce = stored.nonce.as_ref().ok_or(lacks)?.to_vec();
                let (spi, detours) = (stored.ike_spi.ok_or(lacks)?, stored.detours);
                Pending::RekeyIke(Box::new(IkeRekeying {
                    spi,
                    nonce,
                    share,
                    detours,
                    rival,
                    additional: AdditionalSecrets::default(),
                }))
            }
            moving::REDIRECT => Pending::Redirect,
            moving::COUNTERS => Pending::Counters,
            resumption::TICKET => Pending::Ticket,
            40 => Pending::Routability(check(stored)?),
            41 | 42 => Pending::Update(Update { moves: stored.kind == 41, check: check(stored)? }),
            _ => return Err(lacks.into()),
        })
    }

    fn offer(&mut self, stored: &StoredOffer) -> Result<ChildOffer, ReadError> {
        let share = stored.has_share.then(|| self.keys.next::<KeyShare>()).transpose()?;
        // What was on offer is no longer configured: any other child serves to refuse the answer.
        let child = self.configured(&stored.child).or_else(|| self.connection.children.first().cloned());
        Ok(ChildOffer {
            child: child.ok_or(Impossible("a connection without children"))?,
            reqid: stored.reqid,
            spi: stored.spi,
            nonce: stored.nonce.to_vec(),
            share,
            local: selectors(&stored.local)?,
            remote: selectors(&stored.remote)?,
            mode: mode(stored.is_transport),
            is_first: false,
            detours: stored.detours,
            gone: stored.gone.clone(),
            additional: AdditionalSecrets::default(),
        })
    }

    fn configured(&self, name: &str) -> Option<Arc<Child>> {
        self.connection.children.iter().find(|child| child.name == name).cloned()
    }

    fn children(&mut self, stored: &[StoredChild]) -> Result<Vec<ChildSa>, ReadError> {
        let mut children = Vec::new();
        for stored in stored {
            let outbound = self.outbound(stored)?;
            match self.configured(&stored.child) {
                Some(child) => children.push(self.child(stored, child, outbound)?),
                None => self.orphans.push((stored.inbound_spi, stored.reqid, stored.outbound_spi)),
            }
        }
        Ok(children)
    }

    fn outbound(&mut self, stored: &StoredChild) -> Result<Outbound, ReadError> {
        match (stored.outbound, stored.outbound_at) {
            (0, None) => Ok(Outbound::Installed),
            (1, Some(at)) => {
                let keys = self.keys.next::<ChildKeys>()?;
                Ok(Outbound::Delayed(monotonic(self.now, at), keys))
            }
            (2, None) => Ok(Outbound::Unused),
            _ => Err(Impossible("the outbound half of a Child SA").into()),
        }
    }

    fn child(
        &self,
        stored: &StoredChild,
        child: Arc<Child>,
        outbound: Outbound,
    ) -> Result<ChildSa, ReadError> {
        let at = |time: Option<super::stored::Time>| time.map(|time| monotonic(self.now, time));
        Ok(ChildSa {
            child,
            reqid: stored.reqid,
            inbound_spi: stored.inbound_spi,
            outbound_spi: stored.outbound_spi,
            suite: suite(&stored.suite)?,
            mode: mode(stored.is_transport),
            local: selectors(&stored.local)?,
            remote: selectors(&stored.remote)?,
            role: role(stored.is_initiator),
            no_tfc: stored.no_tfc,
            outbound,
            is_counted: false,
            stage: stage(stored.stage, at(stored.stage_at))?,
            established: from_time(stored.established),
            rekey_at: at(stored.rekey_at),
            expires_at: at(stored.expires_at),
            ending: stored.ending.map(numbers::reason).transpose()?,
            gap: stored.gap.unwrap_or(0),
        })
    }

    fn tasks(&self, stored: &[StoredTask]) -> Tasks {
        let mut tasks = Tasks::default();
        for task in stored.iter().filter_map(|task| self.task(task)) {
            tasks.add(task);
        }
        // The peer still has the pairs whose child is no longer configured.
        for (spi, _, _) in &self.orphans {
            tasks.add(Task::DeleteUnwanted(*spi));
        }
        tasks
    }

    fn task(&self, stored: &StoredTask) -> Option<Task> {
        match (stored.kind, stored.spi) {
            (0, _) => {
                let child = self.configured(stored.child.as_ref()?)?;
                Some(Task::NewChild(Wanted { child, reqid: stored.reqid }))
            }
            (1, Some(spi)) => Some(Task::RekeyChild(spi)),
            (2, _) => Some(Task::RekeyIke),
            (3, Some(spi)) => Some(Task::DeleteUnwanted(spi)),
            (4, _) => Some(Task::AnnounceWindow),
            (moving::REDIRECT, _) => Some(Task::Redirect(stored.gateway.as_ref()?.parse().ok()?)),
            (resumption::TICKET, _) => Some(Task::RequestTicket),
            (40, _) => Some(Task::CheckRoutability),
            (41, _) => Some(Task::UpdateAddresses),
            (42, _) => Some(Task::AnnounceAddresses),
            (moving::COUNTERS, _) => Some(Task::SynchronizeCounters),
            _ => None,
        }
    }
}

fn check(stored: &StoredPending) -> Result<Check, Impossible> {
    let cookie = stored.nonce.as_ref().ok_or(Impossible("a cookie, which is not there"))?.to_vec();
    Ok(Check { cookie, changes: stored.detours })
}

fn roaming(stored: &Stored) -> Result<Roaming, Impossible> {
    let Some(mobility) = &stored.mobility else { return Ok(Roaming::default()) };
    Ok(Roaming { is_on: true, held: place(mobility.held.as_ref())? })
}

/// Where a peer was shown to receive.
fn place(stored: Option<&(StoredPath, bool, bool)>) -> Result<Option<(Path, Nat)>, Impossible> {
    let place = |(path, ours, peers): &(StoredPath, bool, bool)| {
        Ok((numbers::path(path)?, Nat { ours: *ours, peers: *peers }))
    };
    stored.map(place).transpose()
}

fn mobility(stored: &StoredMobility) -> Result<Mobility, Impossible> {
    Ok(Mobility {
        leads: stored.leads,
        additional: addresses(&stored.additional)?,
        announced: addresses(&stored.announced)?,
        newest: [stored.newest_update, stored.newest_list],
        changes: stored.changes,
        confirmed: stored.confirmed,
        seen: stored.seen.as_ref().map(|seen| seen.to_vec()),
        refusals: stored.refusals,
        allowance: place(stored.allowed.as_ref())?.map(Allowance::spent),
        ..Mobility::default()
    })
}

pub(super) fn identity(body: &[u8]) -> Result<Identity, Impossible> {
    let id = Identification::parse(body).map_err(|_| Impossible("an identity"))?;
    Identity::from_wire(&id).map_err(|_| Impossible("an identity"))
}

fn role(is_initiator: bool) -> Role {
    if is_initiator { Role::Initiator } else { Role::Responder }
}

fn mode(is_transport: bool) -> Mode {
    if is_transport { Mode::Transport } else { Mode::Tunnel }
}

fn stage(stage: u8, at: Option<Duration>) -> Result<Stage, Impossible> {
    match (stage, at) {
        (0, None) => Ok(Stage::Live),
        (1, Some(at)) => Ok(Stage::Replaced(at)),
        (2, None) => Ok(Stage::Doomed),
        (3, None) => Ok(Stage::Deleting),
        _ => Err(Impossible("the stage of a Child SA")),
    }
}
