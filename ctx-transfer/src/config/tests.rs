use std::time::Duration;

use super::*;

const NODE: &str = r#"
[node]
id = 1
cluster = "demo"
[outer]
interface = "wan0"
addresses = ["203.0.113.2"]
[inner]
interface = "lan0"
"#;

const MEMBERS: &str = r#"
[[cluster.member]]
id = 1
address = "192.0.2.1"
priority = 200
[[cluster.member]]
id = 2
address = "192.0.2.2:5000"
[[cluster.member]]
id = 3
address = "192.0.2.3"
role = "witness"
"#;

fn parse(text: &str) -> Result<Option<Config>, ConfigErrors> {
    Config::parse_as(text, Path::new("/etc/baton/baton.toml"), true)
}

/// Field, message and remedy of the only problem.
fn problem(text: &str) -> (String, String, String) {
    let errors = parse(text).expect_err("refused");
    assert_eq!(errors.problems().len(), 1, "{errors}");
    let problem = &errors.problems()[0];
    assert!(problem.line > 1);
    (problem.field.clone(), problem.message.clone(), problem.remedy.clone())
}

#[test]
fn a_gateway_by_itself_has_no_cluster() {
    assert!(parse(NODE).expect("good").is_none());
}

#[test]
fn defaults_are_those_of_the_core() {
    let config = parse(&format!("{NODE}{MEMBERS}")).expect("good").expect("a cluster");
    let core = Configuration::new(config.node.id, config.cluster.members.clone());
    assert_eq!(Configuration { digests: Vec::new(), ..config.cluster.clone() }, core);
    assert_eq!(config.directory, Path::new("/etc/baton/cluster"));
    assert_eq!(config.role(), Role::Node);
    let heartbeats =
        config.members(Kind::Heartbeat).iter().map(|m| m.address.to_string()).collect::<Vec<_>>();
    assert_eq!(heartbeats, ["192.0.2.1:4740", "192.0.2.2:5000", "192.0.2.3:4740"]);
    assert_eq!(config.members(Kind::Bulk)[1].address.port(), 5001);
}

#[test]
fn every_field_has_its_place() {
    let text = format!(
        "{NODE}[cluster]\nport = 5000\ninterval_milliseconds = 20\nmissed = 4\nlease_milliseconds = 70\ndrift = 2\n\
         standbys = 2\nwindow = \"2M\"\nfill_rate = \"1M\"\nreplication_wait_milliseconds = 30\n\
         reserve_packets = 1000\nreserve_milliseconds = 500\nreserve_minimum = 32\nreserve_wait_milliseconds = 60\n\
         continuity = true\nbalance = \"manual\"\nsettle_milliseconds = 2000\nmove_batch = 16\n\
         move_wait_milliseconds = 300\ndirectory = \"/var/lib/certificates\"\nmetrics = \"127.0.0.1:9740\"\n\
         user = \"baton\"\nload_cpu_percent = 80\nload_drops_per_second = 1000\nload_tunnels = 5000\n\
         load_seconds = 30\n{MEMBERS}"
    );
    let config = parse(&text).expect("good").expect("a cluster");
    let cluster = &config.cluster;
    assert_eq!(cluster.interval, Duration::from_millis(20));
    assert_eq!((cluster.missed, cluster.drift, cluster.standbys, cluster.move_batch), (4, 2, 2, 16));
    assert_eq!(cluster.lease, Duration::from_millis(70));
    assert_eq!((cluster.replicating.window, cluster.replicating.fill_rate), (2 << 20, 1 << 20));
    assert_eq!(cluster.replicating.wait, Duration::from_millis(30));
    let reserving = cluster.reserving;
    assert_eq!((reserving.packets, reserving.minimum, reserving.continuity), (1000, 32, true));
    assert_eq!((reserving.time, reserving.wait), (Duration::from_millis(500), Duration::from_millis(60)));
    assert_eq!(cluster.balance, crate::cluster::Balance::Manual);
    assert_eq!((cluster.settle, cluster.move_wait), (Duration::from_secs(2), Duration::from_millis(300)));
    assert_eq!(config.directory, Path::new("/var/lib/certificates"));
    assert_eq!(config.metrics.map(|at| at.port()), Some(9740));
    assert_eq!(config.user.as_deref(), Some("baton"));
    let trigger = crate::cluster::Trigger {
        cpu_per_mille: Some(800),
        drops_per_second: Some(1000),
        tunnels: Some(5000),
        hold: Duration::from_secs(30),
    };
    assert_eq!(cluster.trigger, trigger);
}

#[test]
fn a_witness_needs_no_gateway() {
    let text = format!("[node]\nid = 3\ncluster = \"demo\"\n{MEMBERS}");
    let config = parse(&text).expect("good").expect("a cluster");
    assert!(config.role() == Role::Witness && config.gateway.is_none());
    assert_eq!(config.identity().to_string(), "baton://demo/witness/3");
    let node = format!("[node]\nid = 2\ncluster = \"demo\"\n{MEMBERS}");
    assert!(parse(&node).is_err(), "a node does");
}

