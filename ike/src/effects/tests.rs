//! Effects on a table, with a played data plane or none.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::path::Path as FilePath;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use baton_dataplane::config::PolicySpec;
use baton_dataplane::control::{
    Code, Conversation, Daemon, Next, Policies as Installed, PolicyReport, Refusal, Request, Server, Service,
};
use baton_ike_proto::crypto::{AdditionalMethods, Encryption, Group, IkeKeys, IkeSuite, KeyShare, Prf, Role};
use baton_ike_proto::host::{ChildLifetime, Movement, PolicyInstall, TunnelName};
use baton_ike_proto::proposal::{EspCipher, EspEncryption, EspSuite};
use baton_ike_proto::selector::TrafficSelector;
use baton_sad::{ClusterId, NodeId, TableOptions};

use super::*;
use crate::config::Config;
use crate::sockets::Listening;
use crate::wake::Wake;

const CONFIGURATION: &str = r#"
[node]
id = 2
cluster = "demo"
[outer]
interface = "wan0"
addresses = ["203.0.113.2"]
[inner]
interface = "lan0"
[connections.site]
local.auth = "psk"
remote.auth = "psk"
children.net = {}
[secrets.ike-site]
secret = "correct horse"
"#;
const REQID: u32 = 0x2a80_0001;
const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

/// Effects with what they work on.
struct Stage {
    effects: Effects,
    table: Arc<Table>,
    reports: std::sync::mpsc::Receiver<crate::reports::Report>,
    directory: tempfile::TempDir,
}

fn stage() -> Stage {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let node = NodeId::new(2).expect("not 0");
    let options = TableOptions { capacity: 64, node, cluster: ClusterId::new(1) };
    let table = Arc::new(Table::create(&directory.path().join("sa-table"), &options).expect("a table"));
    let any = Listening { addresses: vec![[127, 0, 0, 1].into()], port: 0, nat_port: 0 };
    let listeners = Arc::new(Listeners::default());
    let alarms = Alarms::new(Arc::clone(&listeners));
    let radius = Radius::new(crate::config::Radius::default(), &HashMap::new(), alarms.clone());
    let tools = Tools {
        radius: radius.expect("an epoll"),
        table: Arc::clone(&table),
        store: Store::open(directory.path()).expect("a store"),
        sockets: Arc::new(Sockets::open(&any).expect("sockets")),
        listeners: Arc::clone(&listeners),
        counted: Arc::default(),
        has_tun: true,
        replication: None,
        alarms,
    };
    let (sender, reports) = Reports::channel(Wake::new().expect("an event"));
    let effects = Effects::start(tools, control_socket(directory.path()), sender).expect("a thread");
    Stage { effects, table, reports, directory }
}

fn control_socket(directory: &FilePath) -> PathBuf {
    directory.join("control.sock")
}

/// A pair of SAs whose keys follow from `seed`.
fn install(tunnel: &TunnelName, spis: (u32, u32), seed: u8, role: Role) -> Install {
    let config = Config::parse_as(CONFIGURATION, FilePath::new("baton.toml"), true).expect("good");
    let connection = Arc::clone(&config.protocol.connections[0]);
    let suite = EspSuite {
        encryption: EspEncryption::new(EspCipher::AesGcm16, 16).expect("a suite"),
        integrity: None,
        extended_sequence: false,
        group: None,
        additional: AdditionalMethods::default(),
    };
    let network =
        |third: u8| vec![TrafficSelector::range([10, third, 0, 0].into(), [10, third, 255, 255].into())];
    Install {
        tunnel: tunnel.clone(),
        segment: 0x2a,
        reqid: REQID,
        inbound_spi: spis.0,
        outbound_spi: spis.1,
        inbound: true,
        outbound: true,
        suite,
        role,
        keys: Some(keys(seed).child_keys(&suite, &[seed; 32], &[1; 32], None)),
        mode: baton_ike_proto::configuration::Mode::Tunnel,
        ends: ends("198.51.100.1:4500"),
        local: network(2),
        remote: network(1),
        child: Arc::clone(&connection.children[0]),
        connection,
        lifetime: ChildLifetime { hard_packets: 100, soft_packets: 90, ..ChildLifetime::default() },
        policy: None,
    }
}

