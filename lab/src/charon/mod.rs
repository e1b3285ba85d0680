//! strongSwan's daemon as a peer, with its ESP in userspace (its plugin kernel-libipsec): UDP-encapsulated tunnel
//! mode, 32-bit sequence numbers.
//!
//! charon-systemd needs no systemd to run. All that it reads and writes lies in a folder of the lab; its plugins are
//! named one by one, so that nothing of `/etc` is read.

mod sas;
mod section;
mod vici;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

pub(crate) use sas::parse as parse_sas;
pub use sas::{ChildSa, IkeSa};
pub use section::Section;
pub use vici::Vici;

use crate::command;
use crate::error::{LabError, Result};
use crate::gateway::write_secret;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::negotiation::{Negotiation, Side};
use crate::process::Process;
use crate::requirements;

const DAEMON: &str = "/usr/sbin/charon-systemd";
const PLUGINS: &str = "random nonce openssl pem pkcs1 pkcs8 x509 pubkey revocation constraints curve25519 chapoly aes \
                       sha1 sha2 md5 hmac kdf gcm ctr ccm cmac xcbc gmp drbg resolve kernel-libipsec kernel-netlink \
                       socket-default vici counters eap-identity eap-mschapv2 eap-tls eap-ttls eap-md5";
pub(crate) const SWANCTL_PLUGINS: &str = "pem pkcs1 pkcs8 x509 revocation constraints pubkey openssl random";
/// Folders that swanctl looks for.
pub(crate) const FOLDERS: [&str; 13] = [
    "x509", "x509ca", "x509ocsp", "x509aa", "x509ac", "x509crl", "pubkey", "private", "rsa", "ecdsa",
    "bliss", "pkcs8", "pkcs12",
];
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);
/// How long swanctl waits for an exchange, in seconds.
const EXCHANGE: &str = "10";
const LOG_TAIL: usize = 40;
/// Packets that wait for it.
const QUEUE: u32 = 20_000;

/// Whether charon can be started here; else a sentence with a remedy.
///
/// # Errors
/// The sentence.
pub fn requirements() -> std::result::Result<(), String> {
    requirements::lab()?;
    for program in [DAEMON, "/usr/sbin/swanctl", "/usr/bin/pki"] {
        if !Path::new(program).exists() {
            return Err(format!("{program} is missing: run ./dev setup"));
        }
    }
    // A plugin of libcharon-extra-plugins.
    let libipsec = Path::new("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so");
    if !libipsec.exists() {
        return Err("strongSwan's plugin kernel-libipsec is missing: run ./dev setup".into());
    }
    // One of libcharon-extauth-plugins.
    if !Path::new("/usr/lib/ipsec/plugins/libstrongswan-eap-mschapv2.so").exists() {
        return Err("strongSwan's plugin eap-mschapv2 is missing: run ./dev setup".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err("/dev/net/tun is missing: load the module tun".into());
    }
    Ok(())
}

/// What a charon is like, beyond its connections.
#[derive(Clone, Debug, Default)]
pub struct CharonSpec {
    /// Its name, for its folder and log.
    pub name: String,
    /// Options of its daemon, as the section `charon` of strongswan.conf has them.
    pub options: Section,
    /// How much it logs: -1 nothing, 0 very little, 1 what tests look for.
    pub log_level: i8,
}

impl CharonSpec {
    /// One with strongSwan's own options.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), options: Section::new(), log_level: 1 }
    }

    /// The same with one option, such as `retransmit_tries`.
    #[must_use]
    pub fn option(self, name: &str, value: impl ToString) -> Self {
        Self { options: self.options.set(name, value), ..self }
    }
}

/// A charon: its folder, and its process while it runs.
#[derive(Debug)]
pub struct Charon {
    name: String,
    namespace: Namespace,
    folder: PathBuf,
    process: Option<Process>,
}

impl Charon {
    /// Starts one without connections in `namespace`.
    ///
    /// # Errors
    /// If it does not come up; the error quotes its log.
    pub fn start(lab: &Lab, namespace: &Namespace, spec: &CharonSpec) -> Result<Self> {
        let folder = lab.path().join(&spec.name);
        for part in FOLDERS {
            let path = folder.join("swanctl").join(part);
            fs::create_dir_all(&path).map_err(LabError::path("make", &path))?;
        }
        let mut charon =
            Self { name: spec.name.clone(), namespace: namespace.clone(), folder, process: None };
        write_secret(&charon.folder.join("strongswan.conf"), &charon.daemon_configuration(spec))?;
        charon.launch(lab)?;
        Ok(charon)
    }

