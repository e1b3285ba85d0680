//! Gateways in the place of others, with an unmodified strongSwan at the other end.

use baton_lab::Gateway;
use baton_lab::negotiation::Side;
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
