//! What a packet pays for policy: a lookup among many policies, and a hit of the flow cache.
//!
//! Both against a lookup in a standard HashMap with as many flows in it, in the same rounds, so that a noisy
//! neighbour disturbs all alike. Medians over the rounds. `cargo bench --bench spd [-- --quick]`

#[path = "../dataplane/tests/common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use baton_dataplane::packet::transport::Flow;
use baton_dataplane::pipeline::flow_cache::{Decision, FlowCache};
use baton_dataplane::spd::{Action, Policy, Spd, Way, Ways};
use baton_sad::{AddressRange, Direction, Selector, Table};
use common::{REQID, Setup, pair};

/// Lookups per round: as many flows as the flow cache keeps nearly all of.
const FLOWS: u32 = 512;

fn range(first: u32, last: u32) -> AddressRange {
    let address = |bits| Ipv4Addr::from_bits(bits).into();
    AddressRange::new(address(first), address(last)).expect("first before last")
}

fn everywhere() -> AddressRange {
    range(0, u32::MAX)
}

/// The same each time (Steele et al., SplitMix).
fn scattered(n: u32) -> u32 {
    let z = u64::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ z >> 29) as u32
}

fn flow(source: u32, destination: u32, port: u16) -> Flow {
    let address = |bits| Ipv4Addr::from_bits(bits).into();
    Flow::new(address(source), address(destination), 17, Some((port, port)))
}

/// A way in which policies lie to each other, with the flow that the `n`-th lookup asks about.
struct World {
    name: &'static str,
    selector: fn(u32, u32) -> Selector,
    flow: fn(u32, u32) -> Flow,
}

const WORLDS: [World; 6] = [
    World {
        name: "disjoint networks",
        selector: |index, count| {
            let step = u32::MAX / count;
            Selector::addresses(everywhere(), range(index * step, index * step + step / 2))
        },
        flow: |n, count| flow(n, scattered(n) % count * (u32::MAX / count) + 1, 5),
    },
    World {
        name: "disjoint networks, no match",
        selector: |index, count| {
            let step = u32::MAX / count;
            Selector::addresses(everywhere(), range(index * step, index * step + step / 2))
        },
        flow: |n, count| flow(n, (scattered(n) % count + 1) * (u32::MAX / count) - 1, 5),
    },
    World {
        name: "one network, one port each",
        selector: |index, _| {
            let port = index as u16;
            let local = range(index >> 16 << 24, (index >> 16 << 24) + 0xff_ffff);
            Selector { remote_ports: port..=port, ..Selector::addresses(local, everywhere()) }
        },
        flow: |n, count| flow(n, n, (scattered(n) % count) as u16),
    },
    World {
        name: "nested, all match",
        selector: |index, _| Selector::addresses(everywhere(), range(index, u32::MAX - index)),
        flow: |n, _| flow(n, 1 << 31, 5),
    },
    World {
        name: "stripes that cross, no match",
        selector: |index, count| {
            let first = index * (u32::MAX / count);
            let stripe = range(first, first + u32::MAX / count / 4 * 3);
            if index % 2 == 0 {
                Selector::addresses(everywhere(), stripe)
            } else {
                Selector::addresses(stripe, everywhere())
            }
        },
        flow: |n, count| {
            let gap = |n| (scattered(n) % count + 1) * (u32::MAX / count) - 1;
            flow(gap(n), gap(n + FLOWS), 5)
        },
    },
    World {
        name: "each misses by one, no match",
        selector: near_miss,
        flow: |_, _| flow(1 << 31, 1 << 31, 1 << 15),
    },
];

/// Wide in all selectors, and around one flow in all but one: the worst that there is for the tree.
fn near_miss(index: u32, _: u32) -> Selector {
    let around = |n: u32| range(scattered(n) >> 1, 1 << 31 | scattered(n + 1) >> 1);
    let beside = |n: u32| range(1 << 31 | 1 | scattered(n) >> 1, u32::MAX);
    let around_port = |n: u32| scattered(n) as u16 >> 1..=1 << 15 | scattered(n + 1) as u16 >> 1;
    let beside_port = |n: u32| 1 << 15 | 1 | scattered(n) as u16 >> 1..=u16::MAX;
    let n = index * 8;
    let mut selector = Selector {
        local_ports: around_port(n),
        remote_ports: around_port(n + 2),
        ..Selector::addresses(around(n + 4), around(n + 6))
    };
    match index % 4 {
        0 => selector.local = beside(n),
        1 => selector.remote = beside(n),
        2 => selector.local_ports = beside_port(n),
        _ => selector.remote_ports = beside_port(n),
    }
    selector
}

