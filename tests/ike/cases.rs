//! What peers are to negotiate.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::Path;

use baton_lab::negotiation::{Authentication, Negotiation};
#[allow(unused_imports, reason = "each test binary uses its own part")]
pub use baton_lab::peer_site::{A_IDENTITY, ADDRESSES, B_IDENTITY, DNS, road_warrior, site_to_site};
use baton_lab::pki::{Authority, Certified, KeyKind, Subject};

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
