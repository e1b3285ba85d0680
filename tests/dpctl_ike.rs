//! `dpctl` and the IKE daemon: what is asked, what is waited for, and what becomes of a tunnel that is moved. The daemon
//! is played here, on a real control socket, beside a real SA table.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use baton_dataplane::config::Config;
use baton_dataplane::control::{
    BoundSocket, Code, Conversation, Counters as CounterList, Daemon, Listeners, Next, Refusal, Server,
    Service,
};
use baton_ike::control::{
    ChildConfiguration, ChildEntry, ConnectionEntry, Connections, ContextAnswer, Done, DownWord, IkeEntry,
    IkeList, Kind, LogLine, Occurred, PathText, RekeyWhat, Request, RestoreAnswer, SOCKET, TargetText,
};
use baton_sad::{Counters, Direction, Name, Snapshot, Table, TableOptions};
use serde_json::{Value, json};

const TUNNEL: &str = "road-2a000001";
const CONTEXT: &str = "00010203ff";
const PATIENCE: &str = "5";

/// A tunnel of the played daemon.
#[derive(Clone, Default)]
struct Tunnel {
    frozen: bool,
    /// Another node acts for it.
    standby: bool,
}

/// The played daemon: what it knows, what it was asked, and how it behaves.
#[derive(Default)]
struct Played {
    tunnels: BTreeMap<String, Tunnel>,
    asked: Vec<Request>,
    /// What happens after the next change that is asked for.
    then: Vec<Occurred>,
    concerned: u64,
    /// Contexts are refused.
    refuses: bool,
    table: Option<PathBuf>,
    /// Whether all SAs were frozen when the context was read.
    sas_frozen_at_get: Option<bool>,
}

#[derive(Default)]
struct PlayedIke {
    played: Mutex<Played>,
    listeners: Listeners<Kind>,
}

fn refusal(code: Code, message: &str) -> Refusal {
    Refusal::new(code, message, "look elsewhere")
}

fn entry(name: &str, tunnel: &Tunnel) -> IkeEntry {
    let child = ChildEntry {
        name: "net".into(),
        state: "installed".into(),
        inbound_spi: "0x2a000001".into(),
        ..Default::default()
    };
    IkeEntry {
        name: name.to_owned(),
        connection: "road".into(),
        state: if tunnel.standby { "standby" } else { "established" }.into(),
        role: "responder".into(),
        remote_identity: "carol@example.org".into(),
        frozen: tunnel.frozen,
        established_seconds: Some(7),
        virtual_addresses: vec!["10.3.0.7".parse().expect("an address")],
        dns: vec!["10.2.0.53".parse().expect("an address")],
        children: vec![child],
        ..Default::default()
    }
}

fn connections() -> Connections {
    let child = |name: &str| ChildConfiguration { name: name.to_owned(), ..Default::default() };
    let connection = |name: &str, children: &[&str]| ConnectionEntry {
        name: name.to_owned(),
        remote_addresses: vec!["203.0.113.1".into()],
        local_identity: "moon".into(),
        remote_identity: "*@example.org".into(),
        local_authentication: "pubkey".into(),
        remote_authentication: "psk".into(),
        children: children.iter().copied().map(child).collect(),
        ..Default::default()
    };
    Connections { connections: vec![connection("road", &["net"]), connection("site-b", &["data", "voice"])] }
}

impl PlayedIke {
    fn change(&self, request: &Request) -> Result<Done, Refusal> {
        let mut played = self.played.lock().expect("sound");
        match request {
            Request::Freeze { name } | Request::Thaw { name, .. } => {
                let tunnel = played.tunnels.get_mut(name).ok_or_else(|| absent(name))?;
                tunnel.frozen = matches!(request, Request::Freeze { .. });
                return Ok(Done { concerned: 1 });
            }
            Request::Release { name } => {
                played.tunnels.remove(name).ok_or_else(|| absent(name))?;
                return Ok(Done { concerned: 1 });
            }
            Request::Terminate { target: TargetText::Tunnel(name) } if !played.tunnels.contains_key(name) => {
                return Err(absent(name));
            }
            _ => {}
        }
        let happens = std::mem::take(&mut played.then);
        let done = Done { concerned: played.concerned };
        drop(played);
        for occurred in happens {
            self.listeners.tell(occurred);
        }
        Ok(done)
    }

