//! What waits until policies are in force, for a short time at most.

use std::collections::VecDeque;
use std::time::Duration;

use baton_ike_proto::{Event, Path};

/// How long something waits. Beyond, a data plane that hangs delays IKE no more; well below a peer's retransmission.
const PATIENCE: Duration = Duration::from_millis(400);
/// What waits at once; with more, what has waited longest does not any more.
const ROOM: usize = 4096;

/// Something that waits.
pub(super) enum Waiting {
    /// A datagram is to leave.
    Transmit(Path, Vec<u8>),
    /// An event is to be told.
    Tell(Event),
    /// An answer is to be given.
    Answer(Box<dyn FnOnce()>),
}

/// All that waits, in its order.
#[derive(Default)]
pub(super) struct Held {
    queue: VecDeque<Entry>,
    events: usize,
}

struct Entry {
    /// The change of policies that is to be in force.
    change: u64,
    /// On the monotonic clock.
    until: Duration,
    what: Waiting,
}

impl Held {
    /// Whether a datagram to the same peer waits, which no other one is to overtake.
    pub(super) fn has_datagram(&self, path: &Path) -> bool {
        self.queue.iter().any(|entry| matches!(&entry.what, Waiting::Transmit(other, _) if other == path))
    }

    /// Whether an event waits, which no later one is to overtake.
    pub(super) const fn has_event(&self) -> bool {
        self.events > 0
    }

    /// One more, until that change is in force. What has no room comes back.
    pub(super) fn push(&mut self, change: u64, now: Duration, what: Waiting) -> Option<Waiting> {
        self.events += usize::from(matches!(what, Waiting::Tell(_)));
        self.queue.push_back(Entry { change, until: now + PATIENCE, what });
        if self.queue.len() > ROOM { self.pop() } else { None }
    }

    /// The first, if it need not wait any more.
    pub(super) fn take(&mut self, now: Duration, is_in_force: impl Fn(u64) -> bool) -> Option<Waiting> {
        let first = self.queue.front()?;
        if first.until <= now || is_in_force(first.change) { self.pop() } else { None }
    }

    /// When the first need not wait any more, whatever happens.
    pub(super) fn due(&self) -> Option<Duration> {
        self.queue.front().map(|entry| entry.until)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let what = self.queue.pop_front()?.what;
        self.events -= usize::from(matches!(what, Waiting::Tell(_)));
        Some(what)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Held").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}
