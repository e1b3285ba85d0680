//! The stage: three gateways, a client, a server, one tunnel.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use baton_lab::gateway::random;
use baton_lab::topology::{self, A_NETWORK, A_OUTER, B_NETWORK, B_OUTER, Topology};
use baton_lab::{Gateway, GatewaySpec, Lab, LabError, Result, SaSpec, TunnelSpec};
use serde_json::Value;

use crate::report::milliseconds;

/// The tunnel's name.
pub const TUNNEL: &str = "site-a";
/// The SPI that B and B2 receive with; its top octet is the segment.
const SPI_TO_B: u32 = 0x2a00_0001;
/// The SPI that A receives with: the direction of the download.
pub const SPI_TO_A: u32 = 0x1100_0001;
const SEGMENT: &str = "42";
const SUITE: &str = "aes128gcm16";

/// All that is on stage. Fields drop in order: processes before the lab that holds their namespaces.
pub struct Stage {
    /// Gateway A.
    pub a: Gateway,
    /// Gateway B.
    pub b: Gateway,
    /// Gateway B2.
    pub b2: Gateway,
    /// The wires.
    pub topology: Topology,
    /// What removes everything.
    pub lab: Lab,
}

impl Stage {
    /// Lays out the namespaces and configures the gateways; none runs yet.
    pub fn build() -> Result<Self> {
        let lab = Lab::with_plain_names()?;
        let topology = Topology::build(&lab)?;
        let tunnel = tunnel()?;
        let snapshot_key = random(32)?;
        let spec = |name: &str, node, outer, owned: &str, core, tunnel: TunnelSpec| GatewaySpec {
            name: name.into(),
            node,
            outer,
            owned: owned.into(),
            core,
            tunnels: vec![tunnel],
            snapshot_key: snapshot_key.clone(),
        };
        let other_core = usize::from(std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1));
        let a = spec("a", 1, A_OUTER, "\"all\"", 0, tunnel.mirrored());
        let b = spec("b", 2, B_OUTER, "\"all\"", other_core, tunnel.clone());
        let b2 = spec("b2", 3, B_OUTER, "\"none\"", other_core, tunnel.without_keys());
        Ok(Self {
            a: Gateway::new(&lab, &topology.a, a)?,
            b: Gateway::new(&lab, &topology.b, b)?,
            b2: Gateway::new(&lab, &topology.b2, b2)?,
            topology,
            lab,
        })
    }

    /// Starts all three gateways.
    pub fn start(&mut self) -> Result<()> {
        self.b2.start(&self.lab)?;
        self.b.start(&self.lab)?;
        self.a.start(&self.lab)
    }

    /// Kills B2's data plane, starts it again, and returns how long that took.
    pub fn crash_b2(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.b2.kill();
        self.b2.start(&self.lab)?;
        Ok(start.elapsed())
    }

    /// TCP segments that the server has sent again so far.
    pub fn server_retransmissions(&self) -> Result<u64> {
        let snmp = self.topology.server.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
        let snmp = snmp.map_err(LabError::io("read /proc/thread-self/net/snmp"))?;
        let mut rows = snmp.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
        let (names, values) = (rows.next().into_iter().flatten(), rows.next().into_iter().flatten());
        let count = names.zip(values).find(|(name, _)| *name == "RetransSegs");
        count
            .and_then(|(_, value)| value.parse().ok())
            .ok_or_else(|| LabError::Unexpected("the kernel counts no TCP retransmissions".into()))
    }

    /// The server's address for HTTP.
    pub fn http_address() -> std::net::SocketAddr {
        topology::server_port(80)
    }
}

fn tunnel() -> Result<TunnelSpec> {
    Ok(TunnelSpec {
        name: TUNNEL.into(),
        local: B_OUTER,
        remote: A_OUTER,
        local_selectors: vec![B_NETWORK.into()],
        remote_selectors: vec![A_NETWORK.into()],
        suite: SUITE.into(),
        reqid: 7,
        extended_sequence: true,
        replay_window: 1024,
        inbound: Some(SaSpec::random(SPI_TO_B, SUITE)?),
        outbound: Some(SaSpec::random(SPI_TO_A, SUITE)?),
    })
}

