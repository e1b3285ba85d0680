//! A running gateway and scapy, in tunnels of every mix of families, in UDP and not, over real interfaces.

mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use baton_lab::gateway::random;
use baton_lab::probe::Echo;
use baton_lab::topology::{A_OUTER, B_OUTER, SERVER, Topology};
use baton_lab::{Gateway, GatewaySpec, Lab, SaSpec, TunnelSpec, content, requirements, scapy};
use baton_sad::Suite;
use serde::Deserialize;
use serde_json::{Value, json};

const TEST: &str = "scapy_and_a_running_gateway_speak_every_mix_of_families";
const A_OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1);
const B_OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2);
const B_INNER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);
const B_MAC: &str = "02:ba:70:00:00:02";
/// A block cipher, and one that is none.
const SUITES: [&str; 2] = ["aes256-sha256", "chacha20poly1305"];

/// One tunnel of gateway B's.
struct Tunnel {
    number: usize,
    suite: Suite,
    outer_ipv6: bool,
    inner_ipv6: bool,
    encapsulated: bool,
    /// B's inbound and outbound key.
    keys: [Vec<u8>; 2],
}

/// What `peer.py` answers.
#[derive(Debug, Deserialize)]
struct Verdict {
    answered: usize,
    findings: Vec<String>,
}

fn tunnels() -> Vec<Tunnel> {
    let shapes = (0..8_u8).map(|bits| [bits & 4 > 0, bits & 2 > 0, bits & 1 > 0]);
    let all = SUITES.into_iter().flat_map(|suite| shapes.clone().map(move |shape| (suite, shape)));
    all.enumerate().map(|(number, (suite, shape))| tunnel(number, suite, shape)).collect()
}

fn tunnel(number: usize, suite: &str, [outer_ipv6, inner_ipv6, encapsulated]: [bool; 3]) -> Tunnel {
    let suite = Suite::from_name(suite).expect("a suite");
    let keys = [0, 1].map(|_| random(suite.key_length()).expect("random"));
    Tunnel { number, suite, outer_ipv6, inner_ipv6, encapsulated, keys }
}

impl Tunnel {
    fn spis(&self) -> [u32; 2] {
        [0x2a00_0200, 0x1100_0200].map(|first| first + self.number as u32)
    }

    /// A's and B's outer address.
    fn outer(&self) -> [IpAddr; 2] {
        if self.outer_ipv6 { [A_OUTER6.into(), B_OUTER6.into()] } else { [A_OUTER.into(), B_OUTER.into()] }
    }

    fn client(&self) -> String {
        let number = self.number;
        if self.inner_ipv6 { format!("2001:db8:1:{number}::2") } else { format!("10.1.{number}.2") }
    }

    fn server(&self) -> IpAddr {
        if self.inner_ipv6 { SERVER6.into() } else { SERVER.into() }
    }

    /// As gateway B has it.
    fn spec(&self) -> TunnelSpec {
        let (number, [a, b]) = (self.number, self.outer());
        let [local, remote] = if self.inner_ipv6 {
            ["2001:db8:2::/48".into(), format!("2001:db8:1:{number}::/64")]
        } else {
            ["10.2.0.0/16".into(), format!("10.1.{number}.0/24")]
        };
        let [inbound, outbound] =
            [0, 1].map(|n| Some(SaSpec { spi: self.spis()[n], key: self.keys[n].clone() }));
        TunnelSpec {
            name: format!("t{number}"),
            local: b,
            remote: a,
            transport: false,
            in_udp: self.encapsulated,
            local_selectors: vec![local],
            remote_selectors: vec![remote],
            suite: self.suite.to_string(),
            reqid: 200 + number as u32,
            extended_sequence: false,
            replay_window: 64,
            segment: 0x2a,
            inbound,
            outbound,
        }
    }

