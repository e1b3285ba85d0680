//! What peers are to negotiate.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::Ipv4Addr;
use std::path::Path;

use baton_lab::negotiation::{Authentication, Lease, Negotiation, Side};
#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use baton_lab::peer_site::{A_IDENTITY, B_IDENTITY, site_to_site};
use baton_lab::pki::{Authority, Certified, KeyKind, Subject};

pub const POOL: &str = "10.99.0.0/24";
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 53);

/// A client that is given an address and a DNS server, by a secret.
pub fn road_warrior(baton: Side) -> Negotiation {
    let mut case = site_to_site(baton);
    case.initiator.networks.clear();
    case.lease = Some(Lease { addresses: POOL.into(), dns: vec![DNS.into()] });
    case
}

/// The same case by certificates of this kind, all of it signed by one authority.
pub fn with_certificates(mut case: Negotiation, folder: &Path, kind: KeyKind) -> Negotiation {
    let authority = Authority::root(folder, "authority", kind).expect("an authority");
    case.authentication = Authentication::Certificates;
    for (party, name) in [(&mut case.initiator, "a"), (&mut case.responder, "b")] {
        party.certified = Some(certificate(&authority, name, kind, &party.identity));
    }
    case
}

pub fn certificate(authority: &Authority, name: &str, kind: KeyKind, identity: &str) -> Certified {
    let subject = Subject {
        distinguished_name: &format!("C=CH, O=lab, CN={identity}"),
        alternative_names: &[identity],
        options: &[],
    };
    authority.issue(name, kind, &subject).expect("a certificate")
}