fn keys(seed: u8) -> IkeKeys {
    let suite = IkeSuite {
        encryption: Encryption::AesGcm16_128,
        integrity: None,
        prf: Prf::HmacSha2_256,
        group: Group::Curve25519,
        additional: AdditionalMethods::default(),
    };
    let share = KeyShare::generate(suite.group, &mut |octets| octets.fill(seed.max(1)));
    let shared = share.agree(share.public()).expect("agreed");
    IkeKeys::derive(suite, &[1; 32], &[2; 32], &shared, 1, 2)
}

fn ends(remote: &str) -> OuterEnds {
    OuterEnds {
        local: "203.0.113.2:4500".parse().expect("an address"),
        remote: remote.parse().expect("an address"),
        encapsulated: true,
        movement: Movement::FollowsPackets,
        behind_nat: true,
    }
}

fn tunnel(number: u32) -> TunnelName {
    TunnelName::new("site", 0x2a00_0000 | number)
}

fn perform(stage: &mut Stage, install: Install) -> Vec<Command> {
    all(stage, vec![Output::Install(Box::new(install))])
}

fn all(stage: &mut Stage, outputs: Vec<Output>) -> Vec<Command> {
    stage.effects.perform(outputs.into_iter())
}

fn sa(stage: &Stage, direction: Direction, key: u32) -> Option<Sa> {
    stage.table.get(direction, key).expect("readable").map(|found| found.sa)
}

fn use_it(stage: &Stage, direction: Direction, key: u32) {
    let handle = stage.table.lookup(direction, key).expect("installed");
    stage.table.slot(handle).expect("there").add_packets(5, 500);
}

fn packets(stage: &Stage, direction: Direction, key: u32) -> u64 {
    stage.table.get(direction, key).expect("readable").expect("installed").counters.packets
}

#[test]
fn both_ends_of_an_exchange_have_each_others_keys() {
    let (mut ours, mut theirs) = (stage(), stage());
    assert_eq!(perform(&mut ours, install(&tunnel(1), (0x2a00_0101, 0x1100_0101), 7, Role::Initiator)), []);
    assert_eq!(perform(&mut theirs, install(&tunnel(2), (0x1100_0101, 0x2a00_0101), 7, Role::Responder)), []);
    let (sent, received) =
        (sa(&ours, OUT, REQID).expect("ours"), sa(&theirs, IN, 0x1100_0101).expect("theirs"));
    assert!(sent.key == received.key && sent.spi == received.spi && sent.suite == received.suite);
    let back = sa(&ours, IN, 0x2a00_0101).expect("ours");
    assert!(back.key == sa(&theirs, OUT, REQID).expect("theirs").key && back.key != sent.key);
    assert_eq!((sent.lifetime.soft.packets, sent.lifetime.hard.packets), (90, 100));
    assert_eq!(sent.lifetime.soft.sequence, 7 << 29, "32 bits of sequence numbers end");
    let udp = sent.encapsulation.expect("in UDP");
    assert_eq!((udp.source_port, udp.destination_port, udp.keepalive_seconds), (4500, 4500, 20));
}

#[test]
fn what_is_installed_again_keeps_its_counters_and_a_successor_takes_its_place() {
    let mut stage = stage();
    let first = || install(&tunnel(1), (0x2a00_0101, 0x1100_0101), 7, Role::Initiator);
    assert_eq!(perform(&mut stage, first()), []);
    use_it(&stage, OUT, REQID);
    assert_eq!(perform(&mut stage, first()), []);
    assert_eq!(packets(&stage, OUT, REQID), 5, "a crash made the protocol ask twice");
    let successor = install(&tunnel(1), (0x2a00_0202, 0x1100_0202), 8, Role::Initiator);
    assert_eq!(perform(&mut stage, successor), []);
    assert_eq!((packets(&stage, OUT, REQID), stage.table.installed()), (0, 3));
    let remove = Output::Remove { inbound: vec![0x2a00_0101], outbound: vec![(REQID, 0x1100_0101)] };
    assert_eq!(all(&mut stage, vec![remove]), []);
    assert!(sa(&stage, IN, 0x2a00_0101).is_none());
    assert_eq!(sa(&stage, OUT, REQID).expect("the successor stays").spi, 0x1100_0202);
}

