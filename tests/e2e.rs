//! Real traffic through real gateways, judged by tools of others.

mod support;

use std::net::Ipv4Addr;

use baton_lab::content::Content;
use baton_lab::gateway::random;
use baton_lab::http::{Download, FileServer};
use baton_lab::ping::ping;
use baton_lab::probe::Echo;
use baton_lab::site::Site;
use baton_lab::sniffer::write_pcap;
use baton_lab::topology::{A_OUTER, B_OUTER, SERVER, Topology};
use baton_lab::{Direction, Gateway, GatewaySpec, Lab, SaSpec, TunnelSpec, command, requirements};
use baton_lab::{scapy, topology};
use baton_sad::Suite;
use serde::Deserialize;
use serde_json::{Value, json};
use support::{OuterTaps, Tap, Traffic};

const FILE: u64 = 30_000_000;
const B_MAC: &str = "02:ba:70:00:00:02";

/// What a scapy script answers.
#[derive(Debug, Deserialize)]
struct Verdict {
    #[serde(alias = "answered")]
    judged: usize,
    findings: Vec<String>,
}

#[test]
fn ping_and_tcp_cross_the_tunnel() {
    if !support::can_run("ping_and_tcp_cross_the_tunnel") {
        return;
    }
    let site = support::running_site();
    let in_clear = |port| Tap::start_filtered(&site.topology.wan, port, Direction::In, "ip and not esp");
    let (taps, before) = (["a", "b"].map(in_clear), frames_on_the_wire(&site));
    ping(&site.topology.client, &[], SERVER.into(), 5).expect("answers");

    let server =
        FileServer::start(&site.topology.server, topology::server_port(80), 5, FILE).expect("server");
    let download = Download::start(&site.topology.client, server.address()).expect("download");
    let downloaded = download.finish().expect("downloaded");
    assert_eq!(downloaded.sha256, Content::new(5, FILE).sha256());
    assert_eq!(taps.map(Tap::finish), [vec![], vec![]], "something other than ESP crossed the outer wire");
    assert!(frames_on_the_wire(&site) > before + 20_000);
}

/// Frames that the hub has had from A and B: all but a few ARP are ESP, as the sniffers tell.
fn frames_on_the_wire(site: &Site) -> u64 {
    let count = |port| {
        let mut ip = site.topology.wan.command("ip");
        let answer = command::run(ip.args(["-json", "-stats", "link", "show", "dev", port])).expect("ip");
        let link: Value = serde_json::from_str(&answer).expect("JSON");
        link[0]["stats64"]["rx"]["packets"].as_u64().expect("a count")
    };
    ["a", "b"].map(count).iter().sum()
}

#[test]
fn scapy_opens_every_packet_that_the_gateways_emit() {
    const TEST: &str = "scapy_opens_every_packet_that_the_gateways_emit";
    if !can_ask_scapy(TEST) {
        return;
    }
    let site = support::running_site();
    let wires = &site.topology;
    let inner =
        [Tap::start(&wires.client, "eth0", Direction::Out), Tap::start(&wires.lan, "server", Direction::In)];
    let outer = OuterTaps::start(&site);
    let traffic = Traffic::start(&site, std::time::Duration::from_millis(2));
    let server = FileServer::start(&wires.server, topology::server_port(80), 6, 1_000_000).expect("server");
    let download = Download::start(&wires.client, server.address()).expect("download");
    download.finish().expect("downloaded");
    ping_with_tos_and_fragments(&wires.client);
    traffic.flows(50);
    drop(traffic);

    let save = |name: &str, frames: &[_]| {
        let path = site.lab.path().join(format!("{name}.pcap"));
        write_pcap(&path, frames).expect("pcap");
        path
    };
    let outer: Vec<_> =
        outer.finish().iter().zip(["a", "b", "b2"]).map(|(frames, name)| save(name, frames)).collect();
    let inner: Vec<_> =
        inner.map(Tap::finish).iter().zip(["c", "s"]).map(|(frames, name)| save(name, frames)).collect();
    let question = json!({"associations": support::associations(&site), "outer": outer, "inner": inner});
    let verdict: Verdict = scapy::ask(&site.topology.client, "judge.py", &question).expect("scapy");
    assert!(verdict.findings.is_empty(), "{:#?}", verdict.findings);
    assert!(verdict.judged > 800, "only {} packets to judge", verdict.judged);
}

