//! The sections of the file, one function each; `tunnel.rs` reads the `[[tunnel]]` ones.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_sad::NodeId;
use toml::Spanned;
use toml::de::DeTable;

use super::exception::{self, ExceptionPlaces};
use super::field::{bounded_name, directory, integer, unicast, word};
use super::reader::{Item, Section, Source, shortened};
use super::tunnel::{self, TunnelPlaces};
use super::{
    Acquire, Config, Crypto, Exception, HashMode, Icmp, Inner, InnerInterface, Node, Outer, OuterIo,
    Segments, Snapshot, SnapshotKey, TableSection, Tunnel, Workers, keys,
};
use crate::xdp::shared;

/// Restoring a copy jumps ahead by this many packets unless told otherwise: more than a tunnel at 1 Mpps sends
/// in a second, and a 4096th of a 32-bit sequence space.
const DEFAULT_ADVANCE: u64 = 1 << 20;

/// IFNAMSIZ without the terminating zero.
const MAX_INTERFACE_NAME: usize = 15;

/// They stand in the same file and are read, and validated, by the other daemons.
const OTHER_SECTIONS: [&str; 7] =
    ["ike", "connections", "pools", "secrets", "authorities", "eap-radius", "cluster"];

/// What was read; complete only if no problem was reported.
pub(super) struct Read {
    node: Node,
    table: TableSection,
    pub(super) outer: Outer,
    inner: Inner,
    workers: Workers,
    segments: Segments,
    snapshot: Snapshot,
    icmp: Icmp,
    acquire: Acquire,
    pub(super) exceptions: Vec<Exception>,
    pub(super) tunnels: Vec<Tunnel>,
    /// Where the fields of `tunnels` stand, index by index.
    pub(super) places: Vec<TunnelPlaces>,
    /// Where those of `exceptions` stand.
    pub(super) exception_places: Vec<ExceptionPlaces>,
}

impl Read {
    pub(super) fn into_config(self, path: &Path) -> Config {
        let names = self.tunnels.iter().map(|tunnel| tunnel.name.clone());
        Config {
            positions: names.zip(0..).collect(),
            path: path.to_owned(),
            node: self.node,
            table: self.table,
            outer: self.outer,
            inner: self.inner,
            workers: self.workers,
            segments: self.segments,
            snapshot: self.snapshot,
            icmp: self.icmp,
            acquire: self.acquire,
            exceptions: self.exceptions,
            tunnels: self.tunnels,
        }
    }
}

/// Context that fields need beyond their own text.
pub(super) struct Surroundings<'p> {
    /// Relative file names start here.
    pub(super) directory: &'p Path,
    /// Nobody but its owner can read the configuration.
    pub(super) private: bool,
}

pub(super) fn read<'a>(source: &Source<'a>, document: &Spanned<DeTable<'a>>, private: bool) -> Option<Read> {
    let root = Section::root(source, document);
    let directory = source.path().parent().unwrap_or(Path::new("")).to_owned();
    let around = Surroundings { directory: &directory, private };
    // Every section is read before the first `?`, so that all problems are told at once.
    let node = read_node(&root.section("node"));
    let table = read_table(&root.section("table"));
    let outer = read_outer(&root.section("outer"));
    let inner = read_inner(&root.section("inner"), outer.as_ref());
    let workers = read_workers(&root.section("workers"));
    let segments = read_segments(&root.section("segments"), root.get("cluster").is_some());
    let snapshot = read_snapshot(&root.section("snapshot"), &around);
    let icmp = read_icmp(&root.section("icmp"));
    let acquire = read_acquire(&root.section("acquire"));
    let exceptions = root.sections("policy").into_iter().filter_map(exception::read);
    let (exceptions, exception_places) = exceptions.unzip();
    let own = outer.as_ref().map_or(&[][..], |o| &o.addresses);
    let tunnels = root.sections("tunnel");
    let tunnels = tunnels.into_iter().filter_map(|section| tunnel::read(section, own, &around));
    let (tunnels, places) = tunnels.unzip();
    root.leave(&OTHER_SECTIONS);
    root.finish();
    Some(Read {
        node: node?,
        table: table?,
        outer: outer?,
        inner: inner?,
        workers: workers?,
        segments: segments?,
        snapshot: snapshot?,
        icmp: icmp?,
        acquire: acquire?,
        exceptions,
        tunnels,
        places,
        exception_places,
    })
}

