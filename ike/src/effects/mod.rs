//! What the protocol wants done, in its order: SAs into the table, policies into force, contexts onto tmpfs, datagrams
//! onto the wire. A peer is told of a Child SA, and an operator too, when its policy is in force: what the peer sends
//! at once would be dropped otherwise.

mod held;
mod inside;
mod policies;
mod puzzles;
mod sa;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use baton_dataplane::control::Listeners;
use baton_ike_proto::host::{Inside, Install, OuterEnds, TunnelName};
use baton_ike_proto::{Command, Event, Output, Path};
use baton_sad::{Counters, Direction, GetError, PutError, Sa, SkipError, Table, UpdateError, WriteError};
use thiserror::Error;
use tracing::{debug, error, warn};

use crate::alarms::Alarms;
use crate::clock;
use crate::control::{Kind, Occurred};
use crate::counters::Counted;
use crate::host::owns;
use crate::radius::Radius;
use crate::replication::{Replication, Wait};
use crate::reports::Reports;
use crate::sockets::Sockets;
use crate::store::Store;

use held::{Held, Needed, Needs, Waiting};
pub(crate) use policies::is_chosen;
use policies::{Change, Policies, Wanted};
use puzzles::Puzzles;
pub use sa::ChildError;

/// A client that has not taken all that it is told is looked at again after so long.
const STUCK: Duration = Duration::from_millis(5);

/// Why SAs are not in the table.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EffectError {
    /// They cannot be.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// Another tunnel has their number.
    #[error(
        "{direction} SA {key:#x} belongs to {owner}, which IKE does not know; remove it with `dpctl sa remove`"
    )]
    Taken {
        /// Its direction.
        direction: Direction,
        /// Its SPI or reqid.
        key: u32,
        /// Its tunnel.
        owner: String,
    },
    /// The table cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The table does not take them.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The table does not take their change.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The table cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The hands of the protocol.
#[derive(Debug)]
pub struct Effects {
    table: Arc<Table>,
    store: Store,
    policies: Policies,
    puzzles: Puzzles,
    sockets: Arc<Sockets>,
    listeners: Arc<Listeners<Kind>>,
    counted: Arc<Counted>,
    alarms: Alarms,
    held: Held,
    /// In a cluster.
    replication: Option<Replication>,
    radius: Radius,
    /// What tunnels have, if this host has a device for it.
    inside: Option<BTreeMap<TunnelName, Vec<IpAddr>>>,
}

/// What [`Effects`] work on.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) table: Arc<Table>,
    pub(crate) store: Store,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) listeners: Arc<Listeners<Kind>>,
    pub(crate) counted: Arc<Counted>,
    pub(crate) alarms: Alarms,
    pub(crate) radius: Radius,
    /// In a cluster.
    pub(crate) replication: Option<Replication>,
    /// Whether the inner side is a TUN device.
    pub(crate) has_tun: bool,
}

impl Effects {
    pub(crate) fn start(tools: Tools, control_socket: PathBuf, reports: Reports) -> std::io::Result<Self> {
        let Tools { table, store, sockets, listeners, counted, alarms, radius, replication, has_tun } = tools;
        let puzzles = Puzzles::start(reports.clone())?;
        let policies = Policies::start(control_socket, reports)?;
        Ok(Self {
            table,
            store,
            policies,
            puzzles,
            sockets,
            listeners,
            counted,
            alarms,
            held: Held::default(),
            replication,
            radius,
            inside: has_tun.then(BTreeMap::new),
        })
    }

    /// The servers that judge users, and keep account of them.
    pub(crate) fn radius(&mut self) -> &mut Radius {
        &mut self.radius
    }

    /// As [`Self::radius`], to look at.
    pub(crate) fn radius_status(&self) -> &Radius {
        &self.radius
    }

    /// Policies that the data plane has not confirmed yet.
    pub(crate) fn policies_waiting(&self) -> u64 {
        self.policies.waiting()
    }

    /// All tunnels that there were have been told of: policies of others may go.
    pub(crate) fn settle_policies(&self) {
        self.policies.change(Change::Settle);
    }

    /// All tunnels that there were are restored: what others had inside may go. Nobody but this daemon gives it.
    pub(crate) fn settle_inside(&self) {
        if self.inside.is_some() {
            self.policies.change(Change::SettleInside);
        }
    }

