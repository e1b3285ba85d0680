//! The Linux kernel's own ESP as a peer: a user-mode-linux kernel on a tap in a namespace.
//!
//! The kernel is an ordinary process (Debian's package user-mode-linux). Its interface `vec0` is the other end of
//! the tap, its serial line runs scripts (`tests/kernel/init.sh`), and keys reach it by that line alone, never by
//! an argument or a file of the host.

mod archive;
mod console;
mod counters;
mod daemons;
mod iked;
mod image;
mod nudge;
mod suite;
mod xfrm;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

pub use console::GuestOutput;
pub use counters::{Counters, StateCounters};
pub use daemons::{GuestCharon, requirements as daemon_requirements};
pub use iked::{GuestIked, IkedSpec};
pub use image::{Daemons, requirements};
pub use suite::Suite;
pub use xfrm::{Connection, Key, Mode, PolicyDirection, Prefix, UdpEncapsulation, XfrmPolicy, XfrmState};

use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::process::Process;
use console::Console;
use nudge::Nudge;

const BOOT: Duration = Duration::from_mins(1);
/// What an ordinary script may take.
const SCRIPT: Duration = Duration::from_secs(20);
/// Packets that wait for the kernel's one CPU rather than being lost.
const TAP_QUEUE: u32 = 20_000;
/// The kernel's interface on the tap.
const OUTER: &str = "vec0";
/// The kernel's interface for the network that it protects.
const INNER: &str = "inner0";

/// What a kernel is like.
#[derive(Clone, Debug)]
pub struct KernelPeerSpec {
    /// Its name, for its tap, its log and its folder; at most 15 characters.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
    /// Its outer addresses, with their networks.
    pub outer: Vec<Prefix>,
    /// Its addresses in the networks that it protects.
    pub inner: Vec<Prefix>,
    /// The ways to what is behind the other end.
    pub routes: Vec<Route>,
    /// What it runs.
    pub daemons: Daemons,
}

/// A way to hosts behind the other end.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The hosts.
    pub network: Prefix,
    /// The other end's outer address.
    pub via: IpAddr,
    /// The own address from which the kernel speaks to these hosts.
    pub source: IpAddr,
}

/// A running kernel. Fields drop in order: the line before the process at its other end.
#[derive(Debug)]
pub struct KernelPeer {
    console: Console,
    _nudge: Nudge,
    process: Process,
    jobs: u32,
}

/// A script that runs in the background of a kernel.
#[derive(Debug)]
#[must_use = "its outcome is what `KernelPeer::finish` returns"]
pub struct GuestJob {
    number: u32,
    script: String,
}

impl KernelPeer {
    /// Boots a kernel whose `vec0` is the new tap `spec.name` of `namespace`, and gives it its addresses.
    ///
    /// # Errors
    /// If a part is missing (see [`requirements`]) or the kernel does not come up; the error quotes its log.
    pub fn boot(lab: &Lab, namespace: &Namespace, spec: &KernelPeerSpec) -> Result<Self> {
        let folder = lab.path().join(format!("kernel-{}", spec.name));
        std::fs::create_dir(&folder).map_err(LabError::path("make", &folder))?;
        let initramfs = folder.join("initramfs");
        std::fs::write(&initramfs, image::image(&folder, spec.daemons)?)
            .map_err(LabError::path("write", &initramfs))?;
        let name = &spec.name;
        namespace
            .ip(&format!("tuntap add dev {name} mode tap\nlink set dev {name} txqueuelen {TAP_QUEUE} up"))?;
        let (process, requests, answers) = lab.start_with_pipes(name, command(namespace, spec, &folder))?;
        let console = Console::open(requests, answers, BOOT)
            .map_err(|error| LabError::Unexpected(format!("{error}; its log:\n{}", process.log())))?;
        let nudge = Nudge::start(process.id())?;
        let mut peer = Self { console, _nudge: nudge, process, jobs: 0 };
        peer.give_addresses(spec)?;
        Ok(peer)
    }

    fn give_addresses(&mut self, spec: &KernelPeerSpec) -> Result<()> {
        let mut lines = format!("link add {INNER} type dummy\nlink set {INNER} up\nlink set {OUTER} up\n");
        for (addresses, interface) in [(&spec.outer, OUTER), (&spec.inner, INNER)] {
            for address in addresses {
                // Duplicate address detection would hold back the first packets by a second.
                let nodad = if address.address.is_ipv6() { " nodad" } else { "" };
                let _ = writeln!(lines, "address add {address} dev {interface}{nodad}");
            }
        }
        for Route { network, via, source } in &spec.routes {
            let _ = writeln!(lines, "route add {network} via {via} src {source}");
        }
        self.batch("give the kernel its addresses", &lines)?;
        self.run(
            "for filter in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$filter; done\n\
             echo 1 >/proc/sys/net/ipv4/ip_forward\necho 1 >/proc/sys/net/ipv6/conf/all/forwarding",
        )
        .map(drop)
    }

