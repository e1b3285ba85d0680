//! A cluster on its stage: nodes B and B2 and a witness, each in a namespace of its own, and gateway A with a client
//! in front of them. Statically keyed tunnels, so that ten thousand of them stand as soon as the daemons do.

use std::error::Error;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use baton_lab::gateway::{random, write_secret};
use baton_lab::site::{SEGMENT, Site};
use baton_lab::topology::{B_NETWORK, wire};
use baton_lab::{Gateway, GatewaySpec, Lab, LabError, Namespace, Process, SaSpec, TunnelSpec, requirements};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a daemon may take to start here.
const START: Duration = Duration::from_mins(1);
/// How long a standby may take to have everything, and other things that come by themselves.
pub const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(10);
/// Node ids of B and B2.
pub const NODES: [u8; 2] = [2, 3];
const WITNESS: u8 = 9;
/// B owns the lower half of the segments at first: all tunnels are there.
const SEGMENTS: u32 = 128;
/// SPIs of tunnels that stand beside the one with traffic, below the segment's octet.
const FIRST_SPI: u32 = 0x0001_0000;

/// What differs between the clusters that are measured.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Tunnels that stand; one of them has traffic.
    pub tunnels: u32,
    /// Between heartbeats.
    pub interval: Duration,
    /// Heartbeats that may be missing.
    pub missed: u32,
    /// Further lines of `[cluster]`.
    pub options: String,
}

impl Setup {
    /// With the heartbeats that are the default.
    pub fn new(tunnels: u32) -> Self {
        Self { tunnels, interval: Duration::from_millis(10), missed: 3, options: String::new() }
    }

    fn members(&self) -> String {
        let mut text = format!(
            "\n[cluster]\nbalance = \"manual\"\nsettle_milliseconds = 100\ninterval_milliseconds = {}\nmissed = {}\n{}\n",
            self.interval.as_millis(),
            self.missed,
            self.options
        );
        for id in NODES.into_iter().chain([WITNESS]) {
            let role = if id == WITNESS { "witness" } else { "node" };
            let _ = write!(
                text,
                "[[cluster.member]]\nid = {id}\naddress = \"192.0.2.{id}\"\nrole = \"{role}\"\n"
            );
        }
        text
    }
}

/// Fields drop in order: processes before the lab that holds their namespaces.
pub struct Stage {
    nodes: [Option<Process>; 2],
    witness: Option<Process>,
    pub site: Site,
    pub sync: Namespace,
    voter: Namespace,
    witness_config: PathBuf,
}

impl Stage {
    /// Lays everything out; nothing runs.
    pub fn build(setup: &Setup) -> Result<Self> {
        let mut site = Site::build(Lab::new()?)?;
        let sync = site.lab.namespace("sync")?;
        let voter = site.lab.namespace("voter")?;
        sync.ip("link add hub type bridge\nlink set hub up")?;
        let places = [&site.topology.b, &site.topology.b2, &voter];
        for (namespace, id) in places.into_iter().zip(NODES.into_iter().chain([WITNESS])) {
            wire(namespace, "sync0", &sync, &format!("to{id}"))?;
            sync.ip(&format!("link set to{id} master hub\nlink set to{id} up"))?;
            namespace.ip(&format!("link set sync0 up\naddress add 192.0.2.{id}/24 dev sync0"))?;
        }
        let keyed = tunnels(&site.b.spec().tunnels[0], setup.tunnels)?;
        let waiting = keyed.iter().map(TunnelSpec::without_keys).collect();
        site.b = clustered(&site.lab, &site.b, setup, keyed)?;
        site.b2 = clustered(&site.lab, &site.b2, setup, waiting)?;
        let witness_config = witness(&site.lab, setup)?;
        let stage = Self { nodes: [None, None], witness: None, site, sync, voter, witness_config };
        stage.make_certificates()?;
        Ok(stage)
    }

