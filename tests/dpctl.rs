//! `dpctl` on a real SA table, without a data plane: snapshot, restore, what is refused, and what is never shown.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use baton_dataplane::config::Config;
use baton_sad::{
    ClusterId, Counters, Direction, NodeId, ReplayWindow, Sender, Senders, Snapshot, Table, TableOptions,
};

const INBOUND_KEY: &str = "00112233445566778899aabbccddeeff01020304";
const OUTBOUND_KEY: &str = "ffeeddccbbaa9988776655443322110005060708";

/// A gateway as `dpctl` sees it: a configuration and a table.
struct Gateway {
    directory: tempfile::TempDir,
    table: Table,
}

impl Gateway {
    /// Node `id`; its tunnel's SAs are configured and installed if `keyed`.
    fn new(id: u8, cluster: &str, keyed: bool) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let path = directory.path();
        write_private(&path.join("cluster.key"), &"5a".repeat(32));
        write_private(&path.join("baton.toml"), &configuration(path, id, cluster, keyed));
        let config = Config::load(&path.join("baton.toml")).expect("a good configuration");
        let options = TableOptions { capacity: 64, node: config.node.id, cluster: config.cluster_id() };
        let table = Table::create(&config.table_path(), &options).expect("a table");
        if keyed {
            let tunnel = &config.tunnels[0];
            let inbound = tunnel.inbound_sa(0).expect("keyed");
            let window = ReplayWindow::closed(900, inbound.replay_window);
            let received = Counters { sequence: 900, window, packets: 900, ..Counters::default() };
            let sent = Counters { sequence: 700, packets: 700, ..Counters::default() };
            table
                .put(&[(inbound, received), (tunnel.outbound_sa(0).expect("keyed"), sent)])
                .expect("installed");
        }
        Self { directory, table }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpctl"));
        command.arg("--config").arg(self.path("baton.toml")).args(arguments);
        command
    }

    fn dpctl(&self, arguments: &[&str]) -> Output {
        self.dpctl_with_input(arguments, &[])
    }

    fn dpctl_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dpctl starts");
        // It may refuse before it reads all.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        child.wait_with_output().expect("dpctl ends")
    }

    fn snapshot(&self, options: &[&str]) -> Vec<u8> {
        let output = self.dpctl(&[&["snapshot", "site-a"], options].concat());
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    /// Everything in the table, to compare before and after.
    fn state(&self) -> Vec<Snapshot> {
        let mut state: Vec<Snapshot> = self.table.iter().collect();
        state.sort_by_key(|found| (found.sa.direction, found.sa.spi));
        state
    }

    /// Restoring `file` is refused with `exit` and a sentence that has `word` in it, and changes nothing.
    fn refuses(&self, file: &[u8], options: &[&str], exit: i32, word: &str) {
        let before = self.state();
        let output = self.dpctl_with_input(&[&["restore", "-"], options].concat(), file);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{message}");
        assert!(message.contains(word), "`{message}` lacks `{word}`");
        assert_eq!(self.state(), before, "a refused file changed the table");
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("private");
}

fn configuration(directory: &Path, id: u8, cluster: &str, keyed: bool) -> String {
    let directory = directory.display();
    let keys = if keyed {
        format!(
            "[tunnel.inbound]\nspi = 0x2a000001\nkey = \"{INBOUND_KEY}\"\n[tunnel.outbound]\nspi = 0x11000001\n\
             key = \"{OUTBOUND_KEY}\"\n"
        )
    } else {
        String::new()
    };
    format!(
        "[node]\nid = {id}\ncluster = \"{cluster}\"\nstate_directory = \"{directory}\"\n\
         runtime_directory = \"{directory}\"\npin_directory = \"/sys/fs/bpf/baton-test\"\n[outer]\n\
         interface = \"wan0\"\naddresses = [\"203.0.113.2\"]\n[inner]\ninterface = \"lan0\"\n[snapshot]\n\
         key_file = \"cluster.key\"\n[[tunnel]]\nname = \"site-a\"\nsegment = 42\nlocal = \"203.0.113.2\"\n\
         remote = \"203.0.113.1\"\nlocal_selectors = [\"10.2.0.0/16\"]\nremote_selectors = [\"10.1.0.0/16\"]\n\
         suite = \"aes128gcm16\"\nreqid = 7\n{keys}"
    )
}

fn edges(gateway: &Gateway) -> Vec<u64> {
    gateway.state().iter().map(|found| found.counters.edge()).collect()
}

#[test]
fn i2_i3_a_move_continues_exactly_where_it_was_frozen() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(3, "demo", false));
    let file = b.snapshot(&["--move"]);
    assert!(b.state().iter().all(|found| found.frozen), "the tunnel stops where it was");
    let output = b2.dpctl_with_input(&["restore", "-"], &file);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(edges(&b2), [900, 700]);
    let restored = b2.state();
    assert!(restored.iter().all(|found| !found.frozen));
    assert_eq!(restored[0].counters.window, b.state()[0].counters.window);
    let senders: Vec<u8> = restored[1].sa.senders.iter().map(|sender| sender.node.get()).collect();
    assert_eq!(restored[0].sa.senders.len(), 0, "with an inbound key only the peer sends");
    assert_eq!(senders, [2, 3], "who has sent with these keys travels along (I1)");
}

