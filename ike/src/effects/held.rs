//! What waits, for a short time at most: until policies are in force, and until a standby has the state that a message
//! speaks of. What must not be overtaken waits in one lane; the lanes do not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use baton_ike_proto::{Event, Path};

/// How long something waits for policies. Beyond, a data plane that hangs delays IKE no more; well below a peer's
/// retransmission.
const PATIENCE: Duration = Duration::from_millis(400);
/// What waits at once; with more, what has waited longest does not any more.
const ROOM: usize = 4096;

/// Something that waits.
pub(super) enum Waiting {
    /// A datagram is to leave, about the tunnel of that number.
    Transmit(Path, Vec<u8>, Option<u32>),
    /// An event is to be told.
    Tell(Event),
    /// An answer is to be given.
    Answer(Box<dyn FnOnce()>),
}

/// What overtakes nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Peer(Path),
    Events,
    Answers,
}

impl Waiting {
    const fn lane(&self) -> Lane {
        match self {
            Self::Transmit(path, ..) => Lane::Peer(*path),
            Self::Tell(_) => Lane::Events,
            Self::Answer(_) => Lane::Answers,
        }
    }
}

/// The state of a tunnel that a standby is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needed {
    /// The tunnel's number.
    pub(super) number: u32,
    pub(super) version: u64,
    /// Nobody waits longer (monotonic).
    pub(super) until: Duration,
}

/// What something waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    /// The change of policies that is to be in force.
    pub(super) change: Option<u64>,
    pub(super) replicated: Option<Needed>,
}

/// All that waits, in its order.
#[derive(Default)]
pub(super) struct Held {
    lanes: HashMap<Lane, VecDeque<Entry>>,
    count: usize,
    serial: u64,
}

struct Entry {
    serial: u64,
    needs: Needs,
    /// It waits no longer for policies (monotonic).
    until: Duration,
    what: Waiting,
}

impl Held {
    /// Whether a datagram to the same peer waits, which no other one is to overtake.
    pub(super) fn has_datagram(&self, path: &Path) -> bool {
        self.lanes.contains_key(&Lane::Peer(*path))
    }

    /// Whether an event waits, which no later one is to overtake.
    pub(super) fn has_event(&self) -> bool {
        self.lanes.contains_key(&Lane::Events)
    }

    /// One more, until its needs are met. What has no room comes back.
    pub(super) fn push(&mut self, needs: Needs, now: Duration, what: Waiting) -> Option<Waiting> {
        self.serial += 1;
        self.count += 1;
        let entry = Entry { serial: self.serial, needs, until: now + PATIENCE, what };
        self.lanes.entry(entry.what.lane()).or_default().push_back(entry);
        if self.count > ROOM { self.oldest() } else { None }
    }

    /// All that need not wait any more, in the order in which it came. `is_in_force` knows of changes of policies,
    /// `is_replicated` of states; it is told which were waited for in vain.
    pub(super) fn take(
        &mut self,
        now: Duration,
        is_in_force: impl Fn(u64) -> bool,
        mut is_replicated: impl FnMut(&Needed) -> bool,
    ) -> Vec<Waiting> {
        let mut ready = Vec::new();
        for lane in self.lanes.values_mut() {
            while let Some(first) = lane.front() {
                let has_policies = first.until <= now || first.needs.change.is_none_or(&is_in_force);
                if !has_policies
                    || first.needs.replicated.as_ref().is_some_and(|needed| !is_replicated(needed))
                {
                    break;
                }
                ready.extend(lane.pop_front());
            }
        }
        self.taken(ready)
    }

    /// Everything.
    pub(super) fn take_all(&mut self) -> Vec<Waiting> {
        let all = std::mem::take(&mut self.lanes).into_values().flatten().collect();
        self.taken(all)
    }

    /// Forgets the datagrams about tunnels that are not `ours` any more.
    pub(super) fn forget_foreign(&mut self, ours: impl Fn(u32) -> bool) {
        for lane in self.lanes.values_mut() {
            lane.retain(
                |entry| !matches!(entry.what, Waiting::Transmit(_, _, Some(number)) if !ours(number)),
            );
        }
        self.tidy();
    }

    /// When something need not wait any more, whatever happens.
    pub(super) fn due(&self) -> Option<Duration> {
        let due = |entry: &Entry| {
            let replicated = entry.needs.replicated.map(|needed| needed.until);
            let in_force = entry.needs.change.map(|_| entry.until);
            replicated.into_iter().chain(in_force).min().unwrap_or_default()
        };
        self.lanes.values().filter_map(|lane| lane.front()).map(due).min()
    }

    fn taken(&mut self, mut entries: Vec<Entry>) -> Vec<Waiting> {
        entries.sort_unstable_by_key(|entry| entry.serial);
        self.tidy();
        entries.into_iter().map(|entry| entry.what).collect()
    }

    fn tidy(&mut self) {
        self.lanes.retain(|_, lane| !lane.is_empty());
        self.count = self.lanes.values().map(VecDeque::len).sum();
    }

    fn oldest(&mut self) -> Option<Waiting> {
        let first = |lane: &&mut VecDeque<Entry>| lane.front().map_or(u64::MAX, |entry| entry.serial);
        let entry = self.lanes.values_mut().min_by_key(first)?.pop_front()?;
        self.tidy();
        Some(entry.what)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Held").field("waiting", &self.count).finish_non_exhaustive()
    }
}
