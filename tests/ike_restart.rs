//! Two gateways that negotiate with each other, and what is left of a tunnel when their daemons are killed.

#[path = "ike/failover.rs"]
mod failover;
mod support;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use baton_lab::charon::Section;
use baton_lab::content::Content;
use baton_lab::gateway::random;
use baton_lab::http::{Download, FileServer};
use baton_lab::negotiation::{CHILD, CONNECTION, Negotiation, Side};
use baton_lab::peer_site::site_to_site;
use baton_lab::probe::{Echo, Prober};
use baton_lab::shape::Shape;
use baton_lab::topology::{self, A_OUTER, B_OUTER, Topology};
use baton_lab::{Captured, Direction, Gateway, GatewaySpec, Lab, esp, requirements};
use serde_json::{Value, json};
use support::{MARKER, PATIENCE, Tap, assert_no_iv_repeats};

const EXCHANGE: Duration = Duration::from_secs(10);
/// About as much as crosses while ten daemons are killed.
const FILE: u64 = 60_000_000;

/// Gateways A and B, each with both daemons. Fields drop in order: processes before the lab.
struct Pair {
    a: Gateway,
    b: Gateway,
    topology: Topology,
    lab: Lab,
}

/// A daemon of one of them.
#[derive(Clone, Copy, Debug)]
enum Victim {
    IkeOfA,
    IkeOfB,
    DataPlaneOfA,
    DataPlaneOfB,
}

impl Victim {
    const ALL: [Self; 4] = [Self::IkeOfB, Self::DataPlaneOfB, Self::IkeOfA, Self::DataPlaneOfA];
}

fn can_run(test: &str) -> bool {
    let is_built = requirements::binary("baton-ike").exists();
    if !is_built {
        requirements::skipped(test, "baton-ike is not built");
    }
    is_built && support::can_run(test)
}

/// AEADs on both layers: there an IV that came twice would be the end of both messages' secrecy.
fn case() -> Negotiation {
    let mut case = site_to_site(Side::Responder);
    case.ike_proposals = vec!["aes128gcm16-prfsha256-x25519".into()];
    case
}

impl Pair {
    fn start(case: &Negotiation) -> Self {
        let lab = Lab::new().expect("lab");
        let topology = Topology::build(&lab).expect("wires");
        topology.prepare_for(Shape::DEFAULT).expect("wires");
        let last_core = std::thread::available_parallelism().map_or(0, |cores| (cores.get() - 1).min(1));
        let key = random(32).expect("a key");
        let mut a = Gateway::new(&lab, &topology.a, spec("a", 1, A_OUTER.into(), 0, &key)).expect("a");
        let mut b =
            Gateway::new(&lab, &topology.b, spec("b", 2, B_OUTER.into(), last_core, &key)).expect("b");
        a.set_negotiation(case, Side::Initiator).expect("configured");
        b.set_negotiation(case, Side::Responder).expect("configured");
        for gateway in [&mut b, &mut a] {
            gateway.start(&lab).expect("a data plane");
            gateway.start_ike(&lab).expect("an IKE daemon");
        }
        Self { a, b, topology, lab }
    }

    fn set_up(&self) -> Standing {
        let request = json!({"request": "initiate", "connection": CONNECTION, "child": CHILD});
        self.a.ask_ike(request).expect("begun");
        self.agreement()
    }

