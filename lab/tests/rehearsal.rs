//! The lab itself, rehearsed without gateways: the kernel forwards in clear what Baton would protect. A
//! sniffer that misses plaintext here would prove nothing later.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use baton_lab::content::Content;
use baton_lab::http::{Download, FileServer};
use baton_lab::probe::{Echo, Prober};
use baton_lab::sniffer::Options;
use baton_lab::topology::{self, Topology};
use baton_lab::{Direction, Lab, Recorder, Sniffer, esp, inject, requirements};
use rustix::process::{Pid, Signal};

const SIZE: u64 = 20_000_000;
const MARKER: &[u8] = b"baton-lab-plaintext-marker";

/// A lab with the twin's wires cut: only A and B forward.
fn lab() -> Option<(Lab, Topology)> {
    if let Err(reason) = requirements::lab() {
        requirements::skipped("rehearsal", &reason);
        return None;
    }
    let lab = Lab::new().expect("lab");
    let topology = Topology::build(&lab).expect("topology");
    topology.b2.ip("link set wan0 down\nlink set lan0 down").expect("twin cut off");
    Some((lab, topology))
}

#[test]
fn a_download_crosses_the_topology_with_its_checksum() {
    let Some((_lab, topology)) = lab() else { return };
    let server = FileServer::start(&topology.server, topology::server_port(80), 3, SIZE).expect("server");
    let download = Download::start(&topology.client, server.address()).expect("download");
    let downloaded = download.finish().expect("downloaded");
    assert_eq!((downloaded.octets, downloaded.sha256), (SIZE, Content::new(3, SIZE).sha256()));
}

#[test]
fn a_sniffer_on_the_outer_wire_sees_plaintext_and_can_replay_it() {
    let Some((_lab, topology)) = lab() else { return };
    let recorder = Recorder::default();
    let options = Options::all(Direction::In);
    let sniffer = Sniffer::start(&topology.wan, "a", &options, recorder.sink()).expect("sniffer");
    let echo = Echo::start(&topology.server, topology::server_port(7)).expect("echo");
    let pace = Duration::from_millis(5);
    let (client, server) = (topology::client_port(0), topology::server_port(7));
    let prober = Prober::start(&topology.client, client, server, MARKER, pace).expect("prober");
    prober.wait_for_answers(20, Duration::from_secs(10)).expect("answers");
    drop(prober);
    sniffer.stop().expect("a complete capture");
    let marked: Vec<_> =
        recorder.frames().into_iter().filter(|captured| esp::contains(&captured.frame, MARKER)).collect();
    assert!(marked.len() >= 20, "the sniffer saw only {} marked packets", marked.len());

    let before = echo.received();
    let frames = marked.iter().map(|captured| captured.frame.as_slice());
    inject::frames(&topology.a, "wan0", frames).expect("replayed");
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while echo.received() < before + marked.len() as u64 {
        assert!(std::time::Instant::now() < deadline, "replayed frames did not arrive");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let Some((lab, topology)) = lab() else { return };
    let bpffs = lab.bpffs().expect("bpffs");
    let process = lab.start("sleeper", {
        let mut command = topology.client.command("sleep");
        command.arg("1000");
        command
    });
    let pid = process.expect("started").id();
    let paths = [lab.path().to_owned(), topology.client.path(), topology.lan.path(), bpffs];
    assert!(paths.iter().all(|path| path.exists()));
    drop(lab);
    assert!(paths.iter().all(|path| !path.exists()));
    assert!(!std::path::Path::new(&format!("/proc/{pid}/status")).exists());
}

/// Not a test: a run for the others to end from outside.
#[test]
#[ignore = "started by the tests of interrupted and killed runs"]
fn a_run_to_be_ended() {
    let lab = Lab::new().expect("lab");
    let topology = Topology::build(&lab).expect("topology");
    println!("made {}", topology.client.path().display());
    std::thread::sleep(Duration::from_mins(1));
}

/// Starts that run, waits until it stands, sends it `signal`; returns a namespace that it made.
fn ended_run(signal: Signal) -> PathBuf {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args(["--ignored", "--exact", "--nocapture", "a_run_to_be_ended"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    // The harness's own words may stand before ours on the line.
    let made = |line: std::io::Result<String>| Some(PathBuf::from(line.ok()?.split_once("made ")?.1));
    let path = lines.into_iter().find_map(made).expect("a namespace");
    assert!(path.exists());
    let pid = Pid::from_raw(child.id().cast_signed()).expect("pid");
    rustix::process::kill_process(pid, signal).expect("signalled");
    child.wait().expect("ended");
    path
}

#[test]
fn an_interrupted_run_removes_itself() {
    if requirements::lab().is_err() {
        return requirements::skipped("an_interrupted_run_removes_itself", "network namespaces need root");
    }
    assert!(!ended_run(Signal::INT).exists());
}

#[test]
fn a_killed_run_is_removed_by_the_next() {
    if requirements::lab().is_err() {
        return requirements::skipped("a_killed_run_is_removed_by_the_next", "network namespaces need root");
    }
    let path = ended_run(Signal::KILL);
    drop(Lab::new().expect("lab"));
    assert!(!path.exists());
}
