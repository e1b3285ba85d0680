//! The cluster as one member sees it: who is alive, who owns which segment, and what the standbys know.
//!
//! No clock, socket, thread or file is in here. Time, messages and events go in; messages, leases and work for the
//! driver come out of [`Cluster::poll`], in the order in which they are to be done. All times are durations on one
//! monotonic clock of this machine that does not stop while it sleeps. Each file is one subject:
//!
//! | file | subject | invariant |
//! |---|---|---|
//! | `beat` | heartbeats out and in, silence, pauses | I4 |
//! | `voter` | promises to claimants | I4 |
//! | `ownership` | counting of promises | I4 |
//! | `claims` | what is claimed, gained and lost | I4 |
//! | `attachment` | interfaces without a link | |
//! | `moves`, `arrivals`, `transfer`, `balance` | planned moves | I2, I3, I4 |
//! | `load` | moves away from a node that has too much to do | |
//! | `preparation` | what comes before the lease | I2, I3 |
//! | `replication`, `session`, `standbys` | contexts on their way to standbys | I6 |
//! | `reservation` | counters reserved ahead | I2, I3 |
//! | `follow`, `tunnels` | contexts and floors of other owners | I2, I3, I6 |
//! | `hello` | the beginning of a connection | |
//! | `tuning` | what of the configuration changes while a member runs | |
//! | `trust` | who is believed what | I2, I3, I4, I6 |
//! | `wire` | the messages | |

mod arrivals;
mod attachment;
mod balance;
mod beat;
mod claims;
mod configuration;
mod event;
mod follow;
mod guards;
mod hello;
mod load;
mod moves;
mod neighbours;
mod output;
pub mod ownership;
mod peer;
mod preparation;
mod replication;
mod report;
mod reservation;
mod segments;
mod session;
mod standbys;
mod status;
mod transfer;
mod trust;
mod tuning;
mod tunnels;
mod voter;
pub mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use baton_sad::NodeId;

pub use attachment::Side;
pub use configuration::{
    Balance, Configuration, ConfigurationError, MAX_MEMBERS, Member, Replicating, Reserving, Role,
};
pub use event::{Command, Content, Edge, Event, Key, Octets, Refusal, Reserved, SaKey};
#[doc(hidden)]
pub use guards::Guards;
pub use load::{Load, LoadReport, Trigger};
pub use neighbours::{LinkAddresses, Neighbour};
pub use output::{Cause, Lane, Output, Remembered, Replication, Reservation};
pub use segments::{SEGMENTS, Segments};
pub use status::{Alarm, MemberStatus, Notice, StandbyState, Status, Totals};

use attachment::Attachment;
use claims::Claims;
use load::Loads;
use moves::Moves;
use ownership::Ownership;
use peer::Peer;
use replication::Replicas;
use reservation::Reservations;
use tunnels::Tunnels;
use voter::Voter;

/// One member of a cluster.
#[derive(Debug)]
pub struct Cluster {
    config: Configuration,
    incarnation: u64,
    /// The latest time that was told.
    now: Duration,
    outputs: VecDeque<Output>,
    peers: BTreeMap<NodeId, Peer>,
    voter: Voter,
    ownership: Box<dyn Ownership>,
    claims: Claims,
    tunnels: Tunnels,
    replicas: Replicas,
    reservations: Reservations,
    moves: Moves,
    loads: Loads,
    /// Of the last heartbeat.
    sequence: u64,
    next_beat: Duration,
    next_tending: Duration,
    dataplane: bool,
    attachment: Attachment,
    maintenance: bool,
    alarms: BTreeSet<Alarm>,
    totals: Totals,
    guards: Guards,
}

impl Cluster {
    /// A member that has just started. `incarnation` is another number at each start; `remembered` is what the last life
    /// of this member gave out by [`Output::Remember`], nothing after a reboot.
    ///
    /// # Errors
    /// [`ConfigurationError`] if the configuration cannot work.
    pub fn new(
        config: Configuration,
        now: Duration,
        incarnation: u64,
        remembered: &[Remembered],
    ) -> Result<Self, ConfigurationError> {
        config.validate()?;
        let ownership = rule(&config);
        let mut voter = Voter::new(now, incarnation, config.lease);
        for share in remembered {
            voter.recall(share, !ownership.is_exclusive());
        }
        let peers = config.others().map(|member| (member.id, Peer::new(*member))).collect();
        Ok(Self {
            incarnation,
            now,
            outputs: VecDeque::new(),
            peers,
            voter,
            ownership,
            claims: Claims::new(now + config.dead_time(), sound(config.me, remembered)),
            tunnels: Tunnels::new(config.replicating.tunnels),
            replicas: Replicas::default(),
            reservations: Reservations::default(),
            moves: Moves::default(),
            loads: Loads::default(),
            sequence: 0,
            next_beat: now,
            next_tending: now,
            dataplane: false,
            attachment: Attachment::default(),
            maintenance: false,
            alarms: BTreeSet::new(),
            totals: Totals::default(),
            guards: Guards::default(),
            config,
        })
    }

