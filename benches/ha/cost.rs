//! What a packet costs a worker more when its sequence number has to be reserved ahead, in memory.
//!
//! - `cost-seal`, `cost-open`: ns per packet of a worker's turn; `cost-seal-ratio`, `cost-open-ratio`: each turn beside
//!   that of a worker alone in the same round, so that what disturbs the machine disturbs both.
//! - `cost-seal-instructions`, `cost-open-instructions`: counted by single steps (`count.py`), free of
//!   noise.
//! - `cost-reservation`: what the daemons do per reservation and SA in the table, ns, the network between not counted.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use baton_dataplane::io::Side;
use baton_sad::{Edge, Floor, Reserve, Table};
use rustix::process::{Signal, getpid, kill_process};

use crate::Options;
use crate::common::{Gateway, Packet, Setup, pair};
use crate::progress::Progress;
use crate::report::{Report, Series};
use crate::stage::Result;

const BATCH: usize = 32;
/// Octets of the inner packet: the smallest ones show most.
const LENGTH: u16 = 64;
const SEGMENTS: [u64; 4] = [u64::MAX; 4];
/// Reserved ahead, in packets.
pub const AHEAD: [u64; 4] = [10_000, 1_000, 100, 32];
/// Batches whose instructions are counted: so many that one passes the mark at N = 1,000.
const COUNTED: usize = 17;
/// By which argument this program knows that it is being counted; the numbers behind it say what is wanted.
pub const COUNT: &str = "--count-instructions";

/// What is measured, in the order of the table.
fn variants() -> impl Iterator<Item = Option<u64>> {
    std::iter::once(None).chain(AHEAD.map(Some))
}

pub fn name(ahead: Option<u64>) -> String {
    ahead.map_or_else(|| "alone".to_owned(), |ahead| format!("N = {ahead}"))
}

/// Two gateways whose sequence numbers are reserved so far ahead, as `baton-cluster` does it.
struct Driven {
    ahead: Option<u64>,
    gateways: [Gateway; 2],
    plain: Vec<Vec<u8>>,
    edges: Vec<Edge>,
}

impl Driven {
    fn new(ahead: Option<u64>) -> Self {
        let gateways = pair(&Setup { extended: false, window: 1024, ..Setup::default() });
        let plain = (0..BATCH).map(|_| Packet::from(0, LENGTH).frame()).collect();
        let mut driven = Self { ahead, gateways, plain, edges: Vec::new() };
        for gateway in 0..2 {
            if ahead.is_some() {
                let table = &driven.gateways[gateway].table;
                table.enforce_reservations(&SEGMENTS, true);
                driven.edges = table.edges(&SEGMENTS);
                driven.reserve(gateway);
            }
        }
        driven
    }

    /// Reserves for whoever asked.
    fn attend(&mut self, gateway: usize) {
        self.gateways[gateway].table.drain_attention(&mut self.edges);
        self.reserve(gateway);
    }

    fn reserve(&mut self, gateway: usize) {
        let Some(ahead) = self.ahead else { return };
        let item = |edge: Edge| {
            let reserved = edge.edge + ahead;
            Reserve { sa: edge.sa, reserved, mark: reserved - ahead / 2 }
        };
        let items: Vec<Reserve> = self.edges.drain(..).map(item).collect();
        if !items.is_empty() {
            self.gateways[gateway].table.reserve(&items).expect("the table can be changed");
        }
    }

    fn attend_both(&mut self) {
        for gateway in 0..2 {
            self.attend(gateway);
        }
    }

    /// One batch through both gateways, with marks around one of the turns.
    fn counted_round(&mut self, direction: usize) {
        let mut frames = self.plain.clone();
        for (gateway, from) in [(0, Side::Inner), (1, Side::Outer)] {
            for frame in &frames {
                assert!(self.gateways[gateway].workers[0].io().inject(from, frame));
            }
            if gateway == direction {
                mark();
                self.gateways[gateway].workers[0].turn();
                mark();
            }
            self.gateways[gateway].run();
            frames = self.gateways[gateway].sent(from.opposite());
            assert_eq!(frames.len(), BATCH);
        }
    }

    /// One batch through both gateways: ns per packet that sealing and opening took.
    fn round(&mut self) -> [f64; 2] {
        let plain = std::mem::take(&mut self.plain);
        let (seal, sealed) = turn(&mut self.gateways[0], Side::Inner, &plain);
        self.plain = plain;
        let (open, _) = turn(&mut self.gateways[1], Side::Outer, &sealed);
        [seal, open]
    }
}