pub(super) fn read_node(section: &Section<'_, '_>) -> Option<Node> {
    let id = section.require("id", "give this gateway a number of its own in the cluster: id = 1..=255");
    let id = id.and_then(|item| node_id(&item));
    let cluster =
        section.require("cluster", "name the cluster, the same on all its nodes: cluster = \"...\"");
    let cluster = cluster.and_then(|item| bounded_name(&item.text()?, 64));
    let state = directory(section, "state_directory", "/var/lib/baton");
    let runtime = directory(section, "runtime_directory", "/run/baton");
    let pins = directory(section, "pin_directory", "/sys/fs/bpf/baton");
    section.finish();
    Some(Node {
        id: id?,
        cluster: cluster?,
        state_directory: state?,
        runtime_directory: runtime?,
        pin_directory: pins?,
    })
}

/// The number of a member of the cluster.
pub(super) fn node_id(item: &Item<'_, '_>) -> Option<NodeId> {
    NodeId::new(u8::try_from(item.integer(1..=255)?).ok()?)
}

fn read_table(section: &Section<'_, '_>) -> Option<TableSection> {
    let capacity = integer(section, "capacity", 2..=1_000_000, 65_536);
    section.finish();
    Some(TableSection { capacity: u32::try_from(capacity?).ok()? })
}

fn read_outer(section: &Section<'_, '_>) -> Option<Outer> {
    let remedy = "name the network interface, e.g. interface = \"wan0\"";
    let interface = section.require("interface", remedy).and_then(|item| device(&item, item.string()?));
    let remedy = "list this gateway's outer addresses: addresses = [\"203.0.113.2\"]";
    let item = section.require("addresses", remedy);
    // A host on the road does not know where it will be.
    let is_any = item.as_ref().is_some_and(|item| item.is_only("%any"));
    let addresses = match item {
        Some(_) if is_any => Some(Vec::new()),
        item => item.and_then(|item| {
            let addresses = own_addresses(&item);
            if addresses.is_empty() {
                item.report("there is no usable address", remedy);
            }
            (!addresses.is_empty()).then_some(addresses)
        }),
    };
    let words = [("auto", OuterIo::Auto), ("af-xdp", OuterIo::AfXdp), ("socket", OuterIo::Socket)];
    let io = word(section, "io", &words);
    if let (true, Some(OuterIo::Auto | OuterIo::AfXdp), Some(item)) = (is_any, io, section.get("addresses")) {
        let message = "only sockets take packets for whatever address this host has";
        item.report(message, "write io = \"socket\" beside it, or list the addresses");
    }
    section.finish();
    Some(Outer { interface: interface?, addresses: addresses?, io: io? })
}

/// The filter and every packet look our addresses up.
const MAX_ADDRESSES: usize = shared::MAX_ADDRESSES as usize;

fn own_addresses(item: &Item<'_, '_>) -> Vec<IpAddr> {
    let entries = item.array();
    if entries.len() > MAX_ADDRESSES {
        let message = format!("{} addresses are too many", entries.len());
        item.report(message, format!("the filter knows {MAX_ADDRESSES} at most"));
    }
    let mut addresses = Vec::new();
    for entry in entries.iter().take(MAX_ADDRESSES) {
        let Some(address) = entry.text().and_then(|word| unicast(&word)) else { continue };
        if addresses.contains(&address) {
            entry.report(format!("{address} stands here twice"), "write it once");
        }
        addresses.push(address);
    }
    addresses
}