#[test]
fn i2_i3_a_copy_advances_both_edges() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(3, "demo", false));
    let file = b.snapshot(&[]);
    assert!(b.state().iter().all(|found| !found.frozen), "a copy stops nothing");
    assert!(b2.dpctl_with_input(&["restore", "-", "--advance", "5000"], &file).status.success());
    assert_eq!(edges(&b2), [5900, 5700]);
    let window = &b2.state()[0].counters.window;
    assert!(
        (1..=5900).all(|sequence| window.has(sequence, 1024)),
        "what may have been received counts as received"
    );
}

#[test]
fn a_move_that_did_not_happen_is_undone_by_thaw_or_by_its_own_file() {
    let b = Gateway::new(2, "demo", true);
    let file = b.snapshot(&["--move"]);
    assert!(b.dpctl(&["sa", "thaw", "site-a"]).status.success());
    assert!(b.state().iter().all(|found| !found.frozen));
    b.snapshot(&["--move"]);
    assert!(b.dpctl_with_input(&["restore", "-"], &file).status.success());
    assert!(b.state().iter().all(|found| !found.frozen));
    assert_eq!(edges(&b), [900, 700]);
}

#[test]
fn i2_i3_a_copy_over_the_live_sa_that_it_was_taken_of_advances_that() {
    let b = Gateway::new(2, "demo", true);
    let file = b.snapshot(&[]);
    assert!(b.dpctl_with_input(&["restore", "-", "--advance", "10"], &file).status.success());
    assert_eq!(edges(&b), [910, 710]);
    assert!(b.state().iter().all(|found| !found.frozen));
    b.refuses(&file, &[], 5, "further");
}

/// Marks a number as not yet received: the window of the inbound SA, whose edge is 900, gets a hole.
fn forget(gateway: &Gateway, sequence: u64) {
    let found = gateway.table.get(Direction::Inbound, 0x2a00_0001).expect("readable").expect("installed");
    let mut counters = found.counters;
    let block = (counters.window.top / 64 - sequence / 64) as usize;
    counters.window.words[block] &= !(1 << (sequence % 64));
    gateway.table.put(&[(found.sa, counters)]).expect("installed");
}

#[test]
fn i3_a_move_file_does_not_bring_back_a_window_that_filled_since() {
    let b = Gateway::new(2, "demo", true);
    forget(&b, 895);
    let file = b.snapshot(&["--move"]);
    assert!(b.dpctl(&["sa", "thaw", "site-a"]).status.success());
    let installed = b.table.get(Direction::Inbound, 0x2a00_0001).expect("readable").expect("installed");
    assert!(!installed.counters.window.has(895, 1024), "the test needs a hole");
    // The late packet comes; the edge stays where it was.
    b.table.slot(installed.handle).expect("live").mark_received(895);
    b.refuses(&file, &[], 5, "replayed");
    b.snapshot(&["--move"]);
    b.refuses(&file, &[], 5, "replayed");
}

#[test]
fn i2_i3_an_explicit_advance_is_for_moves_too() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(3, "demo", false));
    let file = b.snapshot(&["--move"]);
    // As after a loss of the table: what went on behind the file's counters is not known here.
    assert!(b2.dpctl_with_input(&["restore", "-", "--advance", "5000"], &file).status.success());
    assert_eq!(edges(&b2), [5900, 5700]);
    assert!((1..=5900).all(|sequence| b2.state()[0].counters.window.has(sequence, 1024)));
}

