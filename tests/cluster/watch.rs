//! What is seen of a cluster from outside, and what must hold of it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use baton_lab::http::Download;
use baton_lab::probe::{Echo, Prober};
use baton_lab::shape::Shape;
use baton_lab::sniffer::Options;
use baton_lab::topology::{A_OUTER, A_OUTER6};
use baton_lab::{Direction, Recorder, Sniffer, charon, esp};

use crate::stage::Stage;
use crate::support::{ECHO, MARKER, PATIENCE, Tap, assert_no_iv_repeats};

/// They also carry the client's numbers past what was reserved of them at a takeover: acknowledgements alone, of which a
/// stalled download has few, would take long.
const PROBE_PACE: Duration = Duration::from_millis(5);
/// What may be seen behind the gateways only.
const INSIDE: &str = "net 10.0.0.0/8 or net 2001:db8:2::/48 or net 2001:db8:99::/64";

/// What gateways send, seen where it arrives: links of theirs may be cut.
pub struct Watch {
    sniffer: Sniffer,
    recorder: Recorder,
    clear: Tap,
    echo: Echo,
    prober: Prober,
    before: Vec<charon::IkeSa>,
}

impl Watch {
    pub fn start(stage: &Stage) -> Self {
        let topology = &stage.site.topology;
        let recorder = Recorder::default();
        let mut options = Options::esp_headers(Direction::Out);
        // What a node sends on to another one the switch may flood.
        options.filter =
            format!("({}) and not src host {A_OUTER} and not src host {A_OUTER6}", options.filter);
        let sniffer = Sniffer::start(&topology.wan, "a", &options, recorder.sink()).expect("sniffer");
        let clear = Tap::start_filtered(&topology.wan, "a", Direction::Out, INSIDE);
        let echo = Echo::start(&topology.server, stage.server(ECHO)).expect("echo");
        let anywhere: IpAddr =
            if stage.setting.ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let (from, to) = (SocketAddr::new(anywhere, 0), stage.server(ECHO));
        let prober = Prober::start(&topology.client, from, to, MARKER, PROBE_PACE).expect("prober");
        Self { sniffer, recorder, clear, echo, prober, before: stage.site.charon.sas().expect("SAs") }
    }

    /// Waits until so many datagrams were answered.
    pub fn flows(&self, answers: u64, what: &str, stage: &Stage) {
        if let Err(error) = self.prober.wait_for_answers(answers, PATIENCE) {
            panic!("{what}: {error}\n{}", stage.logs());
        }
    }

    /// Fails if a datagram came twice, anything came in clear, a sequence number or an IV was used twice, or the client
    /// has noticed anything. So many packets have to be seen to say so, of so many nodes.
    pub fn judge(self, stage: &Stage, packets: usize, gateways: usize) {
        let before = self.judge_packets(packets, gateways);
        assert_it_noticed_nothing(stage, &before);
    }

    /// The same, but keys of Child SAs may have been replaced.
    pub fn judge_but_for_keys(self, stage: &Stage, packets: usize, gateways: usize) {
        let before = self.judge_packets(packets, gateways);
        assert_same_ike_sa(stage, &before);
    }

    /// The same, whatever the client has noticed; gives back its SAs as they were at the start.
    pub fn judge_packets(self, packets: usize, gateways: usize) -> Vec<charon::IkeSa> {
        self.prober.pause();
        std::thread::sleep(Duration::from_millis(500));
        let (sent, answered) = self.prober.counts();
        let arrived = self.echo.received();
        assert!(
            arrived <= sent && answered <= arrived,
            "I3: {sent} sent, {arrived} came, {answered} answered"
        );
        println!("{} of {sent} datagrams had no answer", sent - answered);
        assert!(self.clear.finish().is_empty(), "I7: plaintext on the outer wire");
        self.sniffer.stop().expect("a complete capture");
        let frames = self.recorder.frames();
        let (mut seen, mut nodes) = (HashSet::new(), HashSet::new());
        for header in frames.iter().filter_map(|captured| esp::esp(&captured.frame)) {
            assert!(seen.insert((header.spi, header.sequence)), "I2: {header:x?} repeats a sequence number");
            nodes.insert(header.iv >> 56);
        }
        assert!((gateways..=2).contains(&nodes.len()), "nodes that have sent, by their IVs: {nodes:?}");
        let seen = assert_no_iv_repeats(Shape::DEFAULT, [&frames]);
        assert!(seen >= packets, "too little traffic to say anything: {seen} packets");
        self.before
    }
}

/// What strongSwan says that it has done: one IKE SA, one authentication, no key replaced.
fn assert_it_noticed_nothing(stage: &Stage, before: &[charon::IkeSa]) {
    assert_same_ike_sa(stage, before);
    let log = stage.site.charon.log();
    assert!(!log.contains("CREATE_CHILD_SA"), "{}", stage.logs());
    let after = stage.site.charon.sas().expect("SAs");
    let spis = |sas: &[charon::IkeSa]| sas.iter().map(|sa| sa.children[0].inbound_spi).collect::<Vec<_>>();
    assert_eq!(spis(&after), spis(before), "the same Child SAs");
}

/// One IKE SA, one authentication.
fn assert_same_ike_sa(stage: &Stage, before: &[charon::IkeSa]) {
    let log = stage.site.charon.log();
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("generating IKE_SA_INIT request"), 1, "{log}");
    assert_eq!(count("generating IKE_AUTH request"), 1, "{log}");
    let after = stage.site.charon.sas().expect("SAs");
    let spis = |sas: &[charon::IkeSa]| sas.iter().map(|sa| sa.spis.clone()).collect::<Vec<_>>();
    assert_eq!(spis(&after), spis(before), "the same IKE SA");
}

/// The longest pause of a download since somebody asked.
#[derive(Default)]
pub struct Pauses {
    longest_microseconds: AtomicU64,
}

impl Pauses {
    /// Watches a download until its end.
    pub fn watch(&self, download: &Download) {
        let (mut received, mut since) = (0, Instant::now());
        while !download.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
            let now = download.received();
            if now != received {
                (received, since) = (now, Instant::now());
            }
            self.longest_microseconds.fetch_max(since.elapsed().as_micros() as u64, Ordering::Relaxed);
        }
    }

    pub fn take(&self) -> Duration {
        Duration::from_micros(self.longest_microseconds.swap(0, Ordering::Relaxed))
    }
}
