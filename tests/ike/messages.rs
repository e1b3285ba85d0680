//! How messages travel: in fragments, and after a cookie.

use baton_lab::charon::Section;
use baton_lab::negotiation::Side;
use baton_lab::pki::KeyKind;
use baton_lab::{CharonSpec, Direction, Lab, PeerSite};

use crate::cases;
use crate::stage::{self, By, Ends, can_run};
use crate::support::Tap;

/// Octets of an IP datagram that every link carries (RFC 7383 section 2.5.1).
const SMALL: u32 = 576;

/// Certificates over a link of 576 octets, in fragments of IKE and never of IP (RFC 7383).
#[test]
fn large_messages_cross_a_small_link_in_fragments() {
    if !can_run("large_messages_cross_a_small_link_in_fragments") {
        return;
    }
    let spec = CharonSpec::new("charon").option("fragment_size", SMALL);
    let mut site = PeerSite::build(Lab::new().expect("lab"), Side::Responder, &spec).expect("a site");
    for namespace in [&site.topology.a, &site.topology.b] {
        namespace.ip(&format!("link set wan0 mtu {SMALL}")).expect("a small link");
    }
    site.configure(&cases::site_to_site(Side::Responder)).expect("configurations");
    site.start_b().expect("B starts");
    for baton in [Side::Responder, Side::Initiator] {
        let folder = site.lab.path().join("pki");
        let mut case = cases::with_certificates(cases::site_to_site(baton), &folder, KeyKind::Rsa2048);
        case.baton_options = Section::new().set("fragment_size", SMALL);
        stage::reconfigure(&mut site, baton, &case);
        let in_pieces = "ip[6:2] & 0x3fff != 0";
        let taps =
            ["a", "b"].map(|port| Tap::start_filtered(&site.topology.wan, port, Direction::In, in_pieces));
        stage::set_up(&site);
        let log = site.charon.log();
        for line in ["received fragment #1 of", "splitting IKE message"] {
            assert!(log.contains(line), "no `{line}` in {log}");
        }
        assert_eq!(taps.map(Tap::finish), [vec![], vec![]], "fragments of IP");
        Ends::of(&site).delete(By::StrongSwan);
    }
}

/// Baton asks for a cookie before it computes anything (RFC 7296 section 2.6).
#[test]
fn strongswan_returns_a_cookie() {
    if !can_run("strongswan_returns_a_cookie") {
        return;
    }
    let mut case = cases::site_to_site(Side::Responder);
    case.daemon_options = Section::new().set("cookie_threshold", 0);
    let site = stage::site(Side::Responder, &case);
    stage::set_up(&site);
    let log = site.charon.log();
    assert!(log.contains("N(COOKIE)"), "{log}");
    stage::ping(&site.topology);
}
