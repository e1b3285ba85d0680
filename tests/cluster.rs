//! Two nodes and a witness, each with its daemons in namespaces of their own: who owns what, and who takes over.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use baton_lab::site::{SEGMENT, SPI_TO_A, Site};
use baton_lab::{ClusterSpec, Gateway, Members, members, requirements};
use serde_json::Value;
use support::{OuterTaps, Traffic, eventually, sequences};

const FAST: Duration = Duration::from_millis(1);
/// The cast: a site whose B and B2 are one cluster, with a network between them.
struct Stage {
    members: Members,
    site: Site,
}

impl Stage {
    fn build(witness: bool) -> Self {
        let mut site = support::stopped_site_as(baton_lab::shape::Shape::DEFAULT);
        let spec = ClusterSpec { witness, ..ClusterSpec::patient([2, 3]) };
        let member = |gateway: &Gateway| spec.gateway(&site.lab, gateway).expect("a member");
        let gateways = [member(&site.b), member(&site.b2)];
        [site.b, site.b2] = gateways;
        let members = Members::build(&site.lab, &spec, [&site.b, &site.b2]).expect("a cluster");
        Self { members, site }
    }

    fn gateway(&self, index: usize) -> &Gateway {
        if index == 0 { &self.site.b } else { &self.site.b2 }
    }

    fn start_cluster_daemon(&mut self, index: usize) {
        let gateway = if index == 0 { &self.site.b } else { &self.site.b2 };
        self.members.start(&self.site.lab, index, gateway).expect("started");
    }

    fn start(&mut self, witness: bool) {
        self.site.start().expect("gateways");
        self.start_cluster_daemon(0);
        self.start_cluster_daemon(1);
        if witness {
            self.members.start_witness(&self.site.lab).expect("a witness");
        }
    }

    fn status(&self, index: usize) -> Value {
        self.gateway(index).dpctl_json(&["cluster", "status"]).expect("a status")
    }

    fn owned(&self, index: usize) -> Vec<u64> {
        numbers(&self.status(index)["owned"])
    }

    /// The node that owns the tunnel's segment.
    fn owner(&self) -> Option<usize> {
        (0..2).find(|index| self.owned(*index).contains(&u64::from(SEGMENT)))
    }

    /// Waits until both have their half, and each holds what the other has.
    fn settle(&self) {
        let gateways = [&self.site.b, &self.site.b2];
        eventually("each node owns half, and has all of the other's", || members::is_settled(gateways));
    }

    /// As if the machine had lost its power.
    fn kill_node(&mut self, index: usize) {
        let Site { b, b2, .. } = &mut self.site;
        self.members.kill_node(index, if index == 0 { b } else { b2 });
    }
}

/// Who has failed wants to know what happened.
impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for index in 0..2 {
                println!("node {index}:\n{}\n{}", self.gateway(index).log(), self.members.log(index));
            }
        }
    }
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

fn assert_no_sequence_twice(taps: OuterTaps) {
    let [_, b, b2] = taps.finish();
    let mut sent = [sequences(&b, SPI_TO_A), sequences(&b2, SPI_TO_A)].concat();
    let all = sent.len();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), all, "a sequence number was sent twice");
    assert!(all > 100, "too little traffic to say anything: {all}");
}

#[test]
fn a_node_that_dies_is_taken_over_and_comes_back() {
    if !support::can_run("a_node_that_dies_is_taken_over_and_comes_back") {
        return;
    }
    let mut stage = Stage::build(true);
    stage.start(true);
    stage.settle();
    let taps = OuterTaps::start(&stage.site);
    let traffic = Traffic::start(&stage.site, FAST);
    traffic.flows(200);
    let owner = stage.owner().expect("an owner");
    let other = 1 - owner;
    let killed = Instant::now();
    stage.kill_node(owner);
    eventually("the other takes all", || stage.owned(other).len() == 256);
    println!(
        "all segments were the other's {} ms after the kill, as dpctl sees it",
        killed.elapsed().as_millis()
    );
    traffic.flows(200);
    let status = stage.status(other);
    assert_eq!(status["last_took"]["cause"], "takeover", "{status}");
    assert_eq!(status["rule"], "majority");
    // It comes back, is filled, and gets its half again by planned moves under traffic.
    let Site { lab, b, b2, .. } = &mut stage.site;
    if owner == 0 { b.start(lab) } else { b2.start(lab) }.expect("it starts again");
    stage.start_cluster_daemon(owner);
    stage.settle();
    traffic.flows(200);
    assert_no_sequence_twice(taps);
}

