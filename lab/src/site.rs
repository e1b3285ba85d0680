//! The cast that tests and the demo share: gateways A, B and B2, and one tunnel between A and B.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::control::ControlSocket;
use crate::error::{LabError, Result};
use crate::gateway::{Gateway, GatewaySpec, SaSpec, TunnelSpec, random};
use crate::lab::Lab;
use crate::shape::Shape;
use crate::topology::Topology;

/// The tunnel's name at every gateway.
pub const TUNNEL: &str = "site-a";
/// The SPI that B and B2 receive with; its top octet is their segment.
pub const SPI_TO_B: u32 = 0x2a00_0001;
/// The SPI that A receives with.
pub const SPI_TO_A: u32 = 0x1100_0001;
/// The segment of the tunnel at B and B2.
pub const SEGMENT: u8 = 42;

/// Three gateways on their stage. Fields drop in order: processes before the lab that holds their namespaces.
#[derive(Debug)]
pub struct Site {
    /// Gateway A, before the client.
    pub a: Gateway,
    /// Gateway B, before the server; it owns everything at first.
    pub b: Gateway,
    /// Gateway B2, with B's addresses; it owns nothing at first and its tunnel waits for a restore.
    pub b2: Gateway,
    /// How the gateways speak.
    pub shape: Shape,
    /// The wires.
    pub topology: Topology,
    /// What removes everything.
    pub lab: Lab,
}

impl Site {
    /// Lays out the namespaces and configures the gateways; none runs yet.
    ///
    /// # Errors
    /// If the machine refuses.
    pub fn build(lab: Lab) -> Result<Self> {
        Self::build_as(lab, Shape::DEFAULT)
    }

    /// The same for gateways that speak otherwise.
    ///
    /// # Errors
    /// If the machine refuses.
    pub fn build_as(lab: Lab, shape: Shape) -> Result<Self> {
        let topology = Topology::build(&lab)?;
        topology.prepare_for(shape)?;
        let tunnel = tunnel(shape)?;
        let key = random(32)?;
        let last_core = std::thread::available_parallelism().map_or(0, |cores| (cores.get() - 1).min(1));
        let a = spec("a", 1, tunnel.mirrored(), 0, &key);
        let b = spec("b", 2, tunnel.clone(), last_core, &key);
        let b2 =
            GatewaySpec { owned: "\"none\"".into(), ..spec("b2", 3, tunnel.without_keys(), last_core, &key) };
        Ok(Self {
            a: Gateway::new(&lab, &topology.a, a)?,
            b: Gateway::new(&lab, &topology.b, b)?,
            b2: Gateway::new(&lab, &topology.b2, b2)?,
            shape,
            topology,
            lab,
        })
    }

    /// Starts all three gateways.
    ///
    /// # Errors
    /// If one does not come up.
    pub fn start(&mut self) -> Result<()> {
        self.b2.start(&self.lab)?;
        self.b.start(&self.lab)?;
        self.a.start(&self.lab)
    }
}

fn spec(name: &str, node: u8, tunnel: TunnelSpec, core: usize, snapshot_key: &[u8]) -> GatewaySpec {
    GatewaySpec {
        name: name.into(),
        node,
        outer: tunnel.local,
        outer_io: "auto",
        inner: "lan0",
        owned: "\"all\"".into(),
        core,
        tunnels: vec![tunnel],
        snapshot_key: snapshot_key.to_owned(),
        ike: String::new(),
    }
}

/// The tunnel as B has it, with fresh keys.
fn tunnel(shape: Shape) -> Result<TunnelSpec> {
    let ([a, b], [a_network, b_network]) = (shape.ends(), shape.networks());
    let suite = shape.suite.to_string();
    Ok(TunnelSpec {
        name: TUNNEL.into(),
        local: b,
        remote: a,
        transport: shape.transport,
        in_udp: shape.in_udp,
        local_selectors: vec![b_network],
        remote_selectors: vec![a_network],
        reqid: 7,
        extended_sequence: shape.extended_sequence,
        replay_window: 1024,
        segment: SEGMENT,
        inbound: Some(SaSpec::random(SPI_TO_B, &suite)?),
        outbound: Some(SaSpec::random(SPI_TO_A, &suite)?),
        suite,
    })
}

/// How far an SA has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Outbound: last sequence number used. Inbound: highest one authenticated.
    pub sequence: u64,
    /// Packets sent or accepted since the SA was made, wherever it was.
    pub packets: u64,
}

impl Progress {
    /// Asks `dpctl` about the SA of [`TUNNEL`] in `direction` (`inbound` or `outbound`).
    ///
    /// # Errors
    /// If the gateway has no such SA.
    pub fn of(gateway: &Gateway, direction: &str) -> Result<Self> {
        Self::of_named(gateway, TUNNEL, direction)
    }

