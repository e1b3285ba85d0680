//! No tunnel is lost when nodes die, as long as their standbys have what their peers have heard of (I6).

use std::time::Duration;

use baton_ike_proto::Command;
use baton_ike_proto::host::Target;

use crate::agreement;
use crate::network::Faults;
use crate::node::Node;
use crate::random::Random;
use crate::runs::{Seed, seeds};
use crate::script;
use crate::setting::{SYNCHRONIZES, Setting, connection_name};
use crate::world::World;

fn setting(seed: u64, random: &mut Random) -> Setting {
    Setting {
        nodes: 3,
        behind_nat: vec![false, random.per_mille(500), false],
        children: 2,
        window: 1 + seed as u32 % 4,
        synchronizes: *random.pick(&SYNCHRONIZES).expect("some"),
        standbys: true,
        ..Setting::plain()
    }
}

/// What a node's counter of that name says, and those of all others.
fn total(world: &World, name: &str) -> u64 {
    world.nodes.iter().filter_map(|node| Node::counters(node).get(name).copied()).sum()
}

fn names(world: &World) -> Vec<Vec<String>> {
    let of = |at| world.standing(at).iter().map(|view| view.name.to_string()).collect();
    (0..world.nodes.len()).map(of).collect()
}

fn play(world: &mut World, random: &mut Random) -> Result<(), String> {
    for _ in 0..60 {
        let at = random.below(3) as usize;
        if let Some(view) = random.pick(&world.standing(at)).cloned() {
            let child = random.pick(&view.children).map(|child| child.inbound_spi);
            match (random.below(3), child) {
                (0, _) => world.command(at, Command::RekeyIke(Target::Tunnel(view.name.to_string())))?,
                (1, Some(child)) => world.command(at, Command::RekeyChild(Target::Spi(child)))?,
                _ => {}
            }
        }
        let node = &mut world.nodes[random.below(3) as usize];
        if random.per_mille(200) {
            node.hand_over(world.now)?;
        } else if random.per_mille(500) {
            node.fuse = Some(random.below(10));
        }
        world.run_for(Duration::from_millis(random.below(4000)))?;
    }
    script::heal(world)?;
    script::settle(world)
}

#[test]
fn takeovers_lose_no_tunnel_and_nobody_authenticates_again() {
    let (mut failures, mut takeovers) = (Vec::new(), 0);
    for seed in seeds(100) {
        let _seed = Seed(seed);
        let mut random = Random::new(seed);
        let mut world = World::new(setting(seed, &mut random), Faults::NONE, random.fork());
        for node in &mut world.nodes {
            (node.taken_over, node.trace) = (1000, std::env::var("BATON_SEED").is_ok());
        }
        for at in 1..3 {
            let connection = connection_name(0);
            world.command(at, Command::Initiate { connection, child: None }).unwrap();
        }
        script::settle(&mut world).unwrap();
        let before = (names(&world), total(&world, "ike_established"));
        assert_eq!(before.1, 4);
        world.network.faults = Faults {
            lost: random.below(150),
            doubled: random.below(150),
            replayed: random.below(100),
            delay: Duration::from_millis(10 + random.below(200)),
            ..Faults::NONE
        };
        let result = play(&mut world, &mut random)
            .and_then(|()| agreement::check(&world))
            .and_then(|()| agreement::traffic_crosses(&mut world));
        let after = (names(&world), total(&world, "ike_established"));
        if result.is_err() || before != after || total(&world, "unreachable") > 0 {
            failures
                .push(format!("BATON_SEED={seed}: at {:.3?}: {result:?} {before:?} {after:?}", world.now));
        }
        takeovers += total(&world, "activated");
    }
    println!("{takeovers} tunnels were gone on with");
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
    assert!(takeovers > 100 || std::env::var("BATON_SEED").is_ok());
}
