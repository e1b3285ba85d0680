//! The networks that tests and the demo are played on.
//!
//! ```text
//! client --- a ===+=== wan (hub) ===+=== b  ---+
//!  10.1/16        203.0.113/24      |          +--- lan (hub) --- server
//!                                   +=== b2 ---+                  10.2/16
//! ```
//! `b` and `b2` have the same addresses and the same MAC addresses on both sides: every frame to them
//! reaches both, and the filter of the one that does not own the segment drops it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use crate::command;
use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::shape::Shape;

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

/// Gateway A's outer address in IPv6.
pub const A_OUTER6: Ipv6Addr = ipv6(0x113, 1);
/// The one that B and B2 share.
pub const B_OUTER6: Ipv6Addr = ipv6(0x113, 2);
/// The IPv6 network behind A.
pub const A_NETWORK6: &str = "2001:db8:1::/48";
/// The IPv6 network behind B and B2.
pub const B_NETWORK6: &str = "2001:db8:2::/48";
/// The client's address in IPv6.
pub const CLIENT6: Ipv6Addr = ipv6(1, 2);
/// The server's address in IPv6.
pub const SERVER6: Ipv6Addr = ipv6(2, 2);
/// The inner address that B and B2 share.
pub const B_INNER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
/// The same in IPv6.
pub const B_INNER6: Ipv6Addr = ipv6(2, 1);
const OUTER6: [Ipv6Addr; 2] = [A_OUTER6, B_OUTER6];
const INNER6: [Ipv6Addr; 2] = [ipv6(1, 1), B_INNER6];

/// The client's address in transport mode, where the SAs end at the hosts: the gateways protect what it says.
pub const A_HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// The server's.
pub const B_HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);
/// The same in IPv6.
pub const A_HOST6: Ipv6Addr = ipv6(0x113, 7);
/// The server's.
pub const B_HOST6: Ipv6Addr = ipv6(0x113, 8);

const fn ipv6(network: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host)
}

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
        let topology = Self::namespaces(lab, lab.namespace("client")?, lab.namespace("a")?)?;
        wire(&topology.client, "eth0", &topology.a, "lan0")?;
        topology.lay_wires()?;
        host(&topology.client, CLIENT, Ipv4Addr::new(10, 1, 0, 1))?;
        gateway(&topology.a, A_OUTER, Ipv4Addr::new(10, 1, 0, 1), B_OUTER)?;
        topology.give_addresses()?;
        Ok(topology)
    }

    /// The same with the client in A's place: it has A's outer address and speaks for itself.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn build_with_client_outside(lab: &Lab) -> Result<Self> {
        let client = lab.namespace("client")?;
        let topology = Self::namespaces(lab, client.clone(), client)?;
        topology.lay_wires()?;
        topology.client.ip(&format!("link set wan0 up\naddress add {A_OUTER}/24 dev wan0"))?;
        topology.give_addresses()?;
        Ok(topology)
    }

    fn namespaces(lab: &Lab, client: Namespace, a: Namespace) -> Result<Self> {
        Ok(Self {
            client,
            a,
            wan: lab.namespace("wan")?,
            b: lab.namespace("b")?,
            b2: lab.namespace("b2")?,
            lan: lab.namespace("lan")?,
            server: lab.namespace("server")?,
        })
    }

    fn lay_wires(&self) -> Result<()> {
        hub(&self.wan)?;
        hub(&self.lan)?;
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

    /// Gives everybody the addresses and routes of a shape that differs from the plain one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn prepare_for(&self, shape: Shape) -> Result<()> {
        self.prepare_a_side_for(shape)?;
        [&self.b, &self.b2].into_iter().try_for_each(|twin| prepare(shape, 1, &self.server, twin))
    }

    /// Gives them to the client and to A alone, whose interfaces may be new.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn prepare_a_side_for(&self, shape: Shape) -> Result<()> {
        prepare(shape, 0, &self.client, &self.a)
    }

    /// IPv6 beside IPv4, with the client outside, and B2 up.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn add_ipv6_with_client_outside(&self) -> Result<()> {
        enable_ipv6(&self.client, &["wan0"])?;
        self.client.ip(&format!("address replace {A_OUTER6}/64 dev wan0 nodad"))?;
        let shape = Shape::DEFAULT.of_ipv6().in_ipv6();
        [&self.b, &self.b2].into_iter().try_for_each(|twin| {
            twin.ip("link set wan0 up\nlink set lan0 up")?;
            prepare(shape, 1, &self.server, twin)
        })
    }

    /// Makes two hosts of the twins, as nodes of a cluster on one link are: each has a MAC address and addresses of its
    /// own beside those that they share, and the hubs learn who is where. B2 is down.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn separate_twins(&self, lab: &Lab) -> Result<()> {
        let passing = passing_program(lab)?;
        for (hub, ports) in [(&self.wan, ["a", "b", "b2"]), (&self.lan, ["b", "b2", "server"])] {
            hub.ip("link set hub type bridge ageing_time 30000")?;
            for port in ports {
                hub.ip(&format!("link set dev {port} type bridge_slave learning on"))?;
                // What an XDP program sends back over a veth arrives only if the other end has one, too.
                hub.ip(&format!("link set dev {port} xdp obj {} sec xdp", passing.display()))?;
            }
        }
        for (twin, own) in [(&self.b, 12), (&self.b2, 13)] {
            twin.set("net/ipv4/conf/all/arp_announce", "2")?;
            // The first address is the one that the kernel asks for others with.
            twin.ip(&format!(
                "address flush dev wan0\naddress flush dev lan0\n\
                 link set wan0 address 02:ba:70:00:00:{own}\nlink set lan0 address 02:ba:70:00:01:{own}\n\
                 address add 203.0.113.{own}/24 dev wan0\naddress add {B_OUTER}/24 dev wan0\n\
                 address add 10.2.0.{own}/16 dev lan0\naddress add {B_INNER}/16 dev lan0"
            ))?;
        }
        self.b.ip(&format!("route replace default via {A_OUTER}"))
    }

    /// The same in IPv6, once it is there: by the shared addresses the kernels say nothing by themselves.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn separate_twins6(&self) -> Result<()> {
        [(&self.b, 12), (&self.b2, 13)].into_iter().try_for_each(|(twin, own)| {
            let silent = "nodad valid_lft forever preferred_lft 0";
            twin.ip(&format!(
                "address replace 2001:db8:113::{own}/64 dev wan0 nodad\naddress replace 2001:db8:2::{own}/48 dev lan0 nodad\n\
                 address replace {B_OUTER6}/64 dev wan0 {silent}\naddress replace {B_INNER6}/48 dev lan0 {silent}"
            ))
        })
    }

    fn give_addresses(&self) -> Result<()> {
        host(&self.server, SERVER, B_INNER)?;
        for twin in [&self.b, &self.b2] {
            twin.ip(&format!("link set wan0 address {B_OUTER_MAC}\nlink set lan0 address {B_INNER_MAC}"))?;
            gateway(twin, B_OUTER, B_INNER, A_OUTER)?;
        }
        Ok(())
    }

    /// Bounds what the server sends, in Mbit/s: what a slow peer cannot take would be lost whatever the gateways do.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn limit_server(&self, megabits: u32) -> Result<()> {
        let rate = format!("{megabits}mbit");
        let mut tc = self.server.command("tc");
        tc.args([
            "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "32kb", "limit", "2mb",
        ]);
        command::run(&mut tc).map(drop)
    }
}

