//! One member: its clock, its data plane, and its two daemons, which live and die apart from each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use baton_ctx_transfer::cluster::{Cluster, Event, Remembered, Totals};
use baton_ike_proto::Now;
use baton_ike_proto::host::TunnelName;
use baton_ike_proto::machine::{Ike, heading};
use baton_sad::NodeId;

use crate::hands::Copied;
use crate::held::Held;
use crate::host::SimulatedHost;
use crate::plane::Plane;
use crate::progress::Progress;

/// 2026, for a start.
const UNIX: Duration = Duration::from_secs(1_790_000_000);

/// Local time begins somewhere, and runs faster or slower by some millionths.
pub struct Clock {
    pub offset: Duration,
    pub drift: i64,
}

impl Clock {
    pub fn local(&self, time: Duration) -> Duration {
        let micros = time.as_micros() as i64;
        self.offset + Duration::from_micros((micros + micros * self.drift / 1_000_000).unsigned_abs())
    }

    /// The moment at which the local clock shows `local`, or one just after it.
    pub fn global(&self, local: Duration) -> Duration {
        let micros = local.saturating_sub(self.offset).as_micros() as i64;
        let time = micros * 1_000_000 / (1_000_000 + self.drift);
        Duration::from_micros(time.unsigned_abs() + 2)
    }
}

/// How a segment came.
#[derive(Clone, Copy)]
pub struct Came {
    pub term: u64,
    /// By how much its SAs were advanced.
    pub advanced: Option<u64>,
    /// They may have gone further than is known here.
    pub is_stale: bool,
}

/// `baton-cluster`.
#[derive(Default)]
pub struct Daemon {
    pub core: Option<Cluster>,
    /// Rises whenever the daemon dies: what was under way for it then is nobody's.
    pub life: u64,
    pub paused_until: Duration,
    /// What it has written down.
    pub remembered: Vec<Remembered>,
    /// What is this node's, and how it came.
    pub owned: BTreeMap<u8, Came>,
    /// Until when its threads have something to do: contexts, counters, ownership, answers to IKE.
    pub busy: [Duration; 4],
    /// Final contexts that wait for their sign-off.
    pub staged: BTreeMap<(NodeId, u64), Vec<Copied>>,
    /// The standbys are in good order.
    pub synced: bool,
    /// It looks at its timers so much too late.
    pub slack: Duration,
    pub totals: Totals,
}

/// `baton-ike`.
pub struct Process {
    pub ike: Option<Ike>,
    pub life: u64,
    pub paused_until: Duration,
    /// The process dies before it has made so many more outputs.
    pub fuse: Option<u64>,
    pub held: Held,
    pub progress: Progress,
    /// Tunnels of which the standbys do not have all, by number.
    pub names: BTreeMap<u32, TunnelName>,
    /// The newest version of each tunnel.
    pub versions: BTreeMap<u32, u64>,
    /// Changes that baton-cluster is told of when the table has all of them.
    pub unsaid: Vec<Event>,
    pub owned: BTreeSet<u8>,
    /// baton-cluster is connected.
    pub linked: bool,
    /// When the last of what it has told arrives there.
    pub told_until: Duration,
    /// Datagrams that came while it was stopped.
    pub inbox: VecDeque<crate::network::Datagram>,
}

impl Process {
    /// What it tells a peer waits for an answer of baton-cluster, for so long at most.
    pub fn new(wait: Duration) -> Self {
        Self {
            ike: None,
            life: 0,
            paused_until: Duration::ZERO,
            fuse: None,
            held: Held::default(),
            progress: Progress::new(wait),
            names: BTreeMap::new(),
            versions: BTreeMap::new(),
            unsaid: Vec::new(),
            owned: BTreeSet::new(),
            linked: false,
            told_until: Duration::ZERO,
            inbox: VecDeque::new(),
        }
    }
}

/// A member of the cluster.
pub struct Gateway {
    pub id: NodeId,
    pub witness: bool,
    pub clock: Clock,
    pub up: bool,
    pub daemon: Daemon,
    pub process: Process,
    /// Outlives the processes: table, contexts, IVs.
    pub host: SimulatedHost,
    pub plane: Plane,
    /// What IKE has counted in lives that are over.
    pub counted: BTreeMap<&'static str, u64>,
}

impl Gateway {
    pub fn local(&self, time: Duration) -> Duration {
        self.clock.local(time)
    }

    /// As the IKE machine is told.
    pub fn now(&self, time: Duration) -> Now {
        Now { monotonic: self.local(time), unix: UNIX + time }
    }

    /// Whether it sends and receives packets of a segment now. A host that is stopped has stopped both daemons.
    pub fn owns(&self, segment: u8, time: Duration) -> bool {
        self.up && !self.is_stopped(time) && self.plane.owns(segment, self.local(time))
    }

    pub fn is_stopped(&self, time: Duration) -> bool {
        self.daemon.paused_until.min(self.process.paused_until) > time
    }

    /// When the cluster daemon has something to do.
    pub fn daemon_due(&self) -> Option<Duration> {
        let due = self.daemon.core.as_ref()?.next_timeout()?;
        Some((self.clock.global(due) + self.daemon.slack).max(self.daemon.paused_until))
    }

    /// When the IKE daemon has.
    pub fn process_due(&self) -> Option<Duration> {
        let ike = self.process.ike.as_ref()?;
        let inbox = self.process.inbox.front().map(|_| Duration::ZERO);
        let due = [ike.next_timeout(), self.process.held.due()].into_iter().flatten();
        let due = due.map(|due| self.clock.global(due)).chain(inbox).min()?;
        Some(due.max(self.process.paused_until))
    }

    /// The version of a tunnel's stored context.
    pub fn version(&self, tunnel: &TunnelName) -> Option<u64> {
        let context = self.host.table.contexts.get(tunnel)?;
        Some(heading(context).expect("its own context").version)
    }

    /// Adds up what the core has counted in a life that ends.
    pub fn bury_core(&mut self) {
        let Some(core) = self.daemon.core.take() else { return };
        let (sum, more) = (&mut self.daemon.totals, core.status().totals);
        sum.takeovers += more.takeovers;
        sum.moves += more.moves;
        sum.moves_failed += more.moves_failed;
        sum.pauses += more.pauses;
        sum.late += more.late;
        sum.stale += more.stale;
        sum.fills += more.fills;
        sum.refusals += more.refusals;
        sum.rekeyed += more.rekeyed;
    }

    /// The same of the IKE machine.
    pub fn bury_ike(&mut self) {
        let Some(ike) = self.process.ike.take() else { return };
        for (name, value) in ike.counters().iter() {
            *self.counted.entry(name).or_default() += value;
        }
    }
}
