//! The thread of counters: what SAs want goes to the core, what the core reserves goes into the table (I2, I3). Nothing
//! slower is done here: a worker may be waiting. What is raised here the core knows already; where nobody is asked, it is
//! done in the order of the contexts (`enforcing`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::worker::monotonic_ns;
use baton_sad::{Edge as TableEdge, Floor, Name, Reserve, Table};
use tracing::warn;

use super::DaemonError;
use super::backlog::Share;
use super::error::system;
use super::input::{Input, Inputs};
use crate::cluster::{Edge, Event, Reservation, Reserved, SaKey, Segments};
use baton_sad::NodeId;

/// How often workers' wishes are looked for.
const EVERY: Duration = Duration::from_millis(2);
/// Rates are seen over so long at most.
const LONGEST_SPAN: Duration = Duration::from_millis(50);
/// SAs that are remembered for their rates; beyond, all are forgotten and begin anew.
const REMEMBERED: usize = 200_000;

/// What this thread is asked for.
pub(super) enum Work {
    Table(Arc<Table>),
    Reserve(Vec<Reservation>),
    RaiseFloors { from: NodeId, number: u64, floors: Vec<Reserved>, within: Segments, share: Option<Share> },
}

/// The asking end.
#[derive(Clone)]
pub(super) struct Counters {
    works: Sender<Work>,
    misses: Arc<AtomicU64>,
}

impl Counters {
    pub(super) fn work(&self, work: Work) {
        // It ends with the process only.
        let _ = self.works.send(work);
    }

    /// Times that an SA had used up what was reserved before more was.
    pub(super) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

/// Half of the time that is reserved ahead, within what is useful.
fn span_for(time: Duration) -> Duration {
    (time / 2).clamp(EVERY, LONGEST_SPAN)
}

/// Starts the thread.
pub(super) fn start(inputs: &Inputs, time: Duration) -> Result<Counters, DaemonError> {
    let (sender, received) = channel();
    let (inputs, span) = (inputs.clone(), span_for(time));
    let misses = Arc::new(AtomicU64::new(0));
    let bench = Bench {
        inputs,
        table: None,
        known: HashMap::new(),
        edges: Vec::new(),
        span,
        missed: Arc::clone(&misses),
    };
    let serve = move || bench.serve(&received);
    thread::Builder::new().name("counters".to_owned()).spawn(serve).map_err(system("start a thread"))?;
    Ok(Counters { works: sender, misses })
}

/// What is known of an SA that has asked before.
struct Known {
    tunnel: Name,
    rate: Rate,
}

/// How fast an SA goes, seen over a while: two looks that are close together see one burst, and reserve for a second of it.
struct Rate {
    packets: u64,
    at: Instant,
    per_second: u64,
}

impl Rate {
    fn begin(packets: u64, at: Instant) -> Self {
        Self { packets, at, per_second: 0 }
    }

