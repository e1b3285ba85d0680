//! One end: a machine, its host, and what it was told to do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Credentials;
use crate::configuration::{Configuration, Mode};
use crate::crypto::{ChildKeys, KeyMaterial, Role, WrapKey};
use crate::host::{
    Account, Command, CommandError, Event, Host, Inside, Install, Now, OuterEnds, Output, Path, Question,
    Volume,
};
use crate::machine::{Ike, TunnelState, TunnelView};

/// A host whose randomness is a seed's, and that has as many IVs as it is told.
pub(super) struct TestHost {
    state: u64,
    pub(super) ivs: u64,
    next_iv: u64,
    pub(super) source: IpAddr,
    pub(super) segment: u8,
    /// All its addresses, if it is to know them.
    pub(super) addresses: Vec<IpAddr>,
    /// What SAs in the table have carried: inbound ones by SPI, outbound ones by reqid, with the SPI.
    pub(super) received: BTreeMap<u32, Volume>,
    pub(super) sent: BTreeMap<u32, (u32, Volume)>,
}

impl TestHost {
    pub(super) fn new(seed: u64) -> Self {
        let source = std::net::Ipv4Addr::UNSPECIFIED.into();
        let (segment, addresses) = (seed as u8, Vec::new());
        let (received, sent) = (BTreeMap::new(), BTreeMap::new());
        Self { state: seed, ivs: u64::MAX, next_iv: seed << 32, source, segment, addresses, received, sent }
    }

    /// Further on in its randomness and its IVs, as a process that comes later.
    pub(super) fn advance(&mut self, by: u64) {
        self.state = self.state.wrapping_mul(31).wrapping_add(by);
        self.next_iv += by;
    }

    fn next(&mut self) -> u64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Host for TestHost {
    fn random(&mut self, octets: &mut [u8]) {
        for chunk in octets.chunks_mut(8) {
            let random = self.next().to_be_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }

    fn explicit_iv(&mut self) -> Option<[u8; 8]> {
        self.ivs = self.ivs.checked_sub(1)?;
        self.next_iv += 1;
        Some(self.next_iv.to_be_bytes())
    }

    fn segment_of(&self, _peer: IpAddr) -> u8 {
        self.segment
    }

    fn owns(&self, segment: u8) -> bool {
        segment == self.segment
    }

    fn source_for(&self, _peer: IpAddr) -> Option<IpAddr> {
        Some(self.source).filter(|source| !source.is_unspecified())
    }

    fn local_addresses(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }

    fn spi_is_taken(&self, _spi: u32) -> bool {
        false
    }

    fn inbound_volume(&self, spi: u32) -> Volume {
        self.received.get(&spi).copied().unwrap_or_default()
    }

    fn outbound_volume(&self, reqid: u32, spi: u32) -> Volume {
        let found = self.sent.get(&reqid).filter(|(present, _)| *present == spi);
        found.map(|(_, volume)| *volume).unwrap_or_default()
    }
}

/// One direction as the data plane has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sa {
    pub(super) reqid: u32,
    pub(super) key: KeyMaterial,
    pub(super) ends: OuterEnds,
    pub(super) mode: Mode,
}

/// One end.
pub(super) struct Side {
    pub(super) ike: Ike,
    pub(super) host: TestHost,
    /// By our SPI.
    pub(super) inbound: BTreeMap<u32, Sa>,
    /// By reqid: the peer's SPI.
    pub(super) outbound: BTreeMap<u32, (u32, Sa)>,
    pub(super) policies: BTreeMap<String, u32>,
    pub(super) traps: BTreeMap<String, u32>,
    /// Policies that were removed, and whether what they protected stays closed.
    pub(super) kept: Vec<(String, bool)>,
    /// By tunnel.
    pub(super) inside: BTreeMap<String, Inside>,
    pub(super) events: Vec<Event>,
    pub(super) contexts: HashMap<String, Vec<u8>>,
    /// Of the tunnels that are ours.
    pub(super) versions: HashMap<String, u64>,
    /// Puzzles that it was asked to solve, and whether it does so at once.
    pub(super) puzzles: Vec<(u64, u32)>,
    pub(super) solves: bool,
    solved: Vec<Command>,
    last: Option<Now>,
    /// Tickets to be kept, by connection.
    pub(super) tickets: HashMap<String, Vec<u8>>,
    pub(super) sent: VecDeque<(Path, Vec<u8>)>,
    pub(super) keep_alives: usize,
    /// What an authenticator elsewhere is asked.
    pub(super) questions: VecDeque<Question>,
    pub(super) accounts: Vec<Account>,
    /// What was done, in order, by first words.
    pub(super) log: Vec<&'static str>,
    /// Keys that were ever installed, to see that none is twice.
    /// Sequence numbers that were skipped, by reqids.
    pub(super) skips: Vec<(Vec<u32>, u64)>,
    seen: HashMap<(u32, bool), KeyMaterial>,
}

impl Side {
    pub(super) fn new(
        seed: u64,
        source: &str,
        configuration: Configuration,
        credentials: Arc<Credentials>,
    ) -> Self {
        let source: IpAddr = source.parse().unwrap();
        let host = TestHost { source, ..TestHost::new(seed) };
        let wrap = Arc::new(WrapKey::new([seed as u8; 32]));
        Self {
            ike: Ike::new(Arc::new(configuration), credentials, wrap),
            host,
            inbound: BTreeMap::new(),
            outbound: BTreeMap::new(),
            policies: BTreeMap::new(),
            traps: BTreeMap::new(),
            inside: BTreeMap::new(),
            kept: Vec::new(),
            events: Vec::new(),
            contexts: HashMap::new(),
            versions: HashMap::new(),
            puzzles: Vec::new(),
            solves: true,
            solved: Vec::new(),
            last: None,
            tickets: HashMap::new(),
            sent: VecDeque::new(),
            keep_alives: 0,
            questions: VecDeque::new(),
            accounts: Vec::new(),
            log: Vec::new(),
            seen: HashMap::new(),
            skips: Vec::new(),
        }
    }