/// Times a turn of a worker that has these frames waiting, all of which it sends on.
fn turn(gateway: &mut Gateway, from: Side, frames: &[Vec<u8>]) -> (f64, Vec<Vec<u8>>) {
    for frame in frames {
        assert!(gateway.workers[0].io().inject(from, frame), "there is room for a batch");
    }
    let start = Instant::now();
    let handled = gateway.workers[0].turn();
    let elapsed = start.elapsed().as_secs_f64();
    let sent = gateway.sent(from.opposite());
    assert!(handled == BATCH && sent.len() == BATCH, "drops: {:?}", gateway.drops());
    (elapsed * 1e9 / BATCH as f64, sent)
}

/// All of it.
pub fn run(report: &mut Report, options: Options) -> Result<()> {
    times(report, if options.quick { 3_000 } else { 30_000 });
    instructions(report)?;
    reservations(report);
    Ok(())
}

fn times(report: &mut Report, rounds: usize) {
    let mut driven: Vec<Driven> = variants().map(Driven::new).collect();
    let mut took = vec![[Vec::new(), Vec::new()]; driven.len()];
    let bar = Progress::new("cost, in memory", rounds);
    for round in 0..rounds {
        for turn in 0..driven.len() {
            // Each goes first as often as the others.
            let which = (round + turn) % driven.len();
            let both = driven[which].round();
            driven[which].attend_both();
            // The first rounds fill caches.
            if round >= rounds / 10 {
                took[which].iter_mut().zip(both).for_each(|(kept, time)| kept.push(time));
            }
        }
        bar.step();
    }
    bar.end();
    for (direction, parts) in PARTS.into_iter().enumerate() {
        for (which, ahead) in variants().enumerate() {
            let samples = took[which][direction].clone();
            report.add(Series { part: parts[0], system: name(ahead), tunnels: 0, unit: "ns", samples });
        }
        for (which, ahead) in variants().enumerate().skip(1) {
            let pairs = took[which][direction].iter().zip(&took[0][direction]);
            let samples = pairs.map(|(with, alone)| with / alone).collect();
            report.add(Series { part: parts[1], system: name(ahead), tunnels: 0, unit: "1", samples });
        }
    }
}

/// Of sealing and of opening: times, ratios, instructions.
const PARTS: [[&str; 3]; 2] = [
    ["cost-seal", "cost-seal-ratio", "cost-seal-instructions"],
    ["cost-open", "cost-open-ratio", "cost-open-instructions"],
];

fn instructions(report: &mut Report) -> Result<()> {
    let bar = Progress::new("cost, instructions", 2 * variants().count());
    for (direction, parts) in PARTS.into_iter().enumerate() {
        for ahead in variants() {
            let each = count(direction, ahead)? / (COUNTED * BATCH) as f64;
            report.add(Series::single(parts[2], &name(ahead), 0, "1", each));
            bar.step();
        }
    }
    bar.end();
    Ok(())
}

/// Instructions that all counted turns of one direction take.
fn count(direction: usize, ahead: Option<u64>) -> Result<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ha/count.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(std::env::current_exe()?);
    command.args([COUNT, &direction.to_string(), &ahead.unwrap_or(0).to_string()]);
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("count.py failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// What runs while instructions are counted: so many batches, with a mark before and behind each turn that counts. Two
/// marks with nothing between them come first.
pub fn counted(direction: usize, ahead: u64) {
    let mut driven = Driven::new((ahead > 0).then_some(ahead));
    // Keys are prepared and caches filled.
    for _ in 0..4 {
        driven.round();
        driven.attend_both();
    }
    mark();
    mark();
    for _ in 0..COUNTED {
        driven.counted_round(direction);
        driven.attend_both();
    }
}

/// Tells `count.py` to begin or to end counting.
fn mark() {
    kill_process(getpid(), Signal::USR1).expect("a signal to oneself");
}

/// What the daemons of the owner and of the standby do in their tables.
fn reservations(report: &mut Report) {
    let mut driven = Driven::new(Some(32));
    let standby = Driven::new(None);
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for _ in 0..2_000 {
        driven.round();
        driven.gateways[0].table.drain_attention(&mut driven.edges);
        others.push(raise_floors(&standby.gateways[0].table, &driven.edges));
        let start = Instant::now();
        driven.reserve(0);
        own.push(start.elapsed().as_secs_f64() * 1e9);
        driven.attend(1);
    }
    for (system, samples) in [("owner", own), ("standby", others)] {
        report.add(Series {
            part: "cost-reservation",
            system: system.to_owned(),
            tunnels: 0,
            unit: "ns",
            samples,
        });
    }
}

fn raise_floors(table: &Table, edges: &[Edge]) -> f64 {
    let floors: Vec<Floor> = edges.iter().map(|edge| Floor { sa: edge.sa, floor: edge.edge + 32 }).collect();
    let start = Instant::now();
    let missing = table.raise_floors(&floors).expect("the table can be changed");
    assert!(missing.is_empty(), "the standby has the same SAs");
    start.elapsed().as_secs_f64() * 1e9
}
