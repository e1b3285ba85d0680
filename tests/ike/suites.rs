//! Every suite that both ends have, and proposals of which each end prefers another.

use baton_lab::PeerSite;
use baton_lab::charon::Section;
use baton_lab::negotiation::{CHILD, CONNECTION, Negotiation, Side};
use serde_json::json;

use crate::cases;
use crate::stage::{self, By, Ends, Pair, can_run};
use crate::support::eventually;

/// ESP suites of strongSwan's userspace ESP and of Baton. GMAC is missing there, MD5, XCBC and Camellia here.
const ESP: [&str; 26] = [
    "aes128gcm16",
    "aes192gcm16",
    "aes256gcm16",
    "aes128gcm8",
    "aes256gcm8",
    "aes128gcm12",
    "aes256gcm12",
    "aes128ccm16",
    "aes256ccm16",
    "aes128ccm8",
    "aes128ccm12",
    "chacha20poly1305",
    "aes128-sha1",
    "aes192-sha1",
    "aes256-sha1",
    "aes128-sha256",
    "aes256-sha256",
    "aes256-sha384",
    "aes256-sha512",
    "aes128-aescmac",
    "aes128ctr-sha1",
    "aes128ctr-sha256",
    "aes256ctr-sha512",
    "null-sha1",
    "null-sha256",
    "null-sha512",
];

/// IKE suites, of every algorithm that both have.
const IKE: [&str; 10] = [
    "aes128-sha1-modp2048",
    "aes192-sha256-modp3072",
    "aes256-sha384-modp4096",
    "aes256-sha512-ecp256",
    "aes128gcm16-prfsha1-ecp384",
    "aes192gcm16-prfsha256-ecp521",
    "aes256gcm16-prfsha384-x25519",
    "chacha20poly1305-prfsha512-x25519",
    "aes128-sha256-prfsha512-x25519",
    "aes256gcm16-prfsha512-modp2048",
];

/// The Child SA of a suite: called after it, at the end that sets it up.
fn child(case: &Negotiation, side: Side, suite: &str) -> Section {
    let connection = case.connection(side);
    let template = connection.section("children").and_then(|all| all.section(CHILD)).expect("a child");
    template.clone().merged(&Section::new().set_list("esp_proposals", &[suite]))
}

/// The end that sets them up has a Child SA for each suite, the other one that takes any.
fn with_a_child_each(case: &mut Negotiation) {
    case.esp_proposals = ESP.map(str::to_owned).to_vec();
    let each =
        ESP.iter().fold(Section::new(), |all, suite| all.with(suite, child(case, Side::Initiator, suite)));
    case.initiator_options = Section::new().with("children", each);
}

#[test]
fn every_esp_suite_that_both_have() {
    if !can_run("every_esp_suite_that_both_have") {
        return;
    }
    let mut site = None;
    for baton in [Side::Responder, Side::Initiator] {
        let mut case = cases::site_to_site(baton);
        with_a_child_each(&mut case);
        let site = site.get_or_insert_with(|| stage::site(baton, &case));
        stage::reconfigure(site, baton, &case);
        for suite in ESP {
            set_up(site, suite);
            assert_carries(site, suite);
            end(site, suite);
        }
        Ends::of(site).delete(By::StrongSwan);
    }
}

fn set_up(site: &PeerSite, name: &str) {
    if site.baton == Side::Responder {
        site.charon.initiate(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    } else {
        let request = json!({"request": "initiate", "connection": CONNECTION, "child": name});
        site.b.ask_ike(request).expect("begun");
    }
}

fn assert_carries(site: &PeerSite, name: &str) {
    let pair = Pair::of(site);
    assert_eq!(pair.tunnel["children"][0]["proposal"], name);
    let sent = stage::ping(&site.topology).to_string();
    let carried = |key: &str| Pair::of(site).child().all.get(key).map(str::to_owned);
    assert_eq!(["packets-in", "packets-out"].map(carried), [Some(sent.clone()), Some(sent)], "{name}");
}

fn end(site: &PeerSite, name: &str) {
    if site.baton == Side::Responder {
        site.charon.terminate_child(name).expect("an end");
    } else {
        let target = json!({"child": {"name": name}});
        site.b.ask_ike(json!({"request": "terminate", "target": target})).expect("begun");
    }
    let has_children = || site.b.tunnels().expect("tunnels")[0]["children"] != json!([]);
    eventually("the end of the Child SA", || !has_children());
    eventually("the end of the Child SA", || site.charon.sas().expect("SAs")[0].children.is_empty());
}

#[test]
fn every_ike_suite_that_both_have() {
    if !can_run("every_ike_suite_that_both_have") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for (number, suite) in IKE.into_iter().enumerate() {
        let baton = if number % 2 == 0 { Side::Responder } else { Side::Initiator };
        let mut case = cases::site_to_site(baton);
        case.ike_proposals = vec![suite.into()];
        stage::reconfigure(&mut site, baton, &case);
        let pair = stage::set_up(&site);
        assert!(!pair.tunnel["proposal"].is_null(), "{suite}: {}", pair.tunnel);
        stage::ping(&site.topology);
        // New keys come from the old ones by the same algorithms.
        site.charon.rekey_ike(CONNECTION).expect("a rekey");
        eventually("new keys", || Pair::of(&site).ike.spis != pair.ike.spis);
        Ends::of(&site).delete(By::StrongSwan);
    }
}

/// The initiator's first group is one that the responder does not take (RFC 7296 section 1.2): INVALID_KE_PAYLOAD.
#[test]
fn the_groups_that_the_ends_prefer_differ() {
    if !can_run("the_groups_that_the_ends_prefer_differ") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for baton in [Side::Responder, Side::Initiator] {
        let mut case = cases::site_to_site(baton);
        case.ike_proposals = vec!["aes128-sha256-ecp384-x25519".into()];
        case.esp_proposals = vec!["aes128gcm16-ecp384-x25519".into()];
        case.responder_options = Section::new().set_list("proposals", &["aes128-sha256-x25519"]);
        stage::reconfigure(&mut site, baton, &case);
        stage::set_up(&site);
        stage::ping(&site.topology);
        let log = site.charon.log();
        let asked = if baton == Side::Responder {
            "peer didn't accept DH group ECP_384"
        } else {
            "DH group ECP_384 unacceptable"
        };
        assert!(log.contains(asked), "{log}");
        Ends::of(&site).delete(By::StrongSwan);
    }
}