#[test]
fn i1_i2_a_key_that_was_changed_does_not_come_back() {
    let b = Gateway::new(2, "demo", true);
    let file = b.snapshot(&["--move"]);
    let text = fs::read_to_string(b.path("baton.toml")).expect("readable");
    let other_key = OUTBOUND_KEY.replace("ff", "fe");
    write_private(&b.path("baton.toml"), &text.replace(OUTBOUND_KEY, &other_key));
    b.refuses(&file, &["--advance", "10"], 5, "(key)");
    write_private(&b.path("baton.toml"), &text.replace("0x11000001", "0x11000002"));
    b.refuses(&file, &["--advance", "10"], 5, "(SPI)");
}

#[test]
fn a_tunnel_whose_spi_leads_to_another_segment_is_refused() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(3, "demo", false));
    let found = b.table.get(Direction::Inbound, 0x2a00_0001).expect("readable").expect("installed");
    b.table.remove(&[(Direction::Inbound, 0x2a00_0001)]).expect("removed");
    let elsewhere = baton_sad::Sa { spi: 0x2b00_0001, ..found.sa };
    b.table.put(&[(elsewhere, found.counters)]).expect("installed");
    b2.refuses(&b.snapshot(&["--move"]), &[], 5, "segment");
}

#[test]
fn only_regular_files_are_replaced_and_a_dash_is_standard_output() {
    let b = Gateway::new(2, "demo", true);
    let target = b.path("target");
    fs::write(&target, "precious").expect("written");
    std::os::unix::fs::symlink(&target, b.path("link")).expect("a link");
    std::os::unix::net::UnixListener::bind(b.path("socket")).expect("a socket");
    for name in ["link", "socket", "."] {
        let path = b.path(name).display().to_string();
        let output = b.dpctl(&["snapshot", "site-a", "--move", "-o", &path]);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("not a regular file"), "{output:?}");
        assert!(b.state().iter().all(|found| !found.frozen), "{name}");
    }
    assert_eq!(fs::read(&target).expect("readable"), b"precious");
    assert!(fs::symlink_metadata(b.path("link")).expect("there").is_symlink());
    let file = b.path("file.ctx").display().to_string();
    for _ in 0..2 {
        assert!(b.dpctl(&["snapshot", "site-a", "-o", &file]).status.success(), "a regular file is replaced");
    }
    let output = b.command(&["snapshot", "site-a", "-o", "-"]).current_dir(b.directory.path()).output();
    assert!(output.expect("dpctl runs").stdout.starts_with(b"BATONCTX"));
    assert!(!b.path("-").exists());
}

/// 31 tunnels: more than a small pipe holds.
fn many_tunnels(gateway: &Gateway) {
    let found = gateway.state();
    for number in 1..=30_u32 {
        let like = |found: &Snapshot| {
            let mut sa = found.sa.clone();
            sa.name = format!("site-{number}").as_str().try_into().expect("a name");
            (sa.spi, sa.reqid) = (sa.spi + number, sa.reqid + number);
            (sa, found.counters.clone())
        };
        gateway.table.put(&found.iter().map(like).collect::<Vec<_>>()).expect("installed");
    }
}

#[test]
fn i2_a_move_that_is_asked_to_stop_leaves_the_tunnels_running() {
    let b = Gateway::new(2, "demo", true);
    many_tunnels(&b);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    let mut command = b.command(&["snapshot", "--all", "--move"]);
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().expect("dpctl starts");
    drop(command);
    // It freezes tunnels until nothing more fits into the pipe.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut last = 0;
    loop {
        assert!(std::time::Instant::now() < deadline, "dpctl froze nothing, or never stopped freezing");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let frozen = b.state().iter().filter(|found| found.frozen).count();
        if frozen > 0 && frozen == last {
            break;
        }
        last = frozen;
    }
    assert!(last < b.state().len(), "the pipe was too large for this test");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    let mut written = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut written).expect("read");
    assert_eq!(child.wait().expect("dpctl ends").code(), Some(1));
    assert!(b.state().iter().all(|found| !found.frozen));
    let b2 = Gateway::new(3, "demo", false);
    b2.refuses(&written, &[], 5, "cut off");
}

