//! Negotiation with strongSwan on the Linux kernel's own ESP, IP protocol 50.

#[path = "kernel/cases.rs"]
mod cases;
#[path = "ike/cases.rs"]
mod ike;
#[path = "kernel/stage.rs"]
mod stage;
mod support;

use baton_lab::kernel_peer::{self, Daemons, GuestCharon, GuestIked, IkedSpec};
use baton_lab::negotiation::{CHILD, CONNECTION, Side};
use baton_lab::topology::{CLIENT, SERVER};
use baton_lab::{Charon, CharonSpec, command, requirements};
use stage::Stage;

fn can_run(test: &str) -> bool {
    let answer = kernel_peer::daemon_requirements();
    if let Err(reason) = &answer {
        requirements::skipped(test, reason);
    }
    answer.is_ok()
}

/// What the other tests do, with strongSwan in Baton's place.
#[test]
fn strongswan_on_both_kinds_of_esp_agrees_with_itself() {
    if !can_run("strongswan_on_both_kinds_of_esp_agrees_with_itself") {
        return;
    }
    let mut stage = Stage::build_with(Daemons::Ike);
    let case = ike::site_to_site(Side::Responder);
    let a = Charon::start(&stage.lab, &stage.a, &CharonSpec::new("charon-a")).expect("charon");
    a.load(&case.swanctl(Side::Initiator)).expect("a configuration");
    let guest = GuestCharon::start(&mut stage.peer).expect("charon in the kernel");
    guest.load(&mut stage.peer, &case, Side::Responder).expect("a configuration");
    guest.initiate(&mut stage.peer, CHILD).expect("a Child SA");
    let sas = guest.sas(&mut stage.peer).expect("SAs");
    assert_eq!((sas.len(), sas[0].children.len()), (1, 1), "{sas:?}");
    ping_both_ways(&mut stage);
    assert_carried(&mut stage);
}

/// The same with OpenBSD's daemon at the kernel's end.
#[test]
fn strongswan_and_openiked_agree() {
    if !can_run("strongswan_and_openiked_agree") {
        return;
    }
    let mut stage = Stage::build_with(Daemons::Ike);
    let mut case = ike::site_to_site(Side::Responder);
    case.esp_proposals = vec!["aes256-sha512".into()];
    let a = Charon::start(&stage.lab, &stage.a, &CharonSpec::new("charon-a")).expect("charon");
    a.load(&case.swanctl(Side::Initiator)).expect("a configuration");
    let iked = GuestIked::start(&mut stage.peer, &IKED, &case, Side::Responder).expect("iked");
    a.initiate(CHILD).expect("a Child SA");
    // It answers before it keys its kernel.
    iked.wait_for_log(&mut stage.peer, "established peer", 5).expect("an IKE SA");
    ping_both_ways(&mut stage);
    assert_carried(&mut stage);
    a.terminate_ike(CONNECTION).expect("an end");
    iked.wait_for_log(&mut stage.peer, "sa_free", 5).expect("an end");
}

/// What iked's PF_KEY can do on Linux.
const IKED: IkedSpec = IkedSpec {
    ike: "enc aes-128 prf hmac-sha2-256 auth hmac-sha2-256 group curve25519",
    esp: "enc aes-256 auth hmac-sha2-512 group none noesn",
    ike_lifetime: 0,
    child_lifetime: 3600,
    settings: "",
};

fn ping_both_ways(stage: &mut Stage) {
    let mut ping = stage.client.command("ping");
    ping.args(["-n", "-c", "5", "-i", "0.02", "-W", "5", &SERVER.to_string()]);
    let answer = command::run(&mut ping).expect("ping");
    assert!(answer.contains(" 0% packet loss"), "{answer}");
    stage.peer.run(&format!("ping -c 5 -i 0.02 -W 1 {CLIENT}")).expect("ping from the kernel");
}

/// All ten packets of the pings each way went through the kernel's SAs, and none was refused.
fn assert_carried(stage: &mut Stage) {
    let counters = stage.peer.counters().expect("counters");
    let packets: Vec<u64> = counters.states.iter().map(|state| state.packets).collect();
    assert_eq!((packets, counters.drops), (vec![10, 10], [].into()));
}
