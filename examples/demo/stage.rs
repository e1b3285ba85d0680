//! What only the demo does on its stage.

use std::time::{Duration, Instant};

use baton_lab::site::Site;
use baton_lab::{LabError, Result};

/// Kills B2's data plane, starts it again, and returns how long that took.
pub fn crash_b2(site: &mut Site) -> Result<Duration> {
    let start = Instant::now();
    site.b2.kill();
    site.b2.start(&site.lab)?;
    Ok(start.elapsed())
}

/// TCP segments that the server has sent again so far.
pub fn server_retransmissions(site: &Site) -> Result<u64> {
    let snmp = site.topology.server.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let snmp = snmp.map_err(LabError::io("read /proc/thread-self/net/snmp"))?;
    let mut rows = snmp.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (rows.next().into_iter().flatten(), rows.next().into_iter().flatten());
    let count = names.zip(values).find(|(name, _)| *name == "RetransSegs");
    count
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| LabError::Unexpected("the kernel counts no TCP retransmissions".into()))
}