#[test]
fn an_sa_is_found_by_the_spis_of_both_directions() {
    let b = Gateway::new(2, "demo", true);
    for spi in ["0x2a000001", "704643073", "0x11000001"] {
        let output = b.dpctl(&["--json", "sa", "show", spi]);
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(shown["sas"].as_array().map(Vec::len), Some(2), "{spi}: {shown}");
    }
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_the_tunnel_running() {
    let b = Gateway::new(2, "demo", true);
    let output = b.dpctl(&["snapshot", "site-a", "--move", "-o", "/dev/full/none"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(b.state().iter().all(|found| !found.frozen));
}

#[test]
fn refused_files_change_nothing() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(3, "demo", false));
    let file = b.snapshot(&["--move"]);
    b2.refuses(b"", &[], 5, "not a Baton context");
    b2.refuses(&[7; 4096], &[], 5, "not a Baton context");
    b2.refuses(&[&file[..], b"x"].concat(), &[], 5, "follows the end");
    for cut in (9..file.len()).step_by(7) {
        let output = b2.dpctl_with_input(&["restore", "-"], &file[..cut]);
        assert_eq!(output.status.code(), Some(5), "cut at {cut}: {output:?}");
    }
    for position in (0..file.len()).step_by(11) {
        let mut damaged = file.clone();
        damaged[position] ^= 0x10;
        let output = b2.dpctl_with_input(&["restore", "-"], &damaged);
        assert_eq!(output.status.code(), Some(5), "damaged at {position}: {output:?}");
    }
    assert!(b2.state().is_empty());
}

#[test]
fn a_file_of_another_cluster_key_or_in_clear_is_refused() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(3, "demo", false));
    let clear = b.snapshot(&["--clear-text"]);
    b2.refuses(&clear, &[], 5, "--clear-text");
    let file = b.snapshot(&[]);
    write_private(&b2.path("cluster.key"), &"a5".repeat(32));
    b2.refuses(&file, &[], 5, "key");
}

#[test]
fn an_older_file_is_refused() {
    let b = Gateway::new(2, "demo", true);
    let file = b.snapshot(&[]);
    let installed = b.table.get(Direction::Outbound, 7).expect("readable").expect("installed");
    b.table.slot(installed.handle).expect("live").next_sequence(1, u64::MAX).expect("a number");
    b.refuses(&file, &[], 5, "further");
}

#[test]
fn a_tunnel_that_is_unknown_or_another_one_here_is_refused() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(3, "demo", false));
    let file = b.snapshot(&["--move"]);
    let other =
        fs::read_to_string(b2.path("baton.toml")).expect("readable").replace("10.1.0.0/16", "10.9.0.0/16");
    write_private(&b2.path("baton.toml"), &other);
    b2.refuses(&file, &[], 5, "selectors");
    write_private(&b2.path("baton.toml"), &other.replace("site-a", "site-b"));
    b2.refuses(&file, &[], 5, "not in this gateway's configuration");
}

#[test]
fn i1_a_node_whose_number_has_sent_in_another_cluster_is_refused() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(2, "elsewhere", false));
    b2.refuses(&b.snapshot(&["--move"]), &[], 5, "another cluster");
}

#[test]
fn i1_senders_that_the_table_knows_are_not_forgotten() {
    let b = Gateway::new(2, "demo", true);
    let file = b.snapshot(&[]);
    let found = b.table.get(Direction::Outbound, 7).expect("readable").expect("installed");
    let (cluster, node) = (ClusterId::new(77), NodeId::new(5).expect("not 0"));
    let elsewhere = Sender { cluster, node };
    let senders = Senders::new(vec![elsewhere]).expect("one");
    b.table.put(&[(baton_sad::Sa { senders, ..found.sa }, found.counters)]).expect("installed");
    assert!(b.dpctl_with_input(&["restore", "-"], &file).status.success());
    assert!(b.state()[1].sa.senders.contains(&elsewhere), "{:?}", b.state()[1].sa.senders);
}

#[test]
fn i2_an_advance_beyond_32_bits_is_refused_without_extended_sequence() {
    let b = Gateway::new(2, "demo", true);
    let plain = fs::read_to_string(b.path("baton.toml")).expect("readable");
    let plain = plain.replace("reqid = 7\n", "reqid = 7\nextended_sequence = false\n");
    write_private(&b.path("baton.toml"), &plain);
    let config = Config::load(&b.path("baton.toml")).expect("good");
    let (inbound, outbound) = (config.tunnels[0].inbound_sa(0), config.tunnels[0].outbound_sa(0));
    b.table.update(&inbound.expect("keyed")).expect("updated");
    b.table.update(&outbound.expect("keyed")).expect("updated");
    b.refuses(&b.snapshot(&[]), &["--advance", "4294967295"], 5, "exhaust");
}

