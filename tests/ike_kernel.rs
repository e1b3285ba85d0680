//! Negotiation with strongSwan on the Linux kernel's own ESP, IP protocol 50.

#[path = "kernel/cases.rs"]
mod cases;
#[path = "ike/cases.rs"]
mod ike;
#[path = "kernel/stage.rs"]
mod stage;
mod support;

use baton_lab::kernel_peer::{self, Daemons, GuestCharon};
use baton_lab::negotiation::{CHILD, Side};
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
    let case = ike::site_to_site();
    let a = Charon::start(&stage.lab, &stage.a, &CharonSpec::new("charon-a")).expect("charon");
    a.load(&case.swanctl(Side::Initiator)).expect("a configuration");
    let guest = GuestCharon::start(&mut stage.peer).expect("charon in the kernel");
    guest.load(&mut stage.peer, &case, Side::Responder).expect("a configuration");
    guest.initiate(&mut stage.peer, CHILD).expect("a Child SA");
    let sas = guest.sas(&mut stage.peer).expect("SAs");
    assert_eq!((sas.len(), sas[0].children.len()), (1, 1), "{sas:?}");
    let mut ping = stage.client.command("ping");
    ping.args(["-n", "-c", "5", "-i", "0.02", "-W", "5", &SERVER.to_string()]);
    let answer = command::run(&mut ping).expect("ping");
    assert!(answer.contains(" 0% packet loss"), "{answer}");
    stage.peer.run(&format!("ping -c 5 -i 0.02 -W 1 {CLIENT}")).expect("ping from the kernel");
}
