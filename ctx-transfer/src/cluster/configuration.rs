//! What a cluster is told at its start.

use std::collections::BTreeSet;
use std::time::Duration;

use baton_sad::NodeId;
use thiserror::Error;

use super::load::Trigger;
use super::neighbours::LinkAddresses;

/// Members of a cluster at most: what the sets of a heartbeat have room for.
pub const MAX_MEMBERS: usize = 8;

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Owns segments, holds contexts and votes.
    Node,
    /// Only votes: it has no table.
    Witness,
}

/// One member of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique in the cluster.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// The higher decides when two nodes own the same segment after a partition, and who comes first in the even split
    /// of the segments. Default 100.
    pub priority: u8,
}

/// Whether segments go back to their nodes by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// By planned moves, once the node that comes back holds their contexts. The default.
    Automatic,
    /// Only on command.
    Manual,
}

/// How counters are reserved ahead (I2, I3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserving {
    /// N: a reservation is at most so many packets ahead of the edge, and a takeover skips at most twice as many
    /// numbers. Default 10,000.
    pub packets: u64,
    /// T: and at most so far ahead as the SA gets in this time at its present rate: after a takeover a peer is not heard
    /// until it has passed what was reserved, twice as long at most. Default 100 ms.
    pub time: Duration,
    /// And never less than so many packets, so that a slow SA does not reserve for each packet. Default 64.
    pub minimum: u64,
    /// A reservation without an answer is sent again after this time. Default 5 ms.
    pub again: Duration,
    /// After this time without an answer the standby is declared stale. Default 50 ms.
    pub wait: Duration,
    /// Inbound edges are reported and not reserved: a takeover costs a peer no packet, but what was received
    /// since the last report may be received again. Off.
    pub continuity: bool,
}

/// How contexts are replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicating {
    /// Octets on their way to one standby at most. Default 1 MiB.
    pub window: usize,
    /// Octets per second of a background fill at most. Default 64 MiB/s.
    pub fill_rate: u64,
    /// An IKE message waits at most so long for its context to be replicated. Default 20 ms.
    pub wait: Duration,
    /// Tunnels that are replicated at most, which bounds the memory of each session. Default 1,048,576.
    pub tunnels: usize,
}

/// The cluster as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// This member.
    pub me: NodeId,
    /// All members, this one too.
    pub members: Vec<Member>,
    /// Time between two heartbeats. Default 10 ms.
    pub interval: Duration,
    /// A member is silent when so many heartbeats in a row were missed. Default 3.
    pub missed: u32,
    /// A lease lasts so long after the request for it. Default 30 ms: two renewals may be lost; and below the dead time,
    /// so that promises to a dead node have lapsed when its silence is noticed.
    pub lease: Duration,
    /// Clocks of members run apart by at most so many thousandths. Default 1; a lease is shortened by that and by 1 ms.
    pub drift: u32,
    /// Standbys of each segment. Default 1.
    pub standbys: u8,
    /// Replication of contexts.
    pub replicating: Replicating,
    /// Reservation of counters.
    pub reserving: Reserving,
    /// Whether segments go back by themselves.
    pub balance: Balance,
    /// How long a node must have been in good order before segments are moved to it by themselves. Default 1 s.
    pub settle: Duration,
    /// Segments of one planned move at most. Default 8.
    pub move_batch: usize,
    /// A planned move that takes longer once frozen is given up. Default 200 ms (RFC 4067's transfer time).
    pub move_wait: Duration,
    /// When segments are moved away because there is too much to do. Never.
    pub trigger: Trigger,
    /// Digests of the configuration's sections, compared between members.
    pub digests: Vec<(String, u64)>,
    /// Where this node is on the links that it shares with others; nobody is told what is not given.
    pub links: LinkAddresses,
    /// This release, for people.
    pub release: String,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// Not one of the members.
    #[error("member {0} is not in the list of members; add it there")]
    NotAMember(NodeId),
    /// Two with one id.
    #[error("member {0} stands twice in the list; ids are unique in a cluster")]
    Twice(NodeId),
    /// Too many, or no node.
    #[error("there are {0} members; a cluster has 1 to {MAX_MEMBERS}, one node at least")]
    Members(usize),
    /// A value outside its bounds.
    #[error("{field} is out of bounds: {remedy}")]
    Bounds {
        /// Which.
        field: &'static str,
        /// What is allowed.
        remedy: &'static str,
    },
}

