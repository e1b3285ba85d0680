//! Nodes of a cluster as hosts of their own on one link: how frames for the addresses that they share come to the owner
//! of a tunnel, before, during and after the death of either of them.

#[path = "cluster/stage.rs"]
mod stage;
mod support;
#[path = "cluster/watch.rs"]
mod watch;

use std::net::UdpSocket;
use std::process::Command;

use baton_lab::members;
use baton_lab::topology::{B_OUTER, B_OUTER6};
use stage::{Failure, Setting, Stage, can_run};
use support::{counter, eventually};
use watch::Watch;

const ANSWERS: u64 = 100;
/// What follows from the cluster's name: locally administered, and multicast.
const SHARED: &str = "03:";
/// The MAC addresses of the nodes' outer interfaces.
const OWN: [&str; 2] = ["02:ba:70:00:00:12", "02:ba:70:00:00:13"];

/// Where the client sends what is for the gateways.
fn known_to_client(stage: &Stage) -> String {
    let address = if stage.setting.ipv6 { B_OUTER6.to_string() } else { B_OUTER.to_string() };
    let mut ip = Command::new("ip");
    ip.args(["-n", stage.site.topology.client.name(), "neigh", "show", &address, "dev", "wan0"]);
    String::from_utf8_lossy(&ip.output().expect("ip runs").stdout).into_owned()
}

/// As an operator does at routers that believe no answer with a multicast MAC address. In IPv6 all need it: a kernel may ask
/// for a neighbour from the shared address, and then names its own MAC address.
fn make_permanent(stage: &Stage) {
    let client = &stage.site.topology.client;
    client.ip(&format!("neigh flush to {B_OUTER6} dev wan0")).expect("flushed");
    let ask = || UdpSocket::bind("[::]:0").and_then(|socket| socket.send_to(&[0], (B_OUTER6, 9)));
    client.run(ask).expect("a thread").expect("sent");
    let shared =
        || known_to_client(stage).split(' ').find(|word| word.starts_with(SHARED)).map(str::to_owned);
    eventually("a solicitation is answered with what is shared", || shared().is_some());
    let mac = shared().expect("known");
    let entry = format!("neigh replace {B_OUTER6} lladdr {mac} nud permanent dev wan0");
    client.ip(&entry).expect("a permanent entry");
}

/// Each node dies and comes back under traffic. Beforehand the tunnel goes to the second one, so that of two nodes of which
/// one attracts all frames the other has to get its own from it.
fn survive_both(stage: &mut Stage, watch: &Watch, expect: impl Fn(&Stage, Option<usize>)) {
    let segment = stage.segment();
    let b = stage.gateways()[0];
    if stage.owned(0).contains(&segment) {
        b.dpctl(&["move", "segment", &segment.to_string(), "--to", "3"]).expect("a move");
    }
    eventually("the second node owns the tunnel", || stage.owned(1).contains(&segment));
    watch.flows(ANSWERS, "with the second node", stage);
    expect(stage, None);
    for index in 0..2 {
        stage.fail(Failure::Node, index);
        eventually("the other takes all", || stage.owned(1 - index).len() == 256);
        watch.flows(ANSWERS, &format!("without node {index}"), stage);
        expect(stage, Some(index));
        stage.mend(Failure::Node, index);
        eventually("it is back", || members::owned(stage.gateways()[index]).len() >= 127);
        watch.flows(ANSWERS, &format!("with node {index} again"), stage);
    }
}

fn attracted(setting: Setting) {
    let mut stage = Stage::start(setting.announced("attract"));
    let watch = Watch::start(&stage);
    survive_both(&mut stage, &watch, |stage, dead| {
        // Of two equals the lower id attracts.
        let attracting = usize::from(dead == Some(0));
        eventually("the client has heard who attracts", || known_to_client(stage).contains(OWN[attracting]));
        if dead.is_none() {
            let passed_on = || counter(stage.gateways()[0], "udp-esp-forwarded");
            eventually("packets of the other's tunnel are passed on", || passed_on() >= ANSWERS);
        }
    });
    watch.judge(&stage, 400, 2);
}

fn shared_mac(setting: Setting) {
    let mut stage = Stage::start(setting.announced("multicast-mac"));
    if stage.setting.ipv6 {
        make_permanent(&stage);
    }
    let watch = Watch::start(&stage);
    survive_both(&mut stage, &watch, |stage, dead| {
        let known = known_to_client(stage);
        assert!(known.contains(SHARED), "whoever is dead: {known}");
        if dead.is_none() {
            let seen = counter(stage.gateways()[0], "udp-esp-foreign");
            assert!(seen >= ANSWERS, "{seen} packets of the other's tunnel were seen");
        }
    });
    watch.judge(&stage, 400, 2);
}

#[test]
fn a_node_attracts_the_addresses_and_passes_on_what_is_not_its_own() {
    if can_run("a_node_attracts_the_addresses_and_passes_on_what_is_not_its_own") {
        attracted(Setting::plain());
    }
}

#[test]
fn a_node_attracts_the_addresses_in_ipv6() {
    if can_run("a_node_attracts_the_addresses_in_ipv6") {
        attracted(Setting::plain().of_ipv6());
    }
}

#[test]
fn nodes_share_a_multicast_mac_address_and_each_takes_its_own() {
    if can_run("nodes_share_a_multicast_mac_address_and_each_takes_its_own") {
        shared_mac(Setting::plain());
    }
}

#[test]
fn nodes_share_a_multicast_mac_address_in_ipv6() {
    if can_run("nodes_share_a_multicast_mac_address_in_ipv6") {
        shared_mac(Setting::plain().of_ipv6());
    }
}
