//! What the IKE machine of a node wants done, in the order and under the conditions of its daemon.

use std::time::Duration;

use baton_ctx_transfer::cluster::Event;
use baton_ike_proto::host::TunnelName;
use baton_ike_proto::{Command, Output, Path};

use crate::gateway::Gateway;
use crate::held::{Needed, Needs, Waiting};
use crate::invariants::Invariants;
use crate::network::Datagram;
use crate::plane::{name, number, segment};
use crate::progress::Wait;

/// The cluster is node 0 to its peers.
const CLUSTER: usize = 0;

/// What leaves the process.
#[derive(Default)]
pub struct Left {
    pub datagrams: Vec<Datagram>,
    /// For baton-cluster.
    pub events: Vec<Event>,
}

impl Gateway {
    /// Does one thing; what the machine is to know of it comes back.
    pub fn perform(
        &mut self,
        now: Duration,
        output: Output,
        judge: &mut Invariants,
        left: &mut Left,
    ) -> Result<Option<Command>, String> {
        match output {
            Output::Transmit { path, datagram, tunnel } => {
                self.announce(left);
                self.transmit(now, (path, datagram, tunnel), judge, left)?;
            }
            Output::Install(install) => {
                judge.installed(self.id, &install);
                self.host.table.install(CLUSTER, &install, &mut judge.history)?;
                self.plane.follow(&self.host.table);
            }
            Output::Remove { inbound, outbound } => {
                self.host.table.remove(&inbound, &outbound);
                self.plane.follow(&self.host.table);
            }
            Output::Store { tunnel, version, context } => {
                self.host.table.contexts.insert(tunnel.clone(), context);
                judge.stored(&tunnel);
                self.changed(&tunnel, version);
            }
            Output::Forget { tunnel, version } => {
                self.host.table.contexts.remove(&tunnel);
                judge.forgotten(&tunnel);
                self.deleted(&tunnel, version);
            }
            Output::StoreStandby { tunnel, context } => {
                self.host.table.contexts.insert(tunnel, context);
            }
            Output::ForgetStandby { tunnel } => drop(self.host.table.contexts.remove(&tunnel)),
            Output::Trap(policy) => {
                self.host.table.policies.insert(policy.name.clone(), *policy);
            }
            Output::RemovePolicies { names, .. } => {
                self.host.table.policies.retain(|name, _| !names.contains(name));
            }
            Output::SkipSequence { reqids, numbers } => self.skip(&reqids, numbers),
            Output::MovePeer { inbound, outbound, ends } => {
                self.host.table.move_peer(&inbound, &outbound, ends);
            }
            Output::Event(event) => judge.event(now, self.id, &event),
            _ => {}
        }
        Ok(None)
    }

    fn skip(&mut self, reqids: &[u32], numbers: u64) {
        for (reqid, sa) in &self.host.table.outbound {
            if reqids.contains(reqid) {
                let key = crate::plane::outbound(*reqid, sa.spi);
                let counter = self.plane.counters.entry(key).or_default();
                counter.edge = counter.used() + numbers;
            }
        }
    }

    /// Sends a datagram, or holds it back until the standbys have the state that it speaks of.
    fn transmit(
        &mut self,
        now: Duration,
        (path, datagram, tunnel): (Path, Vec<u8>, Option<u32>),
        judge: &mut Invariants,
        left: &mut Left,
    ) -> Result<(), String> {
        let local = self.local(now);
        let needed = tunnel.and_then(|number| self.needed(local, number, judge));
        if let Some(number) = tunnel {
            judge.made(&datagram, self.process.versions.get(&number).copied().unwrap_or(0));
        }
        let what = Waiting::Transmit(path, datagram, tunnel);
        if needed.is_some() || self.process.held.has_datagram(&path) {
            judge.count("held back");
            let needs = Needs { change: None, replicated: needed };
            match self.process.held.push(needs, local, what) {
                Some(first) => self.carry_out(now, first, judge, left),
                None => Ok(()),
            }
        } else {
            self.carry_out(now, what, judge, left)
        }
    }

