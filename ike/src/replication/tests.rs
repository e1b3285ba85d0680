use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use baton_dataplane::control::Listeners;

use super::*;

const BOUND: Duration = Duration::from_millis(20);

struct Stage {
    replication: Replication,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn stage() -> Stage {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let path = directory.path().join(SOCKET);
    let listener = UnixListener::bind(&path).expect("a socket");
    listener.set_nonblocking(true).expect("set");
    let alarms = Alarms::new(Arc::new(Listeners::default()));
    let replication = Replication::new(listener, BOUND, alarms, Arc::default());
    Stage { replication, path, _directory: directory }
}

/// A client that has said that it has all.
fn client(stage: &mut Stage) -> BufReader<UnixStream> {
    let client = BufReader::new(UnixStream::connect(&stage.path).expect("listening"));
    assert!(stage.replication.accept().is_some());
    say(stage, &client, &ReplicationReply::CaughtUp);
    client
}

fn say(stage: &mut Stage, client: &BufReader<UnixStream>, reply: &ReplicationReply) {
    let line = serde_json::to_string(reply).expect("text") + "\n";
    client.get_ref().write_all(line.as_bytes()).expect("taken");
    stage.replication.look();
}

fn replicated(version: u64) -> ReplicationReply {
    ReplicationReply::Replicated { name: tunnel().to_string(), version }
}

fn hear(client: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

fn tunnel() -> TunnelName {
    TunnelName::new("net", 0x2a00_0001)
}

fn changed(stage: &mut Stage, version: u64) {
    stage.replication.changed(&tunnel(), version);
    stage.replication.announce();
}

const NUMBER: u32 = 0x2a00_0001;
const NOW: Duration = Duration::from_secs(1000);

#[test]
fn a_change_is_told_and_waited_for() {
    let mut stage = stage();
    let mut client = client(&mut stage);
    assert!(stage.replication.alarms.sentences().is_empty());
    assert_eq!(stage.replication.wait(NOW, NUMBER), None, "nothing has changed");
    changed(&mut stage, 7);
    assert_eq!(hear(&mut client), r#"{"changed":{"name":"net-2a000001","segment":42,"version":7}}"#);
    let wait = stage.replication.wait(NOW, NUMBER).expect("something to wait for");
    assert_eq!(wait, Wait { version: 7, until: NOW + BOUND });
    assert!(!stage.replication.is_over(NOW, NUMBER, wait));
    changed(&mut stage, 8);
    say(&mut stage, &client, &replicated(6));
    assert!(!stage.replication.is_over(NOW, NUMBER, wait), "that is older");
    say(&mut stage, &client, &replicated(7));
    assert!(stage.replication.is_over(NOW, NUMBER, wait));
    assert_eq!(stage.replication.wait(NOW, NUMBER).map(|wait| wait.version), Some(8));
    say(&mut stage, &client, &replicated(8));
    assert_eq!(stage.replication.wait(NOW, NUMBER), None);
    stage.replication.deleted(&tunnel(), 9);
    stage.replication.announce();
    assert!(hear(&mut client).contains("changed"));
    assert_eq!(hear(&mut client), r#"{"deleted":{"name":"net-2a000001","segment":42,"version":9}}"#);
    assert!(stage.replication.wait(NOW, NUMBER).is_some(), "the answer to a delete waits too");
}

#[test]
fn whoever_is_late_is_waited_for_once() {
    let mut stage = stage();
    let client = client(&mut stage);
    changed(&mut stage, 1);
    let wait = stage.replication.wait(NOW, NUMBER).expect("something to wait for");
    assert!(stage.replication.is_over(NOW + BOUND, NUMBER, wait));
    assert_eq!(stage.replication.alarms.sentences().len(), 1);
    changed(&mut stage, 2);
    assert_eq!(stage.replication.wait(NOW, NUMBER), None, "not again");
    say(&mut stage, &client, &replicated(2));
    changed(&mut stage, 3);
    assert_eq!(stage.replication.wait(NOW, NUMBER), None, "it has not said that it has all");
    say(&mut stage, &client, &ReplicationReply::CaughtUp);
    assert!(stage.replication.alarms.sentences().is_empty());
    assert!(stage.replication.wait(NOW, NUMBER).is_some());
    let counted = stage.replication.counted.entries();
    let value = |name: &str| counted.iter().find(|entry| entry.name == name).map(|entry| entry.value);
    assert_eq!((value("replication-late"), value("replication-skipped")), (Some(1), Some(2)));
}

#[test]
fn without_a_client_nothing_waits_for_long() {
    let mut stage = stage();
    assert_eq!(stage.replication.alarms.sentences().len(), 1);
    changed(&mut stage, 1);
    assert_eq!(stage.replication.wait(NOW, NUMBER), None);
    let client = client(&mut stage);
    changed(&mut stage, 2);
    let wait = stage.replication.wait(NOW, NUMBER).expect("something to wait for");
    drop(client);
    stage.replication.look();
    assert_eq!(stage.replication.alarms.sentences().len(), 1);
    assert!(!stage.replication.is_over(NOW, NUMBER, wait), "its leases may last longer than the client");
    changed(&mut stage, 3);
    assert_eq!(stage.replication.wait(NOW, NUMBER).map(|wait| wait.version), Some(3));
    assert!(stage.replication.is_over(NOW + BOUND, NUMBER, wait));
    changed(&mut stage, 4);
    assert_eq!(stage.replication.wait(NOW, NUMBER), None, "nobody can answer any more");
}

#[test]
fn a_newer_client_takes_the_place_of_the_older_one() {
    let mut stage = stage();
    let mut older = client(&mut stage);
    let mut newer = client(&mut stage);
    changed(&mut stage, 1);
    assert!(hear(&mut newer).contains("\"version\":1"));
    assert_eq!(hear(&mut older), "", "the end");
}

#[test]
fn nonsense_and_slowness_cost_the_connection_and_nothing_else() {
    for nonsense in ["\n", "{}\n", "[1,2]\n", "\u{0}\n", &"x".repeat(5000)] {
        let mut stage = stage();
        let mut client = client(&mut stage);
        client.get_ref().write_all(nonsense.as_bytes()).expect("taken");
        stage.replication.look();
        assert_eq!(hear(&mut client), "", "{nonsense:?}");
    }
    let mut stage = stage();
    let _client = client(&mut stage);
    for version in 0..200_000 {
        changed(&mut stage, version);
    }
    assert!(!stage.replication.socket.has_client(), "it reads nothing");
    let wait = stage.replication.wait(NOW, NUMBER).expect("a last wait");
    assert!(stage.replication.is_over(NOW + BOUND, NUMBER, wait));
    assert_eq!(stage.replication.wait(NOW, NUMBER), None);
}