impl Configuration {
    /// The defaults, for a member of a cluster.
    pub fn new(me: NodeId, members: Vec<Member>) -> Self {
        Self {
            me,
            members,
            interval: Duration::from_millis(10),
            missed: 3,
            lease: Duration::from_millis(30),
            drift: 1,
            standbys: 1,
            replicating: Replicating::default(),
            reserving: Reserving::default(),
            balance: Balance::Automatic,
            settle: Duration::from_secs(1),
            move_batch: 8,
            move_wait: Duration::from_millis(200),
            trigger: Trigger::default(),
            digests: Vec::new(),
            links: LinkAddresses::default(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The same with another interval and number of misses, and the lease that fits them.
    #[must_use]
    pub fn with_heartbeat(self, interval: Duration, missed: u32) -> Self {
        Self { interval, missed, lease: interval * missed, ..self }
    }

    /// A member that was not heard for so long is silent.
    pub fn dead_time(&self) -> Duration {
        self.interval * (self.missed + 1)
    }

    /// What is left of a lease when clocks run apart as far as they may.
    pub fn sure_lease(&self) -> Duration {
        let drift = self.lease * self.drift / 1000 + Duration::from_millis(1);
        self.lease.saturating_sub(drift)
    }

    /// The nodes, the highest priority first, then the lowest id.
    pub fn nodes(&self) -> Vec<Member> {
        let mut nodes: Vec<_> = self.members.iter().copied().filter(|m| m.role == Role::Node).collect();
        nodes.sort_by_key(|member| (u8::MAX - member.priority, member.id));
        nodes
    }

    /// A member.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The others.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.id != self.me)
    }

    /// # Errors
    /// [`ConfigurationError`] names the field and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigurationError> {
        self.validate_members()?;
        let sane = Duration::from_millis(1)..=Duration::from_secs(10);
        within(sane.contains(&self.interval), "interval", "1 ms to 10 s")?;
        within((1..=100).contains(&self.missed), "missed", "1 to 100")?;
        let lease = self.interval * 2..=self.dead_time();
        let room = self.sure_lease() > self.interval;
        within(
            lease.contains(&self.lease) && room,
            "lease",
            "from two intervals up to the dead time, and after drift and 1 ms more than an interval must be left",
        )?;
        within(self.drift <= 100, "drift", "0 to 100 thousandths")?;
        within((1..MAX_MEMBERS as u8).contains(&self.standbys), "standbys", "1 to 7")?;
        within((1..=256).contains(&self.move_batch), "move_batch", "1 to 256 segments")?;
        within(self.move_wait >= self.interval, "move_wait", "at least an interval")?;
        let cpu = self.trigger.cpu_per_mille.is_none_or(|cpu| (1..=1000).contains(&cpu));
        within(cpu, "cpu_per_mille", "1 to 1000")?;
        within(self.trigger.hold >= Duration::from_secs(1), "hold", "at least 1 s")?;
        within(self.digests.len() <= 32, "digests", "at most 32 sections")?;
        within(self.release.len() <= 64, "release", "at most 64 octets")?;
        self.replicating.validate()?;
        self.reserving.validate()
    }

    fn validate_members(&self) -> Result<(), ConfigurationError> {
        if self.member(self.me).is_none() {
            return Err(ConfigurationError::NotAMember(self.me));
        }
        if self.nodes().is_empty() || self.members.len() > MAX_MEMBERS {
            return Err(ConfigurationError::Members(self.members.len()));
        }
        let mut seen = BTreeSet::new();
        match self.members.iter().find(|member| !seen.insert(member.id)) {
            Some(member) => Err(ConfigurationError::Twice(member.id)),
            None => Ok(()),
        }
    }
}

fn within(holds: bool, field: &'static str, remedy: &'static str) -> Result<(), ConfigurationError> {
    if holds { Ok(()) } else { Err(ConfigurationError::Bounds { field, remedy }) }
}

impl Default for Replicating {
    fn default() -> Self {
        Self { window: 1 << 20, fill_rate: 64 << 20, wait: Duration::from_millis(20), tunnels: 1 << 20 }
    }
}

impl Replicating {
    fn validate(&self) -> Result<(), ConfigurationError> {
        within((1 << 12..=1 << 23).contains(&self.window), "window", "4 KiB to 8 MiB")?;
        within(self.fill_rate >= 1 << 10, "fill_rate", "at least 1 KiB/s")?;
        within(self.wait <= Duration::from_secs(1), "wait", "at most 1 s")?;
        within((1..=1 << 24).contains(&self.tunnels), "tunnels", "1 to 16,777,216")
    }
}

impl Default for Reserving {
    fn default() -> Self {
        Self {
            packets: 10_000,
            time: Duration::from_millis(100),
            minimum: 64,
            again: Duration::from_millis(5),
            wait: Duration::from_millis(50),
            continuity: false,
        }
    }
}

impl Reserving {
    /// How far ahead of its edge an SA at this rate may reserve.
    pub fn ahead(&self, packets_per_second: u64) -> u64 {
        let in_time = u128::from(packets_per_second) * self.time.as_micros() / 1_000_000;
        u64::try_from(in_time).unwrap_or(u64::MAX).clamp(self.minimum, self.packets)
    }

    fn validate(&self) -> Result<(), ConfigurationError> {
        within((2..=1 << 24).contains(&self.packets), "packets", "2 to 16,777,216")?;
        within((1..=self.packets).contains(&self.minimum), "minimum", "1 to the number of packets")?;
        within(self.again >= Duration::from_millis(1), "again", "at least 1 ms")?;
        let wait = self.again..=Duration::from_secs(5);
        within(wait.contains(&self.wait), "wait", "from the time of a repetition up to 5 s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Configuration {
        let member = |id| Member { id: NodeId::new(id).unwrap(), role: Role::Node, priority: 100 };
        Configuration::new(NodeId::new(1).unwrap(), vec![member(1), member(2)])
    }

    #[test]
    fn defaults_are_within_their_bounds() {
        assert_eq!(pair().validate(), Ok(()));
        assert_eq!(pair().with_heartbeat(Duration::from_millis(50), 2).validate(), Ok(()));
        assert_eq!(pair().dead_time(), Duration::from_millis(40));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let field = |broken: Configuration| match broken.validate() {
            Err(ConfigurationError::Bounds { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(Configuration { lease: Duration::from_millis(41), ..pair() }), "lease");
        assert_eq!(field(Configuration { interval: Duration::ZERO, ..pair() }), "interval");
        assert_eq!(field(Configuration { standbys: 0, ..pair() }), "standbys");
        let mut twice = pair();
        twice.members[1].id = twice.me;
        assert_eq!(twice.validate(), Err(ConfigurationError::Twice(twice.me)));
    }
}