#[test]
fn what_cannot_work_is_told_by_field() {
    for (text, field, message) in [
        ("[segments]\nowned = \"all\"\n", "segments.owned", "owned by leases"),
        ("[cluster]\nintervall = 5\n", "cluster.intervall", "not known"),
        ("[cluster]\ninterval_milliseconds = 0\n", "cluster.interval_milliseconds", "outside"),
        ("[cluster]\nlease_milliseconds = 500\n", "cluster", "lease_milliseconds does not fit"),
        ("[cluster]\nbalance = \"always\"\n", "cluster.balance", "not known"),
        ("[cluster]\nwindow = \"1k\"\n", "cluster.window", "outside"),
        ("[cluster]\nwindow = \"9M\"\n", "cluster.window", "outside"),
        ("[cluster]\nmetrics = \"localhost\"\n", "cluster.metrics", "no address"),
        ("[cluster]\ndirectory = \"\"\n", "cluster.directory", "not a directory"),
        ("[cluster]\nload_cpu_percent = 101\n", "cluster.load_cpu_percent", "outside"),
        ("[cluster]\nload_tunnels = 0\n", "cluster.load_tunnels", "outside"),
        ("[cluster]\nuser = \"a b\"\n", "cluster.user", "not a user"),
    ] {
        let (found, said, remedy) = problem(&format!("{NODE}{text}{MEMBERS}"));
        assert_eq!(found, field);
        assert!(said.contains(message) && !remedy.is_empty(), "{said}");
    }
    for (member, message) in [
        ("id = 2\naddress = \"192.0.2.9\"", "stands here twice"),
        ("id = 4\naddress = \"192.0.2.1\"", "a port of member 1 already"),
        ("id = 4\naddress = \"2001:db8::4\"", "IPv4 and IPv6"),
        ("id = 4\naddress = \"224.0.0.1\"", "no address of a member"),
        ("id = 4\naddress = \"192.0.2.4:0\"", "no address of a member"),
        ("id = 4", "`address` is missing"),
        ("address = \"192.0.2.4\"", "`id` is missing"),
        ("id = 4\naddress = \"192.0.2.4\"\nrole = \"judge\"", "not known"),
        ("id = 4\naddress = \"192.0.2.4\"\npriority = 256", "outside"),
    ] {
        let (_, said, _) = problem(&format!("{NODE}{MEMBERS}[[cluster.member]]\n{member}\n"));
        assert!(said.contains(message), "{said}");
    }
    let other = NODE.replace("id = 1", "id = 9");
    assert!(problem(&format!("{other}{MEMBERS}")).1.contains("this node, 9, is not among the members"));
}

#[test]
fn digests_show_where_two_configurations_differ() {
    let digests = |text: &str| parse(text).expect("good").expect("a cluster").cluster.digests;
    let text = format!("{NODE}{MEMBERS}[segments]\nseed = 1\n");
    let reordered = format!("[segments]\nseed = 1\n{NODE}{MEMBERS}");
    assert_eq!(digests(&text), digests(&reordered));
    let other = digests(&text.replace("seed = 1", "seed = 2"));
    let differing: Vec<_> =
        digests(&text).into_iter().zip(other).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
    assert_eq!(differing, ["segments"]);
}

/// docs/CONFIGURATION.md says what the code does.
#[test]
fn every_key_is_described() {
    let manual = include_str!("../../../docs/CONFIGURATION.md");
    let mut described = 0;
    for text in [
        format!("{NODE}[cluster]\nqqqqqqqqqqqqq = 1\n{MEMBERS}"),
        format!("{NODE}{MEMBERS}qqqqqqqqqqqqq = 1\n"),
    ] {
        let remedy = problem(&text).2;
        let known = remedy.strip_prefix("remove it; known here: ").expect("the keys");
        for key in known.split(", ") {
            let ends = ["`", "]"].map(|end| manual.contains(&format!("{key}{end}")));
            assert!(ends.contains(&true), "`{key}` is not in the manual");
            described += 1;
        }
    }
    assert!(described > 25, "{described} keys are too few to be all");
}

#[test]
fn a_shared_mac_is_derived_from_the_name_of_the_cluster() {
    let parsed = |more: &str| {
        let config = parse(&format!("{NODE}[cluster]\n{more}{MEMBERS}")).expect("good").expect("a cluster");
        config.sharing
    };
    assert_eq!(parsed(""), Sharing::default(), "nothing is shared unless it is asked for");
    let mac = parsed("announce = \"multicast-mac\"\n").mac.expect("derived");
    assert_eq!((mac.0[0], parsed("announce = \"multicast-mac\"\n").mac), (0x03, Some(mac)));
    let other = NODE.replace("demo", "other");
    let other = parse(&format!("{other}[cluster]\nannounce = \"multicast-mac\"\n{MEMBERS}"));
    assert_ne!(other.expect("good").expect("a cluster").sharing.mac, Some(mac));
    let given = parsed(
        "announce = \"multicast-mac\"\nmac = \"01:00:5e:00:53:01\"\ninner_addresses = [\"10.2.0.1\"]\n",
    );
    assert_eq!(given.mac.map(|mac| mac.to_string()).as_deref(), Some("01:00:5e:00:53:01"));
    assert_eq!(given.inner_addresses, ["10.2.0.1".parse::<std::net::IpAddr>().expect("an address")]);
    let attract = parsed("announce = \"attract\"\n");
    assert_eq!((attract.announce, attract.mac), (Announce::Attract, None));
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let field = |more: &str| problem(&format!("{NODE}[cluster]\n{more}{MEMBERS}")).0;
    assert_eq!(field("announce = \"shout\"\n"), "cluster.announce");
    for mac in ["02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "03:00:00:00:00"] {
        assert_eq!(field(&format!("announce = \"multicast-mac\"\nmac = \"{mac}\"\n")), "cluster.mac");
    }
    assert_eq!(field("announce = \"attract\"\nmac = \"03:00:00:00:00:01\"\n"), "cluster.mac");
    assert_eq!(field("inner_addresses = [\"10.2.0.1\"]\n"), "cluster.inner_addresses");
    assert!(
        field("announce = \"attract\"\ninner_addresses = [\"224.0.0.1\"]\n")
            .starts_with("cluster.inner_addresses")
    );
    let twice = field("announce = \"attract\"\ninner_addresses = [\"10.2.0.1\", \"10.2.0.1\"]\n");
    assert!(twice.starts_with("cluster.inner_addresses"));
}
