//! One gateway: its IKE process, which may die at any output, and what outlives it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use baton_ike_proto::crypto::WrapKey;
use baton_ike_proto::host::{DownReason, TunnelName};
use baton_ike_proto::machine::{Ike, Restoring, TunnelView};
use baton_ike_proto::wire::{self, Header};
use baton_ike_proto::{Command, Event, Now, Output};

use crate::history::History;
use crate::host::SimulatedHost;
use crate::judge::Judge;
use crate::network::Datagram;
use crate::random::Random;
use crate::setting::{Setting, seen};
use crate::standby::{Parts, Standby, Taken};
use crate::table::Sa;

/// SAs of which the restarted process knows nothing are taken out of the table after so long: no exchange that may
/// still bring them back takes longer.
const SWEEP_DELAY: Duration = Duration::from_secs(200);
/// How far both edges of a copy are advanced: more packets than anybody sends here.
pub const ADVANCE: u64 = 1_000_000;
/// 2026, for a start.
const UNIX: Duration = Duration::from_secs(1_790_000_000);

pub struct Node {
    pub number: usize,
    pub ike: Option<Ike>,
    pub host: SimulatedHost,
    pub nat: Option<Nat>,
    /// The process dies before it has made so many more outputs.
    pub fuse: Option<u64>,
    pub restart_at: Option<Duration>,
    /// When it dies next, it loses all that it has stored.
    pub forgets: bool,
    sweep: Option<(Duration, Orphans)>,
    /// Of one of its tunnels, taken a while ago.
    pub copy: Option<Copy>,
    /// Tunnels that it has gone on with so.
    pub failed_over: Vec<TunnelName>,
    /// With this older state of one tunnel it begins anew.
    failover: Option<Box<Copy>>,
    /// Where the process's clock began.
    base: Duration,
    pub standby: Option<Standby>,
    /// When the standby has noticed that this one is dead.
    takeover_at: Option<Duration>,
    /// Of so many thousand deaths, after which the standby goes on instead of the process.
    pub taken_over: u64,
    /// Of the owner.
    term: u32,
    parts: Parts,
    /// Whether both ends agree about Message IDs, and about sequence numbers, after a failover.
    synchronizes: (bool, bool),
    /// The data plane refuses some of what it is to install.
    pub refuses: bool,
    pub trace: bool,
    /// Tunnels that ended because of their peers' silence.
    silences: u64,
    pub judge: Judge,
    /// What the present process had counted when it began to be this node.
    counted_before: BTreeMap<&'static str, u64>,
    /// Counters of processes that are dead.
    counters: BTreeMap<&'static str, u64>,
}

/// A tunnel as it was.
#[derive(Clone)]
pub struct Copy {
    pub view: TunnelView,
    pub context: Vec<u8>,
    pub sas: (Vec<Sa>, Vec<Sa>),
}

/// What is in the table at a restart and in no context.
struct Orphans {
    inbound: Vec<u32>,
    outbound: Vec<(u32, u32)>,
    policies: Vec<String>,
}

