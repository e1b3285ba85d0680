//! Two nodes and a witness, each with its daemons in namespaces of their own: who owns what, and who takes over.

mod support;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use baton_lab::gateway::write_secret;
use baton_lab::site::{SEGMENT, SPI_TO_A, Site};
use baton_lab::topology::wire;
use baton_lab::{Gateway, GatewaySpec, Namespace, Process, requirements};
use rustix::process::Signal;
use serde_json::Value;
use support::{OuterTaps, Traffic, eventually, sequences};

/// How long a daemon may take to start here.
const START: Duration = Duration::from_secs(30);
const FAST: Duration = Duration::from_millis(1);
/// Node ids of B, B2 and the witness.
const B: u8 = 2;
const B2: u8 = 3;
const WITNESS: u8 = 9;

/// Patience for machines with few cores; the defaults are for others.
const CLUSTER: &str = "
[cluster]
interval_milliseconds = 40
missed = 4
settle_milliseconds = 300
reserve_milliseconds = 100
";

fn members(witness: bool) -> String {
    let mut text = CLUSTER.to_owned();
    for (id, role) in [(B, "node"), (B2, "node"), (WITNESS, "witness")] {
        if id != WITNESS || witness {
            let _ = write!(
                text,
                "[[cluster.member]]\nid = {id}\naddress = \"192.0.2.{id}\"\nrole = \"{role}\"\n"
            );
        }
    }
    text
}

/// The cast: a site whose B and B2 are one cluster, with a network between them.
struct Stage {
    nodes: [Option<Process>; 2],
    witness: Option<Process>,
    site: Site,
    sync: Namespace,
    voter: Namespace,
    witness_config: PathBuf,
}

impl Stage {
    fn build(witness: bool) -> Self {
        let mut site = support::stopped_site_as(baton_lab::shape::Shape::DEFAULT);
        let sync = site.lab.namespace("sync").expect("a namespace");
        let voter = site.lab.namespace("voter").expect("a namespace");
        sync.ip("link add hub type bridge\nlink set hub up").expect("a bridge");
        for (namespace, id) in [(&site.topology.b, B), (&site.topology.b2, B2), (&voter, WITNESS)] {
            wire(namespace, "sync0", &sync, &format!("to{id}")).expect("a wire");
            sync.ip(&format!("link set to{id} master hub\nlink set to{id} up")).expect("plugged in");
            namespace.ip(&format!("link set sync0 up\naddress add 192.0.2.{id}/24 dev sync0")).expect("up");
        }
        let clustered = |gateway: &Gateway, tunnels| GatewaySpec {
            owned: "\"none\"".to_owned(),
            ike: members(witness),
            tunnels,
            ..gateway.spec().clone()
        };
        let keyed = site.b.spec().tunnels.clone();
        let waiting = site.b2.spec().tunnels.clone();
        site.b = Gateway::new(&site.lab, &site.topology.b, clustered(&site.b, keyed)).expect("b");
        site.b2 = Gateway::new(&site.lab, &site.topology.b2, clustered(&site.b2, waiting)).expect("b2");
        let folder = site.lab.path().join("witness");
        std::fs::create_dir_all(folder.join("run")).expect("a folder");
        let witness_config = folder.join("baton.toml");
        let text = format!(
            "[node]\nid = {WITNESS}\ncluster = \"lab\"\nruntime_directory = \"{}/run\"\n{}",
            folder.display(),
            members(true)
        );
        write_secret(&witness_config, &text).expect("written");
        let stage = Self { nodes: [None, None], witness: None, site, sync, voter, witness_config };
        stage.make_certificates(witness);
        stage
    }

    /// As an operator does it: begin on one machine, invite the others.
    fn make_certificates(&self, witness: bool) {
        let Site { b, b2, .. } = &self.site;
        b.dpctl(&["cluster", "init"]).expect("begun");
        let invitation = |id: u8| b.dpctl(&["cluster", "invite", &id.to_string()]).expect("invited");
        let refused = b2.dpctl_output(&["cluster", "join", "-"], invitation(B).as_bytes()).expect("runs");
        assert_eq!(refused.status.code(), Some(5), "an invitation for another member");
        let joined = b2.dpctl_output(&["cluster", "join", "-"], invitation(B2).as_bytes()).expect("runs");
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
        if witness {
            let path = self.site.lab.path().join("invitation");
            write_secret(&path, &invitation(WITNESS)).expect("written");
            let mut dpctl = Command::new(requirements::binary("dpctl"));
            dpctl.arg("--config").arg(&self.witness_config).args(["cluster", "join"]).arg(&path);
            assert!(dpctl.status().expect("runs").success());
        }
    }

    fn gateway(&self, index: usize) -> &Gateway {
        if index == 0 { &self.site.b } else { &self.site.b2 }
    }

    fn start_cluster_daemon(&mut self, index: usize) {
        let gateway = self.gateway(index);
        let mut command = gateway.namespace().command(&binary());
        command.arg("--config").arg(gateway.config());
        let name = format!("cluster-{index}");
        let mut process = self.site.lab.start(&name, command).expect("started");
        process.wait_for_line("ready", START, |line| line.contains("ready")).expect("ready");
        self.nodes[index] = Some(process);
    }

    fn start_witness(&mut self) {
        let mut command = self.voter.command(&binary());
        command.arg("--witness").arg("--config").arg(&self.witness_config);
        let mut process = self.site.lab.start("witness", command).expect("started");
        process.wait_for_line("ready", START, |line| line.contains("ready")).expect("ready");
        self.witness = Some(process);
    }

    fn start(&mut self, witness: bool) {
        self.site.start().expect("gateways");
        self.start_cluster_daemon(0);
        self.start_cluster_daemon(1);
        if witness {
            self.start_witness();
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
        eventually("each node owns half", || self.owned(0).len() == 128 && self.owned(1).len() == 128);
        for index in 0..2 {
            eventually("the standby has everything", || {
                let members = self.status(index)["members"].clone();
                let members = members.as_array().expect("a list").clone();
                members.iter().any(|member| member["standby"]["state"] == "synced")
            });
        }
    }

    /// As if the machine had lost its power.
    fn kill_node(&mut self, index: usize) {
        self.nodes[index] = None;
        if index == 0 { self.site.b.kill() } else { self.site.b2.kill() }
    }

    fn set_sync(&self, id: u8, state: &str) {
        self.sync.ip(&format!("link set to{id} {state}")).expect("set");
    }
}

fn binary() -> String {
    requirements::binary("baton-cluster").display().to_string()
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
    let id = if owner == 0 { B } else { B2 };
    stage.set_sync(id, "down");
    eventually("the other takes all", || stage.owned(1 - owner).len() == 256);
    assert!(stage.owned(owner).is_empty(), "no majority, no segment (I4)");
    traffic.flows(200);
    stage.set_sync(id, "up");
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
    let mut stopping = stage.nodes[0].take().expect("it runs");
    stopping.signal(Signal::TERM);
    let ended = stopping.wait(START).expect("it ends");
    assert!(ended.success(), "{}", stopping.log());
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
