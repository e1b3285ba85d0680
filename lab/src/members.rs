//! The members of a cluster on a network of their own: two gateways, and a witness if wanted.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::command;
use crate::error::{LabError, Result};
use crate::gateway::{Gateway, GatewaySpec, START, is_ready, write_secret};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::requirements;
use crate::topology::wire;

const WITNESS: u8 = 9;

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Node ids of the two gateways.
    pub nodes: [u8; 2],
    /// Whether a third member votes.
    pub witness: bool,
    /// Milliseconds between heartbeats.
    pub interval: u32,
    /// Heartbeats in a row whose loss makes a member silent.
    pub missed: u32,
    /// Further keys of `[cluster]`, as TOML.
    pub options: String,
}

impl ClusterSpec {
    /// Patience for machines with few cores, of which other programs have their share; the defaults are for others.
    pub fn patient(nodes: [u8; 2]) -> Self {
        let options = "settle_milliseconds = 300\nreserve_milliseconds = 100\nreserve_wait_milliseconds = 300\n\
                       replication_wait_milliseconds = 200\n";
        Self { nodes, witness: true, interval: 40, missed: 9, options: options.into() }
    }

    /// `[cluster]` of all members.
    pub fn toml(&self) -> String {
        let Self { interval, missed, options, .. } = self;
        let mut text =
            format!("\n[cluster]\ninterval_milliseconds = {interval}\nmissed = {missed}\n{options}");
        for id in self.ids() {
            let role = if id == WITNESS { "witness" } else { "node" };
            let _ = write!(
                text,
                "[[cluster.member]]\nid = {id}\naddress = \"192.0.2.{id}\"\nrole = \"{role}\"\n"
            );
        }
        text
    }

    fn ids(&self) -> impl Iterator<Item = u8> {
        self.nodes.into_iter().chain(self.witness.then_some(WITNESS))
    }

    /// The same gateway as a member, which owns nothing by itself.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn gateway(&self, lab: &Lab, gateway: &Gateway) -> Result<Gateway> {
        let ike = format!("{}{}", gateway.spec().ike, self.toml());
        let spec = GatewaySpec { owned: "\"none\"".into(), ike, ..gateway.spec().clone() };
        Gateway::new(lab, gateway.namespace(), spec)
    }
}

/// The daemons of a cluster, and the wires between them. Processes drop before the namespaces.
#[derive(Debug)]
pub struct Members {
    nodes: [Option<Process>; 2],
    witness: Option<Process>,
    spec: ClusterSpec,
    voter: Namespace,
    sync: Namespace,
    witness_config: PathBuf,
}

impl Members {
    /// Wires everybody, and makes certificates as an operator does; no daemon runs yet.
    ///
    /// # Errors
    /// If the machine refuses.
    pub fn build(lab: &Lab, spec: &ClusterSpec, gateways: [&Gateway; 2]) -> Result<Self> {
        let (sync, voter) = (lab.namespace("sync")?, lab.namespace("voter")?);
        sync.ip("link add hub type bridge\nlink set hub up")?;
        let namespaces = [gateways[0].namespace(), gateways[1].namespace(), &voter];
        for (namespace, id) in namespaces.into_iter().zip(spec.ids()) {
            wire(namespace, "sync0", &sync, &format!("to{id}"))?;
            sync.ip(&format!("link set to{id} master hub\nlink set to{id} up"))?;
            namespace.ip(&format!("link set sync0 up\naddress add 192.0.2.{id}/24 dev sync0"))?;
        }
        let folder = lab.path().join("witness");
        std::fs::create_dir_all(folder.join("run")).map_err(LabError::path("make", &folder))?;
        let witness_config = folder.join("baton.toml");
        let folder = folder.display();
        let text = format!(
            "[node]\nid = {WITNESS}\ncluster = \"lab\"\nruntime_directory = \"{folder}/run\"\n{}",
            spec.toml()
        );
        write_secret(&witness_config, &text)?;
        let members =
            Self { nodes: [None, None], witness: None, spec: spec.clone(), voter, sync, witness_config };
        members.invite(lab, gateways)?;
        Ok(members)
    }