    fn needed(&self, local: Duration, number: u32, judge: &mut Invariants) -> Option<Needed> {
        if !judge.replicates_first {
            return None;
        }
        let progress = &self.process.progress;
        let wait = progress.wait(local, number);
        let newest = self.process.versions.get(&number).copied().unwrap_or(0);
        let is_known = self.process.linked && !self.process.names.contains_key(&number);
        if progress.is_behind() && !is_known {
            judge.count("not waited for");
            judge.doubt(number, newest);
        }
        let Wait { version, until } = wait?;
        Some(Needed { number, version, until })
    }

    fn carry_out(
        &self,
        now: Duration,
        what: Waiting,
        judge: &mut Invariants,
        left: &mut Left,
    ) -> Result<(), String> {
        let Waiting::Transmit(path, octets, tunnel) = what else { return Ok(()) };
        let local = self.local(now);
        // It may have waited for longer than the lease lasts (I4).
        if tunnel.is_some_and(|number| !self.plane.owns(number.to_be_bytes()[0], local)) {
            judge.count("not sent without a lease");
            return Ok(());
        }
        judge.leaves(self.id, &octets, tunnel)?;
        left.datagrams.push(Datagram { from: path.local, to: path.remote, marked: path.marked, octets });
        Ok(())
    }

    /// Does what need not wait any more.
    pub fn let_go(&mut self, now: Duration, judge: &mut Invariants, left: &mut Left) -> Result<(), String> {
        let (local, linked) = (self.local(now), self.process.linked);
        let progress = &mut self.process.progress;
        let is_replicated = |needed: &Needed| {
            if progress.is_behind() {
                // Nobody waits for anything.
                judge.doubt(needed.number, needed.version);
            }
            if progress.is_replicated(needed.number, needed.version) {
                return true;
            }
            let is_over = needed.until <= local;
            if is_over {
                judge.count("waited in vain");
                judge.doubt(needed.number, needed.version);
                progress.is_late();
                if !linked {
                    progress.forget_all();
                }
            }
            is_over
        };
        let ready = self.process.held.take(local, |_| true, is_replicated);
        ready.into_iter().try_for_each(|what| self.carry_out(now, what, judge, left))
    }

    fn changed(&mut self, tunnel: &TunnelName, version: u64) {
        self.process.versions.insert(number(tunnel), version);
        let event = Event::TunnelChanged { tunnel: name(tunnel), segment: segment(tunnel), version };
        self.note(tunnel, version, event);
        self.await_standbys(tunnel, version);
    }

    fn deleted(&mut self, tunnel: &TunnelName, version: u64) {
        self.process.versions.insert(number(tunnel), version);
        self.note(tunnel, version, Event::TunnelDeleted { tunnel: name(tunnel) });
        self.await_standbys(tunnel, version);
    }

    fn await_standbys(&mut self, tunnel: &TunnelName, version: u64) {
        if self.process.linked {
            self.process.unsaid.push(Event::Await { tunnel: name(tunnel), version });
        }
    }

    fn note(&mut self, tunnel: &TunnelName, version: u64, event: Event) {
        if self.process.linked || !self.process.progress.is_behind() {
            self.process.progress.changed(number(tunnel), version);
            self.process.names.insert(number(tunnel), tunnel.clone());
        }
        if self.process.linked {
            self.process.unsaid.push(event);
        }
    }

    /// Tells of all changes so far: now the table has what belongs to them.
    pub fn announce(&mut self, left: &mut Left) {
        left.events.append(&mut self.process.unsaid);
    }

    /// The standbys have a version of a tunnel, or need not be waited for.
    pub fn replicated(&mut self, tunnel: &str, version: u64) {
        let Some((_, number)) = TunnelName::parse(tunnel) else { return };
        if self.process.names.contains_key(&number) && self.process.progress.replicated(number, version) {
            self.process.names.remove(&number);
        }
    }

    /// baton-cluster has come or gone: who is to answer begins anew.
    pub fn forget_link(&mut self) {
        self.process.progress.forget_all();
        self.process.names.clear();
        self.process.unsaid.clear();
    }
}
