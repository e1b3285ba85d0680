//! Dynamic policies beside a configuration, on a file in memory.

use std::fs;

use super::*;
use crate::packet::transport::Flow;
use crate::spd::{Action, Spd};

const CONFIG: &str = r#"
[node]
id = 1
cluster = "test"
state_directory = "/var/lib/baton"
runtime_directory = "/run/baton"
pin_directory = "/sys/fs/bpf/baton"
[outer]
interface = "wan0"
addresses = ["203.0.113.2"]
[inner]
interface = "lan0"
[[tunnel]]
name = "site-a"
segment = 42
local = "203.0.113.2"
remote = "203.0.113.1"
local_selectors = ["10.2.0.0/16"]
remote_selectors = ["10.1.0.0/16"]
suite = "aes128gcm16"
"#;

struct World {
    directory: tempfile::TempDir,
    config: Config,
}

fn read(text: &str) -> Config {
    Config::parse_as(text, Path::new("test.toml"), true).expect("a good configuration")
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        Self { directory, config: read(CONFIG) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("policies")
    }

    fn load(&self) -> DynamicPolicies {
        DynamicPolicies::load(&self.path(), &self.config).expect("loaded")
    }
}

fn add(dynamic: &mut DynamicPolicies, spec: PolicySpec) {
    let change = dynamic.add(&[spec]).expect("admitted");
    dynamic.write(&change).expect("written");
}

fn remove(dynamic: &mut DynamicPolicies, name: &str) {
    let change = dynamic.remove(&[name.to_owned()]).expect("there");
    dynamic.write(&change).expect("written");
}

fn refusal(dynamic: &mut DynamicPolicies, specs: &[PolicySpec]) -> String {
    dynamic.add(specs).expect_err("refused").to_string()
}

fn protect(name: &str, remote: &str, segment: u8) -> PolicySpec {
    let text = format!(
        r#"{{"name":"{name}","action":"protect","reqid":7,"segment":{segment},
            "local_selectors":["10.2.0.0/16"],"remote_selectors":["{remote}"]}}"#
    );
    serde_json::from_str(&text).expect("a policy")
}

fn protected(dynamic: &DynamicPolicies) -> Vec<String> {
    dynamic.protected().iter().map(Prefix::to_string).collect()
}

fn names(dynamic: &DynamicPolicies) -> Vec<&str> {
    dynamic.policies.keys().map(|name| &**name).collect()
}

#[test]
fn i6_policies_survive_a_death_and_a_change_that_was_cut_off_never_was() {
    let world = World::new();
    let mut dynamic = world.load();
    add(&mut dynamic, protect("a", "10.5.0.0/16", 1));
    add(&mut dynamic, protect("b", "10.6.0.0/16", 1));
    add(&mut dynamic, protect("a", "10.7.0.0/16", 2));
    remove(&mut dynamic, "b");
    add(&mut dynamic, protect("c", "10.8.0.0/16", 1));
    let whole = fs::read(world.path()).expect("readable");
    let last = whole[..whole.len() - 1].iter().rposition(|octet| *octet == b'\n').expect("lines") + 1;
    for end in [whole.len(), whole.len() - 1, last + 1, last] {
        fs::write(world.path(), &whole[..end]).expect("written");
        let again = world.load();
        let expected = if end == whole.len() { vec!["a", "c"] } else { vec!["a"] };
        assert_eq!(names(&again), expected, "{end}");
        assert_eq!(again.policies["a"].policy.spec, protect("a", "10.7.0.0/16", 2));
    }
}

#[test]
fn a_damaged_file_is_refused_and_stays() {
    let world = World::new();
    for content in ["nonsense\n", "{\"add\":[]}\n{\"add\":[{}]}\n", "{\"add\":[]}\n\n"] {
        fs::write(world.path(), content).expect("written");
        let error = DynamicPolicies::load(&world.path(), &world.config).expect_err("refused").to_string();
        assert!(error.contains("line ") && error.contains("remove it"), "{error}");
        assert_eq!(fs::read_to_string(world.path()).expect("readable"), content);
    }
}

#[test]
fn a_file_does_not_grow_with_what_is_past() {
    let world = World::new();
    let mut dynamic = world.load();
    for round in 0..10_000_u32 {
        add(&mut dynamic, protect("a", &format!("10.5.{}.0/24", round % 256), 1));
    }
    let length = fs::metadata(world.path()).expect("there").len();
    assert!(length < 2 * journal_slack(), "{length}");
    assert_eq!(names(&world.load()), ["a"]);
}

fn journal_slack() -> u64 {
    1 << 20
}