    /// Asks `dpctl` about the SA of a tunnel in `direction`.
    ///
    /// # Errors
    /// If the gateway has no such SA.
    pub fn of_named(gateway: &Gateway, tunnel: &str, direction: &str) -> Result<Self> {
        let answer = gateway.dpctl_json(&["sa", "show", tunnel])?;
        let is_wanted = |value: &Value| value.get("direction").and_then(Value::as_str) == Some(direction);
        let sa = find(&answer, &is_wanted);
        let number = |key: &str| find(sa?, &|value| value.get(key).is_some())?.get(key)?.as_u64();
        let both = number("sequence").zip(number("packets"));
        both.map(|(sequence, packets)| Self { sequence, packets })
            .ok_or_else(|| LabError::Unexpected(format!("dpctl shows no counters of {tunnel}: {answer}")))
    }
}

/// The first object in `value` that is `wanted`, depth first.
pub fn find<'a>(value: &'a Value, wanted: &dyn Fn(&Value) -> bool) -> Option<&'a Value> {
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

/// When a move ran and how long its parts took.
#[derive(Clone, Copy, Debug)]
pub struct Handover {
    /// Start of the first command, since the Unix epoch.
    pub start: Duration,
    /// When the new owner had the segment, since the Unix epoch.
    pub end: Duration,
    /// GET as `dpctl snapshot` says: open the table, freeze, read, seal, write.
    pub get: Duration,
    /// PUT as `dpctl restore` says: check and install.
    pub put: Duration,
    /// `dpctl snapshot --move`, from its start.
    pub snapshot: Duration,
    /// `dpctl restore`, from its start, its wait for the snapshot included.
    pub restore: Duration,
}

/// Moves [`TUNNEL`] and then its segment from `from` to `to`, as [`move_named`] does.
///
/// # Errors
/// As there.
pub fn move_tunnel(from: &Gateway, to: &Gateway) -> Result<Handover> {
    move_named(from, to, TUNNEL, SEGMENT)
}

/// Moves a tunnel and then its segment from `from` to `to`.
///
/// `snapshot --move | restore -` as in a shell: both processes start at once, so that the second is waiting
/// when the first has frozen the SAs. Then the segment, over connections that are open already, because a
/// process takes milliseconds to start: the old owner gives it up while the new one still installs the context,
/// and the new one takes it last. At no moment do two gateways own it (I4). The old owner's IKE daemon, if one runs,
/// keeps the tunnel frozen until that is done, and forgets it then.
///
/// # Errors
/// If a part fails; the tunnel then goes on where it was.
pub fn move_named(from: &Gateway, to: &Gateway, tunnel: &str, segment: u8) -> Result<Handover> {
    let mut sockets = (ControlSocket::connect(from)?, ControlSocket::connect(to)?);
    let start = now();
    let clock = Instant::now();
    let mut snapshot = from.dpctl_command(&["--json", "snapshot", tunnel, "--move"]);
    let mut snapshot = spawn(snapshot.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let pipe = snapshot.stdout.take().ok_or_else(|| LabError::Unexpected("no pipe to dpctl".into()))?;
    let mut restore = to.dpctl_command(&["--json", "restore", "-"]);
    let mut restore = spawn(restore.stdin(pipe).stdout(Stdio::piped()))?;
    let taken = wait(&mut snapshot)?;
    let snapshot_took = clock.elapsed();
    if !taken.success() {
        let _ = wait(&mut restore);
        return Err(LabError::Unexpected(format!("dpctl snapshot failed: {taken}")));
    }
    let released = sockets.0.ask(json!({"request": "segment-drop", "segments": [segment]}));
    let installed = wait(&mut restore)?;
    let restore_took = clock.elapsed();
    if !installed.success() {
        return Err(taken_back(from, tunnel, segment, &format!("dpctl restore failed: {installed}")));
    }
    released?;
    sockets.1.ask(json!({"request": "segment-take", "segments": [segment]}))?;
    let end = now();
    if from.runs_ike() {
        // Until it is known to be there, the IKE daemon here holds it, frozen.
        from.dpctl(&["ike", "release", tunnel])?;
    }
    let (get, put) = (took(snapshot.stderr)?, took(restore.stdout)?);
    Ok(Handover { start, end, get, put, snapshot: snapshot_took, restore: restore_took })
}

/// Nothing was installed elsewhere: the old owner goes on.
fn taken_back(from: &Gateway, tunnel: &str, segment: u8, failure: &str) -> LabError {
    let segment = segment.to_string();
    let back = from.dpctl(&["segment", "take", &segment]).and_then(|_| from.dpctl(&["sa", "thaw", tunnel]));
    let then = back.map_or_else(|error| error.to_string(), |_| "the tunnel goes on where it was".into());
    LabError::Unexpected(format!("{failure}; {then}"))
}

/// The `took_us` that a `dpctl --json` command reported.
fn took(report: Option<impl Read>) -> Result<Duration> {
    let report: Option<Value> = report.and_then(|pipe| serde_json::from_reader(pipe).ok());
    let microseconds = report.as_ref().and_then(|report| report.get("took_us")?.as_u64());
    microseconds
        .map(Duration::from_micros)
        .ok_or_else(|| LabError::Unexpected(format!("dpctl did not say how long it took: {report:?}")))
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(LabError::io("start dpctl"))
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    child.wait().map_err(LabError::io("wait for dpctl"))
}

/// The time since the Unix epoch, as sniffers stamp packets.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
