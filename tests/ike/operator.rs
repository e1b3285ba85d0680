//! What an operator does with `dpctl`: connections set up and ended, keys replaced.

use std::process::Output;

use baton_lab::Gateway;
use baton_lab::negotiation::{Authentication, CHILD, CONNECTION, Negotiation, Side};
use serde_json::Value;

use crate::cases;
use crate::stage::{self, Ends, Pair, can_run};
use crate::support::eventually;

fn dpctl(gateway: &Gateway, arguments: &[&str]) -> Value {
    gateway.dpctl_json(arguments).unwrap_or_else(|error| panic!("{error}\n{}", gateway.ike_log()))
}

fn refused(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = gateway.dpctl_output(arguments, &[]).expect("dpctl runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Each command returns when what it says is so, at both ends.
#[test]
fn commands_return_when_it_is_done() {
    if !can_run("commands_return_when_it_is_done") {
        return;
    }
    let site = stage::site(Side::Initiator, &cases::site_to_site(Side::Initiator));
    let up = dpctl(&site.b, &["up", CONNECTION]);
    let pair = Pair::of(&site);
    assert_eq!((&up["up"], up["tunnel"].as_str()), (&Value::Bool(true), Some(pair.name())));
    assert_eq!(dpctl(&site.b, &["up", CONNECTION])["tunnel"], up["tunnel"], "it stands already");

    let spi = |pair: &Pair| format!("{:#010x}", pair.spis().0);
    dpctl(&site.b, &["rekey", &spi(&pair)]);
    let rekeyed = Pair::of(&site);
    assert_ne!(rekeyed.spis(), pair.spis());
    dpctl(&site.b, &["rekey", "--ike", pair.name()]);
    assert_ne!(Pair::of(&site).ike.spis, rekeyed.ike.spis);
    let shown = dpctl(&site.b, &["ike", "show", pair.name()]);
    assert_eq!((&shown["connection"], &shown["children"][0]["name"]), (&CONNECTION.into(), &CHILD.into()));
    let status = dpctl(&site.b, &["status"]);
    assert_eq!((&status["ike"]["established"], &status["ike"]["children"]), (&1.into(), &1.into()));
    let log = String::from_utf8(site.b.dpctl_output(&["log", "-n", "1000"], &[]).expect("dpctl runs").stdout);
    assert!(log.expect("text").contains(pair.name()));

    assert_eq!(dpctl(&site.b, &["down", CONNECTION])["concerned"], 1);
    Ends::of(&site).assert_nothing_is_left();
    let (exit, message) = refused(&site.b, &["down", pair.name()]);
    assert_eq!(exit, Some(3), "{message}");
}

/// Nobody waits for what the peer has refused already, be it the whole tunnel or a Child SA of it.
#[test]
fn up_returns_when_the_peer_refuses() {
    if !can_run("up_returns_when_the_peer_refuses") {
        return;
    }
    let case = cases::site_to_site(Side::Initiator);
    let site = stage::site(Side::Initiator, &case);
    let another_secret = Authentication::PreSharedKey("quite another secret".into());
    let refusals = [
        ("does not accept us", Negotiation { authentication: another_secret, ..case.clone() }),
        ("proposal", Negotiation { esp_proposals: vec!["aes256-sha512".into()], ..case.clone() }),
    ];
    for (sentence, theirs) in refusals {
        site.charon.set_negotiation(&theirs, Side::Responder).expect("a configuration");
        let (exit, message) = refused(&site.b, &["up", CONNECTION, "--timeout", "20"]);
        assert_eq!(exit, Some(1), "{message}");
        assert!(message.contains(sentence) && !message.contains("after 20 s"), "{message}");
        let _ = site.b.dpctl_output(&["down", CONNECTION], &[]);
        eventually("the end", || site.b.tunnels().expect("tunnels").is_empty());
    }
}
