//! What only the demo does on its stage.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use baton_lab::probe::Prober;
use baton_lab::site::Site;
use baton_lab::{LabError, Namespace, Result, topology};

/// How often the heartbeat beats.
pub const BEAT: Duration = Duration::from_micros(500);
const HEARTBEAT_PORT: u16 = 9;

/// Small datagrams from server to client beside the download.
///
/// TCP falls silent by itself after losses; with a heartbeat, silence on the wire is the gateways'.
pub struct Heartbeat {
    _prober: Prober,
    /// Takes the datagrams without an answer.
    _sink: UdpSocket,
}

impl Heartbeat {
    /// Starts beating.
    pub fn start(server: &Namespace, client: &Namespace) -> Result<Self> {
        let sink = topology::client_port(HEARTBEAT_PORT);
        let socket = client.run(|| UdpSocket::bind(sink))?.map_err(LabError::io("bind"))?;
        let source = topology::server_port(HEARTBEAT_PORT);
        let prober = Prober::start(server, source, sink, b"heartbeat", BEAT)?;
        Ok(Self { _prober: prober, _sink: socket })
    }
}

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
