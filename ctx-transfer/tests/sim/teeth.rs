//! With a guard removed, the simulation finds what it guarded.

use std::time::Duration;

use baton_ctx_transfer::cluster::Guards;

use crate::runs::{TROUBLE, run};
use crate::script::Fault;
use crate::setting::id;
use crate::world::{Coming, World};

/// Seeds within which each violation must be found.
const WITHIN: u64 = 1_000;

fn bites(invariant: &str, loosen: impl Fn(&mut World)) {
    let found = (0..WITHIN).find(|seed| {
        let mut world = World::new(*seed, Guards::default());
        world.trace = false;
        loosen(&mut world);
        world.plan_lies(*seed, TROUBLE);
        run(&mut world).is_err_and(|why| why.contains(invariant))
    });
    println!("{invariant}: {found:?}");
    assert!(found.is_some(), "{invariant} is not missed within {WITHIN} seeds");
}

#[test]
fn without_new_epochs_ivs_are_used_twice() {
    bites("I1", |world| world.care.new_epochs = false);
}

#[test]
fn without_waiting_for_standbys_sequence_numbers_are_used_twice() {
    bites("I2", |world| world.guards.wait_for_standbys = false);
}

#[test]
fn without_waiting_for_standbys_packets_are_accepted_twice() {
    bites("I3", |world| world.guards.wait_for_standbys = false);
}

#[test]
fn without_telling_the_voters_a_stale_standby_goes_on() {
    bites("I2", |world| world.guards.tell_voters = false);
}

#[test]
fn without_promises_two_nodes_own_a_segment() {
    bites("I4", |world| world.guards.promises = false);
}

#[test]
fn without_a_pause_after_its_start_a_voter_forgets_what_it_promised() {
    bites("I4", |world| {
        world.guards.voters_pause = false;
        // The nodes lose sight of each other, and their witness starts again and again.
        for moment in 0..8 {
            let at = Duration::from_millis(150 + 60 * moment);
            world.later(at, Coming::Fault(Fault::Cut(id(1), id(2))));
            world.later(at + Duration::from_millis(35), Coming::Fault(Fault::CrashDaemon(id(200))));
        }
    });
}

#[test]
fn without_complete_contexts_a_takeover_loses_tunnels() {
    bites("I6", |world| {
        world.guards.complete_first = false;
        // A standby comes back, slowly, and the owner dies.
        for moment in 0..3 {
            let start = Duration::from_millis(200 + 220 * moment);
            world.later(start, Coming::Fault(Fault::CrashHost(id(2))));
            for slow in 1..12 {
                let at = start + Duration::from_millis(10 * slow);
                world.later(at, Coming::Fault(Fault::Slow(id(2))));
            }
            let end = start + Duration::from_millis(120);
            world.later(end, Coming::Fault(Fault::CrashHost(id(1))));
        }
    });
}

#[test]
fn without_doubts_a_witness_sweeps_tunnels_away() {
    bites("I6", |world| world.guards.owners_only = false);
}

#[test]
fn without_a_freeze_a_planned_move_goes_back_in_time() {
    bites("I2", |world| world.guards.freeze_first = false);
}

#[test]
fn without_counters_out_of_reach_a_stale_takeover_goes_back_in_time() {
    bites("I2", |world| world.care.advances = false);
}

#[test]
fn without_waiting_for_final_counters_a_planned_move_goes_back_in_time() {
    bites("I2", |world| world.guards.prepare_first = false);
}