#[test]
fn a_node_that_is_cut_off_lets_go_before_the_other_takes() {
    if !support::can_run("a_node_that_is_cut_off_lets_go_before_the_other_takes") {
        return;
    }
    let mut stage = Stage::build(true);
    stage.start(true);
    stage.settle();
    let taps = OuterTaps::start(&stage.site);
    let traffic = Traffic::start(&stage.site, FAST);
    traffic.flows(200);
    let owner = stage.owner().expect("an owner");
    stage.members.set_link(owner, "down").expect("a link");
    eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
    assert!(stage.owned(owner).is_empty(), "no majority, no segment (I4)");
    traffic.flows(200);
    stage.members.set_link(owner, "up").expect("a link");
    stage.settle();
    traffic.flows(200);
    assert_no_sequence_twice(taps);
}

#[test]
fn a_pair_without_a_witness_goes_on_and_says_what_that_means() {
    if !support::can_run("a_pair_without_a_witness_goes_on_and_says_what_that_means") {
        return;
    }
    let mut stage = Stage::build(false);
    stage.start(false);
    stage.settle();
    let status = stage.status(0);
    assert_eq!(status["rule"], "pair-without-witness");
    let notes = status["notes"].to_string();
    assert!(notes.contains("without a witness"), "{notes}");
    let traffic = Traffic::start(&stage.site, FAST);
    traffic.flows(100);
    let owner = stage.owner().expect("an owner");
    stage.kill_node(owner);
    eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
    traffic.flows(100);
}

#[test]
fn a_daemon_that_is_told_to_stop_gives_its_segments_to_the_other_first() {
    if !support::can_run("a_daemon_that_is_told_to_stop_gives_its_segments_to_the_other_first") {
        return;
    }
    let mut stage = Stage::build(true);
    stage.start(true);
    stage.settle();
    stage.members.stop(0).expect("it ends well");
    eventually("the other has all", || stage.owned(1).len() == 256);
    let text = stage.site.b2.dpctl(&["cluster", "metrics"]).expect("metrics");
    assert!(text.contains("baton_cluster_segments_owned 256\n"), "{text}");
}

#[test]
fn what_cannot_be_a_member_is_refused_with_a_sentence() {
    if !support::can_run("what_cannot_be_a_member_is_refused_with_a_sentence") {
        return;
    }
    let stage = Stage::build(true);
    let gateway = stage.gateway(0);
    let run = |arguments: &[&str]| {
        let output = Command::new(requirements::binary("baton-cluster"))
            .arg("--config")
            .arg(gateway.config())
            .args(arguments)
            .output()
            .expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["--check"]).0, Some(0));
    let invitation = gateway.dpctl(&["cluster", "invite", "2"]).expect("invited");
    let refused = stage.site.b2.dpctl_output(&["cluster", "join", "-"], invitation.as_bytes()).expect("runs");
    assert_eq!(refused.status.code(), Some(5), "an invitation for another member");
    let (code, said) = run(&["--check", "--witness"]);
    assert!(code == Some(7) && said.contains("leave --witness out"), "{said}");
    let certificates = gateway.config().with_file_name("cluster");
    std::fs::copy(
        stage.site.b2.config().with_file_name("cluster/member.pem"),
        certificates.join("member.pem"),
    )
    .expect("copied");
    let (code, said) = run(&["--check"]);
    assert!(code == Some(7) && said.contains("do not belong together"), "{said}");
    std::fs::remove_file(certificates.join("member.pem")).expect("removed");
    let (code, said) = run(&["--check"]);
    assert!(code == Some(7) && said.contains("dpctl cluster init"), "{said}");
    let output = gateway.dpctl_output(&["cluster", "status"], &[]).expect("runs");
    assert_eq!(output.status.code(), Some(4), "no daemon runs");
}
