//! What happens, told to whoever listens: one line of JSON per event, to as many listeners as there are seats.
//!
//! A listener has a queue. Who does not read it is cut off rather than waited for, and counted: an event that is
//! late is worth little, and a gap that nobody notices is worth less than an end.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_sad::Direction;
use serde::{Deserialize, Serialize};

use super::protocol::ReloadReport;
use crate::packet::transport::Flow;

/// Listeners at once: half of the control socket's seats, so that questions are still answered.
pub const MAX_LISTENERS: usize = 8;

/// Lines that wait for one listener; one more cuts it off.
const QUEUE: usize = 1024;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice<H = Happening> {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// What it was.
    #[serde(flatten)]
    pub happening: H,
}

/// What listeners are told of: a daemon's events.
pub trait Occurrence: Serialize {
    /// Its kinds, to choose among them.
    type Kind: Clone + PartialEq;

    /// Which kind it is of.
    fn kind(&self) -> Self::Kind;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Happening {
    /// An SA reached a soft bound (RFC 4301 section 4.4.2.1): negotiate its successor.
    SoftLimit(SaText),
    /// An SA reached a hard bound and is used no more.
    HardLimit(SaText),
    /// Traffic met a policy that protects, and there is no SA (RFC 4301 section 4.4.1).
    Acquire {
        /// The policy.
        policy: String,
        /// Its number.
        reqid: u32,
        /// The packet that asked for it.
        flow: FlowText,
    },
    /// A peer behind a NAT is now somewhere else (RFC 7296 section 2.23), and is sent to there.
    PeerMoved {
        /// Its inbound SA.
        sa: SaText,
        /// Where it was.
        from: Endpoint,
        /// Where it is.
        to: Endpoint,
    },
    /// A router told of a smaller MTU on the way to a peer (RFC 1191, RFC 8201).
    PathMtu {
        /// The outbound SA.
        sa: SaText,
        /// The peer.
        destination: IpAddr,
        /// Octets of the largest packet that passes.
        mtu: u16,
        /// Seconds for which that is believed.
        seconds: u64,
    },
    /// A packet came out of a tunnel that does not belong into it (RFC 4301 section 5.2 step 4).
    SelectorViolation {
        /// The inbound SA.
        sa: SaText,
        /// The packet.
        flow: FlowText,
    },
    /// Something wants an operator, or does no longer.
    Alarm {
        /// False when it is over.
        raised: bool,
        /// A sentence with what to do.
        alarm: String,
    },
    /// This gateway owns other segments than before.
    SegmentsChanged {
        /// All that it owns.
        owned: Vec<u8>,
    },
    /// The configuration was read again.
    Reload(ReloadReport),
    /// Policies were installed or removed through the control socket.
    PoliciesChanged {
        /// Names of those that are new or different.
        added: Vec<String>,
        /// Names of those that are gone.
        removed: Vec<String>,
    },
}

/// The kinds of [`Happening`], to choose among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // As in `Happening`.
pub enum Kind {
    SoftLimit,
    HardLimit,
    Acquire,
    PeerMoved,
    PathMtu,
    SelectorViolation,
    Alarm,
    SegmentsChanged,
    Reload,
    PoliciesChanged,
}

impl Occurrence for Happening {
    type Kind = Kind;

    fn kind(&self) -> Kind {
        match self {
            Self::SoftLimit(_) => Kind::SoftLimit,
            Self::HardLimit(_) => Kind::HardLimit,
            Self::Acquire { .. } => Kind::Acquire,
            Self::PeerMoved { .. } => Kind::PeerMoved,
            Self::PathMtu { .. } => Kind::PathMtu,
            Self::SelectorViolation { .. } => Kind::SelectorViolation,
            Self::Alarm { .. } => Kind::Alarm,
            Self::SegmentsChanged { .. } => Kind::SegmentsChanged,
            Self::Reload(_) => Kind::Reload,
            Self::PoliciesChanged { .. } => Kind::PoliciesChanged,
        }
    }
}

/// Which SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaText {
    /// Its tunnel.
    pub name: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// As `0x2a000001`.
    pub spi: String,
    /// Its number.
    pub reqid: u32,
}

impl SaText {
    /// Of an SA of the table.
    pub fn new(name: &str, direction: Direction, spi: u32, reqid: u32) -> Self {
        let (name, direction) = (name.to_owned(), direction.to_string());
        Self { name, direction, spi: format!("{spi:#010x}"), reqid }
    }
}

/// An address and a UDP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// The selector fields of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowText {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port, or ICMP type and code; absent where the packet has none.
    pub source_port: Option<u16>,
    /// As `source_port`.
    pub destination_port: Option<u16>,
}

impl From<&Flow> for FlowText {
    fn from(flow: &Flow) -> Self {
        Self {
            source: flow.source(),
            destination: flow.destination(),
            protocol: flow.protocol(),
            source_port: flow.ports().map(|(source, _)| source),
            destination_port: flow.ports().map(|(_, destination)| destination),
        }
    }
}

/// Everybody who listens.
#[derive(Debug)]
pub struct Listeners<K = Kind> {
    seats: Mutex<Vec<Seat<K>>>,
    cut: AtomicU64,
}

