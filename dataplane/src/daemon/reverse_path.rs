//! Reverse path filtering, which takes a peer whose own address is protected for spoofed: where it would send an answer is
//! prohibited, but for what is marked, which the filter does not know about. Then the kernel drops the peer's IKE messages.

use std::fs;
use std::net::IpAddr;

use crate::config::Config;
use crate::prefix::Prefix;

/// The sentence for the operator, if peers' messages are dropped.
pub(super) fn alarm(config: &Config, protected: &[Prefix]) -> Option<String> {
    let reached = protected.iter().find(|network| holds_peer(config, network))?;
    let interface = &config.outer.interface;
    // The stricter of both counts (Documentation/networking/ip-sysctl.rst).
    let setting = setting("all").max(setting(interface));
    (setting > 0).then(|| {
        format!(
            "the kernel drops what peers within {reached} send to it, IKE for one, as they are within what is protected: \
             set net.ipv4.conf.{interface}.rp_filter and net.ipv4.conf.all.rp_filter to 0"
        )
    })
}

/// Whether a peer is known to be in it. IPv6 has no such filter in the kernel.
fn holds_peer(config: &Config, network: &Prefix) -> bool {
    let is_peer = |remote: IpAddr| network.contains(remote);
    network.address().is_ipv4()
        && (network.length() == 0 || config.tunnels.iter().any(|tunnel| is_peer(tunnel.remote)))
}

/// What cannot be read filters nothing.
fn setting(interface: &str) -> u8 {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
