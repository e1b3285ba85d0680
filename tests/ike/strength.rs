//! Postquantum preshared keys (RFC 8784) and IKE SAs that begin without a Child SA (RFC 6023).

use baton_lab::charon::Section;
use baton_lab::control::Monitor;
use baton_lab::negotiation::{CHILD, CONNECTION, Negotiation, Side};
use baton_lab::{CharonSpec, PeerSite};
use serde_json::json;

use crate::cases;
use crate::stage::{self, By, EXCHANGE, Ends, can_run};
use crate::support::eventually;

const KEY: &str = "key.lab.test";
const OCTETS: &str = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Both ends have the key, by its name or by a pattern; the initiator names it.
fn with_ppk(baton: Side, initiator_requires: bool, responder_requires: bool) -> Negotiation {
    let mut case = cases::site_to_site(baton);
    case.secrets = secret(KEY, OCTETS);
    case.initiator_options = Section::new().set("ppk_id", KEY).set("ppk_required", yes(initiator_requires));
    case.responder_options = Section::new().set("ppk_required", yes(responder_requires));
    case
}

fn secret(id: &str, octets: &str) -> Section {
    Section::new().with("ppk-1", Section::new().set("id", id).set("secret", octets))
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

#[test]
fn a_postquantum_key_is_mixed_in_by_either_end() {
    if !can_run("a_postquantum_key_is_mixed_in_by_either_end") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for baton in [Side::Responder, Side::Initiator] {
        for (initiator, responder) in [(false, false), (true, true)] {
            stage::reconfigure(&mut site, baton, &with_ppk(baton, initiator, responder));
            let pair = stage::set_up(&site);
            assert_eq!(pair.tunnel["ppk"], KEY, "Baton as {baton:?}");
            stage::ping(&site.topology);
            let ends = Ends::of(&site);
            ends.rekey_ike(By::StrongSwan);
            ends.rekey_child(By::Baton);
            assert_eq!(ends.pair().tunnel["ppk"], KEY);
            stage::ping(&site.topology);
            ends.delete(By::Baton);
        }
    }
}

/// strongSwan has another key than Baton, or none: as responder it goes without, unless an end requires it.
#[test]
fn without_a_common_postquantum_key_an_end_may_insist() {
    if !can_run("without_a_common_postquantum_key_an_end_may_insist") {
        return;
    }
    let spec = CharonSpec::new("charon").option("half_open_timeout", 2);
    let mut site = stage::site_with(Side::Responder, &cases::site_to_site(Side::Responder), &spec);
    for baton in [Side::Responder, Side::Initiator] {
        for theirs in [Section::new(), secret("other.lab.test", OCTETS)] {
            let case = with_ppk(baton, false, false);
            stage::reconfigure(&mut site, baton, &case);
            give(&site, &Negotiation { secrets: theirs.clone(), ..case });
            if baton == Side::Initiator {
                let pair = stage::set_up(&site);
                assert_eq!(pair.tunnel["ppk"], "");
                stage::ping(&site.topology);
                Ends::of(&site).delete(By::StrongSwan);
            } else {
                // It announces a key that it lacks, and then names none: that is refused (RFC 8784 section 3).
                refused(&site);
            }

            let case = with_ppk(baton, baton == Side::Initiator, baton == Side::Responder);
            stage::reconfigure(&mut site, baton, &case);
            give(&site, &Negotiation { secrets: theirs, ..with_ppk(baton, false, false) });
            refused(&site);
        }
    }
}

/// strongSwan's own side of a negotiation.
fn give(site: &PeerSite, case: &Negotiation) {
    site.charon.set_negotiation(case, site.baton.other()).expect("a configuration");
}

/// Nothing stands, and Baton says why.
fn refused(site: &PeerSite) {
    let mut events = Monitor::of_ike(&site.b, &["failed"]).expect("a monitor");
    if site.baton == Side::Responder {
        let (success, said) = site
            .charon
            .swanctl_output(&["--initiate", "--child", CHILD, "--timeout", "10"])
            .expect("swanctl");
        assert!(!success, "{said}");
    } else {
        stage::initiate(site);
    }
    let event = events
        .next_within(EXCHANGE)
        .unwrap_or_else(|error| panic!("Baton as {:?}: {error}; its log:\n{}", site.baton, site.b.ike_log()));
    let problem = event["problem"].as_str().expect("a sentence");
    assert!(problem.contains("postquantum preshared key"), "{problem}");
    let _ = site.charon.terminate_ike(CONNECTION);
    eventually("no half-open IKE SA", || {
        site.b.ask_ike(json!({"request": "status"})).expect("status")["half_open"] == 0
    });
    // strongSwan's own half-open one has no connection's name yet: it ends by itself.
    Ends::of(site).assert_nothing_is_left();
}

/// The first Child SA has a key exchange of its own exactly if it was not set up with the IKE SA.
#[test]
fn the_first_child_comes_with_the_ike_sa_or_after_it() {
    if !can_run("the_first_child_comes_with_the_ike_sa_or_after_it") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for baton in [Side::Responder, Side::Initiator] {
        for (ours, theirs, is_later) in [
            ("force", "allow", baton == Side::Initiator),
            ("prefer", "allow", baton == Side::Initiator),
            ("prefer", "never", false),
            ("allow", "force", baton == Side::Responder),
            ("never", "allow", false),
            ("force", "force", true),
        ] {
            // strongSwan 5.9.8 knows no "prefer"; a responder that insists meets an initiator that does not.
            if (baton, ours, theirs) == (Side::Responder, "force", "allow")
                || (baton, ours, theirs) == (Side::Initiator, "allow", "force")
            {
                continue;
            }
            let mut case = cases::site_to_site(baton);
            case.esp_proposals = vec!["aes128gcm16-x25519".into()];
            case.connection_options = Section::new().set("childless", theirs);
            case.baton_options = Section::new().set("childless", ours);
            stage::reconfigure(&mut site, baton, &case);
            let pair = stage::set_up(&site);
            let expected = if is_later { "aes128gcm16-x25519" } else { "aes128gcm16" };
            assert_eq!(pair.tunnel["children"][0]["proposal"], expected, "{baton:?} {ours} {theirs}");
            stage::ping(&site.topology);
            Ends::of(&site).delete(By::StrongSwan);
        }
    }
}