    /// Replaces all SAs and policies. The counters of SAs start at zero with them.
    ///
    /// # Errors
    /// If a key does not fit its suite, or the kernel refuses.
    pub fn configure(&mut self, states: &[XfrmState], policies: &[XfrmPolicy]) -> Result<()> {
        let mut lines = "xfrm policy flush\nxfrm state flush\n".to_owned();
        for state in states {
            let _ = writeln!(lines, "{}", state.line()?);
        }
        for policy in policies {
            let _ = writeln!(lines, "{}", policy.line());
        }
        self.batch("configure the kernel's XFRM", &lines)
    }

    /// Runs `ip` commands, one a line. Errors do not quote the lines, which may hold keys.
    fn batch(&mut self, what: &str, lines: &str) -> Result<()> {
        let script = format!("/bin/ip -batch - <<'LINES'\n{lines}LINES\n");
        let output = self.console.ask(what, &script, SCRIPT)?;
        checked(what, output).map(drop)
    }

    /// Runs a shell script and returns what it printed.
    ///
    /// # Errors
    /// If it ends with a non-zero exit code or takes longer than 20 s.
    pub fn run(&mut self, script: &str) -> Result<String> {
        let output = self.output(script, SCRIPT)?;
        checked(script, output)
    }

    /// Runs a shell script for `limit` at most and returns its exit code and what it printed, whatever they are.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn output(&mut self, script: &str, limit: Duration) -> Result<GuestOutput> {
        self.console.ask(&format!("the end of `{script}`"), script, limit)
    }

    /// Starts a shell script in the background.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn start(&mut self, script: &str) -> Result<GuestJob> {
        self.jobs += 1;
        let number = self.jobs;
        self.run(&format!(
            "( ( {script}\n ); echo $? >/run/jobs/{number}.code ) >/run/jobs/{number} 2>&1 </dev/null &"
        ))?;
        Ok(GuestJob { number, script: script.to_owned() })
    }

    /// Starts a shell script in the background and waits until something listens on `port`, TCP or UDP.
    ///
    /// # Errors
    /// If nothing does within 20 s.
    pub fn serve(&mut self, script: &str, port: u16) -> Result<GuestJob> {
        let job = self.start(script)?;
        // Columns of /proc/net/tcp: the second is the local address, the fourth the state, 0A or (UDP) 07 to listen.
        let listens = format!("$2 ~ /:{port:04X}$/ && $4 ~ /0A|07/ {{ found = 1 }} END {{ exit !found }}");
        self.run(&format!(
            "until cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 | awk '{listens}'; do\n\
             sleep 0.02\ndone"
        ))?;
        Ok(job)
    }

    /// Waits for a script in the background and returns what it printed.
    ///
    /// # Errors
    /// If it ends with a non-zero exit code, or not within `limit`.
    pub fn finish(&mut self, job: GuestJob, limit: Duration) -> Result<String> {
        let GuestJob { number, script } = job;
        let wait = format!(
            "until [ -s /run/jobs/{number}.code ]; do sleep 0.02; done\n\
             cat /run/jobs/{number}\nexit $(cat /run/jobs/{number}.code)"
        );
        let output = self.output(&wait, limit)?;
        checked(&script, output)
    }

    /// What the kernel counted so far.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn counters(&mut self) -> Result<Counters> {
        Counters::parse(&self.run(counters::SCRIPT)?)
    }

    /// What the kernel logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn checked(what: &str, GuestOutput { code, text }: GuestOutput) -> Result<String> {
    if code == 0 {
        return Ok(text);
    }
    let detail = format!("exit code {code} in the kernel: {}", text.trim());
    Err(LabError::Command { command: what.to_owned(), detail })
}

/// The kernel as a process. It has helpers, one for each address space of the guest, which outlive it: in a PID
/// namespace of their own they end with it.
fn command(namespace: &Namespace, spec: &KernelPeerSpec, folder: &std::path::Path) -> std::process::Command {
    let KernelPeerSpec { name, mac, .. } = spec;
    let folder = folder.display();
    let mut command = namespace.command("unshare");
    command.args(["--pid", "--fork", "--kill-child=SIGKILL", "--", image::KERNEL]);
    // The serial line on stdin and stdout, the log on stderr, no terminal.
    command.args(["mem=192M", "quiet", "con=null", "con0=null,fd:2", "ssl=null", "ssl0=fd:0,fd:1"]);
    command.args([format!("initrd={folder}/initramfs"), format!("uml_dir={folder}"), format!("umid={name}")]);
    command.arg(format!("vec0:transport=tap,ifname={name},depth=128,mac={mac}"));
    // Its memory is an unlinked file there.
    command.env("TMPDIR", folder.to_string());
    command
}
