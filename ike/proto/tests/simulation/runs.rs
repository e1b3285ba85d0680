//! Many seeds.

use std::ops::Range;
use std::time::Duration;

use crate::network::Faults;
use crate::random::Random;
use crate::setting::Setting;
use crate::world::World;
use crate::{agreement, script};

/// Says which seed it was, however the run ends.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BATON_SEED={}", self.0);
        }
    }
}

fn seeds(usual: u64) -> Range<u64> {
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
    script::heal(world);
    script::settle(world)?;
    agreement::check(world)
}

#[test]
fn both_ends_agree_whatever_happens_on_the_way() {
    let (mut failures, mut tunnels) = (Vec::new(), 0);
    for seed in seeds(300) {
        let _seed = Seed(seed);
        let mut world = world(seed);
        match run(&mut world) {
            Ok(()) => tunnels += world.standing(0).len(),
            Err(why) => failures.push(format!("BATON_SEED={seed}: at {:.3?}: {why}", world.now)),
        }
    }
    println!("{tunnels} tunnels stood at the end on the first nodes");
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_quiet_network_brings_every_tunnel_up() {
    let setting = Setting { nodes: 3, behind_nat: vec![false, true, false], children: 2, ..Setting::plain() };
    let mut world = World::new(setting, Faults::NONE, Random::new(1));
    for node in 1..3 {
        let connection = crate::setting::connection_name(0);
        world.command(node, baton_ike_proto::Command::Initiate { connection, child: None }).unwrap();
    }
    script::settle(&mut world).unwrap();
    agreement::check(&world).unwrap();
    assert_eq!(world.standing(0).iter().map(|view| view.children.len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in seeds(10) {
        let _seed = Seed(seed);
        let stories = [(); 2].map(|()| {
            let mut world = world(seed);
            let result = run(&mut world);
            (result, world.now, world.history.story())
        });
        assert_eq!(stories[0], stories[1]);
    }
}