    /// For simulations that show what a guard is good for.
    #[doc(hidden)]
    pub fn set_guards(&mut self, guards: Guards) {
        self.guards = guards;
        self.voter.set_guards(guards);
    }

    /// A message of another member, whom its connection has authenticated. What cannot be read is counted and alarmed.
    pub fn handle_message(&mut self, now: Duration, from: NodeId, lane: Lane, octets: &[u8]) {
        self.enter(now);
        let read = match lane {
            _ if !self.peers.contains_key(&from) || octets.len() > lane.most_octets() => return,
            Lane::Heartbeat => self.handle_beat(from, octets),
            Lane::Contexts => self.handle_contexts(from, octets),
            Lane::Counters => self.handle_counters(from, octets),
            Lane::Control => self.handle_control(from, octets),
        };
        if let Err(why) = read {
            self.unreadable(from, why);
        }
    }

    /// Something that the driver has to tell.
    pub fn handle(&mut self, now: Duration, event: Event) {
        self.enter(now);
        self.tunnels.take_gained();
        match event {
            Event::Connected { member } => self.connect(member),
            Event::Disconnected { member } => self.disconnect(member),
            Event::Dataplane { ready } => self.set_dataplane(ready),
            Event::Link { side, up } => self.set_link(side, up),
            Event::TunnelChanged { tunnel, segment, version } => {
                self.change_tunnel(tunnel, segment, version);
            }
            Event::TunnelDeleted { tunnel } => self.delete_tunnel(&tunnel),
            Event::Await { tunnel, version } => self.await_replication(tunnel, version),
            Event::Content(content) => self.send_content(&content),
            Event::NoContent { tunnel } => self.no_content(&tunnel),
            Event::Applied { from, number, result } => self.applied(from, number, result),
            Event::FloorsRaised { from, number, missing, foreign } => {
                self.floors_raised(from, number, missing, foreign);
            }
            Event::Edges(edges) => self.reserve(&edges),
            Event::Silent { number, tunnels } => self.silent(number, &tunnels),
            Event::Frozen { number, parts } => self.frozen(number, &parts),
            Event::NotFrozen { number } => self.not_frozen(number),
            Event::Holding { from, number } => self.holding(from, number),
            Event::Staged { from, number, result } => self.staged_here(from, number, result),
            Event::Prepared { segments, exact } => self.prepared(segments, exact),
            Event::Load(load) => self.note_load(load),
            Event::Command(command) => self.command(command),
            Event::Tuned(other) => self.tune(&other),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.enter(now);
        self.find_silent();
        self.let_lapse();
        self.give_up_unprepared();
        self.tend_attachment();
        self.consider_claims();
        self.release_late();
        self.press_reservations();
        if self.now >= self.next_tending {
            self.next_tending = self.now + self.config.interval;
            self.tend_standbys();
            self.balance();
        }
        self.tend_moves();
        if self.now >= self.next_beat {
            self.beat();
        }
    }

    /// The next thing to do. All are to be done before anything is told again; their order matters.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Duration> {
        let silence = self.peers.values().filter_map(|peer| peer.silent_at(&self.config));
        let due = [
            Some(self.next_beat),
            Some(self.next_tending),
            self.claims.next_lapse(),
            self.claims.wake(),
            self.attachment.next_due(),
            self.replicas.next_late(),
            self.reservations.next_due(),
            self.moves.next_due(),
            self.next_unprepared(),
        ];
        silence.chain(due.into_iter().flatten()).min()
    }

    /// Time passes. A member that was stopped for longer than its leases owns nothing any more, whatever it finds (I4).
    fn enter(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        if gap > self.config.lease && self.is_node() {
            self.recover_from_pause(gap);
        }
    }

    fn is_node(&self) -> bool {
        self.config.member(self.config.me).is_some_and(|member| member.role == Role::Node)
    }

    /// A node whose data plane is away owns nothing: somebody else may be able to serve its peers.
    fn set_dataplane(&mut self, ready: bool) {
        self.dataplane = ready;
        if !ready {
            let all = self.ownership.claimed();
            self.lose(all);
        }
    }

    fn alarm(&mut self, alarm: Alarm, raised: bool) {
        let changes = if raised { self.alarms.insert(alarm.clone()) } else { self.alarms.remove(&alarm) };
        if changes {
            self.outputs.push_back(Output::Alarm { alarm, raised });
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

/// What a process that was started again finds in its table as it was: what it has owned, with all contexts. A claim after a
/// reboot, when the table was empty, is not remembered as intact; nor is what it stood by for, of which more may have come.
fn sound(me: NodeId, remembered: &[Remembered]) -> Segments {
    let intact = remembered.iter().filter(|share| share.owner == me && share.intact);
    intact.fold(Segments::NONE, |all, share| all | share.segments)
}

fn rule(config: &Configuration) -> Box<dyn Ownership> {
    let voters = config.members.iter().map(|member| member.id).collect::<BTreeSet<_>>();
    let lease = config.sure_lease();
    match voters.len() {
        2 if config.nodes().len() == 2 => {
            Box::new(ownership::PairWithoutWitness::new(lease, config.me, &voters))
        }
        _ => Box::new(ownership::Majority::new(lease, &voters)),
    }
}
