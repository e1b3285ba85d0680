//! Baton and the Linux kernel's own ESP, with traffic both ways and counters compared at both ends.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use baton_lab::content::Content;
use baton_lab::flood::{self, Sink};
use baton_lab::gateway::random;
use baton_lab::http::{Download, FileServer};
use baton_lab::kernel_peer::{
    self, Connection, Counters, KernelPeer, KernelPeerSpec, Key, Mode, Prefix, Route, Suite,
};
use baton_lab::topology::{self, A_OUTER, B_OUTER, CLIENT, SERVER};
use baton_lab::{Gateway, GatewaySpec, Lab, Namespace, SaSpec, TunnelSpec, command, requirements, site};
use serde_json::Value;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

use Family::{V4, V6};
use Mode::{Transport, Tunnel};

/// One way to speak ESP.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    mode: Mode,
    outer: Family,
    inner: Family,
    suite: &'static str,
    extended_sequence: bool,
    /// UDP port of both ends, for RFC 3948.
    encapsulation: Option<u16>,
}

impl Case {
    const fn new(name: &'static str, mode: Mode, outer: Family, inner: Family, suite: &'static str) -> Self {
        Self { name, mode, outer, inner, suite, extended_sequence: false, encapsulation: None }
    }

    const fn with_esn(self) -> Self {
        Self { extended_sequence: true, ..self }
    }

    const fn in_udp(self) -> Self {
        Self { encapsulation: Some(4500), ..self }
    }
}

/// What Baton speaks with the kernel.
const CASES: [Case; 5] = [
    Case::new("tunnel 4 in 4, GCM-16", Tunnel, V4, V4, "aes128gcm16"),
    Case::new("tunnel 4 in 4, GCM-16 ESN", Tunnel, V4, V4, "aes128gcm16").with_esn(),
    Case::new("tunnel 4 in 4, AES-256 GCM-16", Tunnel, V4, V4, "aes256gcm16"),
    Case::new("tunnel 4 in 4, AES-192 GCM-12", Tunnel, V4, V4, "aes192gcm12"),
    Case::new("tunnel 4 in 4, GCM-8 ESN", Tunnel, V4, V4, "aes128gcm8").with_esn(),
];

const TUNNEL: &str = "linux";
const SPI_TO_BATON: u32 = 0x1100_0001;
const SPI_TO_KERNEL: u32 = 0x2a00_0001;
const REQID: u32 = 7;
const REPLAY_WINDOW: u16 = 1024;

/// Octets that TCP carries each way.
const FILE: u64 = 2_000_000;
const SINK: u16 = 9;
const WEB: u16 = 80;
const SEED: u64 = 11;
const PATIENCE: Duration = Duration::from_secs(30);

const A_OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1);
const B_OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2);
const A_INNER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const A_INNER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x1, 0, 0, 0, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x1, 0, 0, 0, 0, 2);
/// The client's addresses in transport mode, where Baton's end of the SA is the host itself.
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 7);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x2, 0, 0, 0, 0, 2);

fn can_run(test: &str) -> bool {
    if let Err(reason) = kernel_peer::requirements() {
        requirements::skipped(test, &reason);
        return false;
    }
    support::can_run(test)
}

/// The ends of the SAs: Baton's and the kernel's.
fn ends(case: &Case) -> (IpAddr, IpAddr) {
    match (case.mode, case.outer) {
        (Tunnel, V4) => (A_OUTER.into(), B_OUTER.into()),
        (Tunnel, V6) => (A_OUTER6.into(), B_OUTER6.into()),
        (Transport, V4) => (HOST.into(), B_OUTER.into()),
        (Transport, V6) => (HOST6.into(), B_OUTER6.into()),
    }
}

/// The hosts that speak through the SAs: on Baton's side and on the kernel's.
fn hosts(case: &Case) -> (IpAddr, IpAddr) {
    match (case.mode, case.inner) {
        (Transport, _) => ends(case),
        (Tunnel, V4) => (CLIENT.into(), SERVER.into()),
        (Tunnel, V6) => (CLIENT6.into(), SERVER6.into()),
    }
}