#[test]
fn keys_are_never_shown() {
    let b = Gateway::new(2, "demo", true);
    let raw = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    };
    let keys = [raw(&INBOUND_KEY[..32]), raw(&OUTBOUND_KEY[..32])];
    let sealed = b.snapshot(&[]);
    assert!(keys.iter().all(|key| !sealed.windows(16).any(|window| window == *key)), "sealed means sealed");
    let clear = b.snapshot(&["--clear-text"]);
    assert!(
        keys.iter().all(|key| clear.windows(16).any(|window| window == *key)),
        "the check above can fail"
    );
    fs::write(b.path("file.ctx"), &sealed).expect("written");
    let file = b.path("file.ctx").display().to_string();
    for arguments in
        [vec!["sa", "list"], vec!["sa", "show", "site-a"], vec!["inspect", &file], vec!["policy", "list"]]
    {
        for json in [false, true] {
            let mut arguments = arguments.clone();
            if json {
                arguments.push("--json");
            }
            let output = b.dpctl(&arguments);
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).expect("text").to_lowercase();
            for key in [INBOUND_KEY, OUTBOUND_KEY] {
                assert!(!text.contains(&key[..16]), "{arguments:?} shows a key");
            }
            if json {
                serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
            }
        }
    }
}

#[test]
fn exit_codes_tell_what_is_the_matter() {
    let b = Gateway::new(2, "demo", true);
    let exit = |arguments: &[&str]| b.dpctl(arguments).status.code();
    assert_eq!(exit(&["sa", "show", "nobody"]), Some(3));
    assert_eq!(exit(&["snapshot", "0x2a0000ff"]), Some(3));
    assert_eq!(exit(&["status"]), Some(4), "no data plane runs");
    assert_eq!(exit(&["no-such-command"]), Some(2));
    fs::set_permissions(b.path("cluster.key"), fs::Permissions::from_mode(0o644)).expect("changed");
    assert_eq!(exit(&["snapshot", "site-a"]), Some(7), "a key that others can read");
}

#[test]
fn a_snapshot_file_is_private_and_reads_back() {
    let (b, b2) = (Gateway::new(2, "demo", true), Gateway::new(3, "demo", false));
    let file = b.path("all.ctx");
    let path = file.display().to_string();
    let output = b.dpctl(&["snapshot", "--all", "--json", "-o", &path]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&report["contexts"], &report["sealed"], &report["move"]),
        (&1.into(), &true.into(), &false.into())
    );
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(b2.dpctl(&["restore", &path]).status.success());
    assert_eq!(b2.state().len(), 2);
}

#[test]
fn segments_are_the_tables_while_no_data_plane_runs() {
    let b = Gateway::new(2, "demo", true);
    assert!(b.dpctl(&["segment", "take", "0-127,200"]).status.success());
    assert!(b.dpctl(&["segment", "drop", "3"]).status.success());
    let text = String::from_utf8(b.dpctl(&["segments"]).stdout).expect("text");
    assert!(text.starts_with("owned: 0-2,4-127,200 (128 of 256)"), "{text}");
    assert_eq!(b.dpctl(&["segment", "take", "300"]).status.code(), Some(2));
}