    /// The rate since the last measurement; while `span` is not over that one's, or what has come since, if that is more.
    fn see(&mut self, packets: u64, now: Instant, span: Duration) -> u64 {
        let elapsed = now.duration_since(self.at);
        let micros = elapsed.max(span).as_micros().max(1);
        let seen = u128::from(packets.saturating_sub(self.packets)) * 1_000_000 / micros;
        let seen = u64::try_from(seen).unwrap_or(u64::MAX);
        if elapsed < span {
            return seen.max(self.per_second);
        }
        *self = Self { packets, at: now, per_second: seen };
        seen
    }
}

struct Bench {
    inputs: Inputs,
    table: Option<Arc<Table>>,
    known: HashMap<baton_sad::SaKey, Known>,
    edges: Vec<TableEdge>,
    /// Over which rates are seen.
    span: Duration,
    missed: Arc<AtomicU64>,
}

impl Bench {
    fn serve(mut self, received: &Receiver<Work>) {
        loop {
            match received.recv_timeout(EVERY) {
                Ok(work) => self.perform(work),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.drain();
        }
    }

    fn perform(&mut self, work: Work) {
        match work {
            Work::Table(table) => {
                self.table = Some(table);
                self.known.clear();
            }
            Work::Reserve(items) => self.reserve(&items),
            Work::RaiseFloors { from, number, floors, within, share: _share } => {
                let (missing, foreign) = self.raise_floors(&floors, within);
                self.inputs.tell(Input::Core(Event::FloorsRaised { from, number, missing, foreign }));
            }
        }
    }

    fn reserve(&self, items: &[Reservation]) {
        let Some(table) = &self.table else { return };
        let item = |item: &Reservation| Reserve {
            sa: item.key.in_table(),
            reserved: item.reserved,
            mark: item.mark,
        };
        let items: Vec<Reserve> = items.iter().map(item).collect();
        if let Err(error) = table.reserve(&items) {
            warn!(%error, "reservations cannot be raised");
        }
    }

    /// Of SAs of these segments, which another node owns; gives those that are not here, or are ours or somebody else's,
    /// and whose segments the latter are.
    fn raise_floors(&self, floors: &[Reserved], within: Segments) -> (Vec<SaKey>, Segments) {
        let all = || floors.iter().map(|floor| floor.key).collect();
        let Some(table) = &self.table else { return (all(), Segments::NONE) };
        let (now, mut foreign) = (monotonic_ns(), Segments::NONE);
        let mut is_not_its = |key: &SaKey| {
            let sa = key.in_table();
            let Some(found) = table.get(sa.direction, sa.key).ok().flatten() else { return false };
            let segment = found.sa.segment;
            if !within.contains(segment) {
                foreign.insert(segment);
            }
            !within.contains(segment) || table.lease(segment) > now
        };
        let (ours, others): (Vec<&Reserved>, Vec<&Reserved>) =
            floors.iter().partition(|floor| is_not_its(&floor.key));
        let item = |floor: &&Reserved| Floor { sa: floor.key.in_table(), floor: floor.number };
        match table.raise_floors(&others.iter().map(item).collect::<Vec<_>>()) {
            Ok(missing) => {
                let missing = missing.into_iter().map(SaKey::of);
                (missing.chain(ours.into_iter().map(|floor| floor.key)).collect(), foreign)
            }
            Err(error) => {
                warn!(%error, "floors cannot be raised");
                (all(), foreign)
            }
        }
    }

    /// What workers have asked for since the last look.
    fn drain(&mut self) {
        let Some(table) = &self.table else { return };
        self.edges.clear();
        table.drain_attention(&mut self.edges);
        if self.edges.is_empty() {
            return;
        }
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        let missed = self.edges.iter().filter(|edge| is_miss(table, edge)).count();
        self.missed.fetch_add(missed as u64, Ordering::Relaxed);
        let now = Instant::now();
        let (known, span) = (&mut self.known, self.span);
        let wanted = self.edges.drain(..).filter_map(|edge| wish(table, known, &edge, now, span));
        let wanted: Vec<Edge> = wanted.collect();
        if !wanted.is_empty() {
            self.inputs.tell(Input::Core(Event::Edges(wanted)));
        }
    }
}

/// Its worker stands still, or drops what comes, until more is reserved.
fn is_miss(table: &Table, edge: &TableEdge) -> bool {
    let used_up = edge.wanted().is_some() || edge.edge >= edge.reservation.reserved;
    used_up && table.enforces_reservations(edge.segment)
}

/// How far an SA is, how fast it goes, and whose it is.
fn wish(
    table: &Table,
    known: &mut HashMap<baton_sad::SaKey, Known>,
    edge: &TableEdge,
    now: Instant,
    span: Duration,
) -> Option<Edge> {
    let (tunnel, packets_per_second) = if let Some(before) = known.get_mut(&edge.sa) {
        (before.tunnel, before.rate.see(edge.packets, now, span))
    } else {
        let tunnel = table.get(edge.sa.direction, edge.sa.key).ok().flatten()?.sa.name;
        known.insert(edge.sa, Known { tunnel, rate: Rate::begin(edge.packets, now) });
        (tunnel, 0)
    };
    let wanted = edge.wanted().unwrap_or(0);
    Some(Edge { key: SaKey::of(edge.sa), tunnel, edge: edge.edge.max(wanted), packets_per_second })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_not_taken_for_a_rate() {
        let (start, span) = (Instant::now(), Duration::from_millis(50));
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut rate = Rate::begin(1_000, start);
        assert_eq!(rate.see(1_064, after(2), span), 1_280, "64 packets in 2 ms are not 32,000 a second");
        assert_eq!(rate.see(1_100, after(50), span), 2_000);
        assert_eq!(rate.see(1_164, after(52), span), 2_000, "as measured last");
        assert_eq!(rate.see(1_100, after(100), span), 0, "a counter that began anew");
        assert_eq!(span_for(Duration::from_millis(40)), Duration::from_millis(20));
        assert_eq!(span_for(Duration::from_secs(9)), Duration::from_millis(50));
        assert_eq!(span_for(Duration::from_millis(1)), EVERY);
    }
}
