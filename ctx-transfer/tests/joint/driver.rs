//! What the core of a node wants, and what becomes of its leases.

use std::time::Duration;

use baton_ctx_transfer::cluster::{
    Alarm, Cause, Cluster, Event, Lane, Octets, Output, Replication, Segments,
};
use baton_ike_proto::host::TunnelName;
use baton_sad::NodeId;

use crate::gateway::Came;
use crate::plane::segment;
use crate::world::{Coming, World};

impl World {
    /// Does something with a core, and then all that it wants.
    pub fn with(&mut self, id: NodeId, act: impl FnOnce(&mut Cluster, Duration)) {
        let (now, node) = (self.now, self.node(id));
        let local = node.local(now);
        let Some(core) = node.daemon.core.as_mut() else { return };
        act(core, local);
        self.carry_out(id);
    }

    pub fn carry_out(&mut self, id: NodeId) {
        while let Some(output) = self.node(id).daemon.core.as_mut().and_then(Cluster::poll) {
            let is_news =
                !matches!(output, Output::Send { .. } | Output::SetLease { .. } | Output::Reserve(_));
            if self.trace && is_news && !matches!(output, Output::RaiseFloors { .. }) {
                self.say(|| format!("{id} {output:?}"));
            }
            self.carry_out_one(id, output);
        }
        let slack = self.micros(0, 200);
        self.node(id).daemon.slack = slack;
    }

