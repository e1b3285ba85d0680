//! What the control plane does while packets flow: policies that come and go, peers that move, what monitors hear.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use baton_lab::control::ControlSocket;
use baton_lab::probe::{Echo, Prober};
use baton_lab::shape::Shape;
use baton_lab::site::{SPI_TO_B, Site, TUNNEL};
use baton_lab::{Captured, Gateway, esp, inject, topology};
use serde_json::Value;
use support::{ECHO, OuterTaps, PATIENCE, Traffic, counter};

const PACE: Duration = Duration::from_millis(2);

/// A `dpctl monitor` in the background.
struct Monitor {
    child: Child,
    notices: Receiver<Value>,
}

impl Monitor {
    fn start(gateway: &Gateway, kinds: &[&str]) -> Self {
        let mut command = gateway.dpctl_command(&["--json", "monitor"]);
        for kind in kinds {
            command.args(["--kind", kind]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("dpctl starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, notices) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).expect("a line of JSON"));
            }
        });
        Self { child, notices }
    }

    fn next(&self) -> Value {
        self.notices.recv_timeout(PATIENCE).expect("an event")
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The monitor is there when it hears of a change that is asked for until then.
fn monitor(gateway: &Gateway, kinds: &[&str]) -> Monitor {
    let monitor = Monitor::start(gateway, &[kinds, &["policies-changed"]].concat());
    for round in 0.. {
        assert!(round < 100, "the monitor hears nothing");
        let name = format!("probe-{round}");
        add(gateway, &[&name, "--action", "discard", "--local", "10.2.255.1", "--remote", "10.1.255.1"]);
        gateway.dpctl(&["policy", "remove", &name]).expect("removed");
        if monitor.notices.recv_timeout(Duration::from_millis(100)).is_ok() {
            break;
        }
    }
    // The rest of the probes.
    while monitor.notices.recv_timeout(Duration::from_millis(200)).is_ok() {}
    monitor
}

fn add(gateway: &Gateway, policy: &[&str]) {
    gateway.dpctl(&[&["policy", "add"], policy].concat()).expect("added");
}

fn policies(gateway: &Gateway) -> Vec<(String, String)> {
    let answer = gateway.dpctl_json(&["policy", "list"]).expect("policies");
    let text = |policy: &Value, field: &str| policy[field].as_str().expect("text").to_owned();
    let policies = answer["policies"].as_array().expect("a list");
    policies.iter().map(|policy| (text(policy, "name"), text(policy, "origin"))).collect()
}

fn routes(gateway: &Gateway) -> String {
    let mut command = gateway.namespace().command("ip");
    let output = command.args(["route", "show", "table", "all", "proto", "186"]).output().expect("ip runs");
    String::from_utf8(output.stdout).expect("text")
}

const DISCARD_ECHO: [&str; 9] = [
    "no-echo",
    "--action",
    "discard",
    "--local",
    "10.2.0.0/16[udp/7]",
    "--remote",
    "10.1.0.0/16[udp]",
    "--priority",
    "10",
];

#[test]
fn i6_a_policy_of_the_socket_has_effect_and_survives_a_crash() {
    if !support::can_run("i6_a_policy_of_the_socket_has_effect_and_survives_a_crash") {
        return;
    }
    let mut site = support::running_site();
    let traffic = Traffic::start(&site, PACE);
    traffic.flows(20);
    let heard = monitor(&site.b, &[]);
    add(&site.b, &DISCARD_ECHO);
    assert_eq!(heard.next()["added"], serde_json::json!(["no-echo"]));
    drop(heard);
    let is_discarded = |site: &Site| {
        let before = counter(&site.b, "policy-discard");
        support::eventually("the policy's effect", || counter(&site.b, "policy-discard") > before + 20);
    };
    is_discarded(&site);

    site.b.kill();
    site.b.start(&site.lab).expect("b starts again");
    is_discarded(&site);
    let expected = [("no-echo", "dynamic"), (TUNNEL, "configured")];
    assert_eq!(policies(&site.b), expected.map(|(name, origin)| (name.to_owned(), origin.to_owned())));
    site.b.dpctl(&["reload"]).expect("reloaded");
    is_discarded(&site);

    site.b.dpctl(&["policy", "remove", "no-echo"]).expect("removed");
    traffic.flows(20);
    let again = site.b.dpctl_output(&["policy", "remove", "no-echo"], &[]).expect("dpctl runs");
    assert_eq!(again.status.code(), Some(3));
}

#[test]
fn i7_what_a_policy_of_the_socket_protects_stays_closed_until_told_otherwise() {
    if !support::can_run("i7_what_a_policy_of_the_socket_protects_stays_closed_until_told_otherwise") {
        return;
    }
    let mut site = support::stopped_site_as(Shape::DEFAULT);
    site.b.start(&site.lab).expect("b starts");
    let site_c =
        ["site-c", "--action", "protect", "--reqid", "9", "--segment", "17", "--local", "10.2.0.0/16"];
    let site_c = [&site_c[..], &["--remote", "10.3.0.0/16"]].concat();
    let (closed, open) = ("prohibit 10.3.0.0/16", "prohibit 10.1.0.0/16");
    add(&site.b, &site_c);
    assert!(routes(&site.b).contains(closed));
    site.b.kill();
    let flush = "route del prohibit 10.3.0.0/16 table 18616 proto 186";
    site.b.namespace().ip(flush).expect("flushed");
    site.b.start(&site.lab).expect("b starts again");
    assert!(routes(&site.b).contains(closed), "closed again before anything else");

    site.b.dpctl(&["policy", "remove", "site-c"]).expect("removed");
    assert!(routes(&site.b).contains(closed));
    add(&site.b, &site_c);
    site.b.dpctl(&["policy", "remove", "site-c", "--release-prohibited"]).expect("removed");
    assert!(!routes(&site.b).contains(closed) && routes(&site.b).contains(open));
    let overlapping = ["policy", "add", "d", "--action", "protect", "--reqid", "9", "--segment", "17"];
    let overlapping = [&overlapping[..], &["--local", "10.2.0.0/16", "--remote", "10.1.7.0/24"]].concat();
    let refused = site.b.dpctl_output(&overlapping, &[]).expect("dpctl runs");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(!routes(&site.b).contains("10.1.7.0/24"), "what is refused changes nothing");
}

/// A full tunnel's peer is within what is protected, as everybody is.
#[test]
fn an_operator_hears_of_reverse_path_filtering_that_keeps_peers_out() {
    if !support::can_run("an_operator_hears_of_reverse_path_filtering_that_keeps_peers_out") {
        return;
    }
    let mut site = support::stopped_site_as(Shape::DEFAULT);
    site.b.start(&site.lab).expect("b starts");
    let set = |value: &str| {
        for name in ["all", "wan0"] {
            site.topology.b.set(&format!("net/ipv4/conf/{name}/rp_filter"), value).expect("set");
        }
    };
    let is_told =
        || {
            let status = site.b.dpctl_json(&["status"]).expect("status");
            status["alarms"].as_array().expect("a list").iter().any(|alarm| {
                alarm.as_str().is_some_and(|alarm| alarm.contains("net.ipv4.conf.wan0.rp_filter"))
            })
        };
    set("2");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!is_told(), "nobody is within 10.1.0.0/16");
    let everything =
        ["all", "--action", "protect", "--reqid", "9", "--segment", "42", "--local", "10.2.0.0/16"];
    add(&site.b, &[&everything[..], &["--remote", "0.0.0.0/0"]].concat());
    support::eventually("an alarm", is_told);
    set("0");
    support::eventually("the alarm's end", || !is_told());
}

/// The gateway's configuration with ESP in UDP.
fn in_udp(gateway: &Gateway) -> String {
    gateway
        .config_text()
        .replace("encapsulation = \"none\"\n", "encapsulation = \"udp\"\nkeepalive_seconds = 1\n")
}

#[test]
fn a_peer_that_moves_is_followed_and_a_crash_does_not_send_it_back() {
    if !support::can_run("a_peer_that_moves_is_followed_and_a_crash_does_not_send_it_back") {
        return;
    }
    let mut site = support::stopped_site_as(Shape::DEFAULT);
    for gateway in [&site.a, &site.b] {
        gateway.write_config(&in_udp(gateway)).expect("written");
    }
    site.b.start(&site.lab).expect("b starts");
    site.a.start(&site.lab).expect("a starts");
    let traffic = Traffic::start(&site, PACE);
    traffic.flows(20);
    let heard = monitor(&site.b, &["peer-moved"]);

    site.a.stop().expect("a stops");
    site.topology.a.ip("address add 203.0.113.77/24 dev wan0").expect("another address");
    site.a.write_config(&in_udp(&site.a).replace("203.0.113.1\"", "203.0.113.77\"")).expect("written");
    site.a.start(&site.lab).expect("a starts elsewhere");
    traffic.flows(20);
    let moved = heard.next();
    assert_eq!((&moved["kind"], &moved["sa"]["name"]), (&"peer-moved".into(), &TUNNEL.into()), "{moved}");
    assert_eq!(moved["to"]["address"], "203.0.113.77");

    site.b.kill();
    site.b.start(&site.lab).expect("b starts again");
    let spi = format!("{SPI_TO_B:#010x}");
    let shown = site.b.dpctl_json(&["sa", "show", &spi]).expect("shown");
    assert_eq!(
        (&shown["sas"][0]["source"], &shown["sas"][1]["destination"]),
        (&moved["to"]["address"], &moved["to"]["address"])
    );
    traffic.flows(20);
}

#[test]
fn an_idle_tunnel_is_kept_alive_and_dummies_are_sent_on_request() {
    if !support::can_run("an_idle_tunnel_is_kept_alive_and_dummies_are_sent_on_request") {
        return;
    }
    let mut site = support::stopped_site_as(Shape::DEFAULT);
    for gateway in [&site.a, &site.b] {
        gateway.write_config(&in_udp(gateway)).expect("written");
    }
    site.b.start(&site.lab).expect("b starts");
    site.a.start(&site.lab).expect("a starts");
    let taps = OuterTaps::start(&site);
    // Ethernet, IP and UDP headers, and one octet: RFC 3948 section 2.3.
    let is_keep_alive =
        |frame: &[u8]| frame.len() >= 43 && frame[23] == 17 && frame[38..40] == [0, 9] && frame[42] == 0xff;
    support::eventually("keep-alives of both", || {
        let sent =
            |tap: usize| taps.frames()[tap].iter().filter(|captured| is_keep_alive(&captured.frame)).count();
        sent(0) >= 2 && sent(1) >= 2
    });
    support::eventually("keep-alives received", || counter(&site.a, "nat-keepalive") > 0);
    site.b.dpctl(&["dummy", TUNNEL, "--count", "5"]).expect("sent");
    support::eventually("dummies received", || counter(&site.a, "dummy") == 5);
    let none = site.b.dpctl_output(&["dummy", "nobody"], &[]).expect("dpctl runs");
    assert_eq!(none.status.code(), Some(3));
}

/// The word of a router between the gateways that `frame`, one of B's, was too big for a link of `mtu` octets
/// (RFC 792 and RFC 1191 section 4).
fn too_big(frame: &[u8], mtu: u16) -> Vec<u8> {
    let packet = esp::ipv4_packet(frame).expect("an IPv4 packet");
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(&packet[..28]);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut header = vec![0x45, 0, 0, 20 + 36, 0, 0, 0, 0, 64, 1, 0, 0, 203, 0, 113, 254];
    header.extend(&packet[12..16]);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&frame[6..12], &[2, 0, 0, 0, 0, 9, 8, 0], &header, &icmp].concat()
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> [u8; 2] {
    let words = octets.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.fold(0, |sum: u32, word| (sum + word) % 0xffff);
    (!(sum as u16)).to_be_bytes()
}

#[test]
fn a_path_mtu_is_learned_from_a_router_and_the_ends_heed_it() {
    if !support::can_run("a_path_mtu_is_learned_from_a_router_and_the_ends_heed_it") {
        return;
    }
    let site = support::running_site();
    let taps = OuterTaps::start(&site);
    let _echo = Echo::start(&site.topology.server, topology::server_port(ECHO)).expect("echo");
    let (from, to) = (topology::client_port(0), topology::server_port(ECHO));
    let prober = Prober::start(&site.topology.client, from, to, &[b'a'; 1250], PACE).expect("prober");
    prober.wait_for_answers(20, PATIENCE).expect("answers");
    let heard = monitor(&site.b, &["path-mtu"]);

    let sent = |taps: &OuterTaps| {
        let of_b = taps.frames()[1].clone();
        let is_large =
            |captured: &&Captured| captured.frame.len() > 1250 && esp::esp(&captured.frame).is_some();
        of_b.iter().rev().find(is_large).expect("large packets").frame.clone()
    };
    // One that was never sent is not believed: the sequence number is a million ahead.
    let mut forged = sent(&taps);
    forged[14 + 20 + 5] ^= 0x10;
    inject::frames(&site.topology.wan, "b", [&too_big(&forged, 1200)[..]]).expect("sent");
    support::eventually("the forgery's refusal", || counter(&site.b, "path-mtus-refused") == 1);
    let mtu = || {
        let shown = site.b.dpctl_json(&["sa", "show", TUNNEL]).expect("shown");
        shown["sas"][1]["learned_path_mtu"].clone()
    };
    assert_eq!(mtu(), Value::Null);

    inject::frames(&site.topology.wan, "b", [&too_big(&sent(&taps), 1200)[..]]).expect("sent");
    let told = heard.next();
    assert_eq!((&told["kind"], &told["mtu"]), (&"path-mtu".into(), &1200.into()), "{told}");
    assert_eq!(mtu(), 1200);
    let before = taps.frames()[1].len();
    prober.wait_for_answers(20, PATIENCE).expect("answers, in fragments now");
    let frames = taps.frames()[1].clone();
    let fits = |captured: &Captured| captured.frame.len() <= 14 + 1200;
    assert!(frames.len() > before + 20 && frames[before..].iter().all(fits), "packets fit the path");
}

#[test]
fn monitors_hear_of_segments_reloads_limits_and_the_end() {
    if !support::can_run("monitors_hear_of_segments_reloads_limits_and_the_end") {
        return;
    }
    let mut site = support::stopped_site_as(Shape::DEFAULT);
    let mortal =
        site.b.config_text().replace("reqid = 7\n", "reqid = 7\nrekey_time = 3600\nlife_time = 7200\n");
    site.b.write_config(&mortal).expect("written");
    site.b.start(&site.lab).expect("b starts");
    let mut heard = monitor(&site.b, &["segments-changed", "reload", "soft-limit", "hard-limit"]);
    site.b.dpctl(&["segment", "drop", "1-255"]).expect("dropped");
    assert_eq!(heard.next()["owned"], serde_json::json!([0]));
    site.b.dpctl(&["reload"]).expect("reloaded");
    assert_eq!(heard.next()["kind"], "reload");
    let ended = mortal.replace("rekey_time = 3600\n", "").replace("life_time = 7200\n", "life_time = 1\n");
    site.b.write_config(&ended.replace("0x2a000001", "0x2a000002")).expect("written");
    site.b.dpctl(&["reload"]).expect("reloaded");
    assert_eq!(heard.next()["kind"], "reload");
    let early = heard.notices.recv_timeout(Duration::from_secs(3));
    assert!(early.is_err(), "who does not own the SA's segment has nothing to tell of it: {early:?}");
    site.b.dpctl(&["segment", "take", "42"]).expect("taken");
    let mut news = [heard.next(), heard.next()];
    news.sort_by_key(|event| event["kind"].to_string());
    let [limit, changed] = news;
    assert_eq!(changed["owned"], serde_json::json!([0, 42]));
    assert_eq!((&limit["kind"], &limit["name"]), (&"hard-limit".into(), &TUNNEL.into()), "{limit}");
    site.b.kill();
    assert_eq!(heard.child.wait().expect("dpctl ends").code(), Some(4));
}

/// What a host of virtual address `number` is protected by.
fn client_policy(number: u32) -> Value {
    let address = std::net::Ipv4Addr::from_bits(u32::from_be_bytes([10, 64, 0, 0]) + number);
    serde_json::json!({
        "name": format!("client-{number}"), "action": "protect", "reqid": 0x2a80_0000 + number, "segment": number % 256,
        "local_selectors": ["10.2.0.0/16"], "remote_selectors": [format!("{address}/32")],
    })
}

/// User and system time that all threads but the workers used, in microseconds.
fn control_time(gateway: &Gateway) -> f64 {
    let tasks = format!("/proc/{}/task", gateway.pid().expect("running"));
    let times = std::fs::read_dir(tasks).expect("its threads").filter_map(|task| {
        let task = task.expect("a thread").path();
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let schedule = std::fs::read_to_string(task.join("schedstat")).ok()?;
        let nanoseconds: f64 = schedule.split(' ').next()?.parse().ok()?;
        (!name.starts_with("worker")).then_some(nanoseconds / 1e3)
    });
    times.sum()
}

/// A gateway with an IKE daemon adds a policy with each tunnel, a thousand a second.
#[test]
fn a_policy_among_many_costs_hardly_more_than_one_among_few() {
    if !support::can_run("a_policy_among_many_costs_hardly_more_than_one_among_few") {
        return;
    }
    let mut site = support::stopped_site_as(Shape::DEFAULT);
    site.b.start(&site.lab).expect("b starts");
    let mut control = ControlSocket::connect(&site.b).expect("connected");
    let mut present = 0;
    let mut costs = Vec::new();
    for count in [10, 1_000, support::count(10_000, 100_000) as u32] {
        while present < count {
            let until = count.min(present + 200);
            let policies: Vec<Value> = (present..until).map(client_policy).collect();
            let added = control
                .ask(serde_json::json!({"request": "policy-add", "policies": policies}))
                .expect("added");
            assert_eq!(added["added"].as_array().map(Vec::len), Some((until - present) as usize));
            present = until;
        }
        let (rounds, before, start) = (500, control_time(&site.b), std::time::Instant::now());
        for number in count..count + rounds {
            let policies = [client_policy(number)];
            control.ask(serde_json::json!({"request": "policy-add", "policies": policies})).expect("added");
            let remove = serde_json::json!({
                "request": "policy-remove", "names": [format!("client-{number}")], "keep_prohibited": false,
            });
            control.ask(remove).expect("removed");
        }
        let changes = f64::from(2 * rounds);
        let wall = start.elapsed().as_secs_f64() * 1e6 / changes;
        let cost = (control_time(&site.b) - before) / changes;
        println!("{count} policies: a change takes {wall:.0} us, {cost:.0} us of the processor");
        costs.push(cost);
    }
    let routes = routes(&site.b);
    assert!(routes.contains("prohibit 10.64.0.9 "), "the routes of those that are there");
    assert_eq!(routes.matches("prohibit 10.6").count(), present as usize, "and of none that went");
    // When every change built everything anew it was a hundred times as much, on a fast machine.
    assert!(costs[2] < 4.0 * costs[0] + 2_000.0, "{costs:?}");
}
