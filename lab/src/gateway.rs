//! A gateway of the lab: its configuration, its daemon, its operator.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::command;
use crate::content::hex;
use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::requirements;

pub(crate) const START: Duration = Duration::from_secs(30);
pub(crate) const STOP: Duration = Duration::from_secs(10);

/// One direction's SPI and key of a statically keyed tunnel.
#[derive(Clone, Debug)]
pub struct SaSpec {
    /// The SPI; its top octet is the segment of the gateway that receives with it.
    pub spi: u32,
    /// Key and salt.
    pub key: Vec<u8>,
}

impl SaSpec {
    /// An SPI with a random key for `suite`.
    ///
    /// # Errors
    /// If the kernel gives no random octets.
    pub fn random(spi: u32, suite: &str) -> Result<Self> {
        Ok(Self { spi, key: random(key_octets(suite)?)? })
    }

    fn segment(&self) -> u8 {
        self.spi.to_be_bytes()[0]
    }
}

/// Octets of keying material of a suite called as strongSwan calls it, such as `aes256gcm16`.
fn key_octets(suite: &str) -> Result<usize> {
    let unknown = || LabError::Unexpected(format!("{suite} is not a suite"));
    baton_sad::Suite::from_name(suite).map(baton_sad::Suite::key_length).ok_or_else(unknown)
}

/// Random octets from the kernel.
///
/// # Errors
/// If it gives none.
pub fn random(length: usize) -> Result<Vec<u8>> {
    let mut octets = vec![0; length];
    let mut source = fs::File::open("/dev/urandom").map_err(LabError::io("open /dev/urandom"))?;
    source.read_exact(&mut octets).map_err(LabError::io("read /dev/urandom"))?;
    Ok(octets)
}

/// A tunnel, from one gateway's point of view.
#[derive(Clone, Debug)]
pub struct TunnelSpec {
    /// Its name.
    pub name: String,
    /// Own outer address.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: IpAddr,
    /// Transport mode instead of tunnel mode.
    pub transport: bool,
    /// ESP in UDP.
    pub in_udp: bool,
    /// Networks behind this gateway.
    pub local_selectors: Vec<String>,
    /// Networks behind the peer.
    pub remote_selectors: Vec<String>,
    /// The suite as strongSwan calls it.
    pub suite: String,
    /// The link between policy and SAs, equal on all nodes.
    pub reqid: u32,
    /// 64-bit sequence numbers.
    pub extended_sequence: bool,
    /// Replay window in packets.
    pub replay_window: u16,
    /// The segment, which a tunnel that waits for a restore cannot read from an SPI.
    pub segment: u8,
    /// The SA it receives with; `None` waits for a restore.
    pub inbound: Option<SaSpec>,
    /// The SA it sends with; `None` waits for a restore.
    pub outbound: Option<SaSpec>,
}

impl TunnelSpec {
    /// The same tunnel as the gateway at the other end has it.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
            local_selectors: self.remote_selectors.clone(),
            remote_selectors: self.local_selectors.clone(),
            inbound: self.outbound.clone(),
            outbound: self.inbound.clone(),
            segment: self.outbound.as_ref().map_or(self.segment, SaSpec::segment),
            ..self.clone()
        }
    }

    /// The same tunnel without keys: it waits for a restore.
    #[must_use]
    pub fn without_keys(&self) -> Self {
        Self { inbound: None, outbound: None, ..self.clone() }
    }

    fn write(&self, text: &mut String) {
        let Self { name, local, remote, suite, reqid, extended_sequence, replay_window, .. } = self;
        let (locals, remotes) = (&self.local_selectors, &self.remote_selectors);
        let mode = if self.transport { "transport" } else { "tunnel" };
        let encapsulation = if self.in_udp { "udp" } else { "none" };
        let _ = write!(
            text,
            "\n[[tunnel]]\nname = \"{name}\"\nlocal = \"{local}\"\nremote = \"{remote}\"\n\
             local_selectors = {locals:?}\nremote_selectors = {remotes:?}\nsuite = \"{suite}\"\nreqid = {reqid}\n\
             extended_sequence = {extended_sequence}\nreplay_window = {replay_window}\n\
             mode = \"{mode}\"\nencapsulation = \"{encapsulation}\"\n"
        );
        if self.inbound.is_none() {
            let _ = writeln!(text, "segment = {}", self.segment);
        }
        for (direction, sa) in [("inbound", &self.inbound), ("outbound", &self.outbound)] {
            if let Some(SaSpec { spi, key }) = sa {
                let _ = write!(text, "[tunnel.{direction}]\nspi = 0x{spi:08x}\nkey = \"{}\"\n", hex(key));
            }
        }
    }
}