    /// The addresses that tunnels have given this host: IKE does not go by them.
    pub(crate) fn inside_addresses(&self) -> Vec<IpAddr> {
        self.inside.iter().flat_map(BTreeMap::values).flatten().copied().collect()
    }

    /// On a host with interfaces inside, whoever routes between them knows what to do with an address.
    /// Whether there is anything to do.
    fn be_inside(&mut self, inside: &Inside) -> bool {
        let Some(known) = &mut self.inside else { return false };
        if inside.addresses.is_empty() {
            known.remove(&inside.tunnel);
        } else {
            known.insert(inside.tunnel.clone(), inside.addresses.clone());
        }
        self.policies.change(Change::Inside(inside::entry(inside)));
        true
    }

    /// Gives an answer when all policies so far are in force.
    pub(crate) fn answer_in_force(&mut self, answer: impl FnOnce() + 'static) {
        let last = self.policies.last();
        let what = Waiting::Answer(Box::new(answer));
        if self.policies.is_in_force(last) { self.carry_out(what) } else { self.hold(what, Some(last), None) }
    }

    /// When [`Self::let_go`] has something to do at the latest (monotonic).
    pub(crate) fn next_due(&self) -> Option<Duration> {
        [self.held.due(), self.radius.next_due()].into_iter().flatten().min()
    }

    /// When a client is looked at again that has not taken all that it is told (monotonic).
    pub(crate) fn stuck_due(&self, now: Duration) -> Option<Duration> {
        self.replication.as_ref().filter(|replication| replication.is_stuck()).map(|_| now + STUCK)
    }

    /// Does what has waited for policies that are in force, or has waited long enough.
    pub(crate) fn let_go(&mut self) {
        let now = clock::now().monotonic;
        let Self { held, policies, replication, .. } = self;
        let is_replicated = |needed: &Needed| {
            let wait = Wait { version: needed.version, until: needed.until };
            replication.as_mut().is_none_or(|replication| replication.is_over(now, needed.number, wait))
        };
        let ready = held.take(now, |change| policies.is_in_force(change), is_replicated);
        for what in ready {
            self.carry_out(what);
        }
    }

    /// Forgets what waits to be sent about tunnels of segments that are not ours any more.
    pub(crate) fn fall_silent(&mut self, owns: impl Fn(u8) -> bool) {
        self.held.forget_foreign(|number| owns(number.to_be_bytes()[0]));
    }

    /// Whether other nodes go on with what this one leaves.
    pub(crate) const fn is_clustered(&self) -> bool {
        self.replication.is_some()
    }

    /// What baton-cluster is told; `None` without a cluster.
    pub(crate) fn replication(&mut self) -> Option<&mut Replication> {
        self.replication.as_mut()
    }

    /// Does all that waits: something is to come that must not overtake it.
    pub(crate) fn let_all_go(&mut self) {
        for what in self.held.take_all() {
            self.carry_out(what);
        }
    }

    fn hold(&mut self, what: Waiting, change: Option<u64>, replicated: Option<Needed>) {
        let needs = Needs { change, replicated };
        if let Some(first) = self.held.push(needs, clock::now().monotonic, what) {
            self.carry_out(first);
        }
    }

    fn carry_out(&self, what: Waiting) {
        match what {
            // It may have waited for longer than the lease lasts (I4).
            Waiting::Transmit(_, _, Some(number)) if !owns(&self.table, number.to_be_bytes()[0]) => {
                self.counted.sent_without_lease.add(1);
            }
            Waiting::Transmit(path, datagram, _) => {
                self.count_sent(&path, self.sockets.transmit(&path, &datagram));
            }
            Waiting::Tell(event) => self.tell_now(&event),
            Waiting::Answer(answer) => answer(),
        }
    }