    /// Lays everything out and starts it, up to where each node has what it needs to stand in for the other.
    pub fn start(setup: &Setup) -> Result<Self> {
        let mut stage = Self::build(setup)?;
        stage.site.a.start(&stage.site.lab)?;
        stage.start_node(0)?;
        stage.start_witness()?;
        stage.wait("the node owns everything", || Ok(stage.owned(0)?.len() == 256))?;
        stage.start_node(1)?;
        stage.wait_for_standby(0)?;
        Ok(stage)
    }

    /// As an operator does it: begin on one machine, invite the others.
    fn make_certificates(&self) -> Result<()> {
        let Site { b, b2, lab, .. } = &self.site;
        b.dpctl(&["cluster", "init"])?;
        let invitation = |id: u8| b.dpctl(&["cluster", "invite", &id.to_string()]);
        let joined = b2.dpctl_output(&["cluster", "join", "-"], invitation(NODES[1])?.as_bytes())?;
        let path = lab.path().join("invitation");
        write_secret(&path, &invitation(WITNESS)?)?;
        let mut dpctl = Command::new(requirements::binary("dpctl"));
        dpctl.arg("--config").arg(&self.witness_config).args(["cluster", "join"]).arg(&path);
        if joined.status.success() && dpctl.status()?.success() {
            Ok(())
        } else {
            Err("a member cannot join".into())
        }
    }

    pub fn gateway(&self, index: usize) -> &Gateway {
        if index == 0 { &self.site.b } else { &self.site.b2 }
    }

    /// Starts the daemons of a node.
    pub fn start_node(&mut self, index: usize) -> Result<()> {
        let Site { lab, b, b2, .. } = &mut self.site;
        let gateway = if index == 0 { b } else { b2 };
        gateway.start(lab)?;
        let mut command = gateway.namespace().command(&binary());
        command.arg("--config").arg(gateway.config());
        self.nodes[index] = Some(launch(lab, &format!("cluster-{index}"), command)?);
        Ok(())
    }

    fn start_witness(&mut self) -> Result<()> {
        let mut command = self.voter.command(&binary());
        command.arg("--witness").arg("--config").arg(&self.witness_config);
        self.witness = Some(launch(&self.site.lab, "witness", command)?);
        Ok(())
    }

    /// What `dpctl cluster status` says at a node.
    pub fn status(&self, index: usize) -> Result<Value> {
        Ok(self.gateway(index).dpctl_json(&["cluster", "status"])?)
    }

