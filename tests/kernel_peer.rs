//! Baton and the Linux kernel's own ESP, with traffic both ways and counters compared at both ends.

#[path = "kernel/cases.rs"]
mod cases;
#[path = "kernel/stage.rs"]
mod stage;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use baton_lab::content::Content;
use baton_lab::flood::{self, Sink};
use baton_lab::gateway::random;
use baton_lab::http::{Download, FileServer};
use baton_lab::kernel_peer::{self, Connection, Counters, KernelPeer, Key};
use baton_lab::ping::{ping, ping_from_kernel};
use baton_lab::topology::CLIENT;
use baton_lab::{Gateway, GatewaySpec, Lab, SaSpec, TunnelSpec, command, requirements, site};
use cases::{
    CLIENT6, Case, HOST, HOST6, REPLAY_WINDOW, REQID, SPI_TO_BATON, SPI_TO_KERNEL, Transport, Tunnel, V4, V6,
    connection, every_case, hosts,
};
use serde_json::Value;
use stage::{Stage, kernel, kernel_for_baton, plug_in, wire};

/// What Baton speaks with the kernel.
const CASES: [Case; 17] = [
    Case::new("tunnel 4 in 4, GCM-16", Tunnel, V4, V4, "aes128gcm16"),
    Case::new("tunnel 4 in 4, AES-256 GCM-16 ESN", Tunnel, V4, V4, "aes256gcm16").with_esn(),
    Case::new("tunnel 4 in 4, AES-192 GCM-12", Tunnel, V4, V4, "aes192gcm12"),
    Case::new("tunnel 4 in 4, GCM-8 ESN", Tunnel, V4, V4, "aes128gcm8").with_esn(),
    Case::new("tunnel 4 in 4, GMAC ESN", Tunnel, V4, V4, "aes128gmac").with_esn(),
    Case::new("tunnel 4 in 4, CTR-SHA256 ESN", Tunnel, V4, V4, "aes128ctr-sha256").with_esn(),
    Case::new("tunnel 4 in 4, ChaCha20", Tunnel, V4, V4, "chacha20poly1305"),
    Case::new("tunnel 4 in 4, CBC-SHA1", Tunnel, V4, V4, "aes128-sha1"),
    Case::new("tunnel 4 in 4, CBC-SHA256 ESN", Tunnel, V4, V4, "aes256-sha256").with_esn(),
    Case::new("tunnel 6 in 4, GCM-16", Tunnel, V4, V6, "aes128gcm16"),
    Case::new("tunnel 4 in 6, CBC-SHA1", Tunnel, V6, V4, "aes128-sha1"),
    Case::new("tunnel 6 in 6, CBC-SHA256", Tunnel, V6, V6, "aes256-sha256"),
    Case::new("transport 4, GCM-16", Transport, V4, V4, "aes128gcm16"),
    Case::new("transport 6, CBC-SHA256 ESN", Transport, V6, V6, "aes256-sha256").with_esn(),
    Case::new("tunnel in UDP, GCM-16", Tunnel, V4, V4, "aes128gcm16").in_udp(),
    Case::new("tunnel 6 in 6 in UDP, CBC-SHA1", Tunnel, V6, V6, "aes128-sha1").in_udp(),
    Case::new("transport in UDP, CBC-SHA1", Transport, V4, V4, "aes128-sha1").in_udp(),
];

const TUNNEL: &str = "linux";
/// Octets that TCP carries each way.
const FILE: u64 = 2_000_000;
const SINK: u16 = 9;
const WEB: u16 = 80;
const SEED: u64 = 11;
const PATIENCE: Duration = Duration::from_secs(30);

fn can_run(test: &str) -> bool {
    if let Err(reason) = kernel_peer::requirements() {
        requirements::skipped(test, &reason);
        return false;
    }
    support::can_run(test)
}

fn ping_from(peer: &mut KernelPeer, target: IpAddr, source: IpAddr) {
    ping_from_kernel(peer, &format!("-I {source}"), target, 3).expect("answers to the kernel");
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
        local: there.local,
        remote: there.remote,
        transport: case.mode == Transport,
        in_udp: case.encapsulation.is_some(),
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
        outer: there.local,
        outer_io: "auto",
        inner: "lan0",
        owned: "\"all\"".into(),
        core: 0,
        tunnels: vec![tunnel],
        snapshot_key: random(32).expect("random"),
        ike: String::new(),
    }
}

fn ping_both_ways(case: &Case, stage: &mut Stage) {
    let (here, there) = hosts(case);
    ping(&stage.client, &[], there, 5).unwrap_or_else(|error| panic!("{case:?}: {error}"));
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
    let deadline = Instant::now() + support::PATIENCE;
    loop {
        let kernel = counters(&mut stage.peer);
        let kernel = [SPI_TO_BATON, SPI_TO_KERNEL].map(|spi| kernel.packets(spi));
        let baton = ["inbound", "outbound"].map(|direction| counted(gateway, direction, "packets"));
        if kernel == baton && kernel.iter().all(|packets| *packets > u64::from(datagrams)) {
            return;
        }
        assert!(Instant::now() < deadline, "{case:?}: kernel {kernel:?}, Baton {baton:?}");
    }
}

/// A counter of Baton's SA, as `dpctl` shows it.
fn counted(gateway: &Gateway, direction: &str, name: &str) -> u64 {
    let answer = gateway.dpctl_json(&["sa", "show", TUNNEL]).expect("dpctl");
    let wanted = |value: &Value| value["direction"] == direction;
    let sa = site::find(&answer, &wanted).unwrap_or_else(|| panic!("no {direction} SA in {answer}"));
    let counters = site::find(sa, &|value| value.get(name).is_some());
    counters.and_then(|counters| counters[name].as_u64()).unwrap_or_else(|| panic!("no {name} in {sa}"))
}

/// What the other tests would show if the two did not agree.
#[test]
fn a_key_that_differs_is_counted_at_both_ends() {
    if !can_run("a_key_that_differs_is_counted_at_both_ends") {
        return;
    }
    let mut stage = Stage::build();
    let case = &CASES[0];
    let theirs = connection(case);
    configure(&mut stage.peer, &theirs);
    let mut gateway = Gateway::new(&stage.lab, &stage.a, gateway(case, &connection(case))).expect("gateway");
    gateway.start(&stage.lab).expect("the gateway starts");
    let (here, there) = hosts(case);
    let mut ping = stage.client.command("ping");
    ping.args(["-n", "-c", "3", "-i", "0.02", "-W", "1", &there.to_string()]);
    assert!(command::run(&mut ping).is_err(), "an answer in spite of different keys");
    let answer = stage.peer.output(&format!("ping -c 3 -i 0.02 -W 1 {here}"), PATIENCE).expect("an answer");
    assert_ne!(answer.code, 0, "{}", answer.text);

    let kernel = counters(&mut stage.peer);
    assert_eq!(kernel.drops, [("XfrmInStateProtoError".to_owned(), 3)].into());
    let refused = kernel.states.iter().find(|state| state.spi == SPI_TO_KERNEL).expect("an SA").integrity;
    assert_eq!((refused, kernel.packets(SPI_TO_KERNEL)), (3, 0));
    let baton = ["integrity_failures", "packets"].map(|name| counted(&gateway, "inbound", name));
    assert_eq!(baton, [3, 0]);
}
