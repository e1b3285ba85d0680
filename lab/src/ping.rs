//! Pings that wait for each answer: ping(8), told to send several, gives the last one a moment only.

use std::net::IpAddr;

use crate::command;
use crate::error::Result;
use crate::kernel_peer::KernelPeer;
use crate::namespace::Namespace;

/// Seconds for one answer.
const PATIENCE: &str = "5";

/// Sends `times` echo requests from a namespace, each when the one before is answered. `options` are those of ping(8).
///
/// # Errors
/// If one is not answered within 5 s.
pub fn ping(namespace: &Namespace, options: &[&str], to: IpAddr, times: usize) -> Result<()> {
    for _ in 0..times {
        let mut ping = namespace.command("ping");
        command::run(ping.args(["-n", "-c", "1", "-W", PATIENCE]).args(options).arg(to.to_string()))?;
    }
    Ok(())
}

/// The same from a peer with a kernel of its own, whose ping is that of busybox.
///
/// # Errors
/// If one is not answered within 5 s.
pub fn ping_from_kernel(peer: &mut KernelPeer, options: &str, to: IpAddr, times: usize) -> Result<()> {
    let one = format!("ping -c 1 -W {PATIENCE} {options} {to}");
    peer.run(&vec![one; times].join(" && ")).map(drop)
}
