//! A cluster of two gateways, and strongSwan as a client that knows nothing of clusters.
#![allow(dead_code, reason = "each test binary uses its own part")]

use baton_lab::negotiation::{CHILD, Side};
use baton_lab::peer_site::{road_warrior, road_warrior6};
use baton_lab::topology::{A_OUTER6, B_INNER, B_INNER6, B_OUTER6, server_port, server_port6};
use baton_lab::{
    CharonSpec, ClusterSpec, Gateway, GatewaySpec, Lab, Members, PeerSite, charon, members, requirements,
};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, eventually};

/// Whether a test can run here; says SKIPPED and why if not.
pub fn can_run(test: &str) -> bool {
    let answer = charon::requirements().and_then(|()| {
        let missing = ["baton-dataplane", "baton-ike", "baton-cluster", "dpctl"]
            .into_iter()
            .find(|name| !requirements::binary(name).exists());
        missing.map_or(Ok(()), |name| Err(format!("{name} is not built")))
    });
    if let Err(reason) = &answer {
        requirements::skipped(test, reason);
    }
    answer.is_ok()
}

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// All of its daemons are killed.
    Node,
    /// Its data plane and its IKE daemon are, and its cluster daemon lives.
    Gateway,
    DataPlane,
    Ike,
    Cluster,
    /// It does not hear the other members, nor they it.
    SyncLink,
    /// Nothing comes from its peers, or goes to them.
    OuterLink,
    /// Nothing comes from what is behind it, or goes there.
    InnerLink,
}

impl Failure {
    /// Whether the other node has to take over meanwhile.
    pub fn is_taken_over(self) -> bool {
        !matches!(self, Self::Ike)
    }
}

/// What a stage is like.
#[derive(Clone, Debug)]
pub struct Setting {
    /// IPv6 instead of IPv4, outside and inside.
    pub ipv6: bool,
    pub cluster: ClusterSpec,
    /// Whether the nodes are two hosts on one link, which shares their addresses by itself.
    pub announced: bool,
}

impl Setting {
    /// IPv4, with a witness; all nodes get all frames, by one MAC address of theirs.
    pub fn plain() -> Self {
        Self { ipv6: false, cluster: ClusterSpec::patient([2, 3]), announced: false }
    }

    pub fn of_ipv6(self) -> Self {
        Self { ipv6: true, ..self }
    }

    /// With nodes that share their addresses in this way.
    pub fn announced(mut self, how: &str) -> Self {
        let inner = if self.ipv6 { B_INNER6.to_string() } else { B_INNER.to_string() };
        let options = format!("announce = \"{how}\"\ninner_addresses = [\"{inner}\"]\n");
        self.cluster.options.push_str(&options);
        Self { announced: true, ..self }
    }

    pub fn without_witness(mut self) -> Self {
        self.cluster.witness = false;
        self
    }
}

/// The cast: a cluster of B and B2, and strongSwan on the client.
pub struct Stage {
    pub members: Members,
    pub site: PeerSite,
    pub setting: Setting,
}

impl Stage {
    /// Starts everybody; the client has its tunnel, and each node its half of the segments.
    pub fn start(setting: Setting) -> Self {
        let lab = Lab::new().expect("lab");
        let mut site = PeerSite::build_with_client(lab, &CharonSpec::new("charon")).expect("a site");
        lay_wires(&site, &setting);
        let case = if setting.ipv6 { road_warrior6 } else { road_warrior };
        site.configure(&case(Side::Responder)).expect("configurations");
        [site.b, site.b2] = [site.b, site.b2].map(|gateway| clustered(&site.lab, &gateway, &setting));
        let members = Members::build(&site.lab, &setting.cluster, [&site.b, &site.b2]).expect("a cluster");
        site.start_b2().expect("B2 starts");
        if setting.ipv6 {
            site.topology.b2.ip(&format!("route replace default via {A_OUTER6}")).expect("a route");
        }
        site.start_b().expect("B starts");
        let mut stage = Self { members, site, setting };
        (0..2).for_each(|index| stage.start_cluster_daemon(index));
        if stage.setting.cluster.witness {
            stage.members.start_witness(&stage.site.lab).expect("a witness");
        }
        stage.settle();
        stage.site.charon.initiate(CHILD).unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
        stage.settle();
        stage
    }

    pub fn gateways(&self) -> [&Gateway; 2] {
        [&self.site.b, &self.site.b2]
    }

