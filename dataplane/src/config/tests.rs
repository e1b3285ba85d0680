//! Bad files and what is said about them; good files and what becomes of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use baton_sad::{AddressRange, Direction, Mode, TfcPadding};
use proptest::prelude::*;

use super::*;
use crate::prefix::Prefix;

mod documentation;
mod modes;
mod policies;
mod selector;

const HEAD: &str = r#"
[node]
id = 2
cluster = "demo"
[outer]
interface = "wan0"
addresses = ["203.0.113.2"]
[inner]
interface = "lan0"
"#;

/// A tunnel with inline keys; `spi` is its inbound SPI, `n` makes it differ from others.
fn tunnel(name: &str, spi: u32, n: u8) -> String {
    format!(
        r#"
[[tunnel]]
name = "{name}"
local = "203.0.113.2"
remote = "203.0.113.1"
local_selectors = ["10.2.0.0/16"]
remote_selectors = ["10.1.{n}.0/24"]
suite = "aes128gcm16"
[tunnel.inbound]
spi = {spi:#x}
key = "{}"
[tunnel.outbound]
spi = {:#x}
key = "{}"
"#,
        format!("{n:02x}").repeat(20),
        0x1100_0000 + u32::from(n),
        format!("{:02x}", n + 0x80).repeat(20),
    )
}

fn good() -> String {
    HEAD.to_owned() + &tunnel("site-a", 0x2a00_0001, 1)
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse_as(text, Path::new("baton.toml"), true)
}

fn complaint(text: &str) -> String {
    parse(text).expect_err("this configuration is bad").to_string()
}

#[test]
fn a_small_file_gets_the_documented_defaults() {
    let config = parse(&good()).unwrap();
    assert_eq!(config.table_path(), Path::new("/run/baton/sa-table"));
    assert_eq!(config.workers.cores, [0]);
    assert_eq!(config.segments.owned, [u64::MAX; 4]);
    assert_eq!(config.snapshot.advance, 1 << 20);
    let tunnel = config.tunnel("site-a").unwrap();
    assert_eq!((tunnel.segment, tunnel.replay_window), (0x2a, 1024));
    assert!(tunnel.reqid >= 0x8000_0000, "derived from the name");
    assert_eq!(config.inner_prefixes(), [("10.1.1.0/24".parse().unwrap(), 0x2a)]);
    assert_eq!(config.protected_prefixes(), ["10.1.1.0/24".parse().unwrap()]);
    let protect = PolicyAction::Protect { reqid: tunnel.reqid, segment: 0x2a };
    assert_eq!(config.policies()[0].action, protect);
    assert_eq!((config.outer.io, config.inner.anti_spoofing), (OuterIo::Auto, true));
    assert_eq!(config.inner.interface, InnerInterface::Device("lan0".into()));
    assert_eq!((config.icmp.learned_mtu, config.icmp.errors_per_second), (Duration::from_mins(10), 100));
    assert_eq!((config.acquire.hold, config.acquire.held_packets), (Duration::from_secs(5), 64));
    assert_eq!((tunnel.mode, tunnel.encapsulation, tunnel.clamp_mss), (Mode::Tunnel, None, true));
    assert_eq!((tunnel.tfc_padding, tunnel.lifetimes), (TfcPadding::Off, Lifetimes::default()));
}

#[test]
fn a_tunnel_gives_valid_sas_of_both_directions() {
    let config = parse(&good()).unwrap();
    let (inbound, outbound) =
        (config.tunnels[0].inbound_sa(0).unwrap(), config.tunnels[0].outbound_sa(0).unwrap());
    inbound.validate().unwrap();
    outbound.validate().unwrap();
    assert_eq!((inbound.direction, outbound.direction), (Direction::Inbound, Direction::Outbound));
    assert_eq!((inbound.spi, inbound.peer_spi), (0x2a00_0001, 0x1100_0001));
    assert_eq!((outbound.spi, outbound.peer_spi), (0x1100_0001, 0x2a00_0001));
    assert_eq!((inbound.source, outbound.source), (config.tunnels[0].remote, config.tunnels[0].local));
}

#[test]
fn a_tunnel_may_wait_for_a_restore() {
    let text = good();
    let waiting = text.split("[tunnel.inbound]").next().unwrap().to_owned() + "segment = 42\n";
    let config = parse(&waiting).unwrap();
    assert_eq!(config.tunnels[0].segment, 42);
    assert!(config.tunnels[0].inbound_sa(0).is_none());
}

#[test]
fn segments_are_read_as_a_set() {
    let config = parse(&(good() + "[segments]\nowned = [0, \"62-65\"]\n")).unwrap();
    assert_eq!(config.segments.owned, [1 | 3 << 62, 3, 0, 0]);
}

#[test]
fn sections_of_ike_are_left_to_it() {
    let ike = "[ike]\nport = \"what?\"\n[connections.a.local]\n[pools.b]\n[secrets.c]\n[authorities.d]\n";
    assert!(parse(&(good() + ike)).is_ok());
    assert!(parse(&(good() + "[connection.a]\n")).is_err());
}

#[test]
fn all_problems_are_told_at_once() {
    let text = r#"
[node]
id = 0
cluser = "demo"
[outer]
interface = "wan0"
addresses = ["2001:db8::1", "224.0.0.1"]
[inner]
interface = "wan0"
[workers]
cores = [1, 1]
batch = 0
crypto = "awslc"
"#;
    insta::assert_snapshot!(complaint(text));
}

#[test]
fn a_file_of_mistakes_is_answered_in_bounded_time() {
    let errors = parse(&(good() + &"[[tunnel]]\n".repeat(20_000))).unwrap_err();
    assert_eq!(errors.problems().len(), 1000);
}

#[test]
fn syntax_errors_have_a_place() {
    insta::assert_snapshot!(complaint("[node\nid = \n"));
}

#[test]
fn types_are_told_apart() {
    let text = good() + "extended_sequence = 1\n[table]\ncapacity = \"many\"\n[snapshot]\nadvance = 1.5\n";
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn unknown_keys_get_a_hint() {
    let text = good().replace("remote_selectors", "remote_selector").replace("suite", "algorithm");
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn reserved_spis_are_refused() {
    insta::assert_snapshot!(complaint(&good().replace("0x2a000001", "0xff")));
}

#[test]
fn a_segment_that_is_not_the_spis_is_refused() {
    let text = good().replace("suite =", "segment = 7\nsuite =");
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn one_direction_alone_is_refused() {
    let text = good();
    insta::assert_snapshot!(complaint(text.split("[tunnel.outbound]").next().unwrap()));
}

#[test]
fn a_waiting_tunnel_without_segment_is_refused() {
    let text = good();
    insta::assert_snapshot!(complaint(text.split("[tunnel.inbound]").next().unwrap()));
}

#[test]
fn keys_of_the_wrong_length_are_refused_exactly_and_not_printed() {
    let text = good().replace("aes128gcm16", "aes256gcm16");
    let complaint = complaint(&text);
    assert!(!complaint.contains("0101"), "{complaint}");
    insta::assert_snapshot!(complaint);
}

#[test]
fn keys_that_are_not_hex_are_refused() {
    insta::assert_snapshot!(complaint(&good().replace("key = \"01", "key = \"zz")));
}

#[test]
fn i1_one_key_for_two_sas_is_refused() {
    let text = good().replace(&"81".repeat(20), &"01".repeat(20));
    insta::assert_snapshot!(complaint(&text));
    let text = good() + &tunnel("site-b", 0x2a00_0002, 2).replace(&"02".repeat(20), &"01".repeat(20));
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn inline_keys_need_a_private_file() {
    let error = Config::parse_as(&good(), Path::new("baton.toml"), false).unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn clashes_between_tunnels_are_refused() {
    let text = good() + &tunnel("site-a", 0x2a00_0001, 2);
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn one_destination_in_two_segments_is_refused() {
    let other = tunnel("site-b", 0x2b00_0001, 2).replace("10.1.2.0/24", "10.1.0.0/16");
    insta::assert_snapshot!(complaint(&(good() + &other)));
}

#[test]
fn one_pair_of_networks_in_two_tunnels_is_refused() {
    let other = tunnel("site-b", 0x2a00_0002, 2).replace("10.1.2.0/24", "10.1.1.0/24");
    insta::assert_snapshot!(complaint(&(good() + &other)));
}

#[test]
fn addresses_and_selectors_are_checked() {
    let text = good()
        .replace("local = \"203.0.113.2\"", "local = \"198.51.100.9\"")
        .replace("remote = \"203.0.113.1\"", "remote = \"203.0.113.2\"")
        .replace(
            "[\"10.2.0.0/16\"]",
            "[\"10.2.0.1/16\", \"2001:db8::/32\", \"10.3.0.0/16\", \"10.4.0.0/40\"]",
        )
        .replace(
            "[\"10.1.1.0/24\"]",
            "[\"10.1.1.0/24\", \"10.1.2.0/24\", \"x\", \"10.3.3.0/24\", \"10.1.9.0/24\", \"10.1.8.0/24\"]",
        );
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn numbers_have_bounds() {
    let text = good().replace(
        "suite =",
        "replay_window = 100\ndscp = 64\ndf = \"sett\"\npath_mtu = 9\nreqid = 0\nsuite =",
    );
    insta::assert_snapshot!(complaint(&text));
}

fn in_directory(files: &[(&str, &str, u32)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text, mode) in files {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    directory
}

fn with_key_files() -> String {
    good()
        .replace(&format!("key = \"{}\"", "01".repeat(20)), "key_file = \"in.key\"")
        .replace(&format!("key = \"{}\"", "81".repeat(20)), "key_file = \"out.key\"")
}

#[test]
fn key_files_lie_beside_the_configuration() {
    let (key, other) = ("01".repeat(20) + "\n", format!("0x{}", "81 ".repeat(20)));
    let files =
        [("baton.toml", &*with_key_files(), 0o644), ("in.key", &key, 0o600), ("out.key", &other, 0o400)];
    let directory = in_directory(&files);
    let config = Config::load(&directory.path().join("baton.toml")).unwrap();
    assert_eq!(config.tunnels[0].inbound.as_ref().unwrap().key.expose(), [1; 20]);
    assert_eq!(config.tunnels[0].outbound.as_ref().unwrap().key.expose(), [0x81; 20]);
}

#[test]
fn readable_absent_and_short_key_files_are_refused() {
    let text = with_key_files() + "[snapshot]\nkey_file = \"absent.key\"\n";
    let files = [("baton.toml", &*text, 0o644), ("in.key", "01", 0o640), ("out.key", "0101", 0o600)];
    let directory = in_directory(&files);
    let error = Config::load(&directory.path().join("baton.toml")).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(directory.path().to_str().unwrap(), "DIR"));
}

#[test]
fn an_absent_file_is_told() {
    let error = Config::load(Path::new("/nonexistent/baton.toml")).unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn debug_output_has_no_keys() {
    let shown = format!("{:?}", parse(&good()).unwrap());
    assert!(!shown.contains("1, 1, 1") && !shown.contains("0101") && !shown.contains("129, 129"), "{shown}");
}

/// Pieces that make nearly valid files, so that the readers behind the syntax are reached.
fn fragments() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("[node]\n".to_owned()), Just("[[tunnel]]\n".to_owned()), Just("[tunnel.inbound]\n".to_owned()),
        Just("[segments]\n".to_owned()), Just("[snapshot]\n".to_owned()), Just(tunnel("x", 0x100, 3)),
        Just("[[policy]]\n".to_owned()), Just("mode = \"transport\"\nencapsulation = \"udp\"\n".to_owned()),
        ("(local_selectors|remote_selectors)", "(10\\.1\\.0\\.[0-9]{1,3}(-10\\.1\\.[0-9]{1,3}\\.7|/[0-9]{1,2})?|::[0-9a-f]{0,4}(-::ffff|/[0-9]{1,3})?|dynamic)(\\[(tcp|icmp|mh|any|[0-9]{1,3})?(/[0-9o]{1,5}(-[0-9]{1,5})?)?\\]?)?")
            .prop_map(|(k, v)| format!("{k} = [\"{v}\", \"10.9.0.0/16\"]\n")),
        ("(rekey|life)_(time|bytes|packets|sequence)", "(\"[0-9]{0,20} ?[smhdkKGTw]?\"|[0-9]{1,10})")
            .prop_map(|(k, v)| format!("{k} = {v}\n")),
        ("(id|name|spi|key|key_file|local|remote_selectors|owned|cores|reqid|dscp|io|interface|action|segment|priority|tfc_padding|path_mtu|remote_port)", "(0|-1|0x2a000001|\"0-9\"|\"a/b\"|\"::/0\"|\"\\\\u0000\"|\\[\\]|\\[0, \"5-2\"\\]|\\{\\}|1e9|99999999999999999999|\"[0-9a-f]{0,60}\")")
            .prop_map(|(k, v)| format!("{k} = {v}\n")),
        "\\PC{0,20}\n",
    ];
    proptest::collection::vec(pieces, 0..12).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn nearly_valid_text_never_panics(text in fragments(), head in any::<bool>()) {
        let _ = parse(&if head { good() + &text } else { text });
    }

    #[test]
    fn a_cut_file_never_panics(cut in 0..600_usize) {
        let text = good();
        let _ = parse(&text[..cut.min(text.len())]);
    }
}

#[test]
fn pipes_and_devices_are_no_files_and_are_not_waited_for() {
    let directory = in_directory(&[]);
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let (told, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            let _ = told.send(Config::load(path).map(drop).expect_err("no file").to_string());
            let _ = told.send(SnapshotKey::read(path).map(drop).expect_err("no file").to_string());
        }
    });
    for words in ["not a regular file", "not a file", "not a regular file", "not a file"] {
        let answer = answers.recv_timeout(std::time::Duration::from_secs(10)).expect("an answer at once");
        assert!(answer.contains(words), "{answer}");
    }
}