fn read_inner(section: &Section<'_, '_>, outer: Option<&Outer>) -> Option<Inner> {
    let remedy = "name the network interface, e.g. interface = \"lan0\" or \"tun:baton0\"";
    let item = section.require("interface", remedy);
    let interface = item.as_ref().and_then(inner_interface);
    if let (Some(interface), Some(outer), Some(item)) = (&interface, outer, &item)
        && interface.name() == outer.interface
    {
        item.report("inner and outer are the same interface", "use one interface for each side");
    }
    let anti_spoofing = section.get("anti_spoofing").map_or(Some(true), |item| item.boolean());
    let is_device = matches!(interface, Some(InnerInterface::Device(_)));
    let resolv_conf = section.get("resolv_conf");
    let resolv_conf = resolv_conf.map_or(Some(None), |item| resolv_conf_path(&item, is_device).map(Some));
    section.finish();
    Some(Inner { interface: interface?, anti_spoofing: anti_spoofing?, resolv_conf: resolv_conf? })
}

fn resolv_conf_path(item: &Item<'_, '_>, is_device: bool) -> Option<PathBuf> {
    let text = item.string()?;
    let path = PathBuf::from(text);
    if !path.is_absolute() || path.file_name().is_none() || text.contains('\0') {
        item.report("this is not the path of a file", "write all of it: resolv_conf = \"/etc/resolv.conf\"");
        return None;
    }
    if is_device {
        let remedy = "use interface = \"tun:NAME\", or remove it";
        item.report("only a host with a TUN device inside is told of DNS servers", remedy);
        return None;
    }
    Some(path)
}

fn inner_interface(item: &Item<'_, '_>) -> Option<InnerInterface> {
    let text = item.string()?;
    let Some(name) = text.strip_prefix("tun:") else { return device(item, text).map(InnerInterface::Device) };
    if name.contains('%') {
        // The kernel would put a number of its own choice there.
        item.report("a TUN interface needs a name of its own", "write it without %, e.g. \"tun:baton0\"");
        return None;
    }
    device(item, name).map(InnerInterface::Tun)
}

fn read_icmp(section: &Section<'_, '_>) -> Option<Icmp> {
    // No sooner than after five minutes may a path MTU be tried again (RFC 1191 section 6.3).
    let learned_mtu = integer(section, "learned_mtu_seconds", 300..=86_400, 600);
    let errors = integer(section, "errors_per_second", 0..=100_000, 100);
    section.finish();
    let errors_per_second = u32::try_from(errors?).ok()?;
    Some(Icmp { learned_mtu: Duration::from_secs(learned_mtu?), errors_per_second })
}

fn read_acquire(section: &Section<'_, '_>) -> Option<Acquire> {
    let hold = integer(section, "hold_seconds", 1..=60, 5);
    let held_packets = integer(section, "held_packets", 0..=4096, 64);
    let repeat = integer(section, "repeat_seconds", 1..=3600, 5);
    section.finish();
    Some(Acquire {
        hold: Duration::from_secs(hold?),
        held_packets: usize::try_from(held_packets?).ok()?,
        repeat: Duration::from_secs(repeat?),
    })
}

fn read_workers(section: &Section<'_, '_>) -> Option<Workers> {
    let cores = match section.get("cores") {
        None => Some(vec![0]),
        Some(item) => cores(&item),
    };
    let batch = integer(section, "batch", 1..=256, 32);
    let words = [("aws-lc", Crypto::AwsLc), ("rustcrypto", Crypto::RustCrypto)];
    let crypto = word(section, "crypto", &words);
    let busy_poll = integer(section, "busy_poll_microseconds", 0..=10_000, 0);
    section.finish();
    let busy_poll = Duration::from_micros(busy_poll?);
    Some(Workers { cores: cores?, batch: usize::try_from(batch?).ok()?, busy_poll, crypto: crypto? })
}

