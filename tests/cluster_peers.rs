//! Gateways that are one to a peer that knows nothing of clusters: strongSwan downloads a file through them while one
//! after the other dies, comes back and gets its segments again.

#[path = "cluster/members.rs"]
mod members;
mod support;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use baton_lab::content::Content;
use baton_lab::http::{Download, FileServer};
use baton_lab::negotiation::{CHILD, Side};
use baton_lab::peer_site::road_warrior;
use baton_lab::probe::{Echo, Prober};
use baton_lab::shape::Shape;
use baton_lab::sniffer::Options;
use baton_lab::topology::server_port;
use baton_lab::{
    CharonSpec, Direction, Gateway, GatewaySpec, Lab, PeerSite, Recorder, Sniffer, charon, esp, requirements,
};
use members::{Members, owned, settle};
use support::{ECHO, MARKER, Tap, assert_no_iv_repeats, count, eventually};

/// Octets of the file.
const FILE: usize = 100_000_000;
const SEED: u64 = 56;
/// Mbit/s of the server while gateways die: slow enough that the download lasts longer than that.
const SLOW: u32 = 16;
/// What has to come through before a failure counts as survived.
const ENOUGH: u64 = 500_000;
const PROBE_PACE: Duration = Duration::from_millis(5);

fn can_run(test: &str) -> bool {
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

/// What happens to the node that owns the tunnel.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// All of its daemons are killed.
    Node,
    DataPlane,
    Ike,
    Cluster,
    /// It does not hear the other members, nor they it.
    SyncLink,
}

impl Failure {
    /// Whether the other node has to take over meanwhile.
    fn is_taken_over(self) -> bool {
        !matches!(self, Self::Ike)
    }
}

/// The cast: a cluster of B and B2, and strongSwan on the client.
struct Stage {
    members: Members,
    site: PeerSite,
}

impl Stage {
    fn start() -> Self {
        let lab = Lab::new().expect("lab");
        let mut site = PeerSite::build_with_client(lab, &CharonSpec::new("charon")).expect("a site");
        site.configure(&road_warrior(Side::Responder)).expect("configurations");
        site.b = clustered(&site.lab, &site.b);
        site.b2 = clustered(&site.lab, &site.b2);
        let members = Members::build(&site.lab, [&site.b, &site.b2]);
        site.start_b2().expect("B2 starts");
        site.start_b().expect("B starts");
        let mut stage = Self { members, site };
        (0..2).for_each(|index| stage.start_cluster_daemon(index));
        stage.members.start_witness(&stage.site.lab);
        stage.settle();
        stage
    }

    fn gateways(&self) -> [&Gateway; 2] {
        [&self.site.b, &self.site.b2]
    }

    fn settle(&self) {
        settle(self.gateways());
    }

    fn start_cluster_daemon(&mut self, index: usize) {
        let gateway = if index == 0 { &self.site.b } else { &self.site.b2 };
        self.members.start(&self.site.lab, index, gateway);
    }

    fn with_gateway(&mut self, index: usize, act: impl FnOnce(&mut Gateway, &Lab)) {
        let PeerSite { b, b2, lab, .. } = &mut self.site;
        act(if index == 0 { b } else { b2 }, lab);
    }

    /// Segment of the one Child SA: the top octet of the SPI that the gateways gave it.
    fn segment(&self) -> u64 {
        let sas = self.site.charon.sas().expect("SAs");
        u64::from(sas[0].children[0].outbound_spi >> 24)
    }

    fn fail(&mut self, failure: Failure, index: usize) {
        match failure {
            Failure::Node => {
                self.members.kill(index);
                self.with_gateway(index, |gateway, _| {
                    gateway.kill();
                    gateway.kill_ike();
                });
            }
            Failure::DataPlane => self.with_gateway(index, |gateway, _| gateway.kill()),
            Failure::Ike => self.with_gateway(index, |gateway, _| gateway.kill_ike()),
            Failure::Cluster => self.members.kill(index),
            Failure::SyncLink => self.members.set_link(index, "down"),
        }
    }