#[test]
fn what_does_not_go_together_is_refused() {
    let world = World::new();
    let mut dynamic = world.load();
    add(&mut dynamic, protect("a", "10.5.0.0/16", 1));
    let mut refusal = |spec: PolicySpec| refusal(&mut dynamic, &[spec]);
    assert!(refusal(protect("site-a", "10.9.0.0/16", 42)).contains("the name site-a"));
    assert!(refusal(protect("b", "10.1.7.0/24", 41)).contains("overlaps 10.1.0.0/16 (segment 42"));
    assert!(refusal(protect("b", "10.0.0.0/8", 1)).contains("10.0.0.0/8 (segment 1, of b) overlaps"));
    assert!(refusal(protect("b", "10.5.5.0/24", 2)).contains("segment 1, of a"));
    let refusal = |dynamic: &mut DynamicPolicies, specs: &[PolicySpec]| {
        dynamic.add(specs).expect_err("refused").to_string()
    };
    assert!(refusal(&mut dynamic, &[]).contains("at once"));
    let twice = [protect("b", "10.6.0.0/16", 1), protect("b", "10.7.0.0/16", 1)];
    assert!(refusal(&mut dynamic, &twice).contains("twice"));
    let pair = [protect("b", "10.6.0.0/16", 1), protect("c", "10.5.9.0/24", 2)];
    assert!(refusal(&mut dynamic, &pair).contains("overlaps 10.5.0.0/16"));
    assert_eq!(names(&dynamic), ["a"], "nothing refused has an effect");
    assert_eq!(protected(&dynamic), ["10.1.0.0/16", "10.5.0.0/16"]);
    let moved = dynamic.add(&[protect("a", "10.5.0.0/16", 2)]).expect("replaces itself");
    assert_eq!((moved.added(), moved.removed()), (vec!["a".to_owned()], vec!["a".to_owned()]));
    assert!(dynamic.add(&[protect("a", "10.5.0.0/16", 2)]).expect("as it is").is_empty());
    dynamic.undo(moved);
    assert!(dynamic.add(&[protect("a", "10.5.0.0/16", 1)]).expect("as it is again").is_empty());
}

fn bypass(name: &str, remote: &str, segment: u8) -> PolicySpec {
    let text = format!(
        r#"{{"name":"{name}","action":"bypass","segment":{segment},
            "local_selectors":["10.2.0.0/16"],"remote_selectors":["{remote}"]}}"#
    );
    serde_json::from_str(&text).expect("a policy")
}

#[test]
fn what_is_bypassed_may_lie_within_or_around_what_is_protected() {
    let world = World::new();
    let mut dynamic = world.load();
    add(&mut dynamic, bypass("all", "0.0.0.0/0", 1));
    add(&mut dynamic, bypass("part", "10.1.7.0/24", 2));
    let refused = refusal(&mut dynamic, &[bypass("other", "10.1.7.0/24", 3)]);
    assert!(
        refused.contains("10.1.7.0/24 (segment 3, of other) is also 10.1.7.0/24 (segment 2, of part"),
        "{refused}"
    );
}

#[test]
fn a_configuration_that_took_the_name_meanwhile_is_told() {
    let mut world = World::new();
    let mut dynamic = world.load();
    add(&mut dynamic, protect("b", "10.5.0.0/16", 1));
    drop(dynamic);
    world.config = read(&CONFIG.replace("site-a", "b"));
    let error = DynamicPolicies::load(&world.path(), &world.config).expect_err("refused").to_string();
    assert!(error.contains("the name b is the configuration's"), "{error}");
}

#[test]
fn i7_networks_of_both_are_protected_and_forwarded() {
    let world = World::new();
    let mut dynamic = world.load();
    add(&mut dynamic, protect("a", "10.5.0.0/16", 1));
    add(&mut dynamic, bypass("b", "192.0.2.0/24", 3));
    assert_eq!(protected(&dynamic), ["10.1.0.0/16", "10.5.0.0/16"]);
    let policies = dynamic.filter_policies(&world.config);
    let of = |prefixes: &[(Prefix, u8)]| prefixes.iter().map(|(p, s)| format!("{p} {s}")).collect::<Vec<_>>();
    assert_eq!(of(&policies.protected), ["10.1.0.0/16 42", "10.5.0.0/16 1"]);
    assert_eq!(of(&policies.bypassed), ["192.0.2.0/24 3"]);
}

#[test]
fn i6_a_file_that_was_taken_away_is_written_again() {
    let world = World::new();
    let mut dynamic = world.load();
    add(&mut dynamic, protect("a", "10.5.0.0/16", 1));
    fs::remove_file(world.path()).expect("removed");
    add(&mut dynamic, protect("b", "10.6.0.0/16", 1));
    assert_eq!(names(&world.load()), ["a", "b"]);
}

