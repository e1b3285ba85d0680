//! The IKE daemon of a node: it starts and dies, hears datagrams, time and baton-cluster.

use std::time::Duration;

use baton_ctx_transfer::cluster::Event;
use baton_ike_proto::host::Owned;
use baton_ike_proto::machine::{Ike, Restoring, heading};
use baton_ike_proto::{Command, Now, Output, Path};
use baton_sad::NodeId;

use crate::effects::Left;
use crate::host::SimulatedHost;
use crate::plane::{name, segment};
use crate::world::{Coming, World};

/// baton-cluster looks for it so often.
const AGAIN: Duration = Duration::from_millis(50);

impl World {
    /// Lets an IKE machine do something, and does what it wants, until it dies.
    pub fn act(&mut self, id: NodeId, what: impl FnOnce(&mut Ike, Now, &mut SimulatedHost)) {
        let (now, mut left) = (self.now, Left::default());
        let node = self.nodes.get_mut(&id).expect("a member");
        let clock = node.now(now);
        let Some(mut ike) = node.process.ike.take() else { return };
        node.host.foreign = node.plane.foreign(clock.monotonic);
        what(&mut ike, clock, &mut node.host);
        let (mut result, mut dies, mut has_forgotten) = (Ok(()), false, false);
        while let Some(output) = ike.poll() {
            dies = node.process.fuse == Some(0);
            if dies {
                // It has forgotten a tunnel and dies with the answer to who has ended it.
                let undone = std::iter::once(output).chain(std::iter::from_fn(|| ike.poll()));
                for output in undone.filter(|_| has_forgotten) {
                    if let Output::Transmit { datagram, .. } = output {
                        self.exchanges.is_answered(id, node.process.life, &datagram, &self.taken);
                    }
                }
                break;
            }
            has_forgotten |= matches!(output, Output::Forget { .. });
            node.process.fuse = node.process.fuse.map(|left| left - 1);
            if self.trace {
                println!("{now:>10.3?} {id} ike {}", told(&output));
            }
            if let Output::Transmit { datagram, .. } = &output {
                self.exchanges.is_answered(id, node.process.life, datagram, &self.taken);
            }
            match node.perform(now, output, &mut self.judge, &mut left) {
                Ok(None) => {}
                Ok(Some(command)) => drop(ike.command(clock, command, &mut node.host)),
                Err(why) => result = result.and(Err(format!("{id}: {why}"))),
            }
        }
        if !dies {
            node.announce(&mut left);
        }
        node.process.ike = Some(ike);
        self.leave(id, left);
        self.violate(result);
        if dies {
            self.kill_ike(id);
        }
    }

    /// Datagrams go to the network, changes to baton-cluster, in their order.
    fn leave(&mut self, id: NodeId, left: Left) {
        for datagram in left.datagrams {
            self.transmit(datagram);
        }
        for event in left.events {
            self.tell_from_ike(id, event);
        }
    }

    fn tell_from_ike(&mut self, id: NodeId, event: Event) {
        let delay = self.micros(10, 150);
        let node = self.nodes.get_mut(&id).expect("a member");
        let at = (self.now + delay).max(node.process.told_until + Duration::from_micros(1));
        node.process.told_until = at;
        let life = node.daemon.life;
        self.at(at, Coming::Event { node: id, life, event });
    }

    /// What was held back leaves, as far as it need not wait any more.
    pub fn let_go(&mut self, id: NodeId) {
        let (now, mut left) = (self.now, Left::default());
        let node = self.nodes.get_mut(&id).expect("a member");
        if node.process.ike.is_none() || node.process.paused_until > now {
            return;
        }
        let result = node.let_go(now, &mut self.judge, &mut left);
        self.leave(id, left);
        self.violate(result);
    }