impl<K> Default for Listeners<K> {
    fn default() -> Self {
        Self { seats: Mutex::default(), cut: AtomicU64::new(0) }
    }
}

#[derive(Debug)]
struct Seat<K> {
    kinds: Vec<K>,
    lines: SyncSender<Arc<str>>,
    /// Shared with the listener for as long as it lives.
    alive: Arc<()>,
}

impl<K: PartialEq> Seat<K> {
    fn wants(&self, kind: &K) -> bool {
        self.kinds.is_empty() || self.kinds.contains(kind)
    }
}

impl<K: Clone + PartialEq> Listeners<K> {
    /// Tells everybody who wants to know. Never waits for anybody.
    pub fn tell(&self, happening: impl Occurrence<Kind = K>) {
        let mut seats = self.seats();
        let kind = happening.kind();
        if !seats.iter().any(|seat| seat.wants(&kind)) {
            return;
        }
        let line = line(happening);
        seats.retain(|seat| !seat.wants(&kind) || self.offer(seat, &line));
    }

    /// Whether the listener is there and keeps up.
    fn offer(&self, seat: &Seat<K>, line: &Arc<str>) -> bool {
        let result = seat.lines.try_send(Arc::clone(line));
        if matches!(result, Err(TrySendError::Full(_))) {
            self.cut.fetch_add(1, Ordering::Relaxed);
        }
        result.is_ok()
    }

    /// Begins to listen to these kinds, or to all if there is none. `None` when all seats are taken.
    pub fn listen(&self, kinds: &[K]) -> Option<Listening> {
        let mut seats = self.seats();
        // Who went away without an event since does not keep its seat.
        seats.retain(|seat| Arc::strong_count(&seat.alive) > 1);
        if seats.len() >= MAX_LISTENERS {
            return None;
        }
        let (lines, received) = sync_channel(QUEUE);
        let alive = Arc::new(());
        seats.push(Seat { kinds: kinds.to_vec(), lines, alive: Arc::clone(&alive) });
        Some(Listening { received, _alive: alive })
    }

    /// Listeners that were cut off because they did not read.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Seat<K>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(happening: impl Serialize) -> Arc<str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    // A structure of texts and numbers always has a JSON form.
    let mut line = serde_json::to_string(&Notice { time_ms, happening }).unwrap_or_default();
    line.push('\n');
    line.into()
}

/// One who listens; dropping it ends that.
#[derive(Debug)]
pub struct Listening {
    received: Receiver<Arc<str>>,
    _alive: Arc<()>,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event: a line of JSON with its newline.
    Line(Arc<str>),
    /// Nothing for as long as it waited.
    Silence,
    /// Nothing any more: it was too slow, or the daemon ends.
    End,
}

impl Listening {
    /// Waits for the next event.
    pub fn next(&self, patience: Duration) -> Heard {
        match self.received.recv_timeout(patience) {
            Ok(line) => Heard::Line(line),
            Err(RecvTimeoutError::Timeout) => Heard::Silence,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALARM: fn() -> Happening = || Happening::Alarm { raised: true, alarm: "water".to_owned() };
    const NOW: Duration = Duration::ZERO;

    fn heard(listening: &Listening) -> Option<Happening> {
        match listening.next(NOW) {
            Heard::Line(line) => Some(serde_json::from_str::<Notice>(&line).expect("a notice").happening),
            _ => None,
        }
    }

    #[test]
    fn each_hears_what_it_asked_for() {
        let listeners = Listeners::default();
        let all = listeners.listen(&[]).expect("a seat");
        let some = listeners.listen(&[Kind::SegmentsChanged]).expect("a seat");
        listeners.tell(ALARM());
        let changed = Happening::SegmentsChanged { owned: vec![1, 2] };
        listeners.tell(changed.clone());
        assert_eq!([heard(&all), heard(&all), heard(&all)], [Some(ALARM()), Some(changed.clone()), None]);
        assert_eq!([heard(&some), heard(&some)], [Some(changed), None]);
    }

    #[test]
    fn who_does_not_read_is_cut_off_and_counted() {
        let listeners = Listeners::default();
        let (slow, quick) = (listeners.listen(&[]).expect("a seat"), listeners.listen(&[]).expect("a seat"));
        let told = (0..=QUEUE).filter(|_| {
            listeners.tell(ALARM());
            heard(&quick).is_some()
        });
        assert_eq!(told.count(), QUEUE + 1);
        assert_eq!(listeners.cut(), 1);
        assert_eq!((0..=QUEUE).take_while(|_| heard(&slow).is_some()).count(), QUEUE);
        assert_eq!(slow.next(NOW), Heard::End);
    }

    #[test]
    fn seats_are_bounded_and_come_free() {
        let listeners = Listeners::<Kind>::default();
        let mut seated: Vec<_> = (0..MAX_LISTENERS).map(|_| listeners.listen(&[]).expect("a seat")).collect();
        assert!(listeners.listen(&[]).is_none());
        seated.pop();
        assert!(listeners.listen(&[]).is_some());
        assert_eq!(listeners.cut(), 0, "who leaves was not cut off");
    }
}
