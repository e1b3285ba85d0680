//! A machine beside a node that takes its place when it dies: it has the tunnels' contexts and SAs, as they are
//! replicated, before a peer hears of what has changed them.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use baton_ike_proto::auth::Credentials;
use baton_ike_proto::configuration::Configuration;
use baton_ike_proto::host::{Owned, TunnelName};
use baton_ike_proto::machine::Ike;
use baton_ike_proto::{Now, Output};

use crate::host::SimulatedHost;
use crate::node::{clock, wrap};
use crate::random::Random;
use crate::table::{Sa, Table};

/// So many machines could there be of one node; each has IVs of its own.
const MACHINE: u8 = 100;

pub struct Standby {
    ike: Ike,
    host: SimulatedHost,
    /// Where its clock began.
    base: Duration,
    /// Whether it has had all at some time: before, nothing can be gone on with.
    pub is_filled: bool,
    /// What its machine had counted when it became one.
    counted: BTreeMap<&'static str, u64>,
    /// What the node has that this one does not, in the order in which it changed.
    missing: VecDeque<TunnelName>,
}

/// The machine of a node from now on.
pub struct Taken {
    pub ike: Ike,
    pub host: SimulatedHost,
    pub base: Duration,
    pub counted: BTreeMap<&'static str, u64>,
}

/// What a node is made of.
pub struct Parts {
    pub configuration: Arc<Configuration>,
    pub credentials: Arc<Credentials>,
}

impl Parts {
    pub fn ike(&self) -> Ike {
        Ike::new(self.configuration.clone(), self.credentials.clone(), wrap())
    }
}

impl Standby {
    /// A machine with nothing yet; `tunnels` are to come.
    pub fn new(
        parts: &Parts,
        (mut host, base): (SimulatedHost, Duration),
        tunnels: impl Iterator<Item = TunnelName>,
    ) -> Self {
        host.table.lose_all();
        host.dry = false;
        let mut ike = parts.ike();
        ike.own(&[]);
        while ike.next_timeout().is_some() {
            ike.handle_timeout(clock(base, Duration::ZERO), &mut host);
        }
        let counted = BTreeMap::new();
        let missing: VecDeque<_> = tunnels.collect();
        Self { ike, host, base, is_filled: missing.is_empty(), counted, missing }
    }

    /// The first one of a node.
    pub fn beside(parts: &Parts, (node, base): (usize, Duration), address: IpAddr, random: Random) -> Self {
        let host = SimulatedHost::new(random, MACHINE + node as u8, address);
        Self::new(parts, (host, base), std::iter::empty())
    }

    /// A machine that was the node itself, and has all.
    pub fn of(ike: Ike, (host, base): (SimulatedHost, Duration)) -> Self {
        let counted = ike.counters().iter().collect();
        Self { ike, host, base, is_filled: true, counted, missing: VecDeque::new() }
    }

    pub fn machine(self) -> (SimulatedHost, Duration) {
        (self.host, self.base)
    }

    /// A tunnel has changed.
    pub fn changed(&mut self, tunnel: &TunnelName) {
        if !self.missing.contains(tunnel) {
            self.missing.push_back(tunnel.clone());
        }
    }

    /// Replicates the tunnel of that number, and all that changed before it; everything without a number.
    pub fn replicate(&mut self, now: Duration, from: &Table, number: Option<u32>) -> Result<(), String> {
        let is_it = |tunnel: &TunnelName| {
            number.is_none_or(|number| TunnelName::parse(tunnel.as_str()).is_some_and(|(_, n)| n == number))
        };
        let Some(last) = self.missing.iter().rposition(is_it) else { return Ok(()) };
        for tunnel in self.missing.drain(..=last).collect::<Vec<_>>() {
            self.take(clock(self.base, now), from, &tunnel)?;
        }
        self.is_filled |= self.missing.is_empty();
        Ok(())
    }

    fn take(&mut self, now: Now, from: &Table, tunnel: &TunnelName) -> Result<(), String> {
        self.host.table.copy_tunnel(from, tunnel);
        let host = &mut self.host;
        if let Some(context) = from.contexts.get(tunnel) {
            let taken = self.ike.put_standby(now, context, host);
            taken.map_err(|problem| format!("the standby refuses {tunnel}: {problem}"))?;
        } else {
            let removed = self.ike.remove_standby(now, tunnel.as_str(), host);
            removed.map_err(|problem| format!("the standby keeps {tunnel}: {problem}"))?;
        }
        // What is left of when it was the node itself.
        while self.ike.next_timeout().is_some_and(|due| due <= now.monotonic) {
            self.ike.handle_timeout(now, &mut self.host);
        }
        while let Some(output) = self.ike.poll() {
            apply(&mut self.host.table, output)?;
        }
        Ok(())
    }

    /// Takes over: its machine, which owns everything from now on, its host and where its clock began. What the host
    /// before has sent and taken is reserved: this one's SAs are `ahead` by so many. `forget` hears of SAs that it does
    /// not know.
    pub fn take_over(
        mut self,
        term: u32,
        before: &SimulatedHost,
        ahead: Option<u64>,
        mut forget: impl FnMut(&[u8], bool, u32),
    ) -> Taken {
        let table = &mut self.host.table;
        table.tickets = before.table.tickets.clone();
        for (spi, sa) in &before.table.inbound {
            match table.inbound.get_mut(spi).filter(|copy| copy.key == sa.key) {
                Some(copy) => copy.sequence = sa.sequence + ahead.unwrap_or(0),
                None => forget(&sa.key, true, *spi),
            }
        }
        for (reqid, sa) in &before.table.outbound {
            match table.outbound.get_mut(reqid).filter(|copy| copy.key == sa.key) {
                Some(copy) => copy.sequence = sa.sequence + ahead.unwrap_or(0),
                None => forget(&sa.key, false, sa.spi),
            }
        }
        let owned: Vec<_> =
            (0..=u8::MAX).map(|segment| Owned { segment, term, advanced: ahead, is_stale: false }).collect();
        self.ike.own(&owned);
        Taken { ike: self.ike, host: self.host, base: self.base, counted: self.counted }
    }
}

/// A standby keeps contexts and policies, and does nothing else.
fn apply(table: &mut Table, output: Output) -> Result<(), String> {
    match output {
        Output::StoreStandby { tunnel, context } => drop(table.contexts.insert(tunnel, context)),
        Output::ForgetStandby { tunnel } => drop(table.contexts.remove(&tunnel)),
        Output::Install(install) if !install.inbound && !install.outbound => {
            table.policies.extend(install.policy.iter().map(|policy| (policy.name.clone(), policy.clone())));
        }
        Output::RemovePolicies { names, .. } => {
            table.policies.retain(|name, _| !names.contains(name));
        }
        other => return Err(format!("a standby does {other:?}")),
    }
    Ok(())
}

impl Table {
    /// The SAs of a tunnel are those that another table has.
    fn copy_tunnel(&mut self, from: &Self, tunnel: &TunnelName) {
        fn of<K: Ord + Copy>(sas: &BTreeMap<K, Sa>, tunnel: &TunnelName) -> BTreeMap<K, Sa> {
            let all = sas.iter().filter(|(_, sa)| sa.tunnel == *tunnel);
            all.map(|(key, sa)| (*key, sa.clone())).collect()
        }
        self.inbound.retain(|_, sa| sa.tunnel != *tunnel);
        self.outbound.retain(|_, sa| sa.tunnel != *tunnel);
        self.inbound.extend(of(&from.inbound, tunnel));
        self.outbound.extend(of(&from.outbound, tunnel));
    }
}
