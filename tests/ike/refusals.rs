//! What the ends cannot agree on: the operator is told why, and nothing is left behind.

use baton_lab::PeerSite;
use baton_lab::charon::Section;
use baton_lab::control::Monitor;
use baton_lab::negotiation::{Authentication, CHILD, Negotiation, Side};
use serde_json::Value;

use crate::cases;
use crate::stage::{self, By, EXCHANGE, Ends, can_run};
use crate::support::eventually;

/// A way not to agree.
struct Refusal {
    name: &'static str,
    /// Spoils strongSwan's side.
    spoil: fn(&mut Negotiation, Side),
    /// What Baton's operator reads, in lower case, as responder and as initiator.
    sentences: [&'static str; 2],
}

const REFUSALS: [Refusal; 5] = [
    Refusal {
        name: "another secret",
        spoil: |case, _| case.authentication = Authentication::PreSharedKey("quite another secret".into()),
        sentences: ["secret", "secret"],
    },
    Refusal {
        name: "an unknown identity",
        spoil: |case, side| match side {
            Side::Initiator => case.initiator.identity = "nobody.lab.test".into(),
            Side::Responder => case.responder.identity = "nobody.lab.test".into(),
        },
        sentences: ["nobody.lab.test", "does not accept us"],
    },
    Refusal {
        name: "no IKE proposal in common",
        spoil: |case, _| case.ike_proposals = vec!["aes256gcm16-prfsha384-ecp384".into()],
        sentences: ["proposal", "proposal"],
    },
    Refusal {
        name: "no ESP proposal in common",
        spoil: |case, _| case.esp_proposals = vec!["aes256-sha512".into()],
        sentences: ["proposal", "esp_proposals"],
    },
    Refusal {
        name: "no traffic in common",
        spoil: |case, _| {
            case.initiator.networks = vec!["192.168.1.0/24".into()];
            case.responder.networks = vec!["192.168.2.0/24".into()];
        },
        sentences: ["192.168.1.0/24", "traffic"],
    },
];

#[test]
fn disagreement_is_told_and_leaves_nothing() {
    if !can_run("disagreement_is_told_and_leaves_nothing") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for baton in [Side::Responder, Side::Initiator] {
        for refusal in &REFUSALS {
            let case = cases::site_to_site(baton);
            stage::reconfigure(&mut site, baton, &case);
            let mut theirs = case;
            (refusal.spoil)(&mut theirs, baton.other());
            site.charon.set_negotiation(&theirs, baton.other()).expect("a configuration");
            disagree(&mut site, refusal);
        }
        // What is right still works.
        let case = cases::site_to_site(baton);
        stage::reconfigure(&mut site, baton, &case);
        stage::set_up(&site);
        Ends::of(&site).delete(By::StrongSwan);
    }
}

fn disagree(site: &mut PeerSite, refusal: &Refusal) {
    let mut events = Monitor::of_ike(&site.b, &["failed"]).expect("a monitor");
    if site.baton == Side::Responder {
        let (success, said) = site
            .charon
            .swanctl_output(&["--initiate", "--child", CHILD, "--timeout", "10"])
            .expect("swanctl");
        assert!(!success, "{}: {said}", refusal.name);
    } else {
        stage::initiate(site);
    }
    let wanted = refusal.sentences[usize::from(site.baton == Side::Initiator)];
    let event = events.next_within(EXCHANGE).unwrap_or_else(|error| {
        panic!("{}, Baton as {:?}: {error}; its log:\n{}", refusal.name, site.baton, site.b.ike_log())
    });
    let problem = problem(&event);
    assert!(problem.to_lowercase().contains(&wanted.to_lowercase()), "{}: {problem}", refusal.name);
    // A Child SA that is refused leaves the IKE SA (RFC 7296 section 1.2), which may stay or go.
    end_all(site);
    Ends::of(site).assert_nothing_is_left();
}

/// The sentence of an event.
fn problem(event: &Value) -> String {
    event["problem"].as_str().unwrap_or_else(|| panic!("no sentence in {event}")).to_owned()
}

fn end_all(site: &PeerSite) {
    let _ = site.charon.terminate_ike(baton_lab::negotiation::CONNECTION);
    eventually("no half-open IKE SA", || {
        site.b.ask_ike(serde_json::json!({"request": "status"})).expect("status")["half_open"] == 0
    });
}

/// A certificate of an authority that the other end does not know, one that is revoked, one of somebody else.
#[test]
fn certificates_that_are_not_good_enough() {
    if !can_run("certificates_that_are_not_good_enough") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    let folder = site.lab.path().join("pki");
    let kind = baton_lab::pki::KeyKind::Ecdsa256;
    let right = cases::with_certificates(cases::site_to_site(Side::Responder), &folder, kind);
    let stranger =
        cases::with_certificates(cases::site_to_site(Side::Responder), &folder.join("other"), kind);
    stage::reconfigure(&mut site, Side::Responder, &right);
    let mut theirs = right.clone();
    theirs.initiator.certified = stranger.initiator.certified.map(|own| baton_lab::pki::Certified {
        authority: right.responder.certified.as_ref().expect("certified").authority.clone(),
        ..own
    });
    theirs.connection_options = Section::new().set("send_cert", "always");
    site.charon.set_negotiation(&theirs, Side::Initiator).expect("a configuration");
    disagree(
        &mut site,
        &Refusal { name: "an unknown authority", spoil: |_, _| {}, sentences: ["certificate", ""] },
    );
}