    fn mend(&mut self, failure: Failure, index: usize) {
        let start = |gateway: &mut Gateway, lab: &Lab| gateway.start(lab).expect("starts again");
        let start_ike = |gateway: &mut Gateway, lab: &Lab| gateway.start_ike(lab).expect("starts again");
        match failure {
            Failure::Node => {
                self.with_gateway(index, start);
                self.with_gateway(index, start_ike);
                self.start_cluster_daemon(index);
            }
            Failure::DataPlane => self.with_gateway(index, start),
            Failure::Ike => self.with_gateway(index, start_ike),
            Failure::Cluster => self.start_cluster_daemon(index),
            Failure::SyncLink => self.members.set_link(index, "up"),
        }
    }

    fn logs(&self) -> String {
        let PeerSite { charon, b, b2, .. } = &self.site;
        let of = |gateway: &Gateway, index| {
            format!("{}\n{}\n{}", gateway.log(), gateway.ike_log(), self.members.log(index))
        };
        format!("strongSwan:\n{}\nB:\n{}\nB2:\n{}", charon.log(), of(b, 0), of(b2, 1))
    }
}

/// The same gateway as a member, which owns nothing by itself.
fn clustered(lab: &Lab, gateway: &Gateway) -> Gateway {
    let ike = format!("{}{}", gateway.spec().ike, members::configuration());
    let spec = GatewaySpec { owned: "\"none\"".into(), ike, ..gateway.spec().clone() };
    Gateway::new(lab, gateway.namespace(), spec).expect("a gateway")
}

/// What is seen of the gateways from outside.
struct Watch {
    esp: [(Sniffer, Recorder); 2],
    clear: [Tap; 2],
    echo: Echo,
    prober: Prober,
}

impl Watch {
    fn start(site: &PeerSite) -> Self {
        let wan = &site.topology.wan;
        let esp = ["b", "b2"].map(|port| {
            let recorder = Recorder::default();
            let options = Options::esp_headers(Direction::In);
            (Sniffer::start(wan, port, &options, recorder.sink()).expect("sniffer"), recorder)
        });
        let clear = ["b", "b2"].map(|port| Tap::start_filtered(wan, port, Direction::In, "net 10.0.0.0/8"));
        let echo = Echo::start(&site.topology.server, server_port(ECHO)).expect("echo");
        let anywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let prober = Prober::start(&site.topology.client, anywhere, server_port(ECHO), MARKER, PROBE_PACE)
            .expect("prober");
        Self { esp, clear, echo, prober }
    }

    /// Fails if a datagram came twice, anything left in clear, or a sequence number or an IV was used twice.
    fn judge(self) {
        self.prober.pause();
        std::thread::sleep(Duration::from_millis(500));
        let (sent, answered) = self.prober.counts();
        let arrived = self.echo.received();
        assert!(
            arrived <= sent && answered <= arrived,
            "I3: {sent} sent, {arrived} came, {answered} answered"
        );
        println!("{} of {sent} datagrams had no answer", sent - answered);
        for tap in self.clear {
            assert!(tap.finish().is_empty(), "I7: plaintext on the outer wire");
        }
        let frames = self.esp.map(|(sniffer, recorder)| {
            sniffer.stop().expect("a complete capture");
            recorder.frames()
        });
        let mut seen = HashSet::new();
        let headers = frames.iter().flatten().filter_map(|captured| esp::esp(&captured.frame));
        for header in headers {
            assert!(seen.insert((header.spi, header.sequence)), "I2: {header:x?} repeats a sequence number");
        }
        let packets = assert_no_iv_repeats(Shape::DEFAULT, &frames);
        assert!(frames.iter().all(|frames| frames.len() > 100), "both gateways have sent");
        assert!(packets * 1500 > FILE, "too little traffic to say anything: {packets} packets");
    }
}

/// The longest pause of a download since somebody asked.
#[derive(Default)]
struct Pauses {
    longest_microseconds: AtomicU64,
}

