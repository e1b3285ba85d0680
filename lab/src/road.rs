//! A host on the road: behind a router of somebody else's, with gateways in the net and a server behind them.
//!
//! ```text
//! laptop ---- router ---- wan (hub) ===+=== near ---+
//!  192.0.2.10   203.0.113.254  203.0.113.1          +--- lan (hub) --- server
//!                                      +=== far  ---+                  10.2.0.2
//!                                        203.0.113.3
//! ```
//! The gateways' addresses are not on the laptop's link, and so its way to them is the default route, as for everything;
//! so is its way to the server in clear, which is there if nobody keeps it closed.

use std::net::Ipv4Addr;

use crate::command;
use crate::error::Result;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::topology::{hub, plug_in, wire};

/// Where the laptop is at first.
pub const LAPTOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Where it may be instead.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
/// The gateways.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The other one.
pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);
/// A host of the net that is not protected by anybody.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);

/// The wires.
#[derive(Debug)]
pub struct Road {
    /// The host on the road.
    pub laptop: Namespace,
    /// Its router.
    pub router: Namespace,
    /// The net; its ports are called `router`, `near` and `far`.
    pub wan: Namespace,
    /// A gateway.
    pub near: Namespace,
    /// Another one.
    pub far: Namespace,
    /// Behind them; its ports are called `near`, `far` and `server`.
    pub lan: Namespace,
    /// The server.
    pub server: Namespace,
}

impl Road {
    /// Lays everything out.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn build(lab: &Lab) -> Result<Self> {
        let road = Self {
            laptop: lab.namespace("laptop")?,
            router: lab.namespace("router")?,
            wan: lab.namespace("wan")?,
            near: lab.namespace("near")?,
            far: lab.namespace("far")?,
            lan: lab.namespace("lan")?,
            server: lab.namespace("server")?,
        };
        road.lay_wires()?;
        road.give_addresses()?;
        Ok(road)
    }

    fn lay_wires(&self) -> Result<()> {
        hub(&self.wan)?;
        hub(&self.lan)?;
        wire(&self.laptop, "wan0", &self.router, "home0")?;
        for (machine, port) in [(&self.router, "router"), (&self.near, "near"), (&self.far, "far")] {
            wire(machine, "wan0", &self.wan, port)?;
        }
        for (machine, interface, port) in
            [(&self.near, "lan0", "near"), (&self.far, "lan0", "far"), (&self.server, "eth0", "server")]
        {
            wire(machine, interface, &self.lan, port)?;
        }
        plug_in(&self.wan, &["router", "near", "far"])?;
        plug_in(&self.lan, &["near", "far", "server"])
    }

    fn give_addresses(&self) -> Result<()> {
        self.router.set("net/ipv4/ip_forward", "1")?;
        self.router.ip(&format!(
            "link set home0 up\nlink set wan0 up\naddress add 192.0.2.1/24 dev home0\n\
             address add {ROUTER}/24 dev wan0\nroute add 10.2.0.0/16 via {NEAR}"
        ))?;
        self.laptop.set("net/ipv4/conf/all/rp_filter", "0")?;
        self.laptop.set("net/ipv4/conf/default/rp_filter", "0")?;
        self.laptop.ip(&format!(
            "link set wan0 up\naddress add {LAPTOP}/24 dev wan0\nroute add default via 192.0.2.1"
        ))?;
        for (machine, outer, inner) in [(&self.near, NEAR, "10.2.0.1"), (&self.far, FAR, "10.2.0.3")] {
            gateway(machine, outer, inner)?;
        }
        crate::topology::host(&self.server, Ipv4Addr::new(10, 2, 0, 2), Ipv4Addr::new(10, 2, 0, 1))?;
        for machine in [&self.laptop, &self.near, &self.far] {
            // What a local stack sends crosses a veth with partial checksums unless offloads are off.
            command::run(machine.command("ethtool").args(["-K", "wan0", "tx", "off"]))?;
        }
        Ok(())
    }

    /// The laptop is elsewhere from one moment to the next.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn move_laptop(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<()> {
        self.laptop.set("net/ipv4/conf/wan0/promote_secondaries", "1")?;
        self.laptop.ip(&format!(
            "address add {to}/24 dev wan0\naddress del {from}/24 dev wan0\n\
             route replace default via 192.0.2.1 dev wan0"
        ))
    }
}

fn gateway(machine: &Namespace, outer: Ipv4Addr, inner: &str) -> Result<()> {
    machine.set("net/ipv4/ip_forward", "1")?;
    machine.set("net/ipv4/conf/all/rp_filter", "0")?;
    machine.set("net/ipv4/conf/default/rp_filter", "0")?;
    machine.set("net/ipv4/conf/all/send_redirects", "0")?;
    machine.ip(&format!(
        "link set wan0 up\nlink set lan0 up\naddress add {outer}/24 dev wan0\naddress add {inner}/16 dev lan0\n\
         route add default via {ROUTER}"
    ))
}
