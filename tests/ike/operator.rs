//! What an operator does with `dpctl`: connections set up and ended, keys replaced.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::Duration;

use baton_lab::Gateway;
use baton_lab::negotiation::{Authentication, CHILD, CONNECTION, Negotiation, Side};
use serde_json::Value;

use crate::cases;
use crate::stage::{self, Ends, Pair, can_run};
use crate::support::eventually;

fn dpctl(gateway: &Gateway, arguments: &[&str]) -> Value {
    gateway.dpctl_json(arguments).unwrap_or_else(|error| panic!("{error}\n{}", gateway.ike_log()))
}

fn refused(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = gateway.dpctl_output(arguments, &[]).expect("dpctl runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Each command returns when what it says is so, at both ends.
#[test]
fn commands_return_when_it_is_done() {
    if !can_run("commands_return_when_it_is_done") {
        return;
    }
    let site = stage::site(Side::Initiator, &cases::site_to_site(Side::Initiator));
    let up = dpctl(&site.b, &["up", CONNECTION]);
    let pair = Pair::of(&site);
    assert_eq!((&up["up"], up["tunnel"].as_str()), (&Value::Bool(true), Some(pair.name())));
    assert_eq!(dpctl(&site.b, &["up", CONNECTION])["tunnel"], up["tunnel"], "it stands already");

    let spi = |pair: &Pair| format!("{:#010x}", pair.spis().0);
    dpctl(&site.b, &["rekey", &spi(&pair)]);
    let rekeyed = Pair::of(&site);
    assert_ne!(rekeyed.spis(), pair.spis());
    dpctl(&site.b, &["rekey", "--ike", pair.name()]);
    assert_ne!(Pair::of(&site).ike.spis, rekeyed.ike.spis);
    let shown = dpctl(&site.b, &["ike", "show", pair.name()]);
    assert_eq!((&shown["connection"], &shown["children"][0]["name"]), (&CONNECTION.into(), &CHILD.into()));
    let status = dpctl(&site.b, &["status"]);
    assert_eq!((&status["ike"]["established"], &status["ike"]["children"]), (&1.into(), &1.into()));
    let log = String::from_utf8(site.b.dpctl_output(&["log", "-n", "1000"], &[]).expect("dpctl runs").stdout);
    assert!(log.expect("text").contains(pair.name()));

    assert_eq!(dpctl(&site.b, &["down", CONNECTION])["concerned"], 1);
    Ends::of(&site).assert_nothing_is_left();
    let (exit, message) = refused(&site.b, &["down", pair.name()]);
    assert_eq!(exit, Some(3), "{message}");
}

/// Nobody waits for what the peer has refused already, be it the whole tunnel or a Child SA of it.
#[test]
fn up_returns_when_the_peer_refuses() {
    if !can_run("up_returns_when_the_peer_refuses") {
        return;
    }
    let case = cases::site_to_site(Side::Initiator);
    let site = stage::site(Side::Initiator, &case);
    let another_secret = Authentication::PreSharedKey("quite another secret".into());
    let refusals = [
        ("does not accept us", Negotiation { authentication: another_secret, ..case.clone() }),
        ("proposal", Negotiation { esp_proposals: vec!["aes256-sha512".into()], ..case.clone() }),
    ];
    for (sentence, theirs) in refusals {
        site.charon.set_negotiation(&theirs, Side::Responder).expect("a configuration");
        let (exit, message) = refused(&site.b, &["up", CONNECTION, "--timeout", "20"]);
        assert_eq!(exit, Some(1), "{message}");
        assert!(message.contains(sentence) && !message.contains("after 20 s"), "{message}");
        let _ = site.b.dpctl_output(&["down", CONNECTION], &[]);
        eventually("the end", || site.b.tunnels().expect("tunnels").is_empty());
    }
}

/// Who listens hears of both daemons, and reads the log as it is written.
#[test]
fn what_happens_is_told_at_once() {
    if !can_run("what_happens_is_told_at_once") {
        return;
    }
    let site = stage::site(Side::Initiator, &cases::site_to_site(Side::Initiator));
    let mut events = Listener::start(&site.b, &["--json", "monitor"]);
    let mut log = Listener::start(&site.b, &["log", "--follow", "-n", "0"]);
    let mut policies =
        Listener::start(&site.b, &["--json", "monitor", "--kind", "policies-changed", "--count", "1"]);
    let tunnel = dpctl(&site.b, &["up", CONNECTION])["tunnel"].as_str().expect("a name").to_owned();
    let names = [format!("\"tunnel\":\"{tunnel}\""), "\"daemon\":\"baton-ike\"".to_owned()];
    for kind in ["ike-up", "child-up"] {
        events.wait_for(&[&names[0], &names[1], &format!("\"kind\":\"{kind}\"")]);
    }
    log.wait_for(&[&tunnel]);
    policies.wait_for(&["\"daemon\":\"baton-dataplane\""]);
    assert!(policies.child.wait().expect("it ends").success(), "--count is kept");
}

/// A `dpctl` that listens; it ends with its test.
struct Listener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Listener {
    fn start(gateway: &Gateway, arguments: &[&str]) -> Self {
        let mut command = gateway.dpctl_command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("dpctl starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        // It connects before it reads.
        std::thread::sleep(Duration::from_millis(500));
        Self { child, lines }
    }

    /// Reads until a line has all of these words.
    fn wait_for(&mut self, words: &[&str]) {
        let has_all = |line: &String| words.iter().all(|word| line.contains(word));
        let found = self.lines.by_ref().map_while(Result::ok).any(|line| has_all(&line));
        assert!(found, "it ended before it told of {words:?}");
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