impl Pauses {
    /// Watches a download until its end.
    fn watch(&self, download: &Download) {
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

    fn take(&self) -> Duration {
        Duration::from_micros(self.longest_microseconds.swap(0, Ordering::Relaxed))
    }
}

/// Waits until the download has come further.
fn goes_on(download: &Download, stage: &Stage, what: &str) {
    let wanted = download.received() + ENOUGH;
    let deadline = Instant::now() + support::PATIENCE;
    while download.received() < wanted {
        let is_alive = Instant::now() < deadline && !download.is_finished();
        assert!(is_alive, "{what}: {} of {FILE} octets\n{}", download.received(), stage.logs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One failure of who owns the tunnel, the other's work meanwhile, and the return.
fn survive(stage: &mut Stage, download: &Download, pauses: &Pauses, failure: Failure) {
    let segment = stage.segment();
    let owner = (0..2).find(|index| owned(stage.gateways()[*index]).contains(&segment)).expect("an owner");
    pauses.take();
    stage.fail(failure, owner);
    if failure.is_taken_over() {
        eventually("the other takes all", || owned(stage.gateways()[1 - owner]).len() == 256);
    }
    goes_on(download, stage, &format!("after the loss ({failure:?})"));
    let taken = pauses.take();
    stage.mend(failure, owner);
    stage.settle();
    goes_on(download, stage, &format!("after the return ({failure:?})"));
    println!("{failure:?}: the download paused for {taken:?} at the loss, {:?} at the return", pauses.take());
}

/// What strongSwan says that it has done: one IKE SA, one authentication, no key replaced.
fn assert_it_noticed_nothing(stage: &Stage, before: &[charon::IkeSa]) {
    let log = stage.site.charon.log();
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("generating IKE_SA_INIT request"), 1, "{log}");
    assert_eq!(count("generating IKE_AUTH request"), 1, "{log}");
    assert_eq!(count("CREATE_CHILD_SA"), 0, "{log}");
    let after = stage.site.charon.sas().expect("SAs");
    let spis = |sas: &[charon::IkeSa]| {
        sas.iter().map(|sa| (sa.spis.clone(), sa.children[0].inbound_spi)).collect::<Vec<_>>()
    };
    assert_eq!(spis(&after), spis(before), "the same SAs");
}

/// A download lasts through all of these failures.
fn download_through(failures: &[Failure]) {
    let mut stage = Stage::start();
    stage.site.charon.initiate(CHILD).unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    let before = stage.site.charon.sas().expect("SAs");
    stage.settle();
    let watch = Watch::start(&stage.site);
    let size = count(FILE, 10 * FILE) as u64;
    stage.site.topology.limit_server(SLOW).expect("a rate");
    let server =
        FileServer::start(&stage.site.topology.server, server_port(80), SEED, size).expect("a server");
    let download = Download::start(&stage.site.topology.client, server.address()).expect("a download");
    let pauses = Pauses::default();
    std::thread::scope(|scope| {
        scope.spawn(|| pauses.watch(&download));
        goes_on(&download, &stage, "at first");
        for failure in failures {
            survive(&mut stage, &download, &pauses, *failure);
        }
        stage.site.topology.limit_server(baton_lab::peer_site::RATE).expect("a rate");
    });
    let downloaded = download.finish().unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    assert_eq!(downloaded.sha256, Content::new(SEED, size).sha256());
    println!("{size} octets in {:?}", downloaded.duration);
    assert_it_noticed_nothing(&stage, &before);
    watch.judge();
}

#[test]
fn a_download_survives_its_gateway_and_the_return_of_it_twice() {
    if can_run("a_download_survives_its_gateway_and_the_return_of_it_twice") {
        download_through(&[Failure::Node, Failure::Node]);
    }
}

#[test]
fn a_download_survives_each_daemon_and_the_link_between_the_members() {
    if can_run("a_download_survives_each_daemon_and_the_link_between_the_members") {
        download_through(&[Failure::DataPlane, Failure::Ike, Failure::Cluster, Failure::SyncLink]);
    }
}
