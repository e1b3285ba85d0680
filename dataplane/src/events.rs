//! What workers tell the control plane: a bounded queue that no worker ever waits for.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_sad::Direction;
use crossbeam::queue::ArrayQueue;

use crate::packet::transport::Flow;

/// Events that wait at most; what comes then is counted and lost.
const QUEUE: usize = 1024;
/// Events of one kind and worker per second at most, and at once: a flood costs the control plane so much.
const PER_SECOND: u64 = 100;
const BURST: u64 = 50;

/// Something that a worker saw and that the control plane acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An SA reached a soft bound: it is time for a new one. Told once for each content of its slot.
    SoftLimit(SaName),
    /// An SA reached a hard bound: it is used no more.
    HardLimit(SaName),
    /// Traffic met a policy that protects, and there is no SA (RFC 4301 section 4.4.1: create on demand).
    Acquire {
        /// The policy's.
        reqid: u32,
        /// The packet that asked for it.
        flow: Flow,
    },
    /// An authenticated packet came from another address or port than the SA's peer has (RFC 7296 section 2.23).
    PeerMoved {
        /// The inbound SA.
        spi: u32,
        /// Where the peer is now.
        address: IpAddr,
        /// Its UDP port there.
        port: u16,
    },
    /// A router says that our ESP packets are too big for a link (RFC 1191, RFC 8201). Checked: the packet that it
    /// quotes looks like one of ours; whether its SA exists is for the control plane to see.
    TooBig {
        /// Of the quoted packet: the peer's SPI.
        spi: u32,
        /// Of the quoted packet: lower half.
        sequence: u32,
        /// Where the quoted packet went.
        destination: IpAddr,
        /// Octets that pass.
        mtu: u16,
    },
    /// After a takeover the peer's packets are still at or below the floor of this inbound SA, and nobody behind the
    /// peer answers: it is heard again with another SA.
    Unheard(SaName),
    /// A packet came out of a tunnel that does not belong into it (RFC 4301 section 5.2 asks for an audit record).
    SelectorViolation {
        /// The inbound SA.
        spi: u32,
        /// What came out.
        flow: Flow,
    },
}

/// Each kind has a rate limit of its own: strangers can make workers tell of one (ICMP errors are not signed), peers
/// of others (what they send out of turn), and neither may keep it from the control plane that an SA ends.
const KINDS: usize = 6;

impl Event {
    fn kind(&self) -> usize {
        match self {
            Self::SoftLimit(_) | Self::HardLimit(_) => 0,
            Self::Acquire { .. } => 1,
            Self::PeerMoved { .. } => 2,
            Self::TooBig { .. } => 3,
            Self::SelectorViolation { .. } => 4,
            Self::Unheard(_) => 5,
        }
    }

    /// Whether somebody else's doing may fill the queue with such events. They leave half of it to the others.
    fn is_provoked(&self) -> bool {
        matches!(self, Self::TooBig { .. } | Self::SelectorViolation { .. } | Self::Unheard(_))
    }
}

/// Which SA an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaName {
    /// Which way its packets go.
    pub direction: Direction,
    /// The SPI in its packets.
    pub spi: u32,
    /// Its reqid.
    pub reqid: u32,
}

/// The queue of all workers.
#[derive(Debug)]
pub struct Events {
    queue: ArrayQueue<Event>,
    lost: AtomicU64,
}

impl Default for Events {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(QUEUE), lost: AtomicU64::new(0) }
    }
}

impl Events {
    /// The oldest event, for the control plane.
    pub fn next(&self) -> Option<Event> {
        self.queue.pop()
    }

    fn push(&self, event: Event) -> bool {
        let has_room = !event.is_provoked() || self.queue.len() < QUEUE / 2;
        has_room && self.queue.push(event).is_ok()
    }

    /// Events that found no room, or that a worker's rate limit stopped.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A token bucket on monotonic ns.
#[derive(Debug)]
pub(crate) struct RateLimit {
    cost: u64,
    burst: u64,
    spent_until: u64,
}

impl RateLimit {
    /// So many per second, and so many at once.
    pub(crate) const fn new(per_second: u64, burst: u64) -> Self {
        Self { cost: 1_000_000_000 / per_second, burst, spent_until: 0 }
    }

    /// Whether one more passes at `now`.
    pub(crate) fn admit(&mut self, now: u64) -> bool {
        let earliest = now.saturating_sub(self.cost * self.burst);
        let spent = self.spent_until.max(earliest) + self.cost;
        let admitted = spent <= now;
        if admitted {
            self.spent_until = spent;
        }
        admitted
    }
}

/// One worker's way into the queue.
#[derive(Debug)]
pub(crate) struct EventSender {
    events: std::sync::Arc<Events>,
    /// By [`Event::kind`].
    limits: [RateLimit; KINDS],
}

impl EventSender {
    pub(crate) fn new(events: std::sync::Arc<Events>) -> Self {
        Self { events, limits: std::array::from_fn(|_| RateLimit::new(PER_SECOND, BURST)) }
    }

    /// Tells, or counts what could not be told. Whether it was told.
    #[cold]
    pub(crate) fn send(&mut self, event: Event, now: u64) -> bool {
        let sent = self.limits[event.kind()].admit(now) && self.events.push(event);
        if !sent {
            self.events.lost.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_rate_with_a_burst() {
        let mut limit = RateLimit::new(100, 50);
        let second = 1_000_000_000;
        let admitted = |limit: &mut RateLimit, at| (0..1000).filter(|_| limit.admit(at)).count() as u64;
        assert_eq!(admitted(&mut limit, 10 * second), 50);
        assert_eq!(admitted(&mut limit, 10 * second + second / 10), 10);
        assert_eq!(admitted(&mut limit, 60 * second), 50);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let events = std::sync::Arc::new(Events::default());
        let mut sender = EventSender::new(std::sync::Arc::clone(&events));
        let event = Event::PeerMoved { spi: 256, address: [192, 0, 2, 1].into(), port: 4500 };
        let sent = (0..10_000_u64).filter(|i| sender.send(event, 1 << 40 | i << 30)).count();
        assert_eq!((sent, events.lost()), (QUEUE, 10_000 - QUEUE as u64));
        assert_eq!(events.next(), Some(event));
    }

    #[test]
    fn what_others_provoke_leaves_room() {
        let events = std::sync::Arc::new(Events::default());
        let mut sender = EventSender::new(std::sync::Arc::clone(&events));
        let forged = Event::TooBig { spi: 256, sequence: 1, destination: [192, 0, 2, 1].into(), mtu: 1400 };
        let sent = (0..10_000_u64).filter(|i| sender.send(forged, 1 << 40 | i << 30)).count();
        let name = SaName { direction: Direction::Inbound, spi: 256, reqid: 1 };
        assert_eq!((sent, sender.send(Event::HardLimit(name), 1 << 40)), (QUEUE / 2, true));
    }
}