    /// Does these things, which belong together; what the protocol is to know of them comes back.
    pub(crate) fn perform(&mut self, outputs: impl Iterator<Item = Output>) -> Vec<Command> {
        let mut failed = Vec::new();
        // Whether they bring a Child SA of which nobody is to hear before its policy is in force.
        let mut is_early = false;
        for output in outputs {
            match output {
                Output::Transmit { path, datagram, tunnel } => {
                    self.replicate(Replication::announce);
                    self.transmit((path, datagram, tunnel), is_early);
                }
                Output::KeepAlive { path } => self.count_sent(&path, self.sockets.keep_alive(&path)),
                Output::Install(install) => match self.install(&install) {
                    Ok(()) => is_early |= install.policy.is_some(),
                    Err(command) => failed.push(command),
                },
                Output::Remove { inbound, outbound } => self.remove(&inbound, &outbound),
                Output::Trap(policy) => {
                    let policy = policies::spec(&policy);
                    self.policies.change(Change::Add(Wanted { policy, spi: None }));
                }
                Output::RemovePolicies { names, keep_prohibited } => {
                    self.policies.change(Change::Remove { names, keep_prohibited });
                }
                Output::SkipSequence { reqids, numbers } => {
                    failed.extend(reqids.iter().filter_map(|reqid| self.skip(*reqid, numbers)));
                }
                // Nobody is to hear before it is so.
                Output::Inside(inside) => is_early |= self.be_inside(&inside),
                Output::MovePeer { inbound, outbound, ends } => self.move_peer(&inbound, &outbound, &ends),
                Output::Store { tunnel, version, context } => {
                    self.note_stored(self.store.put(tunnel.as_str(), &context));
                    self.replicate(|replication| replication.changed(&tunnel, version));
                }
                Output::Forget { tunnel, version } => {
                    self.note_stored(self.store.remove(tunnel.as_str()));
                    self.replicate(|replication| replication.deleted(&tunnel, version));
                }
                Output::StoreStandby { tunnel, context } => {
                    self.note_stored(self.store.put(tunnel.as_str(), &context));
                }
                Output::ForgetStandby { tunnel } => self.note_stored(self.store.remove(tunnel.as_str())),
                Output::Solve { spi, puzzle, zeros } => self.puzzles.solve(spi, puzzle, zeros),
                Output::StopSolving { spi } => self.puzzles.stop(spi),
                Output::KeepTicket { connection, ticket: Some(ticket) } => {
                    self.note_stored(self.store.put_ticket(&connection, &ticket));
                }
                Output::KeepTicket { connection, ticket: None } => {
                    self.note_stored(self.store.remove_ticket(&connection));
                }
                Output::Ask(question) => self.radius.ask(*question),
                Output::Account(account) => self.radius.account(&account),
                Output::Event(event) => self.tell(event, is_early),
            }
        }
        self.replicate(Replication::announce);
        failed
    }

    /// Sends a datagram. Who misses one that waits asks again, and is answered by the same octets.
    fn transmit(&mut self, (path, datagram, tunnel): (Path, Vec<u8>, Option<u32>), is_early: bool) {
        let needed = tunnel.and_then(|number| self.needed(number));
        let what = Waiting::Transmit(path, datagram, tunnel);
        if is_early || needed.is_some() || self.held.has_datagram(&path) {
            let change = is_early.then(|| self.policies.last());
            self.hold(what, change, needed);
        } else {
            self.carry_out(what);
        }
    }

    /// The state of a tunnel that a standby has to have before a peer hears of it.
    fn needed(&self, number: u32) -> Option<Needed> {
        let Wait { version, until } = self.replication.as_ref()?.wait(clock::now().monotonic, number)?;
        Some(Needed { number, version, until })
    }

    fn replicate(&mut self, tell: impl FnOnce(&mut Replication)) {
        if let Some(replication) = &mut self.replication {
            tell(replication);
        }
    }

    /// What is not sent is lost like any other datagram: it is sent again, or the peer asks again.
    fn count_sent(&self, path: &Path, sent: std::io::Result<()>) {
        match sent {
            Ok(()) => self.counted.sent.add(1),
            Err(error) => {
                self.counted.send_failures.add(1);
                debug!(remote = %path.remote, %error, "a datagram cannot be sent");
            }
        }
    }

    /// I6 suffers while contexts cannot be stored; the tunnels live on.
    fn note_stored(&self, stored: Result<(), crate::store::StoreError>) {
        self.alarms
            .set("store", stored.err().map(|error| format!("a tunnel would not survive a restart: {error}")));
    }

