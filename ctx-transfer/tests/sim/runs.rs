//! Many seeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use baton_ctx_transfer::cluster::Guards;

use crate::world::World;

/// While things go wrong.
pub const TROUBLE: Duration = Duration::from_millis(900);
/// After which all must be well again.
const CALM: Duration = Duration::from_millis(700);

pub fn run(world: &mut World) -> Result<(), String> {
    world.plan(TROUBLE);
    world.run_until(TROUBLE)?;
    world.repair();
    world.run_until(TROUBLE + CALM)?;
    // A segment that is just being moved is nobody's for a moment.
    let mut verdict = world.agree();
    for more in 1..=20 {
        if verdict.is_ok() {
            break;
        }
        world.run_until(TROUBLE + CALM + Duration::from_millis(20 * more))?;
        verdict = world.agree();
    }
    verdict
}

/// Which seeds run, and how many are usual.
fn seeds(usual: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let soak = if number("BATON_SOAK") == Some(1) { 100 * usual } else { usual };
    let (from, count) = (number("BATON_FROM").unwrap_or(0), number("BATON_SEEDS").unwrap_or(soak));
    number("BATON_SEED").map_or(from..from + count, |seed| seed..seed + 1)
}

/// What a run of all seeds has to bring about, or it tests less than it says.
const MUST_HAPPEN: [&str; 23] = [
    "takeovers",
    "moves",
    "moves failed",
    "yielded",
    "pauses",
    "lapses",
    "fills",
    "refusals",
    "late",
    "stale",
    "rekeyed",
    "repeated reservations",
    "links healed",
    "hosts crashed",
    "daemons crashed",
    "pairs parted",
    "replicated",
    "alone",
    "commits",
    "freezes",
    "lies",
    "disbelieved",
    "received again",
];

type Counters = BTreeMap<&'static str, u64>;

fn tally(world: &mut World, counters: &mut Counters) {
    for (what, number) in &world.counters {
        *counters.entry(what).or_default() += number;
    }
    *counters.entry("packets").or_default() += world.judge.crossed;
    for node in world.nodes.values_mut() {
        node.bury();
        let totals = node.totals;
        for (what, number) in [
            ("takeovers", totals.takeovers),
            ("moves", totals.moves),
            ("moves failed", totals.moves_failed),
            ("yielded", totals.yielded),
            ("pauses", totals.pauses),
            ("lapses", totals.lapses),
            ("contexts", totals.contexts),
            ("fills", totals.fills),
            ("refusals", totals.refusals),
            ("late", totals.late),
            ("stale", totals.stale),
            ("rekeyed", totals.rekeyed),
            ("reservations", totals.reservations),
            ("repeated reservations", totals.repeated_reservations),
            ("disbelieved", totals.disbelieved),
        ] {
            *counters.entry(what).or_default() += number;
        }
    }
}

fn run_seed(seed: u64, counters: &mut Counters) -> Option<String> {
    let mut world = World::new(seed, Guards::default());
    if world.trace {
        println!("{:#?}", world.setting);
    }
    world.plan_lies(seed, TROUBLE);
    let verdict = run(&mut world);
    tally(&mut world, counters);
    let failure = format!("BATON_SEED={seed} {}", verdict.err()?);
    // A soak is long: its failures are told as they come.
    eprintln!("{failure}");
    Some(failure)
}

/// Takes one seed after the other until there are none.
fn run_seeds(all: &Range<u64>, next: &AtomicU64) -> (Vec<String>, Counters) {
    let (mut failures, mut counters) = (Vec::new(), Counters::new());
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if !all.contains(&seed) {
            return (failures, counters);
        }
        failures.extend(run_seed(seed, &mut counters));
        let done = seed - all.start + 1;
        if done.is_multiple_of(1_000) {
            eprintln!("{done} of {} seeds", all.end - all.start);
        }
    }
}

#[test]
fn invariants_hold_whatever_happens() {
    let all = seeds(1_000);
    let next = Arc::new(AtomicU64::new(all.start));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let start = |_| {
        let (all, next) = (all.clone(), Arc::clone(&next));
        std::thread::spawn(move || run_seeds(&all, &next))
    };
    let results: Vec<_> = (0..threads).map(start).collect();
    let (mut failures, mut counters) = (Vec::new(), Counters::new());
    for result in results {
        let (more, numbers) = result.join().expect("a thread of seeds panicked");
        failures.extend(more);
        for (what, number) in numbers {
            *counters.entry(what).or_default() += number;
        }
    }
    println!("{counters:?}");
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
    let never: Vec<_> =
        MUST_HAPPEN.iter().filter(|what| counters.get(*what).is_none_or(|n| *n == 0)).collect();
    assert!(never.is_empty() || std::env::var("BATON_SEED").is_ok(), "{never:?} never happened");
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in 0..5 {
        let [first, second] = [(); 2].map(|()| {
            let mut world = World::new(seed, Guards::default());
            world.trace = false;
            let result = run(&mut world);
            (result, world.judge.crossed, world.counters.clone())
        });
        assert_eq!(first, second);
    }
}
