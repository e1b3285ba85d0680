//! Baton and the Linux kernel's own ESP, with traffic both ways and counters compared at both ends.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use baton_lab::content::Content;
use baton_lab::flood::{self, Sink};
use baton_lab::gateway::random;
use baton_lab::http::{Download, FileServer};
use baton_lab::kernel_peer::{
    self, Connection, Counters, KernelPeer, KernelPeerSpec, Key, Mode, Prefix, Suite,
};
use baton_lab::topology::{self, A_OUTER, B_OUTER, CLIENT, SERVER};
use baton_lab::{Gateway, GatewaySpec, Lab, Namespace, SaSpec, TunnelSpec, command, requirements, site};
use serde_json::Value;
use support::eventually;

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

const FILE: u64 = 4_000_000;
const DATAGRAMS: u32 = 20_000;
/// Datagrams a second: what the guest's one CPU opens without AES-NI, several times over.
const RATE: u32 = 10_000;
const SINK: u16 = 9;
const WEB: u16 = 80;
const PATIENCE: Duration = Duration::from_secs(30);

const A_OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1);
const B_OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2);
const A_INNER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x1, 0, 0, 0, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x1, 0, 0, 0, 0, 2);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x2, 0, 0, 0, 0, 2);

fn can_run(test: &str) -> bool {
    if let Err(reason) = kernel_peer::requirements() {
        requirements::skipped(test, &reason);
        return false;
    }
    support::can_run(test)
}

/// The outer addresses: this end's and the kernel's.
fn outer(family: Family) -> (IpAddr, IpAddr) {
    match family {
        V4 => (A_OUTER.into(), B_OUTER.into()),
        V6 => (A_OUTER6.into(), B_OUTER6.into()),
    }
}

/// The hosts that speak through the SAs: this end's and the kernel's. In transport mode these are the ends themselves.
fn hosts(case: &Case) -> (IpAddr, IpAddr) {
    match (case.mode, case.inner) {
        (Transport, _) => outer(case.outer),
        (Tunnel, V4) => (CLIENT.into(), SERVER.into()),
        (Tunnel, V6) => (CLIENT6.into(), SERVER6.into()),
    }
}

/// The network of a host: a /16 or a /48 in tunnel mode, the host itself in transport mode.
fn network(case: &Case, host: IpAddr) -> Prefix {
    let length = |address: IpAddr| if address.is_ipv4() { 16 } else { 48 };
    let base = match host {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & 0xffff_0000).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & (!0 << 80)).into(),
    };
    match case.mode {
        Tunnel => Prefix { address: base, length: length(host) },
        Transport => Prefix::host(host),
    }
}

/// A case as the kernel has it, with fresh keys.
fn connection(case: &Case) -> Connection {
    let suite = Suite::named(case.suite).expect("a suite of the kernel");
    let key = || Key::random(&suite).expect("random");
    let ((remote, local), (remote_host, local_host)) = (outer(case.outer), hosts(case));
    Connection {
        local,
        remote,
        local_network: network(case, local_host),
        remote_network: network(case, remote_host),
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

/// What a kernel of these tests is like: `role` is `a` (this end's addresses) or `b`.
fn kernel(role: &str) -> KernelPeerSpec {
    let prefix =
        |address: IpAddr, four, six| Prefix { address, length: if address.is_ipv4() { four } else { six } };
    let mut ends = [
        (outer(V4).0, outer(V6).0, IpAddr::from(CLIENT), IpAddr::from(CLIENT6), "02:ba:70:00:00:0a"),
        (outer(V4).1, outer(V6).1, IpAddr::from(SERVER), IpAddr::from(SERVER6), "02:ba:70:00:00:0b"),
    ];
    if role == "a" {
        ends.reverse();
    }
    let [there, here] = ends;
    KernelPeerSpec {
        name: format!("linux-{role}"),
        mac: here.4.into(),
        outer: vec![prefix(here.0, 24, 64), prefix(here.1, 24, 64)],
        inner: vec![prefix(here.2, 16, 48), prefix(here.3, 16, 48)],
        routes: vec![(network(&CASES[0], there.2), there.0), (network(&CASES[0], there.3), there.1)],
    }
}

/// A namespace with a bridge that joins `ports`, once these exist.
fn wire(lab: &Lab) -> Namespace {
    let wire = lab.namespace("wire").expect("namespace");
    wire.ip("link add hub type bridge stp_state 0 mcast_snooping 0\nlink set hub up").expect("bridge");
    wire
}

fn plug_in(wire: &Namespace, port: &str) {
    wire.ip(&format!("link set {port} master hub up")).expect("port");
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
    let [mut a, mut b] = ["a", "b"].map(|role| {
        let spec = kernel(role);
        let peer = KernelPeer::boot(&lab, &wire, &spec).expect("a kernel");
        plug_in(&wire, &spec.name);
        peer
    });
    for peer in [&mut a, &mut b] {
        let _until_the_end =
            peer.start("peer encapsulation 4500 3600").expect("sockets for UDP encapsulation");
    }
    for case in every_case() {
        two_kernels_speak(&case, &mut a, &mut b);
    }
}

fn two_kernels_speak(case: &Case, a: &mut KernelPeer, b: &mut KernelPeer) {
    let there = connection(case);
    configure_both([(&mut *a, &there.mirrored()), (&mut *b, &there)]);
    let before = [counters(a), counters(b)];
    let (source, target) = hosts(case);
    ping_from(a, target, source);
    for (peer, before) in [a, b].into_iter().zip(before) {
        let after = counters(peer);
        assert_eq!([SPI_TO_BATON, SPI_TO_KERNEL].map(|spi| after.packets(spi)), [3, 3], "{case:?}");
        assert_eq!(after.drops_since(&before), [].into(), "{case:?}");
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
        ["aes128gcm16", "aes128-sha1", "aes256-sha256"]
            .map(|suite| Case::new(suite, mode, outer, inner, suite))
    });
    let mixed = mixed.flat_map(|case| [case, case.with_esn().in_udp()]);
    plain.map(Case::with_esn).chain(mixed).collect()
}
