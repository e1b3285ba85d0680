//! Planned moves of the tunnel's segment under traffic, back and forth.
//!
//! - `move-gap`: from the last ESP packet of the old owner to the first of the new one, on captures; beside it, as
//!   `elsewhere`, the longest pause between two ESP packets in as long a time without a move in the same run.
//! - `move-lost`: datagrams that never came, of both directions, around each move, and elsewhere as above.
//! - `switching-time`: the sum of such gaps in a stream of 8 s with 1 to 4 moves in it (D. Palomares, Study of mechanisms
//!   ensuring service continuity for IKEv2 and IPsec protocols, 2013, section 5.4); `switching-lost`: datagrams that never
//!   came, of that stream, one every 20 ms, and of the one that goes the other way, one every millisecond.

use std::time::Duration;

use baton_lab::site::{SEGMENT, now};
use baton_lab::topology::{client_port, server_port};

use crate::Options;
use crate::progress::Progress;
use crate::report::{Report, Series};
use crate::stage::{NODES, Result, Setup, Stage};
use crate::takeover::milliseconds;
use crate::traffic::{Pace, Stream, longest_gap, lost};
use crate::wire::{Wire, handed_over};

/// Octets of a datagram.
const OCTETS: usize = 1372;
/// Between datagrams of 1400 octets of IP at 100 Mbit/s.
const HUNDRED_MEGABITS: Duration = Duration::from_micros(112);
/// How far a stream at full rate may be ahead of what has arrived.
const WINDOW: u64 = 256;
/// Between datagrams that go the other way.
const UPWARD: Duration = Duration::from_millis(1);
/// Between two moves, and how long a time without one is compared.
const BETWEEN: Duration = Duration::from_millis(500);
const STREAM: Duration = Duration::from_secs(8);
const VOICE: Duration = Duration::from_millis(20);

/// How long after a move its losses are counted, with the time between its command and its beginning.
const AROUND: Duration = Duration::from_millis(200);
/// Heartbeats that do not mind two saturated cores: a false takeover is no move.
const PATIENT: (Duration, u32) = (Duration::from_millis(40), 4);

/// Measures moves at two rates, and switching.
pub fn run(report: &mut Report, options: Options) -> Result<()> {
    let (interval, missed) = PATIENT;
    let stage = Stage::start(&Setup { interval, missed, ..Setup::new(10) })?;
    let rounds = if options.quick { 20 } else { 200 };
    for (rate, pace) in [("100 Mbit/s", Pace::Every(HUNDRED_MEGABITS)), ("full rate", Pace::Window(WINDOW))] {
        moves(report, &stage, (rate, pace), rounds)?;
    }
    let rounds = if options.quick { 1 } else { 10 };
    (1..=4).try_for_each(|moves| switching(report, &stage, moves, rounds))
}

fn add(report: &mut Report, part: &'static str, system: &str, unit: &'static str, samples: Vec<f64>) {
    report.add(Series { part, system: system.to_owned(), tunnels: 0, unit, samples });
}

/// Both directions of traffic, and a capture.
struct Traffic {
    wire: Wire,
    down: Stream,
    up: Stream,
}

impl Traffic {
    fn start(stage: &Stage, octets: usize, pace: Pace) -> Result<Self> {
        let topology = &stage.site.topology;
        let wire = Wire::watch(&topology.wan)?;
        let (server, client) = (&topology.server, &topology.client);
        let down = Stream::start(server, client, client_port(5003), octets, pace)?;
        let up = Stream::start(client, server, server_port(5004), 160, Pace::Every(UPWARD))?;
        stage.wait("datagrams come through", || Ok(down.count() > 50 && up.count() > 50))?;
        Ok(Self { wire, down, up })
    }

    /// ESP of either gateway, and what arrived downward and upward.
    fn finish(self) -> Result<([Vec<Duration>; 2], [Arrived; 2])> {
        let arrived = [self.down, self.up].map(|stream| stream.finish().0);
        Ok((self.wire.finish()?, arrived))
    }
}

/// When which number arrived.
type Arrived = Vec<(Duration, u64)>;

/// Datagrams of both directions that never came.
fn missing(arrived: &[Arrived; 2], from: Duration, to: Duration) -> f64 {
    arrived.iter().map(|arrived| lost(arrived, from, to)).sum::<u64>() as f64
}

/// Moves the tunnel to the other node: whence, and when it was asked for.
fn one(stage: &Stage) -> Result<(usize, Duration)> {
    let from = stage.owner()?;
    stage.wait_for_standby(from)?;
    let start = now();
    let (segment, to) = (SEGMENT.to_string(), NODES[1 - from].to_string());
    stage.gateway(from).dpctl(&["move", "segment", &segment, "--to", &to])?;
    stage.wait("the segment is moved", || Ok(stage.owner()? == 1 - from))?;
    Ok((from, start))
}

fn moves(report: &mut Report, stage: &Stage, (rate, pace): (&str, Pace), rounds: usize) -> Result<()> {
    let bar = Progress::new(&format!("move, {rate}"), rounds);
    let traffic = Traffic::start(stage, OCTETS, pace)?;
    let mut events = Vec::new();
    for _ in 0..rounds {
        std::thread::sleep(BETWEEN);
        events.push(one(stage)?);
        bar.step();
    }
    std::thread::sleep(BETWEEN);
    let (sent, arrived) = traffic.finish()?;
    bar.end();
    let gaps = events.iter().filter_map(|(from, start)| handed_over(&sent, *from, *start));
    add(
        report,
        "move-gap",
        rate,
        "ms",
        gaps.map(|(last, first)| milliseconds(first.saturating_sub(last))).collect(),
    );
    let elsewhere = format!("elsewhere, {rate}");
    let before = |start: Duration| (start.saturating_sub(AROUND * 2), start.saturating_sub(AROUND));
    let pauses = events.iter().map(|(from, start)| {
        let (begin, end) = before(*start);
        milliseconds(longest_gap(&sent[*from], begin, end))
    });
    add(report, "move-gap", &elsewhere, "ms", pauses.collect());
    let at_moves = events.iter().map(|(_, start)| missing(&arrived, *start, *start + AROUND));
    add(report, "move-lost", rate, "1", at_moves.collect());
    let without =
        events.iter().map(|(_, start)| before(*start)).map(|(begin, end)| missing(&arrived, begin, end));
    add(report, "move-lost", &elsewhere, "1", without.collect());
    Ok(())
}

/// A stream of 8 s with so many moves in it.
fn switching(report: &mut Report, stage: &Stage, moves: u32, rounds: usize) -> Result<()> {
    let bar = Progress::new(&format!("switching, {moves}/8 s"), rounds);
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let traffic = Traffic::start(stage, 160, Pace::Every(VOICE))?;
        let begun = now();
        let mut events = Vec::new();
        for _ in 0..moves {
            std::thread::sleep(STREAM / (moves + 1));
            events.push(one(stage)?);
        }
        std::thread::sleep(STREAM / (moves + 1));
        let (sent, arrived) = traffic.finish()?;
        let gaps = events.iter().filter_map(|(from, start)| handed_over(&sent, *from, *start));
        times.push(gaps.map(|(last, first)| milliseconds(first.saturating_sub(last))).sum());
        losses.push(missing(&arrived, begun, now()));
        bar.step();
    }
    bar.end();
    add(report, "switching-time", &format!("{moves}/8 s"), "ms", times);
    add(report, "switching-lost", &format!("{moves}/8 s"), "1", losses);
    Ok(())
}
