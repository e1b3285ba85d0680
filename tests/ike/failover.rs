//! A gateway that is lost with its machine, and another one that goes on with an older copy of its tunnel.

use std::net::Ipv4Addr;
use std::time::Duration;

use baton_lab::charon::Section;
use baton_lab::negotiation::{CONNECTION, Negotiation, Side};
use baton_lab::probe::Prober;
use baton_lab::site::Progress;
use baton_lab::topology::A_OUTER;
use baton_lab::{Direction, Gateway, GatewaySpec};
use serde_json::json;

use super::support::{self, MARKER, Tap, assert_no_iv_repeats, counter};
use super::{Pair, Standing, assert_sequences_rise, can_run, case, flows, traffic};
use baton_lab::shape::Shape;

/// How far both edges of a copy advance, unless somebody says otherwise.
const ADVANCE: u64 = 1 << 20;

/// Gateways A and B with a tunnel, and B2, which has B's addresses and is down.
struct Failover {
    pair: Pair,
    b2: Gateway,
}

impl Failover {
    fn start(case: &Negotiation) -> Self {
        let pair = Pair::start(case);
        set_links(&pair.topology.b2, "down");
        let b2 = GatewaySpec { name: "b2".into(), node: 3, ..pair.b.spec().clone() };
        let mut b2 = Gateway::new(&pair.lab, &pair.topology.b2, b2).expect("b2");
        b2.set_negotiation(case, Side::Responder).expect("configured");
        Self { pair, b2 }
    }

    /// B is lost with all that it had; B2 takes its place, with nothing yet.
    fn lose_b(&mut self) {
        self.pair.b.kill_ike();
        self.pair.b.kill();
        set_links(&self.pair.topology.b, "down");
        set_links(&self.pair.topology.b2, "up");
        let route = format!("route replace default via {A_OUTER}");
        self.pair.topology.b2.ip(&route).expect("a route");
        self.b2.start(&self.pair.lab).expect("a data plane");
        self.b2.start_ike(&self.pair.lab).expect("an IKE daemon");
    }

    /// A is at two addresses from now on.
    fn give_a_another_address(&mut self) {
        let Pair { a, topology, lab, .. } = &mut self.pair;
        topology.a.ip(&format!("address add {A_FURTHER}/24 dev wan0")).expect("an address");
        let (one, both) = (format!("[\"{A_OUTER}\"]"), format!("[\"{A_OUTER}\", \"{A_FURTHER}\"]"));
        let text = a.config_text();
        assert!(text.matches(&one).count() >= 2, "{text}");
        a.write_config(&text.replacen(&one, &both, 2)).expect("written");
        a.kill_ike();
        a.stop().expect("stopped");
        a.start(lab).expect("a data plane");
        a.start_ike(lab).expect("an IKE daemon");
    }

    fn logs(&self) -> String {
        format!("A:\n{}\nB2:\n{}", self.pair.a.ike_log(), self.b2.ike_log())
    }

    fn flows_by_b2(&self, prober: &Prober, what: &str) {
        if let Err(error) = prober.wait_for_answers(100, support::PATIENCE) {
            panic!("{what}: {error}\n{}", self.logs());
        }
    }
}

fn set_links(namespace: &baton_lab::Namespace, state: &str) {
    namespace.ip(&format!("link set wan0 {state}\nlink set lan0 {state}")).expect("links");
}

/// Gateways that look after each other all the time, so that a copy is soon behind.
fn talkative(options: Section) -> Negotiation {
    let mut case = case();
    case.connection_options = Section::new().set("dpd_delay", "1s");
    case.baton_options = options;
    case
}

