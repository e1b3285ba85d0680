//! One member: its cluster core, its table, its clock, and what its processes do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use baton_ctx_transfer::cluster::{Cluster, Output, Remembered, Totals};
use baton_sad::NodeId;

use crate::table::Table;
use crate::threads::Thread;

/// A member. Its daemon may be gone while its data plane goes on.
pub struct Node {
    pub id: NodeId,
    pub witness: bool,
    pub cluster: Option<Cluster>,
    pub table: Table,
    /// The host is up.
    pub up: bool,
    /// Nothing runs on it before this moment; the daemon alone, or the host with its data plane.
    pub daemon_paused_until: Duration,
    pub host_paused_until: Duration,
    /// Local time is `offset + time + time * drift / 10_000`.
    pub offset: Duration,
    pub drift: i32,
    pub remembered: Vec<Remembered>,
    pub wake: Option<Duration>,
    /// Rises whenever the daemon or the host dies: what was under way for it then is nobody's.
    pub life: u64,
    /// What its daemon's threads have to do.
    pub queues: BTreeMap<Thread, VecDeque<Output>>,
    /// Its threads are so much slower.
    pub slow: Duration,
    pub epochs: u32,
    pub totals: Totals,
}

impl Node {
    pub fn local(&self, time: Duration) -> Duration {
        let micros = i64::try_from(time.as_micros()).expect("a simulation is short");
        let drifted = micros + micros * i64::from(self.drift) / 10_000;
        self.offset + Duration::from_micros(drifted.unsigned_abs())
    }

    /// The moment at which the local clock shows `local`.
    pub fn global(&self, local: Duration) -> Duration {
        let micros = local.saturating_sub(self.offset).as_micros() as i64;
        let time = micros * 10_000 / (10_000 + i64::from(self.drift));
        Duration::from_micros(time.unsigned_abs()) + Duration::from_micros(1)
    }

    pub fn host_runs(&self, time: Duration) -> bool {
        self.up && time >= self.host_paused_until
    }

    pub fn runs_until(&self) -> Duration {
        self.daemon_paused_until.max(self.host_paused_until)
    }

    /// Whether it sends and receives packets of a segment now.
    pub fn owns(&self, segment: u8, time: Duration) -> bool {
        self.host_runs(time) && self.table.owns(segment, self.local(time))
    }

    /// Adds the numbers of a life that ends.
    pub fn bury(&mut self) {
        let Some(cluster) = self.cluster.take() else { return };
        let (sum, more) = (&mut self.totals, cluster.status().totals);
        sum.takeovers += more.takeovers;
        sum.moves += more.moves;
        sum.moves_failed += more.moves_failed;
        sum.yielded += more.yielded;
        sum.pauses += more.pauses;
        sum.lapses += more.lapses;
        sum.contexts += more.contexts;
        sum.fills += more.fills;
        sum.refusals += more.refusals;
        sum.late += more.late;
        sum.disbelieved += more.disbelieved;
        sum.reservations += more.reservations;
        sum.repeated_reservations += more.repeated_reservations;
        sum.stale += more.stale;
        sum.rekeyed += more.rekeyed;
        sum.malformed += more.malformed;
        self.queues.clear();
        self.wake = None;
        self.life += 1;
    }
}
