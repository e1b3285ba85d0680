//! IKE daemons inside of a booted kernel, which key its own ESP: strongSwan's charon by XFRM.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::KernelPeer;
use crate::charon::{IkeSa, Section, parse_sas};
use crate::error::{LabError, Result};
use crate::negotiation::{Negotiation, Party, Side};

/// Programs that the image needs, by their paths on this machine.
pub(super) const PROGRAMS: [&str; 4] =
    ["/usr/sbin/charon-systemd", "/usr/sbin/swanctl", "/usr/sbin/iked", "/usr/sbin/ikectl"];
const PLUGINS: &str = "random nonce openssl pem pkcs1 pkcs8 x509 pubkey revocation constraints curve25519 chapoly aes \
                       sha1 sha2 md5 hmac kdf gcm ctr ccm cmac xcbc gmp drbg kernel-netlink socket-default vici";
/// What the C library loads when a thread ends, and OpenSSL for the ciphers that iked insists on.
const LOADED_BY_NAME: [&str; 2] =
    ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/usr/lib/x86_64-linux-gnu/ossl-modules/legacy.so"];
const PLUGIN_FOLDER: &str = "/usr/lib/ipsec/plugins";
/// Whom iked becomes, and where it locks itself in.
pub(super) const FILES: [(&str, &str); 3] = [
    ("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n_iked:x:100:100::/var/lib/openiked/empty:/bin/false\n"),
    ("/etc/group", "root:x:0:\n_iked:x:100:\n"),
    ("/var/lib/openiked/empty/.keep", ""),
];
const FOLDER: &str = "/run/charon";
/// How long the guest's one CPU may take for an exchange.
const EXCHANGE: Duration = Duration::from_secs(30);

/// Whether the daemons are there; else a sentence with a remedy.
///
/// # Errors
/// The sentence.
pub fn requirements() -> std::result::Result<(), String> {
    super::requirements()?;
    crate::charon::requirements()?;
    let missing = PROGRAMS.into_iter().find(|program| !Path::new(program).exists());
    missing.map_or(Ok(()), |program| Err(format!("{program} is missing: run ./dev setup")))
}

/// The files that are loaded by name: plugins, and what the C library wants.
pub(super) fn plugins() -> Vec<PathBuf> {
    let file = |name| Path::new(PLUGIN_FOLDER).join(format!("libstrongswan-{name}.so"));
    PLUGINS
        .split_whitespace()
        .map(file)
        .chain(LOADED_BY_NAME.map(PathBuf::from))
        .filter(|path| path.exists())
        .collect()
}

/// A charon inside of a kernel. It is spoken with by that kernel's line.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestCharon;

impl GuestCharon {
    /// Starts it.
    ///
    /// # Errors
    /// If it does not come up; the error quotes its log.
    pub fn start(peer: &mut KernelPeer) -> Result<Self> {
        let log = Section::new().set("default", 1).set("flush_line", "yes");
        let vici = Section::new().set("socket", format!("unix://{FOLDER}/vici"));
        let daemon = Section::new()
            .set("load", PLUGINS)
            .with("filelog", Section::new().with("stderr", log))
            .with("plugins", Section::new().with("vici", vici));
        let swanctl = Section::new().set("load", crate::charon::SWANCTL_PLUGINS);
        let text = Section::new().with("charon-systemd", daemon).with("swanctl", swanctl).to_configuration();
        let folders = crate::charon::FOLDERS.map(|folder| format!("{FOLDER}/swanctl/{folder}")).join(" ");
        let script =
            format!("mkdir -p {folders}\n{}", here_document(&format!("{FOLDER}/strongswan.conf"), &text));
        peer.run(&format!(
            "{script}export STRONGSWAN_CONF={FOLDER}/strongswan.conf\n\
             charon-systemd >{FOLDER}/log 2>&1 </dev/null &\n\
             for i in $(seq 200); do [ -S {FOLDER}/vici ] && exit 0; sleep 0.05; done\ncat {FOLDER}/log; exit 1"
        ))?;
        Ok(Self)
    }

    /// Gives it its side of a negotiation.
    ///
    /// # Errors
    /// If it refuses.
    pub fn load(self, peer: &mut KernelPeer, case: &Negotiation, side: Side) -> Result<()> {
        let party = if side == Side::Initiator { &case.initiator } else { &case.responder };
        let mut script = credentials(party)?;
        script.push_str(&here_document(
            &format!("{FOLDER}/swanctl/swanctl.conf"),
            &case.swanctl(side).to_configuration(),
        ));
        peer.run(&script)?;
        self.swanctl(peer, &["--load-all", "--clear"]).map(drop)
    }

    /// Runs swanctl and returns what it printed.
    ///
    /// # Errors
    /// If it fails; the error quotes it and the log.
    pub fn swanctl(self, peer: &mut KernelPeer, arguments: &[&str]) -> Result<String> {
        let arguments = arguments.join(" ");
        let script = format!(
            "export STRONGSWAN_CONF={FOLDER}/strongswan.conf SWANCTL_DIR={FOLDER}/swanctl\n\
             swanctl {arguments} --uri unix://{FOLDER}/vici"
        );
        let output = peer.output(&script, EXCHANGE)?;
        if output.code == 0 {
            return Ok(output.text);
        }
        let detail = format!("{}; the daemon's log:\n{}", output.text, self.log(peer)?);
        Err(LabError::Command { command: format!("swanctl {arguments}"), detail })
    }

    /// Sets up a Child SA.
    ///
    /// # Errors
    /// If it does not come about.
    pub fn initiate(self, peer: &mut KernelPeer, child: &str) -> Result<String> {
        self.swanctl(peer, &["--initiate", "--child", child, "--timeout", "20"])
    }

    /// All IKE SAs with their Child SAs.
    ///
    /// # Errors
    /// If charon does not answer.
    pub fn sas(self, peer: &mut KernelPeer) -> Result<Vec<IkeSa>> {
        parse_sas(&self.swanctl(peer, &["--list-sas", "--raw"])?)
    }

    /// The end of its log.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn log(self, peer: &mut KernelPeer) -> Result<String> {
        peer.run(&format!("tail -n 40 {FOLDER}/log"))
    }
}

/// A script that writes a file that only root reads.
pub(super) fn here_document(path: &str, text: &str) -> String {
    let text = text.trim_end();
    format!("cat >{path} <<'END-OF-FILE'\n{text}\nEND-OF-FILE\nchmod 600 {path}\n")
}

/// A script that writes certificate, key and authority of a party.
fn credentials(party: &Party) -> Result<String> {
    let Some(certified) = &party.certified else { return Ok(String::new()) };
    let files =
        [("x509", &certified.certificate), ("private", &certified.key), ("x509ca", &certified.authority)];
    let documents = files.map(|(folder, path)| {
        let text = std::fs::read_to_string(path).map_err(LabError::path("read", path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(here_document(&format!("{FOLDER}/swanctl/{folder}/{name}"), &text))
    });
    documents.into_iter().collect()
}