    fn list(&self, after: Option<&str>) -> IkeList {
        let played = self.played.lock().expect("sound");
        // One at a time, so that there is always more.
        let mut left =
            played.tunnels.iter().filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        let tunnels: Vec<_> = left.by_ref().take(1).map(|(name, tunnel)| entry(name, tunnel)).collect();
        IkeList { tunnels, more: left.next().is_some() }
    }

    fn show(&self, name: &str) -> Result<IkeEntry, Refusal> {
        let played = self.played.lock().expect("sound");
        played.tunnels.get(name).map(|tunnel| entry(name, tunnel)).ok_or_else(|| absent(name))
    }

    fn context(&self, name: &str) -> Result<ContextAnswer, Refusal> {
        let mut played = self.played.lock().expect("sound");
        if !played.tunnels.contains_key(name) {
            return Err(absent(name));
        }
        let table = played.table.as_ref().map(|path| Table::open(path).expect("a table"));
        played.sas_frozen_at_get = table.map(|table| table.iter().all(|found| found.frozen));
        Ok(ContextAnswer { name: name.to_owned(), context: CONTEXT.to_owned(), segment: 42, version: 7 })
    }

    fn restore(&self, context: &str) -> Result<RestoreAnswer, Refusal> {
        let mut played = self.played.lock().expect("sound");
        if played.refuses {
            return Err(refusal(Code::Refused, "connection road is not configured here"));
        }
        assert_eq!(context, CONTEXT);
        played.tunnels.insert(TUNNEL.to_owned(), Tunnel::default());
        Ok(RestoreAnswer { name: TUNNEL.to_owned() })
    }
}

fn absent(name: &str) -> Refusal {
    refusal(Code::NotFound, &format!("there is no tunnel {name}"))
}

impl Service for PlayedIke {
    type Request = Request;
    const DAEMON: Daemon = Daemon::Ike;
    const MAX_REQUEST_OCTETS: usize = 1 << 20;

    fn answer(&self, request: Request, client: &Conversation<'_>) -> io::Result<Next> {
        self.played.lock().expect("sound").asked.push(request.clone());
        match request {
            Request::ConnList => client.reply(Ok(connections())),
            Request::IkeList(list) => client.reply(Ok(self.list(list.after.as_deref()))),
            Request::IkeShow { name } => client.reply(self.show(&name)),
            Request::ContextGet { name } => client.reply(self.context(&name)),
            Request::Restore { context, .. } => client.reply(self.restore(&context)),
            Request::Monitor(request) => {
                client.stream_lines(&self.listeners.listen(&request.kinds).expect("a seat"))
            }
            Request::Log(request) => {
                client.begin_stream()?;
                for number in 0..request.lines {
                    let line = LogLine { time_ms: number as u64, line: format!("line {number}") };
                    writeln!(client.out(), "{}", json!(line))?;
                }
                Ok(Next::End)
            }
            Request::Counters => client.reply(Ok(CounterList { counters: vec![] })),
            other => client.reply(self.change(&other)),
        }
    }
}

/// A gateway with a table and a played daemon. Fields drop in order: the socket before its directory.
struct Gateway {
    server: Option<Server>,
    ike: Arc<PlayedIke>,
    table: Table,
    directory: tempfile::TempDir,
}