    pub(super) fn command(&mut self, now: Now, command: Command) -> Result<usize, CommandError> {
        self.last = Some(now);
        let result = self.ike.command(now, command, &mut self.host);
        self.drain();
        result
    }

    pub(super) fn datagram(&mut self, now: Now, path: Path, datagram: &[u8]) {
        self.last = Some(now);
        self.ike.handle_datagram(now, path, datagram, &mut self.host);
        self.drain();
    }

    pub(super) fn timeout(&mut self, now: Now) {
        self.last = Some(now);
        self.ike.handle_timeout(now, &mut self.host);
        self.drain();
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.ike.next_timeout()
    }

    /// Does what the machine says.
    pub(super) fn drain(&mut self) {
        while let Some(output) = self.ike.poll() {
            self.take(output);
        }
        if let (Some(now), Some(command)) = (self.last, self.solved.pop()) {
            self.command(now, command).unwrap();
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Transmit { path, datagram, .. } => {
                self.log.push("transmit");
                self.sent.push_back((path, datagram));
            }
            Output::KeepAlive { .. } => self.keep_alives += 1,
            Output::Install(install) => self.install(&install),
            Output::Remove { inbound, outbound } => self.remove(&inbound, &outbound),
            Output::RemovePolicies { names, keep_prohibited } => names.iter().for_each(|name| {
                self.kept.push((name.clone(), keep_prohibited));
                self.policies.remove(name);
                self.traps.remove(name);
            }),
            Output::Trap(policy) => {
                self.policies.remove(&policy.name);
                self.traps.insert(policy.name.clone(), policy.reqid);
            }
            Output::SkipSequence { reqids, numbers } => {
                self.log.push("skip");
                self.skips.push((reqids, numbers));
            }
            Output::MovePeer { inbound, outbound, ends } => self.move_peer(&inbound, &outbound, ends),
            Output::Store { tunnel, context, version } => {
                self.log.push("store");
                let before = self.versions.insert(tunnel.to_string(), version);
                assert!(before.is_none_or(|before| before < version), "versions go back");
                self.contexts.insert(tunnel.to_string(), context);
            }
            Output::Forget { tunnel, .. } | Output::ForgetStandby { tunnel } => {
                self.contexts.remove(tunnel.as_str());
            }
            Output::StoreStandby { tunnel, context } => {
                self.contexts.insert(tunnel.to_string(), context);
            }
            Output::Solve { spi, puzzle, zeros } => {
                self.puzzles.push((spi, zeros));
                if self.solves {
                    let solution = puzzle.solve(zeros, &|| true);
                    self.solved.push(Command::Solved { spi, solution });
                }
            }
            Output::StopSolving { spi } => self.puzzles.retain(|(other, _)| *other != spi),
            Output::KeepTicket { connection, ticket: Some(ticket) } => {
                self.tickets.insert(connection, ticket);
            }
            Output::KeepTicket { connection, ticket: None } => {
                self.tickets.remove(&connection);
            }
            Output::Ask(question) => self.questions.push_back(*question),
            Output::Account(account) => self.accounts.push(*account),
            Output::Inside(inside) => {
                let name = inside.tunnel.to_string();
                if inside.addresses.is_empty() {
                    self.inside.remove(&name);
                } else {
                    self.inside.insert(name, inside);
                }
            }
            Output::Event(event) => self.events.push(event),
        }
    }

