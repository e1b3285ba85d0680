//! Users: EAP with strongSwan, in both roles.

use baton_lab::charon::Section;
use baton_lab::control::Monitor;
use baton_lab::negotiation::{Authentication, CHILD, Negotiation, Party, Side};
use baton_lab::pki::KeyKind;
use serde_json::json;

use crate::cases;
use crate::stage::{self, By, EXCHANGE, Ends, can_run};
use crate::support::eventually;

const USER: &str = "carol";
const PASSWORD: &str = "Pa$$word of Carol's";

fn secrets(password: &str) -> Section {
    Section::new().with("eap-carol", Section::new().set("id", USER).set("secret", password))
}

/// The initiator is a user by a password; the responder proves itself by a secret.
fn by_password(baton: Side) -> Negotiation {
    let mut case = cases::site_to_site(baton);
    case.secrets = secrets(PASSWORD);
    let (initiator, responder) = (case.initiator.identity.clone(), case.responder.identity.clone());
    case.initiator_options = Section::new()
        .with("local", method("eap-mschapv2", &initiator).set("eap_id", USER))
        .with("remote", method("psk", &responder));
    case.responder_options = Section::new()
        .with("local", method("psk", &responder))
        .with("remote", method("eap-mschapv2", "%any").set("eap_id", "%any"));
    case
}

fn method(auth: &str, identity: &str) -> Section {
    Section::new().set("auth", auth).set("id", identity)
}

/// The initiator is a user by a certificate; the responder proves itself by one in IKE, or, alone, in EAP-TLS.
fn by_certificate(site: &baton_lab::PeerSite, baton: Side, is_alone: bool) -> Negotiation {
    let folder = site.lab.path().join("pki");
    let mut case = cases::with_certificates(cases::site_to_site(baton), &folder, KeyKind::Ecdsa256);
    case.authentication = Authentication::Certificates;
    let certified = |auth: &str, party: &Party| {
        let path = &party.certified.as_ref().expect("a certificate").certificate;
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        method(auth, &party.identity).set_list("certs", &[name])
    };
    let theirs = if is_alone { "eap-tls" } else { "pubkey" };
    case.initiator_options = Section::new()
        .with("local", certified("eap-tls", &case.initiator))
        .with("remote", method(theirs, &case.responder.identity));
    case.responder_options = Section::new()
        .with("local", certified(theirs, &case.responder))
        .with("remote", method("eap-tls", &case.initiator.identity));
    case
}

#[test]
fn users_come_in_by_passwords() {
    if !can_run("users_come_in_by_passwords") {
        return;
    }
    let mut site = stage::site(Side::Responder, &by_password(Side::Responder));
    for baton in [Side::Responder, Side::Initiator] {
        stage::reconfigure(&mut site, baton, &by_password(baton));
        let pair = stage::set_up(&site);
        if baton == Side::Responder {
            assert_eq!(pair.tunnel["eap_identity"], USER);
            assert_eq!(pair.tunnel["remote_identity"], cases::A_IDENTITY);
        } else {
            assert_eq!(pair.ike.all.get("remote-eap-id"), Some(USER));
        }
        stage::ping(&site.topology);
        let ends = Ends::of(&site);
        ends.rekey_ike(By::StrongSwan);
        assert_eq!(ends.pair().tunnel["eap_identity"], if baton == Side::Responder { USER } else { "" });
        ends.delete(By::Baton);
    }
}

#[test]
fn wrong_passwords_are_refused_by_either_end() {
    if !can_run("wrong_passwords_are_refused_by_either_end") {
        return;
    }
    let mut site = stage::site(Side::Responder, &by_password(Side::Responder));
    for (baton, sentence) in [
        (Side::Responder, "user \"carol\": the password was wrong"),
        (Side::Initiator, "wrong name or password"),
    ] {
        stage::reconfigure(&mut site, baton, &by_password(baton));
        let theirs = Negotiation { secrets: secrets("another"), ..by_password(baton) };
        site.charon.set_negotiation(&theirs, baton.other()).expect("a configuration");
        let mut events = Monitor::of_ike(&site.b, &["failed"]).expect("a monitor");
        if baton == Side::Responder {
            let asked = ["--initiate", "--child", CHILD, "--timeout", "10"];
            let (is_up, said) = site.charon.swanctl_output(&asked).expect("swanctl");
            assert!(!is_up, "{said}");
        } else {
            stage::initiate(&site);
        }
        let event = events.next_within(EXCHANGE).unwrap_or_else(|error| {
            panic!("{error}\n{}\n{}", site.b.ike_log(), site.charon.log());
        });
        let problem = event["problem"].as_str().unwrap_or_default().to_owned();
        assert!(problem.contains(sentence), "{problem}\n{}", site.charon.log());
        // Failing is no way around the limits of half-open IKE SAs: they count for a while.
        eventually("the end of both", || {
            let tunnels = site.b.tunnels().expect("tunnels");
            tunnels.iter().all(|tunnel| tunnel["state"] != "established")
                && site.charon.sas().expect("SAs").iter().all(|sa| sa.state != "ESTABLISHED")
        });
        assert!(!site.charon.log().contains("established between"), "{}", site.charon.log());
        site.b.ask_ike(json!({"request": "status"})).expect("it runs");
    }
}

#[test]
fn users_come_in_by_certificates() {
    if !can_run("users_come_in_by_certificates") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for is_alone in [false, true] {
        for baton in [Side::Responder, Side::Initiator] {
            let case = by_certificate(&site, baton, is_alone);
            stage::reconfigure(&mut site, baton, &case);
            let pair = stage::set_up(&site);
            if baton == Side::Responder {
                assert_eq!(pair.tunnel["eap_identity"], cases::A_IDENTITY, "alone: {is_alone}");
            }
            stage::ping(&site.topology);
            Ends::of(&site).delete(By::StrongSwan);
        }
    }
}
