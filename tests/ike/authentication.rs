//! Who the ends are, and what the initiator is given.

use std::net::{IpAddr, SocketAddr};

use baton_lab::PeerSite;
use baton_lab::negotiation::{Negotiation, Side};
use baton_lab::pki::KeyKind;
use baton_lab::topology::SERVER;
use serde_json::json;

use crate::cases::{self, ADDRESSES};
use crate::stage::{self, By, Ends, Steady, can_run};

/// Every kind of key and a secret, set up by either end, deleted by the one and by the other.
#[test]
fn secrets_and_certificates_of_every_kind() {
    if !can_run("secrets_and_certificates_of_every_kind") {
        return;
    }
    let mut site = stage::site(Side::Responder, &cases::site_to_site(Side::Responder));
    let kinds = KeyKind::ALL.into_iter().map(Some).chain([None]);
    for (number, kind) in kinds.enumerate() {
        for baton in [Side::Responder, Side::Initiator] {
            let case = authenticated(&site, baton, kind);
            stage::reconfigure(&mut site, baton, &case);
            let pair = stage::set_up(&site);
            assert_eq!(pair.tunnel["remote_identity"], cases::A_IDENTITY, "{kind:?}, Baton as {baton:?}");
            assert_eq!(pair.ike.remote_identity, cases::B_IDENTITY);
            stage::ping(&site.topology);
            Ends::of(&site).delete(if number % 2 == 0 { By::StrongSwan } else { By::Baton });
        }
    }
}

fn authenticated(site: &PeerSite, baton: Side, kind: Option<KeyKind>) -> Negotiation {
    let case = cases::site_to_site(baton);
    match kind {
        Some(kind) => cases::with_certificates(case, &site.lab.path().join("pki"), kind),
        None => case,
    }
}

/// A client is given an address of the pool and its DNS server; another identity gets another address.
#[test]
fn strongswan_is_given_an_address() {
    if !can_run("strongswan_is_given_an_address") {
        return;
    }
    let site = stage::site(Side::Responder, &cases::road_warrior(Side::Responder));
    let pair = stage::set_up(&site);
    let address = stage::leased_address(&site.charon);
    assert!(address.to_string().starts_with("10.99.0."), "{address} is not of {ADDRESSES}");
    assert_eq!(stage::dns_servers(&site.charon), [IpAddr::V4(cases::DNS)]);
    assert_eq!(pair.tunnel["virtual_addresses"], json!([address]));
    assert_eq!(pair.child().local_selectors, [format!("{address}/32")]);
    let traffic = Steady::from(&site.topology, &site.topology.a, SocketAddr::new(address, 0));
    traffic.finish("a client's own traffic");
    let (server, client) = (&site.topology.server, &site.topology.a);
    stage::ping_between((server, SERVER.into()), (client, address));

    // Who comes back gets what it had.
    Ends::of(&site).delete(By::StrongSwan);
    stage::set_up(&site);
    assert_eq!(stage::leased_address(&site.charon), address);
}

/// Baton is given an address by strongSwan.
#[test]
fn strongswan_gives_an_address() {
    if !can_run("strongswan_gives_an_address") {
        return;
    }
    let site = stage::site(Side::Initiator, &cases::road_warrior(Side::Initiator));
    let pair = stage::set_up(&site);
    let address = pair.tunnel["virtual_addresses"][0].as_str().expect("an address").to_owned();
    assert!(address.starts_with("10.99.0."), "{address} is not of {ADDRESSES}");
    assert_eq!(pair.ike.remote_virtual.join(" "), address);
    assert_eq!(pair.child().remote_selectors, [format!("{address}/32")]);
    assert_ne!(address, SERVER.to_string());
}
