//! The cast of negotiations: strongSwan in the place of gateway A, and Baton as B and its twin B2.

use std::net::{IpAddr, Ipv4Addr};

use crate::charon::{Charon, CharonSpec, Section};
use crate::command;
use crate::error::Result;
use crate::gateway::{Gateway, GatewaySpec, random};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::negotiation::{Authentication, Lease, Negotiation, Party, Side};
use crate::topology::{A_NETWORK, A_OUTER, A_OUTER6, B_NETWORK, B_NETWORK6, B_OUTER, B_OUTER6, Topology};

/// Who strongSwan says it is.
pub const A_IDENTITY: &str = "a.lab.test";
/// Who Baton says it is.
pub const B_IDENTITY: &str = "b.lab.test";
/// The addresses of the pool of [`road_warrior`].
pub const ADDRESSES: &str = "10.99.0.0/24";
/// The same of [`road_warrior6`].
pub const ADDRESSES6: &str = "2001:db8:99::/120";
/// The DNS server that goes with them.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 53);
/// What strongSwan's userspace ESP keeps up with, in Mbit/s, on a machine that has other things to do as well.
pub const RATE: u32 = 100;
const SECRET: &str = "thirty-two octets of no meaning.";

/// Fields drop in order: processes before the lab that holds their namespaces.
#[derive(Debug)]
pub struct PeerSite {
    /// strongSwan, before the client.
    pub charon: Charon,
    /// Gateway B, before the server; it owns everything at first.
    pub b: Gateway,
    /// Gateway B2, with B's addresses; it owns nothing at first.
    pub b2: Gateway,
    /// Which side Baton plays.
    pub baton: Side,
    /// The wires. B2's are up while it runs.
    pub topology: Topology,
    /// What removes everything.
    pub lab: Lab,
}

impl PeerSite {
    /// Lays out the namespaces, configures the gateways and starts strongSwan; neither has connections yet.
    ///
    /// # Errors
    /// If the machine refuses.
    pub fn build(lab: Lab, baton: Side, spec: &CharonSpec) -> Result<Self> {
        let topology = Topology::build(&lab)?;
        Self::build_on(topology, lab, baton, spec)
    }

    /// The same with strongSwan on the client itself.
    ///
    /// # Errors
    /// If the machine refuses.
    pub fn build_with_client(lab: Lab, spec: &CharonSpec) -> Result<Self> {
        let topology = Topology::build_with_client_outside(&lab)?;
        Self::build_on(topology, lab, Side::Responder, spec)
    }

    fn build_on(topology: Topology, lab: Lab, baton: Side, spec: &CharonSpec) -> Result<Self> {
        for namespace in [&topology.a, &topology.b, &topology.b2] {
            // What a local stack sends crosses a veth with partial checksums unless offloads are off.
            command::run(namespace.command("ethtool").args(["-K", "wan0", "tx", "off"]))?;
        }
        // Its kernel would answer for B's addresses while no filter is there.
        set_links(&topology.b2, "down")?;
        let key = random(32)?;
        Ok(Self {
            charon: Charon::start(&lab, &topology.a, spec)?,
            b: Gateway::new(&lab, &topology.b, gateway("b", 2, "\"all\"", &key))?,
            b2: Gateway::new(&lab, &topology.b2, gateway("b2", 3, "\"none\"", &key))?,
            baton,
            topology,
            lab,
        })
    }

    /// Gives all of them their sides of a negotiation. Daemons of Baton's that run have not read it yet.
    ///
    /// # Errors
    /// If strongSwan refuses.
    pub fn configure(&mut self, case: &Negotiation) -> Result<()> {
        self.b.set_negotiation(case, self.baton)?;
        self.b2.set_negotiation(case, self.baton)?;
        self.charon.set_negotiation(case, self.baton.other())
    }

    /// Starts both daemons of B.
    ///
    /// # Errors
    /// If one does not come up.
    pub fn start_b(&mut self) -> Result<()> {
        self.b.start(&self.lab)?;
        self.b.start_ike(&self.lab)
    }

    /// Starts both daemons of B2.
    ///
    /// # Errors
    /// If one does not come up.
    pub fn start_b2(&mut self) -> Result<()> {
        set_links(&self.topology.b2, "up")?;
        self.topology.b2.ip(&format!("route replace default via {A_OUTER}"))?;
        self.b2.start(&self.lab)?;
        self.b2.start_ike(&self.lab)
    }
}

fn set_links(namespace: &Namespace, state: &str) -> Result<()> {
    namespace.ip(&format!("link set wan0 {state}\nlink set lan0 {state}"))
}

fn gateway(name: &str, node: u8, owned: &str, snapshot_key: &[u8]) -> GatewaySpec {
    let last_core = std::thread::available_parallelism().map_or(0, |cores| (cores.get() - 1).min(1));
    GatewaySpec {
        name: name.into(),
        node,
        outer: IpAddr::V4(B_OUTER),
        outer_io: "auto",
        inner: "lan0",
        owned: owned.into(),
        core: last_core,
        tunnels: Vec::new(),
        snapshot_key: snapshot_key.to_owned(),
        ike: String::new(),
    }
}

/// A client is given an address of a pool and a DNS server, and reaches Baton's network; as [`site_to_site`].
pub fn road_warrior(baton: Side) -> Negotiation {
    let mut case = site_to_site(baton);
    case.initiator.networks.clear();
    case.lease = Some(Lease { addresses: ADDRESSES.into(), dns: vec![DNS.into()] });
    case
}

/// The same in IPv6, outside and inside, without a DNS server.
pub fn road_warrior6(baton: Side) -> Negotiation {
    let mut case = road_warrior(baton);
    case.initiator.address = A_OUTER6.into();
    case.responder.address = B_OUTER6.into();
    case.responder.networks = vec![B_NETWORK6.into()];
    case.lease = Some(Lease { addresses: ADDRESSES6.into(), dns: Vec::new() });
    case
}

/// strongSwan's networks and Baton's, by a shared secret, in proposals that both have.
pub fn site_to_site(baton: Side) -> Negotiation {
    let party = |address: IpAddr, identity: &str, network: &str| Party {
        address,
        identity: identity.into(),
        networks: vec![network.into()],
        certified: None,
    };
    let strongswan = party(A_OUTER.into(), A_IDENTITY, A_NETWORK);
    let own = party(B_OUTER.into(), B_IDENTITY, B_NETWORK);
    let (initiator, responder) = match baton {
        Side::Initiator => (own, strongswan),
        Side::Responder => (strongswan, own),
    };
    Negotiation {
        authentication: Authentication::PreSharedKey(SECRET.into()),
        ike_proposals: vec!["aes128-sha256-x25519".into()],
        esp_proposals: vec!["aes128gcm16".into()],
        initiator,
        responder,
        lease: None,
        connection_options: Section::new(),
        initiator_options: Section::new(),
        responder_options: Section::new(),
        child_options: Section::new(),
        baton_options: Section::new(),
        daemon_options: Section::new(),
        secrets: Section::new(),
    }
}