/// The inbound SA of the tunnel at a gateway: highest sequence number and packets accepted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inbound {
    /// Highest sequence number authenticated.
    pub sequence: u64,
    /// Packets accepted since the SA was made, wherever it was.
    pub packets: u64,
}

impl Inbound {
    /// Asks `dpctl`.
    pub fn of(gateway: &Gateway) -> Result<Self> {
        let answer = gateway.dpctl_json(&["sa", "show", TUNNEL])?;
        let sa = find(&answer, &|value| value.get("direction").and_then(Value::as_str) == Some("inbound"));
        let number = |key: &str| find(sa?, &|value| value.get(key).is_some())?.get(key)?.as_u64();
        let both = number("sequence").zip(number("packets"));
        both.map(|(sequence, packets)| Self { sequence, packets })
            .ok_or_else(|| LabError::Unexpected(format!("dpctl shows no counters of {TUNNEL}: {answer}")))
    }
}

/// The first object in `value` that is `wanted`, depth first.
fn find<'a>(value: &'a Value, wanted: &dyn Fn(&Value) -> bool) -> Option<&'a Value> {
    if wanted(value) {
        return Some(value);
    }
    let children: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    };
    children.into_iter().find_map(|child| find(child, wanted))
}

/// When the four commands of a move ran and how long they took.
#[derive(Clone, Copy, Debug)]
pub struct Handover {
    /// Start, since the Unix epoch.
    pub start: Duration,
    /// End, since the Unix epoch.
    pub end: Duration,
    /// `dpctl snapshot --move`.
    pub snapshot_ms: f64,
    /// `dpctl restore`.
    pub restore_ms: f64,
}

/// Moves the tunnel and then its segment from `from` to `to`.
///
/// `snapshot --move | restore -` as in a shell: both processes start at once, so that the second is waiting
/// when the first has frozen the SAs. B gives the segment up while B2 still installs the context, and B2
/// takes it last: at no moment do two gateways own it (I4).
pub fn move_tunnel(from: &Gateway, to: &Gateway) -> Result<Handover> {
    let start = now();
    let clock = Instant::now();
    let mut snapshot = from.dpctl_command(&["snapshot", TUNNEL, "--move"]);
    let mut snapshot = snapshot
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(LabError::io("start dpctl snapshot"))?;
    let pipe = snapshot.stdout.take().ok_or_else(|| LabError::Unexpected("no pipe to dpctl".into()))?;
    let mut restore = to.dpctl_command(&["restore", "-"]);
    let mut restore = restore
        .stdin(pipe)
        .stdout(std::process::Stdio::null())
        .spawn()
        .map_err(LabError::io("start dpctl restore"))?;
    let taken = snapshot.wait().map_err(LabError::io("wait for dpctl snapshot"))?;
    let snapshot_ms = milliseconds(clock.elapsed());
    let mut release = from.dpctl_command(&["segment", "drop", SEGMENT]);
    let release = release.stdout(std::process::Stdio::null()).spawn();
    let installed = restore.wait().map_err(LabError::io("wait for dpctl restore"))?;
    let restore_ms = milliseconds(clock.elapsed());
    let released =
        release.and_then(|mut child| child.wait()).map_err(LabError::io("start dpctl segment drop"))?;
    if !(taken.success() && installed.success() && released.success()) {
        return Err(LabError::Unexpected(format!(
            "the move failed: snapshot {taken}, restore {installed}, segment drop {released}"
        )));
    }
    to.dpctl(&["segment", "take", SEGMENT])?;
    Ok(Handover { start, end: now(), snapshot_ms, restore_ms })
}

/// The time since the Unix epoch, as the sniffers stamp packets.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