    /// Its segments.
    pub fn owned(&self, index: usize) -> Result<Vec<u64>> {
        let status = self.status(index)?;
        Ok(status["owned"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect())
    }

    /// The node that has the tunnel with traffic.
    pub fn owner(&self) -> Result<usize> {
        for index in 0..2 {
            if self.owned(index)?.contains(&u64::from(SEGMENT)) {
                return Ok(index);
            }
        }
        Err("nobody owns the tunnel".into())
    }

    /// A number of a node's status, which is there.
    pub fn total(&self, index: usize, name: &str) -> Result<u64> {
        self.status(index)?["totals"][name].as_u64().ok_or_else(|| format!("no total {name}").into())
    }

    /// How far the other node has come as the standby of `owner`: its state, contexts that it has, of so many.
    pub fn standby(&self, owner: usize) -> Result<(String, u64, u64)> {
        let status = self.status(owner)?;
        let members = status["members"].as_array().into_iter().flatten();
        let mut standbys = members.filter(|member| member["id"] == NODES[1 - owner]);
        let standby = standbys.next().map(|member| &member["standby"]).ok_or("no other node")?;
        let word = standby["state"].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| standby[name].as_u64().unwrap_or(0);
        Ok((word, number("done"), number("total")))
    }

    /// Waits until the other node has everything of `owner`.
    pub fn wait_for_standby(&self, owner: usize) -> Result<()> {
        self.wait("the standby has everything", || Ok(self.standby(owner)?.0 == "synced"))
    }

    /// Waits for something that comes by itself.
    pub fn wait(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds().unwrap_or(false) {
            if Instant::now() > deadline {
                let log = |index: usize| self.log(index);
                return Err(format!("{what}: not within {PATIENCE:?}\n{}\n---\n{}", log(0), log(1)).into());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// The end of what the cluster daemon of a node has said since it was started.
    pub fn log(&self, index: usize) -> String {
        let log = self.nodes[index].as_ref().map(Process::log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Octets that a node has received from the other members.
    pub fn sync_octets(&self, index: usize) -> Result<u64> {
        let port = format!("to{}", NODES[index]);
        let shown = self.sync.command("ip").args(["-j", "-s", "link", "show", &port]).output()?;
        let shown: Value = serde_json::from_slice(&shown.stdout)?;
        // What the hub sends on the port, the node receives.
        shown[0]["stats64"]["tx"]["bytes"].as_u64().ok_or_else(|| format!("no counters of {port}").into())
    }

    /// Pids of the data plane and the cluster daemon of a node that runs.
    pub fn pids(&self, index: usize) -> Vec<u32> {
        self.gateway(index).pid().into_iter().chain(self.nodes[index].as_ref().map(Process::id)).collect()
    }

    /// As if the machine had lost its power: both daemons at once. When, since the Unix epoch.
    pub fn kill_node(&mut self, index: usize) -> Duration {
        let at = baton_lab::site::now();
        for pid in self.pids(index).into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.nodes[index] = None;
        if index == 0 {
            self.site.b.kill();
        } else {
            self.site.b2.kill();
        }
        at
    }
}

fn clustered(lab: &Lab, gateway: &Gateway, setup: &Setup, tunnels: Vec<TunnelSpec>) -> Result<Gateway> {
    let spec =
        GatewaySpec { owned: "\"none\"".into(), ike: setup.members(), tunnels, ..gateway.spec().clone() };
    let gateway = Gateway::new(lab, gateway.namespace(), spec)?;
    let capacity = format!("capacity = {}", 2 * setup.tunnels + 1024);
    gateway.write_config(&gateway.config_text().replace("capacity = 1024", &capacity))?;
    Ok(gateway)
}

fn witness(lab: &Lab, setup: &Setup) -> Result<PathBuf> {
    let folder = lab.path().join("witness");
    std::fs::create_dir_all(folder.join("run"))?;
    let path = folder.join("baton.toml");
    let text = format!(
        "[node]\nid = {WITNESS}\ncluster = \"lab\"\nruntime_directory = \"{}/run\"\n{}",
        folder.display(),
        setup.members()
    );
    write_secret(&path, &text)?;
    Ok(path)
}

/// The tunnel with traffic, and so many that others would have.
fn tunnels(first: &TunnelSpec, count: u32) -> std::result::Result<Vec<TunnelSpec>, LabError> {
    let keys = random(first.inbound.as_ref().map_or(0, |sa| sa.key.len()))?;
    let beside = (1..count).map(|number| tunnel(first, number, &keys));
    Ok(std::iter::once(first.clone()).chain(beside).collect())
}

/// One of those: nobody uses it, so that its key may be any.
fn tunnel(first: &TunnelSpec, number: u32, keys: &[u8]) -> TunnelSpec {
    let segment = number % SEGMENTS;
    let key = |direction: u8| {
        let own = [&number.to_be_bytes()[..], &[direction]].concat();
        keys.iter().zip(own.into_iter().chain(std::iter::repeat(0))).map(|(octet, own)| octet ^ own).collect()
    };
    let sa = |spi: u32, direction: u8| SaSpec { spi: spi + FIRST_SPI + number, key: key(direction) };
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() + number);
    TunnelSpec {
        name: format!("beside-{number}"),
        remote: IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number)),
        local_selectors: vec![B_NETWORK.into()],
        remote_selectors: vec![format!("{address}/32")],
        reqid: 1000 + number,
        segment: segment as u8,
        inbound: Some(sa(segment << 24, 1)),
        outbound: Some(sa(0x1100_0000, 2)),
        ..first.clone()
    }
}

fn launch(lab: &Lab, name: &str, mut command: Command) -> Result<Process> {
    command.env("NO_COLOR", "1");
    let mut process = lab.start(name, command)?;
    process.wait_for_line("ready", START, |line| line.contains("ready"))?;
    Ok(process)
}

fn binary() -> String {
    requirements::binary("baton-cluster").display().to_string()
}
