//! Many seeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use baton_ike_proto::Command;
use baton_ike_proto::host::Target;

use crate::network::Faults;
use crate::node::Node;
use crate::random::Random;
use crate::setting::Setting;
use crate::world::World;
use crate::{agreement, script};

/// Says which seed it was, however the run ends.
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BATON_SEED={}", self.0);
        }
    }
}

pub fn seeds(usual: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("BATON_SEED"), number("BATON_SOAK")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(1)) => 0..20 * usual,
        _ => 0..usual,
    }
}

fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let (setting, faults) = (Setting::random(&mut random), Faults::random(&mut random));
    let mut world = World::new(setting, faults, random);
    let trace = std::env::var("BATON_SEED").is_ok();
    world.nodes.iter_mut().for_each(|node| node.trace = trace);
    if trace {
        println!("{:#?} {:?}", world.setting, world.network.faults);
    }
    world
}

fn run(world: &mut World) -> Result<(), String> {
    script::play(world, Duration::from_mins(4))?;
    script::heal(world)?;
    agree(world)?;
    agreement::traffic_crosses(world)
}

/// A moment at which nothing is on its way may be one between two repetitions of a request.
fn agree(world: &mut World) -> Result<(), String> {
    let mut result = Ok(());
    for _ in 0..4 {
        script::settle(world)?;
        result = agreement::check(world);
        if result.is_ok() {
            break;
        }
    }
    result
}

#[test]
fn both_ends_agree_whatever_happens_on_the_way() {
    let (mut failures, mut tunnels, mut users) = (Vec::new(), 0, 0);
    let mut counters = BTreeMap::<_, u64>::new();
    for seed in seeds(300) {
        let _seed = Seed(seed);
        let mut world = world(seed);
        match run(&mut world) {
            Ok(()) => {
                tunnels += world.standing(0).len();
                users += world.standing(0).iter().filter(|view| view.user.is_some()).count();
            }
            Err(why) => failures.push(format!("BATON_SEED={seed}: at {:.3?}: {why}", world.now)),
        }
        for (name, value) in world.nodes.iter().flat_map(Node::counters) {
            *counters.entry(name).or_default() += value;
        }
    }
    println!("{tunnels} tunnels stood at the end on the first nodes, {users} of users; {counters:?}");
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
    let never: Vec<_> =
        MUST_HAPPEN.iter().filter(|name| counters.get(*name).is_none_or(|n| *n == 0)).collect();
    assert!(users > 0 || std::env::var("BATON_SEED").is_ok(), "no user came in");
    assert!(never.is_empty() || std::env::var("BATON_SEED").is_ok(), "{never:?} never happened");
}

/// What a run of all seeds has to bring about, or it tests less than it says.
const MUST_HAPPEN: [&str; 36] = [
    "activated",
    "dozed",
    "standby_taken",
    "additional_key_exchanges",
    "not_ike",
    "not_authentic",
    "out_of_window",
    "repeated_requests",
    "retransmissions",
    "no_iv",
    "cookies_sent",
    "ike_established",
    "ike_failed",
    "ike_rekeyed",
    "children_rekeyed",
    "children_failed",
    "collisions",
    "unreachable",
    "path_changes",
    "mobike_updates",
    "redirects_sent",
    "redirects_followed",
    "redirects_refused",
    "crashes_detected",
    "crash_tokens_sent",
    "synchronizations",
    "failovers",
    "counter_synchronizations",
    "keep_alives",
    "resumed",
    "resumptions_failed",
    "tickets_issued",
    "puzzles_solved",
    "puzzles_worked",
    "sessions",
    "sessions_timed_out",
];

#[test]
fn rekeying_from_both_ends_leaves_no_gap() {
    for seed in seeds(20) {
        let _seed = Seed(seed);
        let mut random = Random::new(seed);
        let setting = Setting { children: 2, window: 1 + seed as u32 % 4, ..Setting::plain() };
        let mut world = World::new(setting, Faults::NONE, random.fork());
        world.watch = agreement::no_gap;
        world.nodes.iter_mut().for_each(|node| node.trace = std::env::var("BATON_SEED").is_ok());
        let connection = crate::setting::connection_name(1);
        world.command(0, Command::Initiate { connection, child: None }).unwrap();
        world.run_for(Duration::from_secs(1)).unwrap();
        for _ in 0..50 {
            for end in 0..2 {
                let view = world.tunnels(end).remove(0);
                let tunnel = Target::Tunnel(view.name.as_str().to_owned());
                let child = Target::Spi(random.pick(&view.children).unwrap().inbound_spi);
                match random.below(3) {
                    0 => {}
                    1 => world.command(end, Command::RekeyIke(tunnel)).unwrap(),
                    _ => world.command(end, Command::RekeyChild(child)).unwrap(),
                }
                let pause = Duration::from_millis(random.below(12));
                world.run_for(pause).unwrap_or_else(|why| panic!("at {:?}: {why}", world.now));
            }
            let pause = Duration::from_millis(random.below(4000));
            world.run_for(pause).unwrap_or_else(|why| panic!("at {:?}: {why}", world.now));
        }
        script::settle(&mut world).unwrap();
        agreement::check(&world).unwrap();
        assert_eq!(world.standing(0)[0].children.len(), 2);
    }
}

#[test]
fn a_quiet_network_brings_every_tunnel_up() {
    let setting = Setting { nodes: 3, behind_nat: vec![false, true, false], children: 2, ..Setting::plain() };
    let mut world = World::new(setting, Faults::NONE, Random::new(1));
    for node in 1..3 {
        let connection = crate::setting::connection_name(0);
        world.command(node, Command::Initiate { connection, child: None }).unwrap();
    }
    script::settle(&mut world).unwrap();
    agreement::check(&world).unwrap();
    assert_eq!(world.standing(0).iter().map(|view| view.children.len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in seeds(30) {
        let _seed = Seed(seed);
        if !world(seed).setting.is_repeatable() {
            continue;
        }
        let stories = [(); 2].map(|()| {
            let mut world = world(seed);
            let result = run(&mut world);
            (result, world.now, world.history.story())
        });
        assert_eq!(stories[0], stories[1]);
    }
}
