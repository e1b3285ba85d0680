//! The networks that tests and the demo are played on.
//!
//! ```text
//! client --- a ===+=== wan (hub) ===+=== b  ---+
//!  10.1/16        203.0.113/24      |          +--- lan (hub) --- server
//!                                   +=== b2 ---+                  10.2/16
//! ```
//! `b` and `b2` have the same addresses and the same MAC addresses on both sides: every frame to them
//! reaches both, and the filter of the one that does not own the segment drops it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::command;
use crate::error::Result;
use crate::lab::Lab;
use crate::namespace::Namespace;

/// Gateway A's outer address.
pub const A_OUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The outer address that B and B2 share.
pub const B_OUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The network behind A.
pub const A_NETWORK: &str = "10.1.0.0/16";
/// The network behind B and B2.
pub const B_NETWORK: &str = "10.2.0.0/16";
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

/// MTU of the end hosts: an outer packet of 1500 octets holds it with every suite.
const HOST_MTU: u32 = 1400;
const B_OUTER_MAC: &str = "02:ba:70:00:00:02";
const B_INNER_MAC: &str = "02:ba:70:00:01:02";

/// A client, a server, and gateways between them.
#[derive(Debug)]
pub struct Topology {
    /// The host behind A.
    pub client: Namespace,
    /// Gateway A.
    pub a: Namespace,
    /// The hub between the gateways; its ports are called `a`, `b` and `b2`.
    pub wan: Namespace,
    /// Gateway B.
    pub b: Namespace,
    /// Gateway B2, B's twin.
    pub b2: Namespace,
    /// The hub before the server; its ports are called `b`, `b2` and `server`.
    pub lan: Namespace,
    /// The host behind B and B2.
    pub server: Namespace,
}

impl Topology {
    /// Lays everything out; no gateway runs yet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn build(lab: &Lab) -> Result<Self> {
        let topology = Self {
            client: lab.namespace("client")?,
            a: lab.namespace("a")?,
            wan: lab.namespace("wan")?,
            b: lab.namespace("b")?,
            b2: lab.namespace("b2")?,
            lan: lab.namespace("lan")?,
            server: lab.namespace("server")?,
        };
        topology.lay_wires()?;
        topology.give_addresses()?;
        Ok(topology)
    }

    fn lay_wires(&self) -> Result<()> {
        hub(&self.wan)?;
        hub(&self.lan)?;
        wire(&self.client, "eth0", &self.a, "lan0")?;
        for (gateway, port) in [(&self.a, "a"), (&self.b, "b"), (&self.b2, "b2")] {
            wire(gateway, "wan0", &self.wan, port)?;
        }
        for (machine, interface, port) in
            [(&self.b, "lan0", "b"), (&self.b2, "lan0", "b2"), (&self.server, "eth0", "server")]
        {
            wire(machine, interface, &self.lan, port)?;
        }
        plug_in(&self.wan, &["a", "b", "b2"])?;
        plug_in(&self.lan, &["b", "b2", "server"])
    }

    fn give_addresses(&self) -> Result<()> {
        host(&self.client, CLIENT, Ipv4Addr::new(10, 1, 0, 1))?;
        host(&self.server, SERVER, Ipv4Addr::new(10, 2, 0, 1))?;
        gateway(&self.a, A_OUTER, Ipv4Addr::new(10, 1, 0, 1), B_OUTER)?;
        for twin in [&self.b, &self.b2] {
            twin.ip(&format!("link set wan0 address {B_OUTER_MAC}\nlink set lan0 address {B_INNER_MAC}"))?;
            gateway(twin, B_OUTER, Ipv4Addr::new(10, 2, 0, 1), A_OUTER)?;
        }
        Ok(())
    }
}

/// A socket address of the server.
pub fn server_port(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(SERVER), port)
}

/// A socket address of the client.
pub fn client_port(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(CLIENT), port)
}

/// A bridge that learns nothing and so repeats every frame to every other port.
fn hub(namespace: &Namespace) -> Result<()> {
    namespace.ip("link add hub type bridge ageing_time 0 mcast_snooping 0 stp_state 0\nlink set hub up")
}

fn plug_in(hub: &Namespace, ports: &[&str]) -> Result<()> {
    ports.iter().try_for_each(|port| {
        let commands = format!(
            "link set dev {port} master hub\nlink set dev {port} type bridge_slave learning off flood on\n\
             link set dev {port} up"
        );
        hub.ip(&commands)
    })
}

/// A veth pair between two namespaces, both ends down.
///
/// # Errors
/// If the kernel refuses.
pub fn wire(left: &Namespace, left_name: &str, right: &Namespace, right_name: &str) -> Result<()> {
    let netns = right.name();
    left.ip(&format!("link add {left_name} type veth peer name {right_name} netns {netns}"))
}

/// Gives an end host its address, its default route and complete checksums.
///
/// # Errors
/// If the kernel refuses.
pub fn host(namespace: &Namespace, address: Ipv4Addr, router: Ipv4Addr) -> Result<()> {
    // Packets of a local stack cross a veth with partial checksums unless offloads are off.
    command::run(namespace.command("ethtool").args(["-K", "eth0", "tx", "off"]))?;
    namespace.ip(&format!(
        "link set eth0 mtu {HOST_MTU} up\naddress add {address}/16 dev eth0\nroute add default via {router}"
    ))
}

/// Gives a gateway its addresses and, like a router that trusts its default route, a way for everything:
/// what Baton does not protect would leave in clear.
///
/// # Errors
/// If the kernel refuses.
pub fn gateway(namespace: &Namespace, outer: Ipv4Addr, inner: Ipv4Addr, default: Ipv4Addr) -> Result<()> {
    namespace.set("net/ipv4/ip_forward", "1")?;
    namespace.set("net/ipv4/conf/all/rp_filter", "0")?;
    namespace.set("net/ipv4/conf/default/rp_filter", "0")?;
    // The inner hosts' redirects would teach them a way around the gateway.
    namespace.set("net/ipv4/conf/all/send_redirects", "0")?;
    namespace.ip(&format!(
        "link set wan0 up\nlink set lan0 up\naddress add {outer}/24 dev wan0\naddress add {inner}/16 dev lan0\n\
         route add default via {default}"
    ))
}