    /// At once where the daemon's first thread does it, after others where another one does.
    fn carry_out_one(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Send { to, lane, octets } => self.send(id, to, lane, octets),
            Output::SetLease { segments, until } => self.set_lease(id, segments, until),
            Output::Took { segments, cause } => self.took(id, segments, cause),
            Output::Lost { segments } => {
                let owned = &mut self.node(id).daemon.owned;
                owned.retain(|segment, _| !segments.contains(*segment));
                self.own_later(id);
            }
            Output::Synced(synced) => {
                // They follow each other again.
                self.alone.retain(|_, _| !synced);
                self.node(id).daemon.synced = synced;
                self.say_caught_up(id);
            }
            Output::Alarm { alarm: Alarm::Silent(other), raised } => self.note_silence(id, other, raised),
            Output::Notice(_) | Output::Alarm { .. } => {}
            Output::Reserve(_) | Output::RaiseFloors { .. } => self.work_later(id, 1, output),
            Output::ReadContext { .. }
            | Output::Apply { .. }
            | Output::Remove { .. }
            | Output::Prepare { .. }
            | Output::Replicated { .. } => {
                self.work_later(id, 0, output);
            }
            other => self.work(id, other),
        }
    }

    fn work_later(&mut self, id: NodeId, thread: usize, output: Output) {
        let work = self.scene.work;
        let at = self.busy(id, thread, 5, work);
        let life = self.nodes[&id].daemon.life;
        self.at(at, Coming::Work { node: id, life, output: Box::new(output) });
    }

    /// When a thread of the daemon will have done one thing more.
    pub fn busy(&mut self, id: NodeId, thread: usize, least: u64, most: u64) -> Duration {
        let (takes, now) = (self.micros(least, most), self.now);
        let busy = &mut self.node(id).daemon.busy[thread];
        *busy = now.max(*busy) + takes;
        *busy
    }

    /// The IKE daemon hears what is owned.
    fn own_later(&mut self, id: NodeId) {
        let at = self.busy(id, 2, 20, 400);
        let life = self.nodes[&id].daemon.life;
        self.at(at, Coming::Own { node: id, life });
    }

    /// And when the standbys have all.
    pub fn say_caught_up(&mut self, id: NodeId) {
        if self.nodes[&id].daemon.synced {
            self.reply(id, None);
        }
    }

    /// It is told again and again: it may have been started meanwhile, or have given the standbys up.
    pub fn own_again(&mut self, id: NodeId, life: u64) {
        if self.nodes[&id].daemon.life == life {
            self.own_later(id);
            self.say_caught_up(id);
            self.later(Duration::from_millis(500), Coming::OwnAgain { node: id, life });
        }
    }

    /// I4 could begin to be broken here.
    fn set_lease(&mut self, id: NodeId, segments: Segments, until: Duration) {
        for segment in segments.iter() {
            self.node(id).plane.set_lease(segment, until);
            let went_on = self.alone.iter().any(|(owner, all)| *owner != id && all.contains(segment));
            if went_on && !self.scene.is_exclusive() && self.nodes[&id].owns(segment, self.now) {
                self.let_down(Segments::one(segment), "pairs parted");
            }
            let owners: Vec<NodeId> =
                self.nodes.values().filter(|node| node.owns(segment, self.now)).map(|node| node.id).collect();
            if owners.len() < 2 || !owners.contains(&id) {
                continue;
            }
            if self.scene.is_exclusive() {
                self.violate(Err(format!("I4: {owners:?} own segment {segment}")));
            }
            self.let_down(Segments::one(segment), "pairs parted");
        }
    }

    /// One of a pair without a witness that lives and does not hear goes by what it heard last, while the other one goes on.
    fn note_silence(&mut self, id: NodeId, other: NodeId, raised: bool) {
        let lives = self.nodes.get(&other).is_some_and(|node| node.daemon.core.is_some());
        if raised && lives {
            let owned = (0..=u8::MAX).filter(|segment| self.nodes[&id].owns(*segment, self.now));
            let owned: Segments = owned.collect();
            *self.alone.entry(id).or_default() |= owned;
        } else if !raised {
            self.alone.remove(&id);
        }
    }

    /// Nothing is promised of the tunnels of these segments any more.
    fn let_down(&mut self, segments: Segments, why: &'static str) {
        let tunnels = self.nodes.values().flat_map(|node| node.host.table.contexts.keys());
        let told = self.judge.told.values().map(|told| &told.tunnel);
        let all: Vec<TunnelName> =
            tunnels.chain(told).filter(|tunnel| segments.contains(segment(tunnel))).cloned().collect();
        for tunnel in all {
            self.judge.count(why);
            self.judge.loosen(crate::plane::number(&tunnel));
        }
    }

    /// I6: who takes over in good order knows all that peers have surely been told.
    fn took(&mut self, id: NodeId, segments: Segments, cause: Cause) {
        self.judge.takeovers += 1;
        segments.iter().for_each(|segment| self.taken[usize::from(segment)] += 1);
        self.judge.count(match cause {
            Cause::First => "first",
            Cause::Takeover => "takeovers",
            Cause::Stale => "stale takeovers",
            Cause::Planned => "planned",
        });
        if cause == Cause::Stale {
            self.let_down(segments, "rekeyed");
            self.expect_rekeys(id, segments);
        }
        let in_good_order = matches!(cause, Cause::Takeover | Cause::Planned);
        let told: Vec<_> = self.judge.told.iter().map(|(number, told)| (*number, told.clone())).collect();
        for (number, told) in told.into_iter().filter(|(_, t)| segments.contains(segment(&t.tunnel))) {
            let version = self.nodes[&id].version(&told.tunnel).unwrap_or(0);
            let is_promised = in_good_order && !self.judge.loose.contains(&number);
            if version < told.surely && is_promised && self.scene.is_exclusive() {
                let (name, surely) = (&told.tunnel, told.surely);
                self.violate(Err(format!(
                    "I6: {id} takes {name} over in good order at version {version:x}, its peer knows {surely:x}"
                )));
            }
            if version < told.at_all {
                self.judge.loosen(number);
            }
        }
        self.exchanges.count(segments, cause, &mut self.judge);
        let (term, ahead) = {
            let core = self.nodes[&id].daemon.core.as_ref();
            (core.map_or(0, |core| core.status().term), 2 * crate::plane::PACKETS)
        };
        let advanced = (cause == Cause::Takeover).then_some(ahead);
        let owned = &mut self.node(id).daemon.owned;
        let is_stale = cause == Cause::Stale;
        owned.extend(segments.iter().map(|segment| (segment, Came { term, advanced, is_stale })));
        self.own_later(id);
    }

    /// The IKE daemon replaces the keys of tunnels that may have gone further than is known here.
    fn expect_rekeys(&mut self, id: NodeId, segments: Segments) {
        let tunnels = self.nodes[&id].host.table.contexts.keys();
        let number = tunnels.filter(|tunnel| segments.contains(segment(tunnel))).count();
        self.rekeys += 4 * number as u64;
    }

    fn send(&mut self, from: NodeId, to: NodeId, lane: Lane, octets: Octets) {
        assert!(octets.0.len() <= lane.most_octets(), "{} octets on {lane:?}", octets.0.len());
        if matches!(lane, Lane::Contexts | Lane::Control) {
            return self.send_reliably(from, to, lane, octets);
        }
        let lost = if self.quiet { 0 } else { self.scene.lost };
        if self.links.is_cut(from, to) || self.random.per_mille(lost) {
            return;
        }
        let copies = if self.random.per_mille(self.scene.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.micros(50, 51 + self.scene.delay);
            self.later(delay, Coming::Message { from, to, lane, octets: octets.clone(), connection: None });
        }
    }

    /// The core hears of something.
    pub fn tell(&mut self, id: NodeId, life: u64, event: Event) {
        if self.nodes[&id].daemon.life != life {
            return;
        }
        match self.paused(id) {
            Some(until) => self.at(until, Coming::Event { node: id, life, event }),
            None => self.with(id, |core, now| core.handle(now, event)),
        }
    }

    /// The data plane and the IKE daemon have answered.
    pub fn answer(&mut self, id: NodeId, event: Event) {
        let after = self.micros(10, 100);
        let life = self.nodes[&id].daemon.life;
        self.later(after, Coming::Event { node: id, life, event });
    }

    /// The IKE daemon asked whether a change is on the standbys.
    pub fn is_on_standbys(
        &mut self,
        id: NodeId,
        tunnel: baton_sad::Name,
        version: u64,
        outcome: Replication,
    ) {
        self.judge.count(match outcome {
            Replication::Done => "replicated",
            Replication::Late => "late",
            Replication::Alone => "alone",
        });
        if outcome != Replication::Done
            && let Some((_, number)) = TunnelName::parse(tunnel.as_str())
        {
            self.judge.doubt(number, version);
        }
        self.reply(id, Some((tunnel, version)));
    }
}
