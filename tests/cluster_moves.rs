//! Planned moves under a peer that knows nothing of clusters: strongSwan and the gateways replace keys while the tunnel
//! goes to and fro.

#[path = "cluster/stage.rs"]
mod stage;
mod support;
#[path = "cluster/watch.rs"]
mod watch;

use baton_lab::Gateway;
use baton_lab::negotiation::CHILD;
use serde_json::{Value, json};
use stage::{Setting, Stage, can_run};
use support::eventually;
use watch::Watch;

const ROUNDS: usize = 6;
const ANSWERS: u64 = 50;
/// Node ids of the gateways.
const IDS: [&str; 2] = ["2", "3"];

/// Moves a tunnel to the other node while something happens, and waits until its segment is there.
fn move_during(stage: &Stage, tunnel: &str, segment: u64, happening: impl FnOnce(&Gateway)) {
    let (gateways, owner) = (stage.gateways(), stage.owner());
    let to = IDS[1 - owner];
    let order = || gateways[owner].dpctl_json(&["move", "tunnel", tunnel, "--to", to]).expect("begun");
    let answer = std::thread::scope(|scope| {
        let ordered = scope.spawn(order);
        happening(gateways[owner]);
        ordered.join().expect("ordered")
    });
    assert_eq!(answer, json!({ "tunnel": tunnel, "segment": segment, "beside": 0 }));
    eventually("the segment is moved", || stage.owned(1 - owner).contains(&segment));
}

/// The tunnels for which a node acts.
fn tunnels(stage: &Stage) -> Vec<Value> {
    let lists = stage.gateways().map(|gateway| gateway.dpctl_json(&["ike", "list"]).unwrap_or_default());
    let tunnels = lists.iter().flat_map(|list| list["tunnels"].as_array().cloned().unwrap_or_default());
    tunnels.filter(|tunnel| tunnel["state"] == "established").collect()
}

/// The one tunnel that stands, at one node. The IKE daemon hears of a move after the other daemons.
fn the_tunnel(stage: &Stage) -> String {
    eventually("one tunnel stands, at one node", || {
        let sas = stage.site.charon.sas().unwrap_or_default();
        sas.len() == 1 && sas[0].children.len() == 1 && tunnels(stage).len() == 1
    });
    tunnels(stage)[0]["name"].as_str().expect("a name").to_owned()
}

/// Neither is an exchange lost that is under way, nor does the peer have to authenticate again.
#[test]
fn keys_are_replaced_while_their_segment_moves() {
    if !can_run("keys_are_replaced_while_their_segment_moves") {
        return;
    }
    let stage = Stage::start(Setting::plain());
    let charon = &stage.site.charon;
    let before = charon.sas().expect("SAs");
    let (segment, connection) = (stage.segment(), before[0].name.clone());
    let watch = Watch::start(&stage);
    for round in 0..ROUNDS {
        let name = the_tunnel(&stage);
        move_during(&stage, &name, segment, |owner| match round % 3 {
            0 => drop(charon.rekey_child(CHILD).expect("begun")),
            1 => drop(charon.rekey_ike(&connection).expect("begun")),
            // It may be too late at this node.
            _ => drop(owner.dpctl_output(&["rekey", "--ike", &name], &[]).expect("runs")),
        });
        the_tunnel(&stage);
        watch.flows(ANSWERS, "after a move", &stage);
    }
    // A message that came while nobody acted for the tunnel comes again after some seconds.
    eventually("both SAs are replaced", || {
        let after = charon.sas().expect("SAs");
        let children = after.iter().flat_map(|sa| &sa.children);
        let is_old = |spi: u32| before[0].children.iter().any(|child| child.inbound_spi == spi);
        after.iter().all(|sa| sa.spis != before[0].spis)
            && children.into_iter().all(|c| !is_old(c.inbound_spi))
    });
    the_tunnel(&stage);
    watch.judge_packets(ROUNDS * ANSWERS as usize, 2);
    let log = charon.log();
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("generating IKE_AUTH request"), 1, "{log}");
    assert_eq!(count("giving up"), 0, "{log}");
}