    /// From the peer's point of view, as `peer.py` wants it.
    fn question(&self) -> Value {
        let [a, b] = self.outer();
        let sa = |n: usize, source: IpAddr, destination: IpAddr| {
            json!({
                "spi": self.spis()[n], "key": content::hex(&self.keys[n]), "suite": self.suite.to_string(),
                "esn": false, "source": source, "destination": destination, "encapsulated": self.encapsulated,
            })
        };
        json!({
            "client": self.client(), "server": [self.server(), support::ECHO],
            "outbound": sa(0, a, b), "inbound": sa(1, b, a),
        })
    }
}

/// The gateway's configuration with an outer address of each family.
fn config(gateway: &Gateway) -> String {
    let both = format!("[\"{B_OUTER}\", \"{B_OUTER6}\"]");
    gateway.config_text().replace(&format!("[\"{B_OUTER}\"]"), &both)
}

/// Gives A's wire, gateway B and the server IPv6 addresses.
fn add_addresses(topology: &Topology) {
    let Topology { a, b, server, .. } = topology;
    for (namespace, interfaces) in [(a, &["wan0"][..]), (b, &["wan0", "lan0"]), (server, &["eth0"])] {
        // As long as a link-local address is not known to be unique, the kernel looks for no neighbours.
        for interface in interfaces {
            namespace.set(&format!("net/ipv6/conf/{interface}/accept_dad"), "0").expect("no detection");
        }
        for scope in ["all", "default"] {
            namespace.set(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0").expect("IPv6");
        }
    }
    b.set("net/ipv6/conf/all/forwarding", "1").expect("forwarding");
    a.ip(&format!("address add {A_OUTER6}/64 dev wan0 nodad")).expect("A's address");
    b.ip(&format!("address add {B_OUTER6}/64 dev wan0 nodad\naddress add {B_INNER6}/48 dev lan0 nodad"))
        .expect("B's addresses");
    server
        .ip(&format!("address add {SERVER6}/48 dev eth0 nodad\nroute add default via {B_INNER6}"))
        .expect("the server's address");
}

fn spec(tunnels: &[Tunnel]) -> GatewaySpec {
    GatewaySpec {
        name: "b".into(),
        node: 2,
        outer: B_OUTER.into(),
        outer_io: "auto",
        inner: "lan0",
        owned: "\"all\"".into(),
        core: 0,
        tunnels: tunnels.iter().map(Tunnel::spec).collect(),
        snapshot_key: random(32).expect("random"),
        ike: String::new(),
    }
}

#[test]
fn scapy_and_a_running_gateway_speak_every_mix_of_families() {
    if let Err(reason) = requirements::scapy() {
        requirements::skipped(TEST, &reason);
        return;
    }
    if !support::can_run(TEST) {
        return;
    }
    let lab = Lab::new().expect("lab");
    let topology = Topology::build(&lab).expect("topology");
    add_addresses(&topology);
    let tunnels = tunnels();
    let mut b = Gateway::new(&lab, &topology.b, spec(&tunnels)).expect("gateway");
    b.write_config(&config(&b)).expect("configuration");
    b.start(&lab).expect("gateway starts");
    let echo = |address: IpAddr| Echo::start(&topology.server, SocketAddr::new(address, support::ECHO));
    let _echoes = [SERVER.into(), SERVER6.into()].map(|address| echo(address).expect("echo"));

    let sizes: Vec<usize> = (0..18).chain([512, 1200]).collect();
    let question = json!({
        "interface": "wan0", "gateway_mac": B_MAC, "server": [SERVER, support::ECHO], "sizes": sizes,
        "tunnels": tunnels.iter().map(Tunnel::question).collect::<Vec<_>>(),
    });
    let verdict: Verdict = scapy::ask(&topology.a, "peer.py", &question).expect("scapy");
    assert!(verdict.findings.is_empty(), "{:#?}\n{}", verdict.findings, b.log());
    assert_eq!((tunnels.len(), verdict.answered), (2 * 8, tunnels.len() * sizes.len()));
}
