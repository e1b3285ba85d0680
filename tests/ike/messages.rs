//! How messages travel: in fragments, and after a cookie.

use baton_lab::Direction;
use baton_lab::charon::Section;
use baton_lab::negotiation::Side;
use baton_lab::pki::KeyKind;

use crate::cases;
use crate::stage::{self, By, Ends, can_run};
use crate::support::Tap;

/// Certificates over a link of 576 octets, in fragments of IKE and never of IP (RFC 7383).
#[test]
fn large_messages_cross_a_small_link_in_fragments() {
    if !can_run("large_messages_cross_a_small_link_in_fragments") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    for namespace in [&site.topology.a, &site.topology.b] {
        namespace.ip("link set wan0 mtu 576").expect("a small link");
    }
    for baton in [Side::Responder, Side::Initiator] {
        let folder = site.lab.path().join("pki");
        let mut case = cases::with_certificates(cases::site_to_site(baton), &folder, KeyKind::Rsa2048);
        case.connection_options = Section::new().set("fragmentation", "yes").set("fragment_size", 500);
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