/// What a case protects of a host: its /16 or /48 in tunnel mode, itself in transport mode.
fn protected(case: &Case, host: IpAddr) -> Prefix {
    match case.mode {
        Tunnel => network(host),
        Transport => Prefix::host(host),
    }
}

/// The /16 or /48 of an address.
fn network(address: IpAddr) -> Prefix {
    match address {
        IpAddr::V4(address) => {
            Prefix { address: Ipv4Addr::from(u32::from(address) & (!0 << 16)).into(), length: 16 }
        }
        IpAddr::V6(address) => {
            Prefix { address: Ipv6Addr::from(u128::from(address) & (!0 << 80)).into(), length: 48 }
        }
    }
}

/// A case as the kernel has it, with fresh keys.
fn connection(case: &Case) -> Connection {
    let suite = Suite::named(case.suite).expect("a suite of the kernel");
    let key = || Key::random(&suite).expect("random");
    let ((remote, local), (remote_host, local_host)) = (ends(case), hosts(case));
    Connection {
        local,
        remote,
        local_network: protected(case, local_host),
        remote_network: protected(case, remote_host),
        mode: case.mode,
        inbound: (SPI_TO_KERNEL, key()),
        outbound: (SPI_TO_BATON, key()),
        reqid: REQID,
        extended_sequence: case.extended_sequence,
        replay_window: REPLAY_WINDOW.into(),
        encapsulation: case.encapsulation.map(|port| (port, port)),
        suite,
    }
}

/// The kernel at the far end.
fn kernel() -> KernelPeerSpec {
    let prefix = |address: IpAddr, length| Prefix { address, length };
    let to = |network, via, source| Route { network, via, source };
    KernelPeerSpec {
        name: "linux-b".into(),
        mac: "02:ba:70:00:00:0b".into(),
        outer: vec![prefix(B_OUTER.into(), 24), prefix(B_OUTER6.into(), 64)],
        inner: vec![prefix(SERVER.into(), 16), prefix(SERVER6.into(), 48)],
        routes: vec![
            to(network(CLIENT.into()), A_OUTER.into(), SERVER.into()),
            to(network(CLIENT6.into()), A_OUTER6.into(), SERVER6.into()),
            to(Prefix::host(HOST.into()), A_OUTER.into(), B_OUTER.into()),
            to(Prefix::host(HOST6.into()), A_OUTER6.into(), B_OUTER6.into()),
        ],
    }
}

/// A kernel in Baton's place.
fn kernel_for_baton() -> KernelPeerSpec {
    let prefix = |address: IpAddr, length| Prefix { address, length };
    let to = |network, via, source| Route { network, via, source };
    KernelPeerSpec {
        name: "linux-a".into(),
        mac: "02:ba:70:00:00:0a".into(),
        outer: vec![prefix(A_OUTER.into(), 24), prefix(A_OUTER6.into(), 64)],
        inner: vec![
            prefix(CLIENT.into(), 16),
            prefix(CLIENT6.into(), 48),
            prefix(HOST.into(), 32),
            prefix(HOST6.into(), 128),
        ],
        routes: vec![
            to(network(SERVER.into()), B_OUTER.into(), CLIENT.into()),
            to(network(SERVER6.into()), B_OUTER6.into(), CLIENT6.into()),
        ],
    }
}

/// A namespace with a bridge that joins `ports`, once these exist.
fn wire(lab: &Lab) -> Namespace {
    let wire = lab.namespace("wire").expect("namespace");
    wire.ip("link add hub type bridge stp_state 0 mcast_snooping 0\nlink set hub up").expect("bridge");
    wire
}

fn plug_in(wire: &Namespace, port: &str) {
    wire.ip(&format!("link set dev {port} master hub up")).expect("port");
}

fn ping_from(peer: &mut KernelPeer, target: IpAddr, source: IpAddr) {
    let answer =
        peer.run(&format!("ping -c 3 -i 0.02 -W 5 -I {source} {target}")).expect("ping from the kernel");
    assert!(answer.contains(" 0% packet loss"), "{answer}");
}

