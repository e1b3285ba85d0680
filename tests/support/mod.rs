//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use baton_lab::probe::{Echo, Prober};
use baton_lab::shape::Shape;
use baton_lab::site::{SPI_TO_A, SPI_TO_B, Site};
use baton_lab::sniffer::Options;
use baton_lab::{Captured, Direction, Lab, Namespace, Recorder, Sniffer, esp, requirements};
use baton_sad::{Encryption, Suite};
use serde_json::{Value, json};

/// What every probe carries: seen on the outer wire, it is a leak (I7).
pub const MARKER: &[u8] = b"baton-plaintext-that-must-never-be-seen-outside";
/// How long traffic may take to flow (again).
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The server's UDP echo.
pub const ECHO: u16 = 7;

/// Whether a test can run here; says SKIPPED and why if not.
pub fn can_run(test: &str) -> bool {
    let reason = requirements::lab().and_then(|()| {
        let missing =
            ["baton-dataplane", "dpctl"].into_iter().find(|name| !requirements::binary(name).exists());
        missing.map_or(Ok(()), |name| Err(format!("{name} is not built")))
    });
    if let Err(reason) = &reason {
        requirements::skipped(test, reason);
    }
    reason.is_ok()
}

/// Whether the long counts are wanted.
pub fn soak() -> bool {
    std::env::var_os("BATON_SOAK").is_some_and(|value| value == "1")
}

/// `short`, or `long` in a soak.
pub fn count(short: usize, long: usize) -> usize {
    if soak() { long } else { short }
}

/// Three gateways that run.
pub fn running_site() -> Site {
    running_site_as(Shape::DEFAULT)
}

/// The same for gateways that speak otherwise.
pub fn running_site_as(shape: Shape) -> Site {
    let mut site = stopped_site_as(shape);
    site.start().expect("gateways start");
    site
}

/// Three gateways that do not run yet.
pub fn stopped_site_as(shape: Shape) -> Site {
    Site::build_as(Lab::new().expect("lab"), shape).expect("site")
}

/// What the tests of invariants run over: in a soak everything, otherwise a few that test number `test` has its own
/// share of, so that a file's tests together try all of them.
pub fn shapes(test: usize, share: usize) -> Vec<Shape> {
    if soak() {
        return every_shape();
    }
    representatives().into_iter().cycle().skip(test).take(share).collect()
}

fn suite(name: &str) -> Suite {
    Suite::from_name(name).expect("a suite")
}

/// One of each kind of suite, mode, family and encapsulation.
fn representatives() -> Vec<Shape> {
    vec![
        Shape::DEFAULT,
        Shape::tunnel(suite("aes256-sha256")).of_ipv6(),
        Shape::tunnel(suite("aes128ctr-sha1")).in_ipv6().with_esn(),
        Shape::transport(suite("chacha20poly1305")),
        Shape::tunnel(suite("null-sha1")).with_esn(),
        Shape::tunnel(Suite::AES128_GCM16).in_udp(),
        Shape::transport(suite("aes128-sha1")).in_ipv6().of_ipv6().in_udp().with_esn(),
    ]
}

/// Every suite, and every mode, family and encapsulation with one AEAD and with CBC.
fn every_shape() -> Vec<Shape> {
    let suites = Suite::ALL
        .into_iter()
        .enumerate()
        .map(|(number, suite)| Shape { extended_sequence: number % 2 == 0, ..Shape::tunnel(suite) });
    let bits = 0..16_u8;
    let rest = bits.filter_map(|bits| {
        let [transport, outer_ipv6, inner_ipv6, in_udp] = [0, 1, 2, 3].map(|bit| bits >> bit & 1 == 1);
        let is_one = !transport || outer_ipv6 == inner_ipv6;
        let cipher = if bits.count_ones() % 2 == 0 { "aes256-sha256" } else { "aes128gcm16" };
        let shape = Shape::tunnel(suite(cipher)).with_esn();
        is_one.then_some(Shape { transport, outer_ipv6, inner_ipv6, in_udp, ..shape })
    });
    suites.chain(rest).collect()
}

/// Marked datagrams from client to server and back.
pub struct Traffic {
    /// The server's end.
    pub echo: Echo,
    /// The client's end.
    pub prober: Prober,
}

impl Traffic {
    /// Starts it, with `pace` between datagrams.
    pub fn start(site: &Site, pace: Duration) -> Self {
        let [client, server] = site.shape.hosts();
        let (from, to) = (SocketAddr::new(client, 0), SocketAddr::new(server, ECHO));
        let echo = Echo::start(&site.topology.server, to).expect("echo");
        let prober = Prober::start(&site.topology.client, from, to, MARKER, pace).expect("prober");
        Self { echo, prober }
    }

    /// Waits until `answers` more answers have come.
    pub fn flows(&self, answers: u64) {
        if let Err(error) = self.prober.wait_for_answers(answers, PATIENCE) {
            panic!("{error}");
        }
    }
}

/// A recorder on one port.
pub struct Tap {
    sniffer: Sniffer,
    recorder: Recorder,
}

impl Tap {
    /// Records everything in `direction` on `interface`.
    pub fn start(namespace: &Namespace, interface: &str, direction: Direction) -> Self {
        Self::start_filtered(namespace, interface, direction, "")
    }