/// What distinguishes one gateway from another.
#[derive(Clone, Debug)]
pub struct GatewaySpec {
    /// Its name, for its folder and log.
    pub name: String,
    /// Its node id.
    pub node: u8,
    /// Its outer address.
    pub outer: IpAddr,
    /// How its outer side is served: `auto`, `af-xdp` or `socket`.
    pub outer_io: &'static str,
    /// Its inner interface: `lan0`, or `tun:NAME`.
    pub inner: &'static str,
    /// Initial ownership as TOML: `"all"`, `"none"` or a list.
    pub owned: String,
    /// The core of its worker.
    pub core: usize,
    /// Its tunnels.
    pub tunnels: Vec<TunnelSpec>,
    /// The key that seals snapshots (32 octets); gateways that exchange snapshots share it.
    pub snapshot_key: Vec<u8>,
    /// What it negotiates, as TOML; empty if it speaks no IKE.
    pub ike: String,
}

/// A gateway: a configuration, and a daemon when it was started.
#[derive(Debug)]
pub struct Gateway {
    spec: GatewaySpec,
    namespace: Namespace,
    folder: PathBuf,
    pins: PathBuf,
    daemon: Option<Process>,
    pub(crate) ike: Option<Process>,
}

impl Gateway {
    /// Writes the configuration of a gateway that is to run in `namespace`.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn new(lab: &Lab, namespace: &Namespace, spec: GatewaySpec) -> Result<Self> {
        let folder = lab.path().join(&spec.name);
        let pins = lab.bpffs()?.join(&spec.name);
        for part in ["state", "run"] {
            fs::create_dir_all(folder.join(part)).map_err(LabError::path("make", &folder))?;
        }
        let gateway = Self { spec, namespace: namespace.clone(), folder, pins, daemon: None, ike: None };
        write_secret(&gateway.folder.join("snapshot.key"), &hex(&gateway.spec.snapshot_key))?;
        gateway.write_config(&gateway.config_text())?;
        Ok(gateway)
    }

    /// What it was made from.
    pub fn spec(&self) -> &GatewaySpec {
        &self.spec
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("baton.toml")
    }

    /// The folder of its certificates and private keys, with swanctl's folders below.
    pub fn credentials_directory(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    /// The folder of its SA table and control socket.
    pub fn runtime_directory(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The configuration as TOML, as its specification says it.
    pub fn config_text(&self) -> String {
        self.config_text_with(&self.spec.tunnels)
    }

    /// The same with other tunnels.
    pub fn config_text_with(&self, tunnels: &[TunnelSpec]) -> String {
        let GatewaySpec { node, outer, outer_io, inner, owned, core, .. } = &self.spec;
        let (folder, pins) = (self.folder.display(), self.pins.display());
        let mut text = format!(
            "[node]\nid = {node}\ncluster = \"lab\"\nstate_directory = \"{folder}/state\"\n\
             runtime_directory = \"{folder}/run\"\npin_directory = \"{pins}\"\n\n[table]\ncapacity = 1024\n\n\
             [outer]\ninterface = \"wan0\"\naddresses = [\"{outer}\"]\nio = \"{outer_io}\"\n\n[inner]\ninterface = \"{inner}\"\n\n\
             [workers]\ncores = [{core}]\n\n[segments]\nowned = {owned}\n\n\
             [snapshot]\nkey_file = \"{folder}/snapshot.key\"\n"
        );
        for tunnel in tunnels {
            tunnel.write(&mut text);
        }
        text.push_str(&self.spec.ike);
        text
    }

    /// Replaces the configuration file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        write_secret(&self.config(), text)
    }

    /// Replaces what it negotiates, in its configuration file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_ike(&mut self, text: String) -> Result<()> {
        self.spec.ike = text;
        self.write_config(&self.config_text())
    }

    /// Starts the daemon and waits until packets flow.
    ///
    /// # Errors
    /// If it ends or is not ready in time; the error quotes its log.
    pub fn start(&mut self, lab: &Lab) -> Result<()> {
        self.daemon = None;
        let mut daemon = self.launch(lab)?;
        daemon.wait_for_line("ready", START, is_ready)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Starts the daemon where it is expected to refuse, and returns its log once it has ended.
    ///
    /// # Errors
    /// If it does not end, or ends well.
    pub fn start_refused(&mut self, lab: &Lab) -> Result<String> {
        self.daemon = None;
        self.start_second_refused(lab)
    }

    /// The same beside the daemon that runs already.
    ///
    /// # Errors
    /// If it does not end, or ends well.
    pub fn start_second_refused(&mut self, lab: &Lab) -> Result<String> {
        let mut daemon = self.launch(lab)?;
        let status = daemon.wait(START)?;
        if status.success() {
            return Err(LabError::Unexpected("the data plane accepted what it has to refuse".into()));
        }
        Ok(daemon.log())
    }

    fn launch(&self, lab: &Lab) -> Result<Process> {
        self.launch_program(lab, "baton-dataplane", &self.spec.name)
    }

    pub(crate) fn launch_program(&self, lab: &Lab, program: &str, log: &str) -> Result<Process> {
        let mut command = self.namespace.command(&requirements::binary(program).display().to_string());
        command.arg("--config").arg(self.config()).env("NO_COLOR", "1");
        lab.start(log, command)
    }

    /// The daemon's pid while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Process::id)
    }

    /// The daemon's output since it was last started.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Its daemons that run.
    pub(crate) fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.daemon.iter_mut().chain(&mut self.ike)
    }

    /// Kills the daemon as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Ends the daemon as a service manager would (SIGTERM).
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        daemon.signal(Signal::TERM);
        daemon.wait(STOP).map(drop)
    }

    /// Removes all that the daemon leaves in the kernel on purpose (`--uninstall`).
    ///
    /// # Errors
    /// If it fails.
    pub fn uninstall(&self) -> Result<String> {
        let mut command =
            self.namespace.command(&requirements::binary("baton-dataplane").display().to_string());
        command::run(command.arg("--config").arg(self.config()).arg("--uninstall"))
    }

    /// A `dpctl` command line for this gateway.
    pub fn dpctl_command(&self, arguments: &[&str]) -> Command {
        // The table and the control socket are files: dpctl needs no namespace, and starts faster without.
        let mut command = Command::new(requirements::binary("dpctl"));
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    /// Runs `dpctl` and returns what it printed.
    ///
    /// # Errors
    /// If it fails; the error quotes it.
    pub fn dpctl(&self, arguments: &[&str]) -> Result<String> {
        command::run(&mut self.dpctl_command(arguments))
    }

    /// Runs `dpctl` and returns exit code and output, whatever they are.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn dpctl_output(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        command::output_with_input(&mut self.dpctl_command(arguments), input)
    }

    /// Runs `dpctl --json` and returns its answer.
    ///
    /// # Errors
    /// If it fails or does not answer in JSON.
    pub fn dpctl_json(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.dpctl(&[&["--json"], arguments].concat())?;
        serde_json::from_str(&answer).map_err(|error| {
            LabError::Unexpected(format!("dpctl --json did not print JSON ({error}): {answer}"))
        })
    }
}

/// Whether a daemon says by this line that it does its work.
pub(crate) fn is_ready(line: &str) -> bool {
    line.split_whitespace().any(|word| word.trim_matches('"') == "ready")
}

/// Writes a file that only its owner can read, as secrets must be.
///
/// # Errors
/// If it cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(LabError::path("open", path))?;
    file.write_all(text.as_bytes()).map_err(LabError::path("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_length_of_their_suite() {
        let length = |suite| SaSpec::random(1, suite).expect("random").key.len();
        assert_eq!((length("aes128gcm16"), length("aes192gcm8"), length("aes256gcm12")), (20, 28, 36));
    }
}
