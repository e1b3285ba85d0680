//! strongSwan's plugin `ha` in the same place: two gateways and a client, with its ESP in userspace.
//!
//! The plugin wants the kernel to share the cluster's addresses between the nodes (ClusterIP); here the active one has
//! them, and they go over as soon as the other one logs that it takes over, which costs it next to nothing. Each takeover
//! is of a fresh pair: the plugin renews the keys of all Child SAs when a node comes back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton_lab::charon::Section;
use baton_lab::gateway::write_secret;
use baton_lab::site::now;
use baton_lab::topology::{A_NETWORK, A_OUTER, B_NETWORK, B_OUTER, CLIENT, Topology, wire};
use baton_lab::{Lab, Namespace, Process, charon};
use std::process::Command;

use crate::Options;
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::Result;
use crate::takeover::{Event, Observed, Outcome, add, milliseconds};

const PLUGINS: &str = "random nonce openssl pem pkcs1 pkcs8 x509 pubkey curve25519 aes sha1 sha2 hmac kdf gcm ctr drbg \
                       kernel-libipsec kernel-netlink socket-default vici counters";
/// What it was measured to take on the same kind of machine by hand, for where it cannot run: takeover, first reply, ms.
const QUOTED: &str =
    "strongSwan 5.9.8 elsewhere (quoted, not of this run): takeover after 1870 ms, first reply after 7200 ms";
const START: Duration = Duration::from_secs(20);
/// How long a takeover and its aftermath may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// Traffic before a node dies: the new one begins its sequence numbers at 1, and the client hears it when it is past them.
const TRAFFIC: Duration = Duration::from_secs(2);
const SECRET: &str = "thirty-two octets of no meaning.";
const TAKES: &str = "taking all segments";

/// Measures it, or says why not.
pub fn run(report: &mut Report, options: Options) {
    if let Err(lacking) = requirements() {
        println!("SKIPPED strongSwan's ha plugin: {lacking}\n{QUOTED}");
        return;
    }
    let rounds = if options.quick { 2 } else { 10 };
    let bar = Progress::new("takeover, strongSwan", rounds);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for round in 0..rounds {
        match Pair::start().and_then(|pair| pair.take_over(round)) {
            Ok(outcome) => outcomes.extend(outcome),
            Err(problem) => println!("strongSwan's ha plugin did not come through: {problem}"),
        }
        bar.step();
    }
    bar.end();
    if outcomes.is_empty() {
        println!("{QUOTED}");
    }
    add(report, "strongSwan ha", 1, &outcomes);
}

fn requirements() -> std::result::Result<(), String> {
    charon::requirements()?;
    let plugin = Path::new("/usr/lib/ipsec/plugins/libstrongswan-ha.so");
    if plugin.exists() { Ok(()) } else { Err(format!("{} is missing: run ./dev setup", plugin.display())) }
}

/// A charon of the three.
struct Daemon {
    process: Process,
    folder: PathBuf,
}

/// Fields drop in order: processes before the lab that holds their namespaces.
struct Pair {
    nodes: [Daemon; 2],
    client: Daemon,
    topology: Topology,
    _lab: Lab,
}