fn copy(gateway: &Gateway, name: &str) -> Vec<u8> {
    let output = gateway.dpctl_output(&["snapshot", name], &[]).expect("dpctl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn restore(gateway: &Gateway, copy: &[u8]) {
    let output = gateway.dpctl_output(&["restore", "-"], copy).expect("dpctl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn ike_counter(gateway: &Gateway, name: &str) -> u64 {
    let counters = gateway.ask_ike(json!({"request": "counters"})).expect("counters");
    let found = counters["counters"].as_array().into_iter().flatten().find(|one| one["name"] == name);
    found.and_then(|one| one["value"].as_u64()).unwrap_or_else(|| panic!("no counter {name}: {counters}"))
}

/// The copy is older than the latest exchanges and some thousand packets.
fn grow_old(failover: &Failover, prober: &Prober) {
    let sent = || ike_counter(&failover.pair.b, "sent");
    let before = sent();
    prober.wait_for_answers(2000, support::PATIENCE).expect("traffic");
    support::eventually("further exchanges", || sent() > before + 2);
}

/// RFC 6311 section 5: the peer skips what the other gateway's windows refuse, and traffic crosses both ways at once.
#[test]
fn a_gateway_that_goes_on_with_an_old_copy_is_followed() {
    if !can_run("a_gateway_that_goes_on_with_an_old_copy_is_followed") {
        return;
    }
    let mut failover = Failover::start(&talkative(Section::new()));
    let before = failover.pair.set_up();
    let wires = ["a", "b", "b2"].map(|port| Tap::start(&failover.pair.topology.wan, port, Direction::In));
    let (echo, prober) = traffic(&failover.pair.topology);
    flows(&failover.pair, &prober, "a new tunnel");
    let copy = copy(&failover.pair.b, &before.name);
    grow_old(&failover, &prober);
    failover.lose_b();
    // Whoever is asked, and whoever has asked, dies in the middle of it.
    failover.pair.a.kill_ike();
    restore(&failover.b2, &copy);
    failover.b2.kill_ike();
    failover.b2.start_ike(&failover.pair.lab).expect("it goes on");
    failover.pair.a.start_ike(&failover.pair.lab).expect("it goes on");
    failover.flows_by_b2(&prober, "after the failover");
    support::eventually("the answer", || ike_counter(&failover.b2, "failovers") == 1);
    assert!(ike_counter(&failover.pair.a, "counter-synchronizations") >= 1);
    let standing = Standing::of(&failover.b2).expect("the tunnel");
    assert_eq!(standing, before, "the same SAs");
    for (gateway, direction) in [(&failover.pair.a, "outbound"), (&failover.b2, "inbound")] {
        let progress = Progress::of_named(gateway, &standing_name(gateway), direction).expect("an SA");
        assert!(progress.sequence > ADVANCE, "{direction}: {progress:?}");
    }
    // And exchanges go on from both ends.
    for gateway in [&failover.pair.a, &failover.b2] {
        let request = json!({"request": "rekey", "target": {"connection": CONNECTION}, "what": "child"});
        assert_eq!(gateway.ask_ike(request).expect("begun")["concerned"], 1);
        failover.flows_by_b2(&prober, "a rekey after the failover");
    }
    prober.pause();
    std::thread::sleep(Duration::from_millis(500));
    let (sent, answered) = prober.counts();
    assert!(echo.received() <= sent && answered <= echo.received(), "I3: packets were accepted twice");
    let frames = wires.map(Tap::finish);
    assert!(assert_no_iv_repeats(Shape::DEFAULT, &frames) > 1000);
    assert_sequences_rise(&frames[0]);
    let both: Vec<_> = frames[1].iter().chain(&frames[2]).cloned().collect();
    assert_sequences_rise(&both);
    assert!(frames[2].iter().any(|frame| frame.frame.windows(MARKER.len()).all(|octets| octets != MARKER)));
}

fn standing_name(gateway: &Gateway) -> String {
    Standing::of(gateway).expect("a tunnel").name
}

/// Without it the other gateway's windows refuse all that the peer sends, and its requests all that it asks: the test
/// above tests something.
#[test]
fn without_rfc_6311_an_old_copy_is_deaf() {
    if !can_run("without_rfc_6311_an_old_copy_is_deaf") {
        return;
    }
    let off = Section::new().set("message_id_sync", "no").set("replay_counter_sync", "no");
    let mut case = talkative(off);
    case.connection_options = Section::new().set("dpd_delay", "0s");
    let mut failover = Failover::start(&case);
    let before = failover.pair.set_up();
    let (_echo, prober) = traffic(&failover.pair.topology);
    flows(&failover.pair, &prober, "a new tunnel");
    let copy = copy(&failover.pair.b, &before.name);
    prober.wait_for_answers(2000, support::PATIENCE).expect("traffic");
    failover.lose_b();
    restore(&failover.b2, &copy);
    let refused = || counter(&failover.b2, "replayed") + counter(&failover.b2, "too-old");
    support::eventually("packets that are refused", || refused() > 500);
    let (_, answered) = prober.counts();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(prober.counts().1, answered, "nothing comes back");
}

/// A peer that agrees about Message IDs alone gets new Child SAs instead.
#[test]
fn a_peer_that_skips_nothing_is_given_new_child_sas() {
    if !can_run("a_peer_that_skips_nothing_is_given_new_child_sas") {
        return;
    }
    let mut failover = Failover::start(&talkative(Section::new().set("replay_counter_sync", "no")));
    let before = failover.pair.set_up();
    let (_echo, prober) = traffic(&failover.pair.topology);
    flows(&failover.pair, &prober, "a new tunnel");
    let copy = copy(&failover.pair.b, &before.name);
    grow_old(&failover, &prober);
    failover.lose_b();
    restore(&failover.b2, &copy);
    failover.flows_by_b2(&prober, "after the failover");
    let after = Standing::of(&failover.b2).expect("the tunnel");
    assert_eq!((after.name, &after.ike), (before.name, &before.ike));
    assert_ne!(after.child, before.child);
    assert_eq!(ike_counter(&failover.pair.a, "counter-synchronizations"), 0);
}

const USER: &str = "carol";
const KEY: &str = "key.lab.test";
/// Where A is besides.
const A_FURTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
/// Where no gateway is.
const NOBODY: &str = "203.0.113.77";

/// A user by a password, a postquantum preshared key, an end with two addresses that lets itself be sent elsewhere.
fn with_everything() -> Negotiation {
    let mut case = case();
    let (initiator, responder) = (case.initiator.identity.clone(), case.responder.identity.clone());
    let of = |auth: &str, identity: &str| Section::new().set("auth", auth).set("id", identity);
    let octets = format!("0x{}", "5a".repeat(32));
    case.secrets = Section::new()
        .with("eap-carol", Section::new().set("id", USER).set("secret", "Carol's password"))
        .with("ppk-1", Section::new().set("id", KEY).set("secret", octets));
    case.initiator_options = Section::new()
        .set("ppk_id", KEY)
        .set_list("follow_redirects", &[NOBODY])
        .with("local", of("eap-mschapv2", &initiator).set("eap_id", USER))
        .with("remote", of("psk", &responder));
    case.responder_options = Section::new()
        .set("ppk_required", "yes")
        .set("redirect_timeout", "10m")
        .set_list("remote_addrs", &["203.0.113.0/24"])
        .with("local", of("psk", &responder))
        .with("remote", of("eap-mschapv2", "%any").set("eap_id", "%any"));
    case
}

/// What a gateway says of its tunnel that outlives it.
fn nature(gateway: &Gateway) -> [serde_json::Value; 4] {
    let tunnels = gateway.tunnels().expect("tunnels");
    let tunnel = tunnels.first().expect("a tunnel");
    ["eap_identity", "ppk", "extensions", "further_addresses"].map(|name| tunnel[name].clone())
}

/// A tunnel with all of it moves to another gateway while its peer is being sent elsewhere, and every IKE daemon is killed on
/// the way: what was agreed is agreed still, the redirect reaches the peer, and keys are replaced from both ends.
#[test]
fn a_tunnel_with_every_extension_goes_on_at_another_gateway() {
    if !can_run("a_tunnel_with_every_extension_goes_on_at_another_gateway") {
        return;
    }
    let mut failover = Failover::start(&with_everything());
    failover.give_a_another_address();
    let before = failover.pair.set_up();
    let agreed = nature(&failover.pair.b);
    assert_eq!(agreed[..2], [json!(USER), json!(KEY)]);
    for extension in ["mobike", "redirect", "message-id-sync", "replay-counter-sync"] {
        assert!(
            agreed[2].as_array().is_some_and(|all| all.contains(&json!(extension))),
            "{extension}: {agreed:?}"
        );
    }
    assert_eq!(agreed[3], json!([A_FURTHER]));
    let (_echo, prober) = traffic(&failover.pair.topology);
    flows(&failover.pair, &prober, "a new tunnel");
    // A is dead when it is to be told.
    failover.pair.a.kill_ike();
    let redirect = json!({"request": "redirect", "target": {"connection": CONNECTION}, "gateway": NOBODY});
    assert_eq!(failover.pair.b.ask_ike(redirect).expect("begun")["concerned"], 1);
    let moving =
        failover.pair.b.dpctl_output(&["snapshot", &before.name, "--move"], &[]).expect("dpctl starts");
    assert!(moving.status.success(), "{}", String::from_utf8_lossy(&moving.stderr));
    failover.lose_b();
    restore(&failover.b2, &moving.stdout);
    failover.b2.kill_ike();
    failover.b2.start_ike(&failover.pair.lab).expect("it goes on");
    failover.pair.a.start_ike(&failover.pair.lab).expect("it goes on");
    failover.flows_by_b2(&prober, "after the move");
    assert_eq!(nature(&failover.b2), agreed);
    assert_eq!(Standing::of(&failover.b2), Some(before));
    support::eventually("the redirect", || ike_counter(&failover.pair.a, "redirects-followed") == 1);
    // Nobody is there. It is tried again by who has forgotten nothing of it, and the tunnel stays meanwhile.
    failover.pair.a.kill_ike();
    failover.pair.a.start_ike(&failover.pair.lab).expect("it goes on");
    failover.flows_by_b2(&prober, "while it is being redirected");
    for (gateway, what) in [(&failover.b2, "ike"), (&failover.b2, "child")] {
        let request = json!({"request": "rekey", "target": {"connection": CONNECTION}, "what": what});
        assert_eq!(gateway.ask_ike(request).expect("begun")["concerned"], 1);
        failover.flows_by_b2(&prober, what);
    }
    assert_eq!(nature(&failover.b2), agreed, "after new keys");
}