/// The peer of the other tests, judged by itself: every suite, mode, family and encapsulation.
#[test]
fn two_kernels_speak_every_case_with_each_other() {
    if !can_run("two_kernels_speak_every_case_with_each_other") {
        return;
    }
    let lab = Lab::new().expect("lab");
    let wire = wire(&lab);
    let [mut a, mut b] = [kernel_for_baton(), kernel()].map(|spec| {
        let peer = KernelPeer::boot(&lab, &wire, &spec).expect("a kernel");
        plug_in(&wire, &spec.name);
        peer
    });
    for peer in [&mut a, &mut b] {
        let _until_the_end =
            peer.serve("peer encapsulation 4500 3600", 4500).expect("sockets for UDP encapsulation");
    }
    for case in every_case() {
        two_kernels_speak(&case, &mut a, &mut b);
    }
}

fn two_kernels_speak(case: &Case, a: &mut KernelPeer, b: &mut KernelPeer) {
    let there = connection(case);
    configure_both([(&mut *a, &there.mirrored()), (&mut *b, &there)]);
    let (source, target) = hosts(case);
    ping_from(a, target, source);
    for peer in [a, b] {
        let counted = counters(peer);
        assert_eq!([SPI_TO_BATON, SPI_TO_KERNEL].map(|spi| counted.packets(spi)), [3, 3], "{case:?}");
        assert_eq!(counted.drops, [].into(), "{case:?}");
    }
}

/// Configures two kernels at once: each takes a tenth of a second.
fn configure_both(ends: [(&mut KernelPeer, &Connection); 2]) {
    std::thread::scope(|scope| {
        for (peer, connection) in ends {
            scope.spawn(move || configure(peer, connection));
        }
    });
}

fn configure(peer: &mut KernelPeer, connection: &Connection) {
    let configured = peer.configure(&connection.states(), &connection.policies());
    configured.unwrap_or_else(|error| panic!("{connection:?}: {error}"));
}

fn counters(peer: &mut KernelPeer) -> Counters {
    peer.counters().expect("the kernel's counters")
}

/// Every suite in the plainest case, and the commonest ones in all others.
fn every_case() -> Vec<Case> {
    let suites = [
        "aes128gcm8",
        "aes192gcm12",
        "aes256gcm16",
        "aes128ccm8",
        "aes192ccm12",
        "aes256ccm16",
        "chacha20poly1305",
        "aes128gmac",
        "aes256gmac",
        "aes128-sha1",
        "aes256-sha256",
        "aes192-sha384",
        "aes256-sha512",
        "aes128-aescmac",
        "aes128ctr-sha1",
        "aes256ctr-sha256",
        "null-sha1",
        "null-sha256",
    ];
    let plain = suites.into_iter().map(|suite| Case::new(suite, Tunnel, V4, V4, suite));
    let mixes = [(V4, V4), (V4, V6), (V6, V4), (V6, V6)].map(|(outer, inner)| (Tunnel, outer, inner));
    let mixes = mixes.into_iter().chain([(Transport, V4, V4), (Transport, V6, V6)]);
    let mixed = mixes.flat_map(|(mode, outer, inner)| {
        ["aes128gcm16", "aes256-sha256"].map(|suite| Case::new(suite, mode, outer, inner, suite))
    });
    let mixed = mixed.flat_map(|case| [case, case.with_esn().in_udp()]);
    plain.map(Case::with_esn).chain(mixed).collect()
}

/// A client behind Baton, and the kernel behind a bridge: `client --- a === wire === linux-b`.
/// Fields drop in order: processes before the lab that holds their namespaces.
struct Stage {
    peer: KernelPeer,
    client: Namespace,
    a: Namespace,
    lab: Lab,
}