    /// Timers, and what has waited.
    pub fn tend_ike(&mut self, id: NodeId) {
        self.let_go(id);
        while let Some(datagram) = self.node(id).process.inbox.pop_front() {
            let path = Path { local: datagram.to, remote: datagram.from, marked: datagram.marked };
            self.act(id, |ike, now, host| ike.handle_datagram(now, path, &datagram.octets, host));
        }
        let local = self.nodes[&id].local(self.now);
        let due = self.nodes[&id].process.ike.as_ref().and_then(Ike::next_timeout);
        if due.is_some_and(|due| due <= local) {
            self.act(id, |ike, now, host| ike.handle_timeout(now, host));
        }
    }

    /// A datagram for the address that the nodes share: the filter gives it to every one, the machine looks at leases.
    pub fn receive(&mut self, datagram: &crate::network::Datagram) {
        for id in self.scene.nodes() {
            let (now, node) = (self.now, self.node(id));
            if !node.up || node.process.ike.is_none() {
                continue;
            }
            if node.process.paused_until > now {
                node.process.inbox.push_back(datagram.clone());
                continue;
            }
            let path = Path { local: datagram.to, remote: datagram.from, marked: datagram.marked };
            self.act(id, |ike, now, host| ike.handle_datagram(now, path, &datagram.octets, host));
        }
    }

    /// A command of an operator; whether it can be done is its own business.
    pub fn command(&mut self, id: NodeId, command: Command) {
        self.say(|| format!("{id} ike is told {command:?}"));
        self.act(id, |ike, now, host| drop(ike.command(now, command, host)));
    }

    pub fn kill_ike(&mut self, id: NodeId) {
        let fresh = crate::gateway::Process::new(self.scene.replication_wait());
        let node = self.node(id);
        node.bury_ike();
        let old = std::mem::replace(&mut node.process, fresh);
        node.process.life = old.life + 1;
        node.process.paused_until = old.paused_until;
        node.process.versions = old.versions;
        self.say(|| format!("{id} ike is dead"));
        self.judge.count("ike daemons dead");
        let (after, life) = (self.micros(2_000, 200_000), old.life + 1);
        self.later(after, Coming::StartIke { node: id, life });
    }

    /// The process starts with what it has stored. It acts for what there are leases of.
    pub fn start_ike(&mut self, id: NodeId) {
        let (now, ike) = (self.now, self.parts.ike());
        let node = self.node(id);
        if !node.up || node.witness || node.process.ike.is_some() {
            return;
        }
        let local = node.local(now);
        let owned: Vec<u8> = (0..=u8::MAX).filter(|segment| node.plane.owns(*segment, local)).collect();
        node.process.owned = owned.iter().copied().collect();
        node.process.ike = Some(ike);
        let shares: Vec<Owned> =
            owned.iter().map(|s| Owned { segment: *s, term: 0, advanced: None, is_stale: false }).collect();
        self.say(|| format!("{id} ike starts"));
        self.act(id, |ike, _, _| {
            ike.own(&shares);
        });
        for (tunnel, context) in self.nodes[&id].host.table.contexts.clone() {
            let is_ours = self.nodes[&id].process.owned.contains(&segment(&tunnel));
            let mut problem = None;
            self.act(id, |ike, now, host| {
                problem = if is_ours {
                    ike.restore(now, &context, Restoring::Restart, host).err().map(|why| why.to_string())
                } else {
                    ike.restore_standby(now, &context, host).err().map(|why| why.to_string())
                };
            });
            let result = problem.map_or(Ok(()), |why| Err(format!("{id}: {tunnel} is not restored: {why}")));
            self.violate(result);
        }
        self.report_missing(id);
        self.act(id, |ike, now, host| ike.start(now, host));
        self.later(Duration::from_micros(500), Coming::Link(id));
    }

    /// Child SAs that are not in the table.
    fn report_missing(&mut self, id: NodeId) {
        let (now, node) = (self.now, &self.nodes[&id]);
        let Some(ike) = &node.process.ike else { return };
        let table = &node.host.table;
        let missing: Vec<_> = ike
            .tunnels(node.now(now))
            .flat_map(|view| view.children)
            .filter(|child| {
                let outbound =
                    table.outbound.get(&child.reqid).is_some_and(|sa| sa.spi == child.outbound_spi);
                !table.inbound.contains_key(&child.inbound_spi) || child.is_sending && !outbound
            })
            .map(|child| (child.reqid, child.inbound_spi))
            .collect();
        for (reqid, spi) in missing {
            self.judge.count("SAs missing");
            self.command(id, Command::InstallFailed { reqid, spi });
        }
    }