    /// Waits until both nodes have their half, and each holds what the other one has.
    pub fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !members::is_settled(self.gateways()) {
            let say = || format!("{:?}\n{}", self.gateways().map(members::status), self.logs());
            assert!(Instant::now() < deadline, "not each has its half, and the other's contexts: {}", say());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn owned(&self, index: usize) -> Vec<u64> {
        members::owned(self.gateways()[index])
    }

    pub fn start_cluster_daemon(&mut self, index: usize) {
        let gateway = if index == 0 { &self.site.b } else { &self.site.b2 };
        self.members.start(&self.site.lab, index, gateway).expect("a cluster daemon");
    }

    fn with_gateway(&mut self, index: usize, act: impl FnOnce(&mut Gateway, &Lab)) {
        let PeerSite { b, b2, lab, .. } = &mut self.site;
        act(if index == 0 { b } else { b2 }, lab);
    }

    /// Segment of the one Child SA: the top octet of the SPI that the gateways gave it.
    pub fn segment(&self) -> u64 {
        let sas = self.site.charon.sas().expect("SAs");
        u64::from(sas[0].children[0].outbound_spi >> 24)
    }

    /// The node that owns it; for a moment there may be none.
    pub fn owner(&self) -> usize {
        let segment = self.segment();
        let owner = || (0..2).find(|index| self.owned(*index).contains(&segment));
        let found = Cell::new(None);
        eventually("the segment has an owner", || {
            found.set(owner());
            found.get().is_some()
        });
        found.get().expect("an owner")
    }

    /// A port of the server, inside.
    pub fn server(&self, port: u16) -> SocketAddr {
        if self.setting.ipv6 { server_port6(port) } else { server_port(port) }
    }

    pub fn fail(&mut self, failure: Failure, index: usize) {
        let Self { members, site: PeerSite { b, b2, .. }, .. } = self;
        match failure {
            Failure::Node => members.kill_node(index, if index == 0 { b } else { b2 }),
            Failure::Cluster => members.kill(index),
            Failure::Gateway => self.with_gateway(index, |gateway, _| {
                gateway.kill();
                gateway.kill_ike();
            }),
            Failure::DataPlane => self.with_gateway(index, |gateway, _| gateway.kill()),
            Failure::Ike => self.with_gateway(index, |gateway, _| gateway.kill_ike()),
            _ => self.set_link(failure, index, "down"),
        }
    }

    pub fn mend(&mut self, failure: Failure, index: usize) {
        let start = |gateway: &mut Gateway, lab: &Lab| gateway.start(lab).expect("starts again");
        let start_ike = |gateway: &mut Gateway, lab: &Lab| gateway.start_ike(lab).expect("starts again");
        match failure {
            Failure::Node | Failure::Gateway => {
                self.with_gateway(index, start);
                self.with_gateway(index, start_ike);
            }
            Failure::DataPlane => self.with_gateway(index, start),
            Failure::Ike => self.with_gateway(index, start_ike),
            Failure::Cluster => {}
            _ => self.set_link(failure, index, "up"),
        }
        if matches!(failure, Failure::Node | Failure::Cluster) {
            self.start_cluster_daemon(index);
        }
    }

    /// Lets a node's IKE daemon stand still, or go on.
    pub fn pause_ike(&mut self, index: usize, pause: bool) {
        self.with_gateway(index, |gateway, _| gateway.pause_ike(pause));
    }

    /// At the other end of the wire: the node itself loses its carrier.
    fn set_link(&self, failure: Failure, index: usize, state: &str) {
        let port = ["b", "b2"][index];
        let topology = &self.site.topology;
        match failure {
            Failure::OuterLink => topology.wan.ip(&format!("link set dev {port} {state}")),
            Failure::InnerLink => topology.lan.ip(&format!("link set dev {port} {state}")),
            _ => self.members.set_link(index, state),
        }
        .expect("a link");
    }

    pub fn logs(&self) -> String {
        let PeerSite { charon, b, b2, .. } = &self.site;
        let of = |gateway: &Gateway, index| {
            format!("{}\n{}\n{}", gateway.log(), gateway.ike_log(), self.members.log(index))
        };
        format!("strongSwan:\n{}\nB:\n{}\nB2:\n{}", charon.log(), of(b, 0), of(b2, 1))
    }
}

fn lay_wires(site: &PeerSite, setting: &Setting) {
    if setting.announced {
        site.topology.separate_twins(&site.lab).expect("two hosts");
    }
    if setting.ipv6 {
        site.topology.add_ipv6_with_client_outside().expect("IPv6");
    }
    if setting.ipv6 && setting.announced {
        site.topology.separate_twins6().expect("two hosts");
    }
}

fn clustered(lab: &Lab, gateway: &Gateway, setting: &Setting) -> Gateway {
    let outer = if setting.ipv6 { B_OUTER6.into() } else { gateway.spec().outer };
    let spec = GatewaySpec { outer, ..gateway.spec().clone() };
    let gateway = Gateway::new(lab, gateway.namespace(), spec).expect("a gateway");
    setting.cluster.gateway(lab, &gateway).expect("a member")
}