impl Gateway {
    fn new(id: u8) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let path = directory.path();
        write_private(&path.join("cluster.key"), &"5a".repeat(32));
        write_private(&path.join("baton.toml"), &configuration(path, id));
        let config = Config::load(&path.join("baton.toml")).expect("a good configuration");
        let options = TableOptions { capacity: 64, node: config.node.id, cluster: config.cluster_id() };
        let table = Table::create(&config.table_path(), &options).expect("a table");
        let ike = Arc::new(PlayedIke::default());
        ike.played.lock().expect("sound").table = Some(config.table_path());
        let socket = BoundSocket::bind(&path.join(SOCKET)).expect("a socket");
        let server = Some(socket.serve(Arc::clone(&ike)).expect("served"));
        Self { server, ike, table, directory }
    }

    /// With a tunnel that was negotiated.
    fn with_tunnel(id: u8) -> Self {
        let gateway = Self::new(id);
        gateway.played().tunnels.insert(TUNNEL.to_owned(), Tunnel::default());
        let config = Config::load(&gateway.path("baton.toml")).expect("a good configuration");
        let sas = [config.tunnels[0].inbound_sa(0), config.tunnels[0].outbound_sa(0)].map(|sa| {
            let mut sa = sa.expect("keyed");
            sa.name = Name::new(TUNNEL).expect("a name");
            let sequence = if sa.direction == Direction::Outbound { 700 } else { 0 };
            (sa, Counters { sequence, ..Counters::default() })
        });
        gateway.table.put(&sas).expect("installed");
        gateway
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn played(&self) -> std::sync::MutexGuard<'_, Played> {
        self.ike.played.lock().expect("sound")
    }

    /// The next change concerns so many, and this happens then.
    fn then(&self, concerned: u64, happens: &[Occurred]) {
        let mut played = self.played();
        (played.concerned, played.then) = (concerned, happens.to_vec());
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.played().asked)
    }

    fn dpctl(&self, arguments: &[&str]) -> Output {
        self.dpctl_with_input(arguments, &[])
    }

    fn dpctl_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dpctl"))
            .arg("--config")
            .arg(self.path("baton.toml"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dpctl starts");
        // It may refuse before it reads all.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        child.wait_with_output().expect("dpctl ends")
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> Value {
        let output = self.dpctl(&[&["--json"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], exit: i32, word: &str) {
        let output = self.dpctl(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{message}");
        assert!(message.contains(word), "`{message}` lacks `{word}`");
    }

    fn sas(&self) -> Vec<Snapshot> {
        self.table.iter().collect()
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("private");
}

/// The tunnel in it lends its SAs to the negotiated one.
fn configuration(directory: &Path, id: u8) -> String {
    let directory = directory.display();
    format!(
        "[node]\nid = {id}\ncluster = \"demo\"\nstate_directory = \"{directory}\"\n\
         runtime_directory = \"{directory}\"\npin_directory = \"/sys/fs/bpf/baton-test\"\n[outer]\n\
         interface = \"wan0\"\naddresses = [\"203.0.113.2\"]\n[inner]\ninterface = \"lan0\"\n[snapshot]\n\
         key_file = \"cluster.key\"\n[[tunnel]]\nname = \"site-a\"\nsegment = 42\nlocal = \"203.0.113.2\"\n\
         remote = \"203.0.113.1\"\nlocal_selectors = [\"10.2.0.0/16\"]\nremote_selectors = [\"10.1.0.0/16\"]\n\
         suite = \"aes128gcm16\"\nreqid = 7\n[tunnel.inbound]\nspi = 0x2a000001\n\
         key = \"00112233445566778899aabbccddeeff01020304\"\n[tunnel.outbound]\nspi = 0x11000001\n\
         key = \"ffeeddccbbaa9988776655443322110005060708\"\n"
    )
}

fn ike_up(connection: &str, tunnel: &str) -> Occurred {
    let end = "203.0.113.1:500".parse().expect("an end");
    Occurred::IkeUp {
        tunnel: tunnel.to_owned(),
        connection: connection.to_owned(),
        remote_identity: "carol@example.org".to_owned(),
        path: PathText { local: end, remote: end },
        virtual_addresses: vec![],
        dns: vec![],
    }
}

fn child_up(tunnel: &str, child: &str, inbound_spi: &str, replaces: Option<&str>) -> Occurred {
    Occurred::ChildUp {
        tunnel: tunnel.to_owned(),
        child: child.to_owned(),
        inbound_spi: inbound_spi.to_owned(),
        outbound_spi: "0x11000001".to_owned(),
        replaces: replaces.map(str::to_owned),
    }
}

fn failed(tunnel: Option<&str>, connection: &str) -> Occurred {
    Occurred::Failed {
        tunnel: tunnel.map(str::to_owned),
        connection: Some(connection.to_owned()),
        remote: "203.0.113.1:500".parse().expect("an end"),
        problem: "the peer does not know our identity; see its log".to_owned(),
    }
}

fn ike_down(tunnel: &str, reason: DownWord) -> Occurred {
    Occurred::IkeDown { tunnel: tunnel.to_owned(), reason }
}

#[test]
fn up_waits_until_all_children_are() {
    let b = Gateway::new(2);
    let tunnel = "site-b-2a000002";
    b.then(
        1,
        &[
            ike_up("road", TUNNEL),
            child_up(TUNNEL, "data", "0x2a000009", None),
            ike_up("site-b", tunnel),
            child_up(tunnel, "data", "0x2a000002", None),
            child_up(tunnel, "voice", "0x2a000003", None),
        ],
    );
    let report = b.succeeds(&["up", "site-b", "--timeout", PATIENCE]);
    assert_eq!((&report["up"], &report["tunnel"]), (&json!(true), &json!(tunnel)));
    let asked = b.asked();
    assert!(asked.contains(&Request::Initiate { connection: "site-b".into(), child: None }), "{asked:?}");
    // Another connection's child of the same name does not count.
    b.then(1, &[child_up(TUNNEL, "data", "0x2a000009", None), child_up(tunnel, "voice", "0x2a000003", None)]);
    b.fails(&["up", "site-b", "--timeout", "1"], 1, "connection site-b is not up after 1 s");
    b.then(1, &[child_up(tunnel, "voice", "0x2a000003", None)]);
    b.succeeds(&["up", "site-b", "--child", "voice", "--timeout", PATIENCE]);
}

#[test]
fn up_tells_why_it_is_not() {
    let b = Gateway::new(2);
    b.then(1, &[failed(None, "road"), failed(None, "site-b")]);
    b.fails(
        &["up", "site-b", "--timeout", PATIENCE],
        1,
        "connection site-b is not up: the peer does not know",
    );
    let tunnel = "site-b-2a000002";
    b.then(1, &[ike_up("site-b", tunnel), ike_down(tunnel, DownWord::Unreachable)]);
    b.fails(&["up", "site-b", "--timeout", PATIENCE], 1, "the peer does not answer");
    b.fails(&["up", "nobody"], 3, "there is no connection nobody");
    b.fails(&["up", "site-b", "--child", "nobody"], 3, "has no child nobody");
    // What stands already needs no event.
    b.played().tunnels.insert(TUNNEL.to_owned(), Tunnel::default());
    b.then(0, &[]);
    assert_eq!(b.succeeds(&["up", "road", "--timeout", PATIENCE])["tunnel"], TUNNEL);
    b.then(1, &[]);
    assert_eq!(b.succeeds(&["up", "site-b", "--no-wait"])["up"], false);
}

#[test]
fn down_and_rekey_know_what_a_name_is() {
    let b = Gateway::new(2);
    b.played().tunnels.insert(TUNNEL.to_owned(), Tunnel::default());
    let down = |target| Request::Terminate { target };
    let rekey = |target, what| Request::Rekey { target, what };
    let voice = || TargetText::Child { connection: Some("site-b".into()), name: "voice".into() };
    let cases = [
        (&["down", "road"][..], down(TargetText::Connection("road".into()))),
        (&["down", TUNNEL], down(TargetText::Tunnel(TUNNEL.into()))),
        (&["down", "0x2a000001"], down(TargetText::Spi(0x2a00_0001))),
        (&["down", "site-b", "--child", "voice"], down(voice())),
        (&["rekey", "site-b", "--child", "voice"], rekey(voice(), RekeyWhat::Child)),
        (&["rekey", TUNNEL], rekey(TargetText::Tunnel(TUNNEL.into()), RekeyWhat::Child)),
        (&["rekey", "--ike", "road"], rekey(TargetText::Connection("road".into()), RekeyWhat::Ike)),
    ];
    for (arguments, request) in cases {
        b.then(0, &[]);
        b.succeeds(arguments);
        assert_eq!(b.asked().last(), Some(&request), "{arguments:?}");
    }
    b.fails(&["down", "nobody"], 3, "there is no tunnel nobody");
    b.fails(&["down", TUNNEL, "--child", "net"], 3, "there is no connection road-2a000001");
    b.fails(&["rekey", "road", "--ike", "--child", "net"], 2, "cannot be used with");
}

#[test]
fn down_and_rekey_wait_for_all_that_they_concern() {
    let b = Gateway::new(2);
    let other = "road-2a000007";
    b.then(2, &[ike_down("site-b-2a000002", DownWord::Peer), ike_down(TUNNEL, DownWord::Command)]);
    b.fails(&["down", "road", "--timeout", "1"], 1, "road is not down after 1 s");
    b.then(2, &[ike_down(TUNNEL, DownWord::Command), ike_down(other, DownWord::Unreachable)]);
    assert_eq!(b.succeeds(&["down", "road", "--timeout", PATIENCE])["concerned"], 2);
    let new = [
        child_up(TUNNEL, "net", "0x2a000005", None),
        child_up(TUNNEL, "net", "0x2a000006", Some("0x2a000001")),
    ];
    b.then(1, &new[..1]);
    b.fails(&["rekey", "0x2a000001", "--timeout", "1"], 1, "0x2a000001 is not rekeyed after 1 s");
    b.then(1, &new);
    assert_eq!(b.succeeds(&["rekey", "0x2a000001", "--timeout", PATIENCE])["concerned"], 1);
    b.then(1, &[failed(Some(TUNNEL), "road")]);
    b.fails(&["rekey", "road", "--timeout", PATIENCE], 1, "road is not rekeyed: the peer does not know");
}

#[test]
fn who_waits_for_a_tunnel_hears_that_another_node_acts_for_it() {
    let b = Gateway::new(2);
    b.played().tunnels.insert(TUNNEL.to_owned(), Tunnel::default());
    let changed = Occurred::SegmentsChanged { segments: 127 };
    b.then(1, std::slice::from_ref(&changed));
    b.fails(&["rekey", "--ike", TUNNEL, "--timeout", "1"], 1, "is not rekeyed after 1 s");
    b.played().tunnels.insert(TUNNEL.to_owned(), Tunnel { standby: true, ..Tunnel::default() });
    for target in [TUNNEL, "road", "0x2a000001"] {
        b.then(1, std::slice::from_ref(&changed));
        b.fails(&["rekey", target, "--timeout", PATIENCE], 1, "another node of the cluster acts for it now");
    }
    b.then(1, &[changed, ike_down(TUNNEL, DownWord::Command)]);
    b.fails(&["down", TUNNEL, "--timeout", PATIENCE], 1, "another node");
}

#[test]
fn lists_are_whole_and_names_are_shown() {
    let b = Gateway::new(2);
    for name in ["road-2a000001", "road-2a000002", "road-2a000003"] {
        b.played().tunnels.insert(name.to_owned(), Tunnel::default());
    }
    assert_eq!(b.succeeds(&["ike", "list"])["tunnels"].as_array().map(Vec::len), Some(3));
    let text = String::from_utf8(b.dpctl(&["ike", "list"]).stdout).expect("text");
    insta::assert_snapshot!("ike_list", text);
    insta::assert_snapshot!(
        "ike_show",
        String::from_utf8(b.dpctl(&["ike", "show", TUNNEL]).stdout).expect("text")
    );
    insta::assert_snapshot!("conn_list", String::from_utf8(b.dpctl(&["conn", "list"]).stdout).expect("text"));
    assert_eq!(b.succeeds(&["ike", "show", TUNNEL])["remote_identity"], "carol@example.org");
    b.fails(&["ike", "show", "nobody"], 3, "there is no tunnel nobody");
}

#[test]
fn the_log_is_read_line_by_line() {
    let b = Gateway::new(2);
    let output = b.dpctl(&["log", "-n", "3"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "line 0\nline 1\nline 2\n");
    let output = b.dpctl(&["log", "--json", "-n", "1"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"time_ms\":0,\"line\":\"line 0\"}\n");
    // A stream that was to go on has ended: so has the daemon.
    b.fails(&["log", "--follow"], 4, "the IKE daemon ended");
}

#[test]
fn one_daemon_is_enough_for_a_monitor_and_none_is_not() {
    let mut b = Gateway::new(2);
    let ike = Arc::clone(&b.ike);
    let teller = std::thread::spawn(move || {
        // Until the monitor is there.
        while !ike.played.lock().expect("sound").asked.iter().any(|one| matches!(one, Request::Monitor(_))) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        ike.listeners.tell(ike_up("road", TUNNEL));
        ike.listeners.tell(ike_down(TUNNEL, DownWord::Peer));
    });
    let output = b.dpctl(&["--json", "monitor", "--count", "2"]);
    teller.join().expect("told");
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!((&lines[0]["kind"], &lines[1]["kind"]), (&json!("ike-up"), &json!("ike-down")));
    assert_eq!((&lines[0]["daemon"], &lines[1]["reason"]), (&json!("baton-ike"), &json!("peer")));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no data plane answers"));
    b.fails(&["monitor", "--kind", "acquire"], 4, "no data plane answers");
    b.server = None;
    b.fails(&["monitor", "--kind", "ike-up"], 4, "no IKE daemon answers");
    b.fails(&["monitor"], 4, "answers");
    b.fails(&["up", "road"], 4, "no IKE daemon answers");
}

#[test]
fn i2_a_move_stops_ike_before_its_sas_and_forgets_it_when_the_file_is_safe() {
    let (b, b2) = (Gateway::with_tunnel(2), Gateway::new(3));
    let file = b.path("road.ctx").display().to_string();
    let report = b.succeeds(&["snapshot", "--move", TUNNEL, "-o", &file]);
    assert_eq!((&report["contexts"], &report["negotiated"]), (&json!(1), &json!(1)));
    let asked = b.asked();
    let name = || TUNNEL.to_owned();
    let expected = [
        Request::Freeze { name: name() },
        Request::ContextGet { name: name() },
        Request::Release { name: name() },
    ];
    let changes: Vec<_> = asked.into_iter().filter(|one| !matches!(one, Request::IkeShow { .. })).collect();
    assert_eq!(changes, expected);
    assert_eq!(b.played().sas_frozen_at_get, Some(true), "the context is the last word");

    let inspected = b2.succeeds(&["inspect", &file]);
    assert_eq!(inspected["contexts"][0]["ike_octets"], 5);
    let report = b2.succeeds(&["restore", &file]);
    assert_eq!((&report["contexts"], &report["negotiated"]), (&json!(1), &json!(1)));
    assert_eq!(b2.sas().len(), 2);
    assert!(b2.sas().iter().any(|found| found.counters.sequence == 700), "exactly where it was frozen");
    assert!(b2.played().tunnels.contains_key(TUNNEL));
}

#[test]
fn into_a_pipe_it_stays_frozen_until_it_is_known_to_be_elsewhere() {
    let b = Gateway::with_tunnel(2);
    let output = b.dpctl(&["snapshot", "--move", TUNNEL]);
    assert!(output.status.success() && b.played().tunnels[TUNNEL].frozen);
    assert!(b.sas().iter().all(|found| found.frozen));
    // Restored where it was taken, it goes on.
    assert!(b.dpctl_with_input(&["restore", "-"], &output.stdout).status.success());
    assert!(!b.played().tunnels[TUNNEL].frozen && b.sas().iter().all(|found| !found.frozen));
    // So it does when it is thawed, by name or SPI.
    for name in [TUNNEL, "0x2a000001"] {
        assert!(b.dpctl(&["snapshot", "--move", TUNNEL]).status.success());
        let report = b.succeeds(&["sa", "thaw", name]);
        assert_eq!((&report["thawed"], &report["ike"]), (&json!(2), &json!(true)));
        assert!(!b.played().tunnels[TUNNEL].frozen && b.sas().iter().all(|found| !found.frozen));
    }
    assert!(b.dpctl(&["snapshot", "--move", TUNNEL]).status.success());
    b.succeeds(&["ike", "release", TUNNEL]);
    assert!(b.played().tunnels.is_empty());
}

#[test]
fn a_move_that_fails_leaves_the_tunnel_running() {
    let b = Gateway::with_tunnel(2);
    let output = b.dpctl(&["snapshot", TUNNEL, "--move", "-o", "/dev/full/none"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!b.played().tunnels[TUNNEL].frozen && b.sas().iter().all(|found| !found.frozen));
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpctl"));
    command.arg("--config").arg(b.path("baton.toml")).args(["snapshot", TUNNEL, "--move"]);
    let output = command.stdout(writer).output().expect("dpctl runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!b.played().tunnels[TUNNEL].frozen && b.sas().iter().all(|found| !found.frozen));
    assert!(b.asked().iter().any(|one| matches!(one, Request::Thaw { .. })), "it was frozen before");
}

#[test]
fn a_copy_stops_nothing() {
    let (b, b2) = (Gateway::with_tunnel(2), Gateway::new(3));
    // A tunnel may have lost its last Child SA; the configuration's own has none of IKE.
    b.played().tunnels.insert("road-2a000002".to_owned(), Tunnel::default());
    let file = b.path("all.ctx").display().to_string();
    let report = b.succeeds(&["snapshot", "--all", "-o", &file]);
    assert_eq!((&report["contexts"], &report["negotiated"]), (&json!(2), &json!(2)));
    assert!(b.asked().iter().all(|one| !matches!(one, Request::Freeze { .. } | Request::Release { .. })));
    assert_eq!(b2.succeeds(&["restore", &file, "--advance", "1000"])["copies"], 2);
    assert!(b2.sas().iter().any(|found| found.counters.sequence == 1700));
    b.fails(&["restore", &file], 5, "tunnel road-2a000001 stands here");
}

#[test]
fn what_the_ike_daemon_refuses_is_not_installed() {
    let (b, mut b2) = (Gateway::with_tunnel(2), Gateway::new(3));
    let file = b.path("road.ctx").display().to_string();
    b.succeeds(&["snapshot", "--move", TUNNEL, "-o", &file]);
    b2.played().refuses = true;
    b2.fails(&["restore", &file], 1, "connection road is not configured here");
    assert_eq!(b2.sas().len(), 0, "SAs without IKE would be nobody's");
    b2.server = None;
    b2.fails(&["restore", &file], 4, "no IKE daemon answers");
    assert_eq!(b2.sas().len(), 0);
}

#[test]
fn without_the_ike_daemon_a_negotiated_tunnel_is_not_torn_apart() {
    let mut b = Gateway::with_tunnel(2);
    b.server = None;
    b.fails(&["snapshot", TUNNEL, "-o", &b.path("x").display().to_string()], 4, "no IKE daemon answers");
    assert!(!b.path("x").exists());
}

/// What `dpctl top` writes to a terminal of its own while it gets these keys, and how the terminal is set before and
/// after it.
struct OnTerminal {
    child: Child,
    keys: ChildStdin,
    shown: BufReader<ChildStdout>,
    seen: String,
}

impl OnTerminal {
    fn new(gateway: &Gateway) -> Self {
        let dpctl = env!("CARGO_BIN_EXE_dpctl");
        let config = gateway.path("baton.toml").display().to_string();
        let command = format!(
            "stty cols 120 rows 30; stty -g; {dpctl} --config {config} top --interval 0.2; echo exit=$?; stty -g"
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) starts");
        let keys = child.stdin.take().expect("a pipe");
        let shown = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, keys, shown, seen: String::new() }
    }

    /// Reads on until this is written.
    #[track_caller]
    fn until(&mut self, word: &str) {
        let from = self.seen.len();
        while !self.seen[from..].contains(word) {
            let read = self.shown.fill_buf().expect("readable");
            assert!(!read.is_empty(), "`{word}` never came: {:?}", &self.seen);
            self.seen.push_str(&String::from_utf8_lossy(read));
            let length = read.len();
            self.shown.consume(length);
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("pressed");
    }

    /// All that was written in the end.
    fn end(mut self) -> String {
        self.shown.read_to_string(&mut self.seen).expect("readable");
        assert!(self.child.wait().expect("ended").success());
        self.seen
    }
}

#[test]
fn top_lives_in_a_terminal_and_leaves_it_as_it_was() {
    let gateway = Gateway::with_tunnel(2);
    let mut top = OnTerminal::new(&gateway);
    top.until("\x1b[?1049h");
    top.until(TUNNEL);
    top.press("?");
    top.until("replayed,");
    top.press("q");
    top.until("\x1b[?1049l");
    let all = top.end();
    assert!(all.contains("exit=0"), "{all:?}");
    let settings: Vec<_> = all.lines().map(str::trim).filter(|line| line.matches(':').count() > 20).collect();
    assert_eq!(settings.len(), 2, "{all:?}");
    assert!(settings[1].ends_with(settings[0]), "the terminal is set otherwise than before: {settings:?}");
}

#[test]
fn top_shows_the_table_that_took_the_place_of_another() {
    let gateway = Gateway::with_tunnel(2);
    let mut top = OnTerminal::new(&gateway);
    top.until(TUNNEL);
    let config = Config::load(&gateway.path("baton.toml")).expect("a good configuration");
    fs::remove_file(config.table_path()).expect("removed");
    let options = TableOptions { capacity: 64, node: config.node.id, cluster: config.cluster_id() };
    let table = Table::create(&config.table_path(), &options).expect("a table");
    let mut sa = config.tunnels[0].inbound_sa(0).expect("keyed");
    sa.name = Name::new("another").expect("a name");
    table.put(&[(sa, Counters::default())]).expect("installed");
    top.until("another");
    top.press("q");
    assert!(top.end().contains("exit=0"));
}
