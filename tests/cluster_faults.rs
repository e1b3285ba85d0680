//! What goes wrong without anybody dying: daemons that stand still, a disk that takes nothing. A tunnel of a peer that
//! knows nothing of clusters goes on, IKE too, and the operator is told.

#[path = "cluster/stage.rs"]
mod stage;
mod support;
#[path = "cluster/watch.rs"]
mod watch;

use std::time::{Duration, Instant};

use baton_lab::members;
use baton_lab::negotiation::CHILD;
use stage::{Failure, Setting, Stage, can_run};
use support::eventually;
use watch::Watch;

const ANSWERS: u64 = 100;

fn alarms(stage: &Stage, index: usize) -> String {
    members::status(stage.gateways()[index])["alarms"].to_string()
}

fn late(stage: &Stage, index: usize) -> u64 {
    members::status(stage.gateways()[index])["totals"]["late"].as_u64().expect("a number")
}

/// The client asks for new keys, and has them.
fn rekey(stage: &Stage) -> Duration {
    let (charon, asked) = (&stage.site.charon, Instant::now());
    let inbound = || charon.sas().expect("SAs")[0].children.iter().map(|child| child.inbound_spi).collect();
    let before: Vec<u32> = inbound();
    charon.rekey_child(CHILD).unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    eventually("new keys", || inbound().iter().any(|spi| !before.contains(spi)));
    asked.elapsed()
}

/// Its IKE daemon takes no contexts; its cluster daemon is heard, and says so to nobody.
#[test]
fn a_standby_that_takes_nothing_delays_ike_and_never_stops_it() {
    if !can_run("a_standby_that_takes_nothing_delays_ike_and_never_stops_it") {
        return;
    }
    let mut stage = Stage::start(Setting::plain());
    let watch = Watch::start(&stage);
    let owner = stage.owner();
    let (before, is_stale) =
        (late(&stage, owner), |stage: &Stage| alarms(stage, owner).contains("did not follow"));
    assert!(!is_stale(&stage));
    stage.pause_ike(1 - owner, true);
    println!("new keys {:?} after the client asked", rekey(&stage));
    assert!(late(&stage, owner) > before, "it was waited for");
    assert!(is_stale(&stage), "{}", alarms(&stage, owner));
    watch.flows(ANSWERS, "beside a standby that takes nothing", &stage);
    let waited = late(&stage, owner);
    rekey(&stage);
    assert_eq!(late(&stage, owner), waited, "nobody waits for a standby that is known to be behind");
    stage.pause_ike(1 - owner, false);
    eventually("the standby follows again", || !is_stale(&stage));
    stage.settle();
    // Voters hear of it by the next heartbeat.
    watch.flows(ANSWERS, "beside a standby that follows", &stage);
    stage.fail(Failure::Node, owner);
    eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
    let status = members::status(stage.gateways()[1 - owner]);
    assert_eq!(status["last_took"]["cause"], "takeover", "{status}");
    watch.flows(ANSWERS, "after its takeover", &stage);
    watch.judge_packets(2 * ANSWERS as usize, 2);
}

/// I4: it wakes up to leases that have ended, and takes nothing back by itself.
#[test]
fn a_cluster_daemon_that_stood_still_is_taken_over_and_lets_go() {
    if !can_run("a_cluster_daemon_that_stood_still_is_taken_over_and_lets_go") {
        return;
    }
    let mut stage = Stage::start(Setting::plain());
    let watch = Watch::start(&stage);
    for _ in 0..3 {
        let owner = stage.owner();
        stage.members.pause(owner, true);
        eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
        watch.flows(ANSWERS, "beside a daemon that stands still", &stage);
        stage.members.pause(owner, false);
        stage.settle();
        watch.flows(ANSWERS, "after it went on", &stage);
    }
    watch.judge(&stage, 6 * ANSWERS as usize, 1);
}

/// A voter that could not write down what it promised goes by no older memory (I2).
#[test]
fn a_node_that_can_write_nothing_goes_on_and_comes_back_carefully() {
    if !can_run("a_node_that_can_write_nothing_goes_on_and_comes_back_carefully") {
        return;
    }
    let mut stage = Stage::start(Setting::plain());
    let watch = Watch::start(&stage);
    for index in 0..2 {
        let runtime = stage.gateways()[index].runtime_directory();
        // Where the next memory would be written.
        std::fs::create_dir(runtime.join("cluster/votes.new")).expect("in the way");
    }
    for _ in 0..2 {
        let owner = stage.owner();
        stage.fail(Failure::Cluster, owner);
        eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
        watch.flows(ANSWERS, "after the loss of a daemon", &stage);
        let log = stage.members.log(1 - owner);
        assert!(log.contains("votes are not remembered"), "{log}");
        stage.mend(Failure::Cluster, owner);
        stage.settle();
        watch.flows(ANSWERS, "after its return", &stage);
    }
    watch.judge(&stage, 4 * ANSWERS as usize, 1);
}
