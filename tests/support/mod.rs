//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use baton_lab::probe::{Echo, Prober};
use baton_lab::site::{SPI_TO_A, SPI_TO_B, Site};
use baton_lab::sniffer::Options;
use baton_lab::{Captured, Direction, Lab, Namespace, Recorder, Sniffer, esp, requirements, topology};
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
    let mut site = stopped_site();
    site.start().expect("gateways start");
    site
}

/// Three gateways that do not run yet.
pub fn stopped_site() -> Site {
    Site::build(Lab::new().expect("lab")).expect("site")
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
        let echo = Echo::start(&site.topology.server, topology::server_port(ECHO)).expect("echo");
        let (from, to) = (topology::client_port(0), topology::server_port(ECHO));
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
pub struct OuterTaps([Tap; 3]);

impl OuterTaps {
    /// Starts recording.
    pub fn start(site: &Site) -> Self {
        Self(["a", "b", "b2"].map(|port| Tap::start(&site.topology.wan, port, Direction::In)))
    }

    /// Ends the recording: the frames of A, B and B2.
    pub fn finish(self) -> [Vec<Captured>; 3] {
        self.0.map(Tap::finish)
    }

    /// What was recorded so far: the frames of A, B and B2.
    pub fn frames(&self) -> [Vec<Captured>; 3] {
        self.0.each_ref().map(Tap::frames)
    }

    /// Frames with a plaintext marker so far.
    pub fn leaked(&self) -> usize {
        self.0.iter().map(|tap| leaks(&tap.frames())).sum()
    }
}

/// How many of `frames` show the marker.
pub fn leaks(frames: &[Captured]) -> usize {
    frames.iter().filter(|captured| esp::contains(&captured.frame, MARKER)).count()
}

/// The sequence numbers with which `frames` used `spi`, in the order of the wire.
pub fn sequences(frames: &[Captured], spi: u32) -> Vec<u32> {
    let headers = frames.iter().filter_map(|captured| esp::esp(&captured.frame));
    headers.filter(|header| header.spi == spi).map(|header| header.sequence).collect()
}

/// Fails if two ESP packets of these captures used one IV with one SPI, hence with one key (I1).
pub fn assert_no_iv_repeats<'a>(captures: impl IntoIterator<Item = &'a Vec<Captured>>) -> usize {
    let mut seen = HashMap::new();
    for header in captures.into_iter().flatten().filter_map(|captured| esp::esp(&captured.frame)) {
        let earlier = seen.insert((header.spi, header.iv), header);
        assert!(earlier.is_none(), "I1 broken: {header:x?} repeats the IV of {earlier:x?}");
    }
    seen.len()
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