#[test]
fn a_long_history_is_read_in_its_own_time() {
    let world = World::new();
    let mut lines = String::new();
    let specs: Vec<PolicySpec> =
        (0..20_000).map(|number| protect(&format!("p{number:05}"), "10.5.0.0/16", 1)).collect();
    lines += &serde_json::to_string(&Line::Add(specs)).expect("a line");
    for _ in 0..300_000 {
        lines += "\n";
        lines += &serde_json::to_string(&Line::Remove(vec!["none".to_owned()])).expect("a line");
    }
    fs::write(world.path(), lines + "\n").expect("written");
    let start = std::time::Instant::now();
    assert_eq!(names(&world.load()).len(), 20_000);
    // To look at every policy for every line takes far longer.
    assert!(start.elapsed() < std::time::Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn what_a_dynamic_policy_refuses_is_not_let_in_by_a_configured_one_behind_it() {
    let world = World::new();
    let text = format!(
        "{CONFIG}\n[[policy]]\nname = \"ssh\"\naction = \"bypass\"\nlocal_selectors = [\"203.0.113.2[tcp/22]\"]\n\
         remote_selectors = [\"10.1.0.0/16\"]\nsegment = 42\n"
    );
    let config = Config::parse_as(&text, Path::new("test.toml"), true).expect("a good configuration");
    let mut dynamic = DynamicPolicies::load(&world.path(), &config).expect("loaded");
    let rules = |dynamic: &DynamicPolicies| {
        let own = ["203.0.113.2".parse().expect("an address")];
        let rules = crate::steering::needed(&dynamic.local_rules(&config), &own);
        rules.iter().map(|rule| rule.permits).collect::<Vec<_>>()
    };
    assert_eq!(rules(&dynamic), [true]);
    let first = r#"{"name":"no","action":"discard","priority":5,
        "local_selectors":["203.0.113.2"],"remote_selectors":["10.1.7.0/24"]}"#;
    let change = dynamic.add(&[serde_json::from_str(first).expect("a policy")]).expect("admitted");
    assert!(change.is_local());
    assert_eq!(rules(&dynamic), [false, true], "the SPD asks the discard policy first");
    let elsewhere = dynamic.add(&[protect("p", "10.9.0.0/16", 1)]).expect("admitted");
    assert!(!elsewhere.is_local(), "the configured policy permits nothing of that");
}

fn client(name: &str, remote: &str, segment: u8, reqid: u32) -> PolicySpec {
    PolicySpec { reqid: Some(reqid), ..protect(name, remote, segment) }
}

/// A client that comes back before it is missed, perhaps from an address of another segment.
#[test]
fn of_two_alike_the_newer_counts_and_then_the_older_again() {
    let world = World::new();
    let mut dynamic = world.load();
    let flow = Flow::new([10, 2, 0, 1].into(), [10, 9, 0, 7].into(), 17, Some((1, 2)));
    let mut spd = world.config.spd(std::iter::empty());
    let mut change = |dynamic: &mut DynamicPolicies, change: Change| {
        dynamic.write(&change).expect("written");
        spd = spd.changed(&change.leaving(), change.joining());
        let again = world.load();
        let anew = world.config.spd(again.placed());
        let reqid = |spd: &Spd| match spd.outbound(&flow).expect("one of them").action {
            Action::Protect { reqid } => reqid,
            other => panic!("{other:?}"),
        };
        assert_eq!(reqid(&spd), reqid(&anew), "as after a restart");
        let segment = |dynamic: &DynamicPolicies| {
            let of =
                |(prefix, segment): &(Prefix, u8)| (prefix.to_string() == "10.9.0.7/32").then_some(*segment);
            dynamic.filter_policies(&world.config).protected.iter().find_map(of).expect("protected")
        };
        assert_eq!(segment(dynamic), segment(&again));
        (reqid(&spd), segment(dynamic))
    };
    let remove =
        |dynamic: &mut DynamicPolicies, name: &str| dynamic.remove(&[name.to_owned()]).expect("there");

    // Names in the order opposite to that of time.
    let first = dynamic.add(&[client("z", "10.9.0.7", 4, 101)]).expect("added");
    assert_eq!(change(&mut dynamic, first), (101, 4));
    let second = dynamic.add(&[client("y", "10.9.0.7", 5, 102)]).expect("added");
    assert_eq!(change(&mut dynamic, second), (102, 5));
    let third = dynamic.add(&[client("x", "10.9.0.7", 4, 103)]).expect("added");
    assert_eq!(change(&mut dynamic, third), (103, 4));
    let other = PolicySpec { priority: Some(7), ..client("w", "10.9.0.7", 5, 104) };
    assert!(refusal(&mut dynamic, &[other]).contains("overlaps"), "two in force that are not alike");
    let middle = remove(&mut dynamic, "y");
    assert_eq!(change(&mut dynamic, middle), (103, 4));
    let newest = remove(&mut dynamic, "x");
    assert_eq!(change(&mut dynamic, newest), (101, 4));
    let network = remove(&mut dynamic, "z");
    assert_eq!(dynamic.split(network.gone[0].policy.prefixes.clone()).0, []);
}
