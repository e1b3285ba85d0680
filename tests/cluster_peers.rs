//! Gateways that are one to a peer that knows nothing of clusters: strongSwan downloads a file through them while one
//! after the other fails, comes back and gets its segments again.

#[path = "cluster/kills.rs"]
mod kills;
#[path = "cluster/stage.rs"]
mod stage;
mod support;
#[path = "cluster/watch.rs"]
mod watch;

use std::time::{Duration, Instant};

use baton_lab::content::Content;
use baton_lab::http::{Download, FileServer};
use baton_lab::members;
use baton_lab::negotiation::CHILD;
use kills::Kills;
use stage::{Failure, Setting, Stage, can_run};
use support::{count, counter, eventually};
use watch::{Pauses, Watch};

/// Octets of the file.
const FILE: usize = 100_000_000;
/// Of one that nothing else runs beside.
const ALONE: usize = 20_000_000;
const SEED: u64 = 56;
/// Mbit/s of the server while gateways fail: slow enough that the download lasts longer than that.
const SLOW: u32 = 16;
/// What has to come through before a failure counts as survived.
const ENOUGH: u64 = 500_000;

/// Waits until the download has come further.
fn goes_on(download: &Download, stage: &Stage, what: &str) {
    let wanted = download.received() + ENOUGH;
    let deadline = Instant::now() + support::PATIENCE;
    while download.received() < wanted {
        let is_alive = Instant::now() < deadline && !download.is_finished();
        assert!(is_alive, "{what}: {} of {FILE} octets\n{}", download.received(), stage.logs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One failure of who owns the tunnel, the other's work meanwhile, and the return.
fn survive(stage: &mut Stage, download: &Download, pauses: &Pauses, failure: Failure) {
    let owner = stage.owner();
    pauses.take();
    stage.fail(failure, owner);
    if failure.is_taken_over() {
        eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
    }
    goes_on(download, stage, &format!("after the loss ({failure:?})"));
    assert_it_says_so(stage, failure, owner);
    let taken = pauses.take();
    stage.mend(failure, owner);
    stage.settle();
    goes_on(download, stage, &format!("after the return ({failure:?})"));
    println!("{failure:?}: the download paused for {taken:?} at the loss, {:?} at the return", pauses.take());
}

/// A node that has lost a link owns nothing, and tells its operator why.
fn assert_it_says_so(stage: &Stage, failure: Failure, index: usize) {
    let side = match failure {
        Failure::OuterLink => "outer",
        Failure::InnerLink => "inner",
        _ => return,
    };
    let status = members::status(stage.gateways()[index]);
    assert_eq!(status["owned"], serde_json::json!([]), "{status}");
    assert_eq!(status["no_link"], serde_json::json!([side]), "{status}");
    let alarm = format!("the {side} interface has no link");
    assert!(status["alarms"].to_string().contains(&alarm), "{status}");
}

/// A download lasts through all of these failures.
fn download_through(setting: Setting, failures: &[Failure]) {
    let mut stage = Stage::start(setting);
    let watch = Watch::start(&stage);
    let size = count(FILE, 10 * FILE);
    stage.site.topology.limit_server(SLOW).expect("a rate");
    let server = FileServer::start(&stage.site.topology.server, stage.server(80), SEED, size as u64)
        .expect("a server");
    let download = Download::start(&stage.site.topology.client, server.address()).expect("a download");
    let pauses = Pauses::default();
    std::thread::scope(|scope| {
        scope.spawn(|| pauses.watch(&download));
        goes_on(&download, &stage, "at first");
        for failure in failures {
            survive(&mut stage, &download, &pauses, *failure);
        }
        stage.site.topology.limit_server(baton_lab::peer_site::RATE).expect("a rate");
    });
    let downloaded = download.finish().unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    assert_eq!(downloaded.sha256, Content::new(SEED, size as u64).sha256());
    println!("{size} octets in {:?}", downloaded.duration);
    watch.judge(&stage, size / 1500, 2);
}

#[test]
fn a_download_survives_its_gateway_and_the_return_of_it_twice() {
    if can_run("a_download_survives_its_gateway_and_the_return_of_it_twice") {
        download_through(Setting::plain(), &[Failure::Node, Failure::Node]);
    }
}

#[test]
fn a_download_survives_each_daemon_and_the_link_between_the_members() {
    if can_run("a_download_survives_each_daemon_and_the_link_between_the_members") {
        let failures =
            [Failure::DataPlane, Failure::Ike, Failure::Cluster, Failure::Gateway, Failure::SyncLink];
        download_through(Setting::plain(), &failures);
    }
}

#[test]
fn a_download_survives_the_loss_of_either_side_s_link() {
    if can_run("a_download_survives_the_loss_of_either_side_s_link") {
        download_through(Setting::plain(), &[Failure::OuterLink, Failure::InnerLink]);
    }
}

#[test]
fn a_download_in_ipv6_survives_its_gateway_and_the_return_of_it_twice() {
    if can_run("a_download_in_ipv6_survives_its_gateway_and_the_return_of_it_twice") {
        download_through(Setting::plain().of_ipv6(), &[Failure::Node, Failure::Node]);
    }
}

/// A download with nothing beside it: its client only acknowledges what it gets, and is not heard until its numbers are
/// past what was reserved of them (I3). It has to be heard soon all the same.
fn download_alone(answers_echo: bool) {
    let mut stage = Stage::start(Setting::plain());
    let topology = &stage.site.topology;
    if !answers_echo {
        topology.client.set("net/ipv4/icmp_echo_ignore_all", "1").expect("no replies");
    }
    topology.limit_server(SLOW).expect("a rate");
    let server = FileServer::start(&topology.server, stage.server(80), SEED, ALONE as u64).expect("a server");
    let download = Download::start(&topology.client, server.address()).expect("a download");
    goes_on(&download, &stage, "at first");
    std::thread::sleep(Duration::from_secs(1));
    let (owner, before) = (stage.owner(), stage.site.charon.sas().expect("SAs"));
    stage.fail(Failure::Node, owner);
    eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
    let taken = Instant::now();
    goes_on(&download, &stage, "after the loss");
    println!("replies {answers_echo}: {ENOUGH} octets more {:?} after the takeover", taken.elapsed());
    assert!(taken.elapsed() < Duration::from_secs(8), "{:?}", taken.elapsed());
    let survivor = stage.gateways()[1 - owner];
    assert!(counter(survivor, "reservation-floor") > 0, "the floor has refused something");
    assert!(counter(survivor, "floor-solicited") > 0);
    assert_eq!(counter(survivor, "floor-rekeys"), u64::from(!answers_echo));
    stage.site.topology.limit_server(baton_lab::peer_site::RATE).expect("a rate");
    let downloaded = download.finish().unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    assert_eq!(downloaded.sha256, Content::new(SEED, ALONE as u64).sha256());
    let log = stage.site.charon.log();
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("generating IKE_AUTH request"), 1, "{log}");
    assert_eq!(count("parsed CREATE_CHILD_SA request"), usize::from(!answers_echo), "{log}");
    assert_eq!(stage.site.charon.sas().expect("SAs")[0].spis, before[0].spis, "the same IKE SA");
}

#[test]
fn a_download_alone_is_heard_after_a_takeover_without_new_keys() {
    if can_run("a_download_alone_is_heard_after_a_takeover_without_new_keys") {
        download_alone(true);
    }
}

#[test]
fn a_download_alone_of_a_client_that_answers_no_echo_needs_new_keys_once() {
    if can_run("a_download_alone_of_a_client_that_answers_no_echo_needs_new_keys_once") {
        download_alone(false);
    }
}

/// Both go on when they do not hear each other; when they do again, one lets go, and no tunnel is lost.
#[test]
fn a_pair_without_a_witness_loses_no_tunnel_to_a_failure_or_a_partition() {
    if !can_run("a_pair_without_a_witness_loses_no_tunnel_to_a_failure_or_a_partition") {
        return;
    }
    let mut stage = Stage::start(Setting::plain().without_witness());
    let watch = Watch::start(&stage);
    let owner = stage.owner();
    stage.fail(Failure::Node, owner);
    eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
    watch.flows(200, "after the loss", &stage);
    stage.mend(Failure::Node, owner);
    stage.settle();
    watch.flows(200, "after the return", &stage);
    watch.judge(&stage, 400, 2);
    stage.fail(Failure::SyncLink, 0);
    eventually("both own everything", || (0..2).all(|index| stage.owned(index).len() == 256));
    std::thread::sleep(Duration::from_secs(1));
    stage.mend(Failure::SyncLink, 0);
    stage.settle();
    let healed = Watch::start(&stage);
    healed.flows(200, "after the partition", &stage);
    let charon = &stage.site.charon;
    let before = charon.sas().expect("SAs");
    charon.rekey_child(CHILD).unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    eventually("new keys", || {
        let sas = charon.sas().expect("SAs");
        sas.len() == 1
            && sas[0].children.iter().any(|child| child.inbound_spi != before[0].children[0].inbound_spi)
    });
    healed.flows(200, "with new keys", &stage);
    assert_eq!(charon.sas().expect("SAs")[0].spis, before[0].spis, "the same IKE SA");
}

#[test]
fn a_tunnel_survives_whatever_is_killed_at_whatever_moment() {
    if !can_run("a_tunnel_survives_whatever_is_killed_at_whatever_moment") {
        return;
    }
    let mut stage = Stage::start(Setting::plain());
    let watch = Watch::start(&stage);
    let mut kills = Kills::new();
    for round in 0..count(10, 1000) {
        kills.next(&mut stage, &watch, round);
    }
    stage.settle();
    println!("{} rounds after a takeover by a node that knew too little", kills.stale);
    if kills.stale == 0 {
        watch.judge(&stage, 1000, 1);
    } else {
        // Keys are replaced then, and nothing else.
        watch.judge_but_for_keys(&stage, 1000, 1);
    }
    // Nor has either daemon lost the thread of IKE.
    stage.site.charon.rekey_child(CHILD).unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
}
