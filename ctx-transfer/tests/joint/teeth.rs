//! With a guard removed, the simulation finds what it guarded.

use baton_ctx_transfer::cluster::Guards;

use crate::runs::run;
use crate::world::World;

/// Seeds within which each violation must be found.
const WITHIN: u64 = 100;

fn bites(what: &str, loosen: impl Fn(&mut World)) {
    let found = (0..WITHIN).find(|seed| {
        let mut world = World::new(*seed, Guards::default());
        world.trace = false;
        loosen(&mut world);
        run(&mut world).is_err_and(|why| why.contains(what))
    });
    println!("{what}: {found:?}");
    assert!(found.is_some(), "{what} is not missed within {WITHIN} seeds");
}

#[test]
fn without_replicating_first_peers_know_what_the_standby_does_not() {
    bites("I6", |world| world.judge.replicates_first = false);
}

#[test]
fn without_waiting_for_standbys_sequence_numbers_are_sent_twice() {
    bites("I2", |world| world.guards.wait_for_standbys = false);
}