    fn invite(&self, lab: &Lab, [first, second]: [&Gateway; 2]) -> Result<()> {
        first.dpctl(&["cluster", "init"])?;
        let path = lab.path().join("invitation");
        let invite = |id: u8| write_secret(&path, &first.dpctl(&["cluster", "invite", &id.to_string()])?);
        let file = path.display().to_string();
        invite(self.spec.nodes[1])?;
        second.dpctl(&["cluster", "join", &file])?;
        if !self.spec.witness {
            return Ok(());
        }
        invite(WITNESS)?;
        let mut dpctl = Command::new(requirements::binary("dpctl"));
        dpctl.arg("--config").arg(&self.witness_config).args(["cluster", "join", &file]);
        command::run(&mut dpctl).map(drop)
    }

    /// Starts the daemon of a node.
    ///
    /// # Errors
    /// If it is not ready in time; the error quotes its log.
    pub fn start(&mut self, lab: &Lab, index: usize, gateway: &Gateway) -> Result<()> {
        let mut command = gateway.namespace().command(&binary());
        command.arg("--config").arg(gateway.config());
        self.nodes[index] = None;
        self.nodes[index] = Some(launch(lab, &format!("cluster-{index}"), command)?);
        Ok(())
    }

    /// Starts the witness.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_witness(&mut self, lab: &Lab) -> Result<()> {
        let mut command = self.voter.command(&binary());
        command.arg("--witness").arg("--config").arg(&self.witness_config);
        self.witness = None;
        self.witness = Some(launch(lab, "witness", command)?);
        Ok(())
    }

    /// Kills a node's daemon as a crash would (SIGKILL).
    pub fn kill(&mut self, index: usize) {
        self.nodes[index] = None;
    }

    /// Tells a node's daemon to stop, and waits until it has.
    ///
    /// # Errors
    /// If it does not, or says that something went wrong.
    pub fn stop(&mut self, index: usize) -> Result<()> {
        let Some(mut stopping) = self.nodes[index].take() else { return Ok(()) };
        stopping.signal(Signal::TERM);
        let ended = stopping.wait(START)?;
        if ended.success() {
            Ok(())
        } else {
            Err(LabError::Unexpected(format!("{ended}: {}", stopping.log())))
        }
    }

    /// Kills all daemons of a node at one moment, as if its machine had lost its power.
    pub fn kill_node(&mut self, index: usize, gateway: &mut Gateway) {
        let cluster = self.nodes[index].as_mut();
        cluster.into_iter().chain(gateway.processes()).for_each(|daemon| daemon.signal(Signal::KILL));
        self.kill(index);
        gateway.kill();
        gateway.kill_ike();
    }

    /// Lets a node's daemon stand still (SIGSTOP), or go on (SIGCONT).
    pub fn pause(&mut self, index: usize, pause: bool) {
        if let Some(daemon) = &mut self.nodes[index] {
            daemon.signal(if pause { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Kills the witness.
    pub fn kill_witness(&mut self) {
        self.witness = None;
    }

    /// Pulls the plug of a node's side of the network between the members, or puts it in: `down`, `up`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_link(&self, index: usize, state: &str) -> Result<()> {
        self.sync.ip(&format!("link set to{} {state}", self.spec.nodes[index]))
    }

    /// What the daemon of a node has said since it was started.
    pub fn log(&self, index: usize) -> String {
        self.nodes[index].as_ref().map(Process::log).unwrap_or_default()
    }
}

fn launch(lab: &Lab, name: &str, mut command: Command) -> Result<Process> {
    command.env("NO_COLOR", "1");
    let mut process = lab.start(name, command)?;
    process.wait_for_line("ready", START, is_ready)?;
    Ok(process)
}

fn binary() -> String {
    requirements::binary("baton-cluster").display().to_string()
}

/// What `dpctl cluster status` says at a node; nothing while its daemon starts.
pub fn status(gateway: &Gateway) -> Value {
    gateway.dpctl_json(&["cluster", "status"]).unwrap_or_default()
}

/// The segments of a node.
pub fn owned(gateway: &Gateway) -> Vec<u64> {
    status(gateway)["owned"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// Whether both nodes have their half, and each holds what the other one has.
pub fn is_settled(gateways: [&Gateway; 2]) -> bool {
    gateways.into_iter().all(|gateway| {
        let status = status(gateway);
        let members = status["members"].as_array().into_iter().flatten();
        let synced = members.into_iter().any(|member| member["standby"]["state"] == "synced");
        status["owned"].as_array().is_some_and(|owned| owned.len() == 128) && synced
    })
}
