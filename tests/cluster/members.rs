//! Members of a cluster on a network of their own: two gateways, and a witness if wanted.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use baton_lab::gateway::write_secret;
use baton_lab::topology::wire;
use baton_lab::{Gateway, Lab, Namespace, Process, requirements};
use serde_json::Value;

use crate::support::eventually;

/// How long a daemon may take to start here.
const START: Duration = Duration::from_secs(30);
/// Node ids of B, B2 and the witness.
const IDS: [u8; 3] = [2, 3, 9];
const WITNESS: u8 = IDS[2];

/// Patience for machines with few cores; the defaults are for others.
const PATIENT: &str = "
[cluster]
interval_milliseconds = 40
missed = 4
settle_milliseconds = 300
reserve_milliseconds = 100
";

/// `[cluster]` of all members.
pub fn configuration() -> String {
    let mut text = PATIENT.to_owned();
    for id in IDS {
        let role = if id == WITNESS { "witness" } else { "node" };
        let _ =
            write!(text, "[[cluster.member]]\nid = {id}\naddress = \"192.0.2.{id}\"\nrole = \"{role}\"\n");
    }
    text
}

/// The daemons of a cluster, and the wires between them. Processes drop before the namespaces.
pub struct Members {
    nodes: [Option<Process>; 2],
    witness: Option<Process>,
    voter: Namespace,
    sync: Namespace,
    witness_config: PathBuf,
}

impl Members {
    /// Wires everybody, and makes certificates as an operator does; no daemon runs yet.
    pub fn build(lab: &Lab, gateways: [&Gateway; 2]) -> Self {
        let sync = lab.namespace("sync").expect("a namespace");
        let voter = lab.namespace("voter").expect("a namespace");
        sync.ip("link add hub type bridge\nlink set hub up").expect("a bridge");
        for (namespace, id) in [gateways[0].namespace(), gateways[1].namespace(), &voter].into_iter().zip(IDS)
        {
            wire(namespace, "sync0", &sync, &format!("to{id}")).expect("a wire");
            sync.ip(&format!("link set to{id} master hub\nlink set to{id} up")).expect("plugged in");
            namespace.ip(&format!("link set sync0 up\naddress add 192.0.2.{id}/24 dev sync0")).expect("up");
        }
        let folder = lab.path().join("witness");
        std::fs::create_dir_all(folder.join("run")).expect("a folder");
        let witness_config = folder.join("baton.toml");
        let text = format!(
            "[node]\nid = {WITNESS}\ncluster = \"lab\"\nruntime_directory = \"{}/run\"\n{}",
            folder.display(),
            configuration()
        );
        write_secret(&witness_config, &text).expect("written");
        let members = Self { nodes: [None, None], witness: None, voter, sync, witness_config };
        members.invite(lab, gateways);
        members
    }

    fn invite(&self, lab: &Lab, [first, second]: [&Gateway; 2]) {
        first.dpctl(&["cluster", "init"]).expect("begun");
        let invitation =
            |id: u8| first.dpctl(&["cluster", "invite", &id.to_string()]).expect("an invitation");
        let joined =
            second.dpctl_output(&["cluster", "join", "-"], invitation(IDS[1]).as_bytes()).expect("runs");
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
        let path = lab.path().join("invitation");
        write_secret(&path, &invitation(WITNESS)).expect("written");
        let mut dpctl = Command::new(requirements::binary("dpctl"));
        dpctl.arg("--config").arg(&self.witness_config).args(["cluster", "join"]).arg(&path);
        assert!(dpctl.status().expect("runs").success());
    }

    /// Starts the daemon of a node.
    pub fn start(&mut self, lab: &Lab, index: usize, gateway: &Gateway) {
        let mut command = gateway.namespace().command(&binary());
        command.arg("--config").arg(gateway.config());
        self.nodes[index] = Some(launch(lab, &format!("cluster-{index}"), command));
    }

    /// Starts the witness.
    pub fn start_witness(&mut self, lab: &Lab) {
        let mut command = self.voter.command(&binary());
        command.arg("--witness").arg("--config").arg(&self.witness_config);
        self.witness = Some(launch(lab, "witness", command));
    }

    /// Kills a node's daemon as a crash would (SIGKILL).
    pub fn kill(&mut self, index: usize) {
        self.nodes[index] = None;
    }

    /// Pulls the plug of a node's side of the network between the members, or puts it in: `down`, `up`.
    pub fn set_link(&self, index: usize, state: &str) {
        self.sync.ip(&format!("link set to{} {state}", IDS[index])).expect("set");
    }

    /// What the daemon of a node has said since it was started.
    pub fn log(&self, index: usize) -> String {
        self.nodes[index].as_ref().map(Process::log).unwrap_or_default()
    }
}

fn launch(lab: &Lab, name: &str, mut command: Command) -> Process {
    command.env("NO_COLOR", "1");
    let mut process = lab.start(name, command).expect("started");
    process.wait_for_line("ready", START, |line| line.contains("ready")).expect("ready");
    process
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

/// Waits until both nodes have their half, and each holds what the other one has.
pub fn settle(gateways: [&Gateway; 2]) {
    eventually("each node owns half", || gateways.iter().all(|gateway| owned(gateway).len() == 128));
    for gateway in gateways {
        eventually("the standby has everything", || {
            let members = status(gateway)["members"].clone();
            members.as_array().into_iter().flatten().any(|member| member["standby"]["state"] == "synced")
        });
    }
}