impl Stage {
    fn build() -> Self {
        let lab = Lab::new().expect("lab");
        let [client, a] = ["client", "a"].map(|role| lab.namespace(role).expect("namespace"));
        let wire = wire(&lab);
        topology::wire(&client, "eth0", &a, "lan0").expect("veth");
        topology::wire(&a, "wan0", &wire, "a").expect("veth");
        topology::host(&client, CLIENT, A_INNER).expect("client");
        topology::gateway(&a, A_OUTER, A_INNER, B_OUTER).expect("gateway");
        add_addresses(&client, &a);
        plug_in(&wire, "a");
        let spec = kernel();
        let peer = KernelPeer::boot(&lab, &wire, &spec).expect("a kernel");
        plug_in(&wire, &spec.name);
        Self { peer, client, a, lab }
    }
}

/// Gives client and gateway their IPv6 addresses, and the client the ones of transport mode.
fn add_addresses(client: &Namespace, a: &Namespace) {
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

#[test]
fn baton_and_the_linux_kernel_speak_every_case() {
    if !can_run("baton_and_the_linux_kernel_speak_every_case") {
        return;
    }
    let mut stage = Stage::build();
    let _until_the_end =
        stage.peer.serve("peer encapsulation 4500 3600", 4500).expect("sockets for UDP encapsulation");
    serve_files(&mut stage);
    for (number, case) in CASES.iter().enumerate() {
        let datagrams = support::count(if number == 0 { 20_000 } else { 4_000 }, 100_000);
        baton_and_kernel_speak(case, datagrams as u32, &mut stage);
    }
}

/// Readies the files of [`download_both_ways`]: the client serves one, the kernel has one with a header of HTTP.
fn serve_files(stage: &mut Stage) {
    for address in [IpAddr::from(CLIENT), CLIENT6.into(), HOST.into(), HOST6.into()] {
        FileServer::start(&stage.client, SocketAddr::new(address, WEB), SEED, FILE).expect("a server");
    }
    let header = format!("HTTP/1.1 200 OK\\r\\ncontent-length: {FILE}\\r\\n\\r\\n");
    let script = format!("( printf '{header}'; head -c {FILE} /dev/urandom ) >/run/file");
    stage.peer.run(&script).expect("a file");
}

fn baton_and_kernel_speak(case: &Case, datagrams: u32, stage: &mut Stage) {
    let connection = connection(case);
    configure(&mut stage.peer, &connection);
    let mut gateway = Gateway::new(&stage.lab, &stage.a, gateway(case, &connection)).expect("gateway");
    gateway.start(&stage.lab).expect("the gateway starts");
    let before = counters(&mut stage.peer);
    ping_both_ways(case, stage);
    download_both_ways(case, stage);
    flood_both_ways(case, datagrams, stage);
    assert_same_counts(case, datagrams, &gateway, stage);
    assert_eq!(counters(&mut stage.peer).drops_since(&before), [].into(), "{case:?}");
    gateway.stop().expect("the gateway ends");
    gateway.uninstall().expect("uninstalled");
}

/// Baton's end of the case.
fn gateway(case: &Case, connection: &Connection) -> GatewaySpec {
    let there = connection.mirrored();
    let sa = |(spi, key): &(u32, Key)| Some(SaSpec { spi: *spi, key: key.octets().to_owned() });
    let tunnel = TunnelSpec {
        name: TUNNEL.into(),
        local: ipv4(there.local),
        remote: ipv4(there.remote),
        local_selectors: vec![there.local_network.to_string()],
        remote_selectors: vec![there.remote_network.to_string()],
        suite: case.suite.into(),
        reqid: REQID,
        extended_sequence: case.extended_sequence,
        replay_window: REPLAY_WINDOW,
        segment: 0x11,
        inbound: sa(&there.inbound),
        outbound: sa(&there.outbound),
    };
    GatewaySpec {
        name: case.name.replace([' ', ','], "-"),
        node: 1,
        outer: ipv4(there.local),
        owned: "\"all\"".into(),
        core: 0,
        tunnels: vec![tunnel],
        snapshot_key: random(32).expect("random"),
    }
}

/// The lab's gateways have IPv4 addresses outside.
fn ipv4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is not IPv4"),
    }
}

