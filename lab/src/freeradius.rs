//! FreeRADIUS as a peer: it judges users by EAP-TTLS around EAP-MD5, and keeps account of their sessions in a file.
//!
//! It runs in a namespace of the lab, on its loopback, with a configuration of its own; nothing of `/etc` is read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::charon::Section;
use crate::command;
use crate::error::{LabError, Result};
use crate::gateway::write_secret;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::pki::Certified;
use crate::process::Process;
use crate::requirements;

const DAEMON: &str = "/usr/sbin/freeradius";
const CLIENT: &str = "/usr/bin/radclient";
/// Where it listens.
pub const ADDRESS: &str = "127.0.0.1";
/// What it shares with the gateway.
pub const SECRET: &str = "what both know of RADIUS";
const START: Duration = Duration::from_secs(20);

/// Whether it can be started here; else a sentence with a remedy.
///
/// # Errors
/// The sentence.
pub fn requirements() -> std::result::Result<(), String> {
    requirements::lab()?;
    let missing = [DAEMON, CLIENT].into_iter().find(|program| !Path::new(program).exists());
    missing.map_or(Ok(()), |program| Err(format!("{program} is missing: run ./dev setup")))
}

/// A user, and what it is granted.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its password.
    pub password: &'a str,
    /// Attributes of the answer, such as `Class := "gold"`.
    pub granted: &'a [&'a str],
}

/// A FreeRADIUS: its folder, and its process while it runs.
#[derive(Debug)]
pub struct FreeRadius {
    namespace: Namespace,
    folder: PathBuf,
    process: Option<Process>,
}

/// A record of a session, by its attributes' names.
pub type Record = BTreeMap<String, String>;

impl FreeRadius {
    /// Starts one in `namespace` that proves itself by a certificate.
    ///
    /// # Errors
    /// If it does not come up; the error quotes its log.
    pub fn start(lab: &Lab, namespace: &Namespace, own: &Certified, users: &[User]) -> Result<Self> {
        let folder = lab.path().join("freeradius");
        fs::create_dir_all(&folder).map_err(LabError::path("make", &folder))?;
        let mut server = Self { namespace: namespace.clone(), folder, process: None };
        write_secret(&server.folder.join("radiusd.conf"), &server.configuration(own))?;
        // Its own words beside the dictionaries that it comes with; where records go, which it does not make.
        for empty in ["dictionary", "detail"] {
            write_secret(&server.folder.join(empty), "")?;
        }
        server.set_users(users)?;
        server.restart(lab)?;
        Ok(server)
    }

    fn set_users(&self, users: &[User]) -> Result<()> {
        let mut text = String::new();
        for User { name, password, granted } in users {
            let _ = writeln!(text, "{name} Cleartext-Password := \"{password}\"");
            let _ = writeln!(text, "\t{}", granted.join(",\n\t"));
        }
        write_secret(&self.folder.join("users"), &text)
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.process = None;
        let mut command = self.namespace.command(DAEMON);
        command.args(["-f", "-l", "stdout", "-d"]).arg(&self.folder);
        let mut process = lab.start("freeradius", command)?;
        process.wait_for_line("ready", START, |line| line.contains("Ready to process requests"))?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn configuration(&self, own: &Certified) -> String {
        let own_folder = self.folder.display();
        let process = Section::new()
            .set("prefix", "/usr")
            .set("libdir", "/usr/lib/freeradius")
            .set("logdir", own_folder.to_string())
            .set("run_dir", own_folder.to_string())
            .set("db_dir", own_folder.to_string())
            .set("name", "radiusd")
            .set("max_request_time", 5)
            .set("cleanup_delay", 1)
            .set("hostname_lookups", "no")
            .set("proxy_requests", "no");
        let security = Section::new().set("allow_core_dumps", "no").set("reject_delay", 0);
        let client = Section::new()
            .set("ipaddr", ADDRESS)
            .set("secret", SECRET)
            .set("require_message_authenticator", "yes");
        process
            .with("log", Section::new().set("destination", "stdout").set("auth", "yes"))
            .with("security", security)
            .with("thread pool", Section::new().set("start_servers", 1).set("max_servers", 2))
            .with("client gateway", client)
            .with("modules", self.modules(own))
            .with("server default", outside())
            .with("server inner", inside())
            .to_configuration()
            // Its words for what is used, which stand alone.
            .replace(" = \"USED\"", "")
    }

    fn modules(&self, own: &Certified) -> Section {
        let tls = Section::new()
            .set("private_key_file", own.key.display())
            .set("certificate_file", own.certificate.display())
            .set("ca_file", own.authority.display())
            .set("cipher_list", "DEFAULT")
            .set("tls_min_version", "1.2")
            .set("tls_max_version", "1.2");
        let tunnelled = Section::new()
            .set("tls", "tls-common")
            .set("default_eap_type", "md5")
            .set("use_tunneled_reply", "yes")
            .set("virtual_server", "inner");
        let eap = Section::new()
            .set("default_eap_type", "ttls")
            .with("md5", Section::new())
            .with("tls-config tls-common", tls)
            .with("ttls", tunnelled);
        let detail = Section::new().set("filename", self.path("detail")).set("permissions", "0600");
        Section::new()
            .with("eap", eap)
            .with("files", Section::new().set("filename", self.path("users")))
            .with("detail", detail)
    }

    /// All records of sessions that it has taken.
    pub fn records(&self) -> Vec<Record> {
        let text = fs::read_to_string(self.folder.join("detail")).unwrap_or_default();
        text.split("\n\n").map(record).filter(|record| !record.is_empty()).collect()
    }

    /// Asks the gateway by `radclient` to end a session (`disconnect`) or to change it (`coa`); what it answers.
    ///
    /// # Errors
    /// If `radclient` cannot be started.
    pub fn ask(&self, port: u16, what: &str, attributes: &str, secret: &str) -> Result<String> {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let input = format!("{attributes}, Event-Timestamp = {}\n", unix.as_secs());
        let mut command = self.namespace.command(CLIENT);
        command.args(["-x", "-r", "1", "-t", "2"]).arg(format!("{ADDRESS}:{port}")).args([what, secret]);
        let output = command::output_with_input(&mut command, input.as_bytes())?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

fn record(text: &str) -> Record {
    let pairs = text.lines().filter_map(|line| line.trim().split_once(" = "));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// Stands for a module that is used.
fn used(modules: &[&str]) -> Section {
    modules.iter().fold(Section::new(), |section, module| section.set(module, "USED"))
}

fn outside() -> Section {
    let listen =
        |kind: &str, port: u16| Section::new().set("type", kind).set("ipaddr", ADDRESS).set("port", port);
    Section::new()
        .with("listen", listen("auth", 1812))
        .with("listen ", listen("acct", 1813))
        .with("authorize", used(&["eap"]))
        .with("authenticate", used(&["eap"]))
        .with("accounting", used(&["detail"]))
}

fn inside() -> Section {
    Section::new().with("authorize", used(&["files", "eap"])).with("authenticate", used(&["eap"]))
}