/// I4: whoever takes segments without a vote may be the second owner.
#[test]
fn a_member_of_a_cluster_owns_nothing_by_command() {
    let b = Gateway::new(2, "demo", true);
    let path = b.path("baton.toml");
    let text = fs::read_to_string(&path).expect("text");
    let member = "[[cluster.member]]\nid = 2\naddress = \"192.0.2.2\"\n";
    write_private(&path, &format!("{text}{member}"));
    let refused = b.dpctl(&["segment", "take", "0-127"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let said = String::from_utf8(refused.stderr).expect("text");
    assert!(said.contains("start baton-cluster"), "{said}");
    assert!((0..=255).all(|segment| b.table.lease(segment) == baton_sad::NOT_OWNED));
    assert!(b.dpctl(&["segment", "drop", "all"]).status.success(), "letting go is safe");
}

/// What a newcomer reads first. A changed text is looked at before it is accepted (`cargo insta review`).
#[test]
fn help_teaches_every_command() {
    let commands: [&[&str]; 49] = [
        &[],
        &["status"],
        &["counters"],
        &["policy"],
        &["policy", "list"],
        &["policy", "add"],
        &["policy", "remove"],
        &["monitor"],
        &["top"],
        &["conn"],
        &["conn", "list"],
        &["up"],
        &["down"],
        &["ike"],
        &["ike", "list"],
        &["ike", "show"],
        &["ike", "release"],
        &["rekey"],
        &["log"],
        &["dummy"],
        &["sa"],
        &["sa", "list"],
        &["sa", "show"],
        &["sa", "thaw"],
        &["snapshot"],
        &["restore"],
        &["inspect"],
        &["segments"],
        &["segment", "take"],
        &["segment", "drop"],
        &["segment", "balance"],
        &["move"],
        &["move", "segment"],
        &["move", "tunnel"],
        &["cluster"],
        &["cluster", "init"],
        &["cluster", "invite"],
        &["cluster", "join"],
        &["cluster", "certificates"],
        &["cluster", "status"],
        &["cluster", "metrics"],
        &["cluster", "monitor"],
        &["cluster", "maintenance"],
        &["cluster", "resync"],
        &["cluster", "reload"],
        &["reload"],
        &["capture"],
        &["import-swanctl"],
        &["completions"],
    ];
    for command in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_dpctl"))
            .args(command)
            .arg("--help")
            .env_remove("BATON_CONFIG")
            .env_remove("COLUMNS")
            .stdin(Stdio::null())
            .output()
            .expect("dpctl starts");
        assert!(output.status.success(), "{output:?}");
        let name = [&["help"], command].concat().join("_");
        insta::assert_snapshot!(name, String::from_utf8(output.stdout).expect("text"));
    }
}

/// The write end of a pipe that nobody reads.
#[test]
fn a_swanctl_conf_becomes_a_private_configuration() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = |name: &str| directory.path().join(name);
    let text = "connections {\n a {\n local_addrs = 203.0.113.2\n mark_in = 7\n local { auth = psk }\n \
                remote { auth = psk }\n children { b { updown = x } } } }\nsecrets { ike { secret = Kq7secret } }\n";
    fs::write(path("swanctl.conf"), text).expect("written");
    let dpctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpctl"));
        command.current_dir(directory.path()).env_remove("BATON_CONFIG").args(arguments);
        command.output().expect("dpctl starts")
    };
    let whole = ["--node", "1", "--cluster", "demo", "--outer", "eth0", "--inner", "eth1"];
    let import = ["import-swanctl", "swanctl.conf", "-o", "baton.toml", "--json"];
    let output = dpctl(&[&import[..], &whole].concat());
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["connections"], 1);
    let lost: Vec<_> =
        report["not_carried"].as_array().expect("a list").iter().map(|one| &one["option"]).collect();
    assert_eq!(lost, ["connections.a.mark_in", "connections.a.children.b.updown"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("Kq7secret"));
    let mode = fs::metadata(path("baton.toml")).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    baton_ike::config::Config::load(&path("baton.toml")).expect("it loads as it is");
    // Without a gateway it is a part, on standard output; what is lost is on standard error.
    let output = dpctl(&["import-swanctl", "swanctl.conf"]);
    let (part, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(part.contains("[connections.a]") && !part.contains("\n[node]"), "{part}");
    assert!(told.contains("swanctl.conf:4: connections.a.mark_in") && told.contains("Remedy"), "{told}");
    fs::write(path("swanctl.conf"), "connections {\n secret = \"Kq7secret\n").expect("written");
    let output = dpctl(&["import-swanctl", "swanctl.conf"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("Kq7secret"));
    assert_eq!(dpctl(&["import-swanctl", "absent.conf"]).status.code(), Some(7));
    assert_eq!(dpctl(&["import-swanctl", "swanctl.conf", "--node", "1"]).status.code(), Some(2));
}

fn abandoned_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let b = Gateway::new(2, "demo", true);
    for arguments in [&["sa", "list"][..], &["--json", "sa", "list"], &["completions", "bash"]] {
        let output = b.command(arguments).stdout(abandoned_pipe()).output().expect("dpctl runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn i2_a_move_whose_reader_goes_away_leaves_the_tunnel_running() {
    let b = Gateway::new(2, "demo", true);
    let move_away = ["snapshot", "site-a", "--move"];
    let output = b.command(&move_away).stdout(abandoned_pipe()).output().expect("dpctl runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(b.state().iter().all(|found| !found.frozen));
}
