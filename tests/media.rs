//! Gateways whose inner side is a TUN device and whose outer side is plain sockets, against one on AF_XDP.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use baton_lab::content::Content;
use baton_lab::http::{Download, FileServer};
use baton_lab::ping::ping;
use baton_lab::site::Site;
use baton_lab::topology::CLIENT;
use baton_lab::{Gateway, GatewaySpec, Lab, Namespace, command};
use support::OuterTaps;

/// B's own address inside, on its TUN device.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 7);
const TUN: &str = "baton0";
const WEB: u16 = 80;
const FILE: u64 = 20_000_000;
const SEED: u64 = 5;

/// The site with B as a host of its own: no interface inside, traffic of its own through a TUN device.
fn site(outer_io: &'static str) -> (Site, Gateway) {
    let mut site = Site::build(Lab::new().expect("a lab")).expect("a site");
    let b = &site.topology.b;
    b.ip("link set lan0 down").expect("down");
    // Its twin has no data plane here: the kernel would answer in its place.
    site.topology.b2.ip("link set wan0 down").expect("down");
    let spec = GatewaySpec { outer_io, inner: "tun:baton0", ..site.b.spec().clone() };
    let mut gateway = Gateway::new(&site.lab, b, spec).expect("configured");
    gateway.start(&site.lab).expect("the gateway on a TUN starts");
    b.ip(&format!("address add {OWN}/32 dev {TUN}")).expect("an address");
    site.a.start(&site.lab).expect("A starts");
    (site, gateway)
}

fn ping_as(from: &Namespace, own: IpAddr, to: IpAddr) {
    ping(from, &["-I", &own.to_string()], to, 5).unwrap_or_else(|error| panic!("{error}"));
}

/// A file from one host to another, its checksum compared.
fn download(server: &Namespace, address: IpAddr, client: &Namespace) {
    let place = SocketAddr::new(address, WEB);
    let _server = FileServer::start(server, place, SEED, FILE).expect("a server");
    let fetched = Download::start(client, place).and_then(Download::finish).expect("a download");
    assert_eq!(fetched.sha256, Content::new(SEED, FILE).sha256());
}

/// Fails if anything but ESP went over the outer wire in IPv4 (I7).
fn assert_nothing_in_clear(taps: OuterTaps) {
    let frames = taps.finish();
    let ipv4 = frames.iter().flatten().filter(|captured| captured.frame[12..14] == [8, 0]);
    let protocols: Vec<u8> = ipv4.map(|captured| captured.frame[23]).collect();
    assert!(protocols.len() > 1000, "the captures saw the traffic");
    assert!(protocols.iter().all(|protocol| *protocol == 50), "in clear");
}

fn own_traffic_passes(outer_io: &'static str, mode: &str) {
    let (site, mut b) = site(outer_io);
    let status = b.dpctl_json(&["status"]).expect("status");
    assert_eq!((&status["outer"]["xdp_mode"], &status["inner"]["xdp_mode"]), (&mode.into(), &"tun".into()));
    let (client, host) = (&site.topology.client, &site.topology.b);
    let taps = OuterTaps::start(&site);
    ping_as(client, CLIENT.into(), OWN.into());
    ping_as(host, OWN.into(), CLIENT.into());
    download(host, OWN.into(), client);
    download(client, CLIENT.into(), host);
    // The device, its address and its routes outlive the data plane; what goes into it goes nowhere (I7).
    b.kill();
    let mut ping_into_nothing = host.command("ping");
    ping_into_nothing.args(["-n", "-c", "3", "-i", "0.05", "-W", "1", &CLIENT.to_string()]);
    assert!(command::run(&mut ping_into_nothing).is_err(), "nobody is there to carry it");
    b.start(&site.lab).expect("starts again");
    ping_as(host, OWN.into(), CLIENT.into());
    assert_nothing_in_clear(taps);
    // Without the device its prefixes are prohibited.
    b.kill();
    host.ip(&format!("link delete {TUN}")).expect("deleted");
    let lookup = command::run(host.command("ip").args(["route", "get", &CLIENT.to_string()]));
    assert!(lookup.is_err_and(|error| error.to_string().contains("Permission denied")), "a prohibit route");
}

/// Where the kernel of `host` would send a packet; `None` if it refuses.
fn route(host: &Namespace, to: &str) -> Option<String> {
    command::run(host.command("ip").args(["route", "get", to])).ok()
}

fn leads_into_the_tun(host: &Namespace, to: &str) -> bool {
    (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        route(host, to).is_some_and(|route| route.contains(TUN))
    })
}

#[test]
fn routes_into_a_tun_follow_policies_and_come_back_with_the_device() {
    if !support::can_run("routes_into_a_tun_follow_policies_and_come_back_with_the_device") {
        return;
    }
    let (site, b) = site("socket");
    let host = &site.topology.b;
    let added = b.dpctl_json(&[
        "policy",
        "add",
        "late",
        "--action",
        "protect",
        "--local",
        "10.2.0.7",
        "--remote",
        "10.77.0.0/16",
        "--reqid",
        "77",
        "--segment",
        "42",
    ]);
    added.expect("a policy");
    assert!(route(host, "10.77.0.1").is_some_and(|route| route.contains(TUN)));
    assert!(route(host, &CLIENT.to_string()).is_some_and(|route| route.contains(TUN)));
    // The kernel forgets the routes of a device that goes down; until they are back, the prohibit routes hold (I7).
    host.ip(&format!("link set {TUN} down")).expect("down");
    assert_eq!(route(host, "10.77.0.1"), None);
    host.ip(&format!("link set {TUN} up")).expect("up");
    assert!(leads_into_the_tun(host, "10.77.0.1") && leads_into_the_tun(host, &CLIENT.to_string()));
    b.dpctl_json(&["policy", "remove", "late"]).expect("removed");
    assert_eq!(route(host, "10.77.0.1"), None, "prohibited, and no longer led into the device");
}

#[test]
fn own_traffic_passes_through_a_tun_and_af_xdp() {
    if support::can_run("own_traffic_passes_through_a_tun_and_af_xdp") {
        own_traffic_passes("af-xdp", "native");
    }
}

#[test]
fn own_traffic_passes_through_a_tun_and_plain_sockets() {
    if support::can_run("own_traffic_passes_through_a_tun_and_plain_sockets") {
        own_traffic_passes("socket", "socket");
    }
}