fn ping_both_ways(case: &Case, stage: &mut Stage) {
    let (here, there) = hosts(case);
    let mut ping = stage.client.command("ping");
    ping.args(["-n", "-c", "5", "-i", "0.02", "-W", "5", &there.to_string()]);
    let answer = command::run(&mut ping).unwrap_or_else(|error| panic!("{case:?}: {error}"));
    assert!(answer.contains(" 0% packet loss"), "{case:?}: {answer}");
    ping_from(&mut stage.peer, here, there);
}

/// A file each way, by TCP, its checksum compared.
fn download_both_ways(case: &Case, stage: &mut Stage) {
    let (here, there) = hosts(case);
    let fetched = stage.peer.output(&format!("wget -q -O - http://{}/ | sha256sum", host(here)), PATIENCE);
    let fetched = fetched.expect("the kernel answers").text;
    assert_eq!(
        fetched.split(' ').next(),
        Some(Content::new(SEED, FILE).sha256().as_str()),
        "{case:?}: {fetched}"
    );

    let server =
        stage.peer.serve(&format!("nc -l -p {WEB} </run/file >/run/request"), WEB).expect("a server");
    let download = Download::start(&stage.client, SocketAddr::new(there, WEB)).expect("a download");
    let downloaded = download.finish().unwrap_or_else(|error| panic!("{case:?}: {error}"));
    stage.peer.finish(server, PATIENCE).expect("the server ends");
    let sum = stage.peer.run(&format!("tail -c {FILE} /run/file | sha256sum")).expect("a checksum");
    assert_eq!(
        (Some(downloaded.sha256.as_str()), downloaded.octets),
        (sum.split(' ').next(), FILE),
        "{case:?}"
    );
}

/// An address in a URL.
fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Datagrams each way; none may be lost.
fn flood_both_ways(case: &Case, datagrams: u32, stage: &mut Stage) {
    let (here, there) = hosts(case);
    let sink = stage.peer.serve(&format!("peer sink {SINK} {datagrams} 5"), SINK).expect("a sink");
    flood::send(&stage.client, SocketAddr::new(there, SINK), datagrams, 64).expect("a flood");
    let arrived = stage.peer.finish(sink, PATIENCE).expect("the sink ends");
    assert_eq!(arrived.trim(), datagrams.to_string(), "{case:?}: datagrams to the kernel");

    let patience = Duration::from_secs(5);
    let sink = Sink::start(&stage.client, SocketAddr::new(here, SINK), datagrams, patience).expect("a sink");
    let script = format!("peer flood {here} {SINK} {datagrams} 64");
    let sent = stage.peer.output(&script, PATIENCE).expect("the kernel answers");
    assert_eq!((sent.code, sent.text.trim()), (0, datagrams.to_string().as_str()), "{case:?}");
    assert_eq!(sink.finish(), datagrams, "{case:?}: datagrams from the kernel");
}

/// What one end sealed, the other opened: the two agree on every packet, retransmissions and all.
fn assert_same_counts(case: &Case, datagrams: u32, gateway: &Gateway, stage: &mut Stage) {
    let deadline = std::time::Instant::now() + support::PATIENCE;
    loop {
        let kernel = counters(&mut stage.peer);
        let kernel = [SPI_TO_BATON, SPI_TO_KERNEL].map(|spi| kernel.packets(spi));
        let baton = ["inbound", "outbound"].map(|direction| packets(gateway, direction));
        if kernel == baton && kernel.iter().all(|packets| *packets > u64::from(datagrams)) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{case:?}: kernel {kernel:?}, Baton {baton:?}");
    }
}

/// Packets of Baton's SA, as `dpctl` shows them.
fn packets(gateway: &Gateway, direction: &str) -> u64 {
    let answer = gateway.dpctl_json(&["sa", "show", TUNNEL]).expect("dpctl");
    let wanted = |value: &Value| value["direction"] == direction;
    let packets =
        site::find(&answer, &wanted).and_then(|sa| site::find(sa, &|value| value.get("packets").is_some()));
    packets.and_then(|value| value["packets"].as_u64()).expect("a count of packets")
}