impl Pair {
    /// Node B is active, B2 follows, and the client has its tunnel.
    fn start() -> Result<Self> {
        let lab = Lab::new()?;
        let topology = Topology::build_with_client_outside(&lab)?;
        lay_out(&topology)?;
        let mut first = Daemon::start(&lab, &topology.b, "node-0", Some(0))?;
        first.process.wait_for_line("it takes all segments", START, |line| line.contains(TAKES))?;
        give_addresses(&topology, 0)?;
        first.load(&connection(false))?;
        let second = Daemon::start(&lab, &topology.b2, "node-1", Some(1))?;
        second.load(&connection(false))?;
        let client = Daemon::start(&lab, &topology.client, "client", None)?;
        client.load(&connection(true))?;
        client.swanctl(&["--initiate", "--child", "net", "--timeout", "10"])?;
        let pair = Self { nodes: [first, second], client, topology, _lab: lab };
        // The other one has to have it before the first can die.
        pair.wait("the standby has the tunnel", |pair| {
            pair.nodes[1].process.log().contains("installed HA CHILD_SA")
        })?;
        Ok(pair)
    }

    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > deadline {
                let logs =
                    [&self.nodes[0], &self.nodes[1], &self.client].map(|daemon| tail(&daemon.process.log()));
                return Err(format!("{what}: not in time\n{}", logs.join("\n---\n")).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The first node dies under traffic.
    fn take_over(mut self, round: usize) -> Result<Vec<Outcome>> {
        let observed = Observed::start(&self.topology)?;
        observed.flows()?;
        let client = observed.client(round)?;
        std::thread::sleep(TRAFFIC);
        // Its links go with it: a dead machine's kernel answers nobody.
        let killed = now();
        self.topology.b.ip("link set wan0 down\nlink set lan0 down")?;
        self.nodes[0].process.kill();
        let takes = |pair: &Self| pair.nodes[1].process.log().contains(TAKES);
        self.wait("the takeover", takes)?;
        let decided = now().saturating_sub(killed);
        give_addresses(&self.topology, 1)?;
        observed.flows()?;
        // Enough for the download to come on again.
        std::thread::sleep((now().saturating_sub(killed)).max(TRAFFIC));
        let until = now();
        let seen = client.finish(killed, until)?;
        observed.judge(&[Event { died: 0, killed, until, decided: Some(decided), seen }])
    }
}

/// Nodes with addresses of their own beside the cluster's, and a network between them.
fn lay_out(topology: &Topology) -> Result<()> {
    for (number, node) in [(11, &topology.b), (12, &topology.b2)] {
        node.ip(&format!(
            "link set wan0 down\nlink set lan0 down\nlink set wan0 address 02:ba:70:00:02:{number}\n\
             link set lan0 address 02:ba:70:00:03:{number}\naddress flush dev wan0\naddress flush dev lan0\n\
             link set wan0 up\nlink set lan0 up\naddress add 203.0.113.{number}/24 dev wan0\n\
             address add 10.2.0.{number}/16 dev lan0\nroute add default via {A_OUTER}"
        ))?;
        node.set("net/ipv4/ip_nonlocal_bind", "1")?;
    }
    wire(&topology.b, "sync0", &topology.b2, "sync0")?;
    for (number, node) in [(1, &topology.b), (2, &topology.b2)] {
        node.ip(&format!("link set sync0 up\naddress add 192.0.2.{number}/24 dev sync0"))?;
    }
    Ok(topology.client.ip(&format!("address add {CLIENT}/32 dev lo"))?)
}

/// The cluster's addresses are at a node now, and its neighbours hear of it.
fn give_addresses(topology: &Topology, index: usize) -> Result<()> {
    let node = if index == 0 { &topology.b } else { &topology.b2 };
    node.ip(&format!("address add {B_OUTER}/24 dev wan0\naddress add 10.2.0.1/16 dev lan0"))?;
    topology.client.ip("neigh flush dev wan0")?;
    Ok(topology.server.ip("neigh flush dev eth0")?)
}

impl Daemon {
    fn start(lab: &Lab, namespace: &Namespace, name: &str, node: Option<usize>) -> Result<Self> {
        let folder = lab.path().join(name);
        std::fs::create_dir_all(folder.join("swanctl"))?;
        let socket = folder.join("vici");
        let log = Section::new().set("default", 1).set("flush_line", "yes");
        let plugins = Section::new()
            .with("kernel-libipsec", Section::new().set("load", 100))
            .with("vici", Section::new().set("socket", format!("unix://{}", socket.display())));
        let plugins = node.map_or_else(|| plugins.clone(), |node| plugins.clone().with("ha", ha(node)));
        let load = if node.is_some() { format!("{PLUGINS} ha") } else { PLUGINS.to_owned() };
        let daemon = Section::new().set("load", load).with("plugins", plugins);
        let daemon = daemon.with("filelog", Section::new().with("stderr", log));
        let swanctl = Section::new().set("load", "pem pkcs1 x509 pubkey openssl random");
        let text = Section::new().with("charon-systemd", daemon).with("swanctl", swanctl).to_configuration();
        write_secret(&folder.join("strongswan.conf"), &text)?;
        // The plugin's FIFO has a fixed place: each node gets a /run of its own.
        let mut command = namespace.command("unshare");
        command.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec /usr/sbin/charon-systemd"]);
        environment(&mut command, &folder);
        let daemon = Self { process: lab.start(name, command)?, folder };
        let deadline = Instant::now() + START;
        while !socket.exists() {
            if Instant::now() > deadline {
                return Err(format!("charon does not start: {}", tail(&daemon.process.log())).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    fn load(&self, connection: &Section) -> Result<()> {
        write_secret(&self.folder.join("swanctl/swanctl.conf"), &connection.to_configuration())?;
        self.swanctl(&["--load-all"])
    }

    fn swanctl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("swanctl");
        environment(&mut command, &self.folder);
        command.args(arguments).args(["--uri", &format!("unix://{}", self.folder.join("vici").display())]);
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("swanctl {}: {said}\n{}", arguments.join(" "), tail(&self.process.log())).into())
    }
}

fn environment(command: &mut Command, folder: &Path) {
    command.env("STRONGSWAN_CONF", folder.join("strongswan.conf")).env("SWANCTL_DIR", folder.join("swanctl"));
}

/// As its documentation recommends for a pair; one segment, since one node is active.
fn ha(node: usize) -> Section {
    Section::new()
        .set("local", format!("192.0.2.{}", node + 1))
        .set("remote", format!("192.0.2.{}", 2 - node))
        .set("segment_count", 1)
        .set("fifo_interface", "yes")
        .set("monitor", "yes")
        .set("resync", "yes")
}

fn connection(is_client: bool) -> Section {
    let (own, other) =
        ((A_OUTER, "client.bench.test", A_NETWORK), (B_OUTER, "cluster.bench.test", B_NETWORK));
    let (own, other) = if is_client { (own, other) } else { (other, own) };
    let child =
        Section::new().set("local_ts", own.2).set("remote_ts", other.2).set("esp_proposals", "aes128gcm16");
    let connection = Section::new()
        .set("version", 2)
        .set("local_addrs", own.0)
        .set("remote_addrs", other.0)
        .set("proposals", "aes128-sha256-x25519")
        .set("mobike", "no")
        .with("local", Section::new().set("auth", "psk").set("id", own.1))
        .with("remote", Section::new().set("auth", "psk").set("id", other.1))
        .with("children", Section::new().with("net", child));
    let secret = Section::new().set("secret", SECRET);
    Section::new()
        .with("connections", Section::new().with("peer", connection))
        .with("secrets", Section::new().with("ike-1", secret))
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// How long Baton's clients waited for one of strongSwan's, in one sentence.
pub fn print_ratio(report: &Report) {
    for part in ["takeover-gap", "takeover-tcp", "takeover-udp"] {
        let medians = report.median(part, "Baton", 10).zip(report.median(part, "strongSwan ha", 1));
        if let Some((ours, theirs)) = medians {
            let theirs_ms = milliseconds(Duration::from_secs_f64(theirs / 1e3));
            println!(
                "{part}: Baton / strongSwan ha = {:.4} ({ours:.1} ms, {theirs_ms:.0} ms)",
                ours / theirs
            );
        }
    }
}