/// An XDP program that lets everything pass.
fn passing_program(lab: &Lab) -> Result<PathBuf> {
    let (source, object) = (lab.path().join("pass.c"), lab.path().join("pass.o"));
    let text = "__attribute__((section(\"xdp\"), used)) int pass(void *context) { return 2; }\n";
    fs::write(&source, text).map_err(LabError::path("write", &source))?;
    let mut clang = Command::new(std::env::var("CLANG").unwrap_or_else(|_| "clang".into()));
    command::run(clang.args(["-target", "bpf", "-O2", "-g", "-c", "-o"]).arg(&object).arg(&source))?;
    Ok(object)
}

/// What a shape needs on one side: 0 is A's, 1 is B's.
fn prepare(shape: Shape, side: usize, host: &Namespace, gateway: &Namespace) -> Result<()> {
    if shape.has_ipv6() {
        host_ipv6(host, [CLIENT6, SERVER6][side], INNER6[side])?;
        gateway_ipv6(gateway, OUTER6[side], INNER6[side], OUTER6[1 - side])?;
    }
    if shape.transport { add_transport_host(shape, side, host, gateway) } else { Ok(()) }
}

/// In transport mode each gateway has a host of the outer network behind it, and a way in clear to the other's.
fn add_transport_host(shape: Shape, side: usize, host: &Namespace, gateway: &Namespace) -> Result<()> {
    let (length, routers) = if shape.outer_ipv6 {
        ("128", OUTER6.map(IpAddr::from))
    } else {
        ("32", [A_OUTER, B_OUTER].map(IpAddr::from))
    };
    let (own, other, via) = (shape.hosts()[side], shape.hosts()[1 - side], routers[1 - side]);
    host.ip(&format!("address replace {own}/{length} dev eth0 {}", nodad(own)))?;
    gateway.ip(&format!("route replace {own} dev lan0\nroute replace {other} via {via} dev wan0"))
}

/// Addresses that nobody has to be asked about are usable at once.
fn nodad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "nodad" } else { "" }
}

/// Wakes IPv6 up, which namespaces of the lab have switched off. The twins have one MAC address, and so one
/// link-local address, which neither may find the other with.
fn enable_ipv6(namespace: &Namespace, interfaces: &[&str]) -> Result<()> {
    for scope in [&["all", "default"], interfaces].concat() {
        namespace.set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
    }
    ["all", "default"]
        .iter()
        .try_for_each(|scope| namespace.set(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0"))
}

fn host_ipv6(namespace: &Namespace, address: Ipv6Addr, router: Ipv6Addr) -> Result<()> {
    enable_ipv6(namespace, &["eth0"])?;
    namespace.ip(&format!(
        "address replace {address}/48 dev eth0 nodad\nroute replace default via {router} dev eth0"
    ))
}

/// As [`gateway`].
fn gateway_ipv6(namespace: &Namespace, outer: Ipv6Addr, inner: Ipv6Addr, default: Ipv6Addr) -> Result<()> {
    enable_ipv6(namespace, &["wan0", "lan0"])?;
    namespace.set("net/ipv6/conf/all/forwarding", "1")?;
    namespace.ip(&format!(
        "address replace {outer}/64 dev wan0 nodad\naddress replace {inner}/48 dev lan0 nodad\n\
         route replace default via {default} dev wan0"
    ))
}

/// A socket address of the server.
pub fn server_port(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(SERVER), port)
}

/// The same in IPv6.
pub fn server_port6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(SERVER6), port)
}

/// A socket address of the client.
pub fn client_port(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(CLIENT), port)
}

/// A bridge that learns nothing and so repeats every frame to every other port.
pub(crate) fn hub(namespace: &Namespace) -> Result<()> {
    namespace.ip("link add hub type bridge ageing_time 0 mcast_snooping 0 stp_state 0\nlink set hub up")
}

pub(crate) fn plug_in(hub: &Namespace, ports: &[&str]) -> Result<()> {
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