fn cores(item: &Item<'_, '_>) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for entry in item.array() {
        let core = usize::try_from(entry.integer(0..=1023)?).ok()?;
        if cores.contains(&core) {
            entry.report(format!("core {core} stands here twice"), "give each worker a core of its own");
        }
        cores.push(core);
    }
    if cores.is_empty() || cores.len() > baton_sad::MAX_WORKERS {
        let remedy = format!("list 1 to {} cores, e.g. cores = [0, 1]", baton_sad::MAX_WORKERS);
        item.report(format!("{} workers are not possible", cores.len()), remedy);
        return None;
    }
    Some(cores)
}

/// In a cluster nobody owns anything by configuration: leases say it (I4).
fn read_segments(section: &Section<'_, '_>, is_in_cluster: bool) -> Option<Segments> {
    let words = [
        ("sourceip", HashMode::SourceIp),
        ("sourceip-sourceport", HashMode::SourceIpSourcePort),
        ("sourceip-sourceport-destport", HashMode::SourceIpSourcePortDestinationPort),
    ];
    let hash = word(section, "hash", &words);
    let seed = integer(section, "seed", 0..=u64::from(u32::MAX), 0);
    let owned = match section.get("owned") {
        None if is_in_cluster => Some([0; 4]),
        None => Some([u64::MAX; 4]),
        Some(item) => segment_set(&item),
    };
    let owns_some = owned.is_some_and(|owned| owned != [0; 4]);
    if let (true, true, Some(item)) = (is_in_cluster, owns_some, section.get("owned")) {
        let message = "in a cluster (`[cluster]`) segments are owned by leases, not by configuration";
        item.report(message, "remove it, or write owned = \"none\"");
    }
    section.finish();
    Some(Segments { hash: hash?, seed: u32::try_from(seed?).ok()?, owned: owned?, by_leases: is_in_cluster })
}

fn segment_set(item: &Item<'_, '_>) -> Option<[u64; 4]> {
    if item.is_string() {
        return item.word(&[("all", [u64::MAX; 4]), ("none", [0; 4])]);
    }
    let mut set = [0; 4];
    for entry in item.array() {
        for segment in segment_range(&entry)? {
            set[usize::from(segment) / 64] |= 1 << (segment % 64);
        }
    }
    Some(set)
}

fn segment_range(entry: &Item<'_, '_>) -> Option<RangeInclusive<u8>> {
    if !entry.is_string() {
        let one = u8::try_from(entry.integer(0..=255)?).ok()?;
        return Some(one..=one);
    }
    let text = entry.string()?;
    let range =
        text.split_once('-').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    match range {
        Some((first, last)) if first <= last => Some(first..=last),
        _ => {
            let message = format!("\"{}\" is not a range of segments", shortened(text));
            entry.report(message, "write a range of 0..=255 as \"16-31\"");
            None
        }
    }
}

fn read_snapshot(section: &Section<'_, '_>, around: &Surroundings<'_>) -> Option<Snapshot> {
    let key_file = section.get("key_file").and_then(|item| {
        let path = around.directory.join(item.string()?);
        if let Err(problem) = keys::read_file(&path, SnapshotKey::OCTETS) {
            item.report(problem.message, problem.remedy);
        }
        Some(path)
    });
    let advance = integer(section, "advance", 1..=u64::from(u32::MAX), DEFAULT_ADVANCE);
    section.finish();
    Some(Snapshot { key_file, advance: advance? })
}

/// A network interface's name, which stands in `item`.
fn device(item: &Item<'_, '_>, name: &str) -> Option<String> {
    let usable = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if (1..=MAX_INTERFACE_NAME).contains(&name.len()) && name.chars().all(usable) {
        return Some(name.to_owned());
    }
    let message = format!("\"{}\" is not an interface name", shortened(name));
    item.report(message, format!("Linux names have 1 to {MAX_INTERFACE_NAME} characters; see: ip link"));
    None
}

/// A place among all policies.
pub(super) fn priority(section: &Section<'_, '_>, default: u32) -> Option<u32> {
    let priority = integer(section, "priority", 0..=u64::from(u32::MAX), default.into())?;
    u32::try_from(priority).ok()
}
