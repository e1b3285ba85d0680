//! `baton-dataplane --replay`: the pipeline on pcap files, without interfaces: what one gateway seals, the other opens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const KEYS: [&str; 2] =
    ["00112233445566778899aabbccddeeff01020304", "ffeeddccbbaa9988776655443322110005060708"];
const OUTER: [&str; 2] = ["203.0.113.1", "203.0.113.2"];
const NETWORKS: [&str; 2] = ["10.1.0.0/16", "10.2.0.0/16"];
const SPIS: [&str; 2] = ["0x11000001", "0x2a000001"];
const ETHERNET: usize = 14;

/// The configuration of gateway 0 or 1 of a pair.
fn configuration(directory: &Path, end: usize) -> PathBuf {
    let (place, peer) = (directory.join(format!("node-{end}")), 1 - end);
    let (state, id) = (place.display(), end + 1);
    let text = format!(
        "[node]\nid = {id}\ncluster = \"test\"\nstate_directory = \"{state}\"\nruntime_directory = \"{state}\"\n\
         [outer]\ninterface = \"wan0\"\naddresses = [\"{}\"]\n[inner]\ninterface = \"lan0\"\n[[tunnel]]\n\
         name = \"site-a\"\nreqid = 7\nlocal = \"{}\"\nremote = \"{}\"\nlocal_selectors = [\"{}\"]\n\
         remote_selectors = [\"{}\"]\nsuite = \"aes128gcm16\"\n[tunnel.inbound]\nspi = {}\nkey = \"{}\"\n\
         [tunnel.outbound]\nspi = {}\nkey = \"{}\"\n",
        OUTER[end],
        OUTER[end],
        OUTER[peer],
        NETWORKS[end],
        NETWORKS[peer],
        SPIS[end],
        KEYS[end],
        SPIS[peer],
        KEYS[peer],
    );
    let path = directory.join(format!("gateway-{end}.toml"));
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
    path
}

/// A UDP packet of `length` octets of IP from network 0 to network 1, in an Ethernet frame.
fn plaintext(length: u16, number: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let mut header = vec![0x45, 0, 0, 0, 0, number, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9];
    header[2..4].copy_from_slice(&length.to_be_bytes());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    frame.extend(header);
    frame.extend([0x30, 0x39, 0x30, 0x39]);
    frame.extend((length - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(ETHERNET + usize::from(length), number);
    frame
}

fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut octets =
        vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
    for (number, frame) in (0_u32..).zip(frames) {
        for word in [1_000_000 + number, 0, frame.len() as u32, frame.len() as u32] {
            octets.extend(word.to_le_bytes());
        }
        octets.extend(frame);
    }
    fs::write(path, octets).expect("written");
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let octets = fs::read(path).expect("readable");
    let (mut rest, mut frames) = (&octets[24..], Vec::new());
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().expect("4 octets")) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

fn replay(config: &Path, input: &Path, output: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baton-dataplane"))
        .arg("--config")
        .arg(config)
        .arg("--replay")
        .arg(input)
        .arg("--out")
        .arg(output)
        .output()
        .expect("it starts")
}

#[test]
fn what_one_gateway_seals_the_other_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let sent: Vec<_> = (0..50_u8).map(|number| plaintext(64 + u16::from(number) * 25, number)).collect();
    write_pcap(&path("clear.pcap"), &sent);

    let sealed = replay(&configuration(directory.path(), 0), &path("clear.pcap"), &path("esp.pcap"));
    assert!(sealed.status.success(), "{sealed:?}");
    let esp = read_pcap(&path("esp.pcap"));
    assert_eq!(esp.len(), sent.len(), "{sealed:?}");
    for (frame, clear) in esp.iter().zip(&sent) {
        assert_eq!(frame[ETHERNET + 9], 50, "ESP and nothing else");
        let payload = &clear[ETHERNET + 28..];
        assert!(!frame.windows(payload.len().min(32)).any(|window| window == &payload[..window.len()]));
    }

    // Once more the first packet: a replay in the other sense.
    let mut arriving = esp.clone();
    arriving.push(esp[0].clone());
    write_pcap(&path("esp.pcap"), &arriving);
    let opened = replay(&configuration(directory.path(), 1), &path("esp.pcap"), &path("again.pcap"));
    assert!(opened.status.success(), "{opened:?}");
    let received = read_pcap(&path("again.pcap"));
    assert_eq!(received.len(), sent.len(), "{opened:?}");
    for (frame, clear) in received.iter().zip(&sent) {
        assert_eq!(frame[ETHERNET + 12..], clear[ETHERNET + 12..], "addresses and payload");
        assert_eq!(frame[ETHERNET + 8], clear[ETHERNET + 8] - 2, "two gateways are two hops");
    }
    assert!(String::from_utf8_lossy(&opened.stdout).contains("dropped 1: replayed"), "{opened:?}");
    let mode = fs::metadata(path("again.pcap")).expect("there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "it holds plaintext");
}

#[test]
fn a_damaged_capture_is_refused_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    write_pcap(&path("clear.pcap"), &[plaintext(100, 1)]);
    let mut octets = fs::read(path("clear.pcap")).expect("readable");
    octets.truncate(60);
    fs::write(path("clear.pcap"), octets).expect("written");
    let output = replay(&configuration(directory.path(), 0), &path("clear.pcap"), &path("esp.pcap"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!output.stderr.is_empty());
}