    /// Waits until both have the same IKE SA and the same Child SA, and nothing else.
    fn agreement(&self) -> Standing {
        let deadline = Instant::now() + EXCHANGE;
        loop {
            let standings = [&self.a, &self.b].map(Standing::of);
            if let [Some(a), Some(b)] = &standings
                && a.mirrors(b)
            {
                return b.clone();
            }
            let logs = || format!("A:\n{}\nB:\n{}", self.a.ike_log(), self.b.ike_log());
            assert!(Instant::now() < deadline, "no agreement: {standings:?}\n{}", logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::IkeOfA => self.a.kill_ike(),
            Victim::IkeOfB => self.b.kill_ike(),
            Victim::DataPlaneOfA => self.a.kill(),
            Victim::DataPlaneOfB => self.b.kill(),
        }
    }

    fn start_again(&mut self, victim: Victim) {
        let started = match victim {
            Victim::IkeOfA => self.a.start_ike(&self.lab),
            Victim::IkeOfB => self.b.start_ike(&self.lab),
            Victim::DataPlaneOfA => self.a.start(&self.lab),
            Victim::DataPlaneOfB => self.b.start(&self.lab),
        };
        started.unwrap_or_else(|error| panic!("{victim:?} after its death: {error}"));
    }
}

fn spec(name: &str, node: u8, outer: IpAddr, core: usize, key: &[u8]) -> GatewaySpec {
    GatewaySpec {
        name: name.into(),
        node,
        outer,
        outer_io: "auto",
        inner: "lan0",
        owned: "\"all\"".into(),
        core,
        tunnels: Vec::new(),
        snapshot_key: key.to_owned(),
        ike: String::new(),
    }
}

/// What one gateway says of its one tunnel.
#[derive(Clone, Debug, PartialEq)]
struct Standing {
    name: String,
    ike: [String; 2],
    child: [String; 2],
}

impl Standing {
    fn of(gateway: &Gateway) -> Option<Self> {
        let tunnels = gateway.tunnels().ok()?;
        let [tunnel] = &tunnels[..] else { return None };
        let [child] = &tunnel["children"].as_array()?[..] else { return None };
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let stands = tunnel["state"] == "established" && child["state"] == "installed";
        stands.then(|| Self {
            name: text(tunnel, "name"),
            ike: ["initiator_spi", "responder_spi"].map(|name| text(tunnel, name)),
            child: ["inbound_spi", "outbound_spi"].map(|name| text(child, name)),
        })
    }