/// Pings with a traffic class, with ECN bits and without DF, and one that has to be fragmented.
fn ping_with_tos_and_fragments(client: &baton_lab::Namespace) {
    for options in [["-Q", "0xb8"], ["-Q", "0x02"], ["-M", "dont"], ["-s", "3000"]] {
        ping(client, &options, SERVER.into(), 2).expect("answers");
    }
}

#[test]
fn packets_made_by_scapy_are_accepted_and_answered_in_every_suite() {
    const TEST: &str = "packets_made_by_scapy_are_accepted_and_answered_in_every_suite";
    if !can_ask_scapy(TEST) {
        return;
    }
    let lab = Lab::new().expect("lab");
    let topology = Topology::build(&lab).expect("topology");
    let tunnels = every_suite();
    let mut b = Gateway::new(&lab, &topology.b, lone_gateway(&tunnels)).expect("gateway");
    b.start(&lab).expect("gateway starts");
    let _echo = Echo::start(&topology.server, topology::server_port(support::ECHO)).expect("echo");

    // Around the border of a cipher's block.
    let sizes: Vec<usize> = [0, 1].into_iter().chain(12..18).chain([512, 1300]).collect();
    let question = json!({
        "interface": "wan0", "gateway_mac": B_MAC, "server": [SERVER, support::ECHO], "sizes": sizes,
        "tunnels": tunnels.iter().enumerate().map(|(n, tunnel)| scapy_tunnel(n, tunnel)).collect::<Vec<_>>(),
    });
    let verdict: Verdict = scapy::ask(&topology.a, "peer.py", &question).expect("scapy");
    assert!(verdict.findings.is_empty(), "{:#?}", verdict.findings);
    assert_eq!((tunnels.len(), verdict.judged), (57 * 2, tunnels.len() * sizes.len()));
}

fn can_ask_scapy(test: &str) -> bool {
    if let Err(reason) = requirements::scapy() {
        requirements::skipped(test, &reason);
        return false;
    }
    support::can_run(test)
}

/// A tunnel for each suite, with and without extended sequence numbers.
fn every_suite() -> Vec<TunnelSpec> {
    let variants = Suite::ALL.into_iter().flat_map(|suite| [(suite, false), (suite, true)]);
    variants.enumerate().map(|(number, (suite, esn))| tunnel(number as u32, suite, esn)).collect()
}

fn tunnel(number: u32, suite: Suite, extended_sequence: bool) -> TunnelSpec {
    let sa = |spi| Some(SaSpec { spi, key: random(suite.key_length()).expect("random") });
    TunnelSpec {
        name: format!("{suite}-{}", if extended_sequence { "esn" } else { "seq32" }),
        local: B_OUTER.into(),
        remote: A_OUTER.into(),
        transport: false,
        in_udp: false,
        local_selectors: vec!["10.2.0.0/16".into()],
        remote_selectors: vec![format!("10.1.{number}.0/24")],
        reqid: 100 + number,
        extended_sequence,
        replay_window: 64,
        segment: 0x2a,
        inbound: sa(0x2a00_0100 + number),
        outbound: sa(0x1100_0100 + number),
        suite: suite.to_string(),
    }
}

fn lone_gateway(tunnels: &[TunnelSpec]) -> GatewaySpec {
    GatewaySpec {
        name: "b".into(),
        node: 2,
        outer: B_OUTER.into(),
        outer_io: "auto",
        inner: "lan0",
        owned: "\"all\"".into(),
        core: 0,
        tunnels: tunnels.to_vec(),
        snapshot_key: random(32).expect("random"),
        ike: String::new(),
    }
}

/// A tunnel from the peer's point of view, as `tests/scapy/peer.py` wants it.
fn scapy_tunnel(number: usize, tunnel: &TunnelSpec) -> Value {
    let sa = |sa: &Option<SaSpec>, source: Ipv4Addr, destination: Ipv4Addr| {
        let SaSpec { spi, key } = sa.as_ref().expect("keys");
        let key = baton_lab::content::hex(key);
        let (suite, esn) = (&tunnel.suite, tunnel.extended_sequence);
        json!({"spi": spi, "key": key, "suite": suite, "esn": esn, "source": source, "destination": destination})
    };
    json!({
        "client": format!("10.1.{number}.2"),
        "outbound": sa(&tunnel.inbound, A_OUTER, B_OUTER),
        "inbound": sa(&tunnel.outbound, B_OUTER, A_OUTER),
    })
}
