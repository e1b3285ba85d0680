//! What the other tests do, with strongSwan in Baton's place: what fails here is the tests' own fault.

use std::net::{IpAddr, SocketAddr};

use baton_lab::negotiation::{CHILD, CONNECTION, Negotiation, Side};
use baton_lab::pki::KeyKind;
use baton_lab::topology::Topology;
use baton_lab::{Charon, CharonSpec, Lab, charon, requirements};

use crate::cases;
use crate::stage::{self, Steady};

fn can_run(test: &str) -> bool {
    let answer = charon::requirements();
    if let Err(reason) = &answer {
        requirements::skipped(test, reason);
    }
    answer.is_ok()
}

/// Fields drop in order: processes before the lab that holds their namespaces.
struct Control {
    a: Charon,
    b: Charon,
    topology: Topology,
    _lab: Lab,
}

impl Control {
    fn build(case: impl FnOnce(&Lab) -> Negotiation) -> Self {
        let lab = Lab::new().expect("lab");
        let topology = Topology::build(&lab).expect("topology");
        // B2 has B's addresses, and no filter without Baton.
        topology.b2.ip("link set wan0 down\nlink set lan0 down").expect("B2 is away");
        let case = case(&lab);
        let [a, b] = [(&topology.a, "a"), (&topology.b, "b")]
            .map(|(namespace, name)| Charon::start(&lab, namespace, &CharonSpec::new(name)).expect("charon"));
        b.set_negotiation(&case, Side::Responder).expect("a configuration");
        a.set_negotiation(&case, Side::Initiator).expect("a configuration");
        a.initiate(CHILD).expect("a Child SA");
        Self { a, b, topology, _lab: lab }
    }
}

#[test]
fn strongswan_agrees_with_itself() {
    if !can_run("strongswan_agrees_with_itself") {
        return;
    }
    for kind in [None, Some(KeyKind::Ecdsa256), Some(KeyKind::Rsa2048), Some(KeyKind::Ed25519)] {
        let control = Control::build(|lab: &Lab| match kind {
            Some(kind) => cases::with_certificates(cases::site_to_site(Side::Responder), lab.path(), kind),
            None => cases::site_to_site(Side::Responder),
        });
        stage::ping(&control.topology);
        let traffic = Steady::from_client(&control.topology);
        for end in [&control.a, &control.b] {
            end.rekey_child(CHILD).expect("a rekey");
            traffic.flows();
            end.rekey_ike(CONNECTION).expect("a rekey");
            traffic.flows();
        }
        traffic.finish("rekeys");
        control.b.terminate_ike(CONNECTION).expect("an end");
        assert_eq!(control.a.sas().expect("SAs"), []);
    }
}

#[test]
fn strongswan_gives_itself_an_address() {
    if !can_run("strongswan_gives_itself_an_address") {
        return;
    }
    let control = Control::build(|_| cases::road_warrior(Side::Responder));
    let address = stage::leased_address(&control.a);
    assert!(address.to_string().starts_with("10.99.0."), "{address} is not of the pool");
    assert_eq!(stage::dns_servers(&control.a), [IpAddr::V4(cases::DNS)]);
    let traffic = Steady::from(&control.topology, &control.topology.a, SocketAddr::new(address, 0));
    traffic.finish("a client's own traffic");
}
