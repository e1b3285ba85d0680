//! What peers are to negotiate.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::Ipv4Addr;
use std::path::Path;

use baton_lab::charon::Section;
use baton_lab::negotiation::{Authentication, Lease, Negotiation, Party};
use baton_lab::pki::{Authority, Certified, KeyKind, Subject};
use baton_lab::topology::{A_NETWORK, A_OUTER, B_NETWORK, B_OUTER};

/// Identities of the two ends: behind A is the client, behind B the server.
pub const A_IDENTITY: &str = "a.lab.test";
pub const B_IDENTITY: &str = "b.lab.test";
const SECRET: &str = "thirty-two octets of no meaning.";
pub const POOL: &str = "10.99.0.0/24";
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 53);

/// Site to site between A and B by a secret, B sets it up or answers.
pub fn site_to_site() -> Negotiation {
    let party = |address: Ipv4Addr, identity: &str, network: &str| Party {
        address: address.into(),
        identity: identity.into(),
        networks: vec![network.into()],
        certified: None,
    };
    Negotiation {
        authentication: Authentication::PreSharedKey(SECRET.into()),
        ike_proposals: vec!["aes128-sha256-x25519".into()],
        esp_proposals: vec!["aes128gcm16".into()],
        initiator: party(A_OUTER, A_IDENTITY, A_NETWORK),
        responder: party(B_OUTER, B_IDENTITY, B_NETWORK),
        lease: None,
        connection_options: Section::new(),
        child_options: Section::new(),
        daemon_options: Section::new(),
    }
}

/// A client that is given an address and a DNS server, by a secret.
pub fn road_warrior() -> Negotiation {
    let mut case = site_to_site();
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
