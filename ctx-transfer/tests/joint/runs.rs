//! Many seeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use baton_ctx_transfer::cluster::Guards;

use crate::world::World;

/// While things go wrong.
const TROUBLE: Duration = Duration::from_millis(2_500);
/// After which all must be well again, at the latest, and how often it is looked whether it is.
const CALM: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(500);

pub fn run(world: &mut World) -> Result<(), String> {
    world.plan(TROUBLE);
    world.run_until(TROUBLE)?;
    world.repair();
    let mut verdict = Err("nothing".to_owned());
    let mut end = TROUBLE + Duration::from_secs(1);
    while verdict.is_err() && end < TROUBLE + CALM {
        end += LOOK;
        world.run_until(end)?;
        verdict = world.agree();
    }
    verdict
}

pub fn seeds(usual: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("BATON_SEED"), number("BATON_SOAK")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(1)) => 0..100 * usual,
        _ => number("BATON_FROM").map_or(0..usual, |from| from..from + usual),
    }
}

/// What a run of all seeds has to bring about, or it tests less than it says.
const MUST_HAPPEN: [&str; 24] = [
    "takeovers",
    "planned",
    "stale takeovers",
    "takeovers with an exchange in flight",
    "moves with an exchange in flight",
    "takeovers with CREATE_CHILD_SA in flight",
    "moves with CREATE_CHILD_SA in flight",
    "contexts refused",
    "held back",
    "replicated",
    "late",
    "alone",
    "tunnels let down",
    "hosts dead",
    "hosts stopped",
    "cluster daemons dead",
    "ike daemons dead",
    "links cut",
    "freezes",
    "commits",
    "activated",
    "dozed",
    "standby_taken",
    "long jumps",
];
/// And what only a long run has.
const MUST_HAPPEN_AT_LENGTH: [&str; 3] = ["contexts superseded", "removals refused", "waited in vain"];

pub type Counters = BTreeMap<&'static str, u64>;

fn tally(world: &mut World, counters: &mut Counters) {
    let mut add = |name, value| *counters.entry(name).or_default() += value;
    world.judge.counters.iter().for_each(|(name, value)| add(name, *value));
    for node in world.nodes.values_mut() {
        node.bury_core();
        node.bury_ike();
        node.counted.iter().for_each(|(name, value)| add(name, *value));
        add("segments taken over", node.daemon.totals.takeovers);
        add("declared stale", node.daemon.totals.stale);
    }
    for peer in &world.peers {
        let counted = peer.counters();
        add("peers' tunnels", counted["ike_established"]);
        add("peers' rekeyings", counted["ike_rekeyed"] + counted["children_rekeyed"]);
        add("peers' losses", counted["unreachable"]);
    }
}

fn run_seeds(seeds: Range<u64>) -> (Vec<String>, Counters) {
    let (mut failures, mut counters) = (Vec::new(), Counters::new());
    for seed in seeds {
        let mut world = World::new(seed, Guards::default());
        if world.trace {
            println!("{:#?}", world.scene);
        }
        if let Err(why) = run(&mut world) {
            // A soak is long: its failures are told as they come.
            eprintln!("BATON_SEED={seed} {why}");
            failures.push(format!("BATON_SEED={seed} {why}"));
        }
        tally(&mut world, &mut counters);
    }
    (failures, counters)
}

#[test]
fn peers_notice_no_takeover() {
    let all = seeds(24);
    let middle = all.start.midpoint(all.end);
    let halves = [all.start..middle, middle..all.end];
    let results = halves.map(|half| std::thread::spawn(move || run_seeds(half)));
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
    let at_length = std::env::var("BATON_SOAK").map_or(&[][..], |_| &MUST_HAPPEN_AT_LENGTH[..]);
    let must_happen = MUST_HAPPEN.iter().chain(at_length);
    let never: Vec<_> = must_happen.filter(|what| counters.get(*what).is_none_or(|n| *n == 0)).collect();
    assert!(never.is_empty() || std::env::var("BATON_SEED").is_ok(), "{never:?} never happened");
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in 0..3 {
        let stories = [(); 2].map(|()| {
            let mut world = World::new(seed, Guards::default());
            world.trace = false;
            let result = run(&mut world);
            (result, world.now, world.judge.history.story(), world.judge.counters.clone())
        });
        assert_eq!(stories[0], stories[1]);
    }
}