    /// baton-cluster connects, asks what tunnels there are, and says that it has caught up.
    pub fn link(&mut self, id: NodeId) {
        let (now, node) = (self.now, self.node(id));
        if node.witness || node.daemon.core.is_none() || node.process.ike.is_none() || node.process.linked {
            return;
        }
        if node.daemon.paused_until > now {
            return self.later(AGAIN, Coming::Link(id));
        }
        node.forget_link();
        node.process.linked = true;
        let headings = node.process.ike.iter().flat_map(Ike::headings);
        let events: Vec<_> = headings
            .map(|(heading, _)| Event::TunnelChanged {
                tunnel: name(&heading.tunnel),
                segment: heading.segment,
                version: heading.version,
            })
            .collect();
        for event in events {
            self.tell_from_ike(id, event);
        }
        self.say_caught_up(id);
    }

    /// The connection of the two daemons is over; it is tried again.
    pub fn unlink(&mut self, id: NodeId) {
        let node = self.node(id);
        node.process.linked = false;
        node.process.unsaid.clear();
        self.later(AGAIN, Coming::Link(id));
    }

    /// What the IKE daemon hears of a tunnel's version; of none: the standbys have all.
    pub fn reply(&mut self, id: NodeId, what: Option<(baton_sad::Name, u64)>) {
        let at = self.busy(id, 3, 10, 150);
        let life = self.nodes[&id].process.life;
        self.at(at, Coming::Reply { node: id, life, what });
    }

    pub fn hear_reply(&mut self, id: NodeId, life: u64, what: Option<(baton_sad::Name, u64)>) {
        let (now, node) = (self.now, self.node(id));
        if node.process.life != life || !node.process.linked {
            return;
        }
        if node.process.paused_until > now {
            let until = node.process.paused_until;
            return self.at(until, Coming::Reply { node: id, life, what });
        }
        match what {
            Some((tunnel, version)) => node.replicated(tunnel.as_str(), version),
            None => node.process.progress.caught_up(),
        }
        self.let_go(id);
    }

    /// Which segments are this node's.
    pub fn own(&mut self, id: NodeId) {
        let (now, node) = (self.now, self.node(id));
        if node.process.ike.is_none() || node.process.paused_until > now {
            return;
        }
        let owned: Vec<Owned> = node
            .daemon
            .owned
            .iter()
            .map(|(segment, came)| Owned {
                segment: *segment,
                term: u32::try_from(came.term).unwrap_or(u32::MAX),
                advanced: came.advanced,
                is_stale: came.is_stale,
            })
            .collect();
        self.act(id, |ike, _, _| {
            ike.own(&owned);
        });
        let process = &mut self.node(id).process;
        process.owned = owned.iter().map(|owned| owned.segment).collect();
        let ours = &process.owned;
        process.held.forget_foreign(|number| ours.contains(&number.to_be_bytes()[0]));
    }
}

/// An output, for people.
fn told(output: &baton_ike_proto::Output) -> String {
    match output {
        Output::Transmit { path, datagram, tunnel } => {
            format!("sends {} to {} about {tunnel:x?}", crate::node::label(datagram), path.remote)
        }
        Output::Install(install) => format!(
            "installs {:08x} {:08x} of {} {} {}",
            install.inbound_spi, install.outbound_spi, install.tunnel, install.inbound, install.outbound
        ),
        Output::Store { tunnel, version, .. } => format!("stores {tunnel} {version:x}"),
        Output::StoreStandby { tunnel, context } => {
            format!("keeps {tunnel} {:x?}", heading(context).map(|heading| heading.version))
        }
        Output::Trap(_) => "traps".to_owned(),
        other => format!("{other:?}"),
    }
}