impl Node {
    pub fn new(number: usize, setting: &Setting, random: &mut Random) -> Self {
        let configuration = Arc::new(setting.configuration(number));
        let credentials = Arc::new(Setting::credentials());
        let host = SimulatedHost::new(random.fork(), 1 + number as u8, setting.address(number));
        let nat = setting.behind_nat[number].then(|| Nat::new(seen(number)));
        let judge = Judge::new(random.aside(), credentials.clone());
        let parts = Parts { configuration, credentials };
        let standby = setting.standbys.then(|| {
            let (base, own) = (Duration::from_secs(number as u64), random.aside());
            Standby::beside(&parts, (number, base), setting.address(number), own)
        });
        Self {
            number,
            judge,
            ike: Some(parts.ike()),
            host,
            nat,
            fuse: None,
            restart_at: None,
            forgets: false,
            sweep: None,
            copy: None,
            failed_over: Vec::new(),
            failover: None,
            base: Duration::from_secs(random.below(1_000_000)),
            standby,
            takeover_at: None,
            taken_over: 700,
            term: 0,
            parts,
            synchronizes: setting.synchronizes,
            refuses: false,
            trace: false,
            silences: 0,
            counted_before: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    pub fn clock(&self, now: Duration) -> Now {
        clock(self.base, now)
    }

    /// When there is something to do, if it is still alive.
    pub fn next_timeout(&self) -> Option<Duration> {
        let ike = self.ike.as_ref().and_then(Ike::next_timeout).map(|at| at.saturating_sub(self.base));
        let sweep = self.sweep.as_ref().map(|(at, _)| *at);
        let judgement = self.ike.as_ref().and_then(|_| self.judge.next());
        [ike, sweep, self.restart_at, self.takeover_at, judgement].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Duration, history: &mut History) -> Result<Vec<Datagram>, String> {
        if self.takeover_at.is_some_and(|at| at <= now) {
            return self.take_over(now, history);
        }
        if self.restart_at.is_some_and(|at| at <= now) {
            return self.restart(now, history);
        }
        if self.sweep.as_ref().is_some_and(|(at, _)| *at <= now) {
            self.sweep_orphans(now);
        }
        if let Some((question, judgement)) = self.judge.due(now) {
            return self.act(now, history, |ike, now, host| ike.judged(now, question, judgement, host));
        }
        self.act(now, history, |ike, now, host| ike.handle_timeout(now, host))
    }

    /// Lets the process do something, and does what it asks for, until it dies.
    pub fn act(
        &mut self,
        now: Duration,
        history: &mut History,
        what: impl FnOnce(&mut Ike, Now, &mut SimulatedHost),
    ) -> Result<Vec<Datagram>, String> {
        let (clock, mut sent) = (self.clock(now), Vec::new());
        let Some(mut ike) = self.ike.take() else { return Ok(sent) };
        what(&mut ike, clock, &mut self.host);
        while let Some(output) = ike.poll() {
            if self.burns_out(now) {
                self.counters = self.counted(&ike);
                return Ok(sent);
            }
            if let Some(command) = self.apply(now, output, history, &mut sent)? {
                // That there is nothing left to fail is no failure.
                let _ = ike.command(clock, command, &mut self.host);
            }
        }
        self.ike = Some(ike);
        if self.standby.is_some() && self.host.random.per_mille(300) {
            self.replicate(now, None)?;
        }
        Ok(sent)
    }

    /// The standby learns of the tunnel of that number, and of all that changed before it; without one, of everything.
    pub fn replicate(&mut self, now: Duration, number: Option<u32>) -> Result<(), String> {
        let table = &self.host.table;
        self.standby.as_mut().map_or(Ok(()), |standby| standby.replicate(now, table, number))
    }

    fn burns_out(&mut self, now: Duration) -> bool {
        match &mut self.fuse {
            Some(0) => {
                self.fuse = None;
                let is_filled = self.standby.as_ref().is_some_and(|standby| standby.is_filled);
                let is_taken_over = is_filled && self.host.random.per_mille(self.taken_over);
                if is_taken_over {
                    self.takeover_at = Some(now + Duration::from_millis(20 + self.host.random.below(40)));
                } else {
                    self.restart_at = Some(now + Duration::from_millis(self.host.random.below(20_000)));
                }
                self.note(now, "dies");
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn apply(
        &mut self,
        now: Duration,
        output: Output,
        history: &mut History,
        sent: &mut Vec<Datagram>,
    ) -> Result<Option<Command>, String> {
        match output {
            Output::Transmit { path, datagram, tunnel } => {
                if tunnel.is_some() {
                    self.replicate(now, tunnel)?;
                }
                if self.trace {
                    self.note(now, &format!("sends {} to {}", label(&datagram), path.remote));
                }
                history.transmit(&datagram)?;
                let from = self.nat.as_mut().map_or(path.local, |nat| nat.outward(path.local));
                sent.push(Datagram { from, to: path.remote, marked: path.marked, octets: datagram });
            }
            Output::KeepAlive { path } => {
                self.nat.as_mut().map(|nat| nat.outward(path.local));
            }
            Output::Install(install) => {
                let note = format!(
                    "installs {:08x} {:08x} {} {} {} {}",
                    install.inbound_spi,
                    install.outbound_spi,
                    install.inbound,
                    install.outbound,
                    install.tunnel,
                    install.policy.is_some()
                );
                let refused = self.refuses && self.host.random.per_mille(2);
                if refused && install.inbound {
                    let (reqid, spi) = (install.reqid, install.inbound_spi);
                    self.note(now, &format!("refuses {spi:08x}"));
                    return Ok(Some(Command::InstallFailed { reqid, spi }));
                }
                self.host.table.install(self.number, &install, history)?;
                self.note(now, &note);
            }
            Output::Remove { inbound, outbound } => {
                self.host.table.remove(&inbound, &outbound);
                self.note(now, &format!("removes {inbound:08x?} {outbound:08x?}"));
            }
            Output::RemovePolicies { names, .. } => {
                for name in &names {
                    self.host.table.policies.remove(name);
                }
            }
            Output::Trap(policy) => {
                self.host.table.policies.insert(policy.name.clone(), *policy);
            }
            Output::Store { tunnel, context, .. } => {
                self.note(now, &format!("stores {tunnel}, {} octets", context.len()));
                self.standby.iter_mut().for_each(|standby| standby.changed(&tunnel));
                self.host.table.contexts.insert(tunnel, context);
            }
            Output::StoreStandby { tunnel, .. } | Output::ForgetStandby { tunnel } => {
                return Err(format!("{tunnel} is no standby's"));
            }
            Output::Forget { tunnel, .. } => {
                self.standby.iter_mut().for_each(|standby| standby.changed(&tunnel));
                self.host.table.contexts.remove(&tunnel);
                self.note(now, &format!("forgets {tunnel}"));
            }
            // Of a real host another thread does it, for longer; here it takes no time.
            Output::Solve { spi, puzzle, zeros } => {
                let solution = puzzle.solve(zeros, &|| true);
                return Ok(Some(Command::Solved { spi, solution }));
            }
            Output::StopSolving { .. } => {}
            Output::KeepTicket { connection, ticket: Some(ticket) } => {
                self.host.table.tickets.insert(connection, ticket);
            }
            Output::KeepTicket { connection, ticket: None } => {
                self.host.table.tickets.remove(&connection);
            }
            Output::Ask(question) => self.judge.ask(now, &question),
            Output::Account(account) => history.account(&account)?,
            Output::Event(event) => {
                let is_silence = matches!(event, Event::IkeDown { reason: DownReason::Unreachable, .. });
                self.silences += u64::from(is_silence);
                self.note(now, &format!("{event:?}"));
            }
            Output::SkipSequence { reqids, numbers } => {
                self.host.table.skip(&reqids, numbers);
                self.note(now, &format!("skips {numbers} of {reqids:08x?}"));
            }
            Output::Inside(inside) => {
                self.note(now, &format!("is {:?} inside because of {}", inside.addresses, inside.tunnel));
                self.host.table.inside.insert(inside.tunnel, inside.addresses);
                self.host.table.inside.retain(|_, addresses| !addresses.is_empty());
            }
            Output::MovePeer { inbound, outbound, ends } => {
                self.host.table.move_peer(&inbound, &outbound, ends);
            }
        }
        Ok(None)
    }

    /// The process starts again, with nothing but the contexts.
    fn restart(&mut self, now: Duration, history: &mut History) -> Result<Vec<Datagram>, String> {
        self.restart_at = None;
        self.fuse = None;
        self.base = Duration::from_secs(self.host.random.below(1_000_000));
        self.judge.forget();
        self.note(now, "starts again");
        if std::mem::take(&mut self.forgets) {
            self.host.table.lose_all();
            self.note(now, "has lost all that it had stored");
            self.refill_standby();
        }
        self.ike = Some(self.parts.ike());
        self.counted_before.clear();
        // As the daemon does: what no restored tunnel has inside goes.
        self.host.table.inside.clear();
        let mut failure = None;
        let advanced = self.failover.take().and_then(|copy| {
            history.fail_over();
            let tunnel = self.install_copy(*copy);
            // It is older than what the standby has.
            self.refill_standby();
            tunnel
        });
        let sent = self.act(now, history, |ike, now, host| {
            for (tunnel, context) in host.table.contexts.clone() {
                match ike.restore(now, &context, Restoring::Restart, host) {
                    Ok(name) if name == tunnel => {}
                    other => failure = Some(format!("the context of {tunnel} is restored as {other:?}")),
                }
            }
            for (connection, ticket) in &host.table.tickets {
                match ike.restore_ticket(now, ticket) {
                    Ok(None) => {}
                    Ok(Some(name)) if name == *connection => {}
                    other => failure = Some(format!("the ticket of {connection} is restored as {other:?}")),
                }
            }
            if let Some(tunnel) = advanced {
                let _ = ike.command(now, Command::Advanced { tunnel, packets: ADVANCE }, host);
            }
            // As the daemon does: nobody knows what has changed meanwhile.
            let _ = ike.command(now, Command::AddressesChanged, host);
        })?;
        self.sweep = Some((now + SWEEP_DELAY, self.orphans(now)));
        failure.map_or(Ok(sent), Err)
    }

    /// The standby begins anew.
    fn refill_standby(&mut self) {
        let Some(standby) = self.standby.take() else { return };
        let tunnels = self.host.table.contexts.keys().cloned();
        self.standby = Some(Standby::new(&self.parts, standby.machine(), tunnels));
    }

    /// The standby goes on in the place of a machine that is dead.
    fn take_over(&mut self, now: Duration, history: &mut History) -> Result<Vec<Datagram>, String> {
        self.takeover_at = None;
        let Some(standby) = self.standby.take() else { return Ok(vec![]) };
        let ahead = if self.synchronizes.1 { self.host.random.below(1000) } else { 0 };
        self.note(now, &format!("is taken over, {ahead} ahead"));
        let forget = |key: &[u8], inbound, spi| {
            history.forget_use(key, crate::history::Use { node: self.number, inbound, spi });
        };
        let dead = self.replace_by(standby.take_over(self.term + 1, &self.host, Some(ahead), forget), now);
        let tunnels = self.host.table.contexts.keys().cloned();
        self.standby = Some(Standby::new(&self.parts, (dead, Duration::ZERO), tunnels));
        self.act(now, history, |_, _, _| {})
    }

    /// Hands all over to the standby, and is the standby from then on. Nobody but these two hears of it.
    pub fn hand_over(&mut self, now: Duration) -> Result<(), String> {
        if self.ike.is_none() || self.standby.is_none() {
            return Ok(());
        }
        self.replicate(now, None)?;
        self.note(now, "hands over");
        let (clock, base) = (self.clock(now), self.base);
        let (Some(mut ike), Some(standby)) = (self.ike.take(), self.standby.take()) else { return Ok(()) };
        ike.own(&[]);
        while ike.next_timeout().is_some_and(|due| due <= clock.monotonic) {
            ike.handle_timeout(clock, &mut self.host);
        }
        while let Some(output) = ike.poll() {
            match output {
                Output::Inside(inside) => drop(self.host.table.inside.remove(&inside.tunnel)),
                Output::Event(_) | Output::StopSolving { .. } => {}
                other => return Err(format!("who hands over does {other:?}")),
            }
        }
        self.counters = self.counted(&ike);
        let mut was_used = false;
        let forget = |_: &[u8], _, _| was_used = true;
        let taken = standby.take_over(self.term + 1, &self.host, None, forget);
        if was_used {
            return Err("an SA is lost".to_owned());
        }
        let host = self.replace_by(taken, now);
        self.standby = Some(Standby::of(ike, (host, base)));
        Ok(())
    }

    /// Another machine is the node from now on.
    fn replace_by(&mut self, taken: Taken, now: Duration) -> SimulatedHost {
        self.judge.forget();
        self.term += 1;
        let Taken { ike, host, base, counted } = taken;
        (self.ike, self.base, self.fuse, self.copy) = (Some(ike), base, None, None);
        self.counted_before = counted;
        let before = std::mem::replace(&mut self.host, host);
        self.host.address = before.address;
        self.sweep = Some((now + SWEEP_DELAY, self.orphans(now)));
        before
    }

    /// Takes a copy of a tunnel.
    pub fn take_copy(&mut self, view: &TunnelView) {
        let table = &self.host.table;
        let context = table.contexts.get(&view.name).cloned();
        let sas = table.of_tunnel(&view.name);
        self.copy = context.map(|context| Copy { view: view.clone(), context, sas });
    }

    /// Dies, and goes on with an old state of a tunnel, which still has the same SAs.
    pub fn go_on_with_copy(&mut self, now: Duration) -> bool {
        let standing = self.tunnels(now);
        let (agrees, _) = self.synchronizes;
        let is_same = |copy: &mut Copy| {
            standing
                .iter()
                .any(|view| copy.is_still(view) && (agrees || copy.view.message_ids == view.message_ids))
        };
        let copy = self.copy.take_if(is_same);
        let is_there = copy.is_some();
        if let Some(copy) = copy {
            self.die(now, copy);
        }
        is_there
    }

    fn die(&mut self, now: Duration, copy: Copy) {
        let Some(ike) = self.ike.take() else { return };
        self.counters = self.counted(&ike);
        self.fuse = None;
        self.failover = Some(Box::new(copy));
        self.restart_at = Some(now + Duration::from_millis(self.host.random.below(5000)));
        self.note(now, "is lost");
    }

    /// The SAs are those of the copy, with both edges advanced; gives the tunnel, if it is there still.
    fn install_copy(&mut self, copy: Copy) -> Option<String> {
        let table = &mut self.host.table;
        let context = table.contexts.get_mut(&copy.view.name)?;
        *context = copy.context;
        self.failed_over.push(copy.view.name.clone());
        let (inbound, outbound) = copy.sas;
        for old in inbound {
            table.inbound.entry(old.spi).and_modify(|sa| sa.sequence = old.sequence + ADVANCE);
        }
        for old in outbound {
            table.outbound.entry(old.reqid).and_modify(|sa| sa.sequence = old.sequence + ADVANCE);
        }
        Some(copy.view.name.as_str().to_owned())
    }

    /// All counters, of this process and those before.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.ike.as_ref().map_or_else(|| self.counters.clone(), |ike| self.counted(ike))
    }

    /// Tunnels that it was ending already when it gave their peers up.
    #[allow(dead_code, reason = "the simulation of whole clusters asks for it")]
    pub fn given_up_while_ending(&self) -> u64 {
        self.counters().get("unreachable").map_or(0, |all| all.saturating_sub(self.silences))
    }

    fn counted(&self, ike: &Ike) -> BTreeMap<&'static str, u64> {
        let mut counters = self.counters.clone();
        for (name, value) in ike.counters().iter() {
            let before = self.counted_before.get(name).copied().unwrap_or_default();
            *counters.entry(name).or_default() += value - before;
        }
        counters
    }

    /// Its tunnels, in the order of their names.
    pub fn tunnels(&self, now: Duration) -> Vec<TunnelView> {
        let mut views: Vec<_> = self.ike.iter().flat_map(|ike| ike.tunnels(self.clock(now))).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    fn orphans(&self, now: Duration) -> Orphans {
        let views: Vec<_> = self.tunnels(now).into_iter().flat_map(|view| view.children).collect();
        let table = &self.host.table;
        let outbound = table.outbound.iter().map(|(reqid, sa)| (*reqid, sa.spi));
        let policies = table.policies.keys();
        Orphans {
            inbound: table
                .inbound
                .keys()
                .copied()
                .filter(|spi| !views.iter().any(|c| c.inbound_spi == *spi))
                .collect(),
            outbound: outbound
                .filter(|pair| !views.iter().any(|c| (c.reqid, c.outbound_spi) == *pair))
                .collect(),
            policies: policies
                .filter(|name| !views.iter().any(|c| c.policy.as_ref() == Some(name)))
                .cloned()
                .collect(),
        }
    }

    fn sweep_orphans(&mut self, now: Duration) {
        let Some((_, then)) = self.sweep.take() else { return };
        let now = self.orphans(now);
        let still = |spi: &u32| now.inbound.contains(spi);
        let inbound: Vec<_> = then.inbound.into_iter().filter(still).collect();
        let outbound: Vec<_> = then.outbound.into_iter().filter(|pair| now.outbound.contains(pair)).collect();
        self.host.table.remove(&inbound, &outbound);
        for policy in then.policies.iter().filter(|policy| now.policies.contains(policy)) {
            self.host.table.policies.remove(policy);
        }
    }

    pub fn note(&self, now: Duration, what: &str) {
        if self.trace {
            println!("{:9.3} node {}: {what}", now.as_secs_f64(), self.number);
        }
    }
}

impl Copy {
    /// Whether nothing but numbers has changed since it was taken. What else has, no gateway could go on with: the
    /// peer has other SAs by then (RFC 6311 section 8.3).
    fn is_still(&self, view: &TunnelView) -> bool {
        let numbers = |view: &TunnelView| {
            let children: Vec<_> =
                view.children.iter().map(|c| (c.inbound_spi, c.outbound_spi, c.is_sending)).collect();
            (view.name.clone(), view.spis, view.state, view.path, view.mobility.clone(), children)
        };
        numbers(&self.view) == numbers(view)
    }
}

/// What a machine whose clock began at `base` says.
pub fn clock(base: Duration, now: Duration) -> Now {
    Now { monotonic: base + now, unix: UNIX + now }
}

/// Which message a datagram is.
pub fn label(octets: &[u8]) -> String {
    let (header, fragment) = match wire::parse(octets) {
        Ok(wire::Datagram::Fragment(fragment)) => (fragment.sealed.header, fragment.number),
        Ok(other) => (*other.header(), 0),
        Err(_) => return "what nobody can read".to_owned(),
    };
    let Header { initiator_spi, responder_spi, exchange, flags, message_id } = header;
    let from = if flags.initiator { "I" } else { "R" };
    let kind = if flags.response { "response" } else { "request" };
    format!(
        "{exchange} {kind} {message_id} of {from} {initiator_spi:x}/{responder_spi:x} fragment {fragment}"
    )
}

pub fn wrap() -> Arc<WrapKey> {
    Arc::new(WrapKey::new([7; 32]))
}

/// A NAT in front of one node: a port of its own for each of the node's, until it forgets.
pub struct Nat {
    pub seen: IpAddr,
    ports: BTreeMap<SocketAddr, u16>,
    next: u16,
}

impl Nat {
    const fn new(seen: IpAddr) -> Self {
        Self { seen, ports: BTreeMap::new(), next: 20_000 }
    }

    pub fn outward(&mut self, from: SocketAddr) -> SocketAddr {
        let next = &mut self.next;
        let port = *self.ports.entry(from).or_insert_with(|| {
            *next += 1;
            *next
        });
        SocketAddr::new(self.seen, port)
    }

    pub fn inward(&self, to: SocketAddr) -> Option<SocketAddr> {
        let inner = self.ports.iter().find(|(_, port)| **port == to.port());
        inner.filter(|_| to.ip() == self.seen).map(|(inner, _)| *inner)
    }

    pub fn forget(&mut self) {
        self.ports.clear();
    }
}
