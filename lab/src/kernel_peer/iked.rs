//! OpenBSD's iked inside of a booted kernel, which keys that kernel's ESP by PF_KEY: AES-CBC with HMAC-SHA1,
//! HMAC-SHA2-384 or HMAC-SHA2-512.

use std::fmt::Write as _;

use super::daemons::here_document;
use super::{GuestOutput, KernelPeer};
use crate::error::{LabError, Result};
use crate::negotiation::{Authentication, Negotiation, Party, Side};
use crate::pki::{self, KeyKind};

const FOLDER: &str = "/run/iked";
/// The last setting that its processes tell each other of before they answer as configured.
const CONFIGURED: &str = "stickyaddress";

/// What iked's own language says of a negotiation, beyond its ends.
#[derive(Clone, Debug)]
pub struct IkedSpec {
    /// Algorithms of the IKE SA, such as `enc aes-128 prf hmac-sha2-256 auth hmac-sha2-256 group curve25519`.
    pub ike: &'static str,
    /// Algorithms of the Child SA, such as `enc aes-256 auth hmac-sha2-512 group none noesn`.
    pub esp: &'static str,
    /// Seconds after which it replaces the keys of the IKE SA; 0: never.
    pub ike_lifetime: u32,
    /// Seconds after which it replaces the keys of the Child SA.
    pub child_lifetime: u32,
    /// Further lines, such as `set dpd_check_interval 2`.
    pub settings: &'static str,
}

/// An iked inside of a kernel. It is spoken with by that kernel's line.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestIked;

impl GuestIked {
    /// Starts it on its side of a negotiation by a shared secret; an initiator sets it up at once.
    ///
    /// # Errors
    /// If it does not come up; the error quotes its log.
    pub fn start(peer: &mut KernelPeer, spec: &IkedSpec, case: &Negotiation, side: Side) -> Result<Self> {
        let mut script = format!("[ -e /var/run ] || ln -s /run /var/run\nmkdir -p {FOLDER}\n");
        for folder in [
            "private",
            "pubkeys/fqdn",
            "pubkeys/ipv4",
            "pubkeys/ipv6",
            "pubkeys/ufqdn",
            "ca",
            "certs",
            "crls",
        ] {
            let _ = writeln!(script, "mkdir -p /etc/iked/{folder}");
        }
        // It does not start without a key of its own, even where secrets authenticate.
        let (private, public) = pki::key_pair(KeyKind::Ecdsa256)?;
        script.push_str(&here_document("/etc/iked/private/local.key", &private));
        script.push_str(&here_document("/etc/iked/local.pub", &public));
        script.push_str(&here_document(&format!("{FOLDER}/iked.conf"), &configuration(spec, case, side)?));
        peer.run(&format!(
            "{script}iked -d -vv -f {FOLDER}/iked.conf >{FOLDER}/log 2>&1 </dev/null &\n\
             for i in $(seq 200); do grep -q {CONFIGURED} {FOLDER}/log && exit 0; sleep 0.05; done\n\
             cat {FOLDER}/log; exit 1"
        ))?;
        Ok(Self)
    }

    /// What `ikectl` says.
    ///
    /// # Errors
    /// If it fails.
    pub fn ikectl(self, peer: &mut KernelPeer, arguments: &str) -> Result<String> {
        peer.run(&format!("ikectl {arguments}"))
    }

    /// Waits until a line of its log holds all of `words`.
    ///
    /// # Errors
    /// If none does within `seconds`; the error quotes the end of the log.
    pub fn wait_for_log(self, peer: &mut KernelPeer, pattern: &str, seconds: u32) -> Result<()> {
        let tries = seconds * 10;
        let script = format!(
            "for i in $(seq {tries}); do grep -q '{pattern}' {FOLDER}/log && exit 0; sleep 0.1; done; exit 1"
        );
        let limit = std::time::Duration::from_secs(u64::from(seconds) + 10);
        let GuestOutput { code, .. } = peer.output(&script, limit)?;
        if code == 0 {
            return Ok(());
        }
        let detail = format!("; the end of its log:\n{}", self.log(peer)?);
        Err(LabError::Timeout { what: format!("iked's `{pattern}`"), seconds: seconds.into(), detail })
    }

    /// The end of its log.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn log(self, peer: &mut KernelPeer) -> Result<String> {
        // It logs the secret with its configuration.
        peer.run(&format!("grep -v ' psk ' {FOLDER}/log | tail -n 60"))
    }

    /// Kills all of its processes as a crash would.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn kill(self, peer: &mut KernelPeer) -> Result<()> {
        peer.run("kill -9 $(pidof iked)").map(drop)
    }
}

fn configuration(spec: &IkedSpec, case: &Negotiation, side: Side) -> Result<String> {
    let Authentication::PreSharedKey(secret) = &case.authentication else {
        return Err(LabError::Unexpected("iked is set up for shared secrets alone".into()));
    };
    let (own, other, mode) = match side {
        Side::Initiator => (&case.initiator, &case.responder, "active"),
        Side::Responder => (&case.responder, &case.initiator, "passive"),
    };
    let IkedSpec { ike, esp, ike_lifetime, child_lifetime, settings } = spec;
    Ok(format!(
        "{settings}\nikev2 \"peer\" {mode} esp {} local {} peer {} ikesa {ike} childsa {esp} srcid {} dstid {} \
         ikelifetime {ike_lifetime} lifetime {child_lifetime} psk \"{secret}\"\n",
        selectors(own, other),
        own.address,
        other.address,
        own.identity,
        other.identity
    ))
}

fn selectors(own: &Party, other: &Party) -> String {
    let pairs = own.networks.iter().flat_map(|from| other.networks.iter().map(move |to| (from, to)));
    pairs.map(|(from, to)| format!("from {from} to {to}")).collect::<Vec<_>>().join(" ")
}