#[test]
fn the_number_of_another_tunnel_is_not_taken() {
    let mut stage = stage();
    assert_eq!(perform(&mut stage, install(&tunnel(1), (0x2a00_0101, 0x1100_0101), 7, Role::Initiator)), []);
    let failed = perform(&mut stage, install(&tunnel(2), (0x2a00_0303, 0x1100_0303), 9, Role::Initiator));
    assert_eq!(failed, [Command::InstallFailed { reqid: REQID, spi: 0x2a00_0303 }]);
    assert!(sa(&stage, IN, 0x2a00_0303).is_none(), "neither half");
    assert_eq!(sa(&stage, OUT, REQID).expect("untouched").name.as_str(), tunnel(1).as_str());
}

#[test]
fn a_peer_that_moves_keeps_its_sas() {
    let mut stage = stage();
    assert_eq!(perform(&mut stage, install(&tunnel(1), (0x2a00_0101, 0x1100_0101), 7, Role::Initiator)), []);
    use_it(&stage, IN, 0x2a00_0101);
    let ends = ends("198.51.100.9:1024");
    let moved = Output::MovePeer { inbound: vec![0x2a00_0101, 0x2a00_0999], outbound: vec![REQID], ends };
    assert_eq!(all(&mut stage, vec![moved]), []);
    let (inbound, outbound) =
        (sa(&stage, IN, 0x2a00_0101).expect("in"), sa(&stage, OUT, REQID).expect("out"));
    assert_eq!((inbound.source, outbound.destination), (ends.remote.ip(), ends.remote.ip()));
    assert_eq!(outbound.encapsulation.expect("in UDP").destination_port, 1024);
    assert_eq!(packets(&stage, IN, 0x2a00_0101), 5);
}

fn sequence(stage: &Stage, direction: Direction, key: u32) -> u64 {
    stage.table.get(direction, key).expect("readable").expect("installed").counters.edge()
}

/// RFC 6311 section 5.2: a wish that would leave none replaces the SA instead, and of others nothing is touched.
#[test]
fn sequence_numbers_are_skipped_or_the_pair_is_rekeyed() {
    let mut stage = stage();
    assert_eq!(perform(&mut stage, install(&tunnel(1), (0x2a00_0101, 0x1100_0101), 7, Role::Initiator)), []);
    let skip = |numbers| Output::SkipSequence { reqids: vec![REQID, REQID + 1], numbers };
    assert_eq!(all(&mut stage, vec![skip(1 << 20)]), []);
    assert_eq!((sequence(&stage, OUT, REQID), sequence(&stage, IN, 0x2a00_0101)), (1 << 20, 0));
    let slot = || stage.table.slot(stage.table.lookup(OUT, REQID).expect("found")).expect("there");
    assert_eq!(slot().next_sequence(1, u64::MAX), Some((1 << 20) + 1));
    let rekey = [Command::SoftLimit { reqid: REQID, spi: 0x1100_0101 }];
    assert_eq!(all(&mut stage, vec![skip(u64::from(u32::MAX))]), rekey);
    assert_eq!(sequence(&stage, OUT, REQID), (1 << 20) + 1);
    stage.table.freeze(&[(OUT, REQID)], Duration::from_secs(1)).expect("frozen");
    assert_eq!(all(&mut stage, vec![skip(1)]), rekey);
    assert_eq!(sequence(&stage, OUT, REQID), (1 << 20) + 1);
}

