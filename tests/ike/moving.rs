//! Gateways in the place of others, with an unmodified strongSwan at the other end.

use std::net::IpAddr;

use baton_lab::Gateway;
use baton_lab::charon::Section;
use baton_lab::negotiation::{CONNECTION, Side};
use serde_json::Value;

use crate::cases;
use crate::stage::{self, By, Ends, Steady, can_run};
use crate::support::eventually;

fn dpctl(gateway: &Gateway, arguments: &[&str]) -> Value {
    gateway.dpctl_json(arguments).unwrap_or_else(|error| panic!("{error}\n{}", gateway.ike_log()))
}

fn counter(gateway: &Gateway, name: &str) -> u64 {
    let counters = dpctl(gateway, &["counters"]);
    let found = counters["counters"].as_array().into_iter().flatten().find(|one| one["name"] == name);
    found.and_then(|one| one["value"].as_u64()).unwrap_or_else(|| panic!("no counter {name}: {counters}"))
}

/// Where nobody is, in the network of an end.
fn nobody_beside(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.77")
        }
        IpAddr::V6(_) => panic!("the wire has IPv4"),
    }
}

/// strongSwan goes where Baton sends it, and says from where it comes (RFC 5685 sections 5 and 9.3).
#[test]
fn strongswan_follows_a_redirect() {
    if !can_run("strongswan_follows_a_redirect") {
        return;
    }
    let case = cases::site_to_site(Side::Responder);
    let mut site = stage::site(Side::Responder, &case);
    let pair = stage::set_up(&site);
    assert!(pair.tunnel["extensions"].as_array().is_some_and(|all| all.contains(&"redirect".into())));
    let gateway = nobody_beside(case.responder.address);
    assert_eq!(dpctl(&site.b, &["redirect", pair.name(), &gateway])["concerned"], 1);
    assert!(site.b.tunnels().expect("tunnels").is_empty(), "it has left");
    // What it begins anew with.
    site.charon.wait_for_log("N(REDIR_FROM)", stage::EXCHANGE).expect("REDIRECTED_FROM");
    let log = site.charon.log();
    assert!(log.lines().any(|line| line.contains("initiating IKE_SA") && line.contains(&gateway)), "{log}");
}

/// Baton goes where strongSwan sends it only if that is allowed; the tunnel stays while the other gateway is silent.
#[test]
fn strongswan_redirects_baton() {
    if !can_run("strongswan_redirects_baton") {
        return;
    }
    let mut case = cases::site_to_site(Side::Initiator);
    let (gateway, forbidden) = (nobody_beside(case.responder.address), "198.51.100.7");
    case.baton_options = Section::new().set_list("follow_redirects", &[&gateway]);
    let site = stage::site(Side::Initiator, &case);
    stage::set_up(&site);
    let redirect = |to: &str| site.charon.swanctl(&["--redirect", "--ike", CONNECTION, "--gateway", to]);
    redirect(forbidden).expect("sent");
    eventually("a refusal", || counter(&site.b, "redirects-refused") == 1);
    assert!(site.b.ike_log().contains("is not allowed"), "{}", site.b.ike_log());
    // strongSwan redirects an IKE SA once: the next one is another.
    Ends::of(&site).delete(By::StrongSwan);
    let pair = stage::set_up(&site);
    redirect(&gateway).expect("sent");
    eventually("a tunnel to there", || {
        let tunnels = site.b.tunnels().expect("tunnels");
        let is_new = |tunnel: &Value| {
            tunnel["remote"].as_str().is_some_and(|remote| remote.starts_with(&format!("{gateway}:")))
        };
        tunnels.iter().any(is_new) && tunnels.iter().any(|tunnel| tunnel["name"] == pair.name())
    });
    assert_eq!(counter(&site.b, "redirects-followed"), 1);
}

/// strongSwan agrees with a gateway that has failed over about Message IDs; traffic and rekeys from both ends go on (RFC
/// 6311).
#[test]
fn message_ids_are_agreed_upon_with_strongswan() {
    if !can_run("message_ids_are_agreed_upon_with_strongswan") {
        return;
    }
    let site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    let pair = stage::set_up(&site);
    let traffic = Steady::from_client(&site.topology);
    let ends = Ends::of(&site);
    for turn in 1..=2 {
        assert_eq!(dpctl(&site.b, &["ike", "sync", pair.name()])["concerned"], 1);
        eventually("an agreement", || counter(&site.b, "failovers") == turn);
        for by in [By::Baton, By::StrongSwan] {
            ends.rekey_child(by);
            traffic.flows();
        }
    }
    ends.rekey_ike(By::StrongSwan);
    traffic.flows();
    traffic.finish("synchronized");
}