    /// Starts it again after [`Self::kill`] or [`Self::stop`], and gives it its connections.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.process = None;
        self.launch(lab)?;
        self.reload()
    }

    fn launch(&mut self, lab: &Lab) -> Result<()> {
        let _ = fs::remove_file(self.socket());
        let mut command = self.namespace.command(DAEMON);
        self.environment(&mut command);
        let mut process = lab.start(&self.name, command)?;
        let deadline = Instant::now() + START;
        while !self.socket().exists() {
            if process.exited()?.is_some() || Instant::now() > deadline {
                return Err(LabError::Unexpected(format!("charon did not start: {}", tail(&process.log()))));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.process = Some(process);
        // A busy machine lets it wait: packets queue up before its interface rather than being lost.
        self.namespace.ip(&format!("link set ipsec0 txqueuelen {QUEUE}"))
    }

    fn daemon_configuration(&self, spec: &CharonSpec) -> String {
        let log =
            Section::new().set("default", spec.log_level).set("flush_line", "yes").set("time_add_ms", "yes");
        let log = log.set("time_format", "%H:%M:%S");
        let plugins = Section::new()
            .with("kernel-libipsec", Section::new().set("load", 100))
            .with("resolve", Section::new().set("file", self.resolv_conf().display()))
            .with("vici", Section::new().set("socket", self.uri()));
        let daemon = spec.options.clone().set("load", PLUGINS).with("plugins", plugins);
        let daemon = daemon.with("filelog", Section::new().with("stderr", log));
        let swanctl = Section::new().set("load", SWANCTL_PLUGINS);
        Section::new().with("charon-systemd", daemon).with("swanctl", swanctl).to_configuration()
    }

    fn environment(&self, command: &mut Command) {
        command.env("STRONGSWAN_CONF", self.folder.join("strongswan.conf"));
        command.env("SWANCTL_DIR", self.folder.join("swanctl"));
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("vici")
    }

    fn uri(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The file into which it writes the DNS servers that a peer gives it.
    pub fn resolv_conf(&self) -> PathBuf {
        self.folder.join("resolv.conf")
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Puts a file into a folder of swanctl's, such as `x509ca`, before [`Self::load`].
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn add_file(&self, folder: &str, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        let target = self.folder.join("swanctl").join(folder).join(name);
        fs::copy(path, &target).map(drop).map_err(LabError::path("copy", path))
    }

    /// Gives it its side of a negotiation, in the place of what it had. SAs stay.
    ///
    /// # Errors
    /// If it refuses.
    pub fn set_negotiation(&self, case: &Negotiation, side: Side) -> Result<()> {
        for folder in ["x509", "x509ca", "x509crl", "private"] {
            let path = self.folder.join("swanctl").join(folder);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).map_err(LabError::path("make", &path))?;
        }
        if let Some(certified) = &case.party(side).certified {
            self.add_file("x509", &certified.certificate)?;
            self.add_file("private", &certified.key)?;
            self.add_file("x509ca", &certified.authority)?;
        }
        self.load(&case.swanctl(side))
    }

    /// Loads connections, pools, secrets, authorities and the files beside them, in the place of the earlier ones.
    ///
    /// # Errors
    /// If charon refuses; the error quotes swanctl.
    pub fn load(&self, configuration: &Section) -> Result<()> {
        let path = self.folder.join("swanctl").join("swanctl.conf");
        write_secret(&path, &configuration.to_configuration())?;
        self.reload()
    }

    fn reload(&self) -> Result<()> {
        self.swanctl(&["--load-all", "--clear"]).map(drop)
    }

    /// Runs swanctl with its exit code and all that it printed, whatever they are.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn swanctl_output(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new("swanctl");
        self.environment(&mut command);
        command.args(arguments).arg("--uri").arg(self.uri());
        let output = command::output(&mut command)?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Runs swanctl and returns what it printed.
    ///
    /// # Errors
    /// If it fails; the error quotes it.
    pub fn swanctl(&self, arguments: &[&str]) -> Result<String> {
        let (success, said) = self.swanctl_output(arguments)?;
        if success {
            return Ok(said);
        }
        let detail = format!("{}; the daemon's log:\n{}", said.trim(), tail(&self.log()));
        Err(LabError::Command { command: format!("swanctl {}", arguments.join(" ")), detail })
    }

    /// Sets up a Child SA, and its IKE SA if there is none.
    ///
    /// # Errors
    /// If it does not come about; the error quotes the log.
    pub fn initiate(&self, child: &str) -> Result<String> {
        self.swanctl(&["--initiate", "--child", child, "--timeout", EXCHANGE])
    }

    /// A connection for beginning many exchanges.
    ///
    /// # Errors
    /// If it does not run.
    pub fn vici(&self) -> Result<Vici> {
        Vici::connect(&self.socket())
    }

    /// Ends all IKE SAs of a connection.
    ///
    /// # Errors
    /// If there is none, or the peer does not answer.
    pub fn terminate_ike(&self, connection: &str) -> Result<String> {
        self.swanctl(&["--terminate", "--ike", connection, "--timeout", EXCHANGE])
    }

    /// Ends all Child SAs of a name.
    ///
    /// # Errors
    /// If there is none, or the peer does not answer.
    pub fn terminate_child(&self, child: &str) -> Result<String> {
        self.swanctl(&["--terminate", "--child", child, "--timeout", EXCHANGE])
    }

    /// Starts to replace the keys of a connection's IKE SAs; does not wait for it.
    ///
    /// # Errors
    /// If there is none.
    pub fn rekey_ike(&self, connection: &str) -> Result<String> {
        self.swanctl(&["--rekey", "--ike", connection])
    }

    /// Starts to replace the keys of the Child SAs of a name; does not wait for it.
    ///
    /// # Errors
    /// If there is none.
    pub fn rekey_child(&self, child: &str) -> Result<String> {
        self.swanctl(&["--rekey", "--child", child])
    }

    /// All IKE SAs with their Child SAs.
    ///
    /// # Errors
    /// If charon does not answer.
    pub fn sas(&self) -> Result<Vec<IkeSa>> {
        parse_sas(&self.swanctl(&["--list-sas", "--raw"])?)
    }

    /// What it has logged since it was last started.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Waits until `text` stands in its log.
    ///
    /// # Errors
    /// If it does not within `timeout`.
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let process =
            self.process.as_mut().ok_or_else(|| LabError::Unexpected("charon does not run".into()))?;
        process.wait_for_line(text, timeout, |line| line.contains(text))
    }

    /// Its pid while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Kills it as a crash would (SIGKILL): it tells its peers nothing.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it as a service manager would: it deletes its SAs.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM);
        process.wait(STOP).map(drop)
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}