fn policies(world: &World, count: u32) -> Vec<Policy> {
    let policy = |index| Policy {
        name: String::new(),
        priority: 0,
        selector: (world.selector)(index, count),
        action: if index % 2 == 0 { Action::Protect { reqid: index } } else { Action::Discard(Ways::Both) },
    };
    (0..count).map(policy).collect()
}

/// ns per call, over all flows.
fn time<T>(flows: &[Flow], mut call: impl FnMut(&Flow) -> T) -> f64 {
    let start = Instant::now();
    for flow in flows {
        black_box(call(black_box(flow)));
    }
    start.elapsed().as_secs_f64() * 1e9 / flows.len() as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Median ns of both calls, which take turns.
fn compare<T, U>(
    flows: &[Flow],
    rounds: usize,
    mut one: impl FnMut(&Flow) -> T,
    mut other: impl FnMut(&Flow) -> U,
) -> (f64, f64) {
    let times = (0..rounds).map(|_| (time(flows, &mut one), time(flows, &mut other)));
    let (ones, others): (Vec<_>, Vec<_>) = times.unzip();
    (median(ones), median(others))
}

fn map_of(count: u32) -> HashMap<Flow, u32> {
    (0..count).map(|n| (flow(n, scattered(n), 5), n)).collect()
}

/// us per policy that goes and comes back as the last of its kind, and the database after as many of these.
fn time_changes(world: &World, count: u32, mut spd: Spd) -> (f64, Spd) {
    let all = policies(world, count);
    let start = Instant::now();
    for n in 0..count.min(20_000) {
        let (gone, policy) = (u64::from(n), all[n as usize].clone());
        spd = spd.changed([&(gone, policy.clone())], [(u64::from(count) + gone, policy)]);
    }
    (start.elapsed().as_secs_f64() * 1e6 / f64::from(count.min(20_000)), spd)
}

/// One row: a lookup that the flow cache did not spare.
fn measure(world: &World, count: u32, rounds: usize) {
    let policies = policies(world, count);
    let start = Instant::now();
    let spd = Spd::new(policies);
    let build = start.elapsed().as_secs_f64() * 1e3;
    let (change, spd) = time_changes(world, count, spd);
    let flows: Vec<Flow> = (0..FLOWS).map(|n| (world.flow)(n, count)).collect();
    let map = map_of(count);
    let (lookup, hash) = compare(&flows, rounds, |flow| spd.outbound(flow), |flow| map.get(flow));
    let found = flows.iter().filter(|flow| spd.outbound(flow).is_some()).count() * 100 / flows.len();
    println!(
        "{:<30} {count:>7} {build:>10.2} {change:>10.1} {found:>7} % {lookup:>10.0} {hash:>10.0} {:>8.1}",
        world.name,
        lookup / hash
    );
}

/// The row of the flow cache: all flows belong to one SA.
fn measure_hit(table: &Table, rounds: usize) {
    let handle = table.lookup(Direction::Outbound, REQID).expect("the tunnel's SA");
    let flows: Vec<Flow> = (0..FLOWS).map(|n| flow(n, scattered(n), 5)).collect();
    let mut cache = FlowCache::default();
    cache.revalidate(1, table.change_count());
    for flow in &flows {
        cache.put(flow, Way::Outbound, Decision::Protect(handle));
    }
    let map = map_of(FLOWS);
    let kept = flows.iter().filter(|flow| cache.get(table, flow, Way::Outbound).is_some()).count();
    let (hit, hash) =
        compare(&flows, rounds, |flow| cache.get(table, flow, Way::Outbound), |flow| map.get(flow));
    println!(
        "{:<30} {FLOWS:>7} {:>10} {:>10} {:>7} % {hit:>10.1} {hash:>10.1} {:>8.2}",
        "flow cache, hit",
        "",
        "",
        kept * 100 / flows.len(),
        hit / hash
    );
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 30 } else { 1000 };
    println!("Policy lookups; ns per lookup, medians of {rounds} rounds of {FLOWS} flows");
    println!(
        "{:<30} {:>7} {:>10} {:>10} {:>9} {:>10} {:>10} {:>8}",
        "policies", "count", "build ms", "change us", "found", "lookup ns", "HashMap ns", "ratio"
    );
    for world in &WORLDS {
        for count in [10, 1_000, 100_000] {
            measure(world, count, rounds);
        }
    }
    let [gateway, _] = pair(&Setup::default());
    measure_hit(&gateway.table, rounds);
}