/// RFC 4555: what the peer sends is taken from and at any address, of which nothing is moved; what we send leads where
/// it is.
#[test]
fn a_peer_that_roams_is_taken_from_anywhere() {
    let mut stage = stage();
    let roaming = |remote: &str| OuterEnds { movement: Movement::Roams, ..ends(remote) };
    let mut first = install(&tunnel(1), (0x2a00_0101, 0x1100_0101), 7, Role::Initiator);
    first.ends = roaming("198.51.100.1:4500");
    assert_eq!(perform(&mut stage, first), []);
    for remote in ["198.51.100.9:1024", "[2001:db8::9]:4500"] {
        let mut ends = roaming(remote);
        if ends.remote.is_ipv6() {
            ends.local = "[2001:db8::2]:4500".parse().expect("an address");
        }
        let moved = Output::MovePeer { inbound: vec![0x2a00_0101], outbound: vec![REQID], ends };
        assert_eq!(all(&mut stage, vec![moved]), []);
        let (inbound, outbound) =
            (sa(&stage, IN, 0x2a00_0101).expect("in"), sa(&stage, OUT, REQID).expect("out"));
        assert!(inbound.source.is_unspecified() && inbound.destination.is_unspecified());
        assert_eq!(
            (inbound.source.is_ipv6(), inbound.destination.is_ipv6()),
            (ends.remote.is_ipv6(), ends.remote.is_ipv6())
        );
        assert_eq!((outbound.source, outbound.destination), (ends.local.ip(), ends.remote.ip()));
        assert!(!inbound.encapsulation.expect("in UDP").follows_peer);
    }
}

/// A data plane that takes all policies but those called `bad`.
#[derive(Default)]
struct Played(Mutex<Vec<PolicySpec>>);

impl Played {
    fn names(&self) -> Vec<String> {
        self.0.lock().expect("sound").iter().map(|policy| policy.name.clone()).collect()
    }
}

impl Service for Played {
    type Request = Request;
    const DAEMON: Daemon = Daemon::DataPlane;
    const MAX_REQUEST_OCTETS: usize = 65_536;

    fn answer(&self, request: Request, client: &Conversation<'_>) -> io::Result<Next> {
        let mut installed = self.0.lock().expect("sound");
        match request {
            Request::PolicyAdd { policies } if policies.iter().any(|policy| policy.name == "bad") => {
                client.reply::<()>(Err(Refusal::new(Code::Refused, "it overlaps", "choose another network")))
            }
            Request::PolicyAdd { policies } => {
                installed.retain(|old| policies.iter().all(|new| new.name != old.name));
                installed.extend(policies);
                client.reply(Ok(PolicyReport::default()))
            }
            Request::PolicyRemove { names, .. } => {
                installed.retain(|policy| !names.contains(&policy.name));
                client.reply(Ok(PolicyReport::default()))
            }
            _ => client.reply(Ok(Installed::default())),
        }
    }
}

fn trap(stage: &mut Stage, name: &str) {
    let policy = PolicyInstall {
        name: name.to_owned(),
        reqid: REQID,
        segment: 0x2a,
        local: vec![TrafficSelector::host([10, 2, 0, 1].into())],
        remote: vec![TrafficSelector::host([10, 1, 0, 1].into())],
        priority: None,
    };
    assert_eq!(all(stage, vec![Output::Trap(Box::new(policy))]), []);
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn policies_wait_for_a_data_plane_and_find_one_that_forgot() {
    let mut stage = stage();
    for name in ["one", "two", "bad"] {
        trap(&mut stage, name);
    }
    let remove = Output::RemovePolicies { names: vec!["one".to_owned()], keep_prohibited: true };
    assert_eq!(all(&mut stage, vec![remove]), []);
    let path = control_socket(stage.directory.path());
    for _ in 0..2 {
        let played = Arc::new(Played::default());
        let server = Server::bind(&path, Arc::clone(&played)).expect("served");
        // The first change after the end of a data plane may still reach it; the next one finds its successor.
        eventually("all that are wanted", || {
            trap(&mut stage, "three");
            played.names().len() == 2
        });
        assert!(!played.names().iter().any(|name| name == "one" || name == "bad"), "{:?}", played.names());
        drop(server);
    }
    let problem = stage.reports.try_iter().find_map(|report| match report {
        crate::reports::Report::PolicyRefused { problem, failed: None } => Some(problem),
        _ => None,
    });
    assert!(problem.is_some_and(|problem| problem.contains("bad") && problem.contains("overlaps")));
}

/// What was to be open stays no longer closed because its data plane was away just then.
#[test]
fn a_removal_that_no_data_plane_has_heard_is_made_again() {
    let mut stage = stage();
    let path = control_socket(stage.directory.path());
    let played = Arc::new(Played::default());
    let server = Server::bind(&path, Arc::clone(&played)).expect("served");
    trap(&mut stage, "one");
    eventually("a policy", || played.names() == ["one"]);
    drop(server);
    let remove = Output::RemovePolicies { names: vec!["one".to_owned()], keep_prohibited: false };
    assert_eq!(all(&mut stage, vec![remove]), []);
    std::thread::sleep(Duration::from_millis(100));
    let _server = Server::bind(&path, Arc::clone(&played)).expect("served again");
    eventually("its end", || played.names().is_empty());
}

/// A new Child SA, the message that tells the peer of it, and a later event.
fn told(stage: &Stage, peer: &UdpSocket) -> Vec<Output> {
    let mut new = install(&tunnel(1), (0x2a00_0101, 0x1100_0101), 7, Role::Responder);
    new.policy = Some(PolicyInstall {
        name: "site/net".to_owned(),
        reqid: REQID,
        segment: 0x2a,
        local: new.local.clone(),
        remote: new.remote.clone(),
        priority: None,
    });
    let local = stage.effects.sockets.bound().next().expect("bound");
    let path = Path { local, remote: peer.local_addr().expect("bound"), marked: false };
    vec![Output::Install(Box::new(new)), Output::Transmit { path, datagram: b"told".to_vec(), tunnel: None }]
}

/// A data plane, a tunnel's peer, and somebody who waits for the answer.
fn wait_for_answer(stage: &mut Stage) -> Arc<AtomicBool> {
    let answered = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&answered);
    stage.effects.answer_in_force(move || answer.store(true, Ordering::Release));
    answered
}

