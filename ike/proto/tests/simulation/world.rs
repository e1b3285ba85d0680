//! All nodes, the network between them, and the time.

use std::net::SocketAddr;
use std::time::Duration;

use baton_ike_proto::machine::{Ike, TunnelState, TunnelView};
use baton_ike_proto::{Command, Path};

use crate::history::History;
use crate::network::{Datagram, Faults, Network};
use crate::node::{Node, label};
use crate::random::Random;
use crate::setting::Setting;

/// A node that has something to do so often at one moment will never have done.
const MOST_AT_ONCE: u32 = 2000;

pub struct World {
    pub setting: Setting,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub history: History,
    pub random: Random,
    pub now: Duration,
    /// When a datagram arrived last.
    pub last_arrival: Duration,
    /// What has to hold all along.
    pub watch: fn(&Self) -> Result<(), String>,
    at_once: u32,
}

impl World {
    pub fn new(setting: Setting, faults: Faults, mut random: Random) -> Self {
        let nodes = (0..setting.nodes).map(|number| Node::new(number, &setting, &mut random)).collect();
        let network = Network::new(random.fork(), faults);
        let (now, history) = (Duration::ZERO, History::default());
        Self {
            setting,
            nodes,
            network,
            history,
            random,
            now,
            last_arrival: now,
            watch: |_| Ok(()),
            at_once: 0,
        }
    }

    /// Lets time pass, with all that happens in it.
    pub fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while let Some(next) = self.next_event().filter(|next| *next <= end) {
            self.at_once = if next > self.now { 0 } else { self.at_once + 1 };
            if self.at_once > MOST_AT_ONCE {
                let busy = (0..self.nodes.len())
                    .find(|at| self.nodes[*at].next_timeout().is_some_and(|due| due <= self.now));
                let tunnels = busy.map_or(vec![], |at| self.tunnels(at));
                let states: Vec<_> = tunnels.iter().map(|view| (view.name.as_str(), view.state)).collect();
                return Err(format!("node {busy:?} never has done: {states:?}"));
            }
            self.now = self.now.max(next);
            self.happen()?;
            (self.watch)(self)?;
        }
        self.now = end;
        Ok(())
    }

    pub fn run_for(&mut self, time: Duration) -> Result<(), String> {
        self.run_until(self.now + time)
    }

    fn next_event(&self) -> Option<Duration> {
        let timeouts = self.nodes.iter().filter_map(Node::next_timeout);
        timeouts.chain(self.network.next_arrival()).min()
    }

    fn happen(&mut self) -> Result<(), String> {
        while let Some(datagram) = self.network.arrival(self.now) {
            self.last_arrival = self.now;
            self.deliver(&datagram)?;
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].next_timeout().is_some_and(|due| due <= self.now) {
                let sent = self.nodes[at].on_timeout(self.now, &mut self.history);
                self.send(sent.map_err(|why| format!("node {at}: {why}"))?);
            }
        }
        Ok(())
    }

    fn deliver(&mut self, datagram: &Datagram) -> Result<(), String> {
        let Some((at, local)) = self.destination(datagram.to) else { return Ok(()) };
        if self.nodes[at].trace {
            self.nodes[at]
                .note(self.now, &format!("gets {} from {}", label(&datagram.octets), datagram.from));
        }
        self.receive(at, Path { local, remote: datagram.from, marked: datagram.marked }, &datagram.octets)
    }

    /// Where datagrams to this address arrive: the node, and its address as it knows it.
    pub fn destination(&self, to: SocketAddr) -> Option<(usize, SocketAddr)> {
        let local = |node: &Node| match &node.nat {
            Some(nat) => nat.inward(to),
            None => Some(to).filter(|to| to.ip() == node.host.address),
        };
        self.nodes.iter().enumerate().find_map(|(at, node)| Some((at, local(node)?)))
    }

    /// A node receives a datagram.
    pub fn receive(&mut self, at: usize, path: Path, octets: &[u8]) -> Result<(), String> {
        self.act(at, |ike, now, host| ike.handle_datagram(now, path, octets, host))
    }

    /// A node is told to do something; whether it can is its own business.
    pub fn command(&mut self, at: usize, command: Command) -> Result<(), String> {
        self.nodes[at].note(self.now, &format!("{command:?}"));
        self.act(at, |ike, now, host| {
            let _ = ike.command(now, command, host);
        })
    }

    fn act(
        &mut self,
        at: usize,
        what: impl FnOnce(&mut Ike, baton_ike_proto::Now, &mut crate::host::SimulatedHost),
    ) -> Result<(), String> {
        let sent = self.nodes[at].act(self.now, &mut self.history, what);
        self.send(sent.map_err(|why| format!("node {at}: {why}"))?);
        Ok(())
    }

    fn send(&mut self, datagrams: Vec<Datagram>) {
        for datagram in datagrams {
            self.network.send(self.now, datagram);
        }
    }

    /// A packet of ESP by one of a node's outbound SAs, to whoever has the other end of it; whether it is taken.
    pub fn packet(&mut self, at: usize, reqid: u32) -> Result<bool, String> {
        // Nothing is sent or taken by an SA that the standby does not have.
        for node in &mut self.nodes {
            node.replicate(self.now, None)?;
        }
        let Some(sa) = self.nodes[at].host.table.outbound.get_mut(&reqid) else { return Ok(false) };
        sa.sequence += 1;
        let (spi, key, sequence) = (sa.spi, sa.key.clone(), sa.sequence);
        self.history.send(&key, sequence).map_err(|why| format!("node {at}: {why}"))?;
        for (other, node) in self.nodes.iter_mut().enumerate().filter(|(other, _)| *other != at) {
            let receiver = node.host.table.inbound.get_mut(&spi);
            if let Some(sa) = receiver.filter(|sa| sa.key == key && sa.sequence < sequence) {
                sa.sequence = sequence;
                self.history.take(&key, sequence).map_err(|why| format!("node {other}: {why}"))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The tunnels of a node.
    pub fn tunnels(&self, at: usize) -> Vec<TunnelView> {
        self.nodes[at].tunnels(self.now)
    }

    pub fn standing(&self, at: usize) -> Vec<TunnelView> {
        let stands = |view: &TunnelView| view.state == TunnelState::Established;
        self.tunnels(at).into_iter().filter(stands).collect()
    }

    /// The other end of a tunnel.
    pub fn other_end(&self, at: usize, view: &TunnelView) -> Option<(usize, TunnelView)> {
        let others = (0..self.nodes.len()).filter(|other| *other != at);
        let ends = others.flat_map(|other| self.tunnels(other).into_iter().map(move |view| (other, view)));
        ends.into_iter().find(|(_, other)| other.spis == view.spis)
    }
}