    fn install(&self, install: &Install) -> Result<(), Command> {
        self.put(install).map_err(|error| {
            self.counted.install_failures.add(1);
            error!(tunnel = %install.tunnel, %error, "a Child SA cannot be installed");
            Command::InstallFailed { reqid: install.reqid, spi: install.inbound_spi }
        })?;
        if let Some(policy) = &install.policy {
            let (policy, spi) = (policies::spec(policy), Some(install.inbound_spi));
            self.policies.change(Change::Add(Wanted { policy, spi }));
        }
        Ok(())
    }

    /// Installs both halves at one instant. One that is there already, by SPI and key, keeps its counters: the protocol
    /// may have asked before a crash.
    fn put(&self, install: &Install) -> Result<(), EffectError> {
        let mut news = Vec::new();
        for mut sa in sa::pair(install)? {
            match self.table.get(sa.direction, sa.index_key())? {
                Some(found) if found.sa.spi == sa.spi && found.sa.key == sa.key => {
                    sa.senders = found.sa.senders.clone();
                    if sa != found.sa {
                        self.table.update(&sa)?;
                    }
                }
                Some(found) if found.sa.name != sa.name => {
                    let (direction, key, owner) = (sa.direction, sa.index_key(), found.sa.name.to_string());
                    return Err(EffectError::Taken { direction, key, owner });
                }
                _ => news.push((sa, Counters::default())),
            }
        }
        self.table.put(&news)?;
        Ok(())
    }

    fn remove(&self, inbound: &[u32], outbound: &[(u32, u32)]) {
        let inbound = inbound.iter().map(|spi| (Direction::Inbound, *spi));
        // A successor in the same place is not theirs to remove.
        let is_there = |&&(reqid, spi): &&(u32, u32)| {
            let found = self.table.get(Direction::Outbound, reqid);
            found.is_ok_and(|found| found.is_some_and(|found| found.sa.spi == spi))
        };
        let outbound = outbound.iter().filter(is_there).map(|(reqid, _)| (Direction::Outbound, *reqid));
        let keys: Vec<_> = inbound.chain(outbound).collect();
        if let Err(error) = self.table.remove(&keys) {
            error!(%error, "Child SAs that are over cannot be removed");
        }
    }

    fn move_peer(&self, inbound: &[u32], outbound: &[u32], ends: &OuterEnds) {
        let inbound = inbound.iter().map(|spi| (Direction::Inbound, *spi));
        let outbound = outbound.iter().map(|reqid| (Direction::Outbound, *reqid));
        for (direction, key) in inbound.chain(outbound) {
            if let Err(error) = self.move_one(direction, key, ends) {
                warn!(%direction, key, %error, "an SA cannot follow its peer");
            }
        }
    }

    fn move_one(&self, direction: Direction, key: u32, ends: &OuterEnds) -> Result<(), EffectError> {
        let Some(found) = self.table.get(direction, key)? else { return Ok(()) };
        let mut sa: Sa = found.sa.clone();
        sa::place(&mut sa, ends);
        if sa != found.sa {
            self.table.update(&sa)?;
        }
        Ok(())
    }

    /// Skips sequence numbers of an outbound SA. One that cannot, because too few are left, is to be replaced by one that
    /// begins anew.
    fn skip(&self, reqid: u32, numbers: u64) -> Option<Command> {
        let error = self.table.skip_sequence(reqid, numbers).err()?;
        if !matches!(error, SkipError::NotFound(_)) {
            warn!(reqid, numbers, %error, "the peer's wish cannot be done; the Child SA is rekeyed");
        }
        let found = self.table.get(Direction::Outbound, reqid).ok().flatten()?;
        Some(Command::SoftLimit { reqid, spi: found.sa.spi })
    }

    /// Tells of an event, and never of a later one before it.
    fn tell(&mut self, event: Event, is_early: bool) {
        if is_early || self.held.has_event() {
            let change = is_early.then(|| self.policies.last());
            self.hold(Waiting::Tell(event), change, None);
        } else {
            self.tell_now(&event);
        }
    }

    /// So many segments are this node's now.
    pub(crate) fn tell_of_segments(&self, count: usize) {
        self.listeners.tell(Occurred::SegmentsChanged { segments: count as u64 });
    }

    fn tell_now(&self, event: &Event) {
        crate::log::event(event, &self.counted);
        if let Some(occurred) = Occurred::of(event) {
            self.listeners.tell(occurred);
        }
    }
}

#[cfg(test)]
mod tests;