/// A socket that finds at once that there is nothing.
fn peer() -> UdpSocket {
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    peer.set_nonblocking(true).expect("set");
    peer
}

#[test]
fn a_peer_is_told_of_a_tunnel_when_its_policy_is_in_force() {
    let mut stage = stage();
    let played = Arc::new(Played::default());
    let _server = Server::bind(&control_socket(stage.directory.path()), Arc::clone(&played)).expect("served");
    let (peer, mut datagram) = (peer(), [0; 16]);
    let hangs = played.0.lock().expect("sound");
    let outputs = told(&stage, &peer);
    let Output::Transmit { path, .. } = outputs[1] else { panic!("a datagram") };
    assert_eq!(all(&mut stage, outputs), []);
    let next = Output::Transmit { path, datagram: b"later".to_vec(), tunnel: None };
    assert_eq!(all(&mut stage, vec![next]), []);
    let answered = wait_for_answer(&mut stage);
    stage.effects.let_go();
    assert!(peer.recv(&mut datagram).is_err(), "told before the policy is in force");
    assert_eq!((answered.load(Ordering::Acquire), stage.effects.policies_waiting()), (false, 1));
    drop(hangs);
    eventually("the policy", || stage.effects.policies_waiting() == 0);
    assert!(peer.recv(&mut datagram).is_err(), "the loop does it");
    stage.effects.let_go();
    assert_eq!(peer.recv(&mut datagram).ok().map(|octets| &datagram[..octets]), Some(&b"told"[..]));
    assert_eq!(peer.recv(&mut datagram).ok().map(|octets| &datagram[..octets]), Some(&b"later"[..]));
    assert!(answered.load(Ordering::Acquire));
    assert_eq!((played.names(), stage.effects.next_due()), (vec!["site/net".to_owned()], None));
}

#[test]
fn no_peer_waits_long_for_a_data_plane_that_hangs_nor_at_all_for_one_that_is_away() {
    for hangs in [true, false] {
        let mut stage = stage();
        let played = Arc::new(Played::default());
        let path = control_socket(stage.directory.path());
        let _server = hangs.then(|| Server::bind(&path, Arc::clone(&played)).expect("served"));
        let _busy = played.0.lock().expect("sound");
        let peer = peer();
        let outputs = told(&stage, &peer);
        assert_eq!(all(&mut stage, outputs), []);
        let answered = wait_for_answer(&mut stage);
        let deadline = Instant::now() + Duration::from_secs(5);
        while peer.recv(&mut [0; 16]).is_err() {
            assert!(Instant::now() < deadline, "told all the same");
            stage.effects.let_go();
        }
        stage.effects.let_go();
        assert!(answered.load(Ordering::Acquire));
        assert_eq!(stage.effects.policies_waiting(), 1, "the policy is remembered");
    }
}
