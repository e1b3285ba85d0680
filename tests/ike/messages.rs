//! How messages travel: in fragments, and after a cookie.

use std::net::UdpSocket;

use baton_lab::charon::Section;
use baton_lab::negotiation::Side;
use baton_lab::pki::KeyKind;
use baton_lab::topology::{A_OUTER, B_OUTER};
use baton_lab::{CharonSpec, Direction, Lab, PeerSite};

use crate::cases;
use crate::stage::{self, By, EXCHANGE, Ends, can_run};
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

/// strongSwan asks for a cookie once somebody has left an IKE SA half-open there, and Baton returns it.
#[test]
fn baton_returns_a_cookie() {
    if !can_run("baton_returns_a_cookie") {
        return;
    }
    let spec = CharonSpec::new("charon").option("cookie_threshold", 1);
    let site = stage::site_with(Side::Initiator, &cases::site_to_site(Side::Initiator), &spec);
    let tap = |port, filter| Tap::start_filtered(&site.topology.wan, port, Direction::In, filter);
    let requests = tap("b", "udp dst port 500");
    stage::set_up(&site);
    Ends::of(&site).delete(By::StrongSwan);
    leave_half_open(&site, &requests.finish()[0].frame[HEADERS..]);
    let answers = tap("a", "udp src port 500");
    stage::set_up(&site);
    assert!(answers.finish().iter().any(|answer| asks_for_cookie(&answer.frame[HEADERS..])));
    stage::ping(&site.topology);
}

/// Octets of Ethernet, IPv4 and UDP.
const HEADERS: usize = 14 + 20 + 8;

/// Sends somebody's first request again, with an SPI of its own and from another port, and leaves it at that.
fn leave_half_open(site: &PeerSite, request: &[u8]) {
    let mut request = request.to_vec();
    request[0] ^= 0xff;
    let socket =
        site.topology.b.run(|| UdpSocket::bind((B_OUTER, 5000))).expect("a namespace").expect("a socket");
    socket.set_read_timeout(Some(EXCHANGE)).expect("a timeout");
    socket.send_to(&request, (A_OUTER, 500)).expect("sent");
    socket.recv_from(&mut [0; 2048]).expect("strongSwan answers");
}

/// Whether the first payload is the notify COOKIE (RFC 7296 section 2.6), behind a header of 28 octets.
fn asks_for_cookie(message: &[u8]) -> bool {
    message.get(34..36) == Some(&16390_u16.to_be_bytes()[..])
}
