//! The networks on which kernels meet each other and Baton.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::IpAddr;

use baton_lab::kernel_peer::{Daemons, KernelPeer, KernelPeerSpec, Prefix, Route};
use baton_lab::topology::{self, A_OUTER, B_OUTER, CLIENT, SERVER};
use baton_lab::{Lab, Namespace};

use super::cases::{A_INNER, A_INNER6, A_OUTER6, B_OUTER6, CLIENT6, HOST, HOST6, SERVER6, network};

fn prefix(address: impl Into<IpAddr>, length: u8) -> Prefix {
    Prefix { address: address.into(), length }
}

fn to(network: Prefix, via: impl Into<IpAddr>, source: impl Into<IpAddr>) -> Route {
    Route { network, via: via.into(), source: source.into() }
}

/// The kernel at the far end.
pub fn kernel() -> KernelPeerSpec {
    KernelPeerSpec {
        name: "linux-b".into(),
        mac: "02:ba:70:00:00:0b".into(),
        outer: vec![prefix(B_OUTER, 24), prefix(B_OUTER6, 64)],
        inner: vec![prefix(SERVER, 16), prefix(SERVER6, 48)],
        routes: vec![
            to(network(CLIENT.into()), A_OUTER, SERVER),
            to(network(CLIENT6.into()), A_OUTER6, SERVER6),
            to(Prefix::host(HOST.into()), A_OUTER, B_OUTER),
            to(Prefix::host(HOST6.into()), A_OUTER6, B_OUTER6),
        ],
        daemons: Daemons::None,
    }
}

/// A kernel in Baton's place.
pub fn kernel_for_baton() -> KernelPeerSpec {
    KernelPeerSpec {
        name: "linux-a".into(),
        mac: "02:ba:70:00:00:0a".into(),
        outer: vec![prefix(A_OUTER, 24), prefix(A_OUTER6, 64)],
        inner: vec![prefix(CLIENT, 16), prefix(CLIENT6, 48), prefix(HOST, 32), prefix(HOST6, 128)],
        routes: vec![
            to(network(SERVER.into()), B_OUTER, CLIENT),
            to(network(SERVER6.into()), B_OUTER6, CLIENT6),
        ],
        daemons: Daemons::None,
    }
}

/// A namespace with a bridge that joins `ports`, once these exist.
pub fn wire(lab: &Lab) -> Namespace {
    let wire = lab.namespace("wire").expect("namespace");
    wire.ip("link add hub type bridge stp_state 0 mcast_snooping 0\nlink set hub up").expect("bridge");
    wire
}

pub fn plug_in(wire: &Namespace, port: &str) {
    wire.ip(&format!("link set dev {port} master hub up")).expect("port");
}

/// A client behind Baton, and the kernel behind a bridge: `client --- a === wire === linux-b`.
/// Fields drop in order: processes before the lab that holds their namespaces.
pub struct Stage {
    pub peer: KernelPeer,
    pub client: Namespace,
    pub a: Namespace,
    pub wire: Namespace,
    pub lab: Lab,
}

impl Stage {
    pub fn build() -> Self {
        Self::build_with(Daemons::None)
    }

    /// With a kernel that runs these daemons.
    pub fn build_with(daemons: Daemons) -> Self {
        let lab = Lab::new().expect("lab");
        let [client, a] = ["client", "a"].map(|role| lab.namespace(role).expect("namespace"));
        let wire = wire(&lab);
        topology::wire(&client, "eth0", &a, "lan0").expect("veth");
        topology::wire(&a, "wan0", &wire, "a").expect("veth");
        topology::host(&client, CLIENT, A_INNER).expect("client");
        topology::gateway(&a, A_OUTER, A_INNER, B_OUTER).expect("gateway");
        add_addresses(&client, &a);
        plug_in(&wire, "a");
        let spec = KernelPeerSpec { daemons, ..kernel() };
        let peer = KernelPeer::boot(&lab, &wire, &spec).expect("a kernel");
        plug_in(&wire, &spec.name);
        Self { peer, client, a, wire, lab }
    }
}

/// Gives client and gateway their IPv6 addresses, and the client the ones of transport mode.
pub fn add_addresses(client: &Namespace, a: &Namespace) {
    for namespace in [client, a] {
        for scope in ["all", "default"] {
            namespace.set(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0").expect("IPv6");
        }
    }
    a.set("net/ipv6/conf/all/forwarding", "1").expect("forwarding");
    let client_lines = format!(
        "address add {CLIENT6}/48 dev eth0 nodad\naddress add {HOST}/32 dev eth0\n\
         address add {HOST6}/128 dev eth0 nodad\nroute add default via {A_INNER6}\n\
         route add {B_OUTER} via {A_INNER} src {HOST}\nroute add {B_OUTER6} via {A_INNER6} src {HOST6}"
    );
    client.ip(&client_lines).expect("the client's addresses");
    let gateway_lines = format!(
        "address add {A_OUTER6}/64 dev wan0 nodad\naddress add {A_INNER6}/48 dev lan0 nodad\n\
         route add default via {B_OUTER6}\nroute add {HOST} dev lan0\nroute add {HOST6} dev lan0"
    );
    a.ip(&gateway_lines).expect("the gateway's addresses");
}
