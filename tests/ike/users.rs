//! Users: EAP with strongSwan, in both roles.

use baton_lab::charon::Section;
use baton_lab::negotiation::{Authentication, Negotiation, Party, Side};
use baton_lab::pki::KeyKind;

use crate::cases;
use crate::stage::{self, By, Ends, can_run};

const USER: &str = "carol";
const PASSWORD: &str = "Pa$$word of Carol's";

/// The initiator is a user by a password; the responder proves itself by a secret.
fn by_password(baton: Side) -> Negotiation {
    let mut case = cases::site_to_site(baton);
    case.secrets = Section::new().with("eap-carol", Section::new().set("id", USER).set("secret", PASSWORD));
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
