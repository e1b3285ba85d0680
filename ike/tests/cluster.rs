//! Daemons of a cluster, each in a process of its own (this very program) in a network namespace, without a data plane:
//! what they tell of their tunnels, and what they make of other nodes' ones. Whoever asks here plays `baton-cluster`.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use baton_dataplane::config::cluster_id_of;
use baton_ike::control::{REPLICATION_SOCKET, SOCKET};
use baton_ike::log::Log;
use baton_sad::{NodeId, Table, TableOptions};
use serde_json::{Value, json};

const NAME: &str = "BATON_CLUSTER_DAEMON";
/// Of the peer, and of the nodes of the cluster.
const CLIENT: &str = "203.0.113.2";
const GATEWAY: &str = "203.0.113.3";
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon's own process.
#[test]
#[ignore = "run by the other tests, in processes of its own"]
fn daemon() {
    let Ok(configuration) = std::env::var(NAME) else { return };
    if let Err(error) = baton_ike::daemon::run(Path::new(&configuration), &Log::default()) {
        panic!("{error}");
    }
}

/// A network namespace with these addresses and nothing else; it goes when this does.
struct Namespace(String);

impl Namespace {
    fn new(name: &str, addresses: &[&str]) -> Option<Self> {
        let namespace = Self(format!("baton-ike-{}-{name}", std::process::id()));
        let is_made = ip(&["netns", "add", &namespace.0]);
        let is_up = is_made && ip(&["-n", &namespace.0, "link", "set", "lo", "up"]);
        let add = |address: &&str| ip(&["-n", &namespace.0, "address", "add", address, "dev", "lo"]);
        (is_up && addresses.iter().all(add)).then_some(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let ran = Command::new("ip").args(arguments).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

/// A gateway with its daemon, while it runs.
struct Node {
    directory: tempfile::TempDir,
    namespace: String,
    process: Option<Child>,
    /// What the data plane would be doing.
    table: Table,
}

impl Node {
    /// With a lease for everything, or for nothing.
    fn start(namespace: &Namespace, id: u8, address: &str, peer: &str, lease: u64) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let node = NodeId::new(id).expect("not 0");
        let options = TableOptions { capacity: 64, node, cluster: cluster_id_of("demo") };
        let table = Table::create(&directory.path().join("sa-table"), &options).expect("a table");
        (0..=u8::MAX).for_each(|segment| table.set_lease(segment, lease));
        private(&directory.path().join("key"), &"07".repeat(32));
        private(&directory.path().join("baton.toml"), &configuration(directory.path(), id, address, peer));
        let mut node = Self { directory, namespace: namespace.0.clone(), process: None, table };
        node.launch();
        node
    }

    fn launch(&mut self) {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .arg(program)
            .args(["--exact", "daemon", "--ignored", "--nocapture"])
            .env(NAME, self.directory.path().join("baton.toml"))
            .stdout(Stdio::null())
            .spawn();
        self.process = Some(child.expect("a process"));
        eventually("the daemon answers", || self.try_ask(&json!({"request": "status"})).is_some());
    }

    /// As a crash would (SIGKILL).
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn try_ask(&self, request: &Value) -> Option<Value> {
        let mut request = request.clone();
        request["version"] = json!(1);
        let mut stream = UnixStream::connect(self.socket(SOCKET)).ok()?;
        stream.write_all(format!("{request}\n").as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    fn ask(&self, request: &Value) -> Value {
        let mut answer = self.try_ask(request).unwrap_or_else(|| panic!("no answer to {request}"));
        match answer["ok"].take() {
            Value::Null => panic!("{request}: {answer}"),
            ok => ok,
        }
    }

    fn states(&self) -> Vec<String> {
        let list = self.ask(&json!({"request": "ike-list"}));
        let tunnels = list["tunnels"].as_array().expect("a list").iter();
        tunnels.map(|tunnel| tunnel["state"].as_str().expect("a word").to_owned()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file that holds secrets.
fn private(path: &Path, content: &str) {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).expect("written");
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Without an AEAD for IKE there need not be IVs of a data plane.
fn configuration(directory: &Path, id: u8, address: &str, peer: &str) -> String {
    let directory = directory.display();
    format!(
        r#"
[node]
id = {id}
cluster = "demo"
runtime_directory = "{directory}"
state_directory = "{directory}"
pin_directory = "{directory}"
[outer]
interface = "lo"
addresses = ["{address}"]
[inner]
interface = "lan0"
[snapshot]
key_file = "key"
[cluster]
[connections.site]
local_addrs = ["{address}"]
remote_addrs = ["{peer}"]
proposals = ["aes128-sha256-x25519"]
local.auth = "psk"
local.id = "{address}"
remote.auth = "psk"
remote.id = "{peer}"
[connections.site.children.net]
local_ts = ["10.{id}.0.0/16"]
remote_ts = ["10.{other}.0.0/16"]
esp_proposals = ["aes128gcm16"]
[secrets.ike-site]
secret = "correct horse battery staple"
"#,
        other = 3 - id.min(2)
    )
}

#[test]
fn a_standby_keeps_what_it_is_given_and_goes_on_when_it_is_told() {
    let (wires, elsewhere) = (Namespace::new("a", &[CLIENT, GATEWAY]), Namespace::new("b", &[GATEWAY]));
    let (Some(wires), Some(elsewhere)) = (wires, elsewhere) else {
        println!("SKIPPED: network namespaces cannot be made here (are you root, and is iproute2 there?)");
        return;
    };
    let client = Node::start(&wires, 1, CLIENT, GATEWAY, u64::MAX);
    let owner = Node::start(&wires, 2, GATEWAY, CLIENT, u64::MAX);
    // It shares the address of the owner, and takes its place.
    let mut standby = Node::start(&elsewhere, 2, GATEWAY, CLIENT, 0);
    let changes = UnixStream::connect(owner.socket(REPLICATION_SOCKET)).expect("it listens");
    changes.set_read_timeout(Some(PATIENCE)).expect("set");
    (&changes).write_all(b"\"caught-up\"\n").expect("taken");
    client.ask(&json!({"request": "initiate", "connection": "site", "child": "net"}));
    let mut line = String::new();
    BufReader::new(&changes).read_line(&mut line).expect("a change");
    let change: Value = serde_json::from_str(&line).expect("JSON");
    let (name, version) = (change["changed"]["name"].clone(), change["changed"]["version"].clone());
    assert!(name.is_string() && version.as_u64() > Some(0), "{change}");
    eventually("the tunnel stands though nobody says that it is replicated", || {
        client.states() == ["established"] && owner.states() == ["established"]
    });
    let counters = owner.ask(&json!({"request": "counters"}));
    let counters = counters["counters"].as_array().expect("a list").iter();
    let late: Vec<_> = counters.filter(|counter| counter["name"] == "replication-late").collect();
    assert_eq!(late[0]["value"], 1, "it was waited for once");
    assert!(owner.ask(&json!({"request": "status"}))["alarms"].to_string().contains("standby"));

    let context = owner.ask(&json!({"request": "context-get", "name": name}));
    let put = json!({"request": "standby-put", "contexts": [context["context"], "00", "no digits"]});
    for _ in 0..2 {
        let results = standby.ask(&put)["results"].clone();
        assert_eq!((&results[0]["name"], &results[0]["problem"]), (&name, &Value::Null));
        assert_eq!(results[0]["version"], context["version"]);
        assert!(results[1]["problem"].is_string() && results[2]["problem"].is_string(), "{results}");
    }
    assert!(owner.ask(&put)["results"][0]["problem"].is_string(), "it is the owner's own");
    assert_eq!(standby.states(), ["standby"]);
    standby.kill();
    standby.launch();
    assert_eq!(standby.states(), ["standby"], "a restart keeps it");
    let listed = standby.ask(&json!({"request": "context-list"}));
    assert_eq!(listed["contexts"][0]["name"], name);
    assert_eq!(listed["contexts"][0]["standby"], true);

    let segment = &context["segment"];
    standby.table.set_lease(u8::try_from(segment.as_u64().expect("a number")).expect("small"), u64::MAX);
    let own = json!({"request": "own", "segments": [{"segment": segment, "term": 1}]});
    assert_eq!(standby.ask(&own)["concerned"], 1);
    eventually("it goes on", || standby.states() == ["established"]);
    assert_eq!(standby.ask(&json!({"request": "own", "segments": []}))["concerned"], 1);
    eventually("it falls silent", || standby.states() == ["standby"]);
    assert_eq!(standby.ask(&json!({"request": "standby-remove", "names": [name]}))["concerned"], 1);
    assert!(standby.states().is_empty());
    assert_eq!(client.states(), ["established"]);
}