    fn install(&mut self, install: &Install) {
        self.log.push("install");
        let Install { reqid, ends, mode, .. } = *install;
        if let Some(keys) = &install.keys {
            let (inbound, outbound) = directions(keys, install.role);
            if install.inbound {
                self.remember(install.inbound_spi, true, &inbound);
                self.host.received.entry(install.inbound_spi).or_default();
                self.inbound.insert(install.inbound_spi, Sa { reqid, key: inbound, ends, mode });
            }
            if install.outbound {
                self.remember(install.outbound_spi, false, &outbound);
                if self.host.sent.get(&reqid).is_none_or(|(spi, _)| *spi != install.outbound_spi) {
                    self.host.sent.insert(reqid, (install.outbound_spi, Volume::default()));
                }
                self.outbound.insert(reqid, (install.outbound_spi, Sa { reqid, key: outbound, ends, mode }));
            }
        }
        if let Some(policy) = &install.policy {
            assert!(policy.name.len() <= 32, "{}", policy.name);
            self.traps.remove(&policy.name);
            self.policies.insert(policy.name.clone(), policy.reqid);
        }
    }

    /// No key is ever installed under two SPIs, and no SPI twice.
    fn remember(&mut self, spi: u32, inbound: bool, key: &KeyMaterial) {
        let others = self.seen.iter().filter(|(which, _)| **which != (spi, inbound));
        assert!(others.clone().all(|(_, other)| other != key), "one key for two SAs");
        let before = self.seen.insert((spi, inbound), key.clone());
        assert!(before.is_none_or(|before| before == *key), "one SPI with two keys");
    }

    fn remove(&mut self, inbound: &[u32], outbound: &[(u32, u32)]) {
        for spi in inbound {
            self.inbound.remove(spi);
            self.host.received.remove(spi);
        }
        for (reqid, spi) in outbound {
            if self.outbound.get(reqid).is_some_and(|(present, _)| present == spi) {
                self.outbound.remove(reqid);
                self.host.sent.remove(reqid);
            }
        }
    }

    fn move_peer(&mut self, inbound: &[u32], outbound: &[u32], ends: OuterEnds) {
        for spi in inbound {
            self.inbound.entry(*spi).and_modify(|sa| sa.ends = ends);
        }
        for reqid in outbound {
            self.outbound.entry(*reqid).and_modify(|(_, sa)| sa.ends = ends);
        }
    }

    /// Modes of the inbound SAs.
    pub(super) fn modes(&self) -> Vec<Mode> {
        self.inbound.values().map(|sa| sa.mode).collect()
    }

    pub(super) fn tunnels(&self, now: Now) -> Vec<TunnelView> {
        self.ike.tunnels(now).collect()
    }

    pub(super) fn established(&self, now: Now) -> Vec<TunnelView> {
        self.tunnels(now).into_iter().filter(|view| view.state == TunnelState::Established).collect()
    }

    /// The sentences of failed exchanges.
    pub(super) fn problems(&self) -> Vec<&str> {
        let mut problems = Vec::new();
        for event in &self.events {
            if let Event::Failed { problem, .. } = event {
                problems.push(problem.as_str());
            }
        }
        problems
    }
}

/// What is ours to receive with, and to send with.
fn directions(keys: &ChildKeys, role: Role) -> (KeyMaterial, KeyMaterial) {
    let (a, b) = (keys.initiator_to_responder.clone(), keys.responder_to_initiator.clone());
    match role {
        Role::Initiator => (b, a),
        Role::Responder => (a, b),
    }
}