    fn mirrors(&self, other: &Self) -> bool {
        let [inbound, outbound] = &self.child;
        self.ike == other.ike && [outbound, inbound] == [&other.child[0], &other.child[1]]
    }
}

fn traffic(topology: &Topology) -> (Echo, Prober) {
    let [client, server] = Shape::DEFAULT.hosts();
    let (from, to) = (SocketAddr::new(client, 0), SocketAddr::new(server, support::ECHO));
    let echo = Echo::start(&topology.server, to).expect("echo");
    let pace = Duration::from_millis(1);
    let prober = Prober::start(&topology.client, from, to, MARKER, pace).expect("prober");
    (echo, prober)
}

fn flows(pair: &Pair, prober: &Prober, what: &str) {
    if let Err(error) = prober.wait_for_answers(100, PATIENCE) {
        panic!("{what}: {error}\nA:\n{}\nB:\n{}", pair.a.ike_log(), pair.b.ike_log());
    }
}

#[test]
fn two_gateways_set_a_tunnel_up_and_traffic_crosses_it() {
    if !can_run("two_gateways_set_a_tunnel_up_and_traffic_crosses_it") {
        return;
    }
    let pair = Pair::start(&case());
    pair.set_up();
    rekeyed_from_both_ends(&pair);
    let request = json!({"request": "terminate", "target": {"connection": CONNECTION}});
    assert_eq!(pair.b.ask_ike(request).expect("ended")["concerned"], 1);
    support::eventually("the end at both", || {
        [&pair.a, &pair.b].iter().all(|gateway| gateway.tunnels().is_ok_and(|tunnels| tunnels.is_empty()))
    });
}

/// New keys for the IKE SA and the Child SA, asked for by either, while traffic crosses.
fn rekeyed_from_both_ends(pair: &Pair) {
    let before = pair.agreement();
    let (_echo, prober) = traffic(&pair.topology);
    flows(pair, &prober, "a new tunnel");
    for (gateway, what) in [(&pair.a, "child"), (&pair.b, "child"), (&pair.a, "ike"), (&pair.b, "ike")] {
        let tunnel = Standing::of(gateway).expect("a tunnel").name;
        let request = json!({"request": "rekey", "target": {"tunnel": tunnel}, "what": what});
        assert_eq!(gateway.ask_ike(request).expect("begun")["concerned"], 1);
        flows(pair, &prober, what);
    }
    let after = pair.agreement();
    assert_eq!(after.name, before.name, "a tunnel keeps its name");
    assert!(after.ike != before.ike && after.child != before.child, "{before:?} {after:?}");
}

/// RFC 9242 and RFC 9370 on a wire: three key exchanges in the set-up, as many in the rekeying of the IKE SA, two in
/// that of the Child SA, whoever asks.
#[test]
fn two_gateways_exchange_keys_several_times() {
    if !can_run("two_gateways_exchange_keys_several_times") {
        return;
    }
    let mut case = case();
    let (ike, esp) =
        ("aes128gcm16-prfsha256-x25519-ke1_mlkem768-ke2_mlkem1024", "aes128gcm16-x25519-ke1_mlkem768");
    (case.ike_proposals, case.esp_proposals) = (vec![ike.into()], vec![esp.into()]);
    let pair = Pair::start(&case);
    pair.set_up();
    rekeyed_from_both_ends(&pair);
    for gateway in [&pair.a, &pair.b] {
        let tunnel = &gateway.tunnels().expect("told")[0];
        assert_eq!(tunnel["proposal"], ike);
        assert_eq!(tunnel["children"][0]["proposal"], esp);
    }
}

/// RFC 6290 on a wire: a gateway that has lost a tunnel says so by a token, and its peer lets go at once; without one,
/// the peer goes on asking.
#[test]
fn a_tunnel_that_the_other_gateway_has_lost_is_let_go_at_once() {
    if !can_run("a_tunnel_that_the_other_gateway_has_lost_is_let_go_at_once") {
        return;
    }
    assert!(is_let_go_when_lost(true), "the token was not believed");
    assert!(!is_let_go_when_lost(false), "nobody may end a tunnel without a token");
}

/// Whether A lets its tunnel go in three seconds after B has forgotten all about it and A has asked B for something.
fn is_let_go_when_lost(has_token: bool) -> bool {
    let mut case = case();
    case.daemon_options = case.daemon_options.set("crash_detection", if has_token { "yes" } else { "no" });
    let mut pair = Pair::start(&case);
    pair.set_up();
    let lost = Standing::of(&pair.a).expect("a tunnel").name;
    pair.kill(Victim::IkeOfB);
    std::fs::remove_dir_all(pair.b.runtime_directory().join("ike")).expect("forgotten");
    pair.start_again(Victim::IkeOfB);
    assert!(pair.b.tunnels().expect("told").is_empty(), "B still has its tunnel");
    let request = json!({"request": "rekey", "target": {"tunnel": lost}, "what": "ike"});
    pair.a.ask_ike(request).expect("begun");
    let deadline = Instant::now() + Duration::from_secs(3);
    let is_there = || pair.a.tunnels().expect("told").iter().any(|tunnel| tunnel["name"] == lost);
    while is_there() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    !is_there()
}

/// Both ends resume; the initiator finds out quickly that its peer is gone, and comes back by itself. The keys of tickets
/// are the cluster's.
fn resuming() -> Negotiation {
    let mut case = case();
    case.connection_options = Section::new().set("session_resumption", "yes").set("mobike", "no");
    case.initiator_options = Section::new().set("dpd_delay", "2s").set("keyingtries", 0);
    case.child_options = Section::new().set("dpd_action", "restart");
    case.daemon_options =
        Section::new().set("retransmit_timeout", 0.2).set("retransmit_base", 1.0).set("retransmit_tries", 8);
    let octets = "0x8f1d3c5a7b9e02468ace13579bdf0011223344556677889900aabbccddeeff01";
    case.secrets = Section::new().with("ticket-1", Section::new().set("secret", octets));
    case
}

/// Waits until both have a tunnel that was set up by a ticket.
fn assert_resumed(pair: &Pair) {
    pair.agreement();
    for gateway in [&pair.a, &pair.b] {
        let tunnel = gateway.tunnels().expect("tunnels").remove(0);
        let words = tunnel["extensions"].as_array().expect("words").clone();
        let (a, b) = (pair.a.ike_log(), pair.b.ike_log());
        assert!(words.iter().any(|word| word == "resumed"), "{tunnel}\nA:\n{a}\nB:\n{b}");
        assert!(tunnel["ticket_seconds"].as_u64().is_some_and(|seconds| seconds > 3000), "{tunnel}");
    }
}

/// Frames with a message of an exchange in the clear.
fn messages_of(exchange: u8, frames: &[Captured]) -> usize {
    let messages = frames.iter().filter_map(|captured| message(&captured.frame));
    messages.filter(|message| message.get(18) == Some(&exchange)).count()
}

#[test]
fn a_lost_tunnel_is_resumed_at_another_gateway_of_the_cluster() {
    const INIT: u8 = 34;
    const RESUME: u8 = 38;
    if !can_run("a_lost_tunnel_is_resumed_at_another_gateway_of_the_cluster") {
        return;
    }
    let case = resuming();
    let mut pair = Pair::start(&case);
    pair.set_up();
    let (_echo, prober) = traffic(&pair.topology);
    flows(&pair, &prober, "a new tunnel");
    let wire = Tap::start(&pair.topology.wan, "a", Direction::In);
    replace_b(&mut pair, &case, 3);
    assert_resumed(&pair);
    flows(&pair, &prober, "a resumed tunnel");
    let frames = wire.finish();
    assert_eq!((messages_of(INIT, &frames), messages_of(RESUME, &frames) > 0), (0, true));
    // The ticket survives the end of the process, once the tunnel is lost.
    pair.b.kill_ike();
    pair.b.kill();
    let ticket = pair.a.runtime_directory().join("ike/tickets").join(format!("{CONNECTION}.ticket"));
    support::eventually("the tunnel is lost and its ticket kept", || ticket.exists());
    pair.kill(Victim::IkeOfA);
    replace_b(&mut pair, &case, 4);
    pair.start_again(Victim::IkeOfA);
    let request = json!({"request": "initiate", "connection": CONNECTION, "child": CHILD});
    pair.a.ask_ike(request).expect("begun");
    assert_resumed(&pair);
    flows(&pair, &prober, "a tunnel that was resumed after both died");
    support::eventually("a ticket serves once", || !ticket.exists());
    // A gateway of another cluster does not know it: the tunnel is set up in full.
    let mut other = case.clone();
    let octets = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    other.secrets = Section::new().with("ticket-1", Section::new().set("secret", octets));
    replace_b(&mut pair, &other, 5);
    flows(&pair, &prober, "a tunnel that was refused its ticket");
    let tunnel = pair.a.tunnels().expect("tunnels").remove(0);
    assert!(!tunnel["extensions"].to_string().contains("resumed"), "{tunnel}");
}

/// Another machine answers at B's address, and knows nothing of B's tunnels.
fn replace_b(pair: &mut Pair, case: &Negotiation, node: u8) {
    pair.b.kill_ike();
    pair.b.kill();
    let _ = pair.b.uninstall();
    let old = pair.b.spec();
    let new = spec(&format!("b{node}"), node, B_OUTER.into(), old.core, &old.snapshot_key);
    pair.b = Gateway::new(&pair.lab, &pair.topology.b, new).expect("another gateway");
    pair.b.set_negotiation(case, Side::Responder).expect("configured");
    pair.b.start(&pair.lab).expect("a data plane");
    pair.b.start_ike(&pair.lab).expect("an IKE daemon");
}

fn counter(gateway: &Gateway, name: &str) -> u64 {
    let answer = gateway.ask_ike(json!({"request": "counters"})).expect("counters");
    let counters = answer["counters"].as_array().expect("counters");
    let found = counters.iter().find(|counter| counter["name"] == name);
    found.and_then(|counter| counter["value"].as_u64()).unwrap_or_else(|| panic!("no {name} in {answer}"))
}

#[test]
fn a_gateway_that_asks_for_puzzles_is_answered() {
    if !can_run("a_gateway_that_asks_for_puzzles_is_answered") {
        return;
    }
    let mut case = case();
    case.daemon_options = Section::new().set("puzzle_threshold", 0).set("puzzle_difficulty", 16);
    let pair = Pair::start(&case);
    pair.set_up();
    let (_echo, prober) = traffic(&pair.topology);
    flows(&pair, &prober, "a tunnel whose initiator has solved a puzzle");
    assert_eq!((counter(&pair.a, "puzzles-worked"), counter(&pair.b, "puzzles-solved")), (1, 1));
}

#[test]
fn whoever_is_killed_no_tunnel_is_lost() {
    if !can_run("whoever_is_killed_no_tunnel_is_lost") {
        return;
    }
    let mut pair = Pair::start(&case());
    let first = pair.set_up();
    let wires = ["a", "b"].map(|port| Tap::start(&pair.topology.wan, port, Direction::In));
    let (echo, prober) = traffic(&pair.topology);
    flows(&pair, &prober, "a new tunnel");
    let server =
        FileServer::start(&pair.topology.server, topology::server_port(80), 9, FILE).expect("server");
    let download = Download::start(&pair.topology.client, server.address()).expect("download");
    for round in 0..support::count(10, 100) {
        kill_once(&mut pair, round, &prober);
    }
    let last = pair.agreement();
    assert_eq!(last.name, first.name);
    assert_eq!(download.finish().expect("downloaded").sha256, Content::new(9, FILE).sha256());
    prober.pause();
    std::thread::sleep(Duration::from_millis(500));
    let (sent, answered) = prober.counts();
    println!("{answered} of {sent} datagrams came back");
    assert!(echo.received() <= sent && answered <= echo.received(), "I3: packets were accepted twice");
    let frames = wires.map(Tap::finish);
    assert!(assert_no_iv_repeats(Shape::DEFAULT, &frames) > 1000);
    for frames in &frames {
        assert_sequences_rise(frames);
        assert_no_ike_iv_repeats(frames);
    }
}

/// Kills one daemon at a moment that nobody chose, in the middle of a rekey every other time, and starts it again.
fn kill_once(pair: &mut Pair, round: usize, prober: &Prober) {
    let victim = Victim::ALL[round % Victim::ALL.len()];
    let before = pair.agreement();
    let rekeyed = round.is_multiple_of(2).then_some(if round.is_multiple_of(4) { "child" } else { "ike" });
    if let Some(what) = rekeyed {
        let rekeying = if round.is_multiple_of(3) { &pair.a } else { &pair.b };
        let request = json!({"request": "rekey", "target": {"connection": CONNECTION}, "what": what});
        rekeying.ask_ike(request).expect("begun");
    }
    let moment = random(2).map_or(0, |octets| u64::from(octets[0]) << 6 | u64::from(octets[1]));
    std::thread::sleep(Duration::from_micros(moment));
    pair.kill(victim);
    pair.start_again(victim);
    let what = format!("round {round}: {victim:?} killed {moment} us after {rekeyed:?}");
    flows(pair, prober, &what);
    let after = pair.agreement();
    assert_eq!(after.name, before.name, "{what}: the tunnel is another one");
    if rekeyed.is_none() {
        assert_eq!(after, before, "{what}: there was no reason for new SAs");
    }
}

/// I2 on the wire: no SA's sequence numbers go back or come again.
fn assert_sequences_rise(frames: &[Captured]) {
    let mut last: HashMap<u32, u32> = HashMap::new();
    for header in frames.iter().filter_map(|captured| esp::esp(&captured.frame)) {
        let before = last.insert(header.spi, header.sequence).unwrap_or(0);
        assert!(
            before < header.sequence,
            "I2 broken: {:#x} sent {} after {before}",
            header.spi,
            header.sequence
        );
    }
}

/// I1 for IKE's own messages: one IV is in one message only, however often that is sent.
fn assert_no_ike_iv_repeats(frames: &[Captured]) {
    let (mut messages, mut ivs) = (HashSet::new(), HashMap::new());
    for message in frames.iter().filter_map(|captured| ike_message(&captured.frame)) {
        if messages.insert(message.to_vec()) {
            let iv = message[IV].to_vec();
            let earlier = ivs.insert(iv, message);
            assert!(earlier.is_none(), "I1 broken: {message:02x?} repeats the IV of {earlier:02x?}");
        }
    }
    assert!(ivs.len() > 2, "the rekeys' messages were not seen");
}

/// Where the IV of a message stands whose first payload is Encrypted: behind both headers.
const IV: std::ops::Range<usize> = 32..40;

/// An encrypted IKE message in an Ethernet frame with IPv4 (RFC 7296 sections 3.1 and 3.14); on port 4500 it stands
/// behind the non-ESP marker (RFC 3948 section 2.2).
fn ike_message(frame: &[u8]) -> Option<&[u8]> {
    const ENCRYPTED: u8 = 46;
    message(frame).filter(|message| message.len() > IV.end && message[16] == ENCRYPTED)
}

/// What an Ethernet frame with IPv4 has for IKE's ports.
fn message(frame: &[u8]) -> Option<&[u8]> {
    let ip = frame.get(14..)?;
    let is_udp = frame.get(12..14)? == [0x08, 0x00] && *ip.get(9)? == 17;
    let udp = ip.get(usize::from(ip[0] & 0xf) * 4..)?;
    let length = usize::from(u16::from_be_bytes(*udp.get(4..6)?.first_chunk()?));
    let datagram = udp.get(8..length).filter(|_| is_udp)?;
    match u16::from_be_bytes(*udp.get(2..4)?.first_chunk()?) {
        500 => Some(datagram),
        4500 => datagram.strip_prefix(&[0; 4]),
        _ => None,
    }
}