    /// Records what the pcap filter takes.
    pub fn start_filtered(
        namespace: &Namespace,
        interface: &str,
        direction: Direction,
        filter: &str,
    ) -> Self {
        let recorder = Recorder::default();
        let options = Options { filter: filter.into(), ..Options::all(direction) };
        let sniffer = Sniffer::start(namespace, interface, &options, recorder.sink()).expect("sniffer");
        Self { sniffer, recorder }
    }

    /// What was recorded so far.
    pub fn frames(&self) -> Vec<Captured> {
        self.recorder.frames()
    }

    /// Ends the recording; fails if the sniffer missed a packet.
    pub fn finish(self) -> Vec<Captured> {
        self.sniffer.stop().expect("a complete capture");
        self.recorder.frames()
    }
}

/// What the gateways behind the hub's ports `a`, `b` and `b2` put on the outer wire.
pub struct OuterTaps {
    taps: [Tap; 3],
    shape: Shape,
}

impl OuterTaps {
    /// Starts recording.
    pub fn start(site: &Site) -> Self {
        Self::start_filtered(site, "")
    }

    /// Records only what is not ESP: a flood that is protected takes no room.
    pub fn start_beside_esp(site: &Site) -> Self {
        Self::start_filtered(site, "not esp and not ip6 proto 50 and not udp port 4500")
    }

    fn start_filtered(site: &Site, filter: &str) -> Self {
        let start = |port| Tap::start_filtered(&site.topology.wan, port, Direction::In, filter);
        let taps = ["a", "b", "b2"].map(start);
        Self { taps, shape: site.shape }
    }

    /// Ends the recording: the frames of A, B and B2.
    pub fn finish(self) -> [Vec<Captured>; 3] {
        self.taps.map(Tap::finish)
    }

    /// What was recorded so far: the frames of A, B and B2.
    pub fn frames(&self) -> [Vec<Captured>; 3] {
        self.taps.each_ref().map(Tap::frames)
    }

    /// Frames with a plaintext marker so far.
    pub fn leaked(&self) -> usize {
        let shows = |captured: &Captured| is_leak(&captured.frame, self.shape);
        self.taps.iter().map(|tap| tap.frames().iter().filter(|captured| shows(captured)).count()).sum()
    }

    /// Frames that show `octets` so far, in whatever protocol.
    pub fn showing(&self, octets: &[u8]) -> usize {
        let shows = |captured: &&Captured| esp::contains(&captured.frame, octets);
        self.taps.iter().map(|tap| tap.frames().iter().filter(shows).count()).sum()
    }
}

/// Whether a frame shows the marker. In suites that do not encrypt, ESP does.
fn is_leak(frame: &[u8], shape: Shape) -> bool {
    let encrypts = !matches!(shape.suite.encryption(), Encryption::Null | Encryption::AesGmac);
    esp::contains(frame, MARKER) && (encrypts || esp::esp(frame).is_none())
}

/// The sequence numbers with which `frames` used `spi`, in the order of the wire.
pub fn sequences(frames: &[Captured], spi: u32) -> Vec<u32> {
    let headers = frames.iter().filter_map(|captured| esp::esp(&captured.frame));
    headers.filter(|header| header.spi == spi).map(|header| header.sequence).collect()
}

/// Fails if two ESP packets of these captures used one IV with one SPI, hence with one key (I1). How many packets there
/// were.
pub fn assert_no_iv_repeats<'a>(
    shape: Shape,
    captures: impl IntoIterator<Item = &'a Vec<Captured>>,
) -> usize {
    let length = shape.suite.iv_length();
    let (mut seen, mut packets) = (HashMap::new(), 0);
    for header in captures.into_iter().flatten().filter_map(|captured| esp::esp(&captured.frame)) {
        packets += 1;
        let earlier = seen.insert((header.spi, header.behind[..length].to_vec()), header);
        // Without encryption there is no IV.
        assert!(earlier.is_none() || length == 0, "I1 broken: {header:x?} repeats the IV of {earlier:x?}");
    }
    packets
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The site's two SAs as `tests/scapy/esp_sa.py` wants them.
pub fn associations(site: &Site) -> Vec<Value> {
    let tunnel = &site.b.spec().tunnels[0];
    let [inbound, outbound] = [&tunnel.inbound, &tunnel.outbound].map(|sa| sa.as_ref().expect("B has keys"));
    let sa = |spi: u32, key: &[u8], source, destination| {
        let key = baton_lab::content::hex(key);
        let esn = tunnel.extended_sequence;
        json!({"spi": spi, "key": key, "suite": tunnel.suite, "esn": esn, "source": source, "destination": destination})
    };
    vec![
        sa(SPI_TO_B, &inbound.key, tunnel.remote, tunnel.local),
        sa(SPI_TO_A, &outbound.key, tunnel.local, tunnel.remote),
    ]
}

/// A drop or event counter of a gateway, by the name that `dpctl counters` gives it.
pub fn counter(gateway: &baton_lab::Gateway, name: &str) -> u64 {
    let answer = gateway.dpctl_json(&["counters"]).expect("counters");
    let named = |value: &Value| value.get("name").and_then(Value::as_str) == Some(name);
    let found = baton_lab::site::find(&answer, &named).and_then(|counter| counter.get("value")?.as_u64());
    found.unwrap_or_else(|| panic!("no counter {name} in {answer}"))
}
