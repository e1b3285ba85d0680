//! What happens to a tunnel after it stands: new keys, an end, a peer that is gone.

use std::time::Duration;

use baton_lab::CharonSpec;
use baton_lab::charon::Section;
use baton_lab::negotiation::{CHILD, CONNECTION, Negotiation, Side};
use baton_lab::topology::SERVER;
use serde_json::json;

use crate::cases;
use crate::stage::{self, By, Ends, Pair, Steady, can_run};
use crate::support::{count, eventually};

/// New keys of both kinds, asked for by both ends, with and without PFS: of all datagrams that cross meanwhile, none is
/// lost.
#[test]
fn rekeys_under_traffic_lose_nothing() {
    if !can_run("rekeys_under_traffic_lose_nothing") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for (baton, esp) in [(Side::Responder, "aes128gcm16"), (Side::Initiator, "aes256-sha256-ecp256")] {
        let mut case = cases::site_to_site(baton);
        case.esp_proposals = vec![esp.into()];
        stage::reconfigure(&mut site, baton, &case);
        stage::set_up(&site);
        let ends = Ends::of(&site);
        let traffic = Steady::from_client(&site.topology);
        for _ in 0..count(2, 25) {
            for by in [By::StrongSwan, By::Baton] {
                ends.rekey_child(by);
                traffic.flows();
                ends.rekey_ike(by);
                traffic.flows();
            }
        }
        let sent = traffic.finish(esp);
        println!("{esp}, Baton as {baton:?}: {sent} datagrams and their answers, none lost");
        ends.delete(By::StrongSwan);
    }
}

/// Both ends ask for new keys at once (RFC 7296 sections 2.8.1 and 2.25): they agree all the same.
#[test]
fn rekeys_that_meet_end_in_agreement() {
    if !can_run("rekeys_that_meet_end_in_agreement") {
        return;
    }
    let site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    let before = stage::set_up(&site);
    let traffic = Steady::from_client(&site.topology);
    for _ in 0..count(10, 100) {
        Ends::of(&site).ask_for_rekey(&json!({"child": {"name": CHILD}}), "child");
        let _ = site.charon.rekey_child(CHILD);
        traffic.flows();
        Pair::of(&site);
        Ends::of(&site).ask_for_rekey(&json!({"connection": CONNECTION}), "ike");
        let _ = site.charon.rekey_ike(CONNECTION);
        traffic.flows();
        Pair::of(&site);
    }
    let (sent, lost) = traffic.losses();
    println!("rekeys from both ends at once: {lost} of {sent} datagrams lost");
    assert!(lost * 100 < sent, "{lost} of {sent} lost");
    assert_ne!(Pair::of(&site).ike.spis, before.ike.spis);
}

/// A Child SA is deleted by either end, and another one set up in the same IKE SA.
#[test]
fn a_child_sa_is_deleted_by_either_end() {
    if !can_run("a_child_sa_is_deleted_by_either_end") {
        return;
    }
    let site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for by in [By::StrongSwan, By::Baton] {
        let ike = stage::set_up(&site).ike.spis;
        match by {
            By::StrongSwan => drop(site.charon.terminate_child(CHILD).expect("an end")),
            By::Baton => {
                let target = json!({"child": {"name": CHILD}});
                site.b.ask_ike(json!({"request": "terminate", "target": target})).expect("begun");
            }
        }
        eventually("no Child SA", || {
            let sas = site.charon.sas().expect("SAs");
            let tunnels = site.b.tunnels().expect("tunnels");
            tunnels[0]["children"] == json!([]) && sas.len() == 1 && sas[0].children.is_empty()
        });
        assert_eq!(site.charon.sas().expect("SAs")[0].spis, ike, "{by:?}");
        Ends::of(&site).assert_no_sa_is_left();
    }
    stage::set_up(&site);
    stage::ping(&site.topology);
}

/// Options with which silence is noticed soon.
fn attentive(mut case: Negotiation) -> Negotiation {
    case.connection_options = Section::new().set("dpd_delay", "1s");
    let retransmission = Section::new()
        .set("retransmit_timeout", "0.5")
        .set("retransmit_tries", 2)
        .set("retransmit_base", "1.0");
    case.daemon_options = retransmission;
    case
}

fn attentive_charon() -> CharonSpec {
    let spec = CharonSpec::new("charon").option("retransmit_timeout", "0.5");
    spec.option("retransmit_tries", 2).option("retransmit_base", "1.0")
}

/// A peer that vanishes is noticed by either end (RFC 7296 section 2.4).
#[test]
fn an_end_that_vanishes_is_noticed() {
    if !can_run("an_end_that_vanishes_is_noticed") {
        return;
    }
    let case = attentive(cases::site_to_site(Side::Responder));
    let mut site = stage::site_with(Side::Responder, &case, &attentive_charon());
    stage::set_up(&site);
    // While both are alive, questions are answered, and nothing ends.
    std::thread::sleep(Duration::from_secs(3));
    Pair::of(&site);

    site.charon.kill();
    eventually("Baton's notice", || site.b.tunnels().expect("tunnels").is_empty());
    Ends::of(&site).assert_no_sa_is_left();

    site.charon.restart(&site.lab).expect("charon again");
    stage::set_up(&site);
    site.b.kill_ike();
    eventually("strongSwan's notice", || site.charon.sas().expect("SAs").is_empty());
}

/// A peer that was killed comes back: its old tunnel goes by INITIAL_CONTACT (RFC 7296 section 2.4), long before silence
/// would be noticed, and it gets the address that it had.
#[test]
fn a_peer_that_comes_back_replaces_itself() {
    if !can_run("a_peer_that_comes_back_replaces_itself") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::road_warrior(Side::Responder));
    let before = stage::set_up(&site);
    let address = stage::leased_address(&site.charon);
    site.charon.kill();
    site.charon.restart(&site.lab).expect("charon again");
    let after = stage::set_up(&site);
    assert_ne!(after.name(), before.name());
    assert_eq!(stage::leased_address(&site.charon), address);
    let (server, client) = (&site.topology.server, &site.topology.a);
    stage::ping_between((server, SERVER.into()), (client, address));
}
